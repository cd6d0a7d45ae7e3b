package smtpd

import (
	"bytes"
	"context"
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
	"time"

	"postamt/internal/addr"
	"postamt/internal/login/logintest"
	"postamt/internal/queue"
	"postamt/internal/smtp"
	"postamt/internal/smtpd/smtpdtest"
	"postamt/internal/transcript"
)

// memory is a Queue that keeps its messages in memory: the second of the two that there are.
type memory struct {
	mu       sync.Mutex
	messages []*stored
	open     int   // begun, and neither committed nor aborted
	create   error // what Create, Write and Commit return, if not nil
	write    error
	commit   func() error
}

type stored struct {
	env  queue.Envelope
	body []byte
}

func (m *memory) Create(e *queue.Envelope) (Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.create != nil {
		return nil, m.create
	}
	m.open++
	c := *e
	c.Rcpts = append([]queue.Rcpt(nil), e.Rcpts...)
	return &memoryWriter{m: m, s: &stored{env: c}}, nil
}

type memoryWriter struct {
	m    *memory
	s    *stored
	over bool
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	if w.over {
		panic("write after the end")
	}
	if w.m.write != nil {
		return 0, w.m.write
	}
	w.s.body = append(w.s.body, p...)
	return len(p), nil
}

func (w *memoryWriter) end() {
	if w.over {
		panic("the writer was ended twice")
	}
	w.over = true
	w.m.open--
}

func (w *memoryWriter) CommitIf(keep func() bool) error {
	if w.m.commit != nil {
		if err := w.m.commit(); err != nil {
			w.Abort()
			return err
		}
	}
	if keep != nil && !keep() {
		w.Abort()
		return queue.ErrGivenUp
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.end()
	w.m.messages = append(w.m.messages, w.s)
	return nil
}

func (w *memoryWriter) Abort() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.end()
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.messages)
}

func (m *memory) get(id string) *stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.messages {
		if string(s.env.ID) == id {
			return s
		}
	}
	return nil
}

// world judges the recipients of the transcripts: mx.example with users user, alice and bob, and the alias team.
type world struct{}

func (world) Admit(from, to addr.Mailbox, relay bool) (addr.Mailbox, error) {
	if to.Domain != "mx.example" {
		if relay {
			return addr.Mailbox{}, nil
		}
		return addr.Mailbox{}, smtp.NewReply(550, "5.7.1", "relaying denied")
	}
	local, _, _ := addr.SplitTag(strings.ToLower(to.Local), "+")
	switch local {
	case "user", "alice", "bob":
		return addr.Mailbox{Local: local, Domain: to.Domain}, nil
	case "team", "postmaster":
		return addr.Mailbox{}, nil
	case "broken":
		return addr.Mailbox{}, errors.New("aliases: line 3: no colon")
	}
	return addr.Mailbox{}, smtp.NewReply(550, "5.1.1", "no such user")
}

func testConfig() *Config {
	return &Config{Hostname: "mx.example", SizeLimit: 100_000, RcptLimit: 100, MailLimit: 1000, Hops: 50,
		TimeoutCommand: 10 * time.Second, TimeoutData: 10 * time.Second, TimeoutSession: time.Minute,
		ErrorSoft: 30, ErrorHard: 60, JunkLimit: 100, Recipients: world{}}
}

// sleeper is a clock that does not wait.
type sleeper struct {
	mu    sync.Mutex
	slept time.Duration
}

func (s *sleeper) sleep(_ context.Context, d time.Duration) {
	s.mu.Lock()
	s.slept += d
	s.mu.Unlock()
}

func (s *sleeper) total() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slept
}

// input is a connection whose client said everything at once, in the given pieces, and left.
type input struct {
	pieces [][]byte
	next   func() []byte // when pieces are used up; nil or an empty result: the end
	end    error         // io.EOF if nil
	out    bytes.Buffer
	quiet  bool // keep no output
	closed bool
}

func (c *input) Read(p []byte) (int, error) {
	for {
		if len(c.pieces) == 0 && c.next != nil {
			if b := c.next(); len(b) > 0 {
				c.pieces = [][]byte{b}
			}
		}
		if len(c.pieces) == 0 {
			if c.end != nil {
				return 0, c.end
			}
			return 0, io.EOF
		}
		if n := copy(p, c.pieces[0]); n > 0 {
			if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
				c.pieces = c.pieces[1:]
			}
			return n, nil
		}
		c.pieces = c.pieces[1:]
	}
}

