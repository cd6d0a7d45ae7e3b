package submit

import (
	"net/mail"
	"slices"
	"strings"
	"testing"
)

// all are the addresses of a list, with those without a domain as they are.
func all(t *testing.T, list string) []string {
	t.Helper()
	found, err := Addresses(list)
	if err != nil {
		t.Errorf("%q: %v", list, err)
	}
	var l []string
	for _, a := range found {
		s := a.Local
		if a.Domain != "" {
			s += "@" + a.Domain
		}
		l = append(l, s)
	}
	return l
}

func TestAddresses(t *testing.T) {
	second := 0 // lists of which net/mail has an opinion
	for _, c := range []struct {
		list string
		want string // with spaces between them
	}{
		{"", ""},
		{" \r\n\t", ""},
		{"root", "root"},
		{"root (Cron Daemon)", "root"},
		{"(a) root (b (c) \\) d)", "root"},
		{"Cron Daemon <root>", "root"},
		{"bob@example.org", "bob@example.org"},
		{"<bob@example.org>", "bob@example.org"},
		{"bob, alice@example.org,,carol ,", "bob alice@example.org carol"},
		{"bob; alice@example.org", "bob alice@example.org"}, // as other mail programs write it
		{`"Doe, Jane" <jane@example.org>, bob`, "jane@example.org bob"},
		{`"x" "y" z <jane@example.org>`, "jane@example.org"},
		{`"quoted, local"@example.org`, `"quoted, local"@example.org`},
		{`"a\"b"@example.org`, `"a\"b"@example.org`},
		{"bob@[192.0.2.1], x@[IPv6:2001:db8::1]", "bob@[192.0.2.1] x@[IPv6:2001:db8::1]"},
		{"a!b!c%d@e", "a!b!c%d@e"},
		{"<>", ""},
		{"undisclosed-recipients:;", ""},
		{"Friends: a@x, \"B\" <b@x>;, c", "a@x b@x c"},
		{"a:b:;c", "c"},
		{"Friends: a@x", "a@x"}, // no end
		{"J\xc3\xbcrgen <j\xc3\xbcrgen@example.org>", "j\xc3\xbcrgen@example.org"},
		{"=?utf-8?q?J=C3=BCrgen=2C?= <j@example.org>", "j@example.org"},
		{"bob\r\n\t@ example.org,\r\n\talice", "bob@example.org alice"},
		{"jane@example.org <jane@example.org>", "jane@example.org"},
		{"Joe Q. Public <john.q.public@example.com>", "john.q.public@example.com"},
		// RFC 5322 appendix A.1.2 and A.1.3
		{`Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`, "mary@x.test jdoe@example.org one@y.test"},
		{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`, "boss@nil.test sysservices@example.net"},
		{`A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;`, "c@a.test joe@where.test jdoe@one.test"},
		// appendix A.5
		{"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "pete@silly.test"},
		{"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)", "c@public.example joe@example.org jdoe@one.test"},
		{"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", ""},
		// appendix A.6.1 and A.6.3
		{"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", "mary@example.net jdoe@test.example"},
		{"<@a.test,@b.test:c@d.test>", "c@d.test"},
		{"Joe <john  .  doe@example.com>", "john.doe@example.com"},
	} {
		if got := strings.Join(all(t, c.list), " "); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.list, got, c.want)
		}
		if theirs, err := mail.ParseAddressList(c.list); err == nil && !strings.Contains(c.list, "\\") {
			found, _ := Addresses(c.list)
			agree(t, c.list, found, theirs)
			second++
		}
	}
	if second < 10 {
		t.Errorf("net/mail reads %d lists", second)
	}
}

// What a list may mean is not guessed: nobody is left out in silence.
func TestNotAddresses(t *testing.T) {
	for _, list := range []string{
		"Jane Doe", "jane doe@example.org", "bob alice@example.org", "bob@", "@example.org", "bob@x@y", "a@b: c@d",
		"<bob", "<a> b", "<a> <b>", "<a,b>", "<a;>", "a>", "\"bob", "bob (x", "[x", "a]", "a)", "a\\b", "\x00", "a\x7fb", "bob\x01", "a, \"b\x00c\"", "(\\",
	} {
		if found, err := Addresses(list); err == nil {
			t.Errorf("%q is taken for %v", list, found)
		}
	}
	for _, list := range []string{"a..b@example.org", ".a@x", "a@x..y", "a@-x", "a@[x]", "\"a\r\n b\"@x", strings.Repeat("a", 65) + "@x"} {
		found, err := Addresses(list)
		if err != nil || len(found) != 1 {
			t.Fatalf("%q: %v, %v", list, found, err)
		}
		if m, err := found[0].Mailbox("o.example"); err == nil {
			t.Errorf("%q is taken for %v", list, m)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"root", `"Doe, Jane" <jane@example.org>, bob (x)`, "g: a@x, b@y;, c", "<@a,@b:c@d>", "a@[1.2.3.4];b", "\"a\\\"b\"@x.example", "bob\r\n @x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		found, err := Addresses(s)
		if err != nil {
			return
		}
		last := 0
		for _, a := range found {
			if a.End <= last || a.End > len(s) {
				t.Fatalf("%q: a local part ends at %d, the one before at %d", s, a.End, last)
			}
			last = a.End
		}
		if theirs, err := mail.ParseAddressList(s); err == nil && ascii(s) {
			agree(t, s, found, theirs)
		}
	})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c > '~' || c < ' ' }) && !strings.Contains(s, "\\")
}

// agree compares with net/mail, which takes only addresses that have a domain.
func agree(t *testing.T, s string, found []Address, theirs []*mail.Address) {
	var ours, want []string
	for _, a := range found {
		m, err := a.Mailbox("")
		if err != nil {
			return // it takes longer ones, and domains that are none
		}
		ours = append(ours, m.Local+"@"+strings.ToLower(m.Domain))
	}
	for _, a := range theirs {
		want = append(want, a.Address[:strings.LastIndexByte(a.Address, '@')]+"@"+strings.ToLower(a.Address[strings.LastIndexByte(a.Address, '@')+1:]))
	}
	if !slices.Equal(ours, want) {
		t.Fatalf("%q:\n ours %q\n net/mail %q", s, ours, want)
	}
}
