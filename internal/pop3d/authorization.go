package pop3d

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/pop3"
)

// authorization is a session in the AUTHORIZATION state.
type authorization struct {
	session
	login.Client
	timestamp string // of the greeting; "" without APOP

	named    bool // USER was said, and name is its argument
	name     string
	utf8     bool // UTF8 was said
	failures int

	login *Login // the end of this state
}

// Login is a client who has logged in, and has not been told. The caller serves his maildrop, here or elsewhere, or calls Fail.
type Login struct {
	User   string
	Ticket *authwire.Ticket // collects the login; nil without login.Server's Collect
	Conn   *pop3.Conn       // for Serve; or its Take, for what was sent behind the login already, and its Net, for the rest
	Note   Note

	a *authorization
}

// inAuthorization are the commands of the AUTHORIZATION state.
var inAuthorization = []command[*authorization]{
	{"USER", (*authorization).cmdUser},
	{"PASS", (*authorization).cmdPass},
	{"CAPA", (*authorization).cmdCapa},
	{"AUTH", (*authorization).cmdAuth},
	{"STLS", (*authorization).cmdStls},
	{"QUIT", (*authorization).cmdQuit},
	{"UTF8", (*authorization).cmdUTF8},
	{"LANG", (*authorization).cmdLang},
	{"APOP", (*authorization).cmdApop},
}

// Authorize takes a client from the greeting until he has logged in, and nil if he does not. The caller closes nc, in that case too. When ctx ends, the
// session ends.
func (s *Server) Authorize(ctx context.Context, nc net.Conn, kind string, peer login.Peer) *Login {
	a := &authorization{session: session{srv: s, conf: s.conf.Load(), ctx: ctx, c: pop3.NewConn(nc), start: s.now(), id: s.ids.Next("p"),
		client: maillog.Client{IP: peer.IP, Port: peer.Port, Proto: "POP3", Listener: kind}}}
	a.Client = login.NewClient(a.c.Conn, kind, peer, &a.conf.Gate)
	end := a.begin()
	a.run()
	end()
	if a.login != nil {
		return a.login
	}
	a.disconnect()
	return nil
}

func (a *authorization) run() {
	a.srv.Log.Connect(a.id, a.client)
	if a.conf.TimeoutLogin > 0 {
		a.c.SetDeadline(time.Now().Add(a.conf.TimeoutLogin))
	}
	switch {
	case a.TLS != "":
		a.underTLS()
	case a.Kind == POP3S && !a.startsWithTLS():
		return
	}
	// RFC 1939 section 7: the timestamp in the greeting is the offer of APOP. RFC 2449 section 3: there is no "<" but of it.
	greeting := strings.ReplaceAll(a.conf.Hostname, "<", "") + " POP3 postamt"
	if a.timestamp = a.conf.Auth.Timestamp(a.conf.Hostname); a.timestamp != "" {
		greeting += " " + a.timestamp
	}
	a.respond(pop3.OK(greeting))
	for !a.closing && a.login == nil {
		cmd, ok := a.read(login.MaxLine+len("AUTH ")+20+1, true)
		if !ok {
			continue
		}
		if c := find(inAuthorization, cmd.Keyword); c != nil {
			a.respond(c.run(a, cmd))
		} else {
			a.respond(a.elsewhere(cmd.Keyword, find(inTransaction, cmd.Keyword) != nil, "log in first"))
		}
	}
	// What was said to commands before the login must not wait for what comes after it.
	if a.c.Flush() != nil && a.login != nil {
		a.login = nil
	}
}

// disconnect is the last act of a session without a login.
func (a *authorization) disconnect() {
	if a.TLS != "" {
		// RFC 8446 section 6.1: close_notify goes first. The caller closes what lies below, and knows nothing of TLS.
		a.c.Close()
	}
	if a.why == "" {
		a.why = "lost"
	}
	a.srv.Log.Disconnect(a.id, maillog.Session{Client: a.client, Why: a.why, Error: a.broken, Rejected: a.failures, Took: a.srv.now().Sub(a.start)})
}

