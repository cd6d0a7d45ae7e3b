package smtp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits on replies.
const (
	// RFC 5321 section 4.5.3.1.5: a reply line is at most 512 octets with code and CRLF.
	maxReplyLine = 512
	// What we read and write of one reply. A peer has no reason for more, and the memory is ours.
	maxReplyRead  = 2048
	maxReplyLines = 128
)

// ErrProtocol is in the chain of an error of ReadReply: the peer does not speak SMTP, or no longer.
var ErrProtocol = errors.New("not an SMTP reply")

// Reply is one SMTP reply. It is an error so that a decision can be returned as one.
type Reply struct {
	Code     int          // 200..599
	Enhanced EnhancedCode // zero: none is sent
	Lines    []string     // at least one; no CR, LF; bytes outside the allowed set are replaced when written
}

// EnhancedCode is class, subject and detail of RFC 3463.
type EnhancedCode [3]int

// NewReply makes a reply of one line. enhanced is "5.1.1" or ""; anything else is taken for "".
func NewReply(code int, enhanced string, text string) *Reply {
	e, rest := cutEnhanced(enhanced)
	if rest != "" {
		e = EnhancedCode{}
	}
	return &Reply{code, e, []string{text}}
}

// MailboxFull is the reply at RCPT for a mailbox into which nothing fits now.
func MailboxFull() *Reply { return NewReply(452, "4.2.2", "mailbox full") }

// Error is the reply on one line: "550 5.1.1 no such user".
func (r *Reply) Error() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(r.Code))
	if r.Enhanced != (EnhancedCode{}) {
		b.WriteString(" " + r.Enhanced.String())
	}
	for _, l := range r.Lines {
		b.WriteString(" " + printable(l, true))
	}
	return b.String()
}

// Temporary reports a code of 4yz.
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports a code of 5yz.
func (r *Reply) Permanent() bool { return r.Code/100 == 5 }

// Positive reports a code of 2yz or 3yz.
func (r *Reply) Positive() bool { return r.Code/100 == 2 || r.Code/100 == 3 }

// String is "5.1.1", or "" for the zero value.
func (e EnhancedCode) String() string {
	if e == (EnhancedCode{}) {
		return ""
	}
	return strconv.Itoa(e[0]) + "." + strconv.Itoa(e[1]) + "." + strconv.Itoa(e[2])
}

// ParseEnhanced reads "5.1.1" (RFC 3463 section 2).
func ParseEnhanced(s string) (EnhancedCode, bool) {
	e, rest := cutEnhanced(s)
	return e, rest == "" && e != EnhancedCode{}
}

// cutEnhanced takes an enhanced code from the start of s, and the space after it; zero and s if there is none.
// RFC 3463 section 2: class "." subject "." detail, class 2, 4 or 5, the others 1 to 3 digits.
func cutEnhanced(s string) (EnhancedCode, string) {
	var e EnhancedCode
	rest := s
	for i := range e {
		if i > 0 {
			if !strings.HasPrefix(rest, ".") {
				return EnhancedCode{}, s
			}
			rest = rest[1:]
		}
		n := 0
		for n < len(rest) && n < 3 && '0' <= rest[n] && rest[n] <= '9' {
			e[i] = e[i]*10 + int(rest[n]-'0')
			n++
		}
		if n == 0 || n > 1 && rest[0] == '0' {
			return EnhancedCode{}, s
		}
		rest = rest[n:]
	}
	if e[0] != 2 && e[0] != 4 && e[0] != 5 || rest != "" && rest[0] != ' ' {
		return EnhancedCode{}, s
	}
	return e, strings.TrimPrefix(rest, " ")
}

