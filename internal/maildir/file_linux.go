package maildir

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// writeAll writes the buffers one after another, all in one system call when
// the kernel takes them at once.
func writeAll(f *os.File, bufs [][]byte) error {
	fd := int(f.Fd())
	for {
		for len(bufs) > 0 && len(bufs[0]) == 0 {
			bufs = bufs[1:]
		}
		if len(bufs) == 0 {
			runtime.KeepAlive(f)
			return nil
		}
		n, err := unix.Writev(fd, bufs)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		for n > 0 {
			if n < len(bufs[0]) {
				bufs[0] = bufs[0][n:]
				break
			}
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
	}
}

// copyRange appends n bytes of from, beginning at off, to the file to, without
// moving them through our memory where the kernel can.
func copyRange(to, from *os.File, off, n int64) error {
	for n > 0 {
		m, err := unix.CopyFileRange(int(from.Fd()), &off, int(to.Fd()), nil, int(min(n, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			// Two file systems, or one that cannot: by hand, and if the error
			// was a real one it comes again.
			break
		}
		n -= int64(m)
	}
	if n == 0 {
		return nil
	}
	return copyBytes(to, from, off, n)
}
