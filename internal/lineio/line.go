package lineio

import (
	"bytes"
	"errors"
	"io"
)

// What can be wrong with a line, or with the line ends of a message.
var (
	ErrLineTooLong = errors.New("line too long")                           // it was skipped: the next line can be read
	ErrEndlessLine = error(&kindError{"line without end", ErrLineTooLong}) // it was not: close the connection
	ErrBareNewline = errors.New("CR or LF that is not part of a CRLF")     // one of the next two
	ErrBareCR      = error(&kindError{"CR without LF", ErrBareNewline})    //
	ErrBareLF      = error(&kindError{"LF without CR", ErrBareNewline})    //
	ErrNUL         = errors.New("NUL byte")                                //
)

// kindError is a kind of a more general error.
type kindError struct {
	text string
	of   error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.of }

// ReadLine reads one line of at most max octets with its CRLF (max at most MaxLine), and returns it without; it is valid until the next call of a method of c.
//
// A line that is longer, or has a bare CR, bare LF or NUL in it, is one error (ErrLineTooLong, ErrBareCR, ErrBareLF, ErrNUL) and is consumed up to its CRLF, so that the
// next call reads the next line: "MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n" is one bad line, not two commands. A line that is only bad, not too long, comes with its error, for who
// must know how it ends: an IMAP literal may follow it, whatever stands before. If no CRLF comes within 64 KiB,
// the error is ErrEndlessLine, now and ever after. io.EOF before the first byte of a line, io.ErrUnexpectedEOF in it.
func (c *Conn) ReadLine(max int) ([]byte, error) {
	if c.stop != nil {
		return nil, c.stop
	}
	if c.Buffered() == 0 {
		c.size = c.lineSize()
	}
	max = min(max, MaxLine)
	for scanned := 0; ; {
		b := c.unread()
		line, n, bad := findLine(b, scanned)
		switch {
		case n == 0 && len(b) >= max:
			return nil, c.skipLine()
		case n == 0:
			scanned = len(b)
			if err := c.fill(); err != nil {
				if err == io.EOF && len(b) > 0 {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
			continue
		}
		c.r += n
		switch {
		case n > max:
			bad = ErrLineTooLong
		case bad == nil && bytes.IndexByte(line, 0) >= 0:
			bad = ErrNUL
		}
		if bad == ErrLineTooLong {
			return nil, bad
		}
		return line, bad
	}
}

// findLine looks for the first CRLF in b, of which the first scanned bytes have none but for a CR at their end; n is its length with CRLF, 0 if there is none.
func findLine(b []byte, scanned int) (line []byte, n int, bad error) {
	for i := scanned; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return nil, 0, nil
		}
		i += j + 1
		if i >= 2 && b[i-2] == '\r' {
			line = b[:i-2]
			switch {
			case bytes.IndexByte(line, '\n') >= 0:
				bad = ErrBareLF
			case bytes.IndexByte(line, '\r') >= 0:
				bad = ErrBareCR
			}
			return line, i, bad
		}
	}
}

// skipLine discards a line that is too long already, to its CRLF. Until that is found no other line can be read, should a wait end in an error.
func (c *Conn) skipLine() error {
	c.stop = ErrEndlessLine
	for skipped, cr := 0, false; skipped < MaxLine; {
		b := c.unread()
		if len(b) == 0 {
			if err := c.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
			continue
		}
		if cr && b[0] == '\n' {
			c.r++
			c.stop = nil
			return ErrLineTooLong
		}
		if i := bytes.Index(b, crlf); i >= 0 {
			c.r += i + len(crlf)
			c.stop = nil
			return ErrLineTooLong
		}
		cr = b[len(b)-1] == '\r'
		skipped += len(b)
		c.r = c.w
	}
	return ErrEndlessLine
}

var crlf = []byte("\r\n")
