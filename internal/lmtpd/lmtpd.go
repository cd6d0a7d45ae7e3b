// Package lmtpd is the LMTP server (RFC 2033) that stores mail in maildirs: one
// session as a state machine, and the answer to who a recipient is.
//
// It differs from SMTP in two things: the client says LHLO, and after the
// message there is one reply for each recipient that was accepted, in their
// order, so that each mailbox has a result of its own and nothing needs to be
// queued here. A 250 means that the message is on disk in that mailbox.
//
// Offered are PIPELINING, 8BITMIME, BINARYMIME, CHUNKING, SMTPUTF8,
// ENHANCEDSTATUSCODES, SIZE and DSN (whose parameters are for the client, which
// makes the reports). On sockets that only our own queued can reach there is one
// more:
//
//	XQID    MAIL FROM:<...> XQID=id XARRIVED=microseconds XSUSPECT XEXPAND
//	        RCPT TO:<...> XTARGET=target
//
// XQID is the queue id of the message that was accepted from outside, XARRIVED
// when; the name of the file follows from them, so that a repeated attempt finds
// the first one's. XSUSPECT says that an earlier attempt has no known end. A
// message without XQID gets an id of ours and a Received field.
//
// XTARGET says what of the address is meant, and XEXPAND that the client can be told what the forward file of a user says, and send the message on: smtp.InAlias and the
// words beside it. From other clients forward files are not looked at: they have their own.
//
// When it is unknown whether a message was stored (the sync of the directory
// failed), the session ends without the reply, which is just what the client
// must think.
//
// Where each user's mail is stored by a process of his own (package monitor) there
// are two of these sessions in a row: a front, whose Router sends each recipient
// on to the worker of his user id, and in the worker this one with a Store.
//
// Promises: lines end in CRLF and nothing else; a message with a bare CR or LF
// that is not BINARYMIME is refused; memory is bounded by the mebibyte that
// maildir holds of a message and a few hundred bytes for each recipient; after a
// signal to stop, the transaction under way is finished.
package lmtpd

import (
	"context"
	"io"
	"net"
	"time"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/forward"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// Mailboxes says who is behind an address. It is asked from many sessions at once.
type Mailboxes interface {
	// Mailbox finds the mailbox of a recipient. An error that is a *smtp.Reply
	// is what the client is told; any other is logged and told as temporary.
	Mailbox(to Rcpt) (Mailbox, error)
}

// Rcpt is whom mail is for.
type Rcpt struct {
	Addr   addr.Mailbox
	Target string // what of the address is meant; "" the mailbox, or what the forward file says
}

// String is a name for processes to ask each other by.
func (r Rcpt) String() string {
	if r.Target == "" {
		return r.Addr.String()
	}
	return r.Target + " " + r.Addr.String()
}

// Runs tells whether a command or a file is meant: the business of a process of its own.
func (r Rcpt) Runs() bool { return r.Target != "" && r.Target != smtp.JustMailbox }

// AppendFile appends a message to an mbox file. m.ID, m.Arrived and m.Suspect are as for a maildir; from is the envelope sender. nil means that it is on disk.
type AppendFile func(path, from string, m maildir.Message, text *io.SectionReader) error

// Mailbox is where mail for a recipient goes.
type Mailbox struct {
	User     string // its name in the user database
	Target   maildir.Target
	UID, GID userdb.ID // whose it is; userdb.NoID: whoever delivers
	Home     string    // of the user, as the user database has it; "" none

	// At most one of these is not zero; then it is meant, and Target if none is.
	Command string         // a command
	File    string         // an mbox file
	Steps   []alias.Target // of a .qmail file with commands: one after the other
}

// Config is what an administrator decides.
type Config struct {
	Hostname       string
	SizeLimit      int64         // of a message, in bytes; 0: none
	RecipientLimit int           // of a transaction; 0: 2,000
	TimeoutCommand time.Duration // for the next command line; 0: 5 minutes
	TimeoutData    time.Duration // for each block of a message; 0: 3 minutes
	Delimiters     string        // between a local part and its tag; "" none
	CommandTime    time.Duration // for a command of an alias or forward file; 0: 5 minutes
	ErrorLimit     int           // bad commands before the session is closed; 0: 50
}

// Server serves sessions, any number at once.
type Server struct {
	Config    Config
	Mailboxes Mailboxes
	Store     *maildir.Store
	Append    AppendFile
	Forwards  *forward.Files // read as the user; nil: nobody has a forward file
	Router    *Router        // not nil: takes all mail instead of Store, and of a Mailbox only UID is used
	Log       *maillog.Logger
	Now       func() time.Time // nil: time.Now
}

// Serve runs one session on a connection and returns when it has ended; the
// caller closes the connection. When ctx ends, the session finishes its
// transaction, says 421 and returns. Trusted offers XQID.
func (v *Server) Serve(ctx context.Context, nc net.Conn, trusted bool) {
	newSession(v, ctx, nc, trusted).run()
}

func (v *Server) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.RecipientLimit == 0 {
		c.RecipientLimit = 2000
	}
	if c.TimeoutCommand == 0 {
		c.TimeoutCommand = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	}
	if c.TimeoutData == 0 {
		c.TimeoutData = 3 * time.Minute // RFC 5321 section 4.5.3.2.5
	}
	if c.CommandTime == 0 {
		c.CommandTime = 5 * time.Minute
	}
	if c.ErrorLimit == 0 {
		c.ErrorLimit = 50
	}
	return c
}
