package queued

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// What somebody wants given up (queue.GiveUp) fails as if it had expired, when it would be attempted. The wish stays until the message is gone:
//
//	step              on disk                           after a crash
//	asked             wish, message with '-'            given up at the start, before all else
//	report queued     wish, message, report             given up again: the report's derived id is there; it waits for the message, which is due
//	message removed   wish without a message            the next reading removes the wish
//	wish removed      nothing                           nothing; or, if only the second removal was lost, the row above
//
// A removal is synced before a report about it may be sent, as after any attempt.

// wishFirst is before any time that a file bears: of all that waits, wishes are taken first. What was left by a crash in the second row has its
// report, too, and that must not be sent and gone before the message is.
var wishFirst = time.Unix(0, 0)

// take is what a loader does with a task.
func (s *Server) take(t task) {
	text, asked, err := s.queue.GivenUp(t.id)
	if err != nil {
		s.log.Problem(string(t.id), "give up", err) // attempted: better that than lost sight of
	}
	if !asked || !s.giveUp(t, text) {
		s.attempt(t)
	}
}

// giveUp has all pending recipients of a message fail. False: it cannot be opened, which is an attempt's business.
func (s *Server) giveUp(t task, text string) bool {
	file, err := s.queue.Message(t.id)
	if errors.Is(err, queue.ErrNotExist) && s.queue.Release(t.id) == nil {
		s.log.Released(string(t.id))
		file, err = s.queue.Message(t.id)
	}
	if err != nil {
		return false
	}
	m := &message{id: t.id, file: file, env: &file.Envelope, suspect: t.suspect, begun: s.now()}
	m.results = make([]result, len(m.env.Rcpts))
	if s.early(m) {
		file.Close()
		s.release(t.id)
		s.index.add(t.id, m.begun.Add(min(localRetry, s.opt().Retry.Min)), t.suspect)
		return true
	}
	// A report that a crash leaves waits as long as its message is due: early.
	if err := s.queue.Due(t.id, m.begun); err != nil {
		s.log.Problem(string(t.id), "give up", err)
	}
	log, err := s.queue.ReadLog(t.id)
	if err != nil {
		s.log.Problem(string(t.id), "read log", err)
	}
	m.attempt = past(log, m.env.Arrived).attempts
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State == queue.Pending {
			reply, host := lastReply(log, m.env.Rcpts[i].Addr)
			if text != "" {
				reply, host = smtp.NewReply(554, "5.4.7", text), ""
			}
			m.results[i] = result{kind: remote.Perm, expired: true, reply: reply, host: host}
		}
	}
	s.settle(m)
	if _, err := s.queue.Look(t.id); errors.Is(err, queue.ErrNotExist) {
		if err := s.queue.Forget(t.id); err != nil {
			s.log.Problem(string(t.id), "give up", err)
		}
	}
	return true
}

// lastReply is why a recipient still waits, from the log of its message. Recipients that shared a reply share a line, in which only the first is
// named.
func lastReply(log []queue.Note, rcpt string) (reply *smtp.Reply, host string) {
	var last *queue.Note
	for i := range slices.Backward(log) {
		n := &log[i]
		if n.Event != "deferred" {
			continue
		}
		if n.Rcpt == rcpt {
			last = n
			break
		}
		if last == nil && strings.HasSuffix(n.Text, sharedEnd) {
			last = n
		}
	}
	if last == nil {
		return smtp.NewReply(554, "5.4.7", "given up by the postmaster of this host"), ""
	}
	text := last.Text
	if i := strings.LastIndex(text, sharedBegin); i >= 0 && strings.HasSuffix(text, sharedEnd) {
		text = text[:i]
	}
	word, rest, _ := strings.Cut(text, " ")
	code, err := strconv.Atoi(word)
	if err != nil || code < 400 || code > 599 {
		return smtp.NewReply(451, last.Status, text), last.Host
	}
	enhanced, words, _ := strings.Cut(rest, " ")
	if _, ok := smtp.ParseEnhanced(enhanced); !ok {
		enhanced, words = "", rest
	}
	return smtp.NewReply(code, enhanced, words), last.Host
}

// wishes puts what is to be given up in front of all that waits.
func (s *Server) wishes() error {
	return s.queue.GiveUps(func(id queue.ID) bool {
		if !s.isActive(id) {
			s.index.put(task{id: id, suspect: true, now: true}, wishFirst)
		}
		return true
	})
}

// wait has a message attempted again. One that was given up meanwhile is taken up at once, unless that is what has just failed for want of room
// for the report.
func (s *Server) wait(m *message, next time.Time, suspect bool) {
	t := task{id: m.id, suspect: suspect}
	pending := m.pending()
	failed := slices.ContainsFunc(pending, func(i int) bool { return m.results[i].reply == errLocal })
	if len(pending) > 0 && !failed {
		if _, asked, _ := s.queue.GivenUp(m.id); asked {
			t.now, next = true, wishFirst
		}
	}
	s.index.put(t, next)
}
