package addr

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", 64)
	d63 := strings.Repeat("d", 63)
	for _, tt := range []struct {
		in     string
		utf8   bool
		local  string
		domain string
		out    string // "" when the same as in
		err    error
	}{
		{in: "a@b", local: "a", domain: "b"},
		{in: "Bob@Example.ORG", local: "Bob", domain: "example.org", out: "Bob@example.org"},
		{in: "a.b.c@d-e.f", local: "a.b.c", domain: "d-e.f"},
		{in: "!#$%&'*+-/=?^_`{|}~@x.y", local: "!#$%&'*+-/=?^_`{|}~", domain: "x.y"},
		{in: `"a b"@c`, local: "a b", domain: "c"},
		{in: `"ab"@c`, local: "ab", domain: "c", out: "ab@c"},
		{in: `"\a\b"@c`, local: "ab", domain: "c", out: "ab@c"},
		{in: `"a\"b\\c"@d`, local: `a"b\c`, domain: "d"},
		{in: `"a@b"@c`, local: "a@b", domain: "c"},
		{in: `""@c`, local: "", domain: "c"},
		{in: `".a"@c`, local: ".a", domain: "c"},
		{in: `"a..b"@c`, local: "a..b", domain: "c"},
		{in: "Joe\\,Smith@c", err: ErrSyntax},
		{in: `"Joe\,Smith"@c`, local: "Joe,Smith", domain: "c", out: `"Joe,Smith"@c`},
		{in: "a@[192.0.2.1]", local: "a", domain: "[192.0.2.1]"},
		{in: "a@[ipv6:2001:DB8:0::1]", local: "a", domain: "[IPv6:2001:db8::1]", out: "a@[IPv6:2001:db8::1]"},
		{in: "a@[IPv6:::ffff:192.0.2.1]", local: "a", domain: "[IPv6:::ffff:192.0.2.1]"},
		{in: "a@[192.0.2.256]", err: ErrDomain},
		{in: "a@[010.0.0.1]", err: ErrDomain},
		{in: "a@[IPv6:fe80::1%eth0]", err: ErrDomain},
		{in: "a@[IPv6:1.2.3.4]", err: ErrDomain},
		{in: "a@[X400:abc]", err: ErrDomain},
		{in: "a@[]", err: ErrDomain},
		{in: "a@[192.0.2.1", err: ErrDomain},
		{in: "a@[192.0.2.1]x", err: ErrSyntax},
		// S13: at the limit, and one over it.
		{in: long + "@b", local: long, domain: "b"},
		{in: long + "a@b", err: ErrLocalLong},
		{in: `"` + strings.Repeat(`\a`, 64) + `"@b`, local: long, domain: "b", out: long + "@b"},
		{in: "a@" + d63 + ".b", local: "a", domain: d63 + ".b"},
		{in: "a@d" + d63 + ".b", err: ErrDomainLong},
		{in: "a@" + strings.Repeat("d.", 125) + "e", local: "a", domain: strings.Repeat("d.", 125) + "e"},
		{in: "a@" + strings.Repeat("d.", 126) + "e", err: ErrPathLong},
		{in: strings.Repeat("a", 1<<20) + "@b", err: ErrPathLong},
		// S15: the percent hack and bang paths are ordinary characters.
		{in: "user%evil@us", local: "user%evil", domain: "us"},
		{in: "evil!user@us", local: "evil!user", domain: "us"},
		// S16
		{in: "a b@c", err: ErrSyntax},
		{in: "a;b@c", err: ErrSyntax},
		{in: "a|b@c", local: "a|b", domain: "c"},
		{in: "a`b@c", local: "a`b", domain: "c"},
		{in: "$(a)@c", err: ErrSyntax},
		{in: "\"a\nb\"@c", err: ErrLocalSyntax},
		{in: "\"a\\\nb\"@c", err: ErrLocalSyntax},
		{in: "\"a\x00b\"@c", err: ErrLocalSyntax},
		{in: "\"a\x7fb\"@c", err: ErrLocalSyntax},
		{in: `"a\`, err: ErrLocalSyntax},
		{in: `"a`, err: ErrLocalSyntax},
		{in: "a@", err: ErrDomain},
		{in: "@b", err: ErrLocalSyntax},
		{in: "", err: ErrLocalSyntax},
		{in: "a", err: ErrSyntax},
		{in: "postmaster", err: ErrSyntax},
		{in: "a@b@c", err: ErrSyntax},
		{in: "a@b ", err: ErrSyntax},
		{in: " a@b", err: ErrLocalSyntax},
		{in: "a@b\r\n", err: ErrSyntax},
		{in: "a@b\x00", err: ErrSyntax},
		{in: ".a@b", err: ErrLocalSyntax},
		{in: "a.@b", err: ErrLocalSyntax},
		{in: "a..b@c", err: ErrLocalSyntax},
		{in: "a@b.", err: ErrDomain},
		{in: "a@.b", err: ErrDomain},
		{in: "a@b..c", err: ErrDomain},
		{in: "a@-b", err: ErrDomain},
		{in: "a@b-.c", err: ErrDomain},
		{in: "a@b_c", err: ErrSyntax},
		// RFC 6531
		{in: "j\u00f6rg@b\u00fccher.example", err: ErrNotASCII},
		{in: "a@b\u00fccher.example", err: ErrNotASCII},
		{in: "j\u00f6rg@B\u00dcCHER.example", utf8: true, local: "j\u00f6rg", domain: "b\u00fccher.example", out: "j\u00f6rg@b\u00fccher.example"},
		{in: "\"j\u00f6 rg\"@b", utf8: true, local: "j\u00f6 rg", domain: "b"},
		{in: "\u7528\u6237@\u4f8b\u5b50.\u5e7f\u544a", utf8: true, local: "\u7528\u6237", domain: "\u4f8b\u5b50.\u5e7f\u544a"},
		{in: "jo\u0308rg@b", utf8: true, local: "jo\u0308rg", domain: "b"}, // not composed by us
		{in: "j\xf6rg@b", utf8: true, err: ErrUTF8},
		{in: "a\u0085b@b", utf8: true, err: ErrLocalSyntax},
		{in: "a@b\xfc.example", utf8: true, err: ErrDomain},
		{in: "a@b\u00fc_.example", utf8: true, err: ErrSyntax},
		{in: "a@b\uff0e\uff0ec", utf8: true, err: ErrDomain}, // full-width dots: an empty label after mapping
		{in: "a@\u00ad", utf8: true, err: ErrDomain},         // soft hyphen: nothing left after mapping
	} {
		m, err := Parse(tt.in, tt.utf8)
		if !errors.Is(err, tt.err) {
			t.Errorf("Parse(%.90q) = %v, want %v", tt.in, err, tt.err)
			continue
		}
		if tt.err != nil {
			if (m != Mailbox{}) {
				t.Errorf("Parse(%.90q): %v with its error", tt.in, m)
			}
			continue
		}
		if m.Local != tt.local || m.Domain != tt.domain {
			t.Errorf("Parse(%.90q) = %q, %q, want %q, %q", tt.in, m.Local, m.Domain, tt.local, tt.domain)
		}
		want := tt.out
		if want == "" {
			want = tt.in
		}
		if m.String() != want {
			t.Errorf("Parse(%.90q).String() = %q, want %q", tt.in, m.String(), want)
		}
	}
}

