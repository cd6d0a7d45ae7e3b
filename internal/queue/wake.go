package queue

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Waker tells queued about new messages, by a datagram on a Unix socket. It is
// best effort: queued finds every message by itself at the next scan.
type Waker struct {
	to     unix.SockaddrUnix
	missed atomic.Bool
	// waiting: a timer will ask for what was missed.
	waiting atomic.Bool

	mu sync.RWMutex // against Close
	fd int          // -1: closed
}

// NewWaker makes a waker for the socket path. Nothing needs to listen there yet,
// and who listens may change.
func NewWaker(path string) (*Waker, error) {
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("queue: the socket name %s is too long for the system", path)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, fmt.Errorf("queue: waker: %w", err)
	}
	unix.CloseOnExec(fd)
	return &Waker{fd: fd, to: unix.SockaddrUnix{Name: path}}, nil
}

// Wake tells of one message, and never waits. If queued is behind with reading, it is asked for a scan a moment
// later: the system keeps only a few datagrams, and the message that was dropped may be the last for hours. If
// queued is not there, it scans when it starts; the next Wake asks for a scan all the same.
func (w *Waker) Wake(id ID) {
	if !w.missed.Load() {
		w.try(string(id))
		return
	}
	// A scan sees this message as well.
	w.missed.Store(false)
	w.try("scan")
}

// catchUp is how soon after a dropped datagram a scan is asked for, and again while there is no room for that.
const catchUp = 50 * time.Millisecond

func (w *Waker) try(s string) {
	err := w.send(s)
	if err == nil {
		return
	}
	w.missed.Store(true)
	if (err == unix.EAGAIN || err == unix.ENOBUFS) && w.waiting.CompareAndSwap(false, true) {
		time.AfterFunc(catchUp, func() {
			w.waiting.Store(false)
			if w.missed.Swap(false) {
				w.try("scan")
			}
		})
	}
}

// Scan asks for a scan now.
func (w *Waker) Scan() error { return w.tell("scan") }

// Flush asks for an attempt of every message now.
func (w *Waker) Flush() error { return w.tell("flush") }

// Revive asks for a scan now, and for attempts at destinations that were found dead.
func (w *Waker) Revive() error { return w.tell("revive") }

func (w *Waker) tell(word string) error {
	if err := w.send(word); err != nil {
		return fmt.Errorf("queue: tell queued to %s: %w", word, err)
	}
	return nil
}

func (w *Waker) send(s string) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.fd < 0 {
		return net.ErrClosed
	}
	return unix.Sendto(w.fd, []byte(s), unix.MSG_DONTWAIT, &w.to)
}

// Close ends it.
func (w *Waker) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return nil
	}
	err := unix.Close(w.fd)
	w.fd = -1
	return err
}

// Wakeup is a message to attempt, or one of the wishes.
type Wakeup struct {
	ID     ID // "" if it is one of the others
	Scan   bool
	Flush  bool // attempt everything now
	Revive bool // scan, and try again what was dead
}

// Wakeups receives what Wakers send. It carries no trust: an id may name any
// message or none, and at worst something is looked at too often.
type Wakeups struct{ conn *net.UnixConn }

// NewWakeups receives on a datagram socket, which it closes in the end.
func NewWakeups(conn *net.UnixConn) *Wakeups { return &Wakeups{conn} }

// Receive waits for the next wakeup; what is none is passed over. After Close it
// returns net.ErrClosed. The system keeps only a few datagrams, so the caller
// should be quick to call again.
func (l *Wakeups) Receive() (Wakeup, error) {
	var buf [idLen + 1]byte // longer datagrams are cut, and then are no id
	for {
		n, err := l.conn.Read(buf[:])
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return Wakeup{}, fmt.Errorf("queue: wakeups: %w", err)
		}
		switch s := string(buf[:n]); {
		case s == "scan":
			return Wakeup{Scan: true}, nil
		case s == "flush":
			return Wakeup{Flush: true}, nil
		case s == "revive":
			return Wakeup{Revive: true}, nil
		case validID(s):
			return Wakeup{ID: ID(s)}, nil
		}
	}
}

// Close ends Receive. The name of the socket stays, for the next queued to take.
func (l *Wakeups) Close() error { return l.conn.Close() }
