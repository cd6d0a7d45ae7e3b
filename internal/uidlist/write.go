package uidlist

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/dotlock"
	"postamt/internal/durable"
)

// Tx is a list that is locked. No message may get a UID, and no keyword a
// letter, but in one. It ends with Unlock.
type Tx struct {
	l    *List
	lock *dotlock.Lock
	read bool // the list was read to its end under this lock
}

// Lock waits for the lock of the folder's files, until ctx ends or for two
// minutes: then a dead owner's lock would have been broken.
func (l *List) Lock(ctx context.Context) (*Tx, error) {
	lock, err := dotlock.Acquire(ctx, l.dir, listFile, dotlock.Options{Stale: lockStale, Timeout: lockTimeout, Ops: l.ops})
	if err != nil {
		return nil, fmt.Errorf("uidlist: %w", err)
	}
	return &Tx{l: l, lock: lock}, nil
}

// Unlock ends a Tx. What was written stays, also when it returns an error.
func (t *Tx) Unlock() error { return t.lock.Unlock() }

// Touch keeps the lock alive in the eyes of other hosts, for who holds it for
// more than a minute.
func (t *Tx) Touch() error { return t.lock.Touch() }

// Read is List.Read, and what Append and Rewrite ask for. A list that is
// missing or damaged must be made or repaired, and then read.
func (t *Tx) Read(f func(Entry) error) (Change, error) {
	change, err := t.l.Read(f)
	t.read = err == nil && change != Missing
	return change, err
}

var errNotRead = errors.New("the list was not read under this lock")

// Append gives each of the entries, of which Keys may and Name must be set, the
// next UID. They are on disk when it returns nil. After an error they have no
// UID; a later Read shows whether they have got one all the same.
func (t *Tx) Append(entries []Entry) error {
	l := t.l
	if !t.read {
		return l.errorf("append: %w", errNotRead)
	}
	if len(entries) == 0 {
		return nil
	}
	for _, e := range entries {
		if err := checkName(e.Name); err != nil {
			return err
		}
	}
	if uint64(l.hdr.Next)+uint64(len(entries))-1 > uint64(MaxUID) {
		return l.errorf("append: %w", ErrExhausted)
	}
	for i := range entries {
		entries[i].UID = l.hdr.Next + UID(i)
	}
	var err error
	if l.suspect || l.hdr.Version != 3 || l.pos.offset != l.pos.size {
		// Half a line at the end: the next one would continue it.
		err = t.rewrite(nil, entries)
	} else {
		err = t.append(entries)
	}
	if err != nil {
		for i := range entries {
			entries[i].UID = 0
		}
	}
	return err
}

// append writes the lines in one call, so that a reader without the lock is
// unlikely to see a part.
func (t *Tx) append(entries []Entry) (err error) {
	l := t.l
	defer func() {
		if err != nil {
			t.read, l.pos, l.suspect = false, position{}, true
			err = l.errorf("append: %w", err)
		}
	}()
	var b []byte
	last := 0
	for _, e := range entries {
		last = len(b)
		b = e.append(b)
	}
	fd, err := unix.Openat(int(l.dir.Fd()), listFile, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), l.dir.Name()+"/"+listFile)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Ino != l.pos.ino || st.Size != l.pos.size) {
		err = dotlock.ErrLost // who else would have written?
	}
	if err == nil {
		err = t.lock.Held()
	}
	if err == nil {
		err = l.ops.Write(f, b)
	}
	if err == nil {
		err = l.ops.Datasync(f)
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil && st.Size != l.pos.size+int64(len(b)) {
		err = dotlock.ErrLost
	}
	if cerr := l.ops.Close(f); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	l.pos.lastAt, l.pos.last = l.pos.offset+int64(last), entries[len(entries)-1].UID
	l.pos.entries += len(entries)
	l.pos.offset, l.pos.size, l.pos.mtime = st.Size, st.Size, st.Mtim
	l.hdr.Next = l.pos.last + 1
	l.pos.next = l.hdr.Next
	return nil
}

// Rewrite puts a new list in the place of the old one, with the entries that
// edit keeps, and with the keys that it gives them. Their UIDs and names stay. It is for dropping the lines of
// messages that are gone, and for changing keys.
func (t *Tx) Rewrite(edit func(*Entry) (keep bool)) error {
	if !t.read {
		return t.l.errorf("rewrite: %w", errNotRead)
	}
	return t.rewrite(edit, nil)
}

