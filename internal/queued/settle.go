package queued

import (
	"fmt"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

var errLocal = smtp.NewReply(451, "4.3.0", "local error in processing")

// localRetry is how soon mail is tried again after our own delivery agent could not be reached. That is
// no attempt: it is a restart, and nothing is recorded.
const localRetry = 5 * time.Second

// settle records what the attempt found out, in this order:
//
//	reports are queued   before the recipients they tell of are marked: a crash between repeats the
//	                     report's id, not the report
//	marks are written    synced if a recipient elsewhere has the message and others wait
//	the file is removed  when nobody waits any more, else its time and log say when and why it is next tried
func (s *Server) settle(m *message) {
	next, suspect, again := s.record(m)
	m.file.Close()
	s.release(m.id) // before the index: an entry that comes due while its message is active is dropped
	if again {
		s.index.add(m.id, next, suspect)
	}
}

// record does it. again: the message waits until next.
func (s *Server) record(m *message) (next time.Time, suspect, again bool) {
	now := s.now()
	pending := m.pending()
	offline := len(pending) > 0
	for _, i := range pending {
		r := &m.results[i]
		offline = offline && r.local && r.offline
	}
	var notes []queue.Note
	if len(pending) > 0 && !offline {
		var wait time.Duration
		wait, notes = s.judge(m, pending, now)
		next = now.Add(wait)
		pending = m.pending() // nobody, if it has expired
	}
	if err := s.report(m, now); err != nil {
		// The sender must hear of a failure: without room for the report its recipients stay as they are.
		s.log.Problem(string(m.id), "report failure", err)
		for i := range m.results {
			if m.env.Rcpts[i].State == queue.Pending && m.results[i].kind == remote.Perm {
				m.results[i].kind, m.results[i].reply = remote.Temp, errLocal
			}
		}
		pending, next = m.pending(), now.Add(s.opt.Retry.Min)
	}

	marks, sync := m.marks()
	if len(pending) == 0 {
		if s.finish(m, marks, sync, now) {
			return next, false, false
		}
		return now.Add(s.opt.Retry.Min), true, true
	}
	if len(marks) > 0 {
		if err := m.file.Mark(marks, sync); err != nil {
			s.log.Problem(string(m.id), "mark", err)
		}
	}
	if offline {
		s.logResults(m, now, localRetry)
		return now.Add(localRetry), m.suspect, true
	}
	suspect = m.suspect
	for _, i := range pending {
		suspect = suspect || m.results[i].maybe
	}
	if err := s.queue.AppendLog(m.id, append(notes, m.notes(pending, now)...)...); err != nil {
		s.log.Problem(string(m.id), "log attempt", err) // it only tells how long we have tried
	}
	if err := m.file.Defer(next); err != nil {
		s.log.Problem(string(m.id), "defer", err)
	}
	s.logResults(m, now, next.Sub(now))
	return next, suspect, true
}

// pending lists the recipients that wait for another attempt.
func (m *message) pending() (pending []int) {
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State == queue.Pending && m.results[i].kind == remote.Temp {
			pending = append(pending, i)
		}
	}
	return pending
}

// judge expires the recipients that have waited too long, or warns the sender, or only says how long to
// wait. What it knows of the past is the message's log: one line or more for each attempt.
func (s *Server) judge(m *message, pending []int, now time.Time) (wait time.Duration, notes []queue.Note) {
	log, err := s.queue.ReadLog(m.id)
	if err != nil {
		s.log.Problem(string(m.id), "read log", err)
	}
	var times []time.Time
	warned := false
	for _, n := range log {
		if k := len(times); k == 0 || !times[k-1].Equal(n.Time) {
			times = append(times, n.Time)
		}
		warned = warned || n.Event == "warned"
	}
	policy := s.opt.Retry
	if m.env.From == "" {
		policy.Expire, policy.Warn = s.opt.ReportExpire, 0
	}
	m.attempt = len(times) + 1
	age := policy.Observed(m.env.Arrived, times, now)
	v := policy.Judge(m.attempt, age, warned, s.jitter())
	switch {
	case v.Expired:
		for _, i := range pending {
			r := &m.results[i]
			r.kind, r.expired = remote.Perm, true
			r.reply = smtp.NewReply(550, "4.4.7", "not delivered in time; last: "+r.reply.Error())
		}
	case v.Warn:
		if err := s.warn(m, pending, now, now.Add(policy.Expire-age)); err != nil {
			s.log.Problem(string(m.id), "warn", err)
			break
		}
		notes = []queue.Note{{Time: now, Event: "warned", Text: "after " + age.Round(time.Second).String()}}
	}
	return v.After, notes
}

// marks are the new states of the recipients; sync says that losing one could send a copy twice.
func (m *message) marks() (marks map[int]byte, sync bool) {
	marks = make(map[int]byte, len(m.results))
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State != queue.Pending {
			continue
		}
		switch r := &m.results[i]; {
		case r.kind == remote.Done && r.expand:
			marks[i], sync = queue.Expanded, true
		case r.kind == remote.Done:
			marks[i] = queue.Done
			sync = sync || !r.local
		case r.kind == remote.Perm:
			marks[i], sync = queue.Failed, true
		}
	}
	return marks, sync
}

// finish removes a message that nobody waits for.
func (s *Server) finish(m *message, marks map[int]byte, sync bool, now time.Time) bool {
	s.logResults(m, now, 0)
	if err := m.file.Remove(marks); err != nil {
		s.log.Problem(string(m.id), "remove", err)
		return false
	}
	s.log.Removed(string(m.id), now.Sub(m.env.Arrived))
	if sync {
		s.removed()
	}
	return true
}

// notes are the lines of the message's log: recipients that share a reply share a line.
func (m *message) notes(pending []int, now time.Time) []queue.Note {
	var notes []queue.Note
	type group struct {
		host, text string
	}
	at := make(map[group]int)
	count := make(map[int]int)
	for _, i := range pending {
		r := &m.results[i]
		g := group{r.host, r.reply.Error()}
		k, ok := at[g]
		if !ok {
			k = len(notes)
			at[g] = k
			notes = append(notes, queue.Note{
				Time: now, Rcpt: m.env.Rcpts[i].Addr, Event: "deferred",
				Status: r.reply.Enhanced.String(), Host: r.host, Text: g.text,
			})
		}
		count[k]++
	}
	for k := range notes {
		if n := count[k]; n > 1 {
			notes[k].Text += fmt.Sprintf(" (and %d more recipients)", n-1)
		}
	}
	return notes
}

func (s *Server) logResults(m *message, now time.Time, wait time.Duration) {
	for i := range m.env.Rcpts {
		rcpt, r := &m.env.Rcpts[i], &m.results[i]
		if rcpt.State != queue.Pending || r.expand || r.reply == nil {
			continue // an expansion was logged with its child
		}
		a := maillog.Attempt{
			Rcpt: rcpt.Addr, Orig: rcpt.Via, Via: r.host, TLS: r.tls,
			Status: r.reply.Enhanced.String(), Reply: r.reply.Error(), Attempt: m.attempt, Age: now.Sub(m.env.Arrived),
		}
		switch {
		case r.kind == remote.Done:
			s.log.Delivered(string(m.id), a)
		case r.expired:
			s.log.Expired(string(m.id), a)
		case r.kind == remote.Perm:
			s.log.Failed(string(m.id), a)
		default:
			a.Next = wait
			if r.maybe {
				a.Reply += " (may be delivered twice)"
			}
			s.log.Deferred(string(m.id), a)
		}
	}
}
