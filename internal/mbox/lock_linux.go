package mbox

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of fcntl(2) on the whole file, if nobody has it. It is of the open file and not of the process: goroutines exclude each other
// too, and it conflicts with other programs' locks all the same.
func lockFile(f *os.File) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	runtime.KeepAlive(f)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}
