package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/resolver/dnstest"
)

func newTest(t testing.TB, s *dnstest.Server, more ...func(*Options)) *Resolver {
	t.Helper()
	o := Options{Servers: []string{s.Addr}, Timeout: 5 * time.Second, Attempts: 1}
	for _, f := range more {
		f(&o)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func short(o *Options) { o.Timeout = 50 * time.Millisecond }

// R01: a name that is not there, a record that is not there, and everything that is no answer.
func TestR01_Kinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults []dnstest.Fault
		want   Kind
		text   string
	}{
		{"gone.test", nil, NXDomain, "no such domain"},
		{"bare.test", nil, NoData, "no such record"},
		{"x.test", []dnstest.Fault{dnstest.NoSOA}, NoData, "no such record"},
		{"x.test", []dnstest.Fault{dnstest.ServFail}, Temporary, "SERVFAIL"},
		{"x.test", []dnstest.Fault{dnstest.Refused}, Temporary, "REFUSED"},
		{"x.test", []dnstest.Fault{dnstest.FormErr}, Temporary, "FORMERR"},
		{"x.test", []dnstest.Fault{dnstest.Drop}, Temporary, "timeout"},
		{"x.test", []dnstest.Fault{dnstest.Lame}, Temporary, "referral"},
		{"x.test", []dnstest.Fault{dnstest.TruncateNoTCP}, Temporary, "EOF"},
		{"x.test", []dnstest.Fault{dnstest.TruncateAlways}, Temporary, "truncated"},
		{"x.test", []dnstest.Fault{dnstest.WrongID}, Temporary, "timeout"},
		{"x.test", []dnstest.Fault{dnstest.WrongName}, Temporary, "timeout"},
	} {
		t.Run(fmt.Sprint(c.name, c.faults), func(t *testing.T) {
			s := dnstest.New(t, "x.test. IN MX 10 mx.test.", "bare.test. IN TXT x")
			if c.faults != nil {
				s.Fail(c.name, c.faults...)
			}
			r := newTest(t, s, short)
			_, err := r.MX(context.Background(), c.name)
			if KindOf(err) != c.want || !errors.Is(err, c.want) {
				t.Fatalf("got %v (kind %v), want kind %v", err, KindOf(err), c.want)
			}
			if !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), "MX "+c.name) {
				t.Errorf("error %q does not name question and cause %q", err, c.text)
			}
		})
	}
}

func TestR01_TruncatedThenTCPRefused(t *testing.T) {
	s := dnstest.New(t, "x.test. IN MX 10 mx.test.")
	s.Fail("x.test", dnstest.Truncate)
	s.CloseTCP()
	_, err := newTest(t, s).MX(context.Background(), "x.test")
	if err == nil || KindOf(err) != Temporary || !strings.Contains(err.Error(), "refused") {
		t.Fatal(err)
	}
}

func TestR01_ServerGone(t *testing.T) {
	s := dnstest.New(t)
	s.Close()
	_, err := newTest(t, s).MX(context.Background(), "x.test")
	if err == nil || KindOf(err) != Temporary {
		t.Fatal(err)
	}
}

// What a resolver has to get over.
func TestFaultsOvercome(t *testing.T) {
	for _, f := range []dnstest.Fault{dnstest.None, dnstest.Truncate, dnstest.NoEDNS, dnstest.WrongCase, dnstest.Garbage, dnstest.Forged} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			s := dnstest.New(t, "x.test. IN MX 10 mx.test.")
			s.Fail("x.test", f)
			if f == dnstest.Garbage {
				s.Fail("x.test", f, dnstest.None)
			}
			mx, err := newTest(t, s).MX(context.Background(), "x.test")
			if err != nil || len(mx) != 1 || mx[0].Host != "mx.test" {
				t.Fatal(mx, err)
			}
		})
	}
}

