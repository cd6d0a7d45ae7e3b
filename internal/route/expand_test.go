package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

var limits = Limits{Depth: 20, Count: 100000}

// ends is an expansion in a form that tables can hold.
func ends(x Expansion, err error) string {
	if err != nil {
		return "error " + err.Error()
	}
	var l []string
	for _, f := range x.Finals {
		s := f.Addr.String()
		if f.Kind == Command || f.Kind == File {
			s = f.Kind.String() + " " + s
		}
		if f.Kind == Refuse {
			s = "!" + fmt.Sprint(f.Reply.Code) + " " + f.Reply.Enhanced.String() + " " + s
		}
		if f.Tag != "" {
			s += " tag=" + f.Tag
		}
		if !f.Owner.IsNull() {
			s += " owner=" + f.Owner.String()
		}
		l = append(l, s)
	}
	return strings.Join(l, ", ")
}

func TestExpand(t *testing.T) {
	for _, tt := range []struct{ name, aliases, virtual, addr, want string }{
		{"no alias", "", "", "alice@localhost", "alice@localhost"},
		{"unknown", "", "", "x@host.example", "error 550 5.1.1 no such user here"},
		{"list", "t: alice, bob, c@remote.example", "", "t@localhost", "alice@localhost, bob@localhost, c@remote.example"},
		{"nested", "t: u, alice\nu: bob, alice", "", "t@host.example", "bob@host.example, alice@host.example"},
		{"each once", "t: alice, Alice@localhost, alice+x, C@remote.example, c@remote.example, C@Remote.Example", "", "t@host.example", "alice@host.example, C@remote.example, c@remote.example"},
		{"dead member", "t: nobody, alice, noone", "", "t@host.example", "!550 5.1.1 nobody@host.example, alice@host.example, !550 5.1.1 noone@host.example"},
		{"blackhole", "t: /dev/null", "", "t@host.example", ""},
		{"blackhole and more", "t: /dev/null, alice", "", "t@host.example", "alice@host.example"},
		{"whole domain", "", "@old.example @virt.example", "vera@old.example", "vera@virt.example"},
		{"whole domain keeps the tag", "", "@old.example @virt.example", "Vera+x@old.example", "Vera+x@virt.example tag=x"},
		{"whole domain, unknown", "", "@old.example @virt.example", "x@old.example", "error 550 5.1.1 no such user here"},
		{"whole domain in a circle", "", "@a.example @b.example\n@b.example @a.example", "x@a.example", "error 550 5.4.6 alias loop"},
		{"catch-all", "", "@virt.example: alice", "x@virt.example", "alice@host.example"},
		{"catch-all to itself", "", "@virt.example: x@virt.example", "y@virt.example", "error 550 5.4.6 alias that leads only to itself"},
		{"user before catch-all", "", "@virt.example: alice", "vera@virt.example", "vera@virt.example"},
		{"tag is dropped", "t: alice", "", "t+x@host.example", "alice@host.example"},
		{"local name in a virtual table", "", "s@virt.example: alice", "s@virt.example", "alice@host.example"},
		{"virtual, then local", "alice: bob", "s@virt.example: alice", "s@virt.example", "bob@host.example"},
		{"postmaster key", "", "", "postmaster@virt.example", "root@host.example"},

		{"D01 itself, a user", "bob: bob, c@remote.example", "", "bob@host.example", "bob@host.example, c@remote.example"},
		{"D01 itself by address", "bob: bob@localhost, c@remote.example", "", "bob@host.example", "bob@localhost, c@remote.example"},
		{"D01 itself with a tag", "bob: bob, c@remote.example", "", "bob+x@host.example", "bob+x@host.example tag=x, c@remote.example"},
		{"D01 itself, virtual", "", "vera@virt.example: vera@virt.example, alice", "vera@virt.example", "vera@virt.example, alice@host.example"},
		{"D01 itself, remote", "", "x@remote.example: x@remote.example, alice", "x@remote.example", "x@remote.example, alice@host.example"},
		{"D01 itself, through both tables", "bob: bob@host.example, alice", "bob@host.example: bob", "bob@host.example", "bob@host.example, alice@host.example"},
		{"D01 itself, then the next table", "bob: alice", "bob@host.example: bob, x@remote.example", "bob@host.example", "alice@host.example, x@remote.example"},
		{"D01 itself, nobody", "a: a", "", "a@host.example", "error 550 5.4.6 alias that leads only to itself"},
		{"D01 two", "a: b\nb: a", "", "a@host.example", "error 550 5.4.6 alias loop"},
		{"D01 two, and one alive", "a: b, alice\nb: a", "", "a@host.example", "!550 5.4.6 a@host.example, alice@host.example"},
		{"D01 users who forward to each other", "alice: bob\nbob: alice", "", "alice@host.example", "error 550 5.4.6 alias loop"},
		{"backslash", `bob: \bob, alice` + "\nalice: x@remote.example", "", "bob@host.example", "bob@host.example, x@remote.example"},
		{"backslash with a tag", `bob: \bob`, "", "bob+x@host.example", "bob+x@host.example tag=x"},
		{"backslash, other", `t: \bob` + "\nbob: alice", "", "t@host.example", "bob@host.example"},
		{"backslash, no user", `t: \u` + "\nu: alice", "", "t@host.example", "error 550 5.1.1 no such user here"},

		{"pipe", "t: |cmd, alice", "", "t@host.example", "command t@host.example, alice@host.example"},
		{"file", "t: /x", "", "t@host.example", "file t@host.example"},
		{"fail", "t: alice, u\nu: :fail: no", "", "t@host.example", "alice@host.example, !550 5.1.1 u@host.example"},
		{"defer wins over fail", "t: nobody, u\nu: :defer: no", "", "t@host.example", "error 450 4.2.0 no"},
		{"slip", "t: alice, a..b", "", "t@host.example", "alice@host.example, !451 4.3.0 t@host.example"},

		{"owner", "t: alice, u\nowner-t: bob\nu: c@remote.example\nowner-u: x@remote.example, bob", "", "t@localhost",
			"alice@localhost owner=bob@localhost, c@remote.example owner=owner-u@localhost"},
		{"owner is inherited", "t: u\nowner-t: bob@remote.example\nu: alice", "", "t@host.example", "alice@host.example owner=bob@remote.example"},
		{"owner, virtual", "", "l@virt.example: alice\nowner-l@virt.example: x@remote.example", "l+tag@virt.example", "alice@host.example owner=x@remote.example"},

		{"include", "t: :include:/l, alice\nowner-t: bob", "", "t@localhost", "bob@localhost owner=bob@localhost, c@remote.example owner=bob@localhost, alice@localhost owner=bob@localhost"},
		{"include, gone", "t: :include:/gone, alice", "", "t@localhost", "!451 4.3.0 t@localhost, alice@localhost"},
		{"D02 include of itself", "t: :include:/self", "", "t@localhost", "alice@localhost, !550 5.4.6 t@localhost"},
		{"D02 include in a circle", "t: :include:/a", "", "t@localhost", "error 550 5.4.6 list file that includes itself"},
		{"D02 include of its alias", "t: :include:/t", "", "t@localhost", "error 550 5.4.6 alias that leads only to itself"},
		{"D04 pipe in a list file", "t: :include:/pipe", "", "t@localhost", "!550 5.1.3 t@localhost, alice@localhost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world(t, tt.aliases, tt.virtual, "")
			w.Lists = files{"/l": "bob\nc@remote.example\n", "/self": "alice\n:include:/self", "/a": ":include:/b", "/b": ":include:/a", "/t": "t", "/pipe": "|cmd\nalice"}
			if got := ends(w.Expand(mbox(t, tt.addr), limits)); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.addr, got, tt.want)
			}
		})
	}
}

