package daemon

import (
	"net/netip"
	"sync"
	"time"
)

// Limits says how many sessions there may be. Zero switches a limit off.
type Limits struct {
	Sessions int                   // at once, in all
	Client   int                   // at once, of one client
	Rate     int                   // begun in a minute, by one client
	Exempt   func(netip.Addr) bool // clients that only Sessions applies to; may be nil
}

// Limit names the limit that a connection met.
type Limit int

// The limits; NoLimit lets the connection in.
const (
	NoLimit Limit = iota
	SessionLimit
	ClientLimit
	RateLimit
)

// String is the word for the log: "sessions", "client", "rate".
func (l Limit) String() string {
	switch l {
	case SessionLimit:
		return "sessions"
	case ClientLimit:
		return "client"
	case RateLimit:
		return "rate"
	}
	return "none"
}

// Limiter counts sessions. A client is an IPv4 address or an IPv6 network of 64 bits: whoever has one address of
// such a network has them all; of a local socket a user, but root. It has no clock and is safe for concurrent use.
type Limiter struct {
	mu      sync.Mutex
	limits  Limits
	total   int
	clients map[key]*client
	swept   time.Time
}

// key is who a client is.
type key struct {
	ip  netip.Addr // not valid: the user
	uid int
}

// client is what is remembered of one client while it has a session or began one in the last two minutes.
type client struct {
	sessions int
	window   time.Time // start of the minute that now counts
	now      int       // sessions begun in it
	before   int       // and in the minute before it
}

const (
	rateWindow = time.Minute
	// maxClients bounds the memory for the rate (about 100 bytes each). Beyond it new clients are not rated: a
	// flood from that many addresses is held by the session limit.
	maxClients = 100_000
)

// NewLimiter returns a Limiter without sessions.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l, clients: make(map[key]*client)}
}

// SetLimits changes the limits, on reload. Sessions that are there stay.
func (l *Limiter) SetLimits(n Limits) {
	l.mu.Lock()
	l.limits = n
	l.mu.Unlock()
}

// Pass is what Enter gives a session and Leave takes back.
type Pass struct {
	key key
	c   *client // nil: counted in the total only
}

// Enter counts a connection from ip at now, or says which limit is against it; then it is not counted as a session,
// but as an attempt it is: who only hammers harder stays out. An ip that is not valid meets only the limit on all
// sessions. The caller gives the Pass to Leave when the session ends.
func (l *Limiter) Enter(ip netip.Addr, now time.Time) (Pass, Limit) {
	net, ok := clientOf(ip)
	return l.enter(key{ip: net}, ok, ip.Unmap(), now)
}

// EnterUser is Enter for a connection of a user of this host.
func (l *Limiter) EnterUser(uid int, now time.Time) (Pass, Limit) {
	return l.enter(key{uid: uid}, uid != 0, netip.Addr{}, now)
}

func (l *Limiter) enter(k key, limited bool, ip netip.Addr, now time.Time) (Pass, Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var p Pass
	if limited && (l.limits.Exempt == nil || !l.limits.Exempt(ip)) {
		p = Pass{k, l.client(k, now)}
	}
	switch c := p.c; {
	case c != nil && c.begin(now, l.limits.Rate):
		return Pass{}, RateLimit
	case c != nil && l.limits.Client > 0 && c.sessions >= l.limits.Client:
		return Pass{}, ClientLimit
	case l.limits.Sessions > 0 && l.total >= l.limits.Sessions:
		l.forget(p)
		return Pass{}, SessionLimit
	}
	l.total++
	if p.c != nil {
		p.c.sessions++
	}
	return p, NoLimit
}

// Leave ends a session that Enter let in.
func (l *Limiter) Leave(p Pass) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if p.c != nil {
		p.c.sessions--
		l.forget(p)
	}
}

// forget drops a client about whom there is nothing to remember.
func (l *Limiter) forget(p Pass) {
	if p.c != nil && p.c.sessions == 0 && l.limits.Rate == 0 {
		delete(l.clients, p.key)
	}
}

// Sessions is how many there are.
func (l *Limiter) Sessions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Stress reports whether more than percent of the allowed sessions are in use.
func (l *Limiter) Stress(percent int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limits.Sessions > 0 && l.total*100 > l.limits.Sessions*percent
}

func clientOf(ip netip.Addr) (netip.Addr, bool) {
	if !ip.IsValid() {
		return ip, false
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		n, _ := ip.Prefix(64)
		ip = n.Addr()
	}
	return ip, true
}

// client returns the entry for k, nil when there is no room for another.
func (l *Limiter) client(k key, now time.Time) *client {
	c := l.clients[k]
	if c != nil {
		return c
	}
	if len(l.clients) >= maxClients {
		if d := now.Sub(l.swept); d >= 0 && d < rateWindow/4 {
			return nil // swept a moment ago, in vain: not for each connection again
		}
		l.sweep(now)
		l.swept = now
		if len(l.clients) >= maxClients {
			return nil
		}
	}
	c = &client{window: now}
	l.clients[k] = c
	return c
}

// sweep forgets clients without sessions that began none lately.
func (l *Limiter) sweep(now time.Time) {
	for k, c := range l.clients {
		if d := now.Sub(c.window); c.sessions == 0 && (d < 0 || d >= 2*rateWindow) {
			delete(l.clients, k)
		}
	}
}

// begin counts an attempt and reports whether it is beyond rate. The last minute is this window, and of the one before
// it as much as the minute still covers.
func (c *client) begin(now time.Time, rate int) bool {
	if rate == 0 {
		return false
	}
	switch d := now.Sub(c.window); {
	case d < 0 || d >= 2*rateWindow: // long ago, or the clock went back
		c.window, c.now, c.before = now, 0, 0
	case d >= rateWindow:
		c.window, c.before, c.now = c.window.Add(rateWindow), c.now, 0
	}
	c.now++
	left := rateWindow - now.Sub(c.window) - 1 // what began exactly a minute ago is over
	return c.now+int(int64(c.before)*int64(left)/int64(rateWindow)) > rate
}
