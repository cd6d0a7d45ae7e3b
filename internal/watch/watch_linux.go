package watch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mask is all that changes what a directory lists. That the directory is gone comes unasked, as IN_IGNORED. IN_MOVE_SELF: the names that lead to it
// have changed.
const mask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// source is an inotify descriptor. wait is for one goroutine; add and remove are called with Watcher.mu held.
type source struct {
	file   *os.File
	conn   syscall.RawConn
	buf    [16 << 10]byte // some 170 events with names of a maildir; one takes up to 272 bytes
	events []event
}

func open() (*source, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == unix.EMFILE {
		return nil, fmt.Errorf("inotify: %w, or more than fs.inotify.max_user_instances", err)
	}
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	s := &source{file: os.NewFile(uintptr(fd), "inotify")}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

// add gives one number for one directory, however often it is added. Neither the filter of system calls nor Landlock (which knows no inotify) stands in
// the way, but a way to the open directory is needed, and the only one is in /proc. Where that is hidden its name has to do, if it still leads there: if it
// is renamed at this moment, what we watch is another directory, and this one is as if it were on another host.
func (s *source) add(dir *os.File) (id int, err error) {
	defer runtime.KeepAlive(dir)
	cerr := s.conn.Control(func(fd uintptr) {
		id, err = unix.InotifyAddWatch(int(fd), fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), mask)
		if err != unix.ENOENT && err != unix.EACCES && err != unix.EPERM {
			return
		}
		open, oerr := dir.Stat()
		named, nerr := os.Stat(dir.Name())
		switch {
		case oerr != nil || nerr != nil:
			err = errors.Join(oerr, nerr)
		case !os.SameFile(open, named):
			err = unix.ESTALE
		default:
			id, err = unix.InotifyAddWatch(int(fd), dir.Name(), mask)
		}
	})
	switch {
	case cerr != nil:
		return 0, cerr
	case err == unix.ENOSPC: // it is not the disk
		return 0, errors.New("inotify: more than fs.inotify.max_user_watches")
	case err != nil:
		return 0, fmt.Errorf("inotify: %w", err)
	}
	return id, nil
}

// remove needs no reply: EINVAL is of what the kernel has removed itself. The numbers count upwards, so that an event that is still on its way means
// nobody else.
func (s *source) remove(id int) {
	s.conn.Control(func(fd uintptr) { unix.InotifyRmWatch(int(fd), uint32(id)) })
}

// wait returns what has been seen, valid until the next call, or nothing when it is until (zero: never), or an error after stop.
func (s *source) wait(until time.Time) ([]event, error) {
	if err := s.file.SetReadDeadline(until); err != nil {
		return nil, err
	}
	n, err := s.file.Read(s.buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s.events = s.events[:0]
	for b := s.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		// IN_Q_OVERFLOW has the number -1: everything. An IN_IGNORED may be lost with the rest; who looks at everything finds what is gone.
		s.events = append(s.events, event{id: int(e.Wd), ended: e.Mask&unix.IN_IGNORED != 0})
		b = b[unix.SizeofInotifyEvent+e.Len:]
	}
	return s.events, nil
}

// stop makes wait return.
func (s *source) stop() { s.file.Close() }

// close is for when nobody waits any more.
func (s *source) close() { s.file.Close() }