func TestVia(t *testing.T) {
	w := world(t, "t: u,\n  alice\nu:  :include:/l\n", "", "")
	w.Lists = files{"/l": "# x\nbob\nc@remote.example"}
	x, err := w.Expand(mbox(t, "t@host.example"), limits)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range x.Finals {
		got = append(got, fmt.Sprint(f.Addr.Local, f.Via, " ", f.Source))
	}
	want := []string{"bob[aliases:1:4 aliases:3:5 /l:2:1] users:2", "c[aliases:1:4 aliases:3:5 /l:3:1] mx", "alice[aliases:2:3] users:1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestD12_DirectAndThroughTwoAliases(t *testing.T) {
	w := world(t, "all: team, staff, alice\nteam: alice, bob\nstaff: Alice@localhost, bob+x, alice@[192.0.2.1]\n", "", "")
	if got := ends(w.Expand(mbox(t, "all@host.example"), limits)); got != "alice@host.example, bob@host.example" {
		t.Error(got)
	}
}

func TestD01_Bounds(t *testing.T) {
	var chain, bomb, wide strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&chain, "c%d: c%d\n", i, i+1)
	}
	chain.WriteString("c10000: alice\n")
	for i := range 30 {
		fmt.Fprintf(&bomb, "b%d: b%d, b%d\n", i, i+1, i+1)
	}
	bomb.WriteString("b30: alice\n")
	wide.WriteString("w: x0@remote.example")
	for i := range 1000 {
		fmt.Fprintf(&wide, ", x%d@remote.example", i+1)
	}
	w := world(t, chain.String()+bomb.String()+wide.String(), "", "")
	start := time.Now()
	for _, tt := range []struct {
		addr string
		l    Limits
		want string
	}{
		{"c0@host.example", limits, "error 550 5.4.6 aliases too deep"},
		{"c9990@host.example", limits, "alice@host.example"},
		{"c9981@host.example", limits, "alice@host.example"},
		{"c9980@host.example", limits, "error 550 5.4.6 aliases too deep"},
		{"b0@host.example", Limits{Depth: 50, Count: 100000}, "alice@host.example"},
		{"b0@host.example", limits, "error 550 5.4.6 aliases too deep"},
		{"w@host.example", Limits{Depth: 20, Count: 1000}, "error 550 5.4.6 alias stands for too many addresses"},
	} {
		got := ends(w.Expand(mbox(t, tt.addr), tt.l))
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.addr, got, tt.want)
		}
	}
	if x, err := w.Expand(mbox(t, "w@host.example"), Limits{Depth: 20, Count: 1001}); err != nil || len(x.Finals) != 1001 {
		t.Error(len(x.Finals), err)
	}
	// 2^30 steps take minutes.
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	w.Lists = files{}
	text := "l0: :include:/0\n"
	for i := range 30 {
		w.Lists.(files)[fmt.Sprint("/", i)] = fmt.Sprintf(":include:/%d\n:include:/%d\n", i+1, i+1)
	}
	w.Lists.(files)["/30"] = "alice"
	w.Aliases = table(t, "aliases", text)
	if got := ends(w.Expand(mbox(t, "l0@host.example"), Limits{Depth: 50, Count: 1000})); got != "alice@host.example" {
		t.Errorf("bomb of list files: %s", got)
	}
}

