package authwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Both clients keep links: connections on which many requests are under way, told apart by their ids.

// greeting is what a server says of itself.
type greeting struct {
	mechanisms []Mechanism // client socket
	pid        uint32      // SPID
	connection uint32      // CUID, client socket
	cookie     string      // client socket
}

// link is one connection to a server, after its handshake.
type link struct {
	w     *lineWriter
	hello greeting
	done  chan struct{} // closed when the connection is over
	err   error         // why; read after done

	mu    sync.Mutex
	calls map[uint32]*call
	last  uint32
	idle  *time.Timer // runs while there are no calls
}

// idleLimit closes a link on which nothing is under way. A program that reloads its configuration makes a new client and forgets the
// old one, whose sessions may still begin something: so nobody can say when it is to be closed, but the link itself. To make another costs little.
const idleLimit = time.Minute

// call is one request on a link.
type call struct {
	link    *link
	id      uint32
	replies chan message
}

// message is a line from the server that belongs to a call.
type message struct {
	verb  string
	words [][]byte // behind the id
}

// A call has at most one reply outstanding; a server that sends this many more than were asked for is out of order.
const unasked = 4

// newLink starts to read. The handshake was read from lines.
func newLink(w *lineWriter, lines *lineReader, hello greeting) *link {
	l := &link{w: w, hello: hello, done: make(chan struct{}), calls: make(map[uint32]*call)}
	l.idle = time.AfterFunc(idleLimit, l.rest)
	go l.read(lines)
	return l
}

func (l *link) read(lines *lineReader) {
	var err error
	for err == nil {
		var line []byte
		if line, err = lines.next(); err == nil {
			err = l.deliver(append([]byte(nil), line...))
		}
	}
	if err == io.EOF {
		err = errors.New("connection closed by the server")
	}
	l.w.c.Close()
	l.err = err
	close(l.done)
}

// rest ends a link that nobody uses.
func (l *link) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 { // a call may have begun at the same moment
		l.w.c.Close()
	}
}

// deliver hands a line to its call. A line for a call that was given up is dropped.
func (l *link) deliver(line []byte) error {
	w := words(line)
	if len(w) < 2 {
		return fmt.Errorf("reply without an id: %w", errProtocol)
	}
	id, ok := parseID(w[1])
	if !ok {
		return fmt.Errorf("reply without an id: %w", errProtocol)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[id]
	if c == nil {
		return nil
	}
	select {
	case c.replies <- message{string(w[0]), w[2:]}:
		return nil
	default:
		return fmt.Errorf("replies nobody asked for: %w", errProtocol)
	}
}

// call enters a new request. Ids are not used twice on a link, so that a late reply to one that was given up meets nobody.
func (l *link) call() *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.last++; l.last == 0 || l.calls[l.last] != nil; l.last++ {
	}
	c := &call{link: l, id: l.last, replies: make(chan message, 1+unasked)}
	l.calls[c.id] = c
	l.idle.Stop()
	return c
}

// drop forgets the request; the server is not told.
func (c *call) drop() {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if delete(c.link.calls, c.id); len(c.link.calls) == 0 {
		c.link.idle.Reset(idleLimit)
	}
}

// await returns the next reply. When the link is over, what was received before still counts.
func (c *call) await(ctx context.Context, limit time.Duration) (message, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case m := <-c.replies:
		return m, nil
	case <-c.link.done:
		select {
		case m := <-c.replies:
			return m, nil
		default:
			return message{}, c.link.err
		}
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	case <-timer.C:
		return message{}, fmt.Errorf("no reply in %v", limit)
	}
}

func (l *link) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// links are the connections of a client, made when they are needed.
type links struct {
	dial      func(ctx context.Context) (net.Conn, error)
	handshake func(w *lineWriter, lines *lineReader) (greeting, error)
	limit     time.Duration // for dial and handshake together
	n         int
	turn      atomic.Uint32

	mu     sync.Mutex
	slots  []slot
	closed bool
}

// slot holds a link, or the attempt to make one that all who need it wait for.
type slot struct {
	link    *link
	attempt *attempt
}

type attempt struct {
	done chan struct{}
	link *link // after done
	err  error
}

var errClosed = errors.New("client closed")

