package maildir

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openFile opens a file of ours for reading, never through a symbolic link and
// never waiting on what is no ordinary file.
func openFile(dir *os.File, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
	}
}

// sizeOf gives the size of an ordinary file.
func sizeOf(dir *os.File, name string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, nil
	}
	return st.Size, nil
}

// copyBytes appends n bytes of from, beginning at off, to the file to. It
// leaves from's offset alone, so that several may copy at once.
func copyBytes(to, from *os.File, off, n int64) error {
	m, err := io.Copy(to, io.NewSectionReader(from, off, n))
	if err == nil && m != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
