package message

import (
	"fmt"
	"strings"
	"testing"
)

// show writes addresses as IMAP has them: name, route, mailbox, host; group{ and } for groups.
func show(list []Address) string {
	var s []string
	for _, a := range list {
		switch a.Kind {
		case GroupBegin:
			s = append(s, a.Mailbox+"{")
		case GroupEnd:
			s = append(s, "}")
		default:
			t := a.Mailbox + "@" + a.Host
			if a.Route != "" {
				t = a.Route + ":" + t
			}
			if a.Name != "" {
				t = "[" + a.Name + "]" + t
			}
			s = append(s, t)
		}
	}
	return strings.Join(s, " ")
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"", ""},
		{" , ,", ""},
		{"a@b.example", "a@b.example"},
		{"Jane Doe <jane@b.example>", "[Jane Doe]jane@b.example"},
		{`"Doe, Jane" <jane@b.example>, bob@c.example`, "[Doe, Jane]jane@b.example bob@c.example"},
		{`"Jane \"J\" Doe" <j@b>`, `[Jane "J" Doe]j@b`},
		{"a@b,,c@d,", "a@b c@d"},
		{"<a@b>,<c@d>", "a@b c@d"},
		// RFC 5322 appendix A.5 and A.6.
		{`Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, "[Pete]pete@silly.test"},
		{`A Group(Some people):Chris Jones <c@(Chris's host.)public.example>, joe@example.org, John <jdoe@one.test> (my dear friend); (the end of the group)`,
			"A Group{ [Chris Jones]c@public.example joe@example.org [John]jdoe@one.test }"},
		{"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", "Hidden recipients{ }"},
		{"Joe Q. Public <john.q.public@example.com>", "[Joe Q. Public]john.q.public@example.com"},
		{"Mary Smith <@node.test,@b.test:mary@example.net>, , jdoe@test  . example", "[Mary Smith]@node.test,@b.test:mary@example.net jdoe@test.example"},
		{"jane @ b . example (c)", "[c]jane@b.example"},
		// The comment as the name.
		{"jane@b.example (Jane (the one) Doe)", "[Jane (the one) Doe]jane@b.example"},
		{"(one) jane@b.example (two), x@y", "[two]jane@b.example x@y"},
		{"Jane <jane@b.example> (two)", "[Jane]jane@b.example"},
		{`"a b"@c.example`, `a b@c.example`},
		{`"a@b"@c`, `a@b@c`},
		{"a@[192.0.2.1], b@[IPv6:2001:db8::1]", "a@[192.0.2.1] b@[IPv6:2001:db8::1]"},
		{"=?utf-8?q?J=C3=B6rg?= =?utf-8?q?X?= <j@b>", "[=?utf-8?q?J=C3=B6rg?= =?utf-8?q?X?=]j@b"},
		{"J\u00f6rg <j\u00f6rg@b>", "[J\u00f6rg]j\u00f6rg@b"},
		{"g: a@b, C <c@d>; , e@f, h:;", "g{ a@b [C]c@d } e@f h{ }"},
		{`"a" "b" <a@b>, a"b"c <a@b>`, "[a b]a@b [abc]a@b"},
		{"(c) g: a@b;", "g{ a@b }"},
		// Broken.
		{"root", "root@"},
		{"Jane Doe", "[Jane Doe]@"},
		{"Jane Doe jane@b", "[Jane Doe]jane@b"},
		{"jane@b Jane", "jane@b"},
		{"a@b c@d", "a@b"},
		{"a@b; c@d", "a@b c@d"},
		{"<>", "@"},
		{"X <>", "[X]@"},
		{"<@b>", "@b"},
		{"<a@b", "a@b"},
		{"X <a@b, c@d", "[X]a@b c@d"},
		{"<a@b> c, d@e", "a@b d@e"},
		{"<a@b> <c@d>", "a@b"},
		{"<<a@b>>", "a@b"},
		{"a@b>, c@d", "a@b c@d"},
		{"a@b@c", "a@b@c"},
		{"g: a@b", "g{ a@b }"},
		{"g: h: a@b; c@d;", "g{ [h:]a@b } c@d"},
		{`"never ended <a@b>`, "never ended <a@b>@"},
		{`(never ended a@b`, ""},
		{`(ends in a backslash \`, ""},
		{"a@[1.2, c@d", "a@[1.2 c@d"},
		{"a@b\x00", "a@b\x00"},
		{"<@r1:@r2>", "@r1:@r2"},
	} {
		if got := show(Addresses(c.value, 100)); got != c.want {
			t.Errorf("%q: %s\nwant %s", c.value, got, c.want)
		}
	}
	if a := Addresses("a@b@c", 1)[0]; a.Mailbox != "a@b" || a.Host != "c" {
		t.Errorf("a@b@c: %+v", a)
	}
	if got := show(Addresses("g: a@b, c@d, e@f;", 3)); got != "g{ a@b c@d }" {
		t.Errorf("three of four: %s", got)
	}
}

func TestEnvelope(t *testing.T) {
	e := parse(t, "From: a@b\nDate: Mon, 1 Jan 2026\n 00:00:00 +0000\nSubject: \nTo: c@d\nTO: e@f\nSubject: x\nFrom: g@h\nMessage-ID:  <x@y> \nReply-To:\nCc: g:;\n\n").Root.Envelope()
	got := fmt.Sprintf("%q %q %v %q|%s|%s|%s|%s|%s|%s", e.Date, e.Subject, e.InReplyTo == nil, e.MessageID,
		show(e.From), show(e.Sender), show(e.ReplyTo), show(e.To), show(e.Cc), show(e.Bcc))
	if want := `"Mon, 1 Jan 2026 00:00:00 +0000" "" true "<x@y>"|a@b|a@b|a@b|c@d|g{ }|`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if e.Subject == nil {
		t.Error("an empty subject is none")
	}
	e = parse(t, "Sender: s@b\nReply-To: r@b\n\n").Root.Envelope()
	if e.From != nil || show(e.Sender) != "s@b" || show(e.ReplyTo) != "r@b" {
		t.Errorf("%+v", e)
	}
}

// unquoteSpec takes the quotes off the local part of an addr-spec, for comparison.
func unquoteSpec(s string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			inside = !inside
		case c == '\\' && inside && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '[' && !inside:
			n := max(quoted(s[i:], c), 1)
			b.WriteString(s[i : i+n])
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// agree: where Mailboxes, which decides, is sure, Addresses, which shows, has the same mailboxes.
func agree(t testing.TB, value string) {
	t.Helper()
	sure, ok := Mailboxes(value, 1000)
	if !ok {
		return
	}
	var shown []string
	for _, a := range Addresses(value, 1<<20) {
		if a.Kind == OneMailbox {
			shown = append(shown, a.Mailbox+"@"+a.Host)
		}
	}
	for i := range sure {
		sure[i] = unquoteSpec(sure[i])
	}
	if strings.Join(sure, "|") != strings.Join(shown, "|") {
		t.Errorf("%q: decided %q, shown %q", value, sure, shown)
	}
}

// X01: of every form in which two readers could see two authors, all of ours see the same.
func TestX01_OneReading(t *testing.T) {
	for _, c := range []struct{ name, header, from string }{
		{"two From fields", "From: a@b\r\nFrom: c@d\r\n", "a@b"},
		{"two From fields, one empty", "From:\r\nFrom: c@d\r\n", ""},
		{"two addresses", "From: a@b, c@d\r\n", "a@b c@d"},
		{"after a line of white space", "X: y\r\n \r\nFrom: a@b\r\n", "a@b"},
		{"after an empty line", "X: y\r\n\r\nFrom: a@b\r\n", ""},
		{"after a line of CR", "X: y\r\n\r\r\nFrom: a@b\r\n", ""},
		{"space before the colon", "From : a@b\r\nFrom: c@d\r\n", "a@b"},
		{"tab before the colon", "From\t: a@b\r\nFrom: c@d\r\n", "a@b"},
		{"NUL before the colon", "From\x00: a@b\r\nFrom: c@d\r\n", ""},
		{"space before the name", "X: y\r\n From: a@b\r\nFrom: c@d\r\n", "c@d"},
		{"case", "fRoM: a@b\r\nFrom: c@d\r\n", "a@b"},
		{"folded at once", "From:\r\n a@b\r\n", "a@b"},
		{"lone CR", "X: y\rFrom: a@b\r\nFrom: c@d\r\n", "c@d"},
		{"lone LF", "X: y\nFrom: a@b\r\n", "a@b"},
		{"empty", "From:\r\n", ""},
		{"null address", "From: <>\r\n", "@"},
		{"name that is an address", "From: \"a@b\" <c@d>\r\n", "[a@b]c@d"},
		{"two angle addresses", "From: <a@b> <c@d>\r\n", "a@b"},
	} {
		b := c.header + "\r\nbody\r\n"
		root := parse(t, b).Root
		if got := show(root.Envelope().From); got != c.from {
			t.Errorf("%s: From %s, want %s", c.name, got, c.from)
		}
		// The field that smtpd, which reads the whole as it comes, and deliver find is the field of the envelope.
		s := Scan([]byte(b), true)
		var first Field
		for {
			f, ok := s.Next()
			if !ok || f.Is("From") {
				first = f
				break
			}
		}
		own, _ := root.Field("From")
		if string(first.Raw) != string(own.Raw) {
			t.Errorf("%s: Scan finds %q, the part has %q", c.name, first.Raw, own.Raw)
		}
		if first.Raw != nil {
			agree(t, string(first.Value()))
		}
	}
	for _, c := range mailboxTests {
		agree(t, c.value)
	}
}

func FuzzAddresses(f *testing.F) {
	for _, c := range mailboxTests {
		f.Add(c.value)
	}
	f.Add("g: a@b, C <c@d>; , e . \"f\" @ h, <@r,@s:i@[1.2]> (x \\) y)")
	f.Fuzz(func(t *testing.T, s string) {
		agree(t, s)
		found := Addresses(s, 50)
		group := false
		for _, a := range found {
			switch a.Kind {
			case GroupBegin:
				if group {
					t.Errorf("%q: a group in a group", s)
				}
				group = true
			case GroupEnd:
				if !group {
					t.Errorf("%q: the end of no group", s)
				}
				group = false
			}
		}
		if group || len(found) > 51 {
			t.Errorf("%q: %d addresses, a group open: %v", s, len(found), group)
		}
	})
}
