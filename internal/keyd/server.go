package keyd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"postamt/internal/daemon"
	"postamt/internal/maillog"
)

// maxConnections is for one user. Our clients make 16 a process; what one user has open is no reason to refuse another.
const maxConnections = 256

// Server answers. Its Keys and Allowed can be exchanged while it runs.
type Server struct {
	Log *maillog.Logger // may be nil

	keys    atomic.Pointer[Keys]
	allowed atomic.Pointer[func(uid int) bool]
	tickets tickets

	mu      sync.Mutex
	open    map[int]int // connections by uid
	refused maillog.Throttle
}

// NewServer makes one. allowed says which users may ask; any number of goroutines call it.
func NewServer(keys *Keys, allowed func(uid int) bool) *Server {
	s := &Server{open: make(map[int]int)}
	s.Set(keys, allowed)
	return s
}

// Set is for questions from now on; connections that are there stay.
func (s *Server) Set(keys *Keys, allowed func(uid int) bool) {
	s.keys.Store(keys)
	s.allowed.Store(&allowed)
}

// Serve answers on one connection until its peer closes it, or ctx ends. The caller closes it.
func (s *Server) Serve(ctx context.Context, c net.Conn, _ string) {
	uid, err := s.enter(c)
	if err != nil {
		s.refuse(err)
		return
	}
	defer s.leave(uid)
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	var in [questionSize]byte
	var out [answerSize]byte
	for {
		if _, err := io.ReadFull(c, in[:]); err != nil {
			return
		}
		// Asked each time: who is taken off the list is off it at once.
		if !(*s.allowed.Load())(uid) {
			return
		}
		var q question
		a := answer{outcome: notUnderstood}
		bad := q.decode(&in)
		if bad == nil {
			a = s.answer(&q, uid)
		}
		a.encode(&out)
		c.SetWriteDeadline(time.Now().Add(answerTime))
		if _, err := c.Write(out[:]); err != nil || bad != nil {
			return
		}
	}
}

// enter is the user at the other end, if he may ask.
func (s *Server) enter(c net.Conn) (int, error) {
	cred, err := daemon.PeerCred(c)
	if err != nil {
		return 0, err
	}
	if !(*s.allowed.Load())(cred.UID) {
		return 0, fmt.Errorf("uid %d (process %d) is not among keyd_clients", cred.UID, cred.PID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[cred.UID] >= maxConnections {
		return 0, fmt.Errorf("uid %d has %d connections", cred.UID, maxConnections)
	}
	s.open[cred.UID]++
	return cred.UID, nil
}

func (s *Server) leave(uid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[uid]--; s.open[uid] == 0 {
		delete(s.open, uid)
	}
}

// refuse logs it, once a second: anybody on this machine can connect as often as he likes.
func (s *Server) refuse(err error) {
	s.mu.Lock()
	more, ok := s.refused.Allow(time.Now(), time.Second)
	s.mu.Unlock()
	if ok {
		s.Log.Problem("", "refuse", fmt.Errorf("%w (%d more like this)", err, more))
	}
}

func (s *Server) answer(q *question, uid int) answer {
	switch q.op {
	case opHas:
		if s.keys.Load().find(q.key) == nil {
			return answer{outcome: noKey}
		}
		return answer{}
	case opSign:
		return s.sign(q)
	case opTickets:
		out, err := s.tickets.keys(uid, string(q.input), time.Now())
		if err != nil {
			s.Log.Problem("", "tickets", err)
			return answer{outcome: failed}
		}
		return answer{output: out}
	}
	return answer{outcome: notUnderstood}
}

func (s *Server) sign(q *question) answer {
	key := s.keys.Load().find(q.key)
	if key == nil {
		return answer{outcome: noKey}
	}
	opts := q.scheme.opts(key.Public())
	// A digest of another length is no digest; RSA and ECDSA would cut or pad it.
	if opts == nil || opts.HashFunc() != 0 && len(q.input) != opts.HashFunc().Size() {
		return answer{outcome: notUnderstood}
	}
	sig, err := key.Sign(rand.Reader, q.input, opts)
	if err == nil && len(sig) > maxOutput {
		err = errors.New("the signature is too long")
	}
	if err != nil {
		s.Log.Problem("", "sign", err)
		return answer{outcome: failed}
	}
	return answer{output: sig}
}
