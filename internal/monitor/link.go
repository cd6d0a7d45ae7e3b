package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Roles.
const (
	Front  = "front"
	Worker = "worker"
	Runner = "runner"
)

const (
	roleVariable = "POSTAMT_ROLE"
	firstFD      = 3
	// maxAsked is how many answers a child waits for at once: they fit into its socket, so that the monitor never waits for it.
	maxAsked = 16
	maxText  = 2 << 20
)

// Errors of what a child asks.
var (
	ErrGone   = errors.New("the monitor is gone")
	ErrFailed = errors.New("not now (the monitor's log says why)")
	ErrFull   = errors.New("too many workers at the moment")
)

// Link is a child's connection to its monitor. Its methods may be called by any number of goroutines.
type Link struct {
	Role string
	sock *socket

	asking  chan struct{}
	mu      sync.Mutex
	serial  uint32
	pending map[uint32]chan reply
	gone    bool

	texts    chan text       // configurations, the newest only
	given    uint32          // the reload of the one that Configuration has given; for who calls that
	sessions chan Session    // of a worker
	stop     context.Context // ends when the child is to finish
	finish   context.CancelFunc
	hurry    chan struct{}
}

type reply struct {
	order
	f *os.File
}

// Session is a connection for a worker: of one user, whom Name names, where there are Tickets or the client was handed over.
type Session struct {
	Conn  net.Conn
	Name  string
	Value string // what Mailbox would answer for Name; "": it did not come along
	Note  string // what the front says of the client; nobody has looked at it
}

// Inherited is the link to the monitor that executed us, nil if none has. It takes what tells of it out of the environment. TERM, INT
// and HUP, which a supervisor may send to all processes of a service, are for the monitor, and ignored from here on.
func Inherited() (*Link, error) {
	role, fd, ok := strings.Cut(os.Getenv(roleVariable), " ")
	if !ok || role != Front && role != Worker && role != Runner {
		return nil, nil
	}
	os.Unsetenv(roleVariable)
	n, err := strconv.Atoi(fd)
	if err != nil || n < firstFD {
		return nil, fmt.Errorf("monitor: %s: no descriptor", roleVariable)
	}
	// Caught, not ignored: what a runner executes would ignore them too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	syscall.CloseOnExec(n)
	sock, err := newSocket(os.NewFile(uintptr(n), "monitor"))
	if err != nil {
		return nil, fmt.Errorf("monitor: link: %w", err)
	}
	l := &Link{Role: role, sock: sock, asking: make(chan struct{}, maxAsked), pending: map[uint32]chan reply{},
		texts: make(chan text, 1), sessions: make(chan Session), hurry: make(chan struct{}, 1)}
	l.stop, l.finish = context.WithCancel(context.Background())
	go l.read()
	return l, nil
}

// Context ends when the monitor says stop, or go, or is gone.
func (l *Link) Context() context.Context { return l.stop }

// Configuration waits for the text of a configuration: the first, or the next one after a reload, which the front answers with Taken.
// False: the link has ended.
func (l *Link) Configuration() (string, bool) {
	t, ok := <-l.texts
	l.given = t.serial
	return t.text, ok
}

// text is a configuration, and the number of the reload that it is of.
type text struct {
	serial uint32
	text   string
}

// read takes the monitor's orders.
func (l *Link) read() {
	defer l.end()
	b := make([]byte, orderSize+1)
	for {
		n, f, err := l.sock.receive(b)
		if err != nil {
			return
		}
		o, err := decodeOrder(b[:n])
		if err != nil {
			return
		}
		switch o.kind {
		case kindAnswer:
			l.mu.Lock()
			c := l.pending[o.serial]
			delete(l.pending, o.serial)
			l.mu.Unlock()
			if c != nil {
				c <- reply{o, f}
				f = nil
			}
		case kindConfiguration:
			l.configuration(o, f)
		case kindSession:
			l.session(o, f)
		case kindHurry:
			select {
			case l.hurry <- struct{}{}:
			default:
			}
		case kindStop, kindGo:
			l.finish()
		}
		if f != nil {
			f.Close()
		}
	}
}

func (l *Link) configuration(o order, f *os.File) {
	if f == nil {
		return
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return
	}
	select {
	case <-l.texts: // nobody has taken the last one, and nobody needs it now
	default:
	}
	l.texts <- text{o.serial, string(b)}
}

