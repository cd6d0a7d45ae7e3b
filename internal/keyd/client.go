package keyd

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/certs"
	"postamt/internal/daemon"
)

// Client asks a server. It is a certs.Keyring and safe for concurrent use. It connects when it is needed, keeps a few
// connections while there are questions (a minute longer), and finds a new server by itself when the one before is gone.
type Client struct {
	path    string
	timeout time.Duration
	linger  time.Duration
	room    chan struct{} // a place for each question under way

	mu   sync.Mutex
	idle []net.Conn  // the last used at the end
	rest *time.Timer // closes them
	had  map[keyID]time.Time
}

const (
	maxUnderWay = 16
	maxIdle     = 8
	// answerTime is for a question as a whole, with the wait for a place. It is well below the time for a handshake.
	answerTime = 3 * time.Second
	// lingerTime is until nobody needs what is idle. A program that reloads its configuration makes a new client and forgets the old
	// one, whose listeners' handshakes may still ask: so nobody can say when it is to be closed, but the client itself.
	lingerTime = time.Minute
)

// NewClient is for the server with its socket at path.
func NewClient(path string) *Client {
	return &Client{path: path, timeout: answerTime, linger: lingerTime, room: make(chan struct{}, maxUnderWay), had: make(map[keyID]time.Time)}
}

// Signer is the private key of pub as certs.Keyring has it; it asks nothing yet.
func (c *Client) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	if err := usable(pub); err != nil {
		return nil, err
	}
	id, err := idOf(pub)
	if err != nil {
		return nil, err
	}
	return &signer{c, pub, id}, nil
}

// hadFor is how long a yes is good without another question, while the server's end of a connection is open.
const hadFor = time.Second

// Has asks for the key of pub: nil, certs.ErrNoKey, or why the server cannot be asked. It comes before each handshake, so
// it does not ask for what it just heard, unless the server has gone since.
func (c *Client) Has(pub crypto.PublicKey) error {
	id, err := idOf(pub)
	if err != nil {
		return err
	}
	if c.knows(id) {
		return nil
	}
	if _, err = c.ask(&question{op: opHas, key: id}); err == nil {
		c.mu.Lock()
		c.had[id] = time.Now()
		c.mu.Unlock()
	}
	return err
}

// knows says whether the server had the key a moment ago and is there.
func (c *Client) knows(id keyID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Since(c.had[id])
	if d < 0 || d >= hadFor {
		delete(c.had, id)
		return false
	}
	n := len(c.idle)
	return n > 0 && isOpen(c.idle[n-1])
}

// isOpen says whether the other end has neither closed a connection nor said anything unasked.
func isOpen(nc net.Conn) bool {
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	open := false
	raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		open = err == unix.EAGAIN
	})
	return open
}

// Tickets asks for the keys of a service's session tickets, as certs.Keyring has it.
func (c *Client) Tickets(service string) ([][32]byte, error) {
	out, err := c.ask(&question{op: opTickets, input: []byte(service)})
	if err != nil {
		return nil, err
	}
	var keys [][32]byte
	for ; len(out) >= 32; out = out[32:] {
		keys = append(keys, [32]byte(out))
	}
	return keys, nil
}

// signer is a private key that is elsewhere.
type signer struct {
	client *Client
	pub    crypto.PublicKey
	id     keyID
}

func (s *signer) Public() crypto.PublicKey { return s.pub }

// Sign is crypto.Signer's; the randomness is the server's.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := schemeOf(s.pub, opts)
	if err != nil {
		return nil, err
	}
	return s.client.ask(&question{op: opSign, scheme: scheme, key: s.id, input: digest})
}

// ask puts one question. A connection that was idle may have lost its server since: then a new one is tried, once.
// To ask twice does no harm.
func (c *Client) ask(q *question) ([]byte, error) {
	var b [questionSize]byte
	if err := q.encode(&b); err != nil {
		return nil, err
	}
	end := time.Now().Add(c.timeout)
	t := time.NewTimer(c.timeout)
	defer t.Stop()
	select {
	case c.room <- struct{}{}:
		defer func() { <-c.room }()
	case <-t.C:
		return nil, fmt.Errorf("keyd: %s: %w", c.path, os.ErrDeadlineExceeded)
	}
	for {
		nc, used, err := c.conn(end)
		if err != nil {
			return nil, fmt.Errorf("keyd: %w", err)
		}
		a, err := exchange(nc, &b, end)
		if err == nil {
			c.keep(nc)
			return a.result()
		}
		nc.Close()
		var ne net.Error
		if used && !(errors.As(err, &ne) && ne.Timeout()) {
			c.drop() // the others are of the same server
			continue
		}
		return nil, fmt.Errorf("keyd: %s: %w", c.path, err)
	}
}

func exchange(nc net.Conn, b *[questionSize]byte, end time.Time) (answer, error) {
	var a answer
	if err := nc.SetDeadline(end); err != nil {
		return a, err
	}
	if _, err := nc.Write(b[:]); err != nil {
		return a, err
	}
	var in [answerSize]byte
	if _, err := io.ReadFull(nc, in[:]); err != nil {
		return a, err
	}
	return a, a.decode(&in)
}

func (a *answer) result() ([]byte, error) {
	switch a.outcome {
	case done:
		return a.output, nil
	case noKey:
		return nil, fmt.Errorf("keyd: %w", certs.ErrNoKey)
	case notUnderstood:
		return nil, errors.New("keyd: it does not understand us")
	}
	return nil, errors.New("keyd: it could not do it; see its log")
}

// conn is an idle connection, or a new one.
func (c *Client) conn(end time.Time) (nc net.Conn, used bool, err error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		nc = c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return nc, true, nil
	}
	c.mu.Unlock()
	d := net.Dialer{Deadline: end}
	if nc, err = d.Dial("unix", c.path); err != nil {
		return nil, false, err
	}
	if err := trusted(nc); err != nil {
		nc.Close()
		return nil, false, fmt.Errorf("%s: %w", c.path, err)
	}
	return nc, false, nil
}

// trusted says whether the listener was made by root or by our own user. The directory of sockets may be writable by
// programs that face the network; one of them in the place of the server would know the keys of everybody's tickets.
func trusted(nc net.Conn) error {
	cred, err := daemon.PeerCred(nc)
	if err != nil {
		return err
	}
	if cred.UID != 0 && cred.UID != unix.Geteuid() {
		return fmt.Errorf("the socket was made by uid %d, neither root nor us", cred.UID)
	}
	return nil
}

func (c *Client) keep(nc net.Conn) {
	c.mu.Lock()
	if len(c.idle) < maxIdle {
		c.idle = append(c.idle, nc)
		nc = nil
	}
	if c.rest == nil {
		c.rest = time.AfterFunc(c.linger, c.drop)
	} else {
		c.rest.Reset(c.linger)
	}
	c.mu.Unlock()
	if nc != nil {
		nc.Close()
	}
}

// drop closes what is idle.
func (c *Client) drop() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, nc := range idle {
		nc.Close()
	}
}

// Close closes the idle connections. The client can be used all the same.
func (c *Client) Close() { c.drop() }
