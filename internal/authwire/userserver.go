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
	"time"
)

// A UserServer answers on user sockets. Set the fields before the first connection. It is safe for concurrent use, if Users is. Who may ask what is
// decided by who may connect, and by what Users it gets: give each connection a UserServer of its own where that depends on the peer.
type UserServer struct {
	Users       Users
	Tickets     *Tickets        // collected with REQUEST; nil: none
	PID         int             // SPID; 0: this process. The same as that of the Server with the same Tickets
	MaxLine     int             // octets; 0: MaxLine
	MaxRequests int             // at once on one connection, more must wait; 0: MaxRequests
	Lifetime    time.Duration   // of a look-up; 0: Lifetime
	Report      func(err error) // called with errors that the client is not told; nil: dropped
}

// ServeConn speaks with one client, on the terms of Server.ServeConn.
func (srv *UserServer) ServeConn(ctx context.Context, c net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	s := &userSession{srv: srv, ctx: ctx, w: &lineWriter{c: c}, slots: make(chan struct{}, cmp.Or(srv.MaxRequests, MaxRequests))}
	err := s.serve(newLineReader(c, cmp.Or(srv.MaxLine, MaxLine)))
	done := ctx.Err() != nil
	c.Close()
	cancel()
	s.running.Wait()
	if err == io.EOF || done {
		return nil
	}
	return err
}

type userSession struct {
	srv     *UserServer
	ctx     context.Context
	w       *lineWriter
	slots   chan struct{}
	running sync.WaitGroup
}

func (s *userSession) serve(lines *lineReader) error {
	if err := s.w.write(fmt.Appendf(nil, "VERSION\t%d\t%d\nSPID\t%d\n", Major, Minor, cmp.Or(s.srv.PID, os.Getpid()))); err != nil {
		return err
	}
	s.w.c.SetReadDeadline(time.Now().Add(helloLimit))
	for version := false; ; {
		line, err := lines.next()
		if err != nil {
			return err
		}
		w := words(line)
		if version {
			err = s.line(w)
		} else if string(w[0]) != "VERSION" {
			err = fmt.Errorf("handshake without VERSION: %w", errProtocol)
		} else if _, err = parseVersion(w); err == nil {
			version = true
			s.w.c.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return err
		}
	}
}

// line starts what a line asks for.
func (s *userSession) line(w [][]byte) error {
	var answer func(ctx context.Context) []byte
	switch verb := string(w[0]); verb {
	case "USER", "PASS":
		id, q, err := parseQuery(w)
		if err != nil {
			return err
		}
		look := s.srv.Users.Lookup
		if verb == "PASS" {
			look = s.srv.Users.Pass
		}
		answer = func(ctx context.Context) []byte { return s.lookup(ctx, verb, id, q, look) }
	case "LIST":
		id, q, err := parseQuery(w)
		if err != nil {
			return err
		}
		answer = func(ctx context.Context) []byte { return s.list(ctx, id, q) }
	case "REQUEST":
		id, ticket, extra, err := parseRequest(w)
		if err != nil {
			return err
		}
		answer = func(ctx context.Context) []byte { return s.collect(ctx, id, ticket, extra) }
	case "CPID":
		return fmt.Errorf("a client of the client socket came to the user socket: %w", errProtocol)
	default:
		return fmt.Errorf("unknown command: %w", errProtocol)
	}
	// Nothing that is under way needs a further line, so it is safe to read no further.
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		defer func() { <-s.slots }()
		ctx, cancel := context.WithTimeoutCause(s.ctx, cmp.Or(s.srv.Lifetime, Lifetime), errLifetime)
		defer cancel()
		s.w.write(answer(ctx))
	}()
	return nil
}

func (s *userSession) lookup(ctx context.Context, verb string, id uint32, q *Query, look func(context.Context, *Query) (User, error)) []byte {
	u, err := User{}, ErrNotFound
	if plausible(q.User) {
		u, err = look(ctx, q)
	}
	if err == nil && u.Name == "" {
		err = errors.New("look-up found a user without a name")
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return append(command("NOTFOUND", id), '\n')
	case err != nil:
		s.report(err)
		return append(command("FAIL", id), '\n')
	}
	b := append(command(verb, id), '\t')
	if verb == "PASS" {
		b = append(b, "user="...)
	}
	b = u.Fields.append(appendEscaped(b, u.Name))
	if q.Login != nil {
		b = appendText(b, "auth_mech", q.Login.Request.Mechanism)
	}
	return append(b, '\n')
}

func (s *userSession) collect(ctx context.Context, id uint32, t Ticket, extra Fields) []byte {
	if s.srv.Tickets == nil {
		return append(command("FAIL", id), '\n')
	}
	login, err := s.srv.Tickets.Collect(t)
	if err != nil {
		s.report(err)
		return append(command("FAIL", id), '\n') // as Dovecot: the login is not there, which says nothing about a user
	}
	r := login.Request
	q := &Query{User: login.User, Service: r.Service, LocalIP: r.LocalIP, RemoteIP: r.RemoteIP, LocalPort: r.LocalPort, RemotePort: r.RemotePort,
		LocalName: r.LocalName, Session: r.Session, Extra: extra, Login: login}
	return s.lookup(ctx, "USER", id, q, s.srv.Users.Lookup)
}

func (s *userSession) list(ctx context.Context, id uint32, q *Query) []byte {
	err := s.srv.Users.List(ctx, q, func(name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.w.write(append(appendEscaped(append(command("LIST", id), '\t'), name), '\n'))
	})
	b := append(command("DONE", id), '\t')
	if err != nil {
		s.report(err)
		b = append(b, "fail"...)
	}
	return append(b, '\n')
}

func (s *userSession) report(err error) {
	if s.srv.Report != nil {
		s.srv.Report(err)
	}
}
