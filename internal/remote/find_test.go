package remote

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postamt/internal/resolver"
	"postamt/internal/resolver/dnstest"
	"postamt/internal/smtp"
)

var zone = []string{
	"plain.test. IN MX 20 b.test.", "plain.test. IN MX 10 a.test.",
	"a.test. IN A 192.0.2.1", "a.test. IN AAAA 2001:db8::1", "a.test. IN A 192.0.2.2", "b.test. IN A 198.51.100.1",
	"nomx.test. IN A 192.0.2.3",
	"nothing.test. IN TXT x",
	"null.test. IN MX 0 .",
	"self.test. IN MX 10 MX.Our.test.", "self.test. IN MX 10 a.test.",
	"backup.test. IN MX 10 a.test.", "backup.test. IN MX 20 mx.our.test.", "backup.test. IN MX 20 b.test.", "backup.test. IN MX 30 b.test.",
	"mx.our.test. IN A 203.0.113.7",
	"alias.our.test. IN A 203.0.113.7",
	"selfaddr.test. IN MX 10 alias.our.test.", "selfaddr.test. IN MX 20 a.test.",
	"backupaddr.test. IN MX 10 a.test.", "backupaddr.test. IN MX 20 b.test.", "backupaddr.test. IN MX 20 alias.our.test.", "backupaddr.test. IN MX 30 b.test.",
	"selfa.test. IN A 203.0.113.7",
	"lo.test. IN MX 5 lo4.test.", "lo.test. IN MX 6 lo6.test.", "lo.test. IN MX 7 any.test.", "lo.test. IN MX 8 any6.test.", "lo.test. IN MX 9 mapped.test.",
	"lo4.test. IN A 127.0.0.1", "lo6.test. IN AAAA ::1", "any.test. IN A 0.0.0.0", "any6.test. IN AAAA ::", "mapped.test. IN AAAA ::ffff:127.0.0.1",
	"ll.test. IN MX 1 ll4.test.", "ll4.test. IN A 169.254.1.1", "ll4.test. IN AAAA fe80::1", "ll4.test. IN A 224.0.0.1", "ll4.test. IN A 255.255.255.255",
	"lo2.test. IN MX 10 lo4.test.", "lo2.test. IN MX 20 b.test.",
	"literal.test. IN MX 1 192.0.2.9.", "literal.test. IN MX 10 b.test.", "literal2.test. IN MX 1 192.0.2.9.",
	"dead.test. IN MX 10 gone.test.", "dead.test. IN MX 20 b.test.", "dead2.test. IN MX 10 gone.test.", "dead2.test. IN MX 20 nothing.test.",
	"cname.test. IN MX 10 c1.test.", "c1.test. IN CNAME c2.test.", "c2.test. IN CNAME b.test.",
	"loop.test. IN MX 10 l1.test.", "l1.test. IN CNAME l2.test.", "l2.test. IN CNAME l1.test.", "loop2.test. IN MX 10 l1.test.", "loop2.test. IN MX 20 b.test.",
	"sick.test. IN MX 10 fail.test.", "sick2.test. IN MX 10 fail.test.", "sick2.test. IN MX 20 b.test.", "sick3.test. IN MX 10 gone.test.", "sick3.test. IN MX 20 fail.test.",
	"xn--bcher-kva.test. IN MX 10 b.test.",
}

