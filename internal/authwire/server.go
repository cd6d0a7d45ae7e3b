package authwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Server answers on client sockets. Set the fields before the first connection. It is safe for concurrent use, if Authenticator is.
//
// It lists its mechanisms at once and does not wait for the client's version, as Dovecot 2.4 does, because Exim says nothing before it has seen DONE.
// Therefore mechanisms with the flag ChannelBinding are marked Private as well: clients older than version 1.3 leave out what is private,
// and could not answer the question for the channel's data. Client lists them without that mark.
type Server struct {
	Authenticator Authenticator
	Mechanisms    []Mechanism
	Tickets       *Tickets        // where logins wait to be collected; nil: no login can be collected
	PID           int             // SPID; 0: this process
	MaxLine       int             // octets; 0: MaxLine
	MaxRequests   int             // per connection; 0: MaxRequests
	Lifetime      time.Duration   // of a request until it is decided; 0: Lifetime
	Collectable   time.Duration   // of a login until it is collected; 0: Collectable
	Report        func(err error) // called with the Err of replies; nil: dropped

	connections atomic.Uint32 // CUID
}

// ServeConn speaks with one client until it goes, until ctx is done, or until it is cut off for a temporary failure (nil); or until it says what cannot be
// understood or takes nothing any more: then the error says what. It closes c, and every exchange has ended when it returns.
func (srv *Server) ServeConn(ctx context.Context, c net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	s := &session{srv: srv, ctx: ctx, w: &lineWriter{c: c}, connection: srv.connections.Add(1), cookie: newCookie(), requests: make(map[uint32]*request)}
	err := s.serve(newLineReader(c, cmp.Or(srv.MaxLine, MaxLine)))
	if srv.Tickets != nil && s.pid != 0 {
		srv.Tickets.remove(s)
	}
	done := ctx.Err() != nil
	c.Close() // no exchange may be stuck in a write
	cancel()
	s.running.Wait()
	if err == io.EOF || done || s.cutOff {
		return nil
	}
	return err
}

// session is one connection of a client.
type session struct {
	srv    *Server
	ctx    context.Context
	w      *lineWriter
	cookie string

	connection uint32 // CUID
	minor      uint32 // of the client's version
	pid        uint32 // CPID; 0 until the handshake is over

	mu       sync.Mutex
	requests map[uint32]*request
	cutOff   bool // see refuse
	running  sync.WaitGroup
}

func (s *session) serve(lines *lineReader) error {
	if err := s.hello(); err != nil {
		return err
	}
	s.w.c.SetReadDeadline(time.Now().Add(helloLimit))
	for version := false; s.pid == 0; {
		line, err := lines.next()
		if err != nil {
			return err
		}
		switch w := words(line); {
		case !version && string(w[0]) == "VERSION":
			if s.minor, err = parseVersion(w); err != nil {
				return err
			}
			version = true
		case version && string(w[0]) == "CPID" && len(w) > 1:
			pid, ok := parseID(w[1])
			if !ok || pid == 0 {
				return fmt.Errorf("CPID without a number: %w", errProtocol)
			}
			s.pid = pid
		default:
			return fmt.Errorf("handshake without VERSION and CPID: %w", errProtocol)
		}
	}
	if s.srv.Tickets != nil {
		s.srv.Tickets.add(s)
	}
	s.w.c.SetReadDeadline(time.Time{}) // clients keep a connection for as long as they live
	for {
		line, err := lines.next()
		if err == nil {
			err = s.line(words(line))
		}
		if err != nil {
			return err
		}
	}
}

// hello sends our side of the handshake. MECH comes before SPID: that is how Exim and Postfix tell this socket from the other one.
func (s *session) hello() error {
	b := fmt.Appendf(nil, "VERSION\t%d\t%d\n", Major, Minor)
	for _, m := range s.srv.Mechanisms {
		if m.Flags&ChannelBinding != 0 {
			m.Flags |= Private
		}
		b = m.append(b)
	}
	b = fmt.Appendf(b, "SPID\t%d\nCUID\t%d\nCOOKIE\t%s\nDONE\n", s.srv.pid(), s.connection, s.cookie)
	return s.w.write(b)
}

func (srv *Server) pid() int { return cmp.Or(srv.PID, os.Getpid()) }

// line acts on one line. An error ends the connection.
func (s *session) line(w [][]byte) error {
	switch string(w[0]) {
	case "AUTH":
		return s.auth(w)
	case "CONT":
		return s.cont(w)
	case "CANCEL":
		return s.cancel(w)
	}
	return fmt.Errorf("unknown command: %w", errProtocol)
}

