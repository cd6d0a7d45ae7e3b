package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// A deed is one bad dialogue with smtpd or pop3d. The error is something that ought not to be even so. The rows of the catalogue say
// what the right outcome of each is, and tests of their own ask for it; here all that counts is that nothing stays behind, and
// that no message comes of what was none.
type deed struct {
	name string
	do   func(s *site, l *ledger) error
}

// stranger is an address that has seldom been seen: failed logins cost an address time.
func stranger() string { return fmt.Sprintf("127.66.%d.%d", rand.IntN(256), 1+rand.IntN(254)) }

var deeds = []deed{
	{"S29 cut before the dot", func(s *site, l *ledger) error { return s.cutData(l, false) }},
	{"S29 cut behind the dot", func(s *site, l *ledger) error { return s.cutData(l, true) }},
	{"S29 cut at any byte", (*site).cutAnywhere},
	{"S01 smuggled", (*site).smuggle},
	{"S37 BDAT cut", (*site).cutChunk},
	{"S10 too large", (*site).tooLarge},
	{"S12 too many recipients", (*site).tooMany},
	{"S32 a flood of header fields", (*site).headerFlood},
	{"S06 bare LF in a command", func(s *site, _ *ledger) error {
		return s.say(s.Addr, "EHLO client.test\r\nMAIL FROM:<a@b.test>\nRCPT TO:<u00@example.test>\r\nQUIT\r\n", "\n500 ")
	}},
	{"S08 an endless line", func(s *site, _ *ledger) error { return s.say(s.Addr, strings.Repeat("x", 1<<20), "500 ") }},
	{"S19 S27 junk", func(s *site, _ *ledger) error {
		return s.say(s.Addr, junk("MAIL FROM:<a@b.test>", "RCPT TO:<a@b.test>", "DATA", "RSET", "EHLO x", "HELO", "BDAT x", "BDAT 99999999999999999999", "EXPN x", "WIZ", "AUTH", "MAIL FROM:<",
			"MAIL FROM:<a@b.test> SIZE=-1", "MAIL FROM:<a@b.test> BODY=9BIT", "RCPT TO:<nobody@example.test>", "RCPT TO:<a\x00b@example.test>", "\xff\xfe", "STARTTLS x", "XCLIENT ADDR=1.2.3.4"), "")
	}},
	{"S21 pipelined for nobody", func(s *site, _ *ledger) error {
		return s.say(s.Addr, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\nbody\r\n.\r\nQUIT\r\n", "\n550 ")
	}},
	{"S27 NOOP without an end", func(s *site, _ *ledger) error {
		return s.say(s.Addr, "EHLO x\r\n"+strings.Repeat("NOOP\r\n", 300), "\n421 ")
	}},
	{"S23 slow", func(s *site, _ *ledger) error { return s.slow(s.Addr, "EHLO client.test\r\nMAIL FROM:<a@b.test>\r\n") }},
	{"S23 silent", func(s *site, _ *ledger) error {
		return s.silent(s.Addr, "EHLO client.test\r\nMAIL FROM:<a@b.test>\r\n")
	}},
	{"S29 gone at once", func(s *site, _ *ledger) error { return s.gone(s.Addr, s.Submit, s.Secure, s.pop3, s.pop3s) }},
	{"no login", func(s *site, _ *ledger) error {
		return s.say(s.Submit, "EHLO x\r\nMAIL FROM:<u00@example.test>\r\nQUIT\r\n", "\n530 ")
	}},
	{"A01 no response of PLAIN", func(s *site, _ *ledger) error {
		return s.auth("AUTH PLAIN not!base64", "AUTH PLAIN "+b64("a"), "AUTH PLAIN =", "AUTH NONSENSE", "AUTH PLAIN\r\n*", "AUTH PLAIN\r\n"+strings.Repeat("QUFB", 1<<15))
	}},
	{"A03 a wrong password", func(s *site, _ *ledger) error {
		return s.auth("AUTH PLAIN "+b64(fmt.Sprintf("\x00%s\x00wrong", s.Users[rand.IntN(len(s.Users))])), "AUTH PLAIN "+b64("\x00nobody\x00wrong"), "AUTH LOGIN "+b64("u00")+"\r\n"+b64("wrong"))
	}},
	{"A01 gone in an exchange", func(s *site, _ *ledger) error {
		return s.cutAuth("AUTH LOGIN", "AUTH CRAM-MD5", "AUTH SCRAM-SHA-256", "AUTH PLAIN")
	}},
	{"T01 text behind STARTTLS", func(s *site, _ *ledger) error {
		return s.say(s.Addr, "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\n", "\n501 ")
	}},
	{"T04 STARTTLS and garbage", func(s *site, _ *ledger) error { return s.noHandshake(s.Addr, "EHLO x\r\nSTARTTLS\r\n", false) }},
	{"T04 half a handshake behind STARTTLS", func(s *site, _ *ledger) error { return s.noHandshake(s.Addr, "EHLO x\r\nSTARTTLS\r\n", true) }},
	{"T04 no handshake", func(s *site, _ *ledger) error {
		return s.noHandshake([]string{s.Secure, s.pop3s}[rand.IntN(2)], "", rand.IntN(2) == 0)
	}},
	{"T04 gone under TLS", (*site).cutTLS},
	{"P01 P02 P08 junk", func(s *site, _ *ledger) error {
		return s.say(s.pop3, junk("RETR 1", "LIST -1", "TOP 1 1", "CAPA", "USER", "PASS", "USER ../x", "USER a\x00b", "APOP a b", "STLS x", "\xff\xfe", "AUTH", "AUTH X", "UIDL", "NOOP", "STAT"), "")
	}},
	{"P08 an endless line", func(s *site, _ *ledger) error { return s.say(s.pop3, strings.Repeat("x", 1<<20), "-ERR") }},
	{"P09 a wrong password", func(s *site, _ *ledger) error {
		return s.sayFrom(stranger(), s.pop3, fmt.Sprintf("USER %s\r\nPASS wrong\r\nQUIT\r\n", s.Users[rand.IntN(len(s.Users))]), "-ERR [AUTH]")
	}},
	{"P10 text behind STLS", func(s *site, _ *ledger) error { return s.say(s.pop3, "STLS\r\nUSER u00\r\nPASS u00\r\n", "-ERR") }},
	{"T04 STLS and garbage", func(s *site, _ *ledger) error { return s.noHandshake(s.pop3, "STLS\r\n", rand.IntN(2) == 0) }},
	{"P08 slow", func(s *site, _ *ledger) error { return s.slow(s.pop3, "CAPA\r\nUSER u00\r\nUSER u01\r\n") }},
	{"P08 silent", func(s *site, _ *ledger) error { return s.silent(s.pop3, "USER u00\r\n") }},
}

// vandal does one thing after the other until the others are done, and counts what it did.
func (s *site) vandal(l *ledger, done func(name string)) {
	for {
		for _, i := range rand.Perm(len(deeds)) {
			if s.working.Err() != nil {
				return
			}
			if err := deeds[i].do(s, l); err != nil {
				s.t.Errorf("%s: %v", deeds[i].name, err)
			}
			done(deeds[i].name)
		}
	}
}

// junk is 40 of these lines, some with other line ends.
func junk(lines ...string) string {
	var b strings.Builder
	for range 40 {
		b.WriteString(lines[rand.IntN(len(lines))])
		b.WriteString([]string{"\r\n", "\r\n", "\r\n", "\n", "\r\r\n"}[rand.IntN(5)])
	}
	return b.String()
}

// say writes all of text, whether replies come or not, and reads until the server closes or is told that nothing follows. In what it says must be want.
func (s *site) say(addr, text, want string) error { return s.sayFrom("", addr, text, want) }

func (s *site) sayFrom(from, addr, text, want string) error {
	c, err := dial(addr, from, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	heard := make(chan string)
	go func() {
		b, _ := io.ReadAll(c.r)
		heard <- string(b)
	}()
	if _, err := io.WriteString(c, text); err == nil {
		c.Conn.(*net.TCPConn).CloseWrite()
	}
	select {
	case all := <-heard:
		// What was said may be lost by the reset of who closes with our text unread.
		if len(text) < 4000 && !strings.Contains("\n"+all, want) {
			return fmt.Errorf("no %q in %.300q", want, all)
		}
	case <-time.After(patience):
		c.Close()
		return fmt.Errorf("it does not end: %.300q", <-heard)
	}
	return nil
}

// cutData is gone at some byte of a message, or without having read the reply to it.
func (s *site) cutData(l *ledger, whole bool) error {
	number := l.begin()
	c, err := s.smtp(how(rand.IntN(int(submission))), "")
	if err != nil {
		return err
	}
	defer c.reset()
	if err := c.envelope(l.plan(number)); err != nil {
		return err
	}
	if err := c.want("354", "DATA"); err != nil {
		return err
	}
	text := stuffed(l.text(number))
	if whole {
		l.settle(number, unknown)
	} else {
		text = text[:rand.IntN(len(text)-2)] // not even with the dot
	}
	c.Write(text)
	return nil
}

// cutAnywhere says a whole session at once, and is gone at some byte of it.
func (s *site) cutAnywhere(l *ledger) error {
	number := l.begin()
	p := l.plan(number)
	var b bytes.Buffer
	fmt.Fprintf(&b, "EHLO client.test\r\nMAIL FROM:<%s@example.test>\r\n", p.from)
	for _, r := range p.rcpts {
		fmt.Fprintf(&b, "RCPT TO:<%s>\r\n", r)
	}
	b.WriteString("DATA\r\n")
	b.Write(stuffed(l.text(number)))
	cut := rand.IntN(b.Len() + 1)
	if cut == b.Len() {
		l.settle(number, unknown)
	}
	c, err := dial(s.Addr, "", nil)
	if err != nil {
		return err
	}
	c.Write(b.Bytes()[:cut])
	c.reset()
	return nil
}

// smuggle hides a message in another by line ends that are none: neither may come.
func (s *site) smuggle(l *ledger) error {
	outer, inner := l.begin(), l.begin()
	end := []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\n.\r"}[rand.IntN(6)]
	c, err := s.smtp(clear, "")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.envelope(l.plan(outer)); err != nil {
		return err
	}
	if err := c.want("354", "DATA"); err != nil {
		return err
	}
	text := l.text(outer)
	text = append(text[:len(text)-2:len(text)-2], end...)
	p := l.plan(inner)
	text = fmt.Appendf(text, "MAIL FROM:<%s@example.test>\r\nRCPT TO:<%s>\r\nDATA\r\n%s", p.from, p.rcpts[0], stuffed(l.text(inner)))
	c.Write(text)
	reply, err := c.reply()
	if err == nil && !strings.HasPrefix(reply, "5") {
		return fmt.Errorf("%q for %q", reply, end)
	}
	l.settle(outer, refused)
	return nil
}

// cutChunk is gone in a BDAT, or between two of them.
func (s *site) cutChunk(l *ledger) error {
	number := l.begin()
	c, err := s.smtp(clear, "")
	if err != nil {
		return err
	}
	defer c.reset()
	if err := c.envelope(l.plan(number)); err != nil {
		return err
	}
	text := l.text(number)
	half := 1 + rand.IntN(len(text)-1)
	if rand.IntN(2) == 0 {
		fmt.Fprintf(c, "BDAT %d\r\n%s", half, text[:half])
		return c.expect("250", "BDAT")
	}
	fmt.Fprintf(c, "BDAT %d LAST\r\n%s", len(text), text[:half])
	return nil
}

// tooLarge sends more than message_size_limit, announced or not.
func (s *site) tooLarge(l *ledger) error {
	number := l.begin()
	c, err := s.smtp(how(rand.IntN(int(submission))), "")
	if err != nil {
		return err
	}
	defer c.Close()
	if rand.IntN(2) == 0 {
		return c.want("552", fmt.Sprintf("MAIL FROM:<a@b.test> SIZE=%d", sizeLimit+1))
	}
	if err := c.envelope(l.plan(number)); err != nil {
		return err
	}
	if err := c.want("354", "DATA"); err != nil {
		return err
	}
	text := append(l.text(number), bytes.Repeat([]byte(strings.Repeat("x", 70)+"\r\n"), sizeLimit/72+1)...)
	c.Write(stuffed(text))
	l.settle(number, refused)
	return c.expect("552", "too much")
}

// tooMany names more recipients than recipient_limit.
func (s *site) tooMany(*ledger) error {
	c, err := s.smtp(clear, "")
	if err != nil {
		return err
	}
	defer c.reset()
	if err := c.want("250", "MAIL FROM:<a@b.test>"); err != nil {
		return err
	}
	for i := range rcptLimit + 20 {
		code := "250"
		if i >= rcptLimit {
			code = "452"
		}
		if err := c.want(code, fmt.Sprintf("RCPT TO:<x%d@sink.test>", i)); err != nil {
			if i > rcptLimit { // too many errors
				return nil
			}
			return err
		}
	}
	return nil
}

// headerFlood has some thousands of fields before those of the message. A report about it would not have the field that names it.
func (s *site) headerFlood(l *ledger) error {
	number := l.begin()
	for l.plan(number).report {
		number = l.begin()
	}
	c, err := s.smtp(clear, "")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.envelope(l.plan(number)); err != nil {
		return err
	}
	if err := c.want("354", "DATA"); err != nil {
		return err
	}
	l.settle(number, unknown)
	text := append(bytes.Repeat([]byte("X-Flood: x\r\n"), 2000+rand.IntN(20_000)), l.text(number)...)
	c.Write(stuffed(text))
	reply, err := c.reply()
	if err != nil {
		return err
	}
	f := refused
	if strings.HasPrefix(reply, "250") {
		f = acknowledged
	}
	l.settle(number, f)
	return nil
}

// slow says a byte now and then, and is gone before it is done.
func (s *site) slow(addr, text string) error {
	c, err := dial(addr, "", nil)
	if err != nil {
		return err
	}
	defer c.reset()
	for i := range rand.IntN(len(text)) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return err
		}
		s.pause(50 * time.Millisecond)
	}
	return nil
}

