package queued

import (
	"bytes"
	"io"
	"strings"
	"time"

	"postamt/internal/dsn"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// report queues what the sender is to be told of this attempt: one report of the recipients that failed,
// one of those that succeeded and were asked about. An error means that a failure could not be told.
// With aliases it is about the aliases among them alone, which do not fail.
func (s *Server) report(m *message, now time.Time, aliases bool) error {
	var failed, succeeded []dsn.Recipient
	for i := range m.env.Rcpts {
		rcpt, r := &m.env.Rcpts[i], &m.results[i]
		if rcpt.State != queue.Pending || aliases && !r.expand {
			continue
		}
		switch {
		case r.kind == remote.Perm && wants(rcpt.Notify, "FAILURE", true):
			failed = append(failed, about(rcpt, r, dsn.Failed, now))
		case r.kind == remote.Done && r.success != "" && wants(rcpt.Notify, "SUCCESS", false):
			succeeded = append(succeeded, about(rcpt, r, r.success, now))
		}
	}
	if len(succeeded) > 0 {
		if err := s.tell(m, dsn.Success, succeeded, now); err != nil {
			s.log.Problem(string(m.id), "report success", err) // nobody loses mail by it
		}
	}
	if len(failed) > 0 {
		return s.tell(m, dsn.Failure, failed, now)
	}
	return nil
}

// warn tells the sender that recipients are still waiting.
func (s *Server) warn(m *message, pending []int, now, until time.Time) error {
	var late []dsn.Recipient
	for _, i := range pending {
		if rcpt := &m.env.Rcpts[i]; wants(rcpt.Notify, "DELAY", true) {
			d := about(rcpt, &m.results[i], dsn.Delayed, now)
			d.RetryUntil = until
			late = append(late, d)
		}
	}
	if len(late) == 0 {
		return nil
	}
	return s.tell(m, dsn.Delay, late, now)
}

// wants reads NOTIFY: kind is asked for, or nothing is said and it is told by default
// (RFC 3461 section 4.1: failures always, delays if the server likes).
func wants(notify, kind string, byDefault bool) bool {
	if notify == "" {
		return byDefault
	}
	for one := range strings.SplitSeq(notify, ",") {
		if one == kind {
			return true
		}
	}
	return false
}

func about(rcpt *queue.Rcpt, r *result, action dsn.Action, now time.Time) dsn.Recipient {
	d := dsn.Recipient{Address: rcpt.Addr, Original: rcpt.ORcpt, Action: action, RemoteMTA: r.mta, LastAttempt: now}
	if r.reply != nil {
		d.Status, d.Diagnostic = r.status(), r.reply.Error()
		if strings.HasPrefix(r.host, "/") {
			// The log has the path of the socket; the sender has nothing to do with it.
			d.Diagnostic = strings.ReplaceAll(d.Diagnostic, r.host, "the mailbox server")
		}
		if r.local && r.reply.Enhanced == (smtp.EnhancedCode{4, 3, 5}) {
			// Likewise what is wrong with the recipient's forward file or home, and where these are.
			d.Diagnostic = "451 4.3.5 the mailbox is not set up as it should be"
		}
	}
	return d
}

// tell queues the reports about rcpts. There is never a report about a report: RFC 5321 section 6.1.
func (s *Server) tell(m *message, kind dsn.Kind, rcpts []dsn.Recipient, now time.Time) error {
	if m.env.From == "" {
		for _, r := range rcpts {
			s.log.Discarded(string(m.id), r.Address, "the sender is null: "+r.Diagnostic)
		}
		return nil
	}
	for len(rcpts) > 0 {
		n := min(len(rcpts), dsn.MaxRecipients)
		if err := s.tellSome(m, kind, rcpts[:n], now); err != nil {
			return err
		}
		rcpts = rcpts[n:]
	}
	return nil
}

func (s *Server) tellSome(m *message, kind dsn.Kind, rcpts []dsn.Recipient, now time.Time) error {
	// The id follows from what is told: the same report, composed again after a crash, is the same message.
	parts := []string{"report", [...]string{"failure", "delay", "success"}[kind]}
	for _, r := range rcpts {
		parts = append(parts, r.Address)
	}
	id := m.id.Derive(parts...)
	r, err := dsn.Compose(dsn.Report{
		Kind: kind, ID: string(id), Hostname: s.opt().Hostname, To: m.env.From, Date: now,
		MessageID: string(m.id), Arrived: m.env.Arrived, EnvID: m.env.EnvID, Ret: m.env.Ret, UTF8: m.env.UTF8,
		Original: m.file.Reader(), Recipients: rcpts,
	})
	if err != nil {
		return err
	}
	var text bytes.Buffer // at most a thousand recipients and dsn.MaxReturn
	if err := r.Write(&text); err != nil {
		return err
	}
	e := queue.Envelope{
		ID: id, Origin: id, About: m.id, Arrived: now, From: "", UTF8: r.UTF8,
		Client: queue.Client{Proto: "report"},
		Rcpts:  []queue.Rcpt{{State: queue.Pending, Addr: m.env.From}},
	}
	if r.EightBit {
		e.Body = "8BITMIME"
	}
	if _, err := s.spawn(&e, func() io.Reader { return bytes.NewReader(text.Bytes()) }); err != nil {
		return err
	}
	switch kind {
	case dsn.Failure:
		s.log.Bounced(string(m.id), string(id), m.env.From, len(rcpts))
	case dsn.Delay:
		s.log.Warned(string(m.id), string(id), m.env.From, len(rcpts))
	default:
		s.log.Confirmed(string(m.id), string(id), m.env.From, len(rcpts))
	}
	m.spawned = append(m.spawned, id)
	return nil
}
