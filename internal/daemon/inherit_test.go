package daemon

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What whoever started us has left open is not for those whom we execute.
func TestInheritedDescriptors(t *testing.T) {
	for _, f := range []func(){closeOnExec, closeSomeOnExec} {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f()
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d stays open: %v", fd, err)
		}
		unix.Close(fd)
		for fd := range 3 {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
				t.Errorf("descriptor %d is closed", fd)
			}
		}
	}
}
