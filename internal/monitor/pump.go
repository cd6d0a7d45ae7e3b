package monitor

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
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
// then, and nothing was written to it.
func (l *Link) Pass(ticket []byte, c Client) error {
	if p := plain(c.Conn); p != nil && len(c.Ahead) == 0 {
		f, err := p.File()
		if err != nil {
			return err
		}
		defer f.Close()
		if err := l.Hand(c.Note, ticket, f); err != nil {
			return err
		}
		c.Conn.Close()
		return nil
	}
	w, err := l.Connect(c.Note, ticket)
	if err != nil {
		return err
	}
	Pump(c.Conn, w, c.Ahead)
	return nil
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
func Pump(client, worker net.Conn, ahead []byte) {
	defer client.Close()
	defer worker.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		dead := false
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
		carry(client, put)
		closeWrite(worker)
	}()
	err := carry(worker, func(b []byte) error {
		client.SetWriteDeadline(time.Now().Add(patience))
		_, err := client.Write(b)
		return err
	})
	if err != nil {
		client.Close()
		worker.Close()
	} else {
		closeWrite(client)
		end := time.Now().Add(linger)
		client.SetReadDeadline(end)
		worker.SetWriteDeadline(end)
	}
	<-over
}

// carry reads until nothing more comes, for whatever reason, and puts what came, until that fails.
func carry(from net.Conn, put func([]byte) error) error {
	if c := plain(from); c != nil {
		if raw, err := c.SyscallConn(); err == nil {
			return carryRaw(raw, put)
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
func carryRaw(raw syscall.RawConn, put func([]byte) error) error {
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
			if n, err = syscall.Read(int(fd), b[:]); err != syscall.EINTR {
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