func lookup(t testing.TB, more ...string) (*resolver.Resolver, *dnstest.Server) {
	t.Helper()
	s := dnstest.New(t, append(zone, more...)...)
	s.Fail("fail.test", dnstest.ServFail)
	s.Fail("servfail.test", dnstest.ServFail)
	r, err := resolver.New(resolver.Options{Servers: []string{s.Addr}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

// R01, R02, R03: what a domain's records mean for where its mail goes.
func TestR02_Find(t *testing.T) {
	r, _ := lookup(t)
	own := FindOptions{Names: []string{"localhost", "mx.our.test"}, Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("127.0.0.1")}}
	lo := FindOptions{AllowLoopback: true, Port: 2525}
	for _, c := range []struct {
		hop  Hop
		o    FindOptions
		want string // the endpoints, or the start of the error
	}{
		{Hop{Host: "plain.test", MX: true}, own, "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25 b.test[198.51.100.1]:25"},
		{Hop{Host: "plain.test", MX: true, Port: 26}, FindOptions{V4: true}, "a.test[192.0.2.1]:26 a.test[192.0.2.2]:26 b.test[198.51.100.1]:26"},
		{Hop{Host: "plain.test", MX: true}, FindOptions{V6: true}, "a.test[2001:db8::1]:25"},
		{Hop{Host: "plain.test", MX: true}, FindOptions{MaxHosts: 1, MaxAddrs: 9}, "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25 a.test[192.0.2.2]:25"},
		{Hop{Host: "bücher.test", MX: true}, own, "b.test[198.51.100.1]:25"},
		{Hop{Host: "nomx.test", MX: true}, own, "nomx.test[192.0.2.3]:25"},
		{Hop{Host: "a.test", LMTP: true, Port: 24}, own, "a.test[2001:db8::1]:24 a.test[192.0.2.1]:24"},
		{Hop{Socket: "/run/x", LMTP: true}, own, "/run/x"},
		{Hop{Host: "gone.test", MX: true}, own, "550 5.1.2 domain gone.test does not exist"},
		{Hop{Host: "nothing.test", MX: true}, own, "550 5.4.4 domain nothing.test has no mail host and no address"},
		{Hop{Host: "a b", MX: true}, own, "550 5.1.2"},
		{Hop{Host: "servfail.test", MX: true}, own, "451 4.4.3"},
		{Hop{Host: "null.test", MX: true}, own, "556 5.1.10"},
		{Hop{Host: "self.test", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "self.test", MX: true}, lo, "*"},
		{Hop{Host: "backup.test", MX: true}, own, "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25"},
		{Hop{Host: "selfaddr.test", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "backupaddr.test", MX: true}, own, "a.test[2001:db8::1]:25 a.test[192.0.2.1]:25"},
		{Hop{Host: "selfa.test", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "lo.test", MX: true}, FindOptions{}, "550 5.4.4"},
		{Hop{Host: "lo.test", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "lo.test", MX: true}, lo, "lo4.test[127.0.0.1]:2525 lo6.test[::1]:2525 any.test[0.0.0.0]:2525 any6.test[::]:2525 mapped.test[::ffff:127.0.0.1]:2525"},
		{Hop{Host: "ll.test", MX: true}, own, "550 5.4.4"},
		{Hop{Host: "lo2.test", MX: true}, FindOptions{}, "b.test[198.51.100.1]:25"},
		{Hop{Host: "literal.test", MX: true}, own, "b.test[198.51.100.1]:25"},
		{Hop{Host: "literal2.test", MX: true}, own, "550 5.4.4"},
		{Hop{Host: "dead.test", MX: true}, own, "b.test[198.51.100.1]:25"},
		{Hop{Host: "dead2.test", MX: true}, own, "550 5.4.4"},
		{Hop{Host: "cname.test", MX: true}, own, "c1.test[198.51.100.1]:25"},
		{Hop{Host: "loop.test", MX: true}, own, "451 4.4.3"},
		{Hop{Host: "loop2.test", MX: true}, own, "b.test[198.51.100.1]:25"},
		{Hop{Host: "sick.test", MX: true}, own, "451 4.4.3"},
		{Hop{Host: "sick2.test", MX: true}, own, "b.test[198.51.100.1]:25"},
		{Hop{Host: "sick3.test", MX: true}, own, "451 4.4.3"},
		{Hop{Host: "[192.0.2.1]", MX: true}, own, "192.0.2.1[192.0.2.1]:25"},
		{Hop{Host: "[IPv6:2001:db8::9]", MX: true}, own, "2001:db8::9[2001:db8::9]:25"},
		{Hop{Host: "[127.0.0.1]", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "[127.0.0.2]", MX: true}, own, "550 5.4.4"},
		{Hop{Host: "[IPv6:::ffff:127.0.0.1]", MX: true}, FindOptions{}, "550 5.4.4"},
		{Hop{Host: "[203.0.113.7]", MX: true}, own, "550 5.4.6"},
		{Hop{Host: "[127.0.0.1]", MX: true}, lo, "127.0.0.1[127.0.0.1]:2525"},
		// What the administrator named.
		{Hop{Host: "[127.0.0.1]", Port: 10025, Configured: true}, own, "127.0.0.1[127.0.0.1]:10025"},
		{Hop{Host: "::1", Port: 10025, Configured: true}, own, "::1[::1]:10025"},
		{Hop{Host: "lo4.test", Configured: true}, own, "lo4.test[127.0.0.1]:25"},
		{Hop{Host: "gone.test", Configured: true}, own, "451 4.3.5"},
		{Hop{Host: "null.test", MX: true, Configured: true}, own, "451 4.3.5"},
		{Hop{Host: "servfail.test", Configured: true}, own, "451 4.4.3"},
	} {
		eps, err := Find(context.Background(), r, c.hop, c.o)
		var got []string
		for _, e := range eps {
			got = append(got, e.String())
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
			if _, ok := errors.AsType[*smtp.Reply](err); !ok {
				t.Errorf("%+v: error is no reply: %v", c.hop, err)
			}
		}
		if c.want == "*" && err == nil {
			continue
		}
		if text != c.want && (err == nil || !strings.HasPrefix(text, c.want)) {
			t.Errorf("%+v:\n got %s\nwant %s", c.hop, text, c.want)
		}
	}
}

// R04: 500 MX with 20 addresses each: five hosts, two addresses, and no more questions than that.
func TestR04_Capped(t *testing.T) {
	var more []string
	for i := range 500 {
		more = append(more, fmt.Sprintf("many.test. IN MX %d m%d.test.", i, i), fmt.Sprintf("manydead.test. IN MX %d n%d.test.", i, i))
		for j := range 10 {
			if i < 20 {
				more = append(more, fmt.Sprintf("m%d.test. IN A 192.0.2.%d", i, j), fmt.Sprintf("m%d.test. IN AAAA 2001:db8::%x", i, j))
			}
		}
	}
	r, s := lookup(t, more...)
	eps, err := Find(context.Background(), r, Hop{Host: "many.test", MX: true}, FindOptions{})
	if err != nil || len(eps) != 10 {
		t.Fatal(len(eps), err)
	}
	for i, e := range eps {
		if e.Name != fmt.Sprintf("m%d.test", i/2) || e.Addr.Addr().Is6() != (i%2 == 0) {
			t.Errorf("endpoint %d is %s", i, e)
		}
	}
	if s.Queries("m5.test", "A") != 0 {
		t.Error("more hosts looked up than used")
	}
	if _, err := Find(context.Background(), r, Hop{Host: "manydead.test", MX: true}, FindOptions{}); err == nil || !strings.HasPrefix(err.Error(), "550 5.4.4") {
		t.Error(err)
	}
	if s.Queries("n20.test", "A") != 0 || s.Queries("n19.test", "A") != 1 {
		t.Error("hosts without an address are not bounded")
	}
}

func TestFindTimeout(t *testing.T) {
	r, s := lookup(t)
	s.Fail("silent.test", dnstest.Drop)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Find(ctx, r, Hop{Host: "silent.test", MX: true}, FindOptions{}); err == nil || !strings.HasPrefix(err.Error(), "451 4.4.3") {
		t.Error(err)
	}
}

func TestOwnAddrs(t *testing.T) {
	a, err := OwnAddrs()
	if err != nil || len(a) == 0 {
		t.Fatal(a, err)
	}
}
