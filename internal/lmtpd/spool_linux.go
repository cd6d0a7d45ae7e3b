package lmtpd

import (
	"os"

	"golang.org/x/sys/unix"
)

// nameless is a file that never has a name: who is killed leaves none behind. Not every file system can do that.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return unlinked(dir)
	}
	return os.NewFile(uintptr(fd), dir), nil
}
