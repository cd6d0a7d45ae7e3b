package queue

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// Entry is a message as a scan sees it.
type Entry struct {
	ID      ID
	Next    time.Time // when the next attempt is due
	Size    int64     // of the file
	Writing bool      // not accepted yet: its writer may be alive, or a crash left it; see Recover
}

// scanBatch names are held in memory at a time.
const scanBatch = 512

// Scan calls f for each entry of active, shard by shard, without an order within
// one. What comes or goes meanwhile may be seen or not. Foreign files go to
// corrupt, messages in the wrong directory to their own; the first whole scan of
// the queue's owner also removes logs whose message is gone. It goes on after an
// error and returns the first; f returning false stops it.
func (q *Queue) Scan(f func(Entry) bool) error {
	first := q.layout() // someone may have removed a directory
	note := func(err error) {
		if first == nil && err != nil {
			first = fmt.Errorf("queue: scan: %w", err)
		}
	}
	note(q.list("active", func(dir *unix.Stat_t, name string) bool {
		if len(name) != 1 || shardIndex(name[0]) < 0 {
			q.entry("active", name, dir) // no message lives here
		}
		return true
	}))
	var l linked
	for i := range q.shards {
		shard := "active/" + digits[i:i+1]
		more := true
		err := q.list(shard, func(dir *unix.Stat_t, name string) bool {
			if l.postpone(q, shard, name, dir) {
				return true
			}
			if e, ok := q.entry(shard, name, dir); ok {
				more = f(e)
			}
			return more
		})
		note(err)
		if !more {
			return first
		}
	}
	if !l.settle(q, f) {
		return first
	}
	note(q.sweep())
	return first
}

// sweep removes, once, the logs without a message that a crash has left, and notes of full mailboxes that are old.
// Only the owner of the queue may: nobody else removes messages.
func (q *Queue) sweep() error {
	q.mu.Lock()
	now := q.lock != nil && !q.swept
	q.swept = q.swept || now
	q.mu.Unlock()
	if !now {
		return nil
	}
	if err := q.dropFull(time.Now()); err != nil {
		return err
	}
	return q.list("log", func(_ *unix.Stat_t, name string) bool {
		if validID(name) && q.nowhere(ID(name)) {
			q.removeLog(ID(name)) // and if it cannot be removed, it does no harm
		}
		return true
	})
}

// nowhere tells that there is no message id. One that somebody moves meanwhile is
// looked for where it was and where it goes.
func (q *Queue) nowhere(id ID) bool {
	var st unix.Stat_t
	active := id.path()
	for _, p := range []string{active, "hold/" + string(id), "corrupt/" + string(id), active, "hold/" + string(id)} {
		if err := q.lstat(p, &st); !errors.Is(err, ErrNotExist) {
			return false
		}
	}
	return true
}

// list calls f for each name in a directory of the queue, until it returns false.
func (q *Queue) list(name string, f func(dir *unix.Stat_t, name string) bool) error {
	d, err := durable.OpenDirAt(q.dir, name)
	if err != nil {
		return err
	}
	defer d.Close()
	var st unix.Stat_t
	if err := fstat(d, &st); err != nil {
		return err
	}
	for {
		names, err := d.Readdirnames(scanBatch)
		for _, n := range names {
			if !f(&st, n) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, unix.EBADF) {
			// What may not be listed was opened to be passed through: durable.OpenDir.
			return &os.PathError{Op: "list", Path: q.path + "/" + name, Err: unix.EACCES}
		}
		if err != nil {
			return err
		}
	}
}

// entry looks at one name. Foreign files it moves away.
func (q *Queue) entry(parent, name string, dir *unix.Stat_t) (Entry, bool) {
	path := parent + "/" + name
	var st unix.Stat_t
	if err := q.lstat(path, &st); err != nil {
		if !errors.Is(err, ErrNotExist) {
			q.tell(path, err.Error())
		}
		return Entry{}, false
	}
	if what := foreign(name, &st, dir); what != "" {
		if !strings.HasPrefix(name, ".nfs") { // a removed file that somebody has open
			q.setAside(path, what)
		}
		return Entry{}, false
	}
	id := ID(name)
	if id.path() != path && !q.bringHome(path, id) {
		return Entry{}, false
	}
	return Entry{ID: id, Next: q.next(id, &st), Size: st.Size, Writing: st.Mode&writingBit != 0}, true
}

