//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package watch

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// source is a kqueue. wait is for one goroutine; add and remove are called with Watcher.mu held.
//
// Some people use EVFILT_USER to wake who waits; OpenBSD had none for long. And a kqueue can be waited for in the kqueue of the Go runtime, at
// the price of knowing more about both; a thread is cheaper to understand.
type source struct {
	kq          int
	awake, wake *os.File         // a pipe: that wake is closed is an event
	dirs        map[identity]int // descriptors of ours, which are the directories' numbers
	batch       [64]unix.Kevent_t
	events      []event
}

type identity struct{ dev, ino uint64 }

func open() (*source, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("kqueue: %w", err)
	}
	unix.CloseOnExec(kq) // a fork does not inherit it anyway
	s := &source{kq: kq, dirs: map[identity]int{}}
	s.awake, s.wake, err = os.Pipe()
	if err == nil {
		err = s.register(int(s.awake.Fd()), unix.EVFILT_READ, 0)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *source) register(fd, filter int, notes uint32) error {
	var k unix.Kevent_t
	unix.SetKevent(&k, fd, filter, unix.EV_ADD|unix.EV_CLEAR)
	k.Fflags = notes
	if _, err := unix.Kevent(s.kq, []unix.Kevent_t{k}, nil, nil); err != nil {
		return fmt.Errorf("kevent: %w", err)
	}
	return nil
}

// add makes a descriptor of its own: the caller's takes its event with it when it is closed.
func (s *source) add(dir *os.File) (int, error) {
	defer runtime.KeepAlive(dir)
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, unix.ENOTDIR
	}
	i := identity{uint64(st.Dev), uint64(st.Ino)}
	if fd, ok := s.dirs[i]; ok {
		return fd, nil
	}
	fd, err := unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := s.register(fd, unix.EVFILT_VNODE, unix.NOTE_WRITE|unix.NOTE_DELETE|unix.NOTE_RENAME|unix.NOTE_REVOKE); err != nil {
		unix.Close(fd)
		return 0, err
	}
	s.dirs[i] = fd
	return fd, nil
}

// remove frees a number that the next directory may get. If wait has just returned an event of the old one, the new one is called once for
// nothing, at worst to hear that it has ended, and is added again.
func (s *source) remove(id int) {
	for i, fd := range s.dirs {
		if fd == id {
			delete(s.dirs, i)
			unix.Close(fd)
		}
	}
}

// wait returns what has been seen, valid until the next call, or nothing when it is until (zero: never), or an error after stop.
func (s *source) wait(until time.Time) ([]event, error) {
	var timeout *unix.Timespec
	if !until.IsZero() {
		t := unix.NsecToTimespec(max(0, int64(time.Until(until))))
		timeout = &t
	}
	n, err := unix.Kevent(s.kq, nil, s.batch[:], timeout)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kevent: %w", err)
	}
	s.events = s.events[:0]
	for i := range s.batch[:n] {
		k := &s.batch[i]
		if int(k.Ident) == int(s.awake.Fd()) {
			return nil, os.ErrClosed
		}
		s.events = append(s.events, event{id: int(k.Ident), ended: k.Fflags&(unix.NOTE_DELETE|unix.NOTE_REVOKE) != 0})
	}
	return s.events, nil
}

// stop makes wait return.
func (s *source) stop() { s.wake.Close() }

// close is for when nobody waits any more.
func (s *source) close() {
	for _, f := range []*os.File{s.awake, s.wake} {
		if f != nil {
			f.Close()
		}
	}
	unix.Close(s.kq)
}
