package monitor

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is one end of a socketpair for records. It is safe for concurrent use.
type socket struct {
	c   *net.UnixConn
	raw syscall.RawConn
}

// pair makes the two ends of a connection, as files that close on exec. typ is unix.SOCK_SEQPACKET or unix.SOCK_STREAM.
func pair(typ int) (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, typ, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "pair"), os.NewFile(uintptr(fds[1]), "pair"), nil
}

// newSocket takes the file over.
func newSocket(f *os.File) (*socket, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("monitor: not a socket for records")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &socket{u, raw}, nil
}

func (s *socket) close() { s.c.Close() }

// sendNow sends a record and, if f is not nil, a descriptor, without waiting: EAGAIN says that the other side has not read what it
// got. Control takes none of the locks that a Write that waits would hold.
func (s *socket) sendNow(b []byte, f *os.File) error {
	rights := rightsOf(f)
	err := unix.EAGAIN
	cerr := s.raw.Control(func(fd uintptr) {
		e := unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		for e == unix.EINTR {
			e = unix.Sendmsg(int(fd), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		err, _ = e.(unix.Errno)
	})
	if cerr != nil {
		return cerr
	}
	if err != 0 {
		return os.NewSyscallError("sendmsg", err)
	}
	return nil
}

// send is sendNow that waits for room.
func (s *socket) send(b []byte, f *os.File) error {
	_, _, err := s.c.WriteMsgUnix(b, rightsOf(f), nil)
	return err
}

func rightsOf(f *os.File) []byte {
	if f == nil {
		return nil
	}
	return unix.UnixRights(int(f.Fd()))
}

// receive waits for a record. f is nil when no descriptor came with it; more than one is an error.
func (s *socket) receive(b []byte) (n int, f *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, k, flags, _, err := s.c.ReadMsgUnix(b, oob)
	if err != nil {
		return 0, nil, err
	}
	var fds []int
	if k > 0 {
		msgs, err := unix.ParseSocketControlMessage(oob[:k])
		if err != nil {
			return 0, nil, err
		}
		for i := range msgs {
			if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
				fds = append(fds, got...)
			}
		}
	}
	if len(fds) > 1 || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return 0, nil, errRecord
	}
	if len(fds) == 1 {
		f = os.NewFile(uintptr(fds[0]), "passed")
	}
	return n, f, nil
}