// rewrite copies the list through edit, nil: as it is, and adds entries.
func (t *Tx) rewrite(edit func(*Entry) bool, add []Entry) error {
	l := t.l
	hdr := l.hdr
	if len(add) > 0 {
		hdr.Next = add[len(add)-1].UID + 1
	}
	return t.replaceList(hdr, func(emit func(Entry) error) error {
		old, _, err := open(l.dir, listFile)
		if err != nil {
			return err
		}
		if old == nil {
			return unix.ENOENT
		}
		defer old.Close()
		s := scanner{r: bufio.NewReaderSize(old, maxLine)}
		if line, _, err := s.line(); err != nil || line != l.pos.header {
			return dotlock.ErrLost
		}
		for s.at < l.pos.offset {
			line, _, err := s.line()
			if err != nil {
				return err
			}
			e, ok := parseEntry(line, l.hdr.Version)
			if !ok {
				return s.damaged("entry")
			}
			uid, name := e.UID, e.Name
			if edit != nil && !edit(&e) {
				continue
			}
			e.UID, e.Name = uid, name
			if err := emit(e); err != nil {
				return err
			}
		}
		for _, e := range add {
			if err := emit(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// replaceList writes a list of hdr and what each emits, and puts it in the
// place of the old one.
func (t *Tx) replaceList(hdr Header, each func(emit func(Entry) error) error) error {
	l := t.l
	if hdr.GUID == "" {
		var id [16]byte
		rand.Read(id[:])
		hdr.GUID = hex.EncodeToString(id[:])
	}
	hdr.Version = 3
	pos := position{header: hdr.String(), next: hdr.Next}
	st, err := t.replace(listFile, 0, func(w *bufio.Writer) error {
		w.WriteString(pos.header)
		w.WriteByte('\n')
		pos.offset = int64(len(pos.header)) + 1
		var line []byte
		return each(func(e Entry) error {
			line = e.append(line[:0])
			pos.lastAt, pos.last = pos.offset, e.UID
			pos.offset += int64(len(line))
			pos.entries++
			_, err := w.Write(line)
			return err
		})
	})
	if err != nil {
		t.read, l.pos = false, position{}
		return l.errorf("rewrite: %w", err)
	}
	pos.ino, pos.size, pos.mtime = st.Ino, st.Size, st.Mtim
	l.pos, l.hdr, l.suspect = pos, hdr, false
	t.read = true
	return nil
}

// opsWriter writes through an Ops.
type opsWriter struct {
	ops *durable.Ops
	f   *os.File
}

func (w opsWriter) Write(p []byte) (int, error) {
	if err := w.ops.Write(w.f, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// replace writes a file of the folder anew, beside it in tmp/, where a crash
// leaves it to the sweeper. Its mtime is above second, which Dovecot, who
// compares seconds, needs to see that dovecot-keywords is another one.
func (t *Tx) replace(name string, second int64, text func(*bufio.Writer) error) (st unix.Stat_t, err error) {
	l := t.l
	tmp, _, err := l.ops.OpenOrMake(l.dir, "tmp") // other programs think nothing of removing it
	if err != nil {
		return st, err
	}
	defer tmp.Close()
	temp := name + "." + strconv.FormatUint(mrand.Uint64(), 36)
	f, err := l.ops.Create(tmp, temp, 0o600)
	if err != nil {
		return st, err
	}
	w := bufio.NewWriterSize(opsWriter{l.ops, f}, 64<<10)
	if err = text(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = l.ops.Adopt(f, l.dir)
	}
	if now := time.Now(); err == nil && second >= now.Unix() {
		then := unix.NsecToTimespec((second + 1) * 1e9)
		err = unix.UtimesNanoAt(int(tmp.Fd()), temp, []unix.Timespec{then, then}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = l.ops.Sync(f)
	}
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if cerr := l.ops.Close(f); err == nil {
		err = cerr
	}
	if err == nil {
		err = t.lock.Held()
	}
	if err == nil {
		err = l.ops.Rename(tmp, temp, l.dir, name)
	}
	if err != nil {
		l.ops.Unlink(tmp, temp)
		return st, err
	}
	return st, l.ops.SyncDir(l.dir)
}

// Create makes the list of a folder that has none: from Courier's files if they
// are there, else an empty one. Read it then.
func (t *Tx) Create() error {
	l := t.l
	f, _, err := open(l.dir, listFile)
	if f != nil {
		f.Close()
		err = os.ErrExist
	}
	if err != nil {
		return l.errorf("create: %w", err)
	}
	l.hdr = Header{}
	done, err := t.importCourier()
	if err != nil {
		return l.errorf("import Courier's list: %w", err)
	}
	if !done {
		return t.Begin()
	}
	// What was written was not passed to anybody.
	l.pos, t.read = position{}, false
	return nil
}

// Begin puts an empty list with a new validity, above the present one, in the
// place of whatever there is. Every client then loads the folder anew.
func (t *Tx) Begin() error {
	l := t.l
	validity, err := NextValidity(l.root, l.hdr.Validity, l.ops)
	if err != nil {
		return err
	}
	hdr := Header{Validity: validity, Next: 1, GUID: l.hdr.GUID, Rest: l.hdr.Rest}
	err = t.replaceList(hdr, func(func(Entry) error) error { return nil })
	if err == nil {
		l.pos, t.read = position{}, false
	}
	return err
}
