package pop3

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Response is the first line of a response. It is an error so that a decision can be returned as one.
type Response struct {
	OK   bool
	Code string // a response code without its brackets, "" for none
	Text string // does not begin with "["
}

// The response codes (RFC 2449 section 8.1, RFC 3206).
const (
	InUse      = "IN-USE"      // the login was right, the maildrop has another session
	LoginDelay = "LOGIN-DELAY" // the login was right, and too soon after the last one
	Auth       = "AUTH"        // the credentials are the trouble
	SysTemp    = "SYS/TEMP"    // we are, and it may pass
	SysPerm    = "SYS/PERM"    // we are, and somebody must see to it
)

// OK makes a positive response.
func OK(text string) *Response { return &Response{OK: true, Text: text} }

// Err makes a negative response; code is one of the constants, or "".
func Err(code, text string) *Response { return &Response{Code: code, Text: text} }

// Error is the line of the response.
func (r *Response) Error() string {
	s := "-ERR"
	if r.OK {
		s = "+OK"
	}
	if r.Code != "" {
		s += " [" + r.Code + "]"
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	return clean(s)
}

// clean keeps a line within what a line may be, whatever a text was made of.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
		s = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return '?'
			}
			return r
		}, s)
	}
	if len(s) > MaxResponse-len("\r\n") {
		s = s[:MaxResponse-len("\r\n")]
	}
	return s
}

// WriteResponse sends r, together with what else is gathered.
func (c *Conn) WriteResponse(r *Response) error { return c.WriteLine(r.Error()) }

// WriteLine sends one line of a multi-line response that is none of a message: it does not begin with a dot.
func (c *Conn) WriteLine(s string) error {
	c.WriteString(clean(s))
	_, err := c.WriteString("\r\n") // a failed write is final (lineio), so this tells of both
	return err
}

// End ends a multi-line response.
func (c *Conn) End() error {
	_, err := c.WriteString(".\r\n")
	return err
}

// WriteSize sends a line "n size" of a listing: a scan listing. It allocates nothing.
func (c *Conn) WriteSize(n int, size int64) error {
	b := append(strconv.AppendInt(c.digits[:0], int64(n), 10), ' ')
	b = append(strconv.AppendInt(b, size, 10), "\r\n"...)
	_, err := c.Write(b)
	return err
}

// WriteUIDL sends a line of a unique-id listing.
func (c *Conn) WriteUIDL(n int, id string) error {
	c.Write(append(strconv.AppendInt(c.digits[:0], int64(n), 10), ' '))
	c.WriteString(id)
	_, err := c.WriteString("\r\n")
	return err
}

// WriteChallenge sends a challenge of a SASL exchange (RFC 5034 section 4): "+", a space, even before nothing, and base64.
func (c *Conn) WriteChallenge(challenge []byte) error {
	c.WriteString("+ ")
	c.WriteString(base64.StdEncoding.EncodeToString(challenge))
	_, err := c.WriteString("\r\n")
	return err
}
