// Package smtpd is the server side of an SMTP session (RFC 5321): it takes messages in and puts them into a queue.
//
// A session is a connection, a configuration and a queue, and nothing else; it runs in one goroutine. The verbs stand in
// one table (session.go), each command is one function (cmd_*.go) that parses, checks the state, acts, and returns its
// reply. What becomes of a message's octets is in intake.go, the fields put on top of it in trace.go.
//
// States, as RFC 5321 section 4.1.4 has them:
//
//	state        is                        left by
//	greeted      helo == ""                HELO, EHLO
//	ready        tx == nil                 MAIL
//	mail         tx has no recipient       RCPT; RSET, HELO, EHLO, STARTTLS to ready (the last to greeted)
//	rcpt         tx has recipients         DATA, BDAT; as above
//	chunks       tx.in is there            BDAT ... LAST, RSET
//
// Promises:
//   - 250 after the final dot, or after BDAT LAST, is said when Writer's CommitIf returned, and only then. A connection
//     that ends earlier leaves nothing.
//   - One message in is one message out: only CR LF ends a line, only CR LF . CR LF a message. A lone CR or LF is never
//     taken for a line end; the message with it is read to its true end and refused, unless it is BINARYMIME. When it
//     cannot be told where data ends, the connection is closed.
//   - Nothing said before STARTTLS counts after it, and nothing sent in clear behind it is executed.
//   - Memory of a session is bounded: idle a few KiB, in DATA what the queue's writer buffers and at most maxHeader.
//
// Divergences: RFC 5321 section 4.4 allows a client name in Received that was looked up; we look none up. Section 3.3 has
// Return-Path fields only removed by the last server; we remove them at once. RFC 3030 section 2 asks that a chunk of any
// size be read before it is refused; one of more than twice the size limit gets 552 and an end of the connection.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"postamt/internal/addr"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// Config is what a session needs to know. It is not changed while it is in use; a reload makes a new one, and sessions
// keep the one they began with. Zero switches a limit off, where nothing else is said.
type Config struct {
	Hostname  string
	Home      string // the domain of <postmaster>; "" is Hostname, which may be none that mail is delivered for
	SizeLimit int64  // octets a message
	RcptLimit int    // recipients a transaction; 0 is 100, RFC 5321 section 4.5.3.1.8
	MailLimit int    // transactions a connection
	Hops      int    // Received fields

	TimeoutCommand time.Duration // for a command line to be complete
	TimeoutData    time.Duration // for each block of a message
	TimeoutSession time.Duration
	TimeoutCommit  time.Duration // from the end of a message until it is permanent
	MinRate        int64         // octets a second over a message, after its first minute
	StressPercent  int
	StressTimeout  time.Duration // TimeoutCommand under stress

	ErrorSoft  int // errors before replies are delayed
	ErrorDelay time.Duration
	ErrorHard  int // errors before the connection is closed
	JunkLimit  int // commands without mail before each is an error

	TLS      *tls.Config           // nil: no STARTTLS
	MayRelay func(netip.Addr) bool // clients that may send to anywhere on an mx listener; nil: none

	Auth        Authenticator         // on listeners for submission; nil: nobody can log in
	AuthInClear func(netip.Addr) bool // clients that may log in without TLS; nil: none
	Senders     Senders               // which addresses a login may send from; nil: any
	Usage       Usage                 // how much it may send; nil: any amount
	// BeginTLS is asked before each handshake on a listener of the kind. What it returns is used in the place of TLS; an
	// error says that a handshake would fail now. May be nil.
	BeginTLS func(kind string) (*tls.Config, error)

	Recipients Recipients
}

// Recipients judges recipients. It is used by many sessions at once.
type Recipients interface {
	// Admit judges mail for one address; relay says that the client may send to anywhere. The error is a *smtp.Reply that
	// refuses it, or a fault of ours, which the client sees as 451 4.3.0. Final is the mailbox of ours that it ends in,
	// without its tag; the null mailbox when it is an alias, or not ours.
	Admit(from, to addr.Mailbox, relay bool) (final addr.Mailbox, err error)
}

