package route

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postamt/internal/addr"
	"postamt/internal/alias"
)

// people is a user database of names; a name with "!" in front is broken.
type people []string

func (p people) User(local, domain string) (string, alias.Pos, bool, error) {
	name := strings.ToLower(local)
	if domain != "" {
		name += "@" + domain
	}
	for i, n := range p {
		at := alias.Pos{File: "users", Line: int32(i + 1)}
		if n == name {
			return name, at, true, nil
		}
		if n == "!"+name {
			return name, at, true, errors.New("broken")
		}
	}
	return "", alias.Pos{}, false, nil
}

// files is a set of list files.
type files map[string]string

func (f files) List(path string) (*alias.List, error) {
	text, ok := f[path]
	if !ok {
		return nil, errors.New("no such file")
	}
	l, _, err := alias.ParseList(path, text)
	return l, err
}

func table(t testing.TB, file, text string) *alias.Table {
	t.Helper()
	tab, _, err := alias.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func domains(at string, names ...string) Domains {
	d := Domains{}
	for _, n := range names {
		d[n] = alias.Pos{File: at}
	}
	return d
}

// world is the system that most tests ask.
func world(t testing.TB, aliases, virtual, routes string) *Tables {
	t.Helper()
	r, problems, err := ParseRoutes("routes", routes)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return &Tables{
		LocalDomains:   domains("local_domains", "host.example", "localhost", "[192.0.2.1]"),
		VirtualDomains: domains("virtual_domains", "virt.example", "xn--bcher-kva.example"),
		RelayDomains:   domains("relay_domains", "relay.example"),
		LocalDomain:    "host.example",
		Aliases:        table(t, "aliases", aliases),
		Virtual:        table(t, "virtual", virtual),
		Users:          people{"alice", "bob", "bob+exact", "vera@virt.example", "host@host.example", "!broken", "root"},
		Routes:         r,
		Delimiters:     "+",
		Postmaster:     addr.Mailbox{Local: "root"},
	}
}

func mbox(t testing.TB, s string) addr.Mailbox {
	t.Helper()
	if strings.EqualFold(s, "postmaster") {
		return addr.Mailbox{Local: s}
	}
	m, err := addr.Parse(s, true)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return m
}

// describe is a verdict in a form that tables can hold.
func describe(v Verdict) string {
	s := v.Kind.String()
	switch v.Kind {
	case Mailbox:
		s += " " + v.User + " " + v.Mailbox.String()
		if v.Tag != "" {
			s += " tag=" + v.Tag
		}
		if !v.Next.IsZero() {
			s += " " + v.Next.String()
		}
	case Alias:
		for _, t := range v.Targets {
			s += " " + t.Kind.String()
		}
		if !v.Owner.IsNull() {
			s += " owner=" + v.Owner.String()
		}
	case Remote:
		s += " " + v.Next.String()
	case Refuse:
		s += " " + v.Reply.Error()
	}
	return s + " (" + v.Source.String() + ")"
}

func TestResolve(t *testing.T) {
	w := world(t, `
team: alice, carol@remote.example
team+news: bob
owner-team: alice
list: bob
owner-list: alice, bob
owner-owner-list: bob
list-request: alice
owner-list-request: bob
alice+old: bob
named@localhost: bob
`, `
sales@virt.example: alice
sales+eu@virt.example: bob
all@host.example: alice
@caught.example: bob
@moved.example @virt.example
root@remote.example: alice
bare: bob
`, `
vera@virt.example lmtp:/run/other
remote.example [gw.example]:2525
.remote.example gw.example
a.remote.example error:5.1.2 closed
b.remote.example error:450 later
trash.example discard
one@trash.example mx
`)
	for _, tt := range []struct{ addr, want string }{
		// users
		{"alice@host.example", "mailbox alice alice@host.example (users:1)"},
		{"Alice@localhost", "mailbox alice alice@host.example (users:1)"},
		{"alice@[192.0.2.1]", "mailbox alice alice@host.example (users:1)"},
		{"alice+x+y@host.example", "mailbox alice alice@host.example tag=x+y (users:1)"},
		{"alice+@host.example", "mailbox alice alice@host.example (users:1)"},
		{"bob+exact@host.example", "mailbox bob+exact bob+exact@host.example (users:3)"},
		{"host@host.example", "mailbox host@host.example host@host.example (users:5)"},
		{"host@localhost", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"vera@virt.example", "mailbox vera@virt.example vera@virt.example lmtp:unix:/run/other (routes:2)"},
		{"vera+t@virt.example", "mailbox vera@virt.example vera@virt.example tag=t lmtp:unix:/run/other (routes:2)"},
		{"alice@virt.example", "refuse 550 5.1.1 no such user here (virtual_domains)"},
		{"+tag@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"broken@host.example", "refuse 451 4.3.0 the user database cannot be read now (users:6)"},
		// aliases, in the order of DESIGN 5
		{"team@localhost", "alias local address owner=alice@localhost (aliases:2)"},
		{"TEAM+x@host.example", "alias local address owner=alice@host.example (aliases:2)"},
		{"team+news@host.example", "alias local (aliases:3)"},
		{"alice+old@host.example", "alias local (aliases:10)"},
		{"list@host.example", "alias local owner=owner-list@host.example (aliases:5)"},
		{"owner-list@host.example", "alias local local (aliases:6)"},
		{"list-request@host.example", "alias local (aliases:8)"},
		{"team@virt.example", "refuse 550 5.1.1 no such user here (virtual_domains)"},
		{"named@localhost", "alias local (aliases:11)"},
		{"named@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"sales@virt.example", "alias local (virtual:2)"},
		{"sales+eu@virt.example", "alias local (virtual:3)"},
		{"sales+us@virt.example", "alias local (virtual:2)"},
		{"all@host.example", "alias local (virtual:4)"},
		{"x@caught.example", "alias local (virtual:5)"},
		{"vera@moved.example", "alias domain (virtual:6)"},
		{"root@remote.example", "alias local (virtual:7)"},
		{"bare@localhost", "alias local (virtual:8)"},
		{"bare@virt.example", "refuse 550 5.1.1 no such user here (virtual_domains)"},
		{"vera@bücher.example", "refuse 550 5.1.1 no such user here (virtual_domains)"},
		// RFC 5321 section 4.5.1
		{"postmaster", "alias local (postmaster)"},
		{"PostMaster@virt.example", "alias local (postmaster)"},
		{"postmaster+x@virt.example", "alias local (postmaster)"},
		{"postmaster@relay.example", "remote mx (relay_domains)"},
		// routes
		{"x@relay.example", "remote mx (relay_domains)"},
		{"x@elsewhere.example", "remote mx (mx)"},
		{"x@remote.example", "remote [gw.example]:2525 (routes:3)"},
		{"x@c.remote.example", "remote gw.example (routes:4)"},
		{"x@d.c.remote.example", "remote gw.example (routes:4)"},
		{"x@a.remote.example", "refuse 550 5.1.2 closed (routes:5)"},
		{"x@b.remote.example", "refuse 450 4.4.0 later (routes:6)"},
		{"x@trash.example", "discard (routes:7)"},
		{"one+tag@trash.example", "remote mx (routes:8)"},
		{"x@[192.0.2.99]", "remote mx (mx)"},
		// S15, D03: nothing in a local part means anything
		{"user%remote.example@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"alice%localhost@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"remote.example!user@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{`"alice@localhost"@host.example`, "refuse 550 5.1.1 no such user here (local_domains)"},
		{`"root@remote.example"@host.example`, "refuse 550 5.1.1 no such user here (local_domains)"},
		{`"|/bin/sh"@host.example`, "refuse 550 5.1.1 no such user here (local_domains)"},
		{"|/bin/sh@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{"/etc/passwd@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{`":include:/x"@host.example`, "refuse 550 5.1.1 no such user here (local_domains)"},
		{"~root/x@host.example", "refuse 550 5.1.1 no such user here (local_domains)"},
		{`"\\alice"@host.example`, "refuse 550 5.1.1 no such user here (local_domains)"},
	} {
		if got := describe(w.Resolve(mbox(t, tt.addr))); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.addr, got, tt.want)
		}
	}
	if got := describe(w.Resolve(addr.Mailbox{})); got != "refuse 550 5.1.3 the null path is no recipient ()" {
		t.Error(got)
	}
}

func TestResolveFinal(t *testing.T) {
	w := world(t, "alice: bob\ngone: :fail: 5.1.6 moved away\nteam: alice", "", "")
	for addr, want := range map[string]string{
		"alice@host.example": "mailbox alice alice@host.example (users:1)",
		"gone@host.example":  "refuse 550 5.1.6 moved away (aliases:2:7)",
		"team@host.example":  "refuse 550 5.1.1 no such user here (local_domains)",
		"x@remote.example":   "remote mx (mx)",
	} {
		if got := describe(w.ResolveFinal(mbox(t, addr))); got != want {
			t.Errorf("%s:\n got %s\nwant %s", addr, got, want)
		}
	}
}

func TestPostmaster(t *testing.T) {
	w := world(t, "", "", "")
	for _, tt := range []struct{ name, aliases, want string }{
		{"alias", "postmaster: bob", "alias local (aliases:1)"},
		{"user", "", "mailbox postmaster postmaster@host.example (users:1)"},
	} {
		w.Aliases = table(t, "aliases", tt.aliases)
		w.Users = people{"postmaster"}
		for _, a := range []string{"postmaster", "postmaster@host.example", "postmaster@localhost", "Postmaster@virt.example"} {
			if got := describe(w.Resolve(mbox(t, a))); got != tt.want {
				t.Errorf("%s: %s: %s", tt.name, a, got)
			}
		}
	}
	w.Users = people{"postmaster@virt.example"}
	if got := describe(w.Resolve(mbox(t, "postmaster@virt.example"))); got != "mailbox postmaster@virt.example postmaster@virt.example (users:1)" {
		t.Error(got)
	}
	for _, key := range []addr.Mailbox{{}, {Local: "postmaster"}, {Local: "postmaster", Domain: "localhost"}} {
		w.Postmaster = key
		if got := describe(w.Resolve(mbox(t, "postmaster"))); got != "refuse 451 4.3.5 there is no postmaster here yet (local_domains)" {
			t.Errorf("%v: %s", key, got)
		}
	}
	bare := &Tables{}
	if got := describe(bare.Resolve(mbox(t, "postmaster"))); got != "refuse 451 4.3.5 there is no postmaster here yet ()" {
		t.Error(got)
	}
	bare.Postmaster = mbox(t, "x@remote.example")
	if x, err := bare.Expand(mbox(t, "postmaster"), Limits{Depth: 20, Count: 100}); err != nil || len(x.Finals) != 1 || x.Finals[0].Kind != Remote {
		t.Error(x, err)
	}
	bare.Postmaster = addr.Mailbox{Local: "root"}
	if _, err := bare.Expand(mbox(t, "postmaster"), Limits{Depth: 20, Count: 100}); err == nil {
		t.Error("no local domain, and yet a local postmaster")
	}
	// Postmasters of our domains who point at each other: the key is what is left.
	w = world(t, "", "postmaster@host.example: postmaster@virt.example", "")
	if got := ends(w.Expand(mbox(t, "postmaster"), Limits{Depth: 20, Count: 100})); got != "root@host.example" {
		t.Error(got)
	}
}

func TestSmarthost(t *testing.T) {
	w := world(t, "", "", "")
	var err error
	if w.Smarthost, err = ParseTransport("[gw.example]:587"); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]string{
		"x@remote.example":   "remote [gw.example]:587 (smarthost)",
		"x@relay.example":    "remote [gw.example]:587 (relay_domains)",
		"alice@host.example": "mailbox alice alice@host.example (users:1)",
	} {
		if got := describe(w.Resolve(mbox(t, a))); got != want {
			t.Errorf("%s: %s", a, got)
		}
	}
	w.Routes = world(t, "", "", "* other.example").Routes
	if got := describe(w.Resolve(mbox(t, "x@remote.example"))); got != "remote other.example (routes:1)" {
		t.Error(got)
	}
	if got := describe(w.Resolve(mbox(t, "alice@host.example"))); got != "mailbox alice alice@host.example (users:1)" {
		t.Errorf("the route for everything else took a user: %s", got)
	}
}

func TestAdmit(t *testing.T) {
	w := world(t, "dead: nobody, noone\nsaid: :fail: 5.7.1 never\nlater: :defer: tomorrow\nrun: |cmd\nalive: nobody, alice\nnull: :blackhole:\na: b\nb: a\nslip: a..b\nmixed: :fail: x, y\ndeep: dead, said\nlist: :include:/gone\nx: y",
		"who@other.example: alice", "bad.example error:5.1.2 bad\nrelay.example [192.0.2.7]")
	for _, tt := range []struct{ addr, stranger, ours string }{
		{"alice@host.example", "", ""},
		{"nobody@host.example", "550 5.1.1 no such user here", "550 5.1.1 no such user here"},
		{"x@relay.example", "", ""},
		{"x@remote.example", "550 5.7.1 relaying denied", ""},
		{"x%remote.example@remote.example", "550 5.7.1 relaying denied", ""},
		{"x@bad.example", "550 5.7.1 relaying denied", "550 5.1.2 bad"},
		{"who@other.example", "", ""},
		{"dead@host.example", "550 5.1.1 no such user here", "550 5.1.1 no such user here"},
		{"said@host.example", "550 5.7.1 never", "550 5.7.1 never"},
		{"later@host.example", "450 4.2.0 tomorrow", "450 4.2.0 tomorrow"},
		{"run@host.example", "", ""},
		{"alive@host.example", "", ""},
		{"null@host.example", "", ""},
		{"a@host.example", "550 5.4.6 alias loop", "550 5.4.6 alias loop"},
		{"slip@host.example", "451 4.3.0 the alias is broken and waits to be mended", "451 4.3.0 the alias is broken and waits to be mended"},
		{"broken@host.example", "451 4.3.0 the user database cannot be read now", "451 4.3.0 the user database cannot be read now"},
		{"deep@host.example", "550 5.1.1 no such user here", "550 5.1.1 no such user here"},
		{"list@host.example", "451 4.3.0 a list file cannot be read now", "451 4.3.0 a list file cannot be read now"},
	} {
		for _, may := range []bool{false, true} {
			_, r := w.Accept(mbox(t, tt.addr), Limits{Depth: 20, Count: 1000}, may)
			got, want := "", tt.stranger
			if may {
				want = tt.ours
			}
			if r != nil {
				got = r.Error()
			}
			if got != want {
				t.Errorf("%s, mayRelay %v: got %q, want %q", tt.addr, may, got, want)
			}
		}
	}
}

// backwards is a Returns: "BACK=domain=local" at host.example is who that says, and "BACK=bad" nobody.
type backwards struct{}

func (backwards) Rewrite(sender addr.Mailbox) addr.Mailbox { return sender }

func (backwards) Return(local, domain string) (addr.Mailbox, bool, error) {
	rest, ok := strings.CutPrefix(local, "BACK=")
	if !ok || domain != "host.example" {
		return addr.Mailbox{}, false, nil
	}
	d, l, ok := strings.Cut(rest, "=")
	if !ok {
		return addr.Mailbox{}, false, errors.New("a wrong hash")
	}
	return addr.Mailbox{Local: l, Domain: d}, true, nil
}

func (backwards) Token(address, member addr.Mailbox) string {
	return "t" + address.Local + member.Local
}

func (b backwards) Made(token string, address, member addr.Mailbox) bool {
	return strings.EqualFold(token, b.Token(address, member))
}

// The tag of an address that ends in "-unsubscribe" is one that we have made, or mail to it is refused.
func TestUnsubscribe(t *testing.T) {
	w := world(t, "l-unsubscribe: bob\nl: alice\n", "", "")
	for a, want := range map[string]string{
		"l-unsubscribe@host.example": "", "L-Unsubscribe+x=remote.example=TL-unsubscribeX@host.example": "", "l-unsubscribe+x@host.example": "",
		"l+x=remote.example=y@host.example":             "",
		"l-unsubscribe+x=remote.example=y@host.example": "550 5.7.1", "l-unsubscribe+=@host.example": "550 5.7.1", "l-unsubscribe+x=tl-unsubscribex@host.example": "550 5.7.1",
	} {
		w.Returns = backwards{}
		got := ""
		if _, r := w.Accept(mbox(t, a), limits, false); r != nil {
			got = r.Error()
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
		w.Returns = nil // without keys we have sent none
		if _, r := w.Accept(mbox(t, a), limits, false); (r != nil) != (strings.Contains(a, "nsubscribe+") && strings.Contains(a, "=")) {
			t.Errorf("%s, without keys: %v", a, r)
		}
	}
}

// An address that Returns has made is taken from strangers, and leads to one who is not looked up as it; nobody's alias or mailbox stands before it. What only
// looks like one is refused.
func TestReturns(t *testing.T) {
	w := world(t, "back=remote.example=x: alice\nlist: BACK=remote.example=x@host.example, alice\ntwo: BACK=remote.example=x, BACK=remote.example=y, postmaster", "@host.example: alice", "")
	w.Returns = backwards{}
	for a, want := range map[string]string{
		"BACK=remote.example=x@host.example":     "x@remote.example",
		"BACK=remote.example=x+tag@HOST.example": "x+tag@remote.example",
		"BACK=host.example=bob+t@host.example":   "bob+t@host.example tag=t",
		"two@host.example":                       "x@remote.example, y@remote.example, alice@host.example",
		"BACK=bad@host.example":                  "error 550 5.1.1 a wrong hash",
		"list@host.example":                      "x@remote.example, alice@host.example",
		"BACK=remote.example=x@remote.example":   "BACK=remote.example=x@remote.example",
		"back=@host.example":                     "alice@host.example",
	} {
		x, err := w.Expand(mbox(t, a), Limits{Depth: 20, Count: 1000})
		if got := ends(x, err); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	for a, want := range map[string]string{"BACK=remote.example=x@host.example": "", "BACK=bad@host.example": "550 5.1.1 a wrong hash",
		"BACK=remote.example=x@remote.example": "550 5.7.1 relaying denied"} {
		got := ""
		if _, r := w.Accept(mbox(t, a), Limits{Depth: 20, Count: 1000}, false); r != nil {
			got = r.Error()
		}
		if got != want {
			t.Errorf("a stranger who sends to %s is told %q", a, got)
		}
	}
	// A child names what it stood for, to the end.
	if v := w.ResolveFinal(mbox(t, "BACK=remote.example=x@host.example")); v.Kind == Alias && v.Source == returned {
		t.Errorf("as an end: %s", describe(v))
	}
}

func TestReplyText(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "550 5.1.1 words"},
		{"gone", "550 5.1.1 gone"},
		{"553 gone", "553 5.1.1 gone"},
		{"5.2.1 gone", "550 5.2.1 gone"},
		{"554 5.2.1", "554 5.2.1 words"},
		{"450 4.2.1 gone", "550 5.1.1 450 4.2.1 gone"}, // the class is not the text's to choose
		{"250 ok", "550 5.1.1 250 ok"},
		{"599 gone", "550 5.1.1 599 gone"},
		{"5.2 gone", "550 5.1.1 5.2 gone"},
	} {
		if got := replyText(tt.text, 550, "5.1.1", "words").Error(); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	r, problems, err := ParseRoutes("routes", strings.Join([]string{
		"# comment", "", "  Example.org\t[192.0.2.1]:25 ", "example.org x", "a b c", "lonely", "-x y", "*.x y", "u@Ü.example mx", "bad.example host:0",
		"bad.example 192.0.2.1", "bad.example lmtp:unix:relative", "bad.example lmtp:/x y", "bad.example error:5.1.2 \x01", "bad.example [::1", "bad.example []",
		"[IPv6:2001:DB8::1] [2001:db8::1]:26", "lm.example lmtp:host.example:24", "s.example smtp:gw.example", "* error:", "bücher.example discard", "a@b.c@d mx", "e.example error:451 wait",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprint(p.Pos.Line))
	}
	if got, want := strings.Join(lines, " "), "4 5 6 7 8 10 11 12 13 14 15 16 22"; got != want {
		t.Errorf("problems in lines %s, want %s\n%v", got, want, problems)
	}
	for key, want := range map[string]string{
		"example.org": "[192.0.2.1]:25", "[IPv6:2001:db8::1]": "[2001:db8::1]:26", "lm.example": "lmtp:host.example:24", "s.example": "gw.example",
		"u@xn--tda.example": "mx",
	} {
		if got := r.lines[key].next.String(); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if got := r.lines["*"].reply.Error(); got != "550 5.1.2 no mail is taken for this domain" {
		t.Error(got)
	}
	if got := r.lines["e.example"].reply.Error(); got != "451 4.4.0 wait" {
		t.Error(got)
	}
	if !r.lines["xn--bcher-kva.example"].discard {
		t.Error("U-label key")
	}
	if _, _, err := ParseRoutes("routes", "x\ny\n"); err == nil {
		t.Error("nothing good, and no error")
	}
	if _, _, err := ParseRoutes("routes", "x mx\n\x00"); err == nil || err.Error() != "routes:2: NUL: this is not a text file" {
		t.Error(err)
	}
}

func FuzzRoutes(f *testing.F) {
	for _, s := range []string{"a.example [b]:1", "* mx", "u@d lmtp:/x\n.x error:4.1.1 y", "x lmtp:unix:/y", "[1.2.3.4] smtp:[::1]:5"} {
		f.Add(s, "u@a.b.example")
	}
	f.Fuzz(func(t *testing.T, text, a string) {
		r, _, err := ParseRoutes("r", text)
		if err != nil {
			return
		}
		for key, x := range r.lines {
			if x.next.IsZero() == (x.reply == nil && !x.discard) {
				t.Fatalf("%s: not one way", key)
			}
			if x.next.IsZero() {
				continue
			}
			if again, err := ParseTransport(x.next.String()); err != nil || again != x.next {
				t.Fatalf("%+v is written %s and read %+v, %v", x.next, x.next, again, err)
			}
		}
		if m, err := addr.Parse(a, true); err == nil {
			tab := &Tables{Routes: r}
			tab.Resolve(m)
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	var aliases strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&aliases, "alias%d: alice\nx%d@virt.example: bob\n", i, i)
	}
	w := world(b, aliases.String(), aliases.String(), ".remote.example gw.example")
	for _, a := range []string{"alice@host.example", "alice+tag@host.example", "vera@virt.example", "x@a.remote.example", "nobody@host.example", "alias77@host.example"} {
		m := mbox(b, a)
		b.Run(a, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Resolve(m)
			}
		})
	}
}
