package remote

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
)

func pool(t testing.TB, more ...func(*Options)) *Pool {
	p := NewPool(*options(append([]func(*Options){func(o *Options) { o.IdleTimeout = time.Minute }}, more...)...))
	t.Cleanup(p.Close)
	return p
}

func deliver(t testing.TB, p *Pool, tr *Transaction, eps ...Endpoint) []Outcome {
	t.Helper()
	out := p.Deliver(context.Background(), eps, tr)
	check(t, tr, out)
	return out
}

// eventually waits for what another process or goroutine is about to bring about.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never:", what)
		}
	}
}

func TestPoolReuse(t *testing.T) {
	s := smtptest.New(t, smtptest.Config{})
	p := pool(t, func(o *Options) { o.MaxMessages = 5 })
	ep := endpoint(s, smtptest.Config{})
	for range 12 {
		if out := deliver(t, p, text(hello, "a@x.test"), ep); show(out) != "done/data/250" {
			t.Fatal(show(out))
		}
	}
	var conns []int
	for _, m := range s.Messages() {
		conns = append(conns, m.Conn)
	}
	if fmt.Sprint(conns) != "[1 1 1 1 1 2 2 2 2 2 3 3]" {
		t.Error(conns)
	}
	// No RSET, and one EHLO a connection.
	if c := strings.Join(s.Commands(), "|"); strings.Contains(c, "RSET") || strings.Count(c, "EHLO") != 3 {
		t.Error(c)
	}
	p.Close()
	eventually(t, "all closed", func() bool { return s.Open() == 0 })
	if c := strings.Join(s.Commands(), "|"); strings.Count(c, "QUIT") != 3 {
		t.Error(c)
	}
	// After Close it still delivers, and keeps nothing.
	if out := deliver(t, p, text(hello, "a@x.test"), ep); show(out) != "done/data/250" || p.Idle() != 0 {
		t.Error(show(out), p.Idle())
	}
}

func TestPoolIdleTimeout(t *testing.T) {
	s := smtptest.New(t, smtptest.Config{})
	p := pool(t, func(o *Options) { o.IdleTimeout = 20 * time.Millisecond })
	deliver(t, p, text(hello, "a@x.test"), endpoint(s, smtptest.Config{}))
	if p.Idle() != 1 {
		t.Error("not kept")
	}
	eventually(t, "idle connection ended", func() bool { return s.Open() == 0 && p.Idle() == 0 })
	off := pool(t, func(o *Options) { o.IdleTimeout = -1 })
	deliver(t, off, text(hello, "a@x.test"), endpoint(s, smtptest.Config{}))
	if off.Idle() != 0 {
		t.Error("kept")
	}
}

func TestPoolMailMax(t *testing.T) {
	s := smtptest.New(t, smtptest.Config{Offer: []string{"PIPELINING", "LIMITS MAILMAX=2"}})
	p := pool(t)
	for range 5 {
		deliver(t, p, text(hello, "a@x.test"), endpoint(s, smtptest.Config{}))
	}
	if s.Conns() != 3 {
		t.Error(s.Conns())
	}
}

// A kept connection that has ended meanwhile, with and without a word, costs no message.
func TestPoolStale(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*smtptest.Server)
	}{
		{"closed", func(s *smtptest.Server) { s.CloseConns() }},
		{"421", func(s *smtptest.Server) { s.SendAll("421 4.4.2 bye\r\n") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := smtptest.New(t, smtptest.Config{})
			p := pool(t)
			ep := endpoint(s, smtptest.Config{})
			deliver(t, p, text(hello, "a@x.test"), ep)
			idle := p.idle[ep][0].c
			c.end(s)
			eventually(t, "end seen", func() bool { return !idle.Alive() })
			if out := deliver(t, p, text(hello, "b@x.test"), ep); show(out) != "done/data/250" || s.Conns() != 2 {
				t.Error(show(out), s.Conns())
			}
		})
	}
}

