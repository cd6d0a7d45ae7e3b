package authwire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// The escape character and what stands for what. After it, any other character stands for itself, and at the end of a field it stands for nothing:
// so Dovecot reads it, and a reader that is stricter would refuse what Dovecot's own tools send.
const escape = '\001'

// appendEscaped appends s as a field's text.
func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case 0:
			b = append(b, escape, '0')
		case escape:
			b = append(b, escape, '1')
		case '\t':
			b = append(b, escape, 't')
		case '\r':
			b = append(b, escape, 'r')
		case '\n':
			b = append(b, escape, 'n')
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// unescape returns the text of a field.
func unescape(field []byte) string {
	i := bytes.IndexByte(field, escape)
	if i < 0 {
		return string(field)
	}
	b := make([]byte, i, len(field))
	copy(b, field)
	for ; i < len(field); i++ {
		if field[i] != escape {
			b = append(b, field[i])
			continue
		}
		if i++; i == len(field) {
			break
		}
		switch field[i] {
		case '0':
			b = append(b, 0)
		case '1':
			b = append(b, escape)
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case 'n':
			b = append(b, '\n')
		default:
			b = append(b, field[i])
		}
	}
	return string(b)
}

// words splits a line at its tabs. An escaped tab is no tab on the wire, so this comes before unescape.
func words(line []byte) [][]byte { return bytes.Split(line, []byte{'\t'}) }

// parseID reads a request id or a process id: a decimal number of 32 bits.
func parseID(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil && b[0] != '+'
}

// lineReader reads lines that end in LF or CRLF (Dovecot's user client sends the latter, everybody else the former).
type lineReader struct {
	r          io.Reader
	buf        []byte
	start, end int // buf[start:end] was read and not returned
	max        int
}

// A buffer this small suffices for everything but tokens, and many connections stay open with nothing to say.
const smallBuffer = 1 << 10

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{r: r, buf: make([]byte, min(smallBuffer, max)), max: max}
}

// next returns a line without its end, valid until the next call, which also wipes it: there may be a password in it. The limit includes
// the line's end. io.EOF only between lines.
func (l *lineReader) next() ([]byte, error) {
	clear(l.buf[:l.start])
	scanned := l.start
	for {
		if i := bytes.IndexByte(l.buf[scanned:l.end], '\n'); i >= 0 {
			line := l.buf[l.start : scanned+i]
			l.start = scanned + i + 1
			line = bytes.TrimSuffix(line, []byte{'\r'})
			if bytes.IndexByte(line, 0) >= 0 {
				return nil, errProtocol // in C the line would end here
			}
			return line, nil
		}
		scanned = l.end
		if l.end-l.start >= l.max {
			return nil, errTooLong
		}
		if l.end == len(l.buf) {
			l.room()
			scanned = l.end
		}
		n, err := l.r.Read(l.buf[l.end:min(len(l.buf), l.start+l.max)])
		l.end += n
		if n == 0 && err != nil {
			if err == io.EOF && l.end > l.start {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// room makes space behind end: by moving, by growing, or, once a large line is over, by a small buffer again.
func (l *lineReader) room() {
	rest := l.end - l.start
	size := len(l.buf)
	switch {
	case rest > size/2:
		size = min(2*size, l.max)
	case rest < smallBuffer/2:
		size = min(smallBuffer, l.max)
	}
	old := l.buf
	if size != len(old) {
		l.buf = make([]byte, size)
	}
	copy(l.buf, old[l.start:l.end])
	if size != len(old) {
		clear(old)
	} else {
		clear(l.buf[rest:])
	}
	l.start, l.end = 0, rest
}

// lineWriter writes whole lines from any goroutine. The first failure closes the connection, which ends whoever reads it.
type lineWriter struct {
	mu  sync.Mutex
	c   net.Conn
	err error
}

// write sends lines that carry their LF.
func (w *lineWriter) write(lines []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.c.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := w.c.Write(lines); err != nil {
		w.err = err
		w.c.Close()
	}
	return w.err
}

// command begins a line.
func command(verb string, id uint32) []byte {
	return strconv.AppendUint(append([]byte(verb), '\t'), uint64(id), 10)
}

// parseVersion reads the parameters of VERSION.
func parseVersion(w [][]byte) (minor uint32, err error) {
	if len(w) < 3 {
		return 0, fmt.Errorf("VERSION without numbers: %w", errProtocol)
	}
	major, ok := parseID(w[1])
	minor, ok2 := parseID(w[2])
	if !ok || !ok2 {
		return 0, fmt.Errorf("VERSION without numbers: %w", errProtocol)
	}
	if major != Major {
		return 0, fmt.Errorf("version %d of the authentication protocol, and not %d", major, Major)
	}
	return minor, nil
}
