package monitor

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client is somebody's connection after the login, for Pass.
type Client struct {
	Conn  net.Conn
	Ahead []byte // read from Conn and not used
	Note  string // for the session: what only the front knows (at most MaxName octets)
}

// Pass gives a client to the worker of the user that the ticket is for, and ends with Conn closed. A plain connection from which nothing
// was read in advance goes there itself, and Pass is over at once. Of any other the bytes are carried: the keys of TLS stay here, and so do
// bytes that came early, for which a descriptor has no room. Then it is over with the session. The errors are those of Connect; Conn is open
// then, and nothing was written to it. With back, the worker has given the client back, as Pump says.
func (l *Link) Pass(ticket []byte, c Client) (unused []byte, back bool, err error) {
	if p := plain(c.Conn); p != nil && len(c.Ahead) == 0 {
		f, err := p.File()
		if err != nil {
			return nil, false, err
		}
		defer f.Close()
		if err := l.Hand(c.Note, ticket, f); err != nil {
			return nil, false, err
		}
		c.Conn.Close()
		return nil, false, nil
	}
	return l.Carry(ticket, c)
}

// Carry is Pass where the bytes are carried, whatever the connection is.
func (l *Link) Carry(ticket []byte, c Client) (unused []byte, back bool, err error) {
	w, err := l.Connect(c.Note, ticket)
	if err != nil {
		return nil, false, err
	}
	unused, back = Pump(c.Conn, w, c.Ahead)
	return unused, back, nil
}

const (
	// patience is how long a client may take nothing of what it asked for.
	patience = 5 * time.Minute
	// linger is how long a client may go on sending after its worker has said the last word.
	linger = 5 * time.Second
	// piece is the most that is carried at once, and with TLS what makes a record.
	piece = 16 << 10
)

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

// Pump carries bytes between a client and a worker, ahead first, until the session is over, and closes both. In each direction it holds
// one piece at most, and none while there is nothing to carry. An end from the client is passed on, and the answers still come back. An end
// from the worker, by its word or its death, is the client's end: it gets what was written, then it is closed.
//
// With back, the worker has given the client back (Session.GiveBack): he is open, without deadlines, and unused is what he has sent and the worker has not used.
func Pump(client, worker net.Conn, ahead []byte) (unused []byte, back bool) {
	defer func() {
		worker.Close()
		if !back {
			client.Close()
		}
	}()
	over := make(chan struct{})
	dead := false // the worker has not got all; for after over
	go func() {
		defer close(over)
		put := func(b []byte) error {
			if !dead {
				_, err := worker.Write(b)
				dead = err != nil
			}
			// It is read all the same: closing a connection with input in it resets it, and the client would lose our last words.
			return nil
		}
		if len(ahead) > 0 {
			put(ahead)
		}
		carry(client, syscall.Read, put)
		closeWrite(worker)
	}()
	given := false
	oob := make([]byte, unix.CmsgSpace(4))
	err := carry(worker, func(fd int, b []byte) (n int, err error) {
		if given {
			return 0, nil
		}
		if n, given, err = receive(fd, b, oob); given {
			n-- // the octet that it came with
		}
		return n, err
	}, func(b []byte) error {
		client.SetWriteDeadline(time.Now().Add(patience))
		_, err := client.Write(b)
		return err
	})
	switch end := time.Now().Add(linger); {
	case err != nil:
		client.Close()
		worker.Close()
	case given:
		client.SetReadDeadline(time.Unix(1, 0)) // which TLS survives, and loses nothing
		worker.SetDeadline(end)
	default:
		closeWrite(client)
		client.SetReadDeadline(end)
		worker.SetWriteDeadline(end)
	}
	<-over
	if err != nil || !given || dead {
		return nil, false
	}
	if unused, err = takeBack(worker); err == nil {
		err = client.SetDeadline(time.Time{})
	}
	return unused, err == nil
}

// carry reads until nothing more comes, for whatever reason, and puts what came, until that fails. read is how a descriptor is read.
func carry(from net.Conn, read func(fd int, b []byte) (int, error), put func([]byte) error) error {
	if c := plain(from); c != nil {
		if raw, err := c.SyscallConn(); err == nil {
			return carryRaw(raw, read, put)
		}
	}
	// TLS wants a buffer to wait with: a small one, until it is filled.
	small := make([]byte, 512)
	var large *[piece]byte
	for b := small; ; {
		n, err := from.Read(b)
		if perr := put(b[:n]); perr != nil || err != nil {
			if large != nil {
				pieces.Put(large)
			}
			return perr
		}
		switch full := n == len(b); {
		case full && large == nil:
			large = pieces.Get().(*[piece]byte)
			b = large[:]
		case !full && large != nil:
			pieces.Put(large)
			large, b = nil, small
		}
	}
}

// carryRaw tries the descriptor, and gives the buffer back before it waits.
func carryRaw(raw syscall.RawConn, read func(fd int, b []byte) (int, error), put func([]byte) error) error {
	var b *[piece]byte
	var n int
	var err error
	defer func() {
		if b != nil {
			pieces.Put(b)
		}
	}()
	try := func(fd uintptr) bool {
		if b == nil {
			b = pieces.Get().(*[piece]byte)
		}
		for {
			if n, err = read(int(fd), b[:]); err != syscall.EINTR {
				break
			}
		}
		if err == syscall.EAGAIN {
			pieces.Put(b)
			b = nil
			return false
		}
		return true
	}
	for {
		if rerr := raw.Read(try); rerr != nil || err != nil || n <= 0 {
			return nil
		}
		if err := put(b[:n]); err != nil {
			return err
		}
	}
}

// plain is a connection that is a descriptor and nothing more. By name: a wrapper around one has its methods, and a Read of its own.
func plain(c net.Conn) interface {
	syscall.Conn
	File() (*os.File, error)
} {
	switch c := c.(type) {
	case *net.TCPConn:
		return c
	case *net.UnixConn:
		return c
	}
	return nil
}

func closeWrite(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		t.CloseWrite()
		c = t.NetConn()
	}
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
}
