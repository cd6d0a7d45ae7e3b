package queue

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Writer is a message on its way into the queue: any number of Writes, then
// Commit or Abort. It is for one goroutine.
type Writer struct {
	q       *Queue
	id      ID
	derived bool
	s       *scratch // nil after Commit and Abort
	f       *os.File // nil while all of it is in memory
	size    int64    // of the message proper
	err     error    // of an earlier Write
}

// Create begins a message. Nothing is on disk before more than 64 KiB have been
// written or Commit is called. e is not kept. For an id that Derive made (Origin
// is not ID) a complete message with that id is ErrExists, from Create, Write or
// Commit: what was to be done has been done, durably.
func (q *Queue) Create(e *Envelope) (*Writer, error) {
	s := q.getScratch()
	var err error
	if s.buf, err = s.header.append(s.buf, e); err != nil {
		q.putScratch(s)
		return nil, fmt.Errorf("queue: create: %w", err)
	}
	w := &Writer{q: q, id: e.ID, s: s, derived: e.Origin != "" && e.Origin != e.ID}
	if w.derived {
		var st unix.Stat_t
		if q.lstat("hold/"+string(w.id), &st) == nil {
			w.Abort()
			return nil, fmt.Errorf("queue: create %s: it is in hold: %w", e.ID, ErrExists)
		}
	}
	return w, nil
}

// Write appends p to the message, byte for byte.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.s == nil {
		return 0, w.fail("write", errDone)
	}
	if w.f == nil {
		if w.size+int64(len(p)) <= small {
			w.s.buf = append(w.s.buf, p...)
			w.size += int64(len(p))
			return len(p), nil
		}
		if err := w.begin(); err != nil {
			return 0, w.fail("write", err)
		}
	}
	n := len(p)
	for len(p) > 0 {
		if len(w.s.buf) == 0 && len(p) >= small {
			w.s.sum.Write(p)
			if err := w.q.ops.Write(w.f, p); err != nil {
				return 0, w.fail("write", err)
			}
			w.size += int64(len(p))
			break
		}
		m := min(len(p), max(small-len(w.s.buf), 0))
		w.s.buf = append(w.s.buf, p[:m]...)
		w.size += int64(m)
		p = p[m:]
		if len(w.s.buf) >= small {
			if err := w.flush(); err != nil {
				return 0, w.fail("write", err)
			}
		}
	}
	return n, nil
}

// Size is the length of the message so far, in bytes.
func (w *Writer) Size() int64 { return w.size }

// ID is the id of the message.
func (w *Writer) ID() ID { return w.id }

// Commit puts the message into the queue. When it returns nil, the message is
// safe; then wake queued. After any error nothing is left behind.
func (w *Writer) Commit() error { return w.CommitIf(nil) }

// ErrGivenUp is the error of CommitIf when its caller has not wanted the message any more.
var ErrGivenUp = errors.New("given up before it was permanent")

// CommitIf is Commit that asks keep, when the message is on stable storage and before anybody can see it, whether it is still
// wanted: false removes it, and CommitIf returns ErrGivenUp. It is for callers who cannot wait for ever for a disk.
func (w *Writer) CommitIf(keep func() bool) error {
	if w.err != nil {
		return w.err
	}
	if w.s == nil {
		return w.fail("commit", errDone)
	}
	if err := w.commit(keep); err != nil {
		return w.fail("commit", err)
	}
	w.q.putScratch(w.s)
	w.s, w.f = nil, nil
	return nil
}

func (w *Writer) commit(keep func() bool) error {
	q, s := w.q, w.s
	if w.f == nil {
		s.sumHeader(s.sum, s.buf)
		s.sum.Write(s.buf[s.end:])
		finishSum(s.sum, s.buf[s.line:s.line+len(lenLine)], w.size)
		if err := w.create(); err != nil {
			return err
		}
		if err := q.ops.Write(w.f, s.buf); err != nil {
			return err
		}
	} else {
		if err := w.flush(); err != nil {
			return err
		}
		line := []byte(lenLine)
		finishSum(s.sum, line, w.size)
		if err := q.ops.WriteAt(w.f, line, int64(s.line)); err != nil {
			return err
		}
	}
	if err := q.ops.Sync(w.f); err != nil {
		return err
	}
	if q.strict {
		if err := w.syncName(); err != nil {
			return err
		}
	}
	if keep != nil && !keep() {
		return ErrGivenUp
	}
	// Not synced: see the package comment. From here on queued takes it up.
	if err := q.ops.Chmod(w.f, liveMode); err != nil {
		return err
	}
	return q.ops.Close(w.f)
}