// Senders judges the addresses that a user of ours writes as the sender. It is used by many sessions at once.
type Senders interface {
	// Envelope judges the reverse-path, which is not null; Header the mailboxes of From. The error is a *smtp.Reply that
	// refuses it, or a fault of ours.
	Envelope(login string, from addr.Mailbox) error
	Header(login string, from []string) error
}

// Usage counts what users of ours send. It is used by many sessions at once.
type Usage interface {
	// Count adds a message to so many recipients, and says in words which limit it is over; "" is none.
	Count(login string, rcpts int, now time.Time) (over string, err error)
}

// Queue is where messages go. It is used by many sessions at once.
type Queue interface {
	// Create begins the message e.ID.
	Create(e *queue.Envelope) (Writer, error)
}

// Writer takes one message. After CommitIf or Abort, whatever they returned, it is not used again.
type Writer interface {
	Write(p []byte) (int, error) // keeps nothing of p
	// CommitIf returns when the message is on stable storage, and an error leaves nothing behind. Before anybody can see the
	// message it asks keep whether it is still wanted.
	CommitIf(keep func() bool) error
	Abort()
}

// Kinds of listeners.
const (
	MX          = "mx"
	Submission  = "submission"
	Submissions = "submissions"
	Local       = "local"
)

// Peer is who is at the other end.
type Peer struct {
	IP    netip.Addr // not valid for a local socket
	Port  uint16
	Login string // the name behind a local socket; "" unknown
	TLS   string // version and cipher of TLS that ends before us; "" in clear
	// StartTLS has whoever passes the connection on begin with TLS on it, and returns version and cipher; nil: he cannot.
	StartTLS func() (string, error)
}

// Server is what all sessions share.
type Server struct {
	Queue  Queue
	Wake   func(queue.ID)         // tells the owner of the queue; may be nil
	Log    *maillog.Logger        // may be nil
	Stress func(percent int) bool // more than so many percent of the sessions are in use; may be nil
	// Room says whether a message of that size (as declared; 0 if it was not) may fit into a mailbox of ours, by its key; may be nil.
	Room func(mailbox string, size int64, now time.Time) bool

	// Now and Sleep are the clock; nil is the real one. Timeouts of the connection are always real.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration)

	conf      atomic.Pointer[Config]
	committed chan struct{} // a place for each session in commit
	late      lateness
	ids       maillog.SessionIDs
}

// NewServer makes a server with room for so many sessions in commit at once: each of them holds a thread of the system.
func NewServer(q Queue, c *Config, commits int) *Server {
	s := &Server{Queue: q, committed: make(chan struct{}, max(1, commits))}
	s.conf.Store(c)
	return s
}

// SetConfig is for sessions that begin later.
func (s *Server) SetConfig(c *Config) { s.conf.Store(c) }

// Serve runs one session and returns when it is over; the caller closes nc. When ctx ends, a session without a
// transaction says 421 and ends, another goes on to the end of its transaction.
func (s *Server) Serve(ctx context.Context, nc net.Conn, kind string, peer Peer) {
	x := &session{srv: s, conf: s.conf.Load(), ctx: ctx, nc: nc, c: smtp.NewConn(nc), kind: kind, peer: peer, start: s.now(), id: s.ids.Next("s")}
	x.run()
}

// Refuse says 421 to a connection that may not become a session. It does not wait: a few octets always fit a new
// connection's buffer.
func (s *Server) Refuse(nc net.Conn) {
	if err := nc.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	nc.Write([]byte("421 4.7.0 " + s.conf.Load().Hostname + " too many connections, try again later\r\n"))
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) sleep(ctx context.Context, d time.Duration) {
	if s.Sleep != nil {
		s.Sleep(ctx, d)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// commit is CommitIf, not for too many at once.
func (s *Server) commit(w Writer, keep func() bool) error {
	s.committed <- struct{}{}
	defer func() { <-s.committed }()
	return w.CommitIf(keep)
}

// storeReply is what the client is told of an error of the queue.
func storeReply(err error) *smtp.Reply {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return smtp.NewReply(452, "4.3.1", "out of room, try again later")
		}
	}
	return smtp.NewReply(451, "4.3.0", "error of this system, try again later")
}
