package submit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Input is how a message is read.
type Input struct {
	IgnoreDots bool  // a line that is a dot does not end it
	Limit      int64 // octets; 0 none
}

// Text is a message as it was read, in lines that end in CR LF.
type Text struct {
	From   string // the first "From " line that was before it, without its line end
	Header []byte // whole fields
	Body   *Spool // what follows the empty line
}

// Read reads a message to its end. CR LF and LF end a line, any number of CR before the LF too; for a CR alone see the package comment. Lines before the header that begin with
// "From " or ">From ", which mbox files have, are taken out. A first line that is no field begins the body. The caller closes Body.
func Read(r io.Reader, in Input) (*Text, error) {
	t := &Text{Body: &Spool{}}
	rd := &reader{r: bufio.NewReaderSize(r, 64<<10), in: in, text: t, header: true, start: true}
	if err := rd.read(); err != nil {
		t.Body.Close()
		return nil, err
	}
	return t, nil
}

// reader is a message that is read.
type reader struct {
	r    *bufio.Reader
	in   Input
	text *Text

	head   []byte
	header bool // head is not complete
	size   int64
	start  bool // at the start of a line
	crs    bool // CRs were read that may belong to a line end
}

func (r *reader) read() error {
	for {
		line, err := r.r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return fmt.Errorf("%w: %w", ErrInput, err)
		}
		whole := err == nil
		if r.start && !r.in.IgnoreDots && err != bufio.ErrBufferFull && string(bytes.TrimRight(line, "\r\n")) == "." {
			break
		}
		if r.start && whole && r.header && len(r.head) == 0 && isFromLine(line) {
			if r.text.From == "" {
				r.text.From = string(bytes.TrimRight(bytes.TrimPrefix(line, []byte(">")), "\r\n"))
			}
			continue
		}
		if len(line) > 0 {
			if err := r.line(line, whole); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
	}
	if r.crs || !r.start { // RFC 5321 section 4.1.1.4: there is no other end of a last line
		if err := r.line(nil, true); err != nil {
			return err
		}
	}
	if r.header {
		if err := r.endHeader(true); err != nil {
			return err
		}
	}
	return r.text.Body.flush()
}

// isFromLine: "From alice Thu Jan  1 00:00:00 1970". It must have a time, so that "From now on" is text.
func isFromLine(line []byte) bool {
	line, ok := bytes.CutPrefix(bytes.TrimPrefix(line, []byte(">")), []byte("From "))
	i := bytes.IndexByte(line, ':')
	return ok && i > 0 && i < len(line)-1 && isDigit(line[i-1]) && isDigit(line[i+1])
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// line takes a piece of a line; whole: it ends one.
func (r *reader) line(p []byte, whole bool) error {
	n := len(p)
	if whole && n > 0 {
		n--
	}
	p = p[:n]
	text := bytes.TrimRight(p, "\r")
	if r.crs && len(text) > 0 {
		// The CRs at the end of the piece before were in the middle of a line.
		if err := r.put(r.lone()); err != nil {
			return err
		}
		r.crs = false
	}
	r.crs = (r.crs || len(text) < len(p)) && !whole
	for {
		i := bytes.IndexByte(text, '\r')
		if i < 0 {
			break
		}
		if err := errors.Join(r.put(text[:i]), r.put(r.lone())); err != nil {
			return err
		}
		text = bytes.TrimLeft(text[i:], "\r")
	}
	if err := r.put(text); err != nil {
		return err
	}
	r.start = whole
	if whole {
		return r.put(crlf)
	}
	return nil
}

// lone is what CRs in the middle of a line become.
func (r *reader) lone() []byte {
	if r.header {
		return space
	}
	return crlf
}

var (
	crlf  = []byte("\r\n")
	space = []byte(" ")
)

// put takes a part of the message in its final form.
func (r *reader) put(p []byte) error {
	r.size += int64(len(p))
	if r.in.Limit > 0 && r.size > r.in.Limit {
		return fmt.Errorf("the message is longer than %d octets", r.in.Limit)
	}
	if !r.header {
		return r.text.Body.write(p)
	}
	r.head = append(r.head, p...)
	switch {
	case len(r.head) > MaxHeader:
		return r.endHeader(false)
	case len(r.head) == 2 && bytes.Equal(r.head, crlf) || bytes.HasSuffix(r.head, []byte("\r\n\r\n")):
		return r.endHeader(true)
	}
	return nil
}

// endHeader divides what was read into header and body. Whole says that the empty line was there, or the end of the message.
func (r *reader) endHeader(whole bool) error {
	r.header = false
	end, body := divide(r.head)
	if !whole && end == len(r.head) {
		return fmt.Errorf("the header is longer than %d octets", MaxHeader)
	}
	r.text.Header = r.head[:end:end]
	rest := r.head[body:]
	r.head = nil
	return r.text.Body.write(rest)
}
