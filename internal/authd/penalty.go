package authd

import (
	"net/netip"
	"sync"
	"time"
)

// penalties says how long an answer must wait because of the failures before it. It has no clock, and is safe for
// concurrent use.
//
// Each failure counts for the address (IPv6: its /64, which one customer has) and for the user. The wait doubles with each,
// from the second on for an address and from the fourth for a user, up to a bound; failures fade, one in fadeEvery. What
// strangers do to a user delays everyone else who tries that name, by at most maxUserWait; but not an address from which
// the user has logged in lately: nobody can lock a user out.
type penalties struct {
	mu    sync.Mutex
	addrs map[netip.Addr]tally
	users map[string]tally
	known map[login]time.Time // of the last success
}

// login is a user at an address.
type login struct {
	user string
	addr netip.Addr
}

// tally is how many failures there were, and when the last.
type tally struct {
	n    int
	last time.Time
}

const (
	firstWait   = time.Second
	maxAddrWait = 15 * time.Second
	maxUserWait = 4 * time.Second
	freeAddr    = 1 // failures without a wait
	freeUser    = 3
	fadeEvery   = 5 * time.Minute
	knownFor    = 30 * 24 * time.Hour
	// maxTallies bounds the memory, some 100 bytes each. A flood from more addresses than that makes us forget some of them:
	// the hashes computed at once are bounded all the same.
	maxTallies = 100_000
)

func newPenalties() *penalties {
	return &penalties{addrs: map[netip.Addr]tally{}, users: map[string]tally{}, known: map[login]time.Time{}}
}

// network is what counts as one address; not valid: a local socket, which is not counted.
func network(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}

// faded is t at that time.
func (t tally) faded(now time.Time) tally {
	if d := now.Sub(t.last); d > 0 {
		t.n = max(0, t.n-int(min(d/fadeEvery, 1<<20)))
	}
	return t
}

// wait before the answer to an attempt by this address for this user.
func (p *penalties) wait(user string, ip netip.Addr, now time.Time) time.Duration {
	ip = network(ip)
	p.mu.Lock()
	defer p.mu.Unlock()
	w := doubled(p.addrs[ip].faded(now).n-freeAddr, maxAddrWait)
	if t, ok := p.known[login{user, ip}]; ok && now.Sub(t) < knownFor {
		return w
	}
	return max(w, doubled(p.users[user].faded(now).n-freeUser, maxUserWait))
}

// doubled is 0 for n <= 0, firstWait for 1, and doubles up to most.
func doubled(n int, most time.Duration) time.Duration {
	if n <= 0 {
		return 0
	}
	return min(firstWait<<min(n-1, 20), most)
}

// failed counts one.
func (p *penalties) failed(user string, ip netip.Addr, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ip = network(ip); ip.IsValid() {
		count(p.addrs, ip, now)
	}
	if user != "" {
		count(p.users, user, now)
	}
}

func count[K comparable](m map[K]tally, k K, now time.Time) {
	makeRoom(m, k)
	t := m[k].faded(now)
	m[k] = tally{min(t.n+1, 1000), now}
}

// makeRoom forgets a tenth of a map that is full, whichever it is: a map's order is random enough.
func makeRoom[K comparable, V any](m map[K]V, k K) {
	if _, ok := m[k]; ok || len(m) < maxTallies {
		return
	}
	for k := range m {
		delete(m, k)
		if len(m) < maxTallies*9/10 {
			return
		}
	}
}

// succeeded remembers the address, and forgives it by half.
func (p *penalties) succeeded(user string, ip netip.Addr, now time.Time) {
	if ip = network(ip); !ip.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// One good password among many bad ones does not make a guesser honest: what the address has on it fades by half, and for one
	// user's sake once in fadeEvery, or an account of his own between any two guesses would keep his sheet clean.
	if last, ok := p.known[login{user, ip}]; ok && now.Sub(last) >= 0 && now.Sub(last) < fadeEvery {
		return
	}
	if t := p.addrs[ip].faded(now); t.n > 0 {
		p.addrs[ip] = tally{t.n / 2, now}
	}
	makeRoom(p.known, login{user, ip})
	p.known[login{user, ip}] = now
}