func TestR02_NullMX(t *testing.T) {
	s := dnstest.New(t, "null.test. IN MX 0 .", "mixed.test. IN MX 0 .", "mixed.test. IN MX 10 mx.test.")
	r := newTest(t, s)
	if _, err := r.MX(context.Background(), "null.test"); !errors.Is(err, NullMX) {
		t.Error(err)
	}
	if mx, err := r.MX(context.Background(), "mixed.test"); err != nil || len(mx) != 1 || mx[0].Host != "mx.test" {
		t.Error(mx, err)
	}
}

func chain(n int, end string) (zone []string) {
	for i := range n {
		to := fmt.Sprintf("c%d.test.", i+1)
		if i == n-1 {
			to = end
		}
		zone = append(zone, fmt.Sprintf("c%d.test. IN CNAME %s", i, to))
	}
	return zone
}

func TestR03_Aliases(t *testing.T) {
	for _, c := range []struct {
		name  string
		zone  []string
		fault dnstest.Fault
		want  string // or
		kind  Kind
	}{
		{name: "one", zone: chain(1, "end.test."), want: "[192.0.2.1]"},
		{name: "sixteen", zone: chain(16, "end.test."), want: "[192.0.2.1]"},
		{name: "twenty", zone: chain(20, "end.test."), kind: Temporary},
		{name: "loop", zone: chain(3, "c0.test."), kind: Temporary},
		{name: "self", zone: chain(1, "c0.test."), kind: Temporary},
		{name: "to nowhere", zone: chain(2, "gone.test."), kind: NXDomain},
		{name: "to no data", zone: append(chain(2, "bare.test."), "bare.test. IN TXT x"), kind: NoData},
		{name: "partial", zone: chain(3, "end.test."), fault: dnstest.Partial, want: "[192.0.2.1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := dnstest.New(t, append(c.zone, "end.test. IN A 192.0.2.1")...)
			if c.fault != dnstest.None {
				s.Fail("c0.test", c.fault)
			}
			addrs, err := newTest(t, s).Addrs(context.Background(), "c0.test", true, false)
			if c.want != "" {
				if err != nil || fmt.Sprint(addrs) != c.want {
					t.Fatal(addrs, err)
				}
			} else if err == nil || KindOf(err) != c.kind {
				t.Fatal(addrs, err)
			}
			if n := s.Queries("c0.test", "A"); n != 1 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// An MX set behind an alias (RFC 5321 section 5.1), and hosts that are no names.
func TestR03_MXHosts(t *testing.T) {
	s := dnstest.New(t, "a.test. IN CNAME b.test.", "b.test. IN MX 20 MX2.Test.", "b.test. IN MX 10 mx1.test.", "b.test. IN MX 5 bad\\032host.test.", "b.test. IN MX 1 a\\010b.test.",
		"only.test. IN MX 1 a\\000b.test.", "lit.test. IN MX 1 192.0.2.1.")
	r := newTest(t, s)
	mx, err := r.MX(context.Background(), "a.test")
	if fmt.Sprint(mx) != "[{10 mx1.test false} {20 mx2.test false}]" || err != nil {
		t.Error(mx, err)
	}
	if _, err := r.MX(context.Background(), "only.test"); KindOf(err) != Temporary || err == nil {
		t.Error(err)
	}
	mx, err = r.MX(context.Background(), "lit.test")
	if err != nil || len(mx) != 1 {
		t.Fatal(mx, err)
	}
	if _, err := r.Addrs(context.Background(), mx[0].Host, true, true); !errors.Is(err, BadName) {
		t.Error(err)
	}
	if n := s.Queries("192.0.2.1", "A"); n != 0 {
		t.Error("asked for the address of an address")
	}
}

// R04: the reply is used in bounds, and equals come in random order.
func TestR04_ManyMX(t *testing.T) {
	s := dnstest.New(t)
	for i := range 500 {
		if err := s.Add(fmt.Sprintf("many.test. IN MX %d mx%d.test.", 500-i, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		s.Add(fmt.Sprintf("eq.test. 0 IN MX 10 mx%d.test.", i))
	}
	r := newTest(t, s)
	mx, err := r.MX(context.Background(), "many.test")
	if err != nil || len(mx) != 100 {
		t.Fatal(len(mx), err)
	}
	for i, m := range mx {
		if int(m.Pref) != i+1 {
			t.Fatalf("mx %d has preference %d", i, m.Pref)
		}
	}
	first := map[string]bool{}
	for range 50 {
		mx, err := r.MX(context.Background(), "eq.test")
		if err != nil || len(mx) != 10 {
			t.Fatal(mx, err)
		}
		first[mx[0].Host] = true
	}
	if len(first) < 2 { // 10^-49
		t.Error("equals always in the same order")
	}
}

func TestAddrs(t *testing.T) {
	zone := []string{"both.test. IN A 192.0.2.1", "both.test. IN A 192.0.2.2", "both.test. IN A 192.0.2.1", "both.test. IN AAAA 2001:db8::1", "mapped.test. IN AAAA ::ffff:127.0.0.1", "txt.test. IN TXT x"}
	for _, c := range []struct {
		host   string
		v4, v6 bool
		fail   string
		fault  dnstest.Fault
		want   string
		kind   Kind
	}{
		{host: "both.test", v4: true, v6: true, want: "[2001:db8::1 192.0.2.1 192.0.2.2]"},
		{host: "BOTH.test.", v4: true, want: "[192.0.2.1 192.0.2.2]"},
		{host: "both.test", v6: true, want: "[2001:db8::1]"},
		{host: "both.test", v4: true, v6: true, fail: "both.test/AAAA", fault: dnstest.Drop, want: "[192.0.2.1 192.0.2.2]"},
		{host: "both.test", v4: true, v6: true, fail: "both.test/A", fault: dnstest.ServFail, want: "[2001:db8::1]"},
		{host: "mapped.test", v4: true, v6: true, want: "[::ffff:127.0.0.1]"},
		{host: "txt.test", v4: true, v6: true, kind: NoData},
		{host: "txt.test", v4: true, v6: true, fail: "txt.test/A", fault: dnstest.ServFail, kind: Temporary},
		{host: "txt.test", v4: true, v6: true, fail: "txt.test/AAAA", fault: dnstest.ServFail, kind: Temporary},
		{host: "gone.test", v4: true, v6: true, kind: NXDomain},
		{host: "gone.test", v4: true, v6: true, fail: "gone.test/A", fault: dnstest.NoSOA, kind: NoData},
		{host: "gone.test", v4: true, v6: true, fail: "gone.test/AAAA", fault: dnstest.NoSOA, kind: NoData},
		{host: "both.test", kind: NoData},
		{host: "a b.test", v4: true, v6: true, kind: BadName},
		{host: "::1", v4: true, v6: true, kind: BadName},
		{host: "", v4: true, kind: BadName},
	} {
		t.Run(c.host+c.fail, func(t *testing.T) {
			s := dnstest.New(t, zone...)
			if c.fail != "" {
				s.Fail(c.fail, c.fault)
			}
			a, err := newTest(t, s, func(o *Options) { o.Timeout = 200 * time.Millisecond }).Addrs(context.Background(), c.host, c.v4, c.v6)
			if c.want != "" && (err != nil || fmt.Sprint(a) != c.want) || c.want == "" && (err == nil || KindOf(err) != c.kind) {
				t.Fatal(a, err)
			}
		})
	}
}

func TestPTR(t *testing.T) {
	s := dnstest.New(t, "1.2.0.192.in-addr.arpa. IN PTR Good.test.", "good.test. IN A 192.0.2.1",
		"2.2.0.192.in-addr.arpa. IN PTR liar.test.", "liar.test. IN A 192.0.2.9",
		"3.2.0.192.in-addr.arpa. IN PTR slow.test.",
		"4.2.0.192.in-addr.arpa. IN PTR a\\032b.test.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR six.test.", "six.test. IN AAAA 2001:db8::1")
	s.Fail("slow.test", dnstest.ServFail)
	r := newTest(t, s)
	ctx := context.Background()
	for _, c := range []struct {
		ip, ptr, verified string
		kind              Kind // of VerifiedPTR
	}{
		{"192.0.2.1", "good.test", "good.test", 0},
		{"::ffff:192.0.2.1", "good.test", "good.test", 0},
		{"192.0.2.2", "liar.test", "", Unverified},
		{"192.0.2.3", "slow.test", "", Temporary},
		{"192.0.2.4", "", "", NoData},
		{"192.0.2.5", "", "", NXDomain},
		{"2001:db8::1", "six.test", "six.test", 0},
	} {
		ip := netip.MustParseAddr(c.ip)
		if got, err := r.PTR(ctx, ip); got != c.ptr || (err == nil) != (c.ptr != "") {
			t.Errorf("PTR %s: %q %v", ip, got, err)
		}
		got, err := r.VerifiedPTR(ctx, ip)
		if got != c.verified || (err == nil) != (c.verified != "") || err != nil && KindOf(err) != c.kind {
			t.Errorf("VerifiedPTR %s: %q %v", ip, got, err)
		}
	}
	if _, err := r.PTR(ctx, netip.Addr{}); !errors.Is(err, BadName) {
		t.Error(err)
	}
}

func TestIDNA(t *testing.T) {
	s := dnstest.New(t, "xn--bcher-kva.test. IN MX 1 xn--mx-eka.test.")
	mx, err := newTest(t, s).MX(context.Background(), "BÜCHER.test")
	if err != nil || mx[0].Host != "xn--mx-eka.test" {
		t.Fatal(mx, err)
	}
}

func TestToASCII(t *testing.T) {
	l63 := strings.Repeat("a", 63)
	long := strings.Join([]string{l63, l63, l63, strings.Repeat("b", 61)}, ".")
	for in, want := range map[string]string{
		"Example.COM": "example.com", "example.com.": "example.com", "bücher.test": "xn--bcher-kva.test", "_x.a-b.test": "_x.a-b.test", "faß.de": "xn--fa-hia.de",
		l63 + ".x": l63 + ".x", long: long, "bücher。test": "xn--bcher-kva.test",
		"": "", ".": "", "a..b": "", ".a": "", "a b": "", "a\x00b": "", "a\nb": "", "a@b": "", `a\032b`: "", "[192.0.2.1]": "", l63 + "a.x": "", long + "c": "", "\xff.test": "",
		"a\u202eb.test": "",
	} {
		got, err := ToASCII(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ToASCII(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestCache(t *testing.T) {
	s := dnstest.New(t, "a.test. 60 IN A 192.0.2.1", "long.test. 2147483647 IN A 192.0.2.1", "wrong.test. 4294967295 IN A 192.0.2.1", "zero.test. 0 IN A 192.0.2.1", "alias.test. 10 IN CNAME a.test.")
	s.Fail("bad.test", dnstest.ServFail)
	s.Fail("nosoa.test", dnstest.NoSOA)
	r := newTest(t, s)
	base := time.Now()
	at := base
	r.now = func() time.Time { return at }
	for _, c := range []struct {
		name  string
		lives time.Duration // 0: not kept
	}{
		{"a.test", time.Minute}, {"alias.test", 10 * time.Second}, {"long.test", 24 * time.Hour}, {"wrong.test", 0}, {"zero.test", 0},
		{"gone.test", 300 * time.Second}, {"bad.test", 0}, {"nosoa.test", 0},
	} {
		ask := func(after time.Duration, want int) {
			t.Helper()
			at = base.Add(after)
			r.Addrs(context.Background(), c.name, true, false)
			if n := s.Queries(c.name, "A"); n != want {
				t.Errorf("%s after %v: %d questions, want %d", c.name, after, n, want)
			}
		}
		ask(0, 1)
		if c.lives == 0 {
			ask(0, 2)
			continue
		}
		ask(0, 1)
		ask(c.lives-1, 1)
		ask(c.lives, 2)
		at = base
	}
}

func TestCacheBounded(t *testing.T) {
	s := dnstest.New(t)
	r := newTest(t, s, func(o *Options) { o.CacheEntries = 10 })
	for i := range 50 {
		r.MX(context.Background(), fmt.Sprintf("n%d.test", i))
		if len(r.cache) > 10 {
			t.Fatalf("%d entries", len(r.cache))
		}
	}
	if len(r.cache) != 10 || len(r.flights) != 0 {
		t.Error(len(r.cache), len(r.flights))
	}
	r = newTest(t, s, func(o *Options) { o.CacheEntries = -1 })
	r.MX(context.Background(), "n.test")
	if len(r.cache) != 0 {
		t.Error("kept although the cache is off")
	}
}

func TestFlights(t *testing.T) {
	s := dnstest.New(t, "x.test. 0 IN A 192.0.2.1")
	s.Fail("x.test", dnstest.Drop, dnstest.None)
	r := newTest(t, s, func(o *Options) { o.Timeout = 100 * time.Millisecond; o.Attempts = 2 })
	// One that gives up does not take the answer from the others.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Addrs(ctx, "x.test", true, false); KindOf(err) != Temporary || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a, err := r.Addrs(context.Background(), "x.test", true, false); err != nil || len(a) != 1 {
				t.Error(a, err)
			}
		})
	}
	wg.Wait()
	if n := s.Queries("x.test", "A"); n != 2 {
		t.Errorf("%d questions, want 2: one lost, one answered", n)
	}
}

func TestNextServer(t *testing.T) {
	for _, f := range []dnstest.Fault{dnstest.ServFail, dnstest.Refused, dnstest.Lame, dnstest.Drop, dnstest.FormErr, dnstest.TruncateNoTCP} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			bad, good := dnstest.New(t), dnstest.New(t, "x.test. IN MX 1 mx.test.", "y.test. IN MX 1 mx.test.")
			bad.Fail("x.test", f)
			bad.Fail("y.test", f)
			r := newTest(t, bad, func(o *Options) {
				o.Servers = append(o.Servers, good.Addr)
				o.Timeout = 200 * time.Millisecond
			})
			if mx, err := r.MX(context.Background(), "x.test"); err != nil || len(mx) != 1 {
				t.Fatal(mx, err)
			}
			if _, err := r.MX(context.Background(), "y.test"); err != nil {
				t.Fatal(err)
			}
			// A server that was silent is not waited for again at once.
			if n := bad.Queries("y.test", "MX"); f == dnstest.Drop && n != 0 {
				t.Errorf("silent server asked %d times more", n)
			}
		})
	}
}

func TestSecure(t *testing.T) {
	s := dnstest.New(t, "x.test. 0 IN MX 1 mx.test.")
	r := newTest(t, s)
	if mx, err := r.MX(context.Background(), "x.test"); err != nil || mx[0].Secure {
		t.Fatal(mx, err)
	}
	s.Secure(true)
	if mx, err := r.MX(context.Background(), "x.test"); err != nil || !mx[0].Secure {
		t.Fatal(mx, err)
	}
	r.conf.cur.servers[0].trust = false
	if mx, err := r.MX(context.Background(), "x.test"); err != nil || mx[0].Secure {
		t.Fatal(mx, err)
	}
}

func TestConf(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "[127.0.0.1:53] 5s 2 [true]"},
		{"nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.net\noptions timeout:2 attempts:3 rotate\n", "[192.0.2.1:53 [2001:db8::1]:53] 2s 3 [false false]"},
		{"# comment\n;x\nnameserver\tfe80::1%lo\nnameserver junk\nnameserver\noptions timeout:x attempts:0 trust-ad", "[[fe80::1%lo]:53] 5s 2 [true]"},
		{"nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.4\noptions timeout:1000 attempts:1000", "[127.0.0.1:53 127.0.0.2:53 127.0.0.3:53] 30s 5 [true true true]"},
	} {
		s := parseConf(c.text, Options{})
		var addrs []netip.AddrPort
		var trust []bool
		for _, srv := range s.servers {
			addrs, trust = append(addrs, srv.addr), append(trust, srv.trust)
		}
		if got := fmt.Sprint(addrs, s.timeout, s.attempts, trust); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
	if _, err := New(Options{Servers: []string{"ns.example.net"}}); err == nil || !strings.Contains(err.Error(), "ns.example.net") {
		t.Error(err)
	}
	for _, ok := range []string{"::1", "[::1]", "[::1]:5353", "127.0.0.1", "127.0.0.1:5353"} {
		if _, err := New(Options{Servers: []string{ok}}); err != nil {
			t.Error(err)
		}
	}
}

func TestConfReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	r, err := New(Options{Conf: path})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	settings := func() *settings {
		t.Helper()
		s, err := r.conf.get(now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	get := func() string { return settings().servers[0].addr.String() }
	if got := get(); got != "127.0.0.1:53" {
		t.Error(got)
	}
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(confInterval)
	}
	write("nameserver 192.0.2.1\n")
	if got := get(); got != "192.0.2.1:53" {
		t.Error(got)
	}
	old := settings()
	now = now.Add(confInterval)
	if settings() != old {
		t.Error("settings made anew from an unchanged file")
	}
	write("nameserver 192.0.2.222\n")
	if got := get(); got != "192.0.2.222:53" {
		t.Error(got)
	}
	os.Remove(path)
	now = now.Add(confInterval)
	if got := get(); got != "192.0.2.222:53" {
		t.Error("file gone:", got)
	}
}

// A file that is there and cannot be read is not one that is missing, which means the server of this host.
func TestConfUnreadable(t *testing.T) {
	path := t.TempDir()
	r, err := New(Options{Conf: path})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.MX(context.Background(), "a.example")
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Temporary || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// Ids, ports and spelling differ from question to question.
func TestQueryEntropy(t *testing.T) {
	ids, names := map[uint16]bool{}, map[string]bool{}
	for range 20 {
		q := newQuery("abcdefghijklmnop.example.", 15, true)
		ids[q.Id], names[q.Question[0].Name] = true, true
		if !strings.EqualFold(q.Question[0].Name, "abcdefghijklmnop.example.") {
			t.Fatal(q.Question[0].Name)
		}
	}
	if len(ids) < 15 || len(names) < 15 {
		t.Error(len(ids), len(names))
	}
}

func FuzzToASCII(f *testing.F) {
	for _, s := range []string{"example.net", "bücher.test", "a..b", "xn--a", "\xff", "a\x00b", "192.0.2.1", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ToASCII(s)
		if err != nil {
			return
		}
		if len(a) > 253 || slices.ContainsFunc([]byte(a), func(c byte) bool { return c <= ' ' || c >= 0x7f || c == '\\' || 'A' <= c && c <= 'Z' }) {
			t.Fatalf("ToASCII(%q) = %q", s, a)
		}
		if b, err := ToASCII(a); err != nil || b != a {
			t.Fatalf("ToASCII(%q) = %q, and of that %q, %v", s, a, b, err)
		}
	})
}

func FuzzParseConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\noptions timeout:2 attempts:3 trust-ad\n")
	f.Fuzz(func(t *testing.T, s string) {
		c := parseConf(s, Options{})
		if len(c.servers) == 0 || len(c.servers) > maxServers || c.timeout <= 0 || c.timeout > 30*time.Second || c.attempts < 1 || c.attempts > 5 {
			t.Fatalf("%q: %+v", s, c)
		}
	})
}