// The race that Alive cannot see: the peer closes as we begin. Nothing was said, so the message goes by a fresh connection; to deliver even a message
// sent whole, marked as suspect.
func TestPoolStaleRace(t *testing.T) {
	for _, cfg := range []smtptest.Config{{}, {LMTP: true, Socket: "yes", Offer: append([]string{"XQID"}, full...)}, {LMTP: true, Socket: "yes", Offer: full}} {
		var first atomic.Bool
		first.Store(true)
		cfg.Reply = func(conn int, verb, _ string) string {
			if conn == 1 && verb == "MAIL" && !first.CompareAndSwap(true, false) {
				return smtptest.Close
			}
			return ""
		}
		if cfg.Socket != "" {
			cfg.Socket = filepath.Join(t.TempDir(), "s")
		}
		s := smtptest.New(t, cfg)
		p := pool(t)
		ep := endpoint(s, cfg)
		tr := text(hello, "a@x.test")
		tr.QID, tr.Arrived = "01234567890123456789", 1
		for range 2 {
			tr.Suspect = false
			out := deliver(t, p, tr, ep)
			want := "done/data/250"
			if cfg.LMTP && cfg.Offer[0] != "XQID" && s.Conns() == 1 && len(s.Messages()) == 1 && out[0].Kind != Done {
				want = "deferred/mail/451/local/maybe"
			}
			if show(out) != want {
				t.Fatal(cfg.Offer, show(out))
			}
		}
		if cfg.LMTP && cfg.Offer[0] == "XQID" {
			last := s.Messages()[len(s.Messages())-1]
			if s.Conns() != 2 || !strings.Contains(last.From, "XSUSPECT") || tr.Suspect {
				t.Error(s.Conns(), last.From, tr.Suspect)
			}
		}
	}
}

// D19: the same race, and by then deliver is gone, or does not want to. What it did with the message is as unknown as before.
func TestPoolStaleAndGone(t *testing.T) {
	for _, second := range []string{"", "451 4.3.0 not now"} {
		cfg := smtptest.Config{LMTP: true, Socket: filepath.Join(t.TempDir(), "s"), Offer: append([]string{"XQID"}, full...)}
		var first atomic.Bool
		first.Store(true)
		cfg.Reply = func(conn int, verb, _ string) string {
			switch {
			case verb == "MAIL" && conn == 1 && !first.CompareAndSwap(true, false):
				return smtptest.Close
			case verb == "" && conn == 2 && second == "":
				return smtptest.Close
			case verb == "MAIL" && conn == 2:
				return second
			}
			return ""
		}
		s := smtptest.New(t, cfg)
		p := pool(t)
		ep := endpoint(s, cfg)
		tr := text(hello, "a@x.test", "b@x.test")
		tr.QID, tr.Arrived = "01234567890123456789", 1
		deliver(t, p, tr, ep)
		out := deliver(t, p, tr, ep)
		if s.Conns() != 2 {
			t.Fatalf("%d connections", s.Conns())
		}
		for i := range out {
			if out[i].Kind != Temp || !out[i].MaybeDelivered {
				t.Errorf("then %q: %s", second, show(out[i:]))
			}
		}
	}
}

func greet(reply string) smtptest.Config {
	return smtptest.Config{Reply: func(_ int, verb, _ string) string {
		if verb == "" {
			return reply
		}
		return ""
	}}
}

func at(verb, reply string) smtptest.Config {
	return smtptest.Config{Reply: func(_ int, v, _ string) string {
		if v == verb {
			return reply
		}
		return ""
	}}
}

