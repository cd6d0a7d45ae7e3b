package imapd

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/imap"
	"postamt/internal/login"
	"postamt/internal/maillog"
)

// authorization is a session in the Not Authenticated state.
type authorization struct {
	session
	login.Client
	failures int

	tag   string // of the command that is being executed
	login *Login // the end of this state
}

// Login is a client who has logged in, and has not been told. The caller serves his mailboxes, here or elsewhere, or calls Fail.
type Login struct {
	User   string
	Ticket *authwire.Ticket // collects the login; nil without login.Server's Collect
	Conn   *imap.Conn       // for Serve; or its Take, for what was sent behind the login already, and its Net, for the rest
	Note   Note

	a *authorization
}

// notAuthenticated are the commands of the Not Authenticated state.
var notAuthenticated = []struct {
	name string
	run  func(*authorization, imap.Command, *imap.Decoder) *imap.Status // the tagged response; nil: it was said, or will be, or the connection is lost
}{
	{"CAPABILITY", (*authorization).cmdCapability},
	{"LOGIN", (*authorization).cmdLogin},
	{"AUTHENTICATE", (*authorization).cmdAuthenticate},
	{"STARTTLS", (*authorization).cmdStartTLS},
	{"ID", (*authorization).cmdID},
	{"NOOP", (*authorization).cmdNoop},
	{"LOGOUT", (*authorization).cmdLogout},
}

// Authorize takes a client from the greeting until he has logged in, and nil if he does not. The caller closes nc, in that case too. When ctx ends, the
// session ends.
func (s *Server) Authorize(ctx context.Context, nc net.Conn, kind string, peer login.Peer) *Login {
	a := &authorization{session: session{srv: s, conf: s.conf.Load(), ctx: ctx, c: imap.NewConn(nc), start: s.now(), id: s.ids.Next("i"),
		client: maillog.Client{IP: peer.IP, Port: peer.Port, Proto: "IMAP", Listener: kind}}}
	a.Client = login.NewClient(a.c.Conn, kind, peer, &a.conf.Gate)
	a.srv.Log.Connect(a.id, a.client)
	return a.state(a.greet)
}

// Again takes the client of a session that ended with UNAUTHENTICATE as Authorize has taken him, but for the greeting (RFC 8437 section 3). What he has sent behind that command
// is in the connection. Refused logins of before count.
func (l *Login) Again(ctx context.Context) *Login {
	a := l.a
	a.ctx, a.login, a.client.Login, a.why, a.closing = ctx, nil, "", "", false
	a.c.Limits = imap.BeforeLogin()
	a.c.ClearWake()
	return a.state(func() {})
}

// state is the Not Authenticated state, from its first word to its end.
func (a *authorization) state(greet func()) *Login {
	a.c.Mode = imap.UTF8 // see the package comment
	end := a.begin()
	if a.conf.TimeoutLogin > 0 {
		a.c.SetDeadline(time.Now().Add(a.conf.TimeoutLogin))
	}
	greet()
	a.run()
	end()
	if a.login != nil {
		a.c.Mode = 0
		return a.login
	}
	a.disconnect()
	return nil
}

// greet says the greeting, after the handshake where TLS comes first.
func (a *authorization) greet() {
	switch {
	case a.TLS != "":
		a.underTLS()
	case a.Kind == IMAPS && !a.startsWithTLS():
		return
	}
	a.respond("", imap.OK(imap.CodeCapability(a.capabilities()), a.conf.Hostname+" IMAP postamt"))
}

