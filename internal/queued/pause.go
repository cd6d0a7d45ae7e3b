package queued

import (
	"strings"
	"sync"
	"time"

	"postamt/internal/addr"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// paused is what recipients are answered whose destination is to wait (queue.Pause). That is no attempt: their message is looked at again later,
// nothing is counted and nothing expires.
var paused = smtp.NewReply(451, "4.3.2", "the destination is paused")

// pauses are the destinations that are to wait. The directory is the truth; its time says when to read it again.
type pauses struct {
	queue *queue.Queue
	log   *maillog.Logger

	mu   sync.Mutex
	at   time.Time // of the directory, when it was read
	sure bool      // that was long enough ago that a later change must show
	read time.Time // when it was
	set  map[string]string
	told string // the last error
}

const (
	granule = 2 * time.Second       // more than any file system's clock jumps at once
	while   = 20 * time.Millisecond // for which a reading holds whose time may be that of a later change, too
)

// now is the set as it is, not to be changed. If it cannot be read the last one holds.
func (p *pauses) now() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, err := p.queue.PausesAt()
	if err == nil && at.Equal(p.at) && (p.sure || time.Since(p.read) < while) {
		return p.set
	}
	var list []queue.Pause
	if err == nil {
		list, err = p.queue.Pauses()
	}
	if err != nil {
		if p.told != err.Error() {
			p.told = err.Error()
			p.log.Problem("", "pause", err)
		}
		return p.set
	}
	set := make(map[string]string, len(list))
	for _, one := range list {
		set[one.Destination] = one.Text
		if _, known := p.set[one.Destination]; !known {
			p.log.DestinationPaused(one.Destination, one.Text)
		}
	}
	for destination := range p.set {
		if _, still := set[destination]; !still {
			p.log.DestinationResumed(destination)
		}
	}
	p.set, p.at, p.told = set, at, ""
	p.read = time.Now()
	p.sure = p.read.Sub(at).Abs() > granule
	return set
}

// any: there were some when it was last read.
func (p *pauses) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.set) > 0
}

// text is why a destination waits.
func (p *pauses) text(destination string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[destination]
}

// PausedBy is the pause that concerns a recipient, by the keys of set: of the next hop, or of his domain; "" is none.
func PausedBy(set map[string]string, to Destination, rcpt string) string {
	for _, hop := range [...]string{to.String(), to.Next.String()} { // commands are at the delivery agent's, too
		if _, ok := set[hop]; ok && (hop == to.String() || to.Target != "") {
			return hop
		}
	}
	m, err := addr.Parse(rcpt, true)
	if err != nil {
		return ""
	}
	domain, err := addr.ASCIIDomain(strings.ToLower(m.Domain))
	if _, ok := set[domain]; !ok || err != nil {
		return ""
	}
	return domain
}

// divert answers the recipients of a job that are to wait, and returns what is left of it, nil if that is nothing.
func (s *scheduler) divert(to Destination, j *job) *job {
	set := s.paused.now()
	if len(set) == 0 {
		return j
	}
	var rest []int
	waiting := make(map[string][]int)
	for _, i := range j.rcpts {
		if name := PausedBy(set, to, j.msg.env.Rcpts[i].Addr); name != "" {
			waiting[name] = append(waiting[name], i)
		} else {
			rest = append(rest, i)
		}
	}
	if len(waiting) == 0 {
		return j
	}
	// Each part is a job of its own now.
	parts := len(waiting)
	if len(rest) > 0 {
		parts++
	}
	j.msg.mu.Lock()
	j.msg.open += parts - 1
	j.msg.mu.Unlock()
	for name, rcpts := range waiting {
		part := &job{msg: j.msg, rcpts: rcpts}
		out := unreachable(part, paused)
		for i := range out {
			out[i].Peer = &remote.Endpoint{Socket: name} // for the log: what it is called, as it is
		}
		s.done(part, out)
	}
	if len(rest) == 0 {
		return nil
	}
	return &job{msg: j.msg, rcpts: rest}
}

// lookAgain is when a message is looked at that only waits for what is paused: who resumes a destination makes due what waits for it, so this is
// for those who do it by hand.
func (s *Server) lookAgain(m *message, now time.Time) time.Duration {
	p := s.opt().Retry
	return min(max(now.Sub(m.env.Arrived)/8, p.Min), p.Max)
}

// isPaused tells of a recipient that is to wait.
func (m *message) isPaused(i int) bool { return m.results[i].reply == paused }

// notePaused are the lines of the message's log about recipients that begin to wait: one for each destination.
func (s *Server) notePaused(m *message, pending []int, attempted bool, now time.Time) (notes []queue.Note) {
	known := make(map[string]bool)
	if !attempted {
		log, _ := s.queue.ReadLog(m.id)
		for i := len(log) - 1; i >= 0 && log[i].Event != queue.EventAttempt; i-- {
			if log[i].Event == queue.EventPaused {
				known[log[i].Host] = true
			}
		}
	}
	for _, i := range pending {
		if name := m.results[i].host; m.isPaused(i) && !known[name] {
			known[name] = true
			notes = append(notes, queue.Note{Time: now, Rcpt: m.env.Rcpts[i].Addr, Event: queue.EventPaused, Status: "4.3.2", Host: name, Text: s.sched.paused.text(name)})
		}
	}
	return notes
}
