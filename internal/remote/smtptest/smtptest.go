// Package smtptest is an SMTP and LMTP server for tests that keeps what it gets, and misbehaves when told to: any reply may be exchanged,
// STARTTLS may be broken, and the connection may be cut at any byte in either direction. It reads strictly: a line ends in CRLF only.
package smtptest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Close as a reply closes the connection instead; Silence says nothing and goes on reading.
const (
	Close   = "\x00close"
	Silence = "\x00silence"
)

// Config says how a Server behaves. The zero value is an ordinary SMTP server.
type Config struct {
	LMTP   bool
	Socket string   // listen on this Unix socket and not on a free port of 127.0.0.1
	Offer  []string // keywords in the reply to EHLO and LHLO; nil: PIPELINING, SIZE, 8BITMIME, ENHANCEDSTATUSCODES
	TLS    *tls.Config
	// Reply may give another reply than the usual one: a line without CRLF, or with "\n" in it bytes that are sent as they are.
	// verb is "" for the greeting, upper case for commands, "." for the end of a message by DATA or BDAT LAST (with LMTP once a recipient,
	// who is in args). conn counts connections from 1. It may be called by several connections at a time.
	Reply func(conn int, verb, args string) string
	// Cut the connection after so many bytes read or written; 0: never. Beyond TLS they count bytes in clear.
	CutRead, CutWrite int
	// TLSRaw is called instead of a handshake after the reply to STARTTLS.
	TLSRaw func(net.Conn)
	// Discard keeps no messages.
	Discard bool
	// Took, if not nil, is called with each message before the reply to it, by several connections at a time.
	Took func(Message)
}

// Message is one message for which an end was read, whatever the reply to it.
type Message struct {
	Conn  int
	From  string // "<a@b> SIZE=1"
	Rcpts []string
	Data  []byte // dots unstuffed, line ends as they came
	BDAT  bool
	TLS   bool
}

// Server is a running server. Its methods are safe for concurrent use.
type Server struct {
	Addr netip.AddrPort

	conf Config
	l    net.Listener
	wg   sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool
	count    int
	messages []Message
	commands []string
	bytesIn  int
	bytesOut int
	closed   bool
}

// New starts a server that ends with the test.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server.
func Start(c Config) (*Server, error) {
	s := &Server{conf: c, conns: make(map[net.Conn]bool)}
	var err error
	if c.Socket != "" {
		s.l, err = net.Listen("unix", c.Socket)
	} else if s.l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		s.Addr = s.l.Addr().(*net.TCPAddr).AddrPort()
	}
	if err != nil {
		return nil, fmt.Errorf("smtptest: %w", err)
	}
	s.wg.Go(s.accept)
	return s, nil
}

// Close ends the server and all connections.
func (s *Server) Close() {
	s.l.Close()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.CloseConns()
	s.wg.Wait()
}

// CloseConns ends all connections.
func (s *Server) CloseConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		nc.Close()
	}
}

// SendAll writes text to all connections, unasked.
func (s *Server) SendAll(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		io.WriteString(nc, text)
	}
}

// Messages is what arrived so far.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Commands is every line read so far, "1 EHLO x": the number of the connection goes before it. Message text is not among them.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// Conns is the number of connections accepted.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Open is the number of connections that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Bytes is how many bytes were read and written, in clear, by all connections.
func (s *Server) Bytes() (in, out int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytesIn, s.bytesOut
}

func (s *Server) accept() {
	for {
		nc, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			nc.Close()
			return
		}
		s.conns[nc] = true
		s.count++
		c := &session{s: s, n: s.count, nc: nc, left: s.conf.CutRead, room: s.conf.CutWrite}
		s.mu.Unlock()
		s.wg.Go(func() {
			c.serve()
			nc.Close()
			s.mu.Lock()
			delete(s.conns, nc)
			s.mu.Unlock()
		})
	}
}

// session is one connection.
type session struct {
	s    *Server
	n    int
	nc   net.Conn // TLS after STARTTLS
	in   *bufio.Reader
	tls  bool
	left int // bytes until the cut, if there is one
	room int

	ok    bool // MAIL was accepted
	from  string
	rcpts []string
	data  []byte
}

var errCut = errors.New("cut")

func (c *session) Read(p []byte) (int, error) {
	if c.s.conf.CutRead > 0 {
		if c.left == 0 {
			return 0, errCut
		}
		p = p[:min(len(p), c.left)]
	}
	n, err := c.nc.Read(p)
	c.left -= n
	c.s.mu.Lock()
	c.s.bytesIn += n
	c.s.mu.Unlock()
	return n, err
}

func (c *session) Write(p []byte) (int, error) {
	cut := false
	if c.s.conf.CutWrite > 0 {
		cut = len(p) >= c.room
		p = p[:min(len(p), c.room)]
		c.room -= len(p)
	}
	// Counted first: who has read the reply finds it counted.
	c.s.mu.Lock()
	c.s.bytesOut += len(p)
	c.s.mu.Unlock()
	n, err := c.nc.Write(p)
	if err == nil && cut {
		err = errCut
	}
	return n, err
}

// reply sends the reply for verb, usual if nothing else is wanted, and says which it was by its code's first digit; 0 when the session is to end.
func (c *session) reply(verb, args, usual string) byte {
	r := usual
	if f := c.s.conf.Reply; f != nil {
		if other := f(c.n, verb, args); other != "" {
			r = other
		}
	}
	switch {
	case r == Close:
		return 0
	case r == Silence:
		return '-'
	case !strings.Contains(r, "\n"):
		r += "\r\n"
	}
	if _, err := io.WriteString(c, r); err != nil {
		return 0
	}
	return r[0]
}

