package queued

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

var (
	errLocal   = smtp.NewReply(451, "4.3.0", "local error in processing")
	errDeleted = errors.New("its file was deleted during the attempt")
)

// localRetry is how soon new mail is tried again after our own delivery agent could not be reached. That is
// no attempt: it is a restart, and nothing is recorded.
const localRetry = 5 * time.Second

// soon is localRetry for mail that has just arrived and more for what has waited: an agent that is down for
// an hour must not have the whole queue read every five seconds.
func (s *Server) soon(m *message, now time.Time) time.Duration {
	return max(localRetry, min(now.Sub(m.env.Arrived)/8, s.opt().Retry.Min))
}

// recordExpanded marks the aliases whose children are queued, before any of those is attempted and while the
// message itself still has jobs. Otherwise a child could be sent, be removed, and after a crash be made again
// from an unmarked parent that waited for a slow host.
func (s *Server) recordExpanded(m *message) {
	marks := make(map[int]byte)
	for i := range m.env.Rcpts {
		if m.results[i].expand {
			marks[i] = queue.Expanded
		}
	}
	if len(marks) > 0 {
		s.report(m, s.now(), true)
		s.markNow(m, marks)
	}
}

// recordSent marks the recipients of one job that another host has taken over, while other jobs of the message
// run: those may hang for an hour, and a crash meanwhile must not send this copy again. Copies in our
// own mailboxes are recognised there and need no haste.
func (s *Server) recordSent(m *message, rcpts []int) {
	marks := make(map[int]byte)
	for _, i := range rcpts {
		r := &m.results[i]
		if r.kind == remote.Done && !r.recognised() && !m.told(i) {
			marks[i] = queue.Done
			s.logResult(m, i, s.now(), 0)
		}
	}
	s.markNow(m, marks)
}

// told: the sender asked to hear of this success. The report has to be queued before the mark, and there is
// one for all recipients, in the end: this mark waits for it.
func (m *message) told(i int) bool {
	return m.env.From != "" && m.results[i].success != "" && wants(m.env.Rcpts[i].Notify, "SUCCESS", false)
}

func (s *Server) markNow(m *message, marks map[int]byte) {
	if len(marks) == 0 {
		return
	}
	if err := m.file.Mark(marks, true); err != nil {
		s.log.Problem(string(m.id), "mark", err) // what is still pending is marked in the end
	}
}

// settle records what the attempt found out, in this order:
//
//	reports are queued   before the recipients they tell of are marked: a crash between repeats the
//	                     report's id, not the report
//	marks are written    synced if a recipient elsewhere has the message and others wait
//	the file is removed  when nobody waits any more, else its time and log say when and why it is next tried
//	what was queued      is taken up; after a sync of the removal, if it tells of this message: else a power cut could bring that back
//	                     when the report has gone, and it would be told of again
func (s *Server) settle(m *message) {
	s.filing <- struct{}{}
	next, suspect, again := s.record(m)
	m.file.Close() // of a file that was removed it frees the blocks
	<-s.filing
	s.release(m.id) // before the index: an entry that comes due while its message is active is dropped
	if again {
		s.wait(m, next, suspect)
	} else if len(m.spawned) > 0 {
		s.syncRemoved()
	}
	s.submit(m)
}