// R07, R12 and RFC 5321 section 5.1: which failures move on to the next host, and which do not.
func TestDeliverNextHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := Endpoint{Name: "gone.test", Addr: l.Addr().(*net.TCPAddr).AddrPort()}
	l.Close()
	ok := smtptest.Config{}
	for _, c := range []struct {
		name  string
		hosts []smtptest.Config // after one that is gone
		want  string
		used  []int // connections
	}{
		{"nobody", nil, "deferred/connect/451/local", nil},
		{"gone, good", []smtptest.Config{ok, ok}, "done/data/250", []int{1, 0}},
		{"554, good", []smtptest.Config{greet("554 no"), ok}, "done/data/250", []int{1, 1}},
		{"421, good", []smtptest.Config{greet("421 busy"), ok}, "done/data/250", []int{1, 1}},
		{"closed, good", []smtptest.Config{greet(smtptest.Close), ok}, "done/data/250", []int{1, 1}},
		{"554 and one that is gone", []smtptest.Config{greet("554 no")}, "deferred/connect/554", []int{1}},
		{"MAIL 4yz, good", []smtptest.Config{at("MAIL", "450 x"), ok}, "done/data/250", []int{1, 1}},
		{"RCPT 4yz, good", []smtptest.Config{at("RCPT", "450 x"), ok}, "done/data/250", []int{1, 1}},
		{"RCPT 4yz twice, good", []smtptest.Config{at("RCPT", "450 x"), at("RCPT", "451 x"), ok}, "deferred/rcpt/451", []int{1, 1, 0}},
		{"RCPT 4yz, refused", []smtptest.Config{at("RCPT", "450 x"), greet("554 no")}, "deferred/rcpt/450", []int{1, 1}},
		{"RCPT 5yz, good", []smtptest.Config{at("RCPT", "550 x"), ok}, "failed/rcpt/550", []int{1, 0}},
		{"DATA 4yz, good", []smtptest.Config{at("DATA", "450 x"), ok}, "deferred/data/450", []int{1, 0}},
		{"message 4yz, good", []smtptest.Config{at(".", "450 x"), ok}, "deferred/data/450", []int{1, 0}},
		{"lost at RCPT, good", []smtptest.Config{at("RCPT", smtptest.Close), ok}, "done/data/250", []int{1, 1}},
		{"lost at DATA, good", []smtptest.Config{at("DATA", smtptest.Close), ok}, "done/data/250", []int{1, 1}},
		{"lost after the message, good", []smtptest.Config{at(".", smtptest.Close), ok}, "deferred/data/451/local/maybe", []int{1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool(t)
			eps := []Endpoint{gone}
			var servers []*smtptest.Server
			for _, h := range c.hosts {
				s := smtptest.New(t, h)
				servers = append(servers, s)
				eps = append(eps, endpoint(s, h))
			}
			out := deliver(t, p, text(hello, "a@x.test"), eps...)
			if show(out) != c.want {
				t.Errorf("%s: %v", show(out), out[0].Reply)
			}
			for i, s := range servers {
				if s.Conns() != c.used[i] {
					t.Errorf("host %d: %d connections", i, s.Conns())
				}
			}
			if out[0].Peer == nil {
				t.Error("no peer named")
			}
		})
	}
	// All of them said 5yz: that is the domain's answer.
	p := pool(t)
	a, b := greet("554 5.7.1 no"), greet("521 never")
	if out := deliver(t, p, text(hello, "a@x.test"), endpoint(smtptest.New(t, a), a), endpoint(smtptest.New(t, b), b)); show(out) != "failed/connect/521" {
		t.Error(show(out))
	}
	if out := deliver(t, p, text(hello, "a@x.test")); show(out) != "deferred/connect/451/local" {
		t.Error(show(out))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if out := p.Deliver(ctx, []Endpoint{endpoint(smtptest.New(t, a), a)}, text(hello, "a@x.test")); show(out) != "deferred/connect/451/local" {
		t.Error(show(out))
	}
}

// R12: who is done is not sent to again when others go to the next host.
func TestR12_DoneStaysDone(t *testing.T) {
	first := smtptest.Config{Reply: rcptReplies}
	second := smtptest.Config{}
	s1, s2 := smtptest.New(t, first), smtptest.New(t, second)
	out := deliver(t, pool(t), text(hello, "a@x.test", "450@x.test", "550@x.test"), endpoint(s1, first), endpoint(s2, second))
	if show(out) != "done/data/250 done/data/250 failed/rcpt/550" {
		t.Error(show(out))
	}
	if m := s2.Messages(); len(m) != 1 || len(m[0].Rcpts) != 1 || m[0].Rcpts[0] != "<450@x.test>" {
		t.Errorf("%+v", m)
	}
}

