package message

import (
	"strings"
	"testing"
	"time"
)

var mailboxTests = []struct {
	value, want string // want "!": it cannot be told
}{
	{"a@b.example", "a@b.example"},
	{" Jane Doe <jane@b.example>", "jane@b.example"},
	{`"Doe, Jane" <jane@b.example>, bob@c.example`, "jane@b.example bob@c.example"},
	{"jane@b.example (Jane (the one) Doe)", "jane@b.example"},
	{"(c) jane @ b . example", "jane@b.example"},
	{`"a b"@c.example`, `"a b"@c.example`},
	{`"x <evil@e.example>" <a@b.example>`, "a@b.example"},
	{"friends: a@b.example, Bob <b@b.example>; , c@b.example", "a@b.example b@b.example c@b.example"},
	{"undisclosed-recipients:;", "!"},
	{"a@b.example,,c@d.example,", "a@b.example c@d.example"},
	{"=?utf-8?q?J=C3=B6rg?= <j@b.example>", "j@b.example"},
	{"Jörg <j@b.example>", "j@b.example"},
	{"a@[192.0.2.1]", "a@[192.0.2.1]"},
	{"a@b.example\r\n\t, c@d.example", "a@b.example c@d.example"},
	// X01: what two readers could read differently.
	{"", "!"},
	{"Jane Doe", "!"},
	{"a@b.example c@d.example", "!"},
	{"<a@b.example> <c@d.example>", "!"},
	{"<a@b.example> c@d.example", "!"},
	{"a@b.example <c@d.example", "!"},
	{"a@b.example> , c@d.example", "!"},
	{`"unended <a@b.example>`, "!"},
	{"(unended a@b.example", "!"},
	{`(ends in a backslash \`, "!"},
	{"a@b.example\x00c@d.example", "!"},
	{"<<a@b.example>>", "!"},
	{"<@relay.example:a@b.example>", "!"},
	{"g: h: a@b.example;;", "!"},
	{"g: a@b.example", "!"},
	{"a@b.example;", "!"},
	{`a\@x@b.example`, "!"},
	{`"a@b.example"`, "!"},
	{`x"@"`, "!"},
	{`[@b]`, "!"},
	{`<"a@b.example">`, "!"},
	{`g: "a@b.example";`, "!"},
	{`"x@"@b.example`, `"x@"@b.example`},
	{`<"a>b"@c.example>`, `"a>b"@c.example`},
	{`<a@b.example (>)>, c@d.example`, "a@b.example c@d.example"},
	{`<a@b.example (>`, "!"},
	{`<"a@b.example>`, "!"},
	{`a@b"c".example`, "!"},
}

func TestMailboxes(t *testing.T) {
	for _, c := range mailboxTests {
		got, ok := Mailboxes(c.value, 10)
		s := strings.Join(got, " ")
		if !ok {
			s = "!"
		}
		if s != c.want {
			t.Errorf("%q: %s, want %s", c.value, s, c.want)
		}
	}
}

func TestMailboxesIsBounded(t *testing.T) {
	if _, ok := Mailboxes(strings.Repeat("a@b.example,", 11), 10); ok {
		t.Error("more than asked for")
	}
	start := time.Now()
	for _, s := range []string{"(", "\"", "<", "a ", "a@b,", "[", "()", "\\", ": ", ";"} {
		Mailboxes(strings.Repeat(s, 1<<20/len(s)), 1<<30)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("%v for ten values of a mebibyte", d)
	}
}

func FuzzMailboxes(f *testing.F) {
	f.Add(`"Doe, Jane" <jane@b.example>, bob@c.example (x)`)
	f.Add("g: a@b, <c@d>; e . f @ g")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := Mailboxes(s, 100)
		if !ok {
			return
		}
		for _, m := range got {
			if !strings.Contains(m, "@") {
				t.Errorf("%q: %q is no address", s, m)
			}
			again, ok := Mailboxes("<"+m+">", 1)
			if !ok || again[0] != m {
				t.Errorf("%q: %q read again is %q, %v", s, m, again, ok)
			}
		}
	})
}