func (s *session) auth(w [][]byte) error {
	id, r, resp, err := parseAuth(w)
	if err != nil {
		return err
	}
	// A response that is empty is none from clients of old: Exim sends "resp=" when there was no initial response.
	var initial []byte
	if resp != nil && (len(resp) > 0 || s.minor >= minorEmptyResponse) {
		if initial, err = decode(resp); err != nil {
			return s.w.write(Reply{Code: InvalidBase64}.append(id, false))
		}
	}
	if !s.knows(r.Mechanism) {
		return s.w.write(Reply{Code: MechInvalid}.append(id, false))
	}
	q, err := s.begin(id, r)
	if q == nil {
		return err
	}
	go q.run(initial)
	return nil
}

func (s *session) knows(mechanism string) bool {
	for _, m := range s.srv.Mechanisms {
		if m.Name == mechanism {
			return true
		}
	}
	return false
}

// begin enters a request; nil when it was refused or the connection must end.
func (s *session) begin(id uint32, r *Request) (*request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[id] != nil {
		return nil, fmt.Errorf("AUTH with an id that is in use: %w", errProtocol)
	}
	if len(s.requests) >= cmp.Or(s.srv.MaxRequests, MaxRequests) {
		// Not by reading no further: the line that makes room, a CONT, may be the next.
		return nil, s.refuse(id, Reply{Code: TempFail, Err: errors.New("too many requests on one connection")})
	}
	q := &request{s: s, id: id, r: r, input: make(chan input, 1)}
	q.ctx, q.cancel = context.WithTimeoutCause(s.ctx, cmp.Or(s.srv.Lifetime, Lifetime), errLifetime)
	r.Origin = origin(uint32(s.srv.pid()), s.connection)
	if s.minor >= minorChannelBinding {
		r.ChannelBinding = q.channelBinding
	}
	s.requests[id] = q
	s.running.Add(1)
	q.stopExpiry = context.AfterFunc(q.ctx, q.expire)
	return q, nil
}

func (s *session) cont(w [][]byte) error {
	if len(w) < 3 {
		return fmt.Errorf("CONT without id and response: %w", errProtocol)
	}
	id, ok := parseID(w[1])
	if !ok {
		return fmt.Errorf("CONT without an id: %w", errProtocol)
	}
	in := input{outOfBand: string(w[2]) == "#"}
	var err error
	if !in.outOfBand {
		in.data, err = decode(w[2])
	}
	for _, f := range parseFields(w[3:]) {
		if f.Name == "channel_binding" && s.minor >= minorChannelBinding && err == nil {
			in.binding, err = decode([]byte(f.Value))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.requests[id]
	if q != nil && q.state != collectable {
		if end, ok := q.ctx.Deadline(); ok && !time.Now().Before(end) { // what takes it out is about to
			q.remove()
			q = nil
		}
	}
	switch {
	case q == nil || q.state == collectable:
		// It took too long, most likely: nothing was decided.
		return s.refuse(id, Reply{Code: TempFail, Reason: "Authentication took too long"})
	case err != nil:
		return q.abort(Reply{Code: InvalidBase64})
	case q.state == waiting && !in.outOfBand, q.state == binding && in.outOfBand:
		q.state = judging
		q.input <- in
		return nil
	}
	return q.abort(Reply{Code: TempFail, Reason: "Response without a challenge"})
}

func (s *session) cancel(w [][]byte) error {
	if len(w) < 2 {
		return fmt.Errorf("CANCEL without an id: %w", errProtocol)
	}
	id, ok := parseID(w[1])
	if !ok {
		return fmt.Errorf("CANCEL without an id: %w", errProtocol)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.requests[id]; q != nil {
		q.remove()
	}
	if s.minor >= minorCancelled {
		return s.w.write(append(command("CANCELLED", id), '\n'))
	}
	return nil
}

// collect gives out a login that waits; called by Tickets.
func (s *session) collect(id uint32) (*Login, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.requests[id]
	if q == nil {
		return nil, fmt.Errorf("collect login: %w", ErrNotFound)
	}
	// Once, even when it is too early: who asks before the answer is there does not know what it asks for.
	q.remove()
	if q.login == nil {
		return nil, fmt.Errorf("collect login that is not decided: %w", ErrNotFound)
	}
	return q.login, nil
}

// refuse sends FAIL; s.mu is held. Postfix and Exim read no further than that word and answer 535 for all of it; but when the connection breaks, both
// answer that the server is out of order, which is the truth about TempFail. Both say that they speak version 1.0, in which nobody who
// knows what "temp" means is left, and both have a connection for each session.
func (s *session) refuse(id uint32, r Reply) error {
	if r.Err != nil && s.srv.Report != nil {
		s.srv.Report(r.Err)
	}
	if r.Code == TempFail && s.minor == 0 {
		s.cutOff = true
		s.w.c.Close()
		return net.ErrClosed
	}
	return s.w.write(r.append(id, false))
}
