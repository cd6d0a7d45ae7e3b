//go:build !linux

package maildir

import "os"

// writeAll writes the buffers one after another.
func writeAll(f *os.File, bufs [][]byte) error {
	for _, b := range bufs {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// copyRange appends n bytes of from, beginning at off, to the file to.
func copyRange(to, from *os.File, off, n int64) error { return copyBytes(to, from, off, n) }
