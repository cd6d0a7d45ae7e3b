package lineio

import (
	"bytes"
	"io"
)

// DotWriter writes a message in dot-transparent form (RFC 5321 section 4.5.2). Every line end becomes CRLF, whatever it was: CRLF, LF or CR; a dot after any of
// them is doubled. So neither a strict receiver nor one that takes a bare CR or LF for a line end can see the end of the message in it.
// All other bytes pass as they are.
type DotWriter struct {
	w   io.Writer
	mid bool // within a line
	cr  bool // the last byte was a CR, for which CRLF was written: an LF that follows belongs to it
	err error
}

// DotWriter begins a message on c.
func (c *Conn) DotWriter() *DotWriter { return NewDotWriter(c) }

// NewDotWriter begins a message on w, which gets many short writes.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w} }

var (
	dot    = []byte(".")
	dotEnd = []byte(".\r\n")
)

// Write writes a part of the message, cut at any place. After an error every call returns it.
func (d *DotWriter) Write(p []byte) (int, error) {
	start := 0 // p[start:i] goes out as it is
	i := 0
	if d.cr && len(p) > 0 {
		d.cr = false
		if p[0] == '\n' {
			start, i = 1, 1
		}
	}
	for i < len(p) && d.err == nil {
		if !d.mid {
			if p[i] == '.' {
				d.emit(p[start:i])
				d.emit(dot)
				start = i
			}
			d.mid = true
		}
		end := i + bytes.IndexByte(p[i:], '\n')
		if end < i {
			end = len(p)
		}
		k := bytes.IndexByte(p[i:end], '\r')
		switch {
		case k < 0 && end == len(p): // no line end
			i = end
			continue
		case k < 0: // LF alone
			d.emit(p[start:end])
			d.emit(crlf)
			i = end + 1
			start = i
		case i+k == end-1 && end < len(p): // CRLF
			i = end + 1
		default: // CR alone, or the last byte
			d.emit(p[start : i+k])
			d.emit(crlf)
			i += k + 1
			start = i
			d.cr = i == len(p)
		}
		d.mid = false
	}
	d.emit(p[start:])
	if d.err != nil {
		return 0, d.err
	}
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: it writes all of r, through a pooled buffer.
func (d *DotWriter) ReadFrom(r io.Reader) (n int64, err error) {
	b := getBlock(large)
	defer b.put()
	for {
		k, err := r.Read(b.b)
		n += int64(k)
		if _, werr := d.Write(b.b[:k]); werr != nil {
			return n, werr
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Close ends the message: a CRLF if the last line has none, and the line with the dot. It does not flush the connection, nor close it.
func (d *DotWriter) Close() error {
	if d.mid {
		d.emit(crlf)
	}
	d.emit(dotEnd)
	return d.err
}

func (d *DotWriter) emit(b []byte) {
	if d.err == nil && len(b) > 0 {
		_, d.err = d.w.Write(b)
	}
}
