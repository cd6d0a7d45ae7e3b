package queued

import (
	"cmp"
	"io"
	"strings"
	"time"

	"postamt/internal/queue"
)

// The words in a message's log about our holding it: before it is moved, and after. A message in active whose log has the second was put
// back by somebody who may: with queuectl, or with mv. If it has only the first, we died in between: the scan at the start
// finds a message that was not moved; one that was moved comes later, when it is put back.
const (
	holding = "holding"
	held    = "held"
)

// hold puts a message aside that smtpd has marked (the login that sent it is over a limit), and tells the postmaster, once
// a day for a login. False: it is to be attempted.
func (s *Server) hold(m *message) bool {
	if m.env.Hold == "" {
		return false
	}
	notes, err := s.queue.ReadLog(m.id)
	if err != nil {
		s.log.Problem(string(m.id), "hold", err) // it is attempted: better one message too many than one lost sight of
		return false
	}
	begun := false
	for _, n := range notes {
		if n.Event == held {
			return false
		}
		begun = begun || n.Event == holding
	}
	if begun && !m.suspect {
		s.noteHold(m, held)
		return false
	}
	// In this order a crash leaves a message that is held again, or told of again, never one that nobody is told of.
	if err := s.tellHeld(m); err != nil {
		s.log.Problem(string(m.id), "tell the postmaster", err)
	}
	s.noteHold(m, holding)
	if err := s.queue.Hold(m.id); err != nil {
		s.log.Problem(string(m.id), "hold", err)
		return false
	}
	s.noteHold(m, held)
	s.log.Held(string(m.id), m.env.Hold)
	return true
}

func (s *Server) noteHold(m *message, event string) {
	if err := s.queue.AppendLog(m.id, queue.Note{Time: s.now(), Event: event, Text: m.env.Hold}); err != nil {
		s.log.Problem(string(m.id), "hold", err)
	}
}

// tellEvery is how often the postmaster hears of one login.
const tellEvery = 24 * time.Hour

// maxTold bounds the memory of whom was told of.
const maxTold = 10_000

func (s *Server) tellHeld(m *message) error {
	login, now := m.env.Client.Login, s.now()
	s.mu.Lock()
	last, known := s.toldHeld[login]
	if s.toldHeld == nil || len(s.toldHeld) >= maxTold {
		s.toldHeld = make(map[string]time.Time)
	}
	fresh := !known || now.Sub(last) >= tellEvery || now.Before(last)
	if fresh {
		s.toldHeld[login] = now
	}
	s.mu.Unlock()
	if !fresh {
		return nil
	}
	// Our own: the host's name need not be a domain that mail is delivered for.
	postmaster := "postmaster@" + cmp.Or(s.tables().LocalDomain, s.opt().Hostname)
	id := m.id.Derive(held)
	e := queue.Envelope{
		ID: id, Origin: id, Arrived: now, Client: queue.Client{Proto: "report"},
		Rcpts: []queue.Rcpt{{State: queue.Pending, Addr: postmaster}},
	}
	text := heldNotice(s.opt().Hostname, postmaster, m.env, id, now)
	if _, err := s.spawn(&e, func() io.Reader { return strings.NewReader(text) }); err != nil {
		return err
	}
	m.spawned = append(m.spawned, id)
	return nil
}

// heldNotice is the message to the postmaster. What comes from outside is a login that exists, and a reason that is ours.
func heldNotice(hostname, postmaster string, e *queue.Envelope, id queue.ID, now time.Time) string {
	lines := []string{
		"From: Mail Delivery System <MAILER-DAEMON@" + hostname + ">",
		"To: " + postmaster,
		"Subject: mail of " + printable(e.Client.Login) + " is held",
		"Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		"Message-ID: <" + string(id) + "@" + hostname + ">",
		"Auto-Submitted: auto-generated", // RFC 3834 section 5
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=us-ascii",
		"",
		"The user " + printable(e.Client.Login) + " has sent more than the limits allow: " + printable(e.Hold) + ".",
		"What goes beyond them is in the queue, and stays there until you have looked at it.",
		"The first of these messages is " + string(e.ID) + ", from <" + printable(e.From) + ">.",
		"",
		"To see what is held:",
		"    queuectl list",
		"To let this message go:",
		"    queuectl release " + string(e.ID),
		"",
		"If you have not expected this, somebody may have got hold of the password: change it first.",
		"You will be told of this user again tomorrow at the earliest.",
		"",
	}
	return strings.Join(lines, "\r\n")
}

// printable is s with only what may stand in a line of plain ASCII.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b[:min(len(b), 300)])
}