// TestProperties expands random tables: whatever they say, the work is bounded, every final is one, and RCPT time and delivery agree.
func TestProperties(t *testing.T) {
	names := []string{"a", "b", "c", "d", "alice", "bob", "nobody"}
	item := rapid.Custom(func(t *rapid.T) string {
		n := rapid.SampledFrom(names).Draw(t, "name")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return `\` + n
		case 1:
			return n + "@virt.example"
		case 2:
			return n + "+tag"
		case 3:
			return "@moved.example"
		case 4:
			return rapid.SampledFrom([]string{":blackhole:", "|x", ":include:/l", ":defer: x", "x@remote.example", ":fail: x"}).Draw(t, "special")
		}
		return n
	})
	rapid.Check(t, func(r *rapid.T) {
		var aliases, virtual strings.Builder
		aliases.WriteString("good: alice\n")
		for _, n := range names {
			if rapid.Bool().Draw(r, "alias "+n) {
				fmt.Fprintf(&aliases, "%s: %s\n", n, strings.Join(rapid.SliceOfN(item, 1, 4).Draw(r, "of "+n), ", "))
			}
			if rapid.Bool().Draw(r, "virtual "+n) {
				fmt.Fprintf(&virtual, "%s@virt.example: %s\n", n, strings.Join(rapid.SliceOfN(item, 1, 4).Draw(r, "of virtual "+n), ", "))
			}
		}
		fmt.Fprintf(&virtual, "@moved.example: %s\n", item.Draw(r, "catch-all"))
		w := world(t, aliases.String(), virtual.String(), "")
		w.Lists = files{"/l": strings.Join(rapid.SliceOfN(item, 0, 4).Draw(r, "list"), "\n")}
		m := mbox(t, rapid.SampledFrom(names).Draw(r, "asked")+rapid.SampledFrom([]string{"@host.example", "@virt.example", "+x@localhost", "@moved.example"}).Draw(r, "domain"))
		x, err := w.Expand(m, Limits{Depth: 8, Count: 500})
		v, reply := w.Accept(m, Limits{Depth: 8, Count: 500}, false)
		if err != nil {
			var said *smtp.Reply
			if !errors.As(err, &said) || said.Positive() {
				r.Fatalf("%v is no reply", err)
			}
			if reply == nil {
				r.Fatalf("%v: admitted, and then %v", m, err)
			}
			return
		}
		if v.Kind == Alias && reply != nil && reply.Permanent() {
			r.Fatalf("%v: %v at RCPT, but it reaches %s", m, reply, ends(x, nil))
		}
		seen := map[string]bool{}
		for _, f := range x.Finals {
			if f.Kind == Alias || f.Kind == Refuse != (f.Reply != nil) {
				r.Fatalf("%+v is no end", f)
			}
			if f.Kind == Refuse {
				continue
			}
			if seen[f.Key()] {
				r.Fatalf("%s twice in %s", f.Key(), ends(x, nil))
			}
			seen[f.Key()] = true
			if f.Kind == Command || f.Kind == File {
				continue // named by Target
			}
			// What goes into a child message must mean the same when it is read from there.
			if again := w.ResolveFinal(f.Addr); again.Kind != f.Kind || again.Mailbox != f.Mailbox || again.User != f.User {
				r.Fatalf("%v is %s, and as an end %s", f.Addr, describe(f.Verdict), describe(again))
			}
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("a: b, c\nb: a", "@virt.example: a\nx@virt.example: \\x", "a@virt.example")
	f.Add("bob: bob, |x", "@a.example @b.example\n@b.example @a.example", "x@a.example")
	f.Add("l: :include:/l\nowner-l: a", "postmaster@virt.example: postmaster", "postmaster@virt.example")
	f.Fuzz(func(t *testing.T, aliases, virtual, a string) {
		at, _, err := alias.Parse("a", aliases)
		if err != nil {
			return
		}
		vt, _, err := alias.Parse("v", virtual)
		if err != nil {
			return
		}
		w := world(t, "", "", "")
		w.Aliases, w.Virtual, w.Lists = at, vt, files{"/l": aliases}
		for e := range at.Entries() {
			a, _, _ := strings.Cut(e.Key(), "@")
			if len(a) <= 64 {
				w.Expand(mailboxOf(a), Limits{Depth: 10, Count: 2000})
			}
		}
		local, domain, _ := strings.Cut(a, "@")
		m := mailboxOf(local)
		m.Domain = strings.ToLower(domain)
		w.Expand(m, Limits{Depth: 10, Count: 2000})
		w.Accept(m, Limits{Depth: 10, Count: 2000}, rand.IntN(2) == 0)
	})
}

func mailboxOf(local string) addr.Mailbox { return addr.Mailbox{Local: local, Domain: "host.example"} }
