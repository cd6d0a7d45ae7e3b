package lmtpd

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"postamt/internal/lineio"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// maxCommand is the longest command line with its CRLF: RFC 5321 section
// 4.5.3.1.4 asks for 512, DSN adds 1,040 (RFC 3461 section 5.4), and we our own.
const maxCommand = 4096

// writeTime is how long the client may refuse to read our replies.
const writeTime = time.Minute

type session struct {
	srv     *Server
	conf    Config
	ctx     context.Context
	c       *smtp.Conn
	nc      net.Conn
	id      string // for the log
	offer   smtp.Extensions
	start   time.Time
	lhlo    string
	tx      *transaction
	closing bool
	why     string

	idle lineio.Idle // for a command, outside of a transaction

	messages, rcpts, rejected, faults int
}

func newSession(v *Server, ctx context.Context, nc net.Conn, trusted bool) *session {
	s := &session{srv: v, conf: v.Config.withDefaults(), ctx: ctx, c: smtp.NewConn(nc), nc: nc, start: v.now()}
	s.id = string(queue.NewID(s.start))
	s.offer = smtp.Extensions{Size: true, SizeMax: s.conf.SizeLimit, Pipelining: true, EightBit: true, BinaryMIME: true,
		Chunking: true, UTF8: true, DSN: true, Enhanced: true, XQID: trusted}
	return s
}

type command struct {
	verb string
	run  func(*session, string) *smtp.Reply // nil: it has replied itself
}

var commands = [...]command{
	{"RCPT", (*session).cmdRcpt},
	{"MAIL", (*session).cmdMail},
	{"DATA", (*session).cmdData},
	{"BDAT", (*session).cmdBdat},
	{"RSET", (*session).cmdRset},
	{"LHLO", (*session).cmdLhlo},
	{"QUIT", (*session).cmdQuit},
	{"NOOP", (*session).cmdNoop},
	{"VRFY", (*session).cmdVrfy},
	{"HELP", (*session).cmdHelp},
	{"HELO", (*session).cmdNotSMTP},
	{"EHLO", (*session).cmdNotSMTP},
}

func (s *session) run() {
	s.srv.Log.Connect(s.id, s.client())
	s.c.SetWriteTimeout(writeTime)
	defer s.idle.EndWith(s.ctx, s.nc)()
	defer s.end()
	s.send(smtp.NewReply(220, "", s.conf.Hostname+" LMTP postamt"))
	for !s.closing {
		s.next()
	}
	s.c.Flush()
}

func (s *session) end() {
	s.reset()
	if s.why == "" {
		s.why = "lost"
	}
	s.srv.Log.Disconnect(s.id, maillog.Session{Client: s.client(), Why: s.why, Messages: s.messages, Rcpts: s.rcpts,
		Rejected: s.rejected, Took: s.srv.now().Sub(s.start)})
}

func (s *session) client() maillog.Client {
	return maillog.Client{Helo: s.lhlo, Listener: "lmtp"}
}

// next reads one command and replies.
func (s *session) next() {
	cmd, err := s.read()
	if err != nil {
		s.readError(err)
		return
	}
	for i := range commands {
		if c := &commands[i]; c.verb == cmd.Verb {
			s.reply(cmd.Verb, c.run(s, cmd.Args))
			return
		}
	}
	s.reply(cmd.Verb, smtp.NewReply(500, "5.5.2", "Command not recognized"))
}

var errStopping = errors.New("lmtpd: stopping")

func (s *session) read() (smtp.Command, error) {
	s.c.SetReadTimeout(s.conf.TimeoutCommand)
	if s.tx == nil {
		if s.ctx.Err() != nil && s.c.Buffered() == 0 {
			return smtp.Command{}, errStopping
		}
		s.idle.Set(true)
		defer s.idle.Set(false)
	}
	return s.c.ReadCommand(maxCommand)
}

// readError replies to a line that is no command, or ends the session.
func (s *session) readError(err error) {
	switch {
	case errors.Is(err, smtp.ErrLineTooLong):
		s.reply("", smtp.NewReply(500, "5.5.2", "Line too long"))
		if errors.Is(err, smtp.ErrEndlessLine) {
			s.close("limit")
		}
	case errors.Is(err, smtp.ErrBareNewline), errors.Is(err, smtp.ErrNUL), errors.Is(err, smtp.ErrProtocol):
		s.reply("", smtp.NewReply(500, "5.5.2", "A line ends in CR LF, and has no other control characters"))
	default:
		s.lost(err)
	}
}

// lost ends the session because nothing more can be read.
func (s *session) lost(err error) {
	var ne net.Error
	switch {
	case err == errStopping || s.ctx.Err() != nil && errors.As(err, &ne) && ne.Timeout():
		s.send(smtp.NewReply(421, "4.3.2", s.conf.Hostname+" is shutting down"))
		s.close("shutdown")
	case errors.As(err, &ne) && ne.Timeout():
		s.send(smtp.NewReply(421, "4.4.2", s.conf.Hostname+" Timeout"))
		s.close("timeout")
	default:
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.srv.Log.Problem(s.id, "read", err)
		}
		s.close("lost")
	}
}

// reply sends r and counts refusals.
func (s *session) reply(verb string, r *smtp.Reply) {
	if r == nil {
		return
	}
	if r.Code >= 400 {
		s.refused(verb, r, nil)
		// Recipients that do not exist are many in an honest client's work.
		if r.Code >= 500 && verb != "RCPT" {
			s.faults++
		}
	}
	s.send(r)
	if s.faults >= s.conf.ErrorLimit && !s.closing {
		s.send(smtp.NewReply(421, "4.7.0", s.conf.Hostname+" Too many errors"))
		s.close("limit")
	}
}

// refused logs a refusal; reason is what the client was not told.
func (s *session) refused(verb string, r *smtp.Reply, reason error) {
	s.rejected++
	j := maillog.Rejected{Client: s.client(), Verb: verb, Reply: r.Error()}
	if reason != nil {
		j.Reason = reason.Error()
	}
	if s.tx != nil {
		j.Mail, j.From = true, s.tx.from
		if verb == "RCPT" {
			j.Rcpt = s.tx.last
		}
	}
	s.srv.Log.Reject(s.id, j)
}

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

// reset ends the transaction, if there is one.
func (s *session) reset() {
	if s.tx != nil && s.tx.body != nil {
		s.tx.body.d.Abort()
	}
	s.tx = nil
}