// record does it. again: the message waits until next.
func (s *Server) record(m *message) (next time.Time, suspect, again bool) {
	now := s.now()
	s.expandForwards(m)
	attempted := m.attempted()
	pending := m.pending()
	var tried []int // of those
	untried := true
	suspect = m.suspect
	for _, i := range pending {
		r := &m.results[i]
		if m.isPaused(i) {
			continue
		}
		tried = append(tried, i)
		suspect = suspect || r.maybe
		untried = untried && (r.local && r.offline || r.reply == shuttingDown)
	}
	untried = untried && len(tried) > 0
	var notes []queue.Note
	judged := len(tried) > 0 && !untried
	next = now.Add(s.lookAgain(m, now))
	if judged {
		var wait time.Duration
		wait, notes = s.judge(m, tried, now)
		if !m.results[tried[0]].expired {
			next = now.Add(wait)
		}
		pending = m.pending() // nobody or those who are paused, if it has expired
	}
	if err := s.report(m, now, false); err != nil {
		// The sender must hear of a failure: without room for the report its recipients stay as they are.
		s.log.Problem(string(m.id), "report failure", err)
		for i := range m.results {
			if m.env.Rcpts[i].State == queue.Pending && m.results[i].kind == remote.Perm {
				m.results[i].kind, m.results[i].reply, m.results[i].expired = remote.Temp, errLocal, false
			}
		}
		pending, next = m.pending(), now.Add(s.opt().Retry.Min)
	}

	marks, sync := m.marks()
	if len(pending) == 0 {
		if s.finish(m, attempted, marks, sync, now) {
			return next, false, false
		}
		return now.Add(s.opt().Retry.Min), true, true
	}
	if len(marks) > 0 {
		if err := m.file.Mark(marks, sync); err != nil {
			s.log.Problem(string(m.id), "mark", err)
		}
	}
	if untried {
		wait := s.soon(m, now)
		s.logResults(m, slices.DeleteFunc(attempted, m.isPaused), now, wait)
		return now.Add(wait), suspect, true
	}
	if m.file.Gone() {
		s.log.Problem(string(m.id), "defer", errDeleted)
		s.forgetLog(m.id)
		return next, false, false
	}
	next = wholeSecond(next)
	stopped := s.notePaused(m, pending, judged, now)
	notes = append(append(m.notes(pending, now), notes...), stopped...)
	if err := s.queue.AppendLog(m.id, notes...); err != nil {
		s.log.Problem(string(m.id), "log attempt", err) // it only tells how long we have tried
	}
	if err := m.file.Defer(next); err != nil {
		s.log.Problem(string(m.id), "defer", err)
	}
	if m.file.Gone() {
		s.forgetLog(m.id) // deleted since: its log went before we wrote
		return next, false, false
	}
	if len(stopped) == 0 {
		// Who waits longer for what is paused was logged when that began.
		attempted = slices.DeleteFunc(attempted, m.isPaused)
	}
	s.logResults(m, attempted, now, next.Sub(now))
	return next, suspect, true
}

// attempted lists the recipients whose marks have not been written, and whose results nobody has logged.
func (m *message) attempted() (attempted []int) {
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State == queue.Pending {
			attempted = append(attempted, i)
		}
	}
	return attempted
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

// wholeSecond rounds up to what every file system keeps, so that index and file agree on the time.
func wholeSecond(t time.Time) time.Time {
	if w := t.Truncate(time.Second); w.Before(t) {
		return w.Add(time.Second)
	}
	return t
}

// forgetLog removes the log of a message that is gone: nobody else would.
func (s *Server) forgetLog(id queue.ID) {
	if err := s.queue.ForgetLog(id); err != nil {
		s.log.Problem(string(id), "forget log", err)
	}
}

// history is what the log of a message says of its past. The last line of each attempt sums up all before
// it: a message for many recipients writes more lines than anybody wants to read again.
type history struct {
	attempts int
	age      time.Duration // observed until last
	last     time.Time
	warned   bool
}

func past(log []queue.Note, arrived time.Time) history {
	h := history{last: arrived}
	for _, n := range slices.Backward(log) {
		if n.Event != queue.EventAttempt {
			continue
		}
		f := strings.Fields(n.Text)
		if len(f) < 2 {
			continue
		}
		k, err := strconv.Atoi(f[0])
		age, err2 := time.ParseDuration(f[1])
		if err == nil && err2 == nil {
			return history{attempts: k, age: age, last: n.Time, warned: len(f) > 2 && f[2] == "warned"}
		}
	}
	return h
}

func (h history) note() queue.Note {
	n := queue.Note{Time: h.last, Event: queue.EventAttempt, Text: strconv.Itoa(h.attempts) + " " + h.age.String()}
	if h.warned {
		n.Text += " warned"
	}
	return n
}