// Fail tells the client that his maildrop cannot be opened now, and ends the session; err is for the log.
func (l *Login) Fail(err error) {
	l.Conn.SetDeadline(time.Now().Add(time.Second)) // it need not wait: the line is short
	l.Conn.WriteResponse(unavailable())
	l.Conn.Flush()
	l.a.why, l.a.broken = "failed", err
	l.a.disconnect()
}

func unavailable() *pop3.Response {
	return pop3.Err(pop3.SysTemp, "the maildrop cannot be opened now, try again later")
}

// mechanisms are those that may be used now, separated by spaces.
func (a *authorization) mechanisms() string {
	if !a.MayLogIn() {
		return ""
	}
	return strings.Join(a.conf.Auth.Mechanisms(a.c.TLS()), " ")
}

const (
	// authTime bounds the exchange, with the delays of a server that is being guessed at.
	authTime = 2 * time.Minute
	// maxFailures: somebody who mistypes needs no more.
	maxFailures = 5
)

// errLost: the client is gone in the middle of an exchange; the session has ended.
var errLost = errors.New("pop3d: the client is gone")

// authenticate logs the client in by what judge says, or says why not; nil: he has logged in, or is gone.
func (a *authorization) authenticate(q login.Request, judge func(context.Context, login.Request) (login.User, error)) *pop3.Response {
	ctx, cancel := context.WithTimeout(a.ctx, authTime)
	defer cancel()
	if a.c.Flush() != nil { // the replies to what came with it: to guesses the judge is slow
		return nil
	}
	user, err := judge(ctx, q)
	switch {
	case err == nil && user.Name != "":
		return a.accept(user, q.Mechanism)
	case errors.Is(err, errLost):
		return nil
	case errors.Is(err, login.ErrCredentials):
		a.failures++
	}
	if a.failures >= maxFailures {
		a.close("limit")
	}
	return a.refusal(err)
}

func (a *authorization) accept(user login.User, mechanism string) *pop3.Response {
	if !a.srv.logins.admit(user.Name, a.srv.now(), a.conf.LoginDelay) {
		return pop3.Err(pop3.LoginDelay, "you have logged in a moment ago, try again later")
	}
	a.client.Login = user.Name
	a.srv.Log.Login(a.id, a.client, mechanism)
	a.login = &Login{User: user.Name, Ticket: user.Ticket, Conn: a.c, Note: Note{a.id, a.client, a.mechanisms()}, a: a}
	return nil
}

// refusal. RFC 3206 sections 4 and 5: AUTH is said where the credentials are the trouble and only there; what is ours is SYS.
func (a *authorization) refusal(err error) *pop3.Response {
	switch {
	case errors.Is(err, login.ErrExpired):
		return pop3.Err(pop3.Auth, "the password has expired")
	case errors.Is(err, login.ErrCredentials):
		return pop3.Err(pop3.Auth, "user name or password is wrong")
	case errors.Is(err, login.ErrMalformed), errors.Is(err, login.ErrBase64):
		return a.fault("the response is malformed")
	case errors.Is(err, login.ErrSyntax):
		return a.fault("syntax: AUTH mechanism [initial-response]")
	case errors.Is(err, login.ErrCancelled):
		return pop3.Err("", "cancelled")
	case errors.Is(err, login.ErrMechanism):
		return pop3.Err("", "no such mechanism here")
	case errors.Is(err, pop3.ErrLineTooLong):
		return a.fault("line too long")
	}
	if err != nil && a.ctx.Err() == nil {
		a.srv.Log.Problem(a.id, "authenticate", err)
	}
	// Never "yes", and never a no that makes people change a good password.
	return pop3.Err(pop3.SysTemp, "nobody can log in now, try again later")
}