// WriteReply gathers r for sending. Bytes that RFC 5321 section 4.2 does not allow in a reply are replaced by "?", a text that would make a line of more than 512 octets
// goes on on the next line, and what is beyond 128 lines is left out. A code that is none goes out as 451: the peer must be told something it can read.
func (c *Conn) WriteReply(r *Reply) error {
	code, enhanced := r.Code, r.Enhanced
	if code < 200 || code > 599 {
		code, enhanced = 451, EnhancedCode{4, 3, 0}
	}
	room := maxReplyLine - len("250 \r\n")
	var prefix string
	if enhanced != (EnhancedCode{}) {
		prefix = enhanced.String() + " "
		room -= len(prefix)
	}
	lines := r.Lines
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, written := 0, 0; i < len(lines); i++ {
		for rest := printable(lines[i], false); ; {
			var text string
			text, rest = cutText(rest, room)
			written++
			last := rest == "" && i == len(lines)-1 || written == maxReplyLines
			c.WriteByte('0' + byte(code/100))
			c.WriteByte('0' + byte(code/10%10))
			c.WriteByte('0' + byte(code%10))
			if last {
				c.WriteByte(' ')
			} else {
				c.WriteByte('-')
			}
			// RFC 2034 section 4: the code precedes the text of each line.
			c.WriteString(prefix)
			c.WriteString(text)
			// A failed write is final (lineio), so the last one tells of them all.
			if _, err := c.WriteString("\r\n"); err != nil || last {
				return err
			}
			if rest == "" {
				break
			}
		}
	}
	return nil
}

// cutText takes a line of at most room bytes from s, up to a space if there is one.
func cutText(s string, room int) (line, rest string) {
	if len(s) <= room {
		return s, ""
	}
	if i := strings.LastIndexByte(s[:room+1], ' '); i > room/2 {
		return s[:i], s[i+1:]
	}
	return s[:room], s[room:]
}

// printable is s with what may not stand in a line of text replaced by "?": control characters but for the tab, and bytes of 0x80 or more, of which
// with keepUTF8 only those that are no UTF-8, and the control characters among it.
func printable(s string, keepUTF8 bool) string {
	i := 0
	for i < len(s) && (s[i] >= ' ' && s[i] < 0x7f || s[i] == '\t') {
		i++
	}
	if i == len(s) {
		return s
	}
	b := []byte(s[:i])
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r >= ' ' && r < 0x7f, r == '\t', keepUTF8 && r >= 0xa0 && (r != utf8.RuneError || n > 1):
			b = append(b, s[i:i+n]...)
		default:
			b = append(b, '?')
		}
		i += n
	}
	return string(b)
}

// ReadReply reads a reply. It is bounded: lines of 2,048 bytes, 128 of them; an error with ErrProtocol in its chain on anything that is not RFC 5321 section 4.2, after which the
// connection is of no more use. Control characters in the texts are replaced by "?", and bytes that are not UTF-8. An enhanced code of the same class is taken off the texts.
func (c *Conn) ReadReply() (*Reply, error) {
	r := &Reply{}
	for {
		line, err := c.ReadLine(maxReplyRead)
		if err != nil {
			if errors.Is(err, ErrLineTooLong) || errors.Is(err, ErrBareNewline) || errors.Is(err, ErrNUL) {
				err = fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			return nil, err
		}
		more, why := r.addLine(string(line))
		if why != "" {
			return nil, fmt.Errorf("%w: %s: %.80q", ErrProtocol, why, line)
		}
		if !more {
			return r, nil
		}
		if len(r.Lines) == maxReplyLines {
			return nil, fmt.Errorf("%w: more than %d lines", ErrProtocol, maxReplyLines)
		}
	}
}

// addLine adds one line to r. more: another one follows. why is not "" if the line is wrong.
func (r *Reply) addLine(line string) (more bool, why string) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
		return false, "no reply code"
	}
	code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	first := len(r.Lines) == 0
	if first {
		r.Code = code
	} else if code != r.Code {
		return false, "the code changes within the reply"
	}
	// RFC 5321 section 4.2: a client takes a code without space and text.
	text := line[3:]
	if text != "" {
		if text[0] != ' ' && text[0] != '-' {
			return false, "no space after the code"
		}
		more = text[0] == '-'
		text = text[1:]
	}
	if e, rest := cutEnhanced(text); e[0] == code/100 && (first || e == r.Enhanced) {
		r.Enhanced = e
		text = rest
	}
	r.Lines = append(r.Lines, printable(text, true))
	return more, ""
}
