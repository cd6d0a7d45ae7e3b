package imap

import (
	"bytes"
	"errors"
	"io"
	"math"

	"postamt/internal/lineio"
)

// Literal is the announcement of a literal, whose octets were not read. It stands at the end of a line.
type Literal struct {
	Size    int64
	NonSync bool // the octets come unasked (RFC 7888)
	Binary  bool // literal8: it may contain NUL

	at     int // where it begins in the line
	ok     bool
	zeros  bool // needless zeros before the count
	excess bool // a count of more than 63 bits
}

// literalAtEnd finds the announcement at the end of a line: ["~"] "{" 1*DIGIT ["+"] "}". RFC 7888 section 3: a server checks the end of every line for it, because
// in a line that is wrong, too, the octets of a non-synchronizing literal are none of a command.
func literalAtEnd(line []byte) (l Literal) {
	i := len(line) - 1
	if i < 0 || line[i] != '}' {
		return l
	}
	if i > 0 && line[i-1] == '+' {
		l.NonSync = true
		i--
	}
	end := i
	for i > 0 && isDigit(line[i-1]) {
		i--
	}
	digits := line[i:end]
	if len(digits) == 0 || i == 0 || line[i-1] != '{' {
		return Literal{}
	}
	l.ok = true
	l.at = i - 1
	if l.at > 0 && line[l.at-1] == '~' {
		l.Binary = true
		l.at--
	}
	l.zeros = len(digits) > 1 && digits[0] == '0'
	for _, c := range digits {
		if l.Size > (math.MaxInt64-9)/10 {
			l.excess = true
			l.Size = math.MaxInt64
			break
		}
		l.Size = l.Size*10 + int64(c-'0')
	}
	return l
}

// nextLine reads the next line of the command. A line with a wrong character in it is an error of the command, which can be skipped; the error returned is one
// of the connection.
func (d *Decoder) nextLine() error {
	line, err := d.c.ReadLine(d.c.Limits.Line)
	switch {
	case err == nil:
	case errors.Is(err, lineio.ErrBareNewline):
		d.fail(Bad("CR or LF that is not part of a CRLF"))
	case err == lineio.ErrNUL:
		d.fail(Bad("NUL in a command"))
	default:
		d.fail(err)
		return err
	}
	d.inLiteral = false
	d.line, d.pos = line, 0
	d.last = literalAtEnd(line)
	d.count(int64(len(line)) + 2)
	return nil
}

// count adds to what is held of the command.
func (d *Decoder) count(n int64) {
	d.held += n
	if d.held > d.c.Limits.Command {
		d.fail(tooBig("the command is too long"))
	}
}

// announced takes the announcement that begins where the decoder stands, and judges it before anything is allocated for it.
func (d *Decoder) announced(binary bool) (Literal, bool) {
	l := d.last
	switch {
	case d.err != nil:
	case !l.ok || l.at != d.pos || l.Binary && !binary || l.zeros:
		d.Fail("wrong literal")
	case l.excess:
		d.fail(tooBig("the literal is too long"))
	case l.NonSync && l.Size > d.c.Limits.NonSync:
		// RFC 7888 section 5: the response code is for APPEND, and harmless elsewhere.
		d.fail(tooBig("a literal of this length has to wait for its continuation"))
	}
	return l, d.err == nil
}

// held is a literal, read.
func (d *Decoder) heldLiteral(binary bool) []byte {
	l, ok := d.announced(binary)
	if !ok {
		return nil
	}
	if l.Size > d.c.Limits.Literal {
		d.fail(tooBig("the literal is too long"))
		return nil
	}
	d.count(l.Size)
	if d.err != nil {
		return nil
	}
	b := d.Open(l)
	p := make([]byte, l.Size)
	if _, err := io.ReadFull(b, p); err != nil {
		d.fail(err)
		return nil
	}
	if b.NUL && !l.Binary {
		d.Fail("NUL in a literal")
	}
	d.resume()
	return p
}

// Body reads the octets of a literal. What is not read of it the Decoder drops when the next argument is pulled, or the next command read.
type Body struct {
	NUL bool // a NUL was among the octets read: wrong, but in a literal8

	k    *lineio.ChunkReader
	left int64
}

// Open begins the reading of a literal that Literal returned: it sends the continuation if the peer waits for it.
func (d *Decoder) Open(l Literal) *Body {
	if !l.NonSync {
		d.c.WriteString("+ OK\r\n") // sent when the read waits, and an error of it is found there
	}
	d.body = Body{k: d.c.Chunk(l.Size), left: l.Size}
	d.inLiteral = true
	d.last = Literal{}
	return &d.body
}

// Left is the number of octets that were not read.
func (b *Body) Left() int64 { return b.left }

// Next returns the next block, never empty, valid until the next call of a method of the connection or the decoder; io.EOF after the last.
func (b *Body) Next() ([]byte, error) {
	p, err := b.k.Next()
	b.took(p)
	return p, err
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.k.Read(p)
	b.took(p[:n])
	return n, err
}

// WriteTo implements io.WriterTo: each block goes to w as it lies in the buffer.
func (b *Body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		p, err := b.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(p)
		if n += int64(k); err != nil {
			return n, err
		}
	}
}

func (b *Body) took(p []byte) {
	b.left -= int64(len(p))
	b.NUL = b.NUL || bytes.IndexByte(p, 0) >= 0
}

// drop reads what is left of an open literal, within its limit and that of a command.
func (d *Decoder) drop() error {
	for d.inLiteral {
		// Judged before it is read: who announces too much need not send it.
		if d.body.left > min(d.c.Limits.Skip, d.c.Limits.Discard-d.dropped) {
			return ErrTooMuchToSkip
		}
		p, err := d.body.Next()
		d.dropped += int64(len(p))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resume goes on behind an open literal.
func (d *Decoder) resume() {
	if d.err != nil {
		return
	}
	if err := d.drop(); err != nil {
		d.fail(err)
		return
	}
	d.nextLine()
}

// finish reads and drops what is left of the command: an open literal, the non-synchronizing ones behind what was decoded, and their lines. (A synchronizing one
// that was not opened is not coming.) After a timeout it can be called again.
func (d *Decoder) finish() error {
	for {
		if d.last.ok && d.last.NonSync {
			d.Open(d.last)
		}
		if !d.inLiteral {
			return nil
		}
		if err := d.drop(); err != nil {
			return err
		}
		if err := d.nextLine(); err != nil {
			return err
		}
		if d.dropped += int64(len(d.line)) + 2; d.dropped > d.c.Limits.Discard {
			return ErrTooMuchToSkip
		}
	}
}
