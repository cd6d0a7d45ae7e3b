//go:build !linux

package mbox

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of fcntl(2) on the whole file, if no other process has it. Only FILE.lock keeps goroutines of this one apart.
func lockFile(f *os.File) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	runtime.KeepAlive(f)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}
