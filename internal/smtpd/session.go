package smtpd

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"postamt/internal/lineio"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/smtp"
)

// maxCommand is the longest command line with its CR LF. RFC 5321 section 4.5.3.1.4 asks for 512, to which the
// parameters of MAIL and RCPT add: 26 for SIZE, 16 for BODY, 10 for SMTPUTF8, and 1,040 for DSN (RFC 3461 section 5.4).
const maxCommand = 2048

// commandLimit is maxCommand, or where people log in what AUTH with an initial response needs (RFC 4954 section 4).
func (s *session) commandLimit() int {
	if s.offersAuth() {
		return len("AUTH ") + 20 + 1 + login.MaxLine
	}
	return maxCommand
}

// writeTime is how long the client may refuse to read our replies.
const writeTime = time.Minute

// lastWords is how long for the 421 after a timeout.
const lastWords = 2 * time.Second

// session is one connection. It is kept small: there may be thousands that wait.
type session struct {
	srv  *Server
	conf *Config
	ctx  context.Context
	c    *smtp.Conn
	nc   net.Conn // as accepted; under TLS too
	peer Peer
	kind string
	id   string

	start  time.Time
	helo   string // the argument of HELO or EHLO; "" before
	esmtp  bool   // it was EHLO
	tls    string // "TLSv1.3 TLS_AES_128_GCM_SHA256"; "" in clear
	authed bool   // by AUTH, as peer.Login
	tx     *transaction
	of     *transaction // that of the command, for the log: a refused DATA has ended it

	idle    lineio.Idle // for a command, outside of a transaction, or for a response within AUTH
	closing bool        // close after the replies are sent
	why     string      // the session ends, for the log
	broken  error       // how the client broke TLS

	mails, errors, junk       int
	messages, rcpts, refusals int
	overshoot                 int // recipients over the limit
	authFailures              int
}

// command is one verb.
type command struct {
	verb string
	run  func(*session, string) *smtp.Reply // nil: it has replied itself, or the connection is lost
	junk bool                               // brings no mail nearer
}

// commands are the verbs, the frequent ones first. RFC 5321 section 4.1.1.
var commands = [...]command{
	{"RCPT", (*session).cmdRcpt, false},
	{"MAIL", (*session).cmdMail, false},
	{"DATA", (*session).cmdData, false},
	{"BDAT", (*session).cmdBdat, false},
	{"EHLO", (*session).cmdEhlo, true},
	{"QUIT", (*session).cmdQuit, false},
	{"RSET", (*session).cmdRset, true},
	{"STARTTLS", (*session).cmdStartTLS, false},
	{"HELO", (*session).cmdHelo, true},
	{"NOOP", (*session).cmdNoop, true},
	{"VRFY", (*session).cmdVrfy, true},
	{"HELP", (*session).cmdHelp, true},
	{"EXPN", (*session).cmdNotHere, true},
	{"ETRN", (*session).cmdNotHere, true},
	{"AUTH", (*session).cmdAuth, false},
	{"TURN", (*session).cmdNotHere, true},
	{"GET", (*session).cmdWrongProtocol, false},
	{"POST", (*session).cmdWrongProtocol, false},
	{"PUT", (*session).cmdWrongProtocol, false},
	{"HEAD", (*session).cmdWrongProtocol, false},
	{"OPTIONS", (*session).cmdWrongProtocol, false},
	{"CONNECT", (*session).cmdWrongProtocol, false},
}

func (s *session) run() {
	s.srv.Log.Connect(s.id, s.client())
	s.c.SetWriteTimeout(writeTime)
	defer s.idle.EndWith(s.ctx, s.nc)()
	defer s.end()
	switch {
	case s.peer.TLS != "":
		s.underTLS(s.peer.TLS)
	case s.kind == Submissions && !s.startsWithTLS():
		return
	}
	// RFC 5321 section 4.2: the greeting begins with our name.
	if s.c.WriteReply(smtp.NewReply(220, "", s.conf.Hostname+" ESMTP postamt")) != nil {
		return
	}
	for !s.closing {
		s.next()
	}
	s.c.Flush()
}

// end is the last act of a session, however it ended.
func (s *session) end() {
	s.reset()
	if s.why == "" {
		s.why = "lost"
	}
	if s.tls != "" {
		// RFC 8446 section 6.1: close_notify goes first, else the client may think that somebody cut the connection. The caller
		// closes what lies below, and knows nothing of TLS.
		s.c.Close()
	}
	s.srv.Log.Disconnect(s.id, maillog.Session{Client: s.client(), Why: s.why, Messages: s.messages, Rcpts: s.rcpts,
		Rejected: s.refusals, Took: s.srv.now().Sub(s.start), Error: s.broken})
}

// next reads one command and replies.
func (s *session) next() {
	s.of = s.tx
	cmd, err := s.read()
	if err != nil {
		s.readError(err)
		return
	}
	for i := range commands {
		if c := &commands[i]; c.verb == cmd.Verb {
			r := c.run(s, cmd.Args)
			if c.junk {
				s.junk++
			}
			s.reply(cmd.Verb, r, c.junk && s.conf.JunkLimit > 0 && s.junk > s.conf.JunkLimit)
			return
		}
	}
	s.reply(cmd.Verb, smtp.NewReply(500, "5.5.2", "command not recognized"), false)
}