func (l *Link) session(o order, f *os.File) {
	if f == nil {
		return
	}
	c, err := net.FileConn(f)
	if err != nil {
		return
	}
	s := Session{Conn: c}
	s.Name, s.Note, _ = strings.Cut(o.value, "\x00")
	if n := int(o.serial); n <= len(s.Note) {
		s.Value, s.Note = s.Note[:n], s.Note[n:]
	}
	select {
	case l.sessions <- s:
	case <-l.stop.Done():
		c.Close()
	}
}

func (l *Link) end() {
	l.mu.Lock()
	l.gone = true
	for serial, c := range l.pending {
		close(c)
		delete(l.pending, serial)
	}
	l.mu.Unlock()
	l.finish()
	close(l.texts)
	l.sock.close()
}

// ask sends a request and waits for its answer.
func (l *Link) ask(r request, f *os.File) (reply, error) {
	l.asking <- struct{}{}
	defer func() { <-l.asking }()
	c := make(chan reply, 1)
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return reply{}, ErrGone
	}
	l.serial++
	r.serial = l.serial
	l.pending[r.serial] = c
	l.mu.Unlock()
	b, err := r.encode()
	if err == nil {
		err = l.sock.send(b, f)
	}
	if err != nil {
		l.mu.Lock()
		delete(l.pending, r.serial)
		l.mu.Unlock()
		return reply{}, err
	}
	a, ok := <-c
	if !ok {
		return reply{}, ErrGone
	}
	switch a.status {
	case statusOK:
		return a, nil
	case statusRefused:
		err = Refusal(a.value)
	case statusFull:
		err = ErrFull
	default:
		err = ErrFailed
	}
	if a.f != nil {
		a.f.Close()
	}
	return reply{}, err
}

// Ready tells the monitor that the front serves.
func (l *Link) Ready() error { return l.tell(kindReady) }

// Alive tells the monitor that the front's listeners accept, for the watchdog of whoever watches the monitor.
func (l *Link) Alive() error { return l.tell(kindAlive) }

// Taken tells the monitor whether the front follows the configuration that Configuration gave it last, which came after the first. It is for the goroutine that calls that.
func (l *Link) Taken(yes bool) error {
	kind := byte(kindKept)
	if yes {
		kind = kindTaken
	}
	return l.say(&request{kind: kind, serial: l.given})
}

func (l *Link) tell(kind byte) error { return l.say(&request{kind: kind}) }

func (l *Link) say(r *request) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	return l.sock.send(b, nil)
}

// Who asks whose a name is, and returns the user id. Errors: a Refusal of the program's Lookup; ErrFailed; ErrGone.
func (l *Link) Who(name string) (uid uint32, err error) {
	a, err := l.ask(request{kind: kindWho, name: name}, nil)
	return a.uid, err
}

// Connect asks for a connection to the worker of a name's user; or of the user that the ticket is for, and then the name is the session's
// note. The errors are those of Who, and ErrFull.
func (l *Link) Connect(name string, ticket []byte) (net.Conn, error) {
	a, err := l.ask(request{kind: kindConnect, name: name, ticket: ticket}, nil)
	if err != nil {
		return nil, err
	}
	if a.f == nil {
		return nil, errRecord
	}
	defer a.f.Close()
	return net.FileConn(a.f)
}

// Dial asks for a connection to where logins are judged. The errors are those of Who.
func (l *Link) Dial() (net.Conn, error) {
	a, err := l.ask(request{kind: kindDial}, nil)
	if err != nil {
		return nil, err
	}
	if a.f == nil {
		return nil, errRecord
	}
	defer a.f.Close()
	return net.FileConn(a.f)
}

// Hand gives a client to a worker; f is a copy of the client's descriptor, which the caller closes. Nothing that was read from the client
// and not used goes with it. The rest is as with Connect. Pass chooses between the two.
func (l *Link) Hand(name string, ticket []byte, f *os.File) error {
	_, err := l.ask(request{kind: kindHand, name: name, ticket: ticket}, f)
	return err
}

// Mailbox asks what the program's Lookup knows of a name. The errors are those of Who; a name of another user's is ErrFailed.
func (l *Link) Mailbox(name string) (value string, err error) {
	a, err := l.ask(request{kind: kindMailbox, name: name}, nil)
	return a.value, err
}
