// Package remote sends mail to other servers, by SMTP (RFC 5321) and LMTP (RFC 2033): it finds the hosts of a domain (Find), connects,
// negotiates, sends one message to many recipients, and says for each of them what became of it (Outcome).
//
// It promises:
//   - Each recipient of a Transaction gets exactly one Outcome, and "done" only after the peer's own positive reply to the end of the message.
//   - What is not understood is temporary: a reply out of place, a line without an end, a lost connection. A recipient fails for good
//     only by a 5yz of the peer at its place, or because the message cannot travel unchanged to a peer that lacks an extension.
//   - When the connection is lost after the end of the message was sent and before the reply, the outcome says MaybeDelivered (RFC 1047),
//     and no other host is tried with it.
//   - A message is bounced rather than mangled: nothing is converted. A message declared 8BITMIME or BINARYMIME goes to a peer without the extension
//     only if a look at all its bytes shows that it does not need it.
//   - One message in is one message out: under DATA, and under BDAT to SMTP peers unless both sides agreed on BINARYMIME, every line end is sent as CRLF.
//   - Every wait is bounded by its phase (Timeouts) and all of them by Timeouts.Total; a peer that takes a message slower than MinRate is left.
//   - Memory for a connection is at most 64 KiB beside the buffers of package smtp and of TLS, whatever the message and the peer (three times that
//     while a small message with odd line ends goes out by BDAT).
//
// A 5yz greeting or EHLO reply speaks for a host, not for a domain: the next host is tried, and only when all hosts that were tried said 5yz
// does the message fail (RFC 5321 section 3.1 and 4.2.4.2, RFC 7504). A 4yz reply to MAIL or RCPT moves the recipients concerned to one more host.
//
// With TLS in mode May certificates are not verified, for a peer that is let through in clear anyway loses nothing by a bad one (RFC 7435);
// what Conn.TLS and Outcome.TLS say ends in "unverified" to say so. Versions below 1.2 are not spoken (RFC 8996).
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"postamt/internal/smtp"
)

// TLSMode is how much encryption is asked for.
type TLSMode int

const (
	TLSMay     TLSMode = iota // STARTTLS when offered; if it fails, once more in clear on a fresh connection
	TLSNo                     // never
	TLSEncrypt                // always, unverified; without it the recipients are deferred
)

// String is the mode in the words of remote_tls, and what it means.
func (m TLSMode) String() string {
	return [...]string{"may: STARTTLS if it is offered, unverified, else in clear", "no: in clear", "encrypt: STARTTLS, unverified, else the message waits"}[m]
}

// Policy is the TLS mode that holds for an endpoint: behind a Unix socket there is none.
func (o *Options) Policy(ep Endpoint) TLSMode {
	if ep.Socket != "" {
		return TLSNo
	}
	return o.TLS
}

