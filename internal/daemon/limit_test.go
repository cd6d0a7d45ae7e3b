package daemon

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestS26_ConcurrentSessions(t *testing.T) {
	l := NewLimiter(Limits{Sessions: 5, Client: 2, Exempt: func(a netip.Addr) bool { return a == ip("192.0.2.200") }})
	var passes []Pass
	enter := func(addr netip.Addr, want Limit) {
		t.Helper()
		p, met := l.Enter(addr, epoch)
		if met != want {
			t.Fatalf("%v: %v, want %v", addr, met, want)
		}
		if met == NoLimit {
			passes = append(passes, p)
		}
	}
	enter(ip("192.0.2.1"), NoLimit)
	enter(ip("::ffff:192.0.2.1"), NoLimit) // the same client
	enter(ip("192.0.2.1"), ClientLimit)
	enter(ip("192.0.2.2"), NoLimit)
	enter(ip("2001:db8:1:1::1"), NoLimit)
	enter(ip("2001:db8:1:1:ffff::2"), NoLimit) // the same /64
	enter(ip("2001:db8:1:1::3"), ClientLimit)
	enter(ip("2001:db8:1:2::1"), SessionLimit)
	enter(netip.Addr{}, SessionLimit)
	if n := l.Sessions(); n != 5 {
		t.Errorf("%d sessions", n)
	}
	l.Leave(passes[0])
	enter(ip("192.0.2.1"), NoLimit)
	enter(ip("192.0.2.1"), ClientLimit)
	for _, p := range passes[1:] {
		l.Leave(p)
	}
	if l.Sessions() != 0 || len(l.clients) != 0 {
		t.Errorf("%d sessions, %d clients remembered", l.Sessions(), len(l.clients))
	}
	for range 4 {
		enter(ip("192.0.2.200"), NoLimit) // exempt
	}
	enter(netip.Addr{}, NoLimit)
}

// S26: 10,000 connections a minute from one address; from 1,000 addresses of a /64; others are served.
func TestS26_Rate(t *testing.T) {
	const rate = 30
	l := NewLimiter(Limits{Rate: rate})
	now := epoch
	var in [2]int
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		now = now.Add(6 * time.Millisecond) // 10,000 in a minute
		for k, a := range []netip.Addr{ip("192.0.2.1"), randomIn64(r)} {
			if p, met := l.Enter(a, now); met == NoLimit {
				in[k]++
				l.Leave(p)
			} else if met != RateLimit {
				t.Fatal(met)
			}
		}
		if i%1000 == 0 {
			p, met := l.Enter(ip("198.51.100.1"), now)
			if met != NoLimit {
				t.Fatalf("somebody else met %v", met)
			}
			l.Leave(p)
		}
	}
	if in != [2]int{rate, rate} {
		t.Errorf("%v let in, want %d each", in, rate)
	}
	if len(l.clients) != 3 {
		t.Errorf("%d clients remembered", len(l.clients))
	}
	// Who stops hammering is served two minutes later.
	if _, met := l.Enter(ip("192.0.2.1"), now.Add(2*time.Minute)); met != NoLimit {
		t.Errorf("still %v", met)
	}
}

func randomIn64(r *rand.Rand) netip.Addr {
	b := ip("2001:db8:1:1::").As16()
	for i := 8; i < 16; i++ {
		b[i] = byte(r.Uint32())
	}
	return netip.AddrFrom16(b)
}

// In no minute are more let in than the rate, up to what the estimate of the minute before costs; and a client that keeps
// to the rate is never refused.
func TestRateWindow(t *testing.T) {
	const rate = 60
	l := NewLimiter(Limits{Rate: rate})
	for i := range 600 {
		if _, met := l.Enter(ip("192.0.2.1"), epoch.Add(time.Duration(i)*time.Second)); met != NoLimit {
			t.Fatalf("refused at second %d, with one a second", i)
		}
	}
	// The clock goes back: a new window, no lasting refusal (F15).
	if _, met := l.Enter(ip("192.0.2.1"), epoch.Add(-time.Hour)); met != NoLimit {
		t.Error("refused after the clock went back")
	}
}

func TestStress(t *testing.T) {
	l := NewLimiter(Limits{Sessions: 10})
	for i := range 10 {
		if _, met := l.Enter(netip.Addr{}, epoch); met != NoLimit {
			t.Fatal(met)
		}
		if got, want := l.Stress(80), i+1 > 8; got != want {
			t.Errorf("%d of 10: stress %v", i+1, got)
		}
	}
	if NewLimiter(Limits{}).Stress(80) {
		t.Error("stress without a limit")
	}
}