// get returns a link, and whether it was there before. The attempt to make one does not end with the ctx of the caller who began it: others may wait for it, too.
func (p *links) get(ctx context.Context) (l *link, used bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, errClosed
	}
	if p.slots == nil {
		p.slots = make([]slot, max(p.n, 1))
	}
	s := &p.slots[int(p.turn.Add(1))%len(p.slots)]
	if s.link != nil && !s.link.over() {
		defer p.mu.Unlock()
		return s.link, true, nil
	}
	a := s.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		s.attempt = a
		go p.connect(s, a)
	}
	p.mu.Unlock()
	select {
	case <-a.done:
		return a.link, false, a.err
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// connect makes the link of a slot.
func (p *links) connect(s *slot, a *attempt) {
	l, err := p.open()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed && err == nil {
		l.w.c.Close()
		err = errClosed
	}
	s.link, s.attempt = nil, nil
	if err == nil {
		s.link = l
	}
	a.link, a.err = l, err
	close(a.done)
}

// open makes a link.
func (p *links) open() (*link, error) {
	w, lines, hello, err := p.greet(context.Background())
	if err != nil {
		return nil, err
	}
	return newLink(w, lines, hello), nil
}

// greet makes a connection, and goes as far as the end of the handshake.
func (p *links) greet(ctx context.Context) (*lineWriter, *lineReader, greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	c, err := p.dial(ctx)
	if err != nil {
		return nil, nil, greeting{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	w, lines := &lineWriter{c: c}, newLineReader(c, MaxLine)
	hello, err := p.handshake(w, lines)
	if !stop() {
		err = fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
	if err != nil {
		c.Close()
		return nil, nil, greeting{}, fmt.Errorf("handshake: %w", err)
	}
	return w, lines, hello, nil
}

func (p *links) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for i := range p.slots {
		if l := p.slots[i].link; l != nil {
			l.w.c.Close()
		}
	}
}

func dialUnix(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// clientHandshake introduces us on a client socket and reads the server's introduction. Dovecot 2.4 waits for our VERSION, others do not,
// and the order of their lines differs.
func clientHandshake(pid int) func(*lineWriter, *lineReader) (greeting, error) {
	return func(w *lineWriter, lines *lineReader) (g greeting, err error) {
		if err := w.write(fmt.Appendf(nil, "VERSION\t%d\t%d\nCPID\t%d\n", Major, Minor, pid)); err != nil {
			return g, err
		}
		for version := false; ; {
			line, err := lines.next()
			if err != nil {
				return g, fmt.Errorf("before DONE (is it a user socket?): %w", err)
			}
			words := words(line)
			switch verb := string(words[0]); {
			case verb == "VERSION":
				if _, err := parseVersion(words); err != nil {
					return g, err
				}
				version = true
			case verb == "MECH":
				m, err := parseMechanism(words)
				if err != nil {
					return g, err
				}
				if m.Flags&ChannelBinding != 0 {
					m.Flags &^= Private // see Server
				}
				g.mechanisms = append(g.mechanisms, m)
				if len(g.mechanisms) > 100 {
					return g, fmt.Errorf("more than 100 mechanisms: %w", errProtocol)
				}
			case verb == "SPID" && len(words) > 1:
				g.pid, _ = parseID(words[1])
			case verb == "CUID" && len(words) > 1:
				g.connection, _ = parseID(words[1])
			case verb == "COOKIE" && len(words) > 1:
				g.cookie = unescape(words[1])
			case verb == "DONE":
				if !version {
					return g, fmt.Errorf("no VERSION: %w", errProtocol)
				}
				return g, nil
			}
		}
	}
}

// userHandshake does the same on a user socket.
func userHandshake(w *lineWriter, lines *lineReader) (g greeting, err error) {
	if err := w.write(fmt.Appendf(nil, "VERSION\t%d\t%d\n", Major, Minor)); err != nil {
		return g, err
	}
	for version := false; ; {
		line, err := lines.next()
		if err != nil {
			return g, err
		}
		switch words := words(line); string(words[0]) {
		case "VERSION":
			if _, err := parseVersion(words); err != nil {
				return g, err
			}
			version = true
		case "MECH", "CUID", "COOKIE":
			return g, fmt.Errorf("it is a client socket: %w", errProtocol)
		case "SPID":
			if !version || len(words) < 2 {
				return g, fmt.Errorf("no VERSION: %w", errProtocol)
			}
			g.pid, _ = parseID(words[1])
			return g, nil
		}
	}
}
