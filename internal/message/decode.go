package message

import (
	"io"
	"strings"
)

// Transfer reads the body of a part with its transfer encoding taken off (RFC 2045 section 6), and nothing else changed; false: r as it is, for the encoding is none that is known.
// An error is one of r.
func Transfer(r io.Reader, encoding string) (io.Reader, bool) {
	switch strings.ToLower(encoding) {
	case "base64":
		return &decoder{r: r, step: &base64Decoder{}}, true
	case "quoted-printable":
		return &decoder{r: r, step: &quotedDecoder{}}, true
	case "", "7bit", "8bit", "binary":
		return r, true
	}
	return r, false
}

// Lines reads text with a CR before each LF that had none.
func Lines(r io.Reader) io.Reader { return &decoder{r: r, step: &lineEncoder{}} }

// decoder takes a transfer encoding off a stream.
type decoder struct {
	r    io.Reader
	step stepper
	in   [4096]byte
	out  []byte
	rest []byte // of out, not yet read
	err  error
}

// A stepper appends the decoded octets of b to dst, and at the end what it held back.
type stepper interface {
	step(dst, b []byte, end bool) []byte
}

func (d *decoder) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.rest) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		var n int
		n, d.err = d.r.Read(d.in[:])
		d.out = d.step.step(d.out[:0], d.in[:n], d.err != nil)
		d.rest = d.out
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

type lineEncoder struct{ cr bool }

func (e *lineEncoder) step(dst, b []byte, _ bool) []byte {
	for _, c := range b {
		if c == '\n' && !e.cr {
			dst = append(dst, '\r')
		}
		dst = append(dst, c)
		e.cr = c == '\r'
	}
	return dst
}

// base64Decoder passes over what is not of the alphabet (RFC 2045 section 6.8) and goes on behind padding: some programs
// encode a text in pieces. What lacks padding is decoded as far as it goes.
type base64Decoder struct {
	bits uint32
	n    int // characters in bits
}

func (d *base64Decoder) step(dst, b []byte, end bool) []byte {
	for _, c := range b {
		v := sextet(c)
		switch {
		case v >= 0:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				dst = append(dst, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.bits, d.n = 0, 0
			}
		case c == '=':
			dst = d.flush(dst)
		}
	}
	if end {
		dst = d.flush(dst)
	}
	return dst
}

func (d *base64Decoder) flush(dst []byte) []byte {
	switch d.n {
	case 2:
		dst = append(dst, byte(d.bits>>4))
	case 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.n = 0, 0
	return dst
}

func sextet(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// quotedDecoder leaves an equals sign that encodes nothing as it is. White space before a line end, or between it and an equals sign, is
// transport padding (RFC 2045 section 6.7 rule 3: it must be deleted).
type quotedDecoder struct {
	state quotedState
	hex   byte   // the first digit
	white []byte // held back until it is known what follows
}

// maxWhite bounds what is held; no line is so long (RFC 5322 section 2.1.1).
const maxWhite = 1000

type quotedState byte

const (
	quotedText    quotedState = iota
	quotedEquals              // "="
	quotedDigit               // "=" and a digit
	quotedPadding             // "=" and white space
	quotedBreak               // "=", perhaps white space, CR
)

func (d *quotedDecoder) step(dst, b []byte, end bool) []byte {
	for len(b) > 0 {
		if d.state == quotedText && len(d.white) == 0 {
			n := plain(b)
			dst, b = append(dst, b[:n]...), b[n:]
			if len(b) == 0 {
				break
			}
		}
		c := b[0]
		b = b[1:]
		switch d.state {
		case quotedDigit:
			if lo := unhex(c); lo >= 0 {
				dst = append(dst, byte(unhex(d.hex)<<4|lo))
				d.state = quotedText
				continue
			}
		case quotedEquals, quotedPadding, quotedBreak:
			switch {
			case c == '\n':
				d.state = quotedText
				continue
			case c == '\r':
				d.state = quotedBreak
				continue
			case d.state == quotedBreak:
			case c == ' ' || c == '\t':
				d.state = quotedPadding
				continue
			case d.state == quotedEquals && unhex(c) >= 0:
				d.state, d.hex = quotedDigit, c
				continue
			}
		}
		dst = d.flush(dst)
		if (c == ' ' || c == '\t') && len(d.white) < maxWhite {
			d.white = append(d.white, c)
			continue
		}
		if c != '\r' && c != '\n' {
			dst = append(dst, d.white...)
		}
		d.white = d.white[:0]
		if c == '=' {
			d.state = quotedEquals
		} else {
			dst = append(dst, c)
		}
	}
	if end {
		dst = d.flush(dst)
	}
	return dst
}

// plain is how many octets at the beginning of a text stand for themselves, whatever comes behind them.
func plain(b []byte) (n int) {
	for i, c := range b {
		if c > '=' {
			n = i + 1
			continue
		}
		switch c {
		case '=', '\n', '\r':
			return n
		case ' ', '\t':
		default:
			n = i + 1
		}
	}
	return n
}

// flush appends what was held back and turned out to encode nothing. Of white space one octet is left.
func (d *quotedDecoder) flush(dst []byte) []byte {
	switch d.state {
	case quotedEquals:
		dst = append(dst, '=')
	case quotedDigit:
		dst = append(dst, '=', d.hex)
	case quotedPadding:
		dst = append(dst, '=', ' ')
	}
	d.state = quotedText
	return dst
}
