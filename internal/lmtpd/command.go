package lmtpd

import (
	"errors"
	"time"

	"postamt/internal/addr"
	"postamt/internal/maildir"
	"postamt/internal/smtp"
)

// transaction is what MAIL begins.
type transaction struct {
	from   string
	params smtp.MailParams
	rcpts  []recipient
	last   string // recipient of the last RCPT, for the log
	body   *body  // from DATA or the first BDAT on
	failed bool   // a chunk was refused; no further one can help
	told   bool   // some recipient was answered with what he stands for
}

type recipient struct {
	to     addr.Mailbox
	target string
	box    Mailbox
}

func (r *recipient) rcpt() Rcpt { return Rcpt{r.to, r.target} }

// RFC 2033 section 4.1: "LHLO" SP domain; the reply is that of EHLO.
func (s *session) cmdLhlo(args string) *smtp.Reply {
	name, err := smtp.ParseHelo(args)
	if err != nil {
		return asReply(err)
	}
	s.reset()
	s.lhlo = name
	return s.offer.EHLO(s.conf.Hostname)
}

// RFC 2033 section 4.1: HELO and EHLO get 500.
func (s *session) cmdNotSMTP(string) *smtp.Reply {
	return smtp.NewReply(500, "5.5.1", "This is LMTP: say LHLO")
}

// RFC 5321 section 4.1.1.2.
func (s *session) cmdMail(args string) *smtp.Reply {
	switch {
	case s.lhlo == "":
		return smtp.NewReply(503, "5.5.1", "Say LHLO first")
	case s.tx != nil:
		return smtp.NewReply(503, "5.5.1", "A transaction is under way")
	}
	from, p, err := smtp.ParseMail(args, s.offer)
	if err != nil {
		return asReply(err)
	}
	s.tx = &transaction{from: from.String(), params: p}
	return smtp.NewReply(250, "2.1.0", "Ok")
}

// RFC 5321 section 4.1.1.3.
func (s *session) cmdRcpt(args string) *smtp.Reply {
	if s.tx == nil {
		return smtp.NewReply(503, "5.5.1", "Say MAIL first")
	}
	s.tx.last = ""
	if s.tx.body != nil || s.tx.failed {
		return smtp.NewReply(503, "5.5.1", "The message has begun")
	}
	offer := s.offer
	offer.UTF8 = s.tx.params.UTF8
	to, p, err := smtp.ParseRcpt(args, offer)
	if err != nil {
		return asReply(err)
	}
	s.tx.last = to.String()
	if len(s.tx.rcpts) >= s.conf.RecipientLimit {
		return smtp.NewReply(452, "4.5.3", "Too many recipients") // RFC 5321 section 4.5.3.1.10
	}
	box, err := s.srv.Mailboxes.Mailbox(Rcpt{to, p.Target})
	if err == nil && s.srv.Router == nil {
		var r *smtp.Reply
		if r, err = s.forward(Rcpt{to, p.Target}, &box); r != nil {
			s.send(r) // which is no refusal
			s.tx.told = true
			return nil
		}
	}
	if err == nil && box.Target.Quota != (maildir.Quota{}) && !box.spooled() {
		err = s.srv.Store.Room(box.Target, max(s.tx.params.Size, 0))
	}
	if err != nil {
		var known *smtp.Reply
		if !errors.As(err, &known) {
			s.srv.Log.Problem(s.id, "find mailbox", err)
		}
		return replyFor(err)
	}
	s.tx.rcpts = append(s.tx.rcpts, recipient{to, p.Target, box})
	return smtp.NewReply(250, "2.1.5", "Ok")
}

func (s *session) cmdRset(string) *smtp.Reply {
	s.reset()
	return smtp.NewReply(250, "2.0.0", "Ok")
}

func (s *session) cmdNoop(string) *smtp.Reply { return smtp.NewReply(250, "2.0.0", "Ok") }

// RFC 5321 section 3.5.3: 252 neither confirms nor denies.
func (s *session) cmdVrfy(string) *smtp.Reply {
	return smtp.NewReply(252, "2.5.0", "Try it with RCPT")
}

func (s *session) cmdHelp(string) *smtp.Reply {
	return smtp.NewReply(214, "2.0.0", "LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT; RFC 2033")
}

func (s *session) cmdQuit(string) *smtp.Reply {
	s.reset()
	s.close("quit")
	return smtp.NewReply(221, "2.0.0", "Bye")
}

func asReply(err error) *smtp.Reply {
	var r *smtp.Reply
	if errors.As(err, &r) {
		return r
	}
	return smtp.NewReply(501, "5.5.4", "Syntax error")
}

func tooBig() *smtp.Reply { return smtp.NewReply(552, "5.3.4", "Message too big") }

// stamp is a date as RFC 5322 section 3.3 writes it.
func stamp(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700") }