// run serves commands until the state has ended.
func (a *authorization) run() {
	for !a.closing && a.login == nil {
		cmd, d, ok := a.read()
		if !ok {
			continue
		}
		i := 0
		for i < len(notAuthenticated) && notAuthenticated[i].name != cmd.Name {
			i++
		}
		if i == len(notAuthenticated) || cmd.UID {
			a.wrong(cmd, imap.Bad("no such command before the login"))
			continue
		}
		a.tag = cmd.Tag
		a.respond(cmd.Tag, notAuthenticated[i].run(a, cmd, d))
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

// Fail tells the client that his mailbox cannot be opened now, and ends the session; err is for the log.
func (l *Login) Fail(err error) {
	l.Conn.SetDeadline(time.Now().Add(byeTime)) // it need not wait: the lines are short
	l.Conn.WriteStatus(l.Note.Tag, unavailable())
	l.Conn.WriteStatus("", imap.Bye("", "try again later"))
	l.Conn.Flush()
	l.a.why, l.a.broken = "failed", err
	l.a.disconnect()
}

func unavailable() *imap.Status {
	return imap.No(imap.Unavailable, "the mailbox cannot be opened now, try again later")
}

// capabilities are what may be used now. STARTTLS is announced where it may be said; LOGINDISABLED where LOGIN cannot succeed (RFC 9051 section 6.2.3), but
// not because authd is away: programs take it for a property of the server.
func (a *authorization) capabilities() []string {
	list := append(a.session.capabilities("LITERAL-"), "SASL-IR")
	if a.OffersTLS() {
		list = append(list, "STARTTLS")
	}
	if !a.MayLogIn() {
		return append(list, "LOGINDISABLED")
	}
	mechanisms := a.conf.Auth.Mechanisms(a.c.TLS())
	if len(mechanisms) > 0 && !slices.Contains(mechanisms, plain) {
		list = append(list, "LOGINDISABLED")
	}
	for _, m := range mechanisms {
		list = append(list, "AUTH="+m)
	}
	return list
}

func (a *authorization) underTLS() {
	a.client.Proto = "IMAPS"
	version, cipher, _ := strings.Cut(a.TLS, " ")
	a.srv.Log.TLS(a.id, "", version, cipher, nil)
}

const (
	// authTime bounds the exchange, with the delays of a server that is being guessed at.
	authTime = 2 * time.Minute
	// maxFailures: somebody who mistypes needs no more.
	maxFailures = 5
)

// errLost: the client is gone in the middle of an exchange; the session has ended.
var errLost = errors.New("imapd: the client is gone")

// authenticate logs the client in, or says why not; nil: he has logged in, or is gone.
func (a *authorization) authenticate(mechanism string, initial []byte, ask func([]byte) ([]byte, error)) *imap.Status {
	ctx, cancel := context.WithTimeout(a.ctx, authTime)
	defer cancel()
	user, err := a.conf.Auth.Authenticate(ctx, a.Request(a.id, mechanism, initial), ask)
	switch {
	case err == nil && user.Name != "":
		a.client.Login = user.Name
		a.srv.Log.Login(a.id, a.client, mechanism)
		a.login = &Login{User: user.Name, Ticket: user.Ticket, Conn: a.c, Note: Note{a.id, a.client, a.tag, true}, a: a}
		return nil
	case errors.Is(err, errLost):
		return nil
	case errors.Is(err, login.ErrCredentials):
		return a.refuse(err)
	}
	return a.refusal(err)
}

// refuse counts a login that was refused. One too many ends the session.
func (a *authorization) refuse(err error) *imap.Status {
	a.failures++
	r := a.refusal(err)
	if a.failures < maxFailures {
		return r
	}
	a.respond(a.tag, r)
	a.bye("limit", "", "too many refused logins")
	return nil
}

// refusal. RFC 5530: AUTHENTICATIONFAILED and EXPIRED are said where the credentials are the trouble and only there; what is ours is UNAVAILABLE.
func (a *authorization) refusal(err error) *imap.Status {
	var status *imap.Status
	switch {
	case errors.As(err, &status): // of the client's response
		return status
	case errors.Is(err, login.ErrExpired):
		return imap.No(imap.Expired, "the password has expired")
	case errors.Is(err, login.ErrCredentials):
		return imap.No(imap.AuthenticationFailed, "user name or password is wrong")
	case errors.Is(err, login.ErrMalformed):
		return imap.Bad("the response is malformed")
	case errors.Is(err, login.ErrMechanism):
		return imap.No("", "no such mechanism here")
	case errors.Is(err, imap.ErrLineTooLong):
		return imap.Bad("the response is too long")
	}
	if err != nil && a.ctx.Err() == nil {
		a.srv.Log.Problem(a.id, "authenticate", err)
	}
	// Never "yes", and never a no that makes people change a good password.
	return imap.No(imap.Unavailable, "nobody can log in now, try again later")
}
