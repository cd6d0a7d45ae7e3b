package queue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What people do to single messages, besides Hold and Release. Each may be done at any moment, also while queued attempts the message.

// places are where a message can be, the first once more: one that somebody moves meanwhile is looked for where it was and where it goes.
func (id ID) places() [4]string {
	return [4]string{id.path(), "hold/" + string(id), "corrupt/" + string(id), id.path()}
}

// find is the first place of a message.
func (q *Queue) find(id ID) (name string, st unix.Stat_t, err error) {
	if !validID(string(id)) {
		return "", st, ErrNotExist
	}
	for _, name := range id.places() {
		if err = q.lstat(name, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = &os.PathError{Op: "look at", Path: q.path + "/" + name, Err: errors.New("not an ordinary file")}
		}
		if !errors.Is(err, ErrNotExist) {
			return name, st, err
		}
	}
	return "", st, ErrNotExist
}

// Look reads the envelope of one message wherever it is, as List does; ErrNotExist.
func (q *Queue) Look(id ID) (Listed, error) {
	s := q.getScratch()
	defer q.putScratch(s)
	name, _, err := q.find(id)
	if err == nil {
		if l, ok := q.listed(s, name, id); ok {
			l.Held, l.Corrupt = dirOf(name) == "hold", dirOf(name) == "corrupt"
			return l, nil
		}
		err = ErrNotExist
	}
	return Listed{}, fmt.Errorf("queue: look at %.40s: %w", id, err)
}

// Copy writes the message proper, byte for byte, wherever it is. Its sum is not checked: people may want to see what is damaged.
func (q *Queue) Copy(w io.Writer, id ID) error {
	err := q.copy(w, id)
	if err != nil {
		return fmt.Errorf("queue: read %.40s: %w", id, err)
	}
	return nil
}

func (q *Queue) copy(w io.Writer, id ID) error {
	name, _, err := q.find(id)
	if err != nil {
		return err
	}
	f, err := q.open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := fstat(f, &st); err != nil {
		return err
	}
	if st.Mode&writingBit != 0 {
		return ErrBusy
	}
	s := q.getScratch()
	defer q.putScratch(s)
	p, err := readEnvelope(s, int(f.Fd()), st.Size)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(f, int64(p.end), st.Size-int64(p.end)))
	return err
}

// Delete removes a message wherever it is, and its log. An attempt that is under way ends, and finds at its end that the message
// is gone. It survives a power cut after SyncRemovals.
func (q *Queue) Delete(id ID) error {
	err := q.delete(id)
	if err != nil {
		return fmt.Errorf("queue: delete %.40s: %w", id, err)
	}
	return nil
}

func (q *Queue) delete(id ID) error {
	for range 3 { // moved between the look and the deed
		name, st, err := q.find(id)
		if err != nil {
			return err
		}
		if st.Mode&writingBit != 0 && name == id.path() {
			return ErrBusy
		}
		err = q.ops.Unlink(q.dir, name)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if name == id.path() {
			q.shards[id.shard()].dirty.Store(true)
		} else {
			q.asideDirty.Store(true)
		}
		// After the message: an attempt that ends now either sees that it is gone and removes the log, or has written its last line before.
		if err := q.removeLog(id); err != nil {
			return err
		}
		return q.Forget(id)
	}
	return ErrNotExist
}

// Due makes a message of active due now. Then wake queued.
func (q *Queue) Due(id ID, now time.Time) error {
	err := q.due(id, now)
	if err != nil {
		return fmt.Errorf("queue: make %.40s due: %w", id, err)
	}
	return nil
}

func (q *Queue) due(id ID, now time.Time) error {
	if !validID(string(id)) {
		return ErrNotExist
	}
	var st, log unix.Stat_t
	err := q.lstat(id.path(), &st)
	if err == nil && mtime(&st).After(now) {
		err = q.setTime(id.path(), now)
	}
	// Of both times the later one counts: see the package comment.
	if name := "log/" + string(id); err == nil && st.Uid != q.uid && q.lstat(name, &log) == nil && mtime(&log).After(now) {
		err = q.setTime(name, now)
	}
	return err
}

// Requeue has a message treated as if it had just arrived: in active, due, its attempts counted from now. One in corrupt is taken if it is whole.
// What is marked stays marked: that is fact. Then wake queued.
func (q *Queue) Requeue(id ID, now time.Time) error {
	err := q.requeue(id, now)
	if err != nil {
		return fmt.Errorf("queue: requeue %.40s: %w", id, err)
	}
	return nil
}

func (q *Queue) requeue(id ID, now time.Time) error {
	name, st, err := q.find(id)
	switch {
	case err != nil:
		return err
	case dirOf(name) == "corrupt":
		if err := q.mend(name, id); err != nil {
			return err
		}
	case st.Mode&writingBit != 0:
		return ErrBusy
	}
	// Before it is where it can be attempted. The last summary is all that is read of the past.
	if err := q.appendLog(id, []Note{{Time: now, Event: EventAttempt, Text: "0 0s"}}); err != nil {
		return err
	}
	if name != id.path() {
		var st unix.Stat_t
		if q.lstat(id.path(), &st) == nil {
			return &os.PathError{Op: "requeue", Path: q.path + "/" + id.path(), Err: ErrExists}
		}
		if err := q.move(name, id.path()); err != nil {
			return err
		}
	}
	return q.due(id, now)
}

// mend makes of a whole message in corrupt a file as they are in active.
func (q *Queue) mend(name string, id ID) error {
	m, st, err := q.readAny(name, id)
	if err != nil {
		return err
	}
	defer m.Close()
	if st.Gid != q.gid {
		if err := m.f.Chown(-1, int(q.gid)); err != nil {
			return err
		}
	}
	if st.Mode&0o7777 != liveMode {
		return q.ops.Chmod(m.f, liveMode)
	}
	return nil
}

// own gives a file that root has just made to the owner of the queue, who must be able to change it.
func (q *Queue) own(f *os.File, st *unix.Stat_t) error {
	if st.Uid != 0 || q.uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(q.uid), int(q.gid))
}

// owner is to whom a new file is given.
func (q *Queue) owner() (uid, gid int) {
	if os.Geteuid() != 0 {
		return -1, -1
	}
	return int(q.uid), int(q.gid)
}
