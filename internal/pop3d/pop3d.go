// Package pop3d is the server side of a POP3 session (RFC 1939), in two halves that may be run by two processes: a front, which has no rights,
// takes the client until he has logged in (Authorize); a worker, which has those of the owner, serves him his maildrop (Serve).
//
// Each half runs in one goroutine. The commands stand in a table for each (authorization.go, transaction.go); each is one function (cmd_*.go)
// that parses, checks, acts, and returns its response.
//
//	state          is                               left by
//	AUTHORIZATION  authorization, login == nil      PASS, APOP, AUTH that succeed; QUIT to the end
//	between        a *Login                         Serve; Fail to the end
//	TRANSACTION    transaction                      QUIT to UPDATE; all else to the end
//	UPDATE         cmdQuit, transaction             its response
//
// The client is told that he has logged in when his maildrop is open: so [IN-USE] is the response to PASS, as RFC 1939 section 4 wants it. What
// he sent behind PASS without waiting (PIPELINING) stays in the connection of the Login.
//
// Promises:
//   - +OK to QUIT is said when Maildrop's Remove and Close have returned, and only then. A session that ends otherwise removes nothing.
//   - The octets of RETR, without stuffed dots, are as many as LIST says, or the connection is closed within the message; a last line that
//     has no end gets one, be it counted or not.
//   - Nothing said before STLS counts after it, and nothing sent in clear behind it is executed.
//   - Memory of a session is bounded: idle a few KiB, and one octet a message after the first DELE; 80 KiB while a message is sent.
//
// Divergences: RFC 1939 section 3 wants an inactivity timer of ten minutes at least; until somebody has logged in it is a shorter one, over all. RFC 5034
// section 4 limits AUTH to 255 octets; more is taken. RFC 6856 section 2.1: octets above 127 are sent to clients that have not said UTF8, too;
// pop3d(8) says why. EXPIRE 0 (RFC 2449 section 6.7) cannot be said: nothing is removed that was not marked.
package pop3d

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/pop3"
)

// Config is what a session needs to know. It is not changed while it is in use.
type Config struct {
	Hostname     string
	TimeoutLogin time.Duration // from the greeting to the login
	TimeoutIdle  time.Duration // then, without a command; RFC 1939 section 3: ten minutes at least
	ErrorLimit   int           // commands that are none; 0: no limit
	Expire       int           // days that messages are kept at least, by whoever removes them; 0: for ever
	LoginDelay   time.Duration // between logins of a user; 0: none

	login.Gate               // of Authorize
	Auth       Authenticator // of Authorize

	writeTime time.Duration // in the place of the constant
}

// Authenticator logs clients in: a *login.Server, which says more. It is used by many sessions at once.
type Authenticator interface {
	// Mechanisms are the SASL mechanisms to offer, with TLS of ours or without (nil); none when nobody can log in now.
	Mechanisms(*tls.ConnectionState) []string
	// Timestamp is one for the greeting of a session, never the same again, or "" where there is no APOP.
	Timestamp(hostname string) string
	APOP(ctx context.Context, q login.Request, timestamp, name string, digest [16]byte) (login.User, error)
	// Authenticate runs one exchange. ask sends a challenge and returns the client's response; its error ends the exchange and is returned as it is. Other
	// errors are login's; any other says that nobody can tell now.
	Authenticate(ctx context.Context, q login.Request, ask func(challenge []byte) (response []byte, err error)) (login.User, error)
}

// Maildrop is the messages of one user, as of the moment when it was opened, and locked for us. The session is its only user; messages are counted from 0.
type Maildrop interface {
	Len() int
	// Size is the number of octets in wire form: those of the file, and one for each LF without a CR before it. A last line that has no
	// end may be counted with one.
	Size(i int) (int64, error)
	// UIDL is 1 to 70 octets from 0x21 to 0x7E, another for each message, and the same in each session.
	UIDL(i int) string
	// Open opens a message. Its lines end in CRLF, LF, or both kinds. One that is gone is fs.ErrNotExist.
	Open(i int) (Message, error)
	// Mistaken says that a message was not of its Size; what is known of it is not to be believed.
	Mistaken(i int)
	// Remove removes messages, and returns when that is permanent. Those that were gone are removed. An error says why those that failed were not.
	Remove(ctx context.Context, list []int) (failed []int, err error)
	// Close lets go of the lock.
	Close() error
}

// Message is an open message.
type Message interface {
	io.Reader
	io.Closer
}

// ErrInUse says, of opening a maildrop, that another session has it.
var ErrInUse = errors.New("the maildrop is in use")

// Kinds of listeners.
const (
	POP3  = "pop3"
	POP3S = "pop3s"
)

// Server is what the sessions of a process share.
type Server struct {
	Log *maillog.Logger  // may be nil
	Now func() time.Time // nil: the real clock; timeouts of the connection are always real

	conf   atomic.Pointer[Config]
	ids    maillog.SessionIDs
	logins recent
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
	nc.Write([]byte("-ERR [SYS/TEMP] too many connections, try again later\r\n"))
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// capabilities are those that both states announce (RFC 2449 section 5).
func (c *Config) capabilities(mechanisms string) []string {
	list := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG"}
	if hasWord(mechanisms, plain) {
		list = append(list, "USER")
	}
	if mechanisms != "" {
		list = append(list, "SASL "+mechanisms)
	}
	if c.LoginDelay > 0 {
		list = append(list, "LOGIN-DELAY "+strconv.FormatInt(int64((c.LoginDelay+time.Second-1)/time.Second), 10))
	}
	expire := "NEVER"
	if c.Expire > 0 {
		expire = strconv.Itoa(c.Expire)
	}
	return append(list, "EXPIRE "+expire, "IMPLEMENTATION postamt-pop3d")
}

// plain is what USER and PASS are sent to the authentication server as.
const plain = "PLAIN"

var _ Authenticator = (*login.Server)(nil)

// capa is the response to CAPA.
func capa(c *pop3.Conn, list []string) {
	c.WriteResponse(pop3.OK("capability list follows"))
	for _, s := range list {
		c.WriteLine(s)
	}
	c.End()
}
