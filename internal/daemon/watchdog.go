package daemon

import (
	"net"
	"strconv"
	"sync"
	"time"
)

// watchdog pings systemd (WatchdogSec of systemd.service(5)) when every loop of the program has gone round since the last ping. A timer
// of its own would ping for a program whose loops hang, and for nobody else is the watchdog there.
type watchdog struct {
	every time.Duration // how often a loop is to go round
	ping  func()

	mu     sync.Mutex
	beaten []bool
}

// newWatchdog reads the variables of sd_watchdog_enabled(3); nil: nobody watches.
func newWatchdog(usec, who string, pid int, ping func()) *watchdog {
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || who != "" && who != strconv.Itoa(pid) {
		return nil
	}
	// Two loops that just miss each other ping after two of their rounds: half the time, as sd_watchdog_enabled(3) advises.
	return &watchdog{every: time.Duration(n) * time.Microsecond / 4, ping: ping}
}

// Watchdog is within which time a ping is awaited; 0: nobody watches.
func (p *Process) Watchdog() time.Duration {
	if p.watchdog == nil {
		return 0
	}
	return 4 * p.watchdog.every
}

// Alive pings for a process that does the work in the place of this one.
func (p *Process) Alive() {
	if p.watchdog != nil {
		p.watchdog.ping()
	}
}

// PingBy has pings go another way than to systemd. It is called before the first Round.
func (p *Process) PingBy(ping func()) {
	if p.watchdog != nil {
		p.watchdog.ping = ping
	}
}

// Beat is one loop's part of the watchdog. A nil one does nothing.
type Beat struct {
	w    *watchdog
	i    int
	next time.Time
}

// Beat is for one more loop without which the program does not serve; nil when nobody watches. Listeners of Open have theirs.
func (p *Process) Beat() *Beat {
	w := p.watchdog
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beaten = append(w.beaten, false)
	return &Beat{w: w, i: len(w.beaten) - 1}
}

// Every is how often the loop is to call Round; 0: never.
func (b *Beat) Every() time.Duration {
	if b == nil {
		return 0
	}
	return b.w.every
}

// Round says that the loop has gone round.
func (b *Beat) Round() {
	if b == nil {
		return
	}
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.beaten[b.i] = true
	for _, done := range b.w.beaten {
		if !done {
			return
		}
	}
	clear(b.w.beaten)
	b.w.ping()
}

// accepting is Round of a loop that accepts: in its own goroutine, before each Accept. One that nobody connects to is woken in time.
func (b *Beat) accepting(l net.Listener) {
	if b == nil {
		return
	}
	now := time.Now()
	if now.Before(b.next) {
		return
	}
	b.Round()
	b.next = now.Add(b.w.every)
	if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(b.next)
	}
}