// read waits for a command line, in the time for one.
func (s *session) read() (smtp.Command, error) {
	wait := s.conf.TimeoutCommand
	if s.srv.Stress != nil && s.conf.StressTimeout > 0 && s.srv.Stress(s.conf.StressPercent) {
		wait = s.conf.StressTimeout
	}
	s.deadline(wait)
	s.c.SetReadTimeout(wait)
	if s.tx == nil {
		if s.ctx.Err() != nil && s.c.Buffered() == 0 {
			return smtp.Command{}, errStopping
		}
		s.idle.Set(true)
		defer s.idle.Set(false)
	}
	return s.c.ReadCommand(s.commandLimit())
}

// deadline ends the session at its time, or whatever is done now after d: a client that sends an octet a minute is
// always just in time for the next octet, but not for the line (S23).
func (s *session) deadline(d time.Duration) {
	var t time.Time
	if s.conf.TimeoutSession > 0 {
		t = s.start.Add(s.conf.TimeoutSession)
	}
	if d > 0 {
		if e := time.Now().Add(d); t.IsZero() || e.Before(t) {
			t = e
		}
	}
	s.c.SetDeadline(t)
}

var errStopping = errors.New("smtpd: stopping")

// readError replies to a command line that is none, or ends the session.
func (s *session) readError(err error) {
	switch {
	case errors.Is(err, smtp.ErrLineTooLong):
		s.reply("", smtp.NewReply(500, "5.5.2", "line too long"), false)
		if errors.Is(err, smtp.ErrEndlessLine) {
			s.close("limit")
		}
	case errors.Is(err, smtp.ErrBareNewline), errors.Is(err, smtp.ErrNUL), errors.Is(err, smtp.ErrProtocol):
		s.reply("", smtp.NewReply(500, "5.5.2", "a line ends in CR LF, and has no other control characters"), false)
	default:
		s.lost(err)
	}
}

// lost ends the session because nothing more can be read from the client.
func (s *session) lost(err error) {
	// The deadline that may have passed is not for our last words.
	s.c.SetDeadline(time.Time{})
	s.c.SetWriteTimeout(lastWords)
	var ne net.Error
	switch {
	case err == errStopping || s.ctx.Err() != nil && errors.As(err, &ne) && ne.Timeout():
		// RFC 5321 section 3.8: 421 may be said at any time when the server shuts down.
		s.send(smtp.NewReply(421, "4.3.2", s.conf.Hostname+" is shutting down"))
		s.close("shutdown")
	case errors.As(err, &ne) && ne.Timeout():
		s.send(smtp.NewReply(421, "4.4.2", s.conf.Hostname+" timeout"))
		s.close("timeout")
	case lineio.Ended(err):
		s.close("lost")
	case s.tls != "" && !errors.As(err, new(syscall.Errno)):
		// An alert of the client's, or records that are none: nothing that anybody here could mend.
		s.broken = err
		s.close("tls")
	default:
		s.srv.Log.Problem(s.id, "read", err)
		s.close("lost")
	}
}

// reply sends r, counts what it says and slows down clients that make errors. Fault makes any reply an error.
func (s *session) reply(verb string, r *smtp.Reply, fault bool) {
	if r == nil {
		return
	}
	if r.Code >= 400 {
		s.rejected(verb, r, "")
		// Our own troubles, and recipients beyond the limit, are not the client's errors.
		if r.Code >= 500 || r.Enhanced[1] != 3 && r.Enhanced != tooMany {
			fault = true
		}
	}
	if fault && s.kind != Local { // a user of this machine can find out who exists by other means, and a list of his may have many old addresses
		s.errors++
	}
	if fault && s.errors > s.conf.ErrorSoft && s.conf.ErrorDelay > 0 {
		s.srv.sleep(s.ctx, s.conf.ErrorDelay)
	}
	s.send(r)
	if fault && s.conf.ErrorHard > 0 && s.errors >= s.conf.ErrorHard && !s.closing {
		s.srv.Log.Limit(s.id, s.client(), "errors", 0)
		s.send(smtp.NewReply(421, "4.7.0", s.conf.Hostname+" too many errors"))
		s.close("limit")
	}
}

var tooMany = smtp.EnhancedCode{4, 5, 3}

// send sends r, with the next ones if commands are waiting.
func (s *session) send(r *smtp.Reply) {
	if s.c.WriteReply(r) != nil {
		s.close("lost")
	}
}

// close ends the session after what was replied. The first reason counts.
func (s *session) close(why string) {
	s.closing = true
	if s.why == "" {
		s.why = why
	}
}

// rejected logs a refusal. Reason is what the client was not told.
func (s *session) rejected(verb string, r *smtp.Reply, reason string) {
	s.refusals++
	j := maillog.Rejected{Client: s.client(), Verb: verb, Reply: r.Error(), Reason: reason}
	if s.of != nil {
		j.Mail, j.From = true, s.of.env.From
		if verb == "RCPT" {
			j.Rcpt = s.of.last
		}
	}
	s.srv.Log.Reject(s.id, j)
}

// client is the other side for the log.
func (s *session) client() maillog.Client {
	return maillog.Client{IP: s.peer.IP, Port: s.peer.Port, Helo: s.helo, Proto: s.protocol(), Login: s.peer.Login, Listener: s.kind}
}

// reset ends the transaction, if there is one.
func (s *session) reset() {
	if s.tx != nil && s.tx.in != nil {
		s.tx.in.abort()
	}
	s.tx = nil
}

// mayRelay says that the client may send to anywhere.
func (s *session) mayRelay() bool {
	if s.kind == MX {
		return s.conf.MayRelay != nil && s.peer.IP.IsValid() && s.conf.MayRelay(s.peer.IP)
	}
	return s.peer.Login != ""
}
