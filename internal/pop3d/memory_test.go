package pop3d

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/login"
	"postamt/internal/login/logintest"
	"postamt/internal/monitor"
	"postamt/internal/pop3"
	"postamt/internal/transcript"
)

// box is a user's messages, of which sessions have maildrops.
type box struct {
	mu       sync.Mutex
	messages []string // "" is gone
	locked   bool
	opened   int
	closed   int
	mistaken []int
	remove   error // what Remove returns, after it removed half
	failOpen error
	size     func(i int) (int64, error)   // nil: the true one
	read     func(i int) (Message, error) // nil: the message
}

// open is the open of Serve.
func (b *box) open(context.Context) (Maildrop, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failOpen != nil:
		return nil, b.failOpen
	case b.locked:
		return nil, fmt.Errorf("open: %w", ErrInUse)
	}
	b.locked = true
	b.opened++
	d := &maildrop{b: b, removed: make(map[int]bool)}
	for i, m := range b.messages {
		if m != "" {
			d.at = append(d.at, i)
		}
	}
	return d, nil
}

// left is how many messages there are.
func (b *box) left() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if m != "" {
			n++
		}
	}
	return n
}

// maildrop is a Maildrop in memory: the second of the two that there are.
type maildrop struct {
	b       *box
	at      []int // places in b.messages
	removed map[int]bool
	over    bool
}

func (d *maildrop) Len() int { return len(d.at) }

func (d *maildrop) Size(i int) (int64, error) {
	if d.b.size != nil {
		return d.b.size(i)
	}
	m := d.b.messages[d.at[i]]
	return int64(len(m) + strings.Count(m, "\n") - strings.Count(m, "\r\n")), nil
}

func (d *maildrop) UIDL(i int) string { return fmt.Sprintf("uid%05d", d.at[i]+1) }

func (d *maildrop) Open(i int) (Message, error) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.over {
		panic("open after the end")
	}
	if d.b.read != nil {
		return d.b.read(i)
	}
	m := d.b.messages[d.at[i]]
	if m == "" {
		return nil, &fs.PathError{Op: "open", Path: "cur/x", Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(m)), nil
}

func (d *maildrop) Mistaken(i int) {
	d.b.mu.Lock()
	d.b.mistaken = append(d.b.mistaken, i)
	d.b.mu.Unlock()
}

func (d *maildrop) Remove(ctx context.Context, list []int) ([]int, error) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.over || ctx.Err() != nil || !slices.IsSorted(list) || len(list) == 0 {
		panic("remove")
	}
	for k, i := range list {
		if d.b.remove != nil && k >= len(list)/2 {
			return list[k:], d.b.remove
		}
		d.b.messages[d.at[i]] = ""
	}
	return nil, nil
}

func (d *maildrop) Close() error {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if d.over {
		panic("closed twice")
	}
	d.over, d.b.locked = true, false
	d.b.closed++
	return nil
}

// accounts can APOP too.
type accounts struct {
	logintest.Accounts
	apop  bool
	mu    sync.Mutex
	apops int // logins with APOP
}

func (a *accounts) Timestamp(host string) string {
	if !a.apop {
		return ""
	}
	return "<1896.697170952@" + host + ">"
}

func (a *accounts) APOP(_ context.Context, _ login.Request, timestamp, name string, digest [16]byte) (login.User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := logintest.Passwords[name]; ok && digest == md5.Sum([]byte(timestamp+p)) {
		a.apops++
		return login.User{Name: name}, nil
	}
	return login.User{}, login.ErrCredentials
}

func testConfig() *Config {
	return &Config{Hostname: "pop.example", TimeoutLogin: time.Minute, TimeoutIdle: time.Minute, ErrorLimit: 20, Auth: &accounts{},
		Gate: login.Gate{AuthInClear: func(netip.Addr) bool { return true }}}
}

var testPeer = login.Peer{IP: netip.MustParseAddr("192.0.2.7"), Port: 4711}

var certificate = sync.OnceValue(func() *tls.Config { return logintest.Certificate("pop.example") })

// loopback is a server on a real socket with boxes behind it, for one transcript. split: the halves speak over a socket, as two processes do.
type loopback struct {
	t       testing.TB
	l       net.Listener
	kind    string
	split   bool
	server  *Server
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	boxes map[string]*box
}

func newLoopback(t testing.TB, kind string, conf *Config, messages ...string) *loopback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &loopback{t: t, l: l, kind: kind, server: NewServer(conf), boxes: map[string]*box{"alice": {messages: messages}}}
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
	t.Cleanup(func() { h.cancel(); l.Close(); h.running.Wait() })
	return h
}

func (h *loopback) box(user string) *box {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boxes[user]
	if b == nil {
		b = &box{}
		h.boxes[user] = b
	}
	return b
}

// give makes a box alice's.
func (h *loopback) give(b *box) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boxes["alice"] = b
}

func (h *loopback) serve(c net.Conn) {
	l := h.server.Authorize(h.ctx, c, h.kind, testPeer)
	if l == nil {
		return
	}
	b := h.box(l.User)
	if !h.split {
		h.server.Serve(h.ctx, l.Conn, b.open, l.Note)
		return
	}
	note, err := ParseNote(l.Note.String(), l.User)
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
		h.server.Serve(h.ctx, pop3.NewConn(theirs), b.open, note)
	})
	monitor.Pump(l.Conn.Net(), ours, ahead)
	both.Wait()
}

func (h *loopback) Dial(string) (net.Conn, error) { return net.Dial("tcp", h.l.Addr().String()) }

// Check: "left N", of alice's messages; "free", her maildrop has no session.
func (h *loopback) Check(title string, block []string, n transcript.Names) error {
	b := h.box("alice")
	switch w := strings.Fields(title); {
	case w[0] == "left" && len(w) == 2:
		if got := fmt.Sprint(b.left()); got != w[1] {
			return fmt.Errorf("%s messages are left", got)
		}
	case w[0] == "free":
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			b.mu.Lock()
			locked := b.locked
			b.mu.Unlock()
			if !locked {
				return nil
			}
		}
		return errors.New("the maildrop is locked")
	default:
		return fmt.Errorf("no check %q", title)
	}
	return nil
}

// talk runs both halves on what a client sends, in the given pieces, and returns what he is sent.
func talk(t testing.TB, conf *Config, b *box, pieces ...string) string {
	t.Helper()
	return talkTo(t, NewServer(conf), b, pieces...)
}

func talkTo(t testing.TB, s *Server, b *box, pieces ...string) string {
	t.Helper()
	c := &input{}
	for _, p := range pieces {
		c.pieces = append(c.pieces, []byte(p))
	}
	if l := s.Authorize(context.Background(), c, POP3, testPeer); l != nil {
		s.Serve(context.Background(), l.Conn, b.open, l.Note)
	}
	if b.locked || b.opened != b.closed {
		t.Errorf("locked: %v, opened %d, closed %d", b.locked, b.opened, b.closed)
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

const enter = "USER alice\r\nPASS secret\r\n"