func (c *session) line() (string, error) {
	var b []byte
	for {
		part, err := c.in.ReadSlice('\n')
		b = append(b, part...)
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		if bytes.HasSuffix(b, []byte("\r\n")) {
			return string(b[:len(b)-2]), nil
		}
		if len(b) > 1<<20 {
			return "", errors.New("endless line")
		}
	}
}

func (c *session) serve() {
	c.in = bufio.NewReader(c)
	if c.reply("", "", "220 test.example ESMTP") == 0 {
		return
	}
	for {
		l, err := c.line()
		if err != nil {
			return
		}
		c.s.mu.Lock()
		if !c.s.conf.Discard {
			c.s.commands = append(c.s.commands, strconv.Itoa(c.n)+" "+l)
		}
		c.s.mu.Unlock()
		verb, args, _ := strings.Cut(l, " ")
		if !c.command(strings.ToUpper(verb), args) {
			return
		}
	}
}

func (c *session) command(verb, args string) bool {
	usual := "250 2.0.0 ok"
	switch verb {
	case "EHLO", "LHLO":
		c.forget()
		offer := c.s.conf.Offer
		if offer == nil {
			offer = []string{"PIPELINING", "SIZE", "8BITMIME", "ENHANCEDSTATUSCODES"}
		}
		usual = "250-test.example\r\n"
		if verb == "LHLO" != c.s.conf.LMTP {
			usual = "500 5.5.1 wrong protocol\r\n"
			break
		}
		for _, o := range offer {
			usual += "250-" + o + "\r\n"
		}
		usual += "250 HELP\r\n"
	case "HELO", "RSET":
		c.forget()
	case "STARTTLS":
		return c.startTLS(args)
	case "MAIL":
		_, from, _ := strings.Cut(args, ":")
		if c.ok {
			usual = "503 5.5.1 nested MAIL"
		}
		r := c.reply(verb, args, usual)
		if r == '2' {
			c.ok, c.from = true, from
		}
		return r != 0
	case "RCPT":
		_, rcpt, _ := strings.Cut(args, ":")
		if !c.ok {
			usual = "503 5.5.1 no MAIL"
		}
		r := c.reply(verb, args, usual)
		if r == '2' {
			c.rcpts = append(c.rcpts, rcpt)
		}
		return r != 0
	case "DATA":
		usual = "354 go on"
		if len(c.rcpts) == 0 {
			usual = "503 5.5.1 no recipients"
		}
		r := c.reply(verb, args, usual)
		if r != '3' {
			return r != 0
		}
		if err := c.read(); err != nil {
			return false
		}
		return c.end(false)
	case "BDAT":
		size, last, _ := strings.Cut(args, " ")
		n, err := strconv.Atoi(size)
		if err != nil {
			return false
		}
		part := make([]byte, n)
		if _, err := io.ReadFull(c.in, part); err != nil {
			return false
		}
		if len(c.rcpts) == 0 {
			// RFC 2033 section 4.3: LMTP has no reply to the last chunk then.
			return c.s.conf.LMTP || c.reply(verb, args, "503 5.5.1 no recipients") != 0
		}
		c.data = append(c.data, part...)
		if !strings.EqualFold(last, "LAST") {
			return c.reply(verb, args, usual) != 0
		}
		return c.end(true)
	case "QUIT":
		c.reply(verb, args, "221 2.0.0 bye")
		return false
	case "NOOP":
	default:
		usual = "500 5.5.2 what?"
	}
	return c.reply(verb, args, usual) != 0
}

func (c *session) startTLS(args string) bool {
	usual := "220 2.0.0 go on"
	if c.s.conf.TLS == nil && c.s.conf.TLSRaw == nil {
		usual = "502 5.5.1 no TLS"
	}
	r := c.reply("STARTTLS", args, usual)
	if r != '2' {
		return r != 0
	}
	if c.s.conf.TLSRaw != nil {
		c.s.conf.TLSRaw(c.nc)
		return false
	}
	t := tls.Server(c.nc, c.s.conf.TLS)
	if t.Handshake() != nil {
		return false
	}
	c.nc, c.tls = t, true
	c.in = bufio.NewReader(c)
	c.forget()
	return true
}

func (c *session) forget() { c.ok, c.from, c.rcpts, c.data = false, "", nil, nil }

// read reads a message up to CRLF.CRLF. Bare CR and LF are bytes like others.
func (c *session) read() error {
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		if l == "." {
			return nil
		}
		c.data = append(append(c.data, strings.TrimPrefix(l, ".")...), "\r\n"...)
	}
}

// end keeps the message and replies to it.
func (c *session) end(bdat bool) bool {
	m := Message{Conn: c.n, From: c.from, Rcpts: c.rcpts, Data: c.data, BDAT: bdat, TLS: c.tls}
	c.s.mu.Lock()
	if !c.s.conf.Discard {
		c.s.messages = append(c.s.messages, m)
	}
	c.s.mu.Unlock()
	if f := c.s.conf.Took; f != nil {
		f(m)
	}
	c.forget()
	if !c.s.conf.LMTP {
		return c.reply(".", "", "250 2.0.0 taken") != 0
	}
	for _, r := range m.Rcpts {
		if c.reply(".", r, "250 2.1.5 stored") == 0 {
			return false
		}
	}
	return true
}
