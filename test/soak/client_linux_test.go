package soak

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// patience is longer than any reply may take; a program that hangs is an error.
const patience = time.Minute

// conn is a connection to smtpd or pop3d. It says what it is told to, and nothing of ours is in it.
type conn struct {
	net.Conn
	r *bufio.Reader
}

// dial connects from that address of loopback, "" for any, under TLS with a configuration.
func dial(addr, from string, conf *tls.Config) (*conn, error) {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	if conf != nil {
		nc = tls.Client(nc, conf)
	}
	return &conn{nc, bufio.NewReader(nc)}, nil
}

// reset closes with RST in the place of FIN, half of the time: what the peer has not read is lost.
func (c *conn) reset() {
	nc := c.Conn
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok && rand.IntN(2) == 0 {
		t.SetLinger(0)
	}
	nc.Close()
}

// reply reads a reply of SMTP, its lines joined.
func (c *conn) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) < 6 || !strings.HasSuffix(line, "\r\n") {
			return "", fmt.Errorf("no SMTP reply: %q", line)
		}
		all.WriteString(line)
		if line[3] == ' ' {
			return all.String(), nil
		}
	}
}

// want says lines, each without its CRLF, whose reply must begin with a code.
func (c *conn) want(code string, lines ...string) error {
	c.SetDeadline(time.Now().Add(patience))
	for _, line := range lines {
		if _, err := io.WriteString(c, line+"\r\n"); err != nil {
			return err
		}
		if err := c.expect(code, line); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) expect(code, after string) error {
	reply, err := c.reply()
	if err != nil {
		return fmt.Errorf("after %.60q: %w", after, err)
	}
	if !strings.HasPrefix(reply, code) {
		return fmt.Errorf("after %.60q: %q, want %s", after, reply, code)
	}
	return nil
}

// startTLS goes on under TLS after the reply to STARTTLS or STLS.
func (c *conn) startTLS(conf *tls.Config) error {
	t := tls.Client(c.Conn, conf)
	c.Conn, c.r = t, bufio.NewReader(t)
	return t.Handshake()
}

// how a sender reaches smtpd.
type how int

const (
	clear      how = iota // the mx listener
	startTLS              // the same, STARTTLS
	submission            // STARTTLS and AUTH
	implicit              // TLS from the start and AUTH
	hows
)

// smtp opens a session of smtpd, with a login of that user where there is one.
func (s *site) smtp(h how, user string) (c *conn, err error) {
	addr, conf := s.Addr, (*tls.Config)(nil)
	switch h {
	case submission:
		addr = s.Submit
	case implicit:
		addr, conf = s.Secure, s.tls
	}
	if c, err = dial(addr, "127.0.1.1", conf); err != nil {
		return nil, err
	}
	if err = c.expect("220", "connecting"); err == nil {
		err = c.want("250", "EHLO client.test")
	}
	if err == nil && (h == startTLS || h == submission) {
		if err = c.want("220", "STARTTLS"); err == nil {
			err = c.startTLS(s.tls)
		}
		if err == nil {
			err = c.want("250", "EHLO client.test")
		}
	}
	if err == nil && (h == submission || h == implicit) {
		err = c.login(user)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// login authenticates; each user's password is the name.
func (c *conn) login(user string) error {
	if rand.IntN(2) == 0 {
		return c.want("235", "AUTH PLAIN "+b64("\x00"+user+"\x00"+user))
	}
	if err := c.want("334", "AUTH LOGIN", b64(user)); err != nil {
		return err
	}
	return c.want("235", b64(user))
}

// stuffed is text as it goes over the wire after DATA, with its end. RFC 5321 section 4.5.2.
func stuffed(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n."), []byte("\r\n.."))
	return append(text, ".\r\n"...)
}

// envelope says MAIL and RCPT.
func (c *conn) envelope(p plan) error {
	if err := c.want("250", "MAIL FROM:<"+p.from+"@example.test>"); err != nil {
		return err
	}
	for _, r := range p.rcpts {
		if err := c.want("250", "RCPT TO:<"+r+">"); err != nil {
			return err
		}
	}
	return nil
}

// send hands in a message, which must be taken.
func (c *conn) send(l *ledger, number int, bdat bool) error {
	text := l.text(number)
	err := c.envelope(l.plan(number))
	switch {
	case err != nil:
		return err
	case bdat:
		half := rand.IntN(len(text))
		fmt.Fprintf(c, "BDAT %d\r\n%s", half, text[:half])
		if err := c.expect("250", "BDAT"); err != nil {
			return err
		}
		l.settle(number, unknown)
		fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(text)-half, text[half:])
	default:
		if err := c.want("354", "DATA"); err != nil {
			return err
		}
		l.settle(number, unknown)
		if _, err := c.Write(stuffed(text)); err != nil {
			return err
		}
	}
	if err := c.expect("250", "the message"); err != nil {
		return err
	}
	l.settle(number, acknowledged)
	return nil
}

// sender sends messages over a session of some kind, and one after the other, until enough were taken.
func (s *site) sender(l *ledger, enough func() bool) {
	for !enough() {
		if s.crowded.Load() {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		number := l.begin()
		h := how(rand.IntN(int(hows)))
		if rand.IntN(3) > 0 { // most of them
			h = clear
		}
		user := l.plan(number).from
		c, err := s.smtp(h, user)
		if err != nil {
			s.t.Errorf("a session for message %d (%d): %v", number, h, err)
			return
		}
		for left := 1 + rand.IntN(12); ; left-- {
			if err := c.send(l, number, rand.IntN(4) == 0); err != nil {
				s.t.Errorf("message %d (%d): %v", number, h, err)
				c.Close()
				return
			}
			// A login may send as itself only.
			if left == 0 || h >= submission || enough() {
				break
			}
			number = l.begin()
		}
		if err := c.want("221", "QUIT"); err != nil {
			s.t.Error(err)
		}
		c.Close()
	}
}
