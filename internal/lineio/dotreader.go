package lineio

import (
	"bytes"
	"io"
)

// DotReader reads a dot-transparent message (RFC 5321 section 4.5.2): leading dots are removed, CRLF "." CRLF ends it, the CRLF before that dot belongs to the message.
// A message that begins with "." CRLF is empty.
//
// Nothing else ends it, however the bytes were cut into segments. A bare CR or LF is passed on as it is, and Err tells of the first one when the
// message is over, so that it can be refused with the stream in step. Lines may be of any length.
//
// If the caller stops before io.EOF no line can be read from the connection; WriteTo(io.Discard) goes to the end.
type DotReader struct {
	c     *Conn
	nl    Newlines
	bol   bool   // at the beginning of a line
	done  bool   // the end was seen
	block []byte // of the block that Read began
}

// DotReader begins the reading of a message; it is the only reader of c until it has returned io.EOF.
func (c *Conn) DotReader() *DotReader {
	c.stop = errBody
	c.size = medium
	return &DotReader{c: c, bol: true}
}

// Next returns the next block of the message, never empty, valid until the next call of a method of d or its connection. io.EOF after the last, io.ErrUnexpectedEOF when
// the connection ended within the message. After a timeout it may be called again.
func (d *DotReader) Next() ([]byte, error) {
	if len(d.block) > 0 {
		b := d.block
		d.block = nil
		return b, nil
	}
	for {
		if d.done {
			return nil, io.EOF
		}
		if b := d.scan(); len(b) > 0 {
			return b, nil
		}
		if d.done {
			return nil, io.EOF
		}
		if err := d.c.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// scan takes what it can of the received bytes and removes the stuffed dots where they lie. What cannot be judged yet, "." or "." CR at the beginning
// of a line, stays in the buffer.
func (d *DotReader) scan() []byte {
	var (
		c    = d.c
		b    = c.unread()
		i    = 0 // b[:i] is read
		o    = 0 // b[:o] is text, in place
		from = 0 // b[from:i] is text that belongs to o
	)
	for i < len(b) {
		if d.bol {
			if b[i] == '.' {
				next := b[i+1:]
				if len(next) == 0 || len(next) == 1 && next[0] == '\r' {
					break
				}
				if next[0] == '\r' && next[1] == '\n' {
					d.done = true
					break
				}
				o = shift(b, o, from, i)
				i++
				from = i
			}
			d.bol = false
		}
		if j := bytes.IndexByte(b[i:], '\n'); j >= 0 {
			d.bol = d.nl.span(b[i:i+j], true)
			i += j + 1
		} else {
			d.nl.span(b[i:], false)
			i = len(b)
		}
	}
	o = shift(b, o, from, i)
	c.r += i
	if d.done {
		c.r += len(".\r\n")
		c.stop = nil
	}
	d.nl.scanNUL(b[:o])
	return b[:o]
}

// shift moves b[from:to] down to o and returns its end there.
func shift(b []byte, o, from, to int) int {
	if o == from {
		return to
	}
	return o + copy(b[o:], b[from:to])
}

// Read implements io.Reader.
func (d *DotReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(d.block) == 0 {
		b, err := d.Next()
		if err != nil {
			return 0, err
		}
		d.block = b
	}
	n := copy(p, d.block)
	d.block = d.block[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: each block goes to w as it lies in the buffer.
func (d *DotReader) WriteTo(w io.Writer) (int64, error) { return writeBlocks(w, d.Next) }

// Err is the first bare CR or LF of the message, a *NewlineError that is ErrBareCR or ErrBareLF, or nil. It is to be asked after io.EOF.
func (d *DotReader) Err() error { return d.nl.Err() }

// NUL reports whether the message has a NUL byte.
func (d *DotReader) NUL() bool { return d.nl.NUL() }

func writeBlocks(w io.Writer, next func() ([]byte, error)) (n int64, err error) {
	for {
		b, err := next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(b)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
}