// The memory for clients is bounded, and old ones make room.
func TestS26_ManyClients(t *testing.T) {
	l := NewLimiter(Limits{Rate: 1})
	b := ip("2001:db8::").As16()
	for i := range maxClients + 1000 {
		b[4], b[5], b[6] = byte(i>>16), byte(i>>8), byte(i)
		if _, met := l.Enter(netip.AddrFrom16(b), epoch); met != NoLimit {
			t.Fatalf("client %d met %v", i, met)
		}
	}
	if len(l.clients) > maxClients {
		t.Errorf("%d clients remembered", len(l.clients))
	}
	// They all have a session still: nobody may be forgotten.
	l.Enter(ip("192.0.2.1"), epoch.Add(time.Hour))
	if len(l.clients) != maxClients {
		t.Errorf("%d clients remembered", len(l.clients))
	}
	for _, c := range l.clients {
		c.sessions = 0
	}
	l.Enter(ip("192.0.2.1"), epoch.Add(2*time.Hour))
	if len(l.clients) != 1 {
		t.Errorf("%d clients remembered", len(l.clients))
	}
}

// A random life agrees with a plain count; limits may change meanwhile.
func TestLimiterModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	exempt := false
	limits := func() Limits {
		return Limits{Sessions: 20 + r.IntN(20), Client: 1 + r.IntN(5), Exempt: func(netip.Addr) bool { return exempt }}
	}
	cur := limits()
	l := NewLimiter(cur)
	type session struct {
		client int
		exempt bool
		p      Pass
	}
	var open []session
	for range 20000 {
		switch r.IntN(20) {
		case 0:
			exempt = r.IntN(4) == 0
			cur = limits()
			l.SetLimits(cur)
		case 1, 2, 3, 4, 5, 6, 7, 8, 9:
			if len(open) > 0 {
				i := r.IntN(len(open))
				l.Leave(open[i].p)
				open = append(open[:i], open[i+1:]...)
			}
		default:
			c := r.IntN(10)
			n := 0
			for _, s := range open {
				if s.client == c && !s.exempt {
					n++
				}
			}
			want := NoLimit
			if !exempt && n >= cur.Client {
				want = ClientLimit
			} else if len(open) >= cur.Sessions {
				want = SessionLimit
			}
			p, met := l.Enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(c)}), epoch)
			if met != want {
				t.Fatalf("%v, want %v", met, want)
			}
			if met == NoLimit {
				open = append(open, session{c, exempt, p})
			}
		}
		if l.Sessions() != len(open) {
			t.Fatalf("%d sessions, want %d", l.Sessions(), len(open))
		}
	}
	for _, s := range open {
		l.Leave(s.p)
	}
	if len(l.clients) != 0 {
		t.Errorf("%d clients remembered", len(l.clients))
	}
}

func TestLimiterConcurrent(t *testing.T) {
	l := NewLimiter(Limits{Sessions: 10, Client: 5, Rate: 1000000})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 1000 {
				if p, met := l.Enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(g % 2)}), epoch); met == NoLimit {
					l.Stress(80)
					l.Leave(p)
				}
			}
		})
	}
	wg.Wait()
	if n := l.Sessions(); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

// C07: a user of this host is a client as others are; root is none.
func TestLocalUsers(t *testing.T) {
	l := NewLimiter(Limits{Sessions: 5, Client: 2, Exempt: func(a netip.Addr) bool { return false }})
	var passes []Pass
	for i, uid := range []int{1000, 1000, 0, 0, 1001} {
		p, met := l.EnterUser(uid, epoch)
		if met != NoLimit {
			t.Fatalf("session %d, of uid %d: %v", i, uid, met)
		}
		passes = append(passes, p)
		if i == 1 {
			if _, met := l.EnterUser(1000, epoch); met != ClientLimit {
				t.Errorf("a third session: %v", met)
			}
		}
	}
	if _, met := l.EnterUser(1002, epoch); met != SessionLimit {
		t.Errorf("one too many in all: %v", met)
	}
	for _, p := range passes {
		l.Leave(p)
	}
	if len(l.clients) != 0 || l.Sessions() != 0 {
		t.Errorf("%d clients are remembered", len(l.clients))
	}
}
