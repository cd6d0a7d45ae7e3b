package smtpd

import (
	"sync"
	"time"
)

// pending is a message that is being made permanent. Either it becomes visible or it is late, whichever is decided first.
type pending struct {
	due    time.Time
	refuse func() // tells the client; the session waits meanwhile, so the connection is the caller's

	mu            sync.Mutex
	decided, late bool
}

// keep decides that the message stays; false: it was late.
func (p *pending) keep() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.decided {
		return false
	}
	p.decided = true
	return true
}

// expire decides that it is late.
func (p *pending) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.decided {
		p.decided, p.late = true, true
		p.refuse()
	}
}

// wasLate is asked when the message is permanent or given up; it waits for a refusal that is being said.
func (p *pending) wasLate() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late
}

// lateness looks after all messages that are pending, with one timer: one for each message would cost it two system calls.
type lateness struct {
	mu      sync.Mutex
	pending map[*pending]struct{}
	armed   bool
}

// watch looks after p until unwatch, every so often.
func (l *lateness) watch(p *pending, every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = make(map[*pending]struct{})
	}
	l.pending[p] = struct{}{}
	if !l.armed {
		l.armed = true
		time.AfterFunc(every, func() { l.look(every) })
	}
}

func (l *lateness) unwatch(p *pending) {
	l.mu.Lock()
	delete(l.pending, p)
	l.mu.Unlock()
}

func (l *lateness) look(every time.Duration) {
	now := time.Now()
	var due []*pending
	l.mu.Lock()
	for p := range l.pending {
		if !now.Before(p.due) {
			due = append(due, p)
			delete(l.pending, p)
		}
	}
	if l.armed = len(l.pending) > 0; l.armed {
		time.AfterFunc(every, func() { l.look(every) })
	}
	l.mu.Unlock()
	for _, p := range due {
		p.expire()
	}
}
