package queue

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Recover decides about one message whose Entry says Writing. ErrBusy: its
// writer lives. Otherwise it was left by a crash: either adopted, when it is
// whole, since its sender may have been told 250; or removed, when its writing
// was not finished, so that nobody has been told; or, with a *DamagedError, moved
// to corrupt. It returns true for a message that has been accepted already.
func (q *Queue) Recover(id ID) (adopted bool, err error) {
	adopted, err = q.recover(id)
	var d *DamagedError
	if err != nil && !errors.As(err, &d) {
		err = fmt.Errorf("queue: recover %s: %w", id, err)
	}
	return adopted, err
}

func (q *Queue) recover(id ID) (bool, error) {
	if !validID(string(id)) {
		return false, ErrNotExist
	}
	name := id.path()
	f, st, err := q.openRegular(name, id)
	if err != nil {
		return false, q.aside(name, err)
	}
	if st.Mode&writingBit == 0 {
		f.Close()
		return true, nil
	}
	err = flock(f)
	if err == nil {
		err = fstat(f, &st) // the writer may have come to its end before our lock
	}
	switch {
	case err == unix.EWOULDBLOCK:
		f.Close()
		return false, ErrBusy
	case err != nil:
		f.Close()
		return false, err
	case st.Nlink == 0:
		f.Close()
		return false, ErrNotExist
	case st.Mode&writingBit == 0:
		f.Close()
		return true, nil
	}
	// The lock goes with the last descriptor, so a second one keeps it while the
	// check closes the first.
	locked, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	runtime.KeepAlive(f)
	if err != nil {
		f.Close()
		return false, err
	}
	defer unix.Close(locked)

	m, err := q.verify(f, &st, id)
	if err == nil {
		defer m.Close()
		return true, q.adopt(m)
	}
	var d *DamagedError
	if errors.As(err, &d) && d.unfinished {
		if err := q.ops.Unlink(q.dir, name); err != nil && !errors.Is(err, ErrNotExist) {
			return false, err
		}
		return false, nil
	}
	return false, q.aside(name, err)
}

// adopt finishes what the writer did not come to. The sync may have been among
// it: the writer, too, could have been killed before.
func (q *Queue) adopt(m *Message) error {
	if err := q.ops.Sync(m.f); err != nil {
		return err
	}
	if q.strict {
		if err := q.syncShard(m.Envelope.ID.shard()); err != nil {
			return err
		}
	}
	err := q.ops.Chmod(m.f, liveMode)
	if errors.Is(err, unix.EPERM) {
		err = nil // another's file: it stays 0760, and is checked once more at the next start
	}
	return err
}

// aside moves the file away if err says that it is damaged, and returns err.
func (q *Queue) aside(name string, err error) error {
	var d *DamagedError
	if errors.As(err, &d) {
		d.Moved = q.setAside(name, d.What)
	}
	return err
}
