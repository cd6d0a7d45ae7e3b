package lmtpd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spool is a message in a file without a name, with LF line ends.
type spool struct {
	f      *os.File
	w      *bufio.Writer
	trace  string
	size   int64
	err    error // the first
	binary bool
	cr     bool // a CR came last
}

func newSpool(binary bool, trace string) *spool {
	p := &spool{binary: binary, trace: trace}
	if p.f, p.err = nameless(os.TempDir()); p.err == nil {
		p.w = bufio.NewWriterSize(p.f, 64<<10)
	}
	return p
}

// unlinked is a file that had a name for a moment.
func unlinked(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "deliver-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Write takes everything; what goes wrong is kept.
func (p *spool) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && p.err == nil {
		if p.binary {
			p.put(b)
			break
		}
		if p.cr && b[0] != '\n' {
			p.put([]byte{'\r'})
		}
		p.cr = false
		i := bytes.IndexByte(b, '\r')
		if i < 0 {
			p.put(b)
			break
		}
		p.put(b[:i])
		p.cr = true
		b = b[i+1:]
	}
	return n, nil
}

func (p *spool) put(b []byte) {
	if p.err != nil {
		return
	}
	n, err := p.w.Write(b)
	p.size += int64(n)
	p.err = err
}

// reader is the message with a header above it.
func (p *spool) reader(header []byte) (*io.SectionReader, error) {
	if p.err == nil {
		p.err = p.w.Flush()
	}
	if p.err != nil {
		return nil, fmt.Errorf("spool: %w", p.err)
	}
	w := withHeader{append(header, p.trace...), p.f}
	return io.NewSectionReader(w, 0, int64(len(w.header))+p.size), nil
}

// withHeader is a file that begins with what is not in it.
type withHeader struct {
	header []byte
	f      *os.File
}

// ReadAt implements io.ReaderAt.
func (w withHeader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(w.header)) {
		n = copy(p, w.header[off:])
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	m, err := w.f.ReadAt(p[n:], off-int64(len(w.header)))
	return n + m, err
}

func (p *spool) close() {
	if p.f != nil {
		p.f.Close()
	}
	p.err = errors.New("closed")
}