func TestS13S15S16_ParsePath(t *testing.T) {
	d := strings.Repeat("d.", 125)
	for _, tt := range []struct {
		in   string
		want string // wire form
		rest string
		err  error
	}{
		{in: "<>", want: ""},
		{in: "<> SIZE=1", want: "", rest: " SIZE=1"},
		{in: "<a@b>", want: "a@b"},
		{in: "<a@b> SIZE=1", want: "a@b", rest: " SIZE=1"},
		{in: "<a@b>SIZE=1", want: "a@b", rest: "SIZE=1"},
		{in: `<"a>b"@c>x`, want: `"a>b"@c`, rest: "x"},
		{in: "<a@[IPv6:2001:db8::1]>", want: "a@[IPv6:2001:db8::1]"},
		{in: "<postmaster>", want: "postmaster"},
		{in: "<PostMaster> NOTIFY=NEVER", want: "PostMaster", rest: " NOTIFY=NEVER"},
		{in: "<postmaste>", err: ErrSyntax},
		{in: "<postmasters>", err: ErrSyntax},
		{in: "<@a,@b:user@c>", want: "user@c"},
		{in: "<@a:user@c> x", want: "user@c", rest: " x"},
		{in: "<@[192.0.2.1]:user@c>", want: "user@c"},
		{in: "<@a>", err: ErrSyntax},
		{in: "<@a:>", err: ErrLocalSyntax},
		{in: "<@a:postmaster>", err: ErrSyntax},
		{in: "<@a,b:user@c>", err: ErrSyntax},
		{in: "<@:user@c>", err: ErrDomain},
		{in: "<@a,:user@c>", err: ErrSyntax},
		{in: "<", err: ErrLocalSyntax},
		{in: "", err: ErrSyntax},
		{in: "a@b", err: ErrSyntax},
		{in: "<a@b", err: ErrSyntax},
		{in: "< a@b>", err: ErrLocalSyntax},
		{in: "<a@b >", err: ErrSyntax},
		{in: "< >", err: ErrLocalSyntax},
		{in: "<<a@b>>", err: ErrLocalSyntax},
		{in: "<a@>", err: ErrDomain},
		{in: "<aa@" + d + "e>", want: "aa@" + d + "e"}, // 256 octets
		{in: "<aaa@" + d + "e>", err: ErrPathLong},     // 257
		{in: "<@a:aa@" + d + "e>", err: ErrPathLong},   // RFC 5321 section 4.5.3.1.3: with its separators
		{in: "<" + strings.Repeat("a", 1<<20), err: ErrLocalLong},
	} {
		m, rest, err := ParsePath(tt.in, false)
		if !errors.Is(err, tt.err) {
			t.Errorf("ParsePath(%.80q) = %v, want %v", tt.in, err, tt.err)
			continue
		}
		if err == nil && (m.String() != tt.want || rest != tt.rest) {
			t.Errorf("ParsePath(%.80q) = %q, %q, want %q, %q", tt.in, m, rest, tt.want, tt.rest)
		}
		if (tt.want == "") != m.IsNull() {
			t.Errorf("ParsePath(%.80q): null %v", tt.in, m.IsNull())
		}
	}
}

