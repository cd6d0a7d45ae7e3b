package queued

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"postamt/internal/queue"
)

// traffic counts for people who watch (queue.Traffic): what is announced, and what becomes of recipients, by their domain.
type traffic struct {
	mu      sync.Mutex
	changed bool
	in      int64
	domains map[string]*domainTraffic
}

type domainTraffic struct {
	queue.DomainTraffic
	last time.Time
}

// maxDomains are counted by name; those of which nothing was heard for idleDomain make room, the rest are "*".
const (
	maxDomains = 1000
	idleDomain = 10 * time.Minute
)

// arrived counts a message that was announced. One that is old already was only put back.
func (t *traffic) arrived(id queue.ID, now time.Time) {
	if now.Sub(id.Time()).Abs() > idleDomain {
		return
	}
	t.mu.Lock()
	t.in++
	t.changed = true
	t.mu.Unlock()
}

// count adds to a recipient's domain.
func (t *traffic) count(rcpt string, now time.Time, add func(*queue.DomainTraffic)) {
	name := strings.ToLower(rcpt[strings.LastIndexByte(rcpt, '@')+1:])
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = true
	d := t.domains[name]
	if d == nil && len(t.domains) >= maxDomains {
		for k, old := range t.domains {
			if now.Sub(old.last) > idleDomain {
				delete(t.domains, k)
			}
		}
		if len(t.domains) >= maxDomains {
			name = "*"
			d = t.domains[name]
		}
	}
	if d == nil {
		if t.domains == nil {
			t.domains = make(map[string]*domainTraffic)
		}
		name = strings.Clone(name) // not the envelope that it is part of
		d = &domainTraffic{DomainTraffic: queue.DomainTraffic{Domain: name}}
		t.domains[name] = d
	}
	d.last = now
	add(&d.DomainTraffic)
}

// take is what there is to write, nil if nothing has changed.
func (t *traffic) take() *queue.Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.changed {
		return nil
	}
	t.changed = false
	out := &queue.Traffic{In: t.in}
	for _, d := range t.domains {
		out.Domains = append(out.Domains, d.DomainTraffic)
	}
	slices.SortFunc(out.Domains, func(a, b queue.DomainTraffic) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

// writeTraffic writes it down each second in which there was some.
func (s *Server) writeTraffic(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failed := false
	for {
		if t := s.traffic.take(); t != nil {
			s.mu.Lock()
			t.Active = len(s.active)
			s.mu.Unlock()
			t.Started, t.At, t.Waiting = s.start, s.now(), s.index.len()
			err := s.queue.WriteTraffic(t)
			if err != nil && !failed {
				s.log.Problem("", "traffic", err) // once: a full disk has better to tell
			}
			failed = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