// silent says no more, until the server does not want to wait any longer. Seldom: it takes long.
func (s *site) silent(addr, text string) error {
	c, err := dial(addr, "", nil)
	if err != nil {
		return err
	}
	defer c.reset()
	io.WriteString(c, text)
	if rand.IntN(8) > 0 {
		s.pause(time.Duration(rand.IntN(1000)) * time.Millisecond)
		return nil
	}
	defer context.AfterFunc(s.working, func() { c.Close() })()
	if _, err = io.Copy(io.Discard, c.r); s.working.Err() != nil {
		return nil
	}
	return err
}

// pause is for somebody slow; when the work is over nobody is.
func (s *site) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.working.Done():
	}
}

// gone connects and is away.
func (s *site) gone(addrs ...string) error {
	for _, addr := range addrs {
		c, err := dial(addr, "", nil)
		if err != nil {
			return err
		}
		c.reset()
	}
	return nil
}

// auth tries one way to log in, under TLS from an address of its own, which must not succeed.
func (s *site) auth(lines ...string) error {
	c, err := dial(s.Secure, stranger(), s.tls)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.expect("220", "connecting"); err != nil {
		return err
	}
	if err := c.want("250", "EHLO x"); err != nil {
		return err
	}
	line := lines[rand.IntN(len(lines))]
	go io.WriteString(c, line+"\r\n") // it may not want all of it
	for {
		reply, err := c.reply()
		if err != nil {
			return fmt.Errorf("%.40q: %w", line, err)
		}
		if strings.HasPrefix(reply, "5") {
			return nil
		}
		if !strings.HasPrefix(reply, "334") {
			return fmt.Errorf("%.40q: %q", line, reply)
		}
	}
}