func (c *input) Write(p []byte) (int, error) {
	if !c.quiet {
		c.out.Write(p)
	}
	return len(p), nil
}

func (c *input) Close() error                     { c.closed = true; return nil }
func (c *input) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *input) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *input) SetDeadline(time.Time) error      { return nil }
func (c *input) SetReadDeadline(time.Time) error  { return nil }
func (c *input) SetWriteDeadline(time.Time) error { return nil }

// talk runs a session on what a client sends, and returns the replies and the queue.
func talk(t testing.TB, conf *Config, pieces ...string) (string, *memory) {
	t.Helper()
	return talkTo(t, MX, conf, pieces...)
}

// talkTo is talk with another kind of listener.
func talkTo(t testing.TB, kind string, conf *Config, pieces ...string) (string, *memory) {
	t.Helper()
	c := &input{}
	for _, p := range pieces {
		c.pieces = append(c.pieces, []byte(p))
	}
	m := &memory{}
	serve(t, m, kind, conf, c)
	return c.out.String(), m
}

var testPeer = Peer{IP: netip.MustParseAddr("192.0.2.7"), Port: 4711}

func serve(t testing.TB, m *memory, kind string, conf *Config, c net.Conn) {
	t.Helper()
	s := NewServer(m, conf, 4)
	s.Sleep = (&sleeper{}).sleep
	s.Serve(context.Background(), c, kind, testPeer)
	if m.open != 0 {
		t.Errorf("%d messages are neither committed nor aborted", m.open)
	}
}

var certificate = sync.OnceValue(func() *tls.Config { return logintest.Certificate("mx.example") })

// loopback is a server on a real socket with a memory behind it, for one transcript.
type loopback struct {
	t       testing.TB
	l       net.Listener
	kind    string
	queue   *memory
	clock   *sleeper
	server  *Server
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newLoopback(t testing.TB, kind string, conf *Config, change ...func(*loopback)) *loopback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &loopback{t: t, l: l, kind: kind, queue: &memory{}, clock: &sleeper{}}
	h.server = NewServer(h.queue, conf, 4)
	h.server.Sleep = h.clock.sleep
	for _, f := range change {
		f(h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			peer := Peer{IP: c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()}
			if kind == Local {
				peer = Peer{Login: "tester"}
			}
			h.running.Add(1)
			go func() {
				defer h.running.Done()
				h.server.Serve(ctx, c, kind, peer)
				c.Close()
			}()
		}
	}()
	t.Cleanup(func() { cancel(); l.Close(); h.running.Wait() })
	return h
}

func (h *loopback) Dial(string) (net.Conn, error) { return net.Dial("tcp", h.l.Addr().String()) }

// Check knows the titles of our transcripts.
func (h *loopback) Check(title string, block []string, n transcript.Names) error {
	w := strings.Fields(title)
	if len(w) < 2 {
		return fmt.Errorf("no check %q", title)
	}
	switch {
	case w[0] == "slept":
		d, err := time.ParseDuration(w[1])
		if err != nil {
			return err
		}
		if got := h.clock.total(); got != d {
			return fmt.Errorf("slept %v", got)
		}
		return nil
	case w[0] == "queued" && len(w) == 2:
		want, err := strconv.Atoi(w[1])
		if err != nil {
			return err
		}
		h.settle(want)
		if got := h.queue.count(); got != want {
			return fmt.Errorf("%d messages are queued", got)
		}
		return nil
	}
	m := h.queue.get(strings.TrimSuffix(w[1], ","))
	if m == nil {
		return fmt.Errorf("message %q is not queued", w[1])
	}
	return smtpdtest.Check(w[0], &m.env, m.body, block, n)
}

// settle waits for a session whose client has left: until the queue has as many messages, or nothing is open any more.
func (h *loopback) settle(want int) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		h.queue.mu.Lock()
		done := len(h.queue.messages) >= want && h.queue.open == 0
		h.queue.mu.Unlock()
		if done {
			return
		}
	}
}
