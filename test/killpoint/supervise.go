//go:build linux && (amd64 || arm64)

package killpoint

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structures of seccomp(2) and seccomp_unotify(2), which x/sys lacks.
type (
	seccompData struct {
		nr   int32
		arch uint32
		ip   uint64
		args [6]uint64
	}
	notification struct {
		id    uint64
		tid   uint32
		flags uint32
		data  seccompData
	}
	answer struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}
	addFD struct {
		id       uint64
		flags    uint32
		fd       uint32
		newFD    uint32
		newFlags uint32
	}
)

func ioctl(fd int, request uint, p unsafe.Pointer) error {
	return again(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(p)); errno != 0 {
			return errno
		}
		return nil
	})
}

// supervise answers calls until nobody is left who could make one.
func (r *Run) supervise() {
	defer close(r.done)
	defer unix.Close(r.null)
	defer unix.Close(r.listener) // after an error of ours the program's calls fail with ENOSYS
	for {
		// Poll first: before Linux 6.11 a wait for the next call does not end with the last process.
		poll := []unix.PollFd{{Fd: int32(r.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			r.fail("poll", err)
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		switch err := ioctl(r.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err {
		case nil:
			r.answer(&n)
		case unix.ENOENT: // who asked has been killed meanwhile
		default:
			r.fail("receive", err)
			return
		}
	}
}

func (r *Run) fail(step string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf("killpoint: %s: %w", step, err)
	}
}

func (r *Run) answer(n *notification) {
	tid := int(n.tid)
	if r.dead {
		unix.Kill(tid, unix.SIGKILL)
		return
	}
	call := describe(tid, uint32(n.data.nr), n.data.args)
	// Whom we looked at is the one who asked only if he still waits.
	if ioctl(r.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id)) != nil {
		return
	}
	a := answer{id: n.id}
	switch f := r.count(call); {
	case f.kill:
		// The call stays without an answer, and so undone. A thread's id will do for its process.
		r.dead = true
		unix.Kill(tid, unix.SIGKILL)
		unix.Kill(r.main, unix.SIGKILL)
		return
	case f.errno != 0:
		if call.Name == "close" {
			r.replace(n)
		}
		a.errno = -int32(f.errno)
	default:
		a.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	if err := ioctl(r.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)); err != nil && err != unix.ENOENT {
		r.fail("answer", err)
	}
}

// replace puts /dev/null in the place of the descriptor that is to be closed: what it was open on is closed, its locks are gone.
func (r *Run) replace(n *notification) {
	add := addFD{id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, fd: uint32(r.null), newFD: uint32(n.data.args[0]), newFlags: unix.O_CLOEXEC}
	if err := ioctl(r.listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&add)); err != nil && err != unix.ENOENT {
		r.fail("close", err)
	}
}
