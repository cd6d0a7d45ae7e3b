package imapd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/login"
	"postamt/internal/login/logintest"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
	"postamt/internal/monitor"
	"postamt/internal/transcript"
)

func testConfig() *Config {
	return &Config{Hostname: "imap.example", TimeoutLogin: time.Minute, TimeoutIdle: time.Minute, ErrorLimit: 20, MessageLimit: 1 << 20, Auth: &logintest.Accounts{},
		Gate: login.Gate{AuthInClear: func(netip.Addr) bool { return true }}}
}

var testPeer = login.Peer{IP: netip.MustParseAddr("192.0.2.7"), Port: 4711}

var certificate = sync.OnceValue(func() *tls.Config { return logintest.Certificate("imap.example") })

// loopback is a server on a real socket, for one transcript. split: the halves speak over a socket, as two processes do.
type loopback struct {
	t       testing.TB
	l       net.Listener
	kind    string
	split   bool
	login   bool // who dials has logged in
	quota   maildir.Quota
	server  *Server
	open    func(context.Context) (*mailbox.Account, error)
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newLoopback(t testing.TB, kind string, conf *Config) *loopback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &loopback{t: t, l: l, kind: kind, server: NewServer(conf), open: newOpen(t)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.running.Go(func() {
				defer c.Close()
				h.serve(c)
			})
		}
	})
	t.Cleanup(h.end)
	return h
}

func (h *loopback) end() { h.cancel(); h.l.Close(); h.running.Wait() }

// newOpen is how anybody's mailboxes are opened: those of a maildir of the test.
func newOpen(t testing.TB) func(context.Context) (*mailbox.Account, error) {
	return openAt(t, filepath.Join(t.TempDir(), "Maildir"))
}

func openAt(t testing.TB, path string) func(context.Context) (*mailbox.Account, error) {
	var d facts.Describer
	all := mailbox.NewAccounts(nil, mailbox.Options{Describe: d.Describe, Form: facts.Form, Columns: facts.Columns, Column: facts.AppendColumn, Report: func(err error) { t.Log(err) }})
	t.Cleanup(all.End)
	return func(context.Context) (*mailbox.Account, error) { return all.Open(path) }
}

func (h *loopback) serve(c net.Conn) {
	l := h.server.Authorize(h.ctx, c, h.kind, testPeer)
	if l == nil {
		return
	}
	if !h.split {
		for l != nil && h.server.Serve(h.ctx, l.Conn, h.openUser, l.Note) {
			l = l.Again(h.ctx)
		}
		return
	}
	note, err := ParseNote(l.Note.String(), l.User)
	l.Note.Again = false
	if err != nil || note != l.Note {
		h.t.Errorf("%q is %+v, %v", l.Note, note, err)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		h.t.Error(err)
		return
	}
	ahead := l.Conn.Take()
	var both sync.WaitGroup
	both.Go(func() {
		defer theirs.Close()
		h.server.Serve(h.ctx, imap.NewConn(theirs), h.openUser, note)
	})
	monitor.Pump(l.Conn.Net(), ours, ahead)
	both.Wait()
}

func (h *loopback) Dial(string) (net.Conn, error) {
	c, err := net.Dial("tcp", h.l.Addr().String())
	if err != nil || !h.login {
		return c, err
	}
	io.WriteString(c, "login LOGIN alice secret\r\n")
	for b := make([]byte, 1); ; {
		var line []byte
		for !bytes.HasSuffix(line, crlf) {
			if _, err := c.Read(b); err != nil {
				return nil, err
			}
			line = append(line, b[0])
		}
		switch {
		case bytes.HasPrefix(line, []byte("login OK ")):
			return c, nil
		case !bytes.HasPrefix(line, []byte("* ")):
			return nil, fmt.Errorf("login: %q", line)
		}
	}
}

// fill appends messages to INBOX, which differ in their numbers.
func (h *loopback) fill(n int) {
	if n == 0 {
		return
	}
	a, err := h.open(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	defer a.Close()
	b, err := a.Open("INBOX")
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	for i := range n {
		text := fmt.Sprintf("From: Fred Foobar <foobar@example.com>\r\nSubject: afternoon meeting %d\r\nMessage-ID: <%d@example.com>\r\n\r\nHello %d\r\n", i+1, i+1, i+1)
		if _, err := b.Append(h.ctx, strings.NewReader(text), 0, nil, time.Date(1994, 2, 7, 21, 52, 25+i, 0, time.FixedZone("", -8*3600))); err != nil {
			h.t.Fatal(err)
		}
	}
}
func (h *loopback) openUser(ctx context.Context) (*mailbox.Account, error) {
	a, err := h.open(ctx)
	if err == nil {
		a.SetQuota(h.quota)
	}
	return a, err
}

// Check: "left USER", he has no session.
func (h *loopback) Check(title string, block []string, n transcript.Names) error {
	user, ok := strings.CutPrefix(title, "left ")
	if !ok {
		return fmt.Errorf("no check %q", title)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if h.server.users.enter(user, 1) {
			h.server.users.leave(user)
			return nil
		}
	}
	return errors.New("he has a session")
}

// talk runs both halves on what a client sends, in the given pieces, and returns what he is sent.
func talk(t testing.TB, conf *Config, pieces ...string) string {
	return talkTo(t, NewServer(conf), pieces...)
}

func talkTo(t testing.TB, s *Server, pieces ...string) string {
	t.Helper()
	c := &input{}
	for _, p := range pieces {
		c.pieces = append(c.pieces, []byte(p))
	}
	if l := s.Authorize(context.Background(), c, IMAP, testPeer); l != nil {
		s.Serve(context.Background(), l.Conn, newOpen(t), l.Note)
	}
	return c.out.String()
}

// input is a connection whose client said everything at once, in the given pieces, and left.
type input struct {
	pieces [][]byte
	out    bytes.Buffer
}

func (c *input) Read(p []byte) (int, error) {
	for len(c.pieces) > 0 {
		if n := copy(p, c.pieces[0]); n > 0 {
			c.pieces[0] = c.pieces[0][n:]
			return n, nil
		}
		c.pieces = c.pieces[1:]
	}
	return 0, io.EOF
}

func (c *input) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *input) Close() error                     { return nil }
func (c *input) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *input) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *input) SetDeadline(time.Time) error      { return nil }
func (c *input) SetReadDeadline(time.Time) error  { return nil }
func (c *input) SetWriteDeadline(time.Time) error { return nil }

func socketpair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var c [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		var e error
		if c[i], e = net.FileConn(f); e != nil {
			err = e
		}
		f.Close()
	}
	return c[0], c[1], err
}