// The classes, byte by byte, against the grammar of RFC 5321 section 4.1.2 written another way.
func TestClasses(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		for _, tt := range []struct {
			name string
			k    class
			want bool
		}{
			{"atext", atext, alnum || c < 0x80 && c != 0 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0},
			{"qtext", qtext, i == 32 || i == 33 || i >= 35 && i <= 91 || i >= 93 && i <= 126},
			{"letDigHyphen", letDigHyphen, alnum || c == '-'},
		} {
			if is(c, tt.k) != tt.want {
				t.Errorf("%s %q: %v", tt.name, c, is(c, tt.k))
			}
		}
		// And through the parser: which bytes may stand where.
		_, err := Parse("x"+string([]byte{c})+"x@b", false)
		if want := is(c, atext) || c == '.'; (err == nil) != want {
			t.Errorf("local part with %q: %v", c, err)
		}
		_, err = Parse(`"x`+string([]byte{c})+`x"@b`, false)
		if want := is(c, qtext) || c == '\\'; (err == nil) != want {
			t.Errorf("quoted local part with %q: %v", c, err)
		}
		_, err = Parse("a@x"+string([]byte{c})+"x", false)
		if want := is(c, letDigHyphen) || c == '.'; (err == nil) != want {
			t.Errorf("domain with %q: %v", c, err)
		}
	}
}

