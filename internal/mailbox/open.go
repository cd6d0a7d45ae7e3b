package mailbox

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openMessage opens the file of a message to read it: no link, and it waits for no one where it is a FIFO.
func openMessage(dir *os.File, name string) (fd int, err error) {
	return unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// File is the file of a message, open for reading, by one goroutine at a time. It is no *os.File: that offers each to the poller, which costs as much as reading a small message.
type File struct {
	fd        descriptor
	dir, name string
}

// Name is its path at the time when it was opened.
func (f *File) Name() string { return f.dir + "/" + f.name }

// Read implements io.Reader.
func (f *File) Read(p []byte) (n int, err error) {
	if n, err = f.fd.Read(p); err != nil && err != io.EOF {
		err = &os.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		k, err := unix.Pread(int(f.fd), p[n:], at+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, &os.PathError{Op: "read", Path: f.Name(), Err: err}
		case k == 0:
			return n, io.EOF
		default:
			n += k
		}
	}
	return n, nil
}

// Date is the internal date of the message.
func (f *File) Date() (time.Time, error) {
	st, err := f.stat()
	if err != nil {
		return time.Time{}, fmt.Errorf("mailbox: %w", err)
	}
	return time.Unix(st.Mtim.Sec, 0), nil
}

func (f *File) stat() (st unix.Stat_t, err error) {
	if err := unix.Fstat(int(f.fd), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}

// Close implements io.Closer. What is done with the file after that fails.
func (f *File) Close() error {
	fd := f.fd
	f.fd = -1
	return unix.Close(int(fd))
}

// descriptor reads a file without the poller.
type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
