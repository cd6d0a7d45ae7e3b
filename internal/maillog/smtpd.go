package maillog

import (
	"net/netip"
	"time"
)

// Events of smtpd. Their id is the session's until the message has one.

// Client is the other side of a session, as far as it is known; unknown values are left out.
type Client struct {
	IP       netip.Addr
	Port     uint16
	Helo     string
	Proto    string // RFC 3848: ESMTPS ...
	Login    string
	Listener string // mx, submission, submissions, local
}

func (n line) client(c Client) line {
	n = n.ip("client", c.IP).some("port", int(c.Port)).text("helo", c.Helo).text("proto", c.Proto)
	return n.text("login", c.Login).text("listener", c.Listener)
}

// Connect: a session begins.
func (l *Logger) Connect(session string, c Client) {
	if l == nil {
		return
	}
	l.begin(session, "connect").client(c).end()
}

// TLS: a handshake succeeded, or failed with err. Peer is set for connections that we made.
func (l *Logger) TLS(session, peer, version, cipher string, err error) {
	if l == nil {
		return
	}
	l.begin(session, "tls").text("peer", peer).text("version", version).text("cipher", cipher).err(err).end()
}

// Login: a client has logged in. The one who said yes logs failures.
func (l *Logger) Login(session string, c Client, mechanism string) {
	if l == nil {
		return
	}
	l.begin(session, "login").client(c).text("mech", mechanism).end()
}

// Rejected is why a command was refused.
type Rejected struct {
	Client Client
	Verb   string // at which command: CONNECT, EHLO, MAIL, RCPT, DATA ...
	Mail   bool   // there is a transaction, and From is its sender
	From   string
	Rcpt   string // "" before RCPT
	Reply  string // "550 5.1.1 no such user"
	Reason string // what the client was not told
}

// Reject: a command was refused.
func (l *Logger) Reject(session string, r Rejected) {
	if l == nil {
		return
	}
	n := l.begin(session, "reject").text("verb", r.Verb).client(r.Client)
	if r.Mail {
		n = n.addr("from", r.From)
	}
	if r.Rcpt != "" {
		n = n.addr("rcpt", r.Rcpt)
	}
	n.text("reply", r.Reply).text("reason", r.Reason).end()
}

// Acceptance is a message that was answered 250.
type Acceptance struct {
	Session   string
	Client    Client
	From      string
	Size      int64
	Rcpts     int
	MessageID string        // as it is in the header, with its brackets
	Took      time.Duration // from the final dot to the reply
}

// Accepted: the message is in the queue, durably.
func (l *Logger) Accepted(id string, a Acceptance) {
	if l == nil {
		return
	}
	l.begin(id, "accepted").addr("from", a.From).num("size", a.Size).num("rcpts", int64(a.Rcpts)).client(a.Client).
		text("session", a.Session).text("message-id", a.MessageID).dur("took", a.Took).end()
}

// Session is what a session was.
type Session struct {
	Client   Client
	Why      string // quit, lost, timeout, limit, shutdown, tls ...
	Error    error  // what the client did, where Why alone does not say it; nil
	Messages int
	Rcpts    int
	Rejected int
	Took     time.Duration
}

// Disconnect: a session ended.
func (l *Logger) Disconnect(session string, s Session) {
	if l == nil {
		return
	}
	l.begin(session, "disconnect").text("why", s.Why).client(s.Client).num("messages", int64(s.Messages)).
		some("rcpts", s.Rcpts).some("rejected", s.Rejected).dur("took", s.Took).err(s.Error).end()
}

// Limit: a connection or session met a limit: sessions, client, rate, errors, junk. More is the number of like events
// since the last line (see Throttle).
func (l *Logger) Limit(session string, c Client, limit string, more int) {
	if l == nil {
		return
	}
	l.begin(session, "limit").text("limit", limit).client(c).some("more", more).end()
}
