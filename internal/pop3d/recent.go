package pop3d

import (
	"sync"
	"time"
)

// recent are the last logins of users, for LOGIN-DELAY (RFC 2449 section 6.5). The zero value is ready.
type recent struct {
	mu    sync.Mutex
	last  map[string]time.Time
	sweep int // entries at which those that do not matter any more are dropped
}

// admit notes a login, unless it comes too soon after the last one that was noted.
func (r *recent) admit(user string, now time.Time, delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	soon := func(t time.Time) bool { d := now.Sub(t); return d >= 0 && d < delay }
	if t, ok := r.last[user]; ok && soon(t) {
		return false
	}
	if r.last == nil {
		r.last = make(map[string]time.Time)
	}
	if len(r.last) >= max(r.sweep, 1000) {
		for u, t := range r.last {
			if !soon(t) {
				delete(r.last, u)
			}
		}
		r.sweep = 2 * len(r.last)
	}
	r.last[user] = now
	return true
}
