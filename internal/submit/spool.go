package submit

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
)

// Spool keeps octets that are written once and may be read several times: in memory, or when there are many in a file that has no name any more.
type Spool struct {
	mem  []byte
	file *os.File // nil: all is in mem
	out  *bufio.Writer
	size int64
}

// Size is how many octets there are.
func (s *Spool) Size() int64 { return s.size }

func (s *Spool) write(p []byte) error {
	s.size += int64(len(p))
	if s.file == nil && len(s.mem)+len(p) <= maxMemory {
		s.mem = append(s.mem, p...)
		return nil
	}
	if s.file == nil {
		// Not /tmp, which is memory on many machines.
		dir := os.Getenv("TMPDIR")
		if dir == "" {
			dir = "/var/tmp"
		}
		f, err := os.CreateTemp(dir, "sendmail")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
		s.file, s.out = f, bufio.NewWriterSize(f, 64<<10)
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
		s.out.Write(s.mem) // an error of it stays, and flush returns it
		s.mem = nil
	}
	if _, err := s.out.Write(p); err != nil {
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return nil
}

// flush is called when all is written.
func (s *Spool) flush() error {
	if s.out == nil {
		return nil
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return nil
}

// Reader reads from the beginning.
func (s *Spool) Reader() io.Reader {
	if s.file == nil {
		return bytes.NewReader(s.mem)
	}
	return io.NewSectionReader(s.file, 0, s.size)
}

// Close gives the room back.
func (s *Spool) Close() {
	if s.file != nil {
		s.file.Close()
	}
}