// cutAuth is gone in the middle of an exchange.
func (s *site) cutAuth(lines ...string) error {
	c, err := dial(s.Submit, stranger(), nil)
	if err != nil {
		return err
	}
	defer c.reset()
	if err := c.expect("220", "connecting"); err != nil {
		return err
	}
	if err := c.want("250", "EHLO x"); err != nil {
		return err
	}
	if err := c.want("334", lines[rand.IntN(len(lines))]); err != nil {
		return err
	}
	io.WriteString(c, b64("u00")[:rand.IntN(4)])
	return nil
}

// hello is the beginning of a handshake: the record that Go's client would send.
func (s *site) hello() []byte {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Client(a, s.tls).Handshake()
	var head [5]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		return nil
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[3:]))
	io.ReadFull(b, rest)
	return append(head[:], rest...)
}

// noHandshake says something after which TLS begins, and then what is none, or half of one, or all but the end.
func (s *site) noHandshake(addr, before string, half bool) error {
	c, err := dial(addr, "", nil)
	if err != nil {
		return err
	}
	defer c.reset()
	for line := range strings.Lines(before) {
		if _, err := io.WriteString(c, line); err != nil {
			return err
		}
	}
	for before != "" { // what is said too early would be text behind STARTTLS
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "220 2") || strings.HasPrefix(line, "+OK ready") {
			break
		}
	}
	if !half {
		c.Write([][]byte{[]byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 5000), bytes.Repeat([]byte{22, 3, 1, 0, 0}, 100), bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 1000)}[rand.IntN(4)])
		io.Copy(io.Discard, c.r)
		return nil
	}
	h := s.hello()
	c.Write(h[:len(h)/2+rand.IntN(len(h)/2+1)])
	s.pause(time.Duration(rand.IntN(500)) * time.Millisecond)
	return nil
}

// cutTLS shakes hands and is gone, or says what is no record.
func (s *site) cutTLS(*ledger) error {
	for _, addr := range []string{s.Secure, s.pop3s} {
		c, err := dial(addr, "", s.tls)
		if err != nil {
			return err
		}
		if _, err := c.r.ReadString('\n'); err != nil {
			c.Close()
			return fmt.Errorf("%s: %w", addr, err)
		}
		if rand.IntN(2) == 0 {
			io.WriteString(c, "EHLO x\r\nCAPA\r\n")
		}
		if rand.IntN(2) == 0 {
			c.Conn.(*tls.Conn).NetConn().Write([]byte("no record at all"))
		}
		c.reset()
	}
	return nil
}