// Recipients that do not fit into a transaction go into the next one, at once and on the same connection.
func TestDeliverBatches(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  smtptest.Config
		max  int
		want int // messages
	}{
		{"MaxRcpts", smtptest.Config{}, 10, 3},
		{"RCPTMAX", smtptest.Config{Offer: []string{"PIPELINING", "LIMITS RCPTMAX=10"}}, 0, 3},
		{"452", smtptest.Config{Reply: limit(10, "452 4.5.3 too many")}, 0, 3},
		{"552", smtptest.Config{Offer: []string{}, Reply: limit(10, "552 too many")}, 0, 3},
		{"452 LMTP", smtptest.Config{LMTP: true, Reply: limit(10, "452 too many")}, 0, 3},
		{"452 for all", smtptest.Config{Reply: limit(0, "452 4.5.3 too many")}, 0, 0},
		{"MAIL refused", smtptest.Config{Reply: at("MAIL", "450 no").Reply}, 10, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := smtptest.New(t, c.cfg)
			var rcpts []string
			for i := range 25 {
				rcpts = append(rcpts, fmt.Sprintf("u%d@x.test", i))
			}
			tr := text(hello, rcpts...)
			out := deliver(t, pool(t, func(o *Options) { o.MaxRcpts = c.max }), tr, endpoint(s, c.cfg))
			seen := map[string]int{}
			for _, m := range s.Messages() {
				for _, r := range m.Rcpts {
					seen[r]++
				}
			}
			for i, o := range out {
				if (o.Kind == Done) != (c.want > 0) || seen["<"+rcpts[i]+">"] != min(c.want, 1) {
					t.Fatalf("%s: %s, %d times", rcpts[i], show(out[i:i+1]), seen["<"+rcpts[i]+">"])
				}
			}
			if len(s.Messages()) != c.want || s.Conns() != 1 {
				t.Errorf("%d messages, %d connections", len(s.Messages()), s.Conns())
			}
			if c.name == "MAIL refused" && strings.Count(strings.Join(s.Commands(), "|"), "MAIL") != 1 {
				t.Error("asked again for the rest after MAIL was refused")
			}
		})
	}
}

// limit refuses all but the first n recipients of a transaction.
func limit(n int, reply string) func(int, string, string) string {
	var mu sync.Mutex
	count := 0
	return func(_ int, verb, _ string) string {
		mu.Lock()
		defer mu.Unlock()
		switch verb {
		case "MAIL":
			count = 0
		case "RCPT":
			if count++; count > n {
				return reply
			}
		}
		return ""
	}
}

func TestPoolPrefersIdle(t *testing.T) {
	a, b, c := smtptest.New(t, smtptest.Config{}), smtptest.New(t, smtptest.Config{}), smtptest.New(t, smtptest.Config{})
	p := pool(t)
	e := func(s *smtptest.Server, pref uint16) Endpoint { return Endpoint{Name: "h", Addr: s.Addr, Pref: pref} }
	deliver(t, p, text(hello, "a@x.test"), e(b, 0))
	deliver(t, p, text(hello, "a@x.test"), e(c, 0))
	deliver(t, p, text(hello, "a@x.test"), e(a, 5), e(b, 5), e(c, 7)) // b is as good as a
	if a.Conns() != 0 || b.Conns() != 1 || len(b.Messages()) != 2 {
		t.Error(a.Conns(), b.Conns(), len(b.Messages()))
	}
	deliver(t, p, text(hello, "a@x.test"), e(a, 5), e(c, 7)) // c is not
	if a.Conns() != 1 || len(c.Messages()) != 1 {
		t.Error(a.Conns(), len(c.Messages()))
	}
}

func TestPoolConcurrent(t *testing.T) {
	cfg := smtptest.Config{LMTP: true, Socket: filepath.Join(t.TempDir(), "s"), Offer: full}
	s := smtptest.New(t, cfg)
	p := pool(t, func(o *Options) { o.MaxMessages, o.MaxIdle = 7, 3 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				tr := text(hello, "a@x.test")
				if out := p.Send(context.Background(), endpoint(s, cfg), tr); show(out) != "done/data/250" {
					t.Error(show(out))
				}
			}
		})
	}
	wg.Wait()
	if len(s.Messages()) != 200 || p.Idle() > 3 {
		t.Error(len(s.Messages()), p.Idle())
	}
	p.Close()
	eventually(t, "all closed", func() bool { return s.Open() == 0 })
}