// Timeouts bound the phases of a conversation. A zero field takes its default, named here.
type Timeouts struct {
	Connect  time.Duration // 30 s, for one address
	Greeting time.Duration // 5 min, RFC 5321 section 4.5.3.2.1
	TLS      time.Duration // 30 s, the whole handshake; not more than smtp.HandshakeTimeout
	Command  time.Duration // 5 min, the reply to EHLO, MAIL, RCPT, RSET: sections 4.5.3.2.2 and 3
	Init     time.Duration // 2 min, the reply to DATA: section 4.5.3.2.4
	Block    time.Duration // 3 min, a block of the message: section 4.5.3.2.5
	Done     time.Duration // 10 min, each reply to the end of the message: section 4.5.3.2.6
	Quit     time.Duration // 5 s
	Total    time.Duration // 1 h, one Dial, one Send, and one Deliver with all its hosts
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{
		{&t.Connect, 30 * time.Second}, {&t.Greeting, 5 * time.Minute}, {&t.TLS, smtp.HandshakeTimeout}, {&t.Command, 5 * time.Minute}, {&t.Init, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Done, 10 * time.Minute}, {&t.Quit, 5 * time.Second}, {&t.Total, time.Hour},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	return t
}

// Options of a connection. Not to be changed while in use.
type Options struct {
	Hostname         string // what EHLO says
	Source4, Source6 netip.Addr
	TLS              TLSMode
	TLSConfig        *tls.Config // a base for what STARTTLS uses; may be nil. ServerName and InsecureSkipVerify are set here
	Timeouts         Timeouts
	MinRate          int // bytes a second while a message is sent, as an average after MinRateGrace; 0: default 128, negative: off
	MinRateGrace     time.Duration
	MaxRcpts         int  // recipients a transaction; default 100 (RFC 5321 section 4.5.3.1.8)
	PreferChunking   bool // BDAT instead of DATA where offered. LMTP over a Unix socket does that without being asked

	// Pool only.
	IdleTimeout time.Duration // how long an idle connection is kept; default 5 s, negative: not
	MaxMessages int           // messages a connection; default 100
	MaxIdle     int           // idle connections in all; default 64

	// Log is called for what happens and has no place in an Outcome. It may be nil, and must be safe for concurrent use.
	Log func(Event)
}

func (o Options) withDefaults() *Options {
	o.Timeouts = o.Timeouts.withDefaults()
	if o.MinRate == 0 {
		o.MinRate = 128
	}
	if o.MinRateGrace <= 0 {
		o.MinRateGrace = time.Minute
	}
	if o.MaxRcpts <= 0 {
		o.MaxRcpts = 100
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 5 * time.Second
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = 100
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 64
	}
	if o.Log == nil {
		o.Log = func(Event) {}
	}
	return &o
}

// Event is something worth a log line.
type Event struct {
	Peer Endpoint
	What string // "connect": Err or nil; "tls": STARTTLS failed and the peer is tried in clear; "stale": a kept connection had ended
	TLS  string // "connect": as Conn.TLS
	Err  error
}

// Endpoint is one place to connect to. Comparable.
type Endpoint struct {
	Name   string         // the host, for TLS and people; may be empty
	Addr   netip.AddrPort // or
	Socket string         // a Unix socket
	LMTP   bool
	Pref   uint16 // of the MX record: endpoints of one preference are as good as each other
}

// String is "mx.example.net[192.0.2.1]:25" or the path of the socket.
func (e Endpoint) String() string {
	if e.Socket != "" {
		return e.Socket
	}
	return fmt.Sprintf("%s[%s]:%d", e.Name, e.Addr.Addr(), e.Addr.Port())
}

// MTA is the name of the server for a report (RFC 3464 section 2.3.5): "mx.example.net" or "[192.0.2.1]"; "" behind a Unix
// socket, which is a part of this system, and whose path is nobody's business.
func (e Endpoint) MTA() string {
	switch ip := e.Addr.Addr().Unmap(); {
	case e.Socket != "":
		return ""
	case e.Name != "" && e.Name != e.Addr.Addr().String():
		return e.Name
	case ip.Is6():
		return "[IPv6:" + ip.WithZone("").String() + "]"
	default:
		return "[" + ip.String() + "]"
	}
}

// Stage is how far a transaction came.
type Stage int

const (
	StageConnect Stage = iota // before MAIL: look-up, connection, greeting, EHLO, STARTTLS
	StageMail
	StageRcpt
	StageData // DATA or BDAT, the message, its end
)

func (s Stage) String() string { return [...]string{"connect", "mail", "rcpt", "data"}[s] }

// Error is why there is no connection, or no more. Reply is never nil: the peer's own words if Peer, else made here, always temporary.
type Error struct {
	Reply *smtp.Reply
	Peer  bool
	Err   error // the cause, if it was not the peer's reply

	tls bool // STARTTLS failed
}

func (e *Error) Error() string { return e.Reply.Error() }
func (e *Error) Unwrap() error { return e.Err }

// localError makes a temporary Error of err. enhanced: 4.4.1 no connection, 4.4.2 lost, 4.5.0 protocol, 4.7.x TLS.
func localError(enhanced, what string, err error) *Error {
	if err == nil {
		return &Error{Reply: smtp.NewReply(451, enhanced, what)}
	}
	return &Error{Reply: smtp.NewReply(451, enhanced, what+": "+cause(err)), Err: err}
}

// cause is the end of an error chain in the words a reader of a bounce understands.
func cause(err error) string {
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed by peer"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	// Peers put text of theirs into TLS and protocol errors: one line is enough.
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
