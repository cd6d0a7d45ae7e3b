package pop3

import (
	"bytes"
	"io"
	"sync"
)

// Message sends a message, or the top of it, as the text of a multi-line response (RFC 1939 section 3). What is written to it is the message as it lies in a file, cut
// at any place, with lines that end in CRLF, LF or both kinds; what is sent is its wire form, dot-transparent:
//
//	CRLF    CRLF
//	LF      CRLF
//	CR      a space, where no LF follows
//	"." at the beginning of a line     ".."
//
// So no client can see a line end that is not CRLF, or the end of the message within it, whatever it takes for a line end. The space
// keeps the size what a file's number of octets and of bare LFs make it, which is what IMAP and other servers of the same maildir say
// (",W=" in a name); and a header with "CR CR LF" at its line ends, a common damage, stays a header.
//
// Other octets pass as they are, NUL and those above 127 too.
type Message struct {
	c *Conn
	n int64 // octets in wire form

	mid bool // within a line
	cr  bool // a CR was written to us, of which it is not known yet what follows

	whole bool
	lines int   // of the body, to come
	body  bool  // the empty line was sent
	full  bool  // all lines that were wanted were sent
	err   error // the first failure to write
}

// Message begins a message after its +OK.
func (c *Conn) Message() *Message { return &Message{c: c, whole: true} }

// Top begins the header of a message, the empty line, and so many lines of the body (TOP).
func (c *Conn) Top(lines int) *Message { return &Message{c: c, lines: lines} }

// Octets is how many the wire form has of what was written, without stuffed dots, and without the CRLF that End adds to an unfinished line.
func (m *Message) Octets() int64 {
	if m.cr {
		return m.n + 1
	}
	return m.n
}

// Unfinished says that the last line has no end yet.
func (m *Message) Unfinished() bool { return m.mid || m.cr }

// Full says that a Top has all it wants: what is written from then on is not sent.
func (m *Message) Full() bool { return m.full }

// blocks are read buffers. They are this package's only state, and the garbage collector empties it.
var blocks = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom sends all of r, or as much as a Top wants. It returns the number of octets that were read, and the first error of r or of the connection.
func (m *Message) ReadFrom(r io.Reader) (n int64, err error) {
	b := blocks.Get().(*[32 << 10]byte)
	defer blocks.Put(b)
	for !m.full {
		k, err := r.Read(b[:])
		n += int64(k)
		if err := m.send(b[:k]); err != nil {
			return n, err
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

var (
	crlf  = []byte("\r\n")
	space = []byte(" ")
)

// send sends p, in which it overwrites CRs.
func (m *Message) send(p []byte) error {
	if m.cr && len(p) > 0 {
		m.cr = false
		if p[0] == '\n' {
			m.emit(crlf)
			if m.endLine(!m.mid); m.full {
				return m.err
			}
			p = p[1:]
		} else {
			m.emit(space)
			m.mid = true
		}
	}
	start := 0 // p[start:i] goes out as it is
	for i := 0; i < len(p) && !m.full; {
		if !m.mid && p[i] == '.' {
			m.emit(p[start:i])
			start = i
			m.stuff()
		}
		j := bytes.IndexByte(p[i:], '\n')
		line := p[i:]
		if j >= 0 {
			line = line[:j]
		}
		k := len(line) - 1 // without the last octet
		if k >= 0 && bytes.IndexByte(line[:k], '\r') >= 0 {
			spaces(line[:k])
		}
		cr := k >= 0 && line[k] == '\r'
		switch {
		case j < 0 && cr:
			m.mid = m.mid || k > 0
			m.cr = true
			m.emit(p[start : len(p)-1])
			return m.err
		case j < 0:
			m.mid = true
			i = len(p)
		case cr:
			m.endLine(!m.mid && k == 0)
			i += j + 1
		default:
			m.emit(p[start : i+j])
			m.emit(crlf)
			m.endLine(!m.mid && j == 0)
			i += j + 1
			start = i
		}
		if m.full {
			p = p[:i]
		}
	}
	m.emit(p[start:])
	return m.err
}

func spaces(b []byte) {
	for {
		i := bytes.IndexByte(b, '\r')
		if i < 0 {
			return
		}
		b[i] = ' '
		b = b[i+1:]
	}
}

func (m *Message) endLine(empty bool) {
	m.mid = false
	switch {
	case m.whole:
	case m.body:
		m.lines--
		m.full = m.lines == 0
	case empty:
		m.body = true
		m.full = m.lines == 0
	}
}

// End ends the response: a CRLF where the last line has none, and the line with the dot.
func (m *Message) End() error {
	if m.cr {
		m.emit(space)
		m.cr, m.mid = false, true
	}
	if m.mid {
		m.c.Write(crlf)
	}
	return m.c.End()
}

func (m *Message) emit(b []byte) {
	if len(b) > 0 && m.err == nil {
		_, m.err = m.c.Write(b)
		m.n += int64(len(b))
	}
}

func (m *Message) stuff() {
	if m.err == nil {
		m.err = m.c.WriteByte('.')
	}
}
