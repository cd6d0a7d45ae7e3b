// Package imapd is the server side of an IMAP session (RFC 9051, RFC 3501), in two halves that may be run by two processes: a front, which has no rights,
// takes the client until he has logged in (Authorize); a worker, which has those of the owner, serves him his mailboxes (Serve).
//
// Each half runs in one goroutine. The commands stand in a table for each; each is one function (cmd_*.go) that parses, checks, acts, and returns the
// tagged response.
//
//	state              is                             left by
//	Not Authenticated  authorization, login == nil    LOGIN, AUTHENTICATE that succeed; LOGOUT and all else to the end
//	between            a *Login                       Serve; Fail to the end
//	Authenticated      (Serve)                        LOGOUT and all else to the end; UNAUTHENTICATE back (Again), in one process
//	Logout             closing                        the last response
//
// The client is told that he has logged in when his mailbox is open. So the tag of his LOGIN travels in the Note. What he sent behind it without waiting
// stays in the connection of the Login.
//
// Promises:
//   - Nothing said before STARTTLS counts after it, and nothing sent in clear behind it is executed.
//   - Whatever ends a session, but the loss of its connection, and a literal that cannot be brought to its end, is said with BYE.
//   - Memory of a session before the login is bounded by imap.BeforeLogin(), and idle a few KiB.
//
// Divergences: RFC 9051 section 5.4 wants an inactivity timer of 30 minutes at least; until somebody has logged in it is a shorter one, over all. Quoted strings of LOGIN
// may have UTF-8 in them, which revision 2 has, and which nobody could enable before.
package imapd

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"postamt/internal/login"
	"postamt/internal/maillog"
)

// Config is what a session needs to know. It is not changed while it is in use.
type Config struct {
	Hostname     string
	TimeoutLogin time.Duration // from the greeting to the login
	TimeoutIdle  time.Duration // then, without a command; RFC 9051 section 5.4: 30 minutes at least
	ErrorLimit   int           // commands that are BAD; 0: no limit
	MessageLimit int64         // octets of an APPEND; 0: no limit
	UserLimit    int           // sessions of a user at once; 0: no limit
	CommandLimit int           // messages that one command works on (RFC 9738); 0: no limit
	Shared       string        // the directory of the shared maildirs; "": there are none

	login.Gate               // of Authorize
	Auth       Authenticator // of Authorize

	// In the place of the constants:
	writeTime, progressTime time.Duration
	appendMost              int
}

// Authenticator logs clients in: a *login.Server, which says more. It is used by many sessions at once.
type Authenticator interface {
	// Mechanisms are the SASL mechanisms to offer, with TLS of ours or without (nil); none when nobody can log in now.
	Mechanisms(*tls.ConnectionState) []string
	// Authenticate runs one exchange. ask sends a challenge and returns the client's response; its error ends the exchange and is returned as it is. Other
	// errors are login's; any other says that nobody can tell now.
	Authenticate(ctx context.Context, q login.Request, ask func(challenge []byte) (response []byte, err error)) (login.User, error)
}

var _ Authenticator = (*login.Server)(nil)

// Kinds of listeners.
const (
	IMAP  = "imap"
	IMAPS = "imaps"
)

// Server is what the sessions of a process share.
type Server struct {
	Log *maillog.Logger  // may be nil
	Now func() time.Time // nil: the real clock; timeouts of the connection are always real

	conf  atomic.Pointer[Config]
	ids   maillog.SessionIDs
	users users
}

// NewServer makes a server.
func NewServer(c *Config) *Server {
	s := &Server{}
	s.conf.Store(c)
	return s
}

// SetConfig is for sessions that begin later.
func (s *Server) SetConfig(c *Config) { s.conf.Store(c) }

// Refuse says to a connection that it may not become a session. It does not wait: a few octets always fit a new connection's buffer.
func (s *Server) Refuse(nc net.Conn) {
	if err := nc.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	nc.Write([]byte("* BYE [LIMIT] too many connections, try again later\r\n"))
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// users counts the sessions of each user.
type users struct {
	mu sync.Mutex
	n  map[string]int
}

// enter is false for one too many, when there is a limit.
func (u *users) enter(name string, limit int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if limit > 0 && u.n[name] >= limit {
		return false
	}
	if u.n == nil {
		u.n = map[string]int{}
	}
	u.n[name]++
	return true
}

func (u *users) leave(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n[name]--; u.n[name] <= 0 {
		delete(u.n, name)
	}
}
