package smtpd

import (
	"cmp"

	"postamt/internal/addr"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// transaction is one message from MAIL on.
type transaction struct {
	env    queue.Envelope
	from   addr.Mailbox        // as in env
	seen   map[string]struct{} // keys of the recipients, from the second on
	finals []string            // keys of the mailboxes that Recipients named, one a recipient; "" where it named none
	last   string              // the recipient of the last RCPT, for the log
	in     *intake             // the message, from the first BDAT on
	failed bool                // a BDAT was refused
	size   int64               // as declared; -1 if it was not
}

const (
	defaultRcptLimit = 100    // RFC 5321 section 4.5.3.1.8
	localRcptLimit   = 50_000 // at least: sendmail(1) sends to all or to none, and cannot send the rest later
)

func (s *session) rcptLimit() int {
	n := s.conf.RcptLimit
	switch {
	case s.kind == Local:
		return max(n, localRcptLimit)
	case n > 0:
		return n
	}
	return defaultRcptLimit
}

// RFC 5321 section 4.1.1.2: "MAIL FROM:" Reverse-path [SP Mail-parameters].
func (s *session) cmdMail(args string) *smtp.Reply {
	switch {
	case s.helo == "":
		return smtp.NewReply(503, "5.5.1", "say EHLO first")
	case s.tx != nil:
		return smtp.NewReply(503, "5.5.1", "there is a transaction already")
	case s.kind != MX && s.peer.Login == "" && s.extensions().StartTLS && s.authKeyword() == "":
		return smtp.NewReply(530, "5.7.0", "say STARTTLS first")
	case s.kind != MX && s.peer.Login == "":
		return smtp.NewReply(530, "5.7.0", "authentication required")
	case s.conf.MailLimit > 0 && s.mails >= s.conf.MailLimit:
		// RFC 9422: a client that read our LIMITS does not come here.
		s.close("limit")
		return smtp.NewReply(421, "4.7.0", "too many messages in one connection, please make another")
	}
	from, p, err := smtp.ParseMail(args, s.extensions())
	if err != nil {
		return asReply(err)
	}
	if s.authed && s.conf.Senders != nil && !from.IsNull() {
		if err := s.conf.Senders.Envelope(s.peer.Login, from); err != nil {
			return s.ourFault("judge sender", err)
		}
	}
	s.mails++
	s.tx = &transaction{env: queue.Envelope{
		From: from.String(), Body: p.Body, UTF8: p.UTF8, Ret: p.Ret, EnvID: p.EnvID,
	}, from: from, size: p.Size}
	return smtp.NewReply(250, "2.1.0", "ok")
}

// RFC 5321 section 4.1.1.3: "RCPT TO:" Forward-path [SP Rcpt-parameters].
func (s *session) cmdRcpt(args string) *smtp.Reply {
	switch {
	case s.tx == nil:
		return smtp.NewReply(503, "5.5.1", "say MAIL first")
	case s.tx.in != nil || s.tx.failed:
		return smtp.NewReply(503, "5.5.1", "the message has begun")
	}
	s.tx.last = ""
	allow := s.extensions()
	allow.UTF8 = s.tx.env.UTF8 // RFC 6531 section 3.4: announced with MAIL
	to, p, err := smtp.ParseRcpt(args, allow)
	if err != nil {
		return asReply(err)
	}
	if to.Domain == "" {
		to.Domain = cmp.Or(s.conf.Home, s.conf.Hostname) // RFC 5321 section 4.5.1: <postmaster> is ours
	}
	s.tx.last = to.String()
	final, err := s.conf.Recipients.Admit(s.tx.from, to, s.mayRelay())
	if err != nil {
		if r := s.ourFault("judge recipient", err); !r.Temporary() || s.kind != Local {
			return r
		}
		// Programs of this machine have no queue to try again from: cron(8) would lose what its job has printed. queued will try.
	}
	key := to.ForeignKey()
	if !final.IsNull() {
		key = to.Key()
	}
	if s.tx.has(key) {
		return rcptOk() // stored once, however often it is named (S12)
	}
	if len(s.tx.env.Rcpts) >= s.rcptLimit() {
		// RFC 5321 section 4.5.3.1.10: 452, and the client sends the rest later. It may ask so for as many again as the
		// limit; then it is not listening.
		if s.overshoot++; s.overshoot > s.rcptLimit() {
			s.close("limit")
			return smtp.NewReply(421, "4.5.3", "too many recipients")
		}
		return smtp.NewReply(452, "4.5.3", "too many recipients, send the others later")
	}
	if s.srv.Room != nil && s.kind != Local && !final.IsNull() && !s.srv.Room(final.Key(), max(s.tx.size, 0), s.srv.now()) {
		// For now, as the delivery agent says it: the user may make room, and the sender's server tries again.
		return smtp.MailboxFull()
	}
	s.tx.add(key, to, final, p)
	s.rcpts++
	return rcptOk()
}

func rcptOk() *smtp.Reply { return smtp.NewReply(250, "2.1.5", "ok") }

func tooBig() *smtp.Reply { return smtp.NewReply(552, "5.3.4", "message too big") }

// has reports whether the transaction has a recipient of that key.
func (t *transaction) has(key string) bool {
	_, ok := t.seen[key]
	return ok
}

func (t *transaction) add(seen string, to, final addr.Mailbox, p smtp.RcptParams) {
	if t.seen == nil {
		t.seen = make(map[string]struct{})
	}
	t.seen[seen] = struct{}{}
	t.env.Rcpts = append(t.env.Rcpts, queue.Rcpt{State: queue.Pending, Addr: to.String(), Notify: p.Notify, ORcpt: p.ORcpt})
	key := ""
	if !final.IsNull() {
		key = final.Key()
	}
	t.finals = append(t.finals, key)
}
