package stub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestAnswers(t *testing.T) {
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "many.test MX %d mx%d.many.test.\n", i, i)
	}
	s := Start(t, `# a comment
example.test      MX    10 mx1.example.test.
example.test      MX    20 mx2.example.test.
mx1.example.test  A     127.0.0.1
mx1.example.test  AAAA  ::1
a.deep.test       A     127.0.0.2
alias.test        CNAME example.test.
null.test         MX    0 .
broken.test       SERVFAIL
`+many.String())

	for _, test := range []struct {
		name    string
		kind    uint16
		rcode   int
		answers string
	}{
		{"example.test.", dns.TypeMX, dns.RcodeSuccess, "mx1.example.test. mx2.example.test."},
		{"EXAMPLE.test.", dns.TypeMX, dns.RcodeSuccess, "mx1.example.test. mx2.example.test."},
		{"mx1.example.test.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"mx1.example.test.", dns.TypeAAAA, dns.RcodeSuccess, "::1"},
		{"example.test.", dns.TypeA, dns.RcodeSuccess, ""},
		{"deep.test.", dns.TypeA, dns.RcodeSuccess, ""},
		{"alias.test.", dns.TypeMX, dns.RcodeSuccess, "example.test. mx1.example.test. mx2.example.test."},
		{"null.test.", dns.TypeMX, dns.RcodeSuccess, "."},
		{"absent.test.", dns.TypeMX, dns.RcodeNameError, ""},
		{"broken.test.", dns.TypeMX, dns.RcodeServerFailure, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply, _, err := (&dns.Client{Net: network}).Exchange(new(dns.Msg).SetQuestion(test.name, test.kind), s.Addr)
			if err != nil {
				t.Errorf("%s %s: %v", test.name, network, err)
				continue
			}
			var got []string
			for _, rr := range reply.Answer {
				f := strings.Fields(rr.String())
				got = append(got, f[len(f)-1])
			}
			if reply.Rcode != test.rcode || strings.Join(got, " ") != test.answers {
				t.Errorf("%s %s %s: %s %v", test.name, dns.TypeToString[test.kind], network, dns.RcodeToString[reply.Rcode], got)
			}
		}
	}
	if n := s.Asked("example.test", "MX"); n != 4 {
		t.Errorf("asked %d times", n)
	}

	query := new(dns.Msg).SetQuestion("many.test.", dns.TypeMX)
	if reply, _, err := new(dns.Client).Exchange(query, s.Addr); err != nil || !reply.Truncated {
		t.Errorf("UDP answer of 100 records is not truncated: %v", err)
	}
	if reply, _, err := (&dns.Client{Net: "tcp"}).Exchange(query, s.Addr); err != nil || len(reply.Answer) != 100 {
		t.Errorf("TCP: %v", err)
	}
}

func TestSetAndDrop(t *testing.T) {
	s := Start(t, "a.test A 127.0.0.1")
	if err := s.Set("a.test DROP"); err != nil {
		t.Fatal(err)
	}
	client := &dns.Client{Timeout: 50 * time.Millisecond}
	if reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("a.test.", dns.TypeA), s.Addr); err == nil {
		t.Errorf("answered: %v", reply)
	}
	for _, bad := range []string{"a.test", "a.test A", "a.test A not-an-address", "a.test MAYBE"} {
		if err := s.Set(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