// syncName makes the file's name permanent on file systems where its fsync does
// not. A program that may create files in a shard but not list it cannot sync
// the directory: then the whole file system is synced.
func (w *Writer) syncName() error {
	err := w.q.syncShard(w.id.shard())
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EACCES) {
		err = w.q.fsGroup.Syncfs(w.f)
	}
	return err
}

// begin puts what is there on disk, with a length and a sum that say "not yet".
func (w *Writer) begin() error {
	if err := w.create(); err != nil {
		return err
	}
	w.s.sumHeader(w.s.sum, w.s.buf)
	w.s.sum.Write(w.s.buf[w.s.end:])
	err := w.q.ops.Write(w.f, w.s.buf)
	w.s.buf = w.s.buf[:0]
	return err
}

// flush writes what was gathered since begin.
func (w *Writer) flush() error {
	if len(w.s.buf) == 0 {
		return nil
	}
	w.s.sum.Write(w.s.buf)
	err := w.q.ops.Write(w.f, w.s.buf)
	w.s.buf = w.s.buf[:0]
	return err
}

// create makes the file and locks it. A scan that comes between the two takes the
// file for one that a crash left, and removes it under its own lock; so the file
// must still have its name when the lock is ours.
func (w *Writer) create() error {
	name := w.id.path()
	madeDir := false
	for range 10 {
		f, err := w.q.ops.Create(w.q.dir, name, writingMode)
		switch {
		case err == nil:
		case errors.Is(err, ErrExists) && w.derived:
			// An earlier run of the same work wrote it, or a crash cut that short.
			if adopted, rerr := w.q.Recover(w.id); rerr != nil && !errors.Is(rerr, ErrNotExist) {
				return fmt.Errorf("what is there: %w", rerr)
			} else if adopted {
				return err
			}
			continue
		case errors.Is(err, ErrNotExist) && !madeDir:
			madeDir = true
			if lerr := w.q.layout(); lerr != nil {
				return lerr
			}
			continue
		default:
			return err
		}
		lost, err := w.claim(f)
		if err == nil && !lost {
			w.f = f
			return nil
		}
		if err != nil {
			w.q.ops.Unlink(w.q.dir, name)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return errors.New("the file was taken away again and again")
}

func (w *Writer) claim(f *os.File) (lost bool, err error) {
	err = flock(f)
	for i := 0; err == unix.EWOULDBLOCK && i < 1000; i++ {
		// A recovery or a check looks at it, for microseconds. It could also have
		// been stopped by a person, so a blocking flock will not do.
		time.Sleep(time.Millisecond)
		err = flock(f)
	}
	if err != nil {
		return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	var st unix.Stat_t
	if err := fstat(f, &st); err != nil {
		return false, err
	}
	if st.Nlink == 0 {
		return true, nil
	}
	if st.Mode&0o777 != writingMode {
		// The umask took bits that queued needs should we die now.
		return false, w.q.ops.Chmod(f, writingMode)
	}
	return false, nil
}

// Abort gives the message up and leaves nothing behind. After Commit it does
// nothing.
func (w *Writer) Abort() {
	if w.s != nil {
		w.discard()
	}
}

func (w *Writer) fail(op string, err error) error {
	if w.s != nil {
		w.discard()
	}
	w.err = fmt.Errorf("queue: %s %s: %w", op, w.id, err)
	return w.err
}

func (w *Writer) discard() {
	if w.f != nil {
		// We have the lock, so the name is still ours. If it cannot be removed, an
		// empty file is at least not taken for a message.
		if w.q.ops.Unlink(w.q.dir, w.id.path()) != nil {
			w.f.Truncate(0)
		}
		w.f.Close()
		w.f = nil
	}
	w.q.putScratch(w.s)
	w.s = nil
}