func TestKey(t *testing.T) {
	for _, tt := range [][2]string{
		{"Bob@Example.ORG", "bob@example.org"},
		{`"Bob"@example.org`, "bob@example.org"},
		{`"a B"@c`, "a b@c"},
		{"J\u00d6RG@b\u00fccher.example", "j\u00f6rg@xn--bcher-kva.example"},
		{"a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"a@[IPv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]"},
	} {
		m, err := Parse(tt[0], true)
		if err != nil || m.Key() != tt[1] {
			t.Errorf("%q: key %q, %v, want %q", tt[0], m.Key(), err, tt[1])
		}
	}
	if k := (Mailbox{Local: "PostMaster"}).Key(); k != "postmaster" {
		t.Errorf("key of postmaster: %q", k)
	}
	if k := (Mailbox{}).Key(); k != "" {
		t.Errorf("key of the null path: %q", k)
	}
}

func TestDomains(t *testing.T) {
	for _, tt := range [][3]string{
		{"example.org", "example.org", "example.org"},
		{"b\u00fccher.example", "xn--bcher-kva.example", "b\u00fccher.example"},
		{"[192.0.2.1]", "[192.0.2.1]", "[192.0.2.1]"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", "b\u00fccher.example"},
		{"xn--\u00fc.example", "", ""},
	} {
		a, err := ASCIIDomain(tt[0])
		if a != tt[1] || (err != nil) != (tt[1] == "") {
			t.Errorf("ASCIIDomain(%q) = %q, %v", tt[0], a, err)
		}
		if u := UnicodeDomain(tt[1]); u != tt[2] {
			t.Errorf("UnicodeDomain(%q) = %q", tt[1], u)
		}
	}
	if u := UnicodeDomain("xn--a.example"); u != "xn--a.example" {
		t.Errorf("UnicodeDomain of nonsense: %q", u)
	}
}

func TestIsASCII(t *testing.T) {
	if !(Mailbox{"a", "b\u00fccher.example"}).IsASCII() || (Mailbox{"\u00e4", "b"}).IsASCII() {
		t.Error("IsASCII")
	}
}

func TestSplitTag(t *testing.T) {
	for _, tt := range []struct {
		local, delims, base, tag string
		ok                       bool
	}{
		{"bob+lists", "+", "bob", "lists", true},
		{"bob+a+b", "+", "bob", "a+b", true},
		{"bob-a+b", "+-", "bob", "a+b", true},
		{"bob+", "+", "bob", "", true},
		{"+bob", "+", "+bob", "", false},
		{"+bob+x", "+", "+bob", "x", true},
		{"bob", "+", "bob", "", false},
		{"bob+x", "", "bob+x", "", false},
		{"", "+", "", "", false},
	} {
		base, tag, ok := SplitTag(tt.local, tt.delims)
		if base != tt.base || tag != tt.tag || ok != tt.ok {
			t.Errorf("SplitTag(%q, %q) = %q, %q, %v", tt.local, tt.delims, base, tag, ok)
		}
	}
}

// FuzzAddr: what Parse accepts is within the limits, prints as something that parses to the same value, and does so inside brackets too.
func FuzzAddr(f *testing.F) {
	for _, s := range []string{"a@b", `"a b\""@c`, "j\u00f6rg@b\u00fccher.example", "a@[IPv6:::1]", "a@[192.0.2.1]", `""@x`, "\u023a@\u023a.x", "user%evil@us"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		m, err := Parse(s, utf8)
		if err != nil {
			return
		}
		if len(m.Local) > MaxLocal || len(m.Domain) > MaxDomain || m.Domain == "" {
			t.Fatalf("Parse(%q) = %q, %q: beyond the limits", s, m.Local, m.Domain)
		}
		out := m.String()
		for i := range len(out) {
			if out[i] < ' ' || out[i] == 0x7f {
				t.Fatalf("Parse(%q).String() = %q has a control character", s, out)
			}
		}
		if !utf8 && !isASCII(out) {
			t.Fatalf("Parse(%q) = %q is not ASCII", s, out)
		}
		again, err := Parse(out, utf8)
		if err != nil || again != m {
			t.Fatalf("Parse(%q) = %q; printed %q; parsed again %q, %v", s, m, out, again, err)
		}
		p, rest, err := ParsePath("<"+out+">tail", utf8)
		if err != nil || p != m || rest != "tail" {
			t.Fatalf("ParsePath(<%s>) = %q, %q, %v", out, p, rest, err)
		}
		if !strings.Contains(m.Key(), "@") {
			t.Fatalf("key %q", m.Key())
		}
	})
}

func BenchmarkParsePath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParsePath("<someone.else@mail.example.org> SIZE=1000", false); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWithTag(t *testing.T) {
	for _, c := range []struct {
		local, delims, tag, want string
		ok                       bool
	}{
		{"news-bounces", "+", "bob=x.example", "news-bounces+bob=x.example", true},
		{"news-bounces", "+-", "bob=x.example", "", false}, // it would be divided before "bounces"
		{"newsbounces", "-+", "bob+y=x.example", "newsbounces-bob+y=x.example", true},
		{"news", "", "t", "", false},
		{"news", "+", strings.Repeat("x", 60), "", false},
		{"news", "+", strings.Repeat("x", 59), "news+" + strings.Repeat("x", 59), true},
	} {
		m, ok := Mailbox{c.local, "o.example"}.WithTag(c.delims, c.tag)
		if ok != c.ok || ok && m.Local != c.want {
			t.Errorf("%+v: %v %v", c, m, ok)
		}
	}
	for in, want := range map[string]string{"bob=x.example": "bob@x.example", "b=o+b=x.example": "b=o+b@x.example", "a b=x.example": `"a b"@x.example`} {
		if m, err := FromTag(in); err != nil || m.String() != want || m.AsTag() != in {
			t.Errorf("%s: %v %v", in, m, err)
		}
	}
	for _, in := range []string{"", "bob", "=x.example", "bob=", "bob=x..y"} {
		if m, err := FromTag(in); err == nil {
			t.Errorf("%s: %v", in, m)
		}
	}
}