// foreign says what is wrong with a file of that state in a directory of
// messages, or "".
func foreign(name string, st, dir *unix.Stat_t) string {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "not an ordinary file"
	case !validID(name):
		return "its name is not a message id"
	case st.Nlink > 1:
		return "it has another name somewhere"
	case dir.Mode&unix.S_ISGID != 0 && st.Gid != dir.Gid:
		return fmt.Sprintf("its group is %d, not %d", st.Gid, dir.Gid)
	case st.Mode&writingBit == 0 && st.Mode&0o7777 != liveMode:
		return fmt.Sprintf("its mode is %04o, not %04o", st.Mode&0o7777, liveMode)
	}
	return ""
}

// bringHome moves a message that somebody put into the wrong directory of active.
func (q *Queue) bringHome(path string, id ID) bool {
	var st unix.Stat_t
	if q.lstat(id.path(), &st) == nil {
		q.setAside(path, "its place is taken")
		return false
	}
	if err := q.move(path, id.path()); err != nil {
		q.tell(path, err.Error())
		return false
	}
	return true
}

// move renames within the queue and syncs both directories. The caller has made
// sure that nothing is replaced: ids are never reused. (A link would be safer and
// show the file with two names meanwhile.)
func (q *Queue) move(from, to string) error {
	if err := q.ops.Rename(q.dir, from, q.dir, to); err != nil {
		return err
	}
	err := q.syncDir(dirOf(to))
	if err2 := q.syncDir(dirOf(from)); err == nil {
		err = err2
	}
	return err
}

func dirOf(path string) string { return path[:strings.LastIndexByte(path, '/')] }

// setAside moves a file to corrupt and returns its name there, or "" when it
// could not be moved, which is told once.
func (q *Queue) setAside(path, what string) string {
	base := path[len(dirOf(path))+1:]
	to := "corrupt/" + base
	var st unix.Stat_t
	if len(base) > 200 || q.lstat(to, &st) == nil {
		to = fmt.Sprintf("corrupt/%.200s.%s", base, strconv.FormatUint(rand.Uint64(), 32))
	}
	err := q.ops.Rename(q.dir, path, q.dir, to)
	switch {
	case errors.Is(err, ErrNotExist):
		return "" // somebody else did
	case err != nil:
		q.tell(path, what+", and it cannot be moved to corrupt: "+err.Error())
		return ""
	}
	// Not worth an error: a crash at worst brings the file back, to be moved again.
	q.syncDir("corrupt")
	q.syncDir(dirOf(path))
	if q.opt.Foreign != nil {
		q.opt.Foreign(to, what)
	}
	return to
}

// tell reports a file that cannot be dealt with, once, as long as there are not
// too many of them.
func (q *Queue) tell(path, what string) {
	const many = 1000
	q.mu.Lock()
	known := q.told[path] || len(q.told) >= many
	if !known {
		if q.told == nil {
			q.told = make(map[string]bool)
		}
		q.told[path] = true
	}
	q.mu.Unlock()
	if !known && q.opt.Foreign != nil {
		q.opt.Foreign(path, what)
	}
}

// Hold moves a message to hold, where no attempt is made. An attempt that is
// under way goes on, and marks what it does in the held file.
func (q *Queue) Hold(id ID) error {
	return q.moveMessage("hold", id, true)
}

// Release puts a held message back, to be attempted. Then wake queued.
func (q *Queue) Release(id ID) error {
	return q.moveMessage("release", id, false)
}

func (q *Queue) moveMessage(op string, id ID, hold bool) error {
	err := func() error {
		if !validID(string(id)) {
			return ErrNotExist
		}
		from, to := id.path(), "hold/"+string(id)
		if !hold {
			from, to = to, from
		}
		var st unix.Stat_t
		if err := q.lstat(from, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return &os.PathError{Op: op, Path: q.path + "/" + from, Err: errors.New("not an ordinary file")}
		}
		if st.Mode&writingBit != 0 {
			return ErrBusy
		}
		if q.lstat(to, &st) == nil {
			return &os.PathError{Op: op, Path: q.path + "/" + to, Err: ErrExists}
		}
		return q.move(from, to)
	}()
	if err != nil {
		return fmt.Errorf("queue: %s %.40s: %w", op, id, err)
	}
	return nil
}
