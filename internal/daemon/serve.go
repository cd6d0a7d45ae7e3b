package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"postamt/internal/maillog"
)

// Server accepts connections and runs a goroutine for each. Its fields are set before the first Serve.
type Server struct {
	// Handle serves one connection, which is closed when it returns. When ctx ends it should finish the transaction that
	// it is in, say 421 and return.
	Handle func(ctx context.Context, c net.Conn, kind string)

	// Refuse tells a connection that it met a limit, which is logged; it must not wait. It is closed afterwards. May be nil.
	Refuse func(c net.Conn, kind string, met Limit)

	Limiter *Limiter        // nil: no limits
	Log     *maillog.Logger // for limits and problems of accepting; may be nil

	mu       sync.Mutex
	refused  maillog.Throttle
	serves   int // calls of Serve that have not returned
	sessions int
	idle     chan struct{} // closed when both become 0; nil when nobody waits
}

// Accepting fails for want of descriptors or memory: wait so long, doubling, for sessions to end.
const (
	minBackOff = 5 * time.Millisecond
	maxBackOff = time.Second
)

// Run is the life of a program that serves: it serves what there is until ctx ends, or the one connection does. Then it tells stopping, waits for
// the sessions at most for grace, and returns how many are left.
func (s *Server) Run(ctx context.Context, sockets *Sockets, stopping func(), grace func() time.Duration) int {
	for _, err := range sockets.Skipped {
		s.Log.Problem("", "listen", err)
	}
	if sockets.Conn != nil {
		s.ServeConn(ctx, sockets.Conn, sockets.Kind)
		return 0
	}
	s.Log.Start(Version(), sockets.Addrs())
	for _, l := range sockets.Listeners {
		go func() {
			if err := s.Serve(ctx, l); err != nil {
				s.Log.Problem("", "accept", err)
			}
		}()
	}
	<-ctx.Done()
	stopping()
	return s.Wait(grace())
}

// Serve accepts from l until ctx ends, which closes l and is told to the sessions. The error is nil then.
// Any number of Serves may run. Use Wait for the sessions that are left.
func (s *Server) Serve(ctx context.Context, l Listener) error {
	s.count(&s.serves, 1)
	defer s.count(&s.serves, -1)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	backOff := time.Duration(0)
	var quiet maillog.Throttle
	for {
		l.beat.accepting(l.Listener)
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue // the watchdog's
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("daemon: accept on %s: %w", l.Addr(), err)
			}
			// EMFILE, ENFILE, ENOBUFS, ENOMEM, and errors of the network that Linux passes on here (accept(2)).
			// None of them is a reason to end: mail in progress goes on.
			backOff = min(max(2*backOff, minBackOff), maxBackOff)
			if more, ok := quiet.Allow(time.Now(), time.Minute); ok {
				s.Log.Problem("", "accept", fmt.Errorf("%w (%d more like this)", cause(err), more))
			}
			select {
			case <-ctx.Done():
			case <-time.After(backOff):
			}
			continue
		}
		backOff = 0
		s.admit(ctx, c, l.Kind)
	}
}

// ServeConn serves one connection and returns when its session has ended; limits of other sessions do not apply.
func (s *Server) ServeConn(ctx context.Context, c net.Conn, kind string) {
	s.count(&s.sessions, 1)
	s.run(ctx, c, kind, Pass{}, nil)
}

func (s *Server) admit(ctx context.Context, c net.Conn, kind string) {
	var pass Pass
	if s.Limiter != nil {
		var met Limit
		if cred, err := PeerCred(c); err == nil {
			pass, met = s.Limiter.EnterUser(cred.UID, time.Now())
		} else {
			pass, met = s.Limiter.Enter(RemoteIP(c), time.Now())
		}
		if met != NoLimit {
			s.logLimit(c, kind, met)
			if s.Refuse != nil {
				s.Refuse(c, kind, met)
			}
			c.Close()
			return
		}
	}
	s.count(&s.sessions, 1)
	go s.run(ctx, c, kind, pass, s.Limiter)
}

// logLimit logs a limit that a connection met. Who makes many of them gets one line a second.
func (s *Server) logLimit(c net.Conn, kind string, met Limit) {
	s.mu.Lock()
	more, ok := s.refused.Allow(time.Now(), time.Second)
	s.mu.Unlock()
	if ok {
		s.Log.Limit("", maillog.Client{IP: RemoteIP(c), Listener: kind}, met.String(), more)
	}
}

func (s *Server) run(ctx context.Context, c net.Conn, kind string, pass Pass, limiter *Limiter) {
	defer func() {
		// A session that panics is one session less, not all of them: what it had not acknowledged never was.
		if r := recover(); r != nil {
			s.Log.Problem("", "session", fmt.Errorf("panic: %v: %s", r, debug.Stack()))
		}
		c.Close()
		if limiter != nil {
			limiter.Leave(pass)
		}
		s.count(&s.sessions, -1)
	}()
	s.Handle(ctx, c, kind)
}

func (s *Server) count(n *int, by int) {
	s.mu.Lock()
	*n += by
	if s.serves+s.sessions == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	s.mu.Unlock()
}

// Sessions is how many there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Wait waits until every Serve has returned and no session is left, at most for grace, and returns how many are.
// The context of the Serves has ended.
func (s *Server) Wait(grace time.Duration) int {
	s.mu.Lock()
	if s.serves+s.sessions == 0 {
		s.mu.Unlock()
		return 0
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-idle:
		return 0
	case <-t.C:
		return s.Sessions()
	}
}