// judge expires the recipients that have waited too long, or warns the sender, or only says how long to
// wait. The notes are for the end of the message's log.
func (s *Server) judge(m *message, pending []int, now time.Time) (wait time.Duration, notes []queue.Note) {
	log, err := s.queue.ReadLog(m.id)
	if err != nil {
		s.log.Problem(string(m.id), "read log", err)
	}
	h := past(log, m.env.Arrived)
	policy := s.opt().Retry
	if m.env.From == "" {
		policy.Expire, policy.Warn = s.opt().ReportExpire, 0
	}
	age := h.age + policy.Observed(h.last, nil, now)
	h.attempts, h.age, h.last = h.attempts+1, age, now
	m.attempt = h.attempts
	v := policy.Judge(h.attempts, age, h.warned, s.jitter())
	switch {
	case v.Expired:
		for _, i := range pending {
			r := &m.results[i]
			r.kind, r.expired = remote.Perm, true
		}
	case v.Warn:
		if err := s.warn(m, pending, now, now.Add(policy.Expire-age)); err != nil {
			s.log.Problem(string(m.id), "warn", err)
			break
		}
		h.warned = true
		notes = []queue.Note{{Time: now, Event: queue.EventWarned, Text: "after " + age.Round(time.Second).String()}}
	}
	return v.After, append(notes, h.note())
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
			sync = sync || !r.recognised() || m.told(i)
		case r.kind == remote.Perm:
			marks[i], sync = queue.Failed, true
		}
	}
	return marks, sync
}

// finish removes a message that nobody waits for.
func (s *Server) finish(m *message, attempted []int, marks map[int]byte, sync bool, now time.Time) bool {
	s.logResults(m, attempted, now, 0)
	if err := m.file.Remove(marks); err != nil {
		s.log.Problem(string(m.id), "remove", err)
		s.markNow(m, marks) // or they would get it again at every attempt
		return false
	}
	s.log.Removed(string(m.id), max(0, now.Sub(m.env.Arrived)))
	if sync {
		s.removed()
	}
	return true
}

// What stands around the number of those who share a line.
const (
	sharedBegin = " (and "
	sharedEnd   = " more recipients)"
)

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
		if m.isPaused(i) {
			continue
		}
		g := group{r.host, r.reply.Error()}
		k, ok := at[g]
		if !ok {
			k = len(notes)
			at[g] = k
			notes = append(notes, queue.Note{
				Time: now, Rcpt: m.env.Rcpts[i].Addr, Event: "deferred",
				Status: r.status(), Host: r.host, Text: g.text,
			})
		}
		count[k]++
	}
	for k := range notes {
		if n := count[k]; n > 1 {
			notes[k].Text += fmt.Sprintf(sharedBegin+"%d"+sharedEnd, n-1)
		}
	}
	return notes
}

func (s *Server) logResults(m *message, attempted []int, now time.Time, wait time.Duration) {
	for _, i := range attempted {
		s.logResult(m, i, now, wait)
	}
}

func (s *Server) logResult(m *message, i int, now time.Time, wait time.Duration) {
	rcpt, r := &m.env.Rcpts[i], &m.results[i]
	if r.expand || r.reply == nil {
		return // an expansion was logged with its child
	}
	a := maillog.Attempt{
		Rcpt: rcpt.Addr, Target: rcpt.Target, Orig: rcpt.Via, Source: r.source.String(), Via: r.host, TLS: r.tls,
		Status: r.status(), Reply: r.reply.Error(), Attempt: m.attempt, Age: max(0, now.Sub(m.env.Arrived)), // that clock may have been ahead
	}
	s.traffic.count(rcpt.Addr, now, func(d *queue.DomainTraffic) {
		switch r.kind {
		case remote.Done:
			d.Out++
		case remote.Perm:
			d.Failed++
		default:
			d.Deferred++
		}
	})
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
