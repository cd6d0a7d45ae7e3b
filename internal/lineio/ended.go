package lineio

import (
	"errors"
	"io"
	"syscall"
)

// Ended says of an error of reading or writing that the peer has just gone, as many do.
func Ended(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
