package imap

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"postamt/internal/message"
)

func TestAppendString(t *testing.T) {
	for in, want := range map[string][2]string{
		"":               {`""`, ""},
		"NIL":            {`"NIL"`, ""},
		"plain text {5}": {`"plain text {5}"`, ""},
		`a "b" \c`:       {`"a \"b\" \\c"`, ""},
		"a\tb\x7f":       {"\"a\tb\x7f\"", ""},
		"a\r\nb":         {"{4}\r\na\r\nb", ""},
		"a\nb":           {"{3}\r\na\nb", ""},
		"a\rb":           {"{3}\r\na\rb", ""},
		"a\x00b":         {`"a?b"`, ""},
		"\x00\n\x00":     {"{3}\r\n?\n?", ""},
		"ä":              {"{2}\r\nä", `"ä"`},
		"12345678ä":      {"{10}\r\n12345678ä", `"12345678ä"`},
		`1234567"`:       {`"1234567\""`, ""},
		`12345678\`:      {`"12345678\\"`, ""},
		"ä\xff":          {"{3}\r\nä\xff", "{3}\r\nä\xff"},
		"ä\"\x00":        {"{4}\r\nä\"?", `"ä\"?"`},
	} {
		if want[1] == "" {
			want[1] = want[0]
		}
		for m, want := range want {
			if got := string(AppendString(nil, in, Mode(m))); got != want {
				t.Errorf("%q, mode %d: %q, want %q", in, m, got, want)
			}
			if got := string(AppendString(nil, []byte(in), Mode(m))); got != want {
				t.Errorf("%q, mode %d: %q, want %q", in, m, got, want)
			}
		}
	}
	if got := string(AppendNString(AppendNString(nil, nil, 0), []byte{}, 0)); got != `NIL""` {
		t.Error(got)
	}
	if got := string(AppendOrNIL(AppendOrNIL(nil, "", 0), "x", 0)); got != `NIL"x"` {
		t.Error(got)
	}
	if got := string(AppendLiteralSize(AppendLiteralSize(nil, 3, false), 1<<40, true)); got != "{3}\r\n~{1099511627776}\r\n" {
		t.Error(got)
	}
}

// Eight octets at a time find what one at a time finds.
func TestPlain(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte("a"), n)
				b[at] = byte(c)
				want := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
				if plain(b) != want {
					t.Fatalf("%q: %v", b, !want)
				}
			}
		}
	}
	if err := quick.Check(func(b []byte) bool {
		return plain(b) == !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r >= 0x80 || r == '"' || r == '\\' })
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestAppendAString(t *testing.T) {
	for in, want := range map[string]string{"INBOX": "INBOX", "a]b": "a]b", "": `""`, "nil": `"nil"`, "NILS": "NILS", "a b": `"a b"`, "a%": `"a%"`, "a/b.c": "a/b.c", `a\b`: `"a\\b"`} {
		if got := string(AppendAString(nil, in, 0)); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string][2]string{"INBOX": {"INBOX", "INBOX"}, "Entwürfe": {"Entw&APw-rfe", `"Entwürfe"`}, "a & b": {`"a &- b"`, `"a & b"`}} {
		for m, want := range want {
			if got := string(AppendMailbox(nil, in, Mode(m))); got != want {
				t.Errorf("%q is %s, want %s", in, got, want)
			}
		}
	}
	// Of flags what is none is left out.
	if got := string(AppendFlags(nil, `\Seen`, "$Junk", "a b", "", `\`, `\*`, "x)", "ä", "a]", "ok")); got != `(\Seen $Junk \* ok)` {
		t.Error(got)
	}
	if got := string(AppendFlags(nil)); got != "()" {
		t.Error(got)
	}
}

// What is written can be read, and is the same.
func FuzzStrings(f *testing.F) {
	for _, s := range []string{"", "a", "NIL", `"\`, "a\r\nb", "Entwürfe", "\xff", "\x00", "inbox", "&", "{5}", "{5+}\r\n", "*%", "a]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range []Mode{0, UTF8} {
			noNUL := strings.ReplaceAll(s, "\x00", "?")
			if len(s) > 4000 {
				return
			}
			for _, x := range []struct {
				name, text string
				read       func(*Decoder) string
				want       string
			}{
				{"string", string(AppendString(nil, s, m)), (*Decoder).String, noNUL},
				{"astring", string(AppendAString(nil, s, m)), (*Decoder).AString, noNUL},
				{"mailbox", string(AppendMailbox(nil, s, m)), (*Decoder).Mailbox, s},
				{"list-mailbox", string(AppendMailbox(nil, s, m)), (*Decoder).ListMailbox, s},
			} {
				if x.name[0] != 's' && x.name[0] != 'a' && !isName(s) {
					continue
				}
				if x.name == "mailbox" && strings.EqualFold(s, "INBOX") {
					x.want = "INBOX"
				}
				d := arguments(t, x.text, m)
				if got := x.read(d); d.End() != nil || got != x.want {
					t.Errorf("%s %q is %q is %q, %v", x.name, s, x.text, got, d.Err())
				}
			}
		}
	})
}

// tree reads one value of a response: a string, an atom, or a list of values.
func tree(s string) (any, string, error) {
	bad := func() (any, string, error) { return nil, "", fmt.Errorf("at %.40q", s) }
	switch {
	case s == "":
		return bad()
	case s[0] == '(':
		list := []any{}
		for s = s[1:]; ; {
			if s == "" {
				return bad()
			}
			if s[0] == ')' {
				return list, s[1:], nil
			}
			// Between lists there need be no space: bodies, addresses.
			if len(list) > 0 && s[0] == ' ' {
				s = s[1:]
			} else if len(list) > 0 && s[0] != '(' {
				return bad()
			}
			v, rest, err := tree(s)
			if err != nil {
				return nil, "", err
			}
			list = append(list, v)
			s = rest
		}
	case s[0] == '"':
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			switch c := s[i]; {
			case c == '"':
				return b.String(), s[i+1:], nil
			case c == '\r' || c == '\n' || c == 0 || c >= 0x80:
				return bad()
			case c == '\\':
				i++
			}
			b.WriteByte(s[i])
		}
		return bad()
	case s[0] == '{':
		n, k := 0, 0
		if _, err := fmt.Sscanf(s, "{%d}\r\n", &n); err != nil {
			return bad()
		}
		if k = strings.Index(s, "\n") + 1; len(s) < k+n || strings.IndexByte(s[k:k+n], 0) >= 0 {
			return bad()
		}
		return s[k : k+n], s[k+n:], nil
	}
	i := 0
	for i < len(s) && isAtomChar(s[i]) {
		i++
	}
	if i == 0 {
		return bad()
	}
	if s[:i] == "NIL" {
		return nil, s[i:], nil
	}
	return atom(s[:i]), s[i:], nil
}

type atom string

// messageAddresses gives the addresses of a parsed message.
type messageAddresses struct{ *message.Envelope }

func (e messageAddresses) AppendAddresses(dst []byte, f AddressField, m Mode) []byte {
	for _, a := range [...][]message.Address{From: e.From, Sender: e.Sender, ReplyTo: e.ReplyTo, To: e.To, Cc: e.Cc, Bcc: e.Bcc}[f] {
		switch a.Kind {
		case message.OneMailbox:
			dst = AppendAddress(dst, a.Name, a.Route, a.Mailbox, a.Host, m)
		case message.GroupBegin:
			dst = AppendGroup(dst, a.Mailbox, m)
		case message.GroupEnd:
			dst = AppendGroupEnd(dst)
		}
	}
	return dst
}

func appendEnvelope(dst []byte, e *message.Envelope) []byte {
	return AppendEnvelope(dst, e.Date, e.Subject, e.InReplyTo, e.MessageID, messageAddresses{e}, 0)
}

func params(ps message.Params) (out []Param[string]) {
	for _, p := range ps {
		out = append(out, Param[string]{p.Name, p.Value})
	}
	return out
}

func appendBody(dst []byte, p *message.Part, extended bool) []byte {
	b := &BodyPart[string]{Type: p.Type, Subtype: p.Subtype, Params: params(p.Params.Joined()), ID: p.ID, Description: p.Description, Encoding: p.Encoding, Octets: uint64(p.Body.Wire), Lines: uint64(p.Body.Lines),
		MD5: p.MD5, Disposition: p.Disposition, DispParams: params(p.DispParams), Language: p.Language, Location: p.Location}
	kind := b.Kind(p.IsMessage(), p.IsMultipart())
	dst = BeginBody(dst, b, kind, 0)
	for _, c := range p.Children {
		dst = appendBody(dst, c, extended)
	}
	if kind == BodyMessage {
		dst = appendEnvelope(append(dst, ' '), p.Message.Envelope())
		dst = appendBody(append(dst, ' '), p.Message, extended)
	}
	return EndBody(dst, b, kind, extended, 0)
}

// RFC 9051 section 7.5.2, 8.
func TestEnvelopeAndBody(t *testing.T) {
	const msg = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nSubject: IMAP4rev2 WG mtg summary \"and\"\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\nTo: list: imap@cac.example, \"K. \\\"K\\\"\" <k@example>;\r\n" +
		"Cc: nobody:;\r\nBcc:\r\nMessage-ID: <B27397-0100000@cac.washington.ed>\r\nContent-Type: multipart/mixed; boundary=x\r\nContent-Language: de, en\r\n\r\n" +
		"--x\r\nContent-ID: <1@x>\r\nContent-Disposition: inline; filename=\"a b\"\r\n\r\nHällo\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: \xc3\xa4\r\n\r\nbody\r\n--x\r\n" +
		"Content-Type: image/png; name*=utf-8''%C3%A4\r\nContent-Transfer-Encoding: BASE64\r\nContent-MD5: Q2hlY2s=\r\nContent-Location: http://x/\r\n\r\nAAAA\r\n--x--\r\n"
	parsed, err := message.Parse(strings.NewReader(msg), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const envelope = `("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary \"and\"" (("Terry Gray" NIL "gray" "cac.washington.edu")) (("Terry Gray" NIL "gray" "cac.washington.edu")) ` +
		`(("Terry Gray" NIL "gray" "cac.washington.edu")) ((NIL NIL "list" NIL)(NIL NIL "imap" "cac.example")("K. \"K\"" NIL "k" "example")(NIL NIL NIL NIL)) ((NIL NIL "nobody" NIL)(NIL NIL NIL NIL)) NIL NIL "<B27397-0100000@cac.washington.ed>")`
	if got := string(appendEnvelope(nil, parsed.Root.Envelope())); got != envelope {
		t.Errorf("%s\nwant\n%s", got, envelope)
	}
	for extended, want := range map[bool]string{
		false: `(("text" "plain" NIL "<1@x>" NIL "7bit" 6 0)("message" "rfc822" NIL NIL NIL "7bit" 19 2 (NIL {2}` + "\r\nä" + ` NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" NIL NIL NIL "7bit" 4 0) 2)` +
			`("image" "png" ("name*" "utf-8''%C3%A4") NIL NIL "BASE64" 4) "mixed")`,
	} {
		got := string(appendBody(nil, parsed.Root, extended))
		v, rest, err := tree(got)
		if err != nil || rest != "" {
			t.Errorf("%s: %v, %q", got, err, rest)
		}
		list := v.([]any)
		if len(list) != 4 || list[3] != "mixed" || len(list[0].([]any)) != 8 || len(list[1].([]any)) != 10 || len(list[2].([]any)) != 7 {
			t.Errorf("%s\nwant the form of\n%s", got, want)
		}
	}
	v, _, err := tree(string(appendBody(nil, parsed.Root, true)))
	if err != nil {
		t.Fatal(err)
	}
	list := v.([]any)
	want := []any{"mixed", []any{"boundary", "x"}, nil, []any{"de", "en"}, nil}
	if !reflect.DeepEqual(list[3:], want) {
		t.Errorf("%v, want %v", list[3:], want)
	}
	if text := list[0].([]any); !reflect.DeepEqual(text[8:], []any{nil, []any{"inline", []any{"filename", "a b"}}, nil, nil}) {
		t.Errorf("%v", text)
	}
	if image := list[2].([]any); !reflect.DeepEqual(image[7:], []any{"Q2hlY2s=", nil, nil, "http://x/"}) || !reflect.DeepEqual(image[2], []any{"name*", "utf-8''%C3%A4"}) {
		t.Errorf("%v", image)
	}
	if rfc822 := list[1].([]any); !reflect.DeepEqual(rfc822[7].([]any)[1], "ä") {
		t.Errorf("%v", rfc822)
	}
}

// Whatever a message is, its envelope and its structure are values of the grammar.
func FuzzBody(f *testing.F) {
	f.Add([]byte("From: a <b@c>\nContent-Type: multipart/x; boundary=b\n\n--b\nContent-Type: text/\"\\\"\n\n--b--"))
	f.Add([]byte("Subject: \xff\x00\"\\\r\rx\nTo: g: a, @;\n\n"))
	f.Add([]byte("Content-Type: message/rfc822\nContent-Disposition: \xe4; x=\"a\\\"\"\n\nContent-Type: multipart/mixed\n\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		parsed, err := message.Parse(bytes.NewReader(msg), message.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []string{string(appendEnvelope(nil, parsed.Root.Envelope())), string(appendBody(nil, parsed.Root, true)), string(appendBody(nil, parsed.Root, false))} {
			if _, rest, err := tree(got); err != nil || rest != "" {
				t.Errorf("%q: %v, %q", got, err, rest)
			}
		}
	})
}

// record gives addresses from octets that lie somewhere, as a record on disk does.
type record struct{ name, mailbox, host []byte }

func (r *record) AppendAddresses(dst []byte, f AddressField, m Mode) []byte {
	if f == Bcc {
		return dst
	}
	return AppendAddress(dst, r.name, nil, r.mailbox, r.host, m)
}

func (r *record) appendEnvelope(dst []byte) []byte {
	return AppendEnvelope(dst, date, subject, nil, messageID, r, 0)
}

var (
	date      = []byte("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)")
	subject   = []byte("Re: IMAP4rev2 WG mtg summary and minutes of the meeting")
	messageID = []byte("<B27397-0100000@cac.washington.edu>")
	someone   = &record{[]byte("Terry Gray"), []byte("gray"), []byte("cac.washington.edu")}
)

// ENVELOPE of 100,000 messages: a client that opens a mailbox asks for them. They take 30 ms here (BenchmarkEnvelope); the bound is for a machine with other work.
func TestEnvelopeBudget(t *testing.T) {
	dst := make([]byte, 0, 4096)
	best := time.Hour
	for range 5 {
		began := time.Now()
		for range 100_000 {
			dst = someone.appendEnvelope(dst[:0])
		}
		best = min(best, time.Since(began))
	}
	if best > 400*time.Millisecond && !raceEnabled {
		t.Errorf("%v", best)
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	flags := []string{`\Seen`, "$Junk"}
	part := &BodyPart[string]{Type: "text", Subtype: "plain", Params: []Param[string]{{"charset", "utf-8"}}, Encoding: "7bit"}
	if n := testing.AllocsPerRun(100, func() {
		dst = someone.appendEnvelope(dst[:0])
		dst = AppendDateTime(dst, when)
		dst = AppendFlags(dst, flags...)
		dst = AppendString(dst, "a \"quoted\" ä", 0)
		dst = AppendString(dst, "a string that is longer than what a temporary copy would find room for on the stack", UTF8)
		dst = AppendMailbox(dst, "Archive/2026", 0)
		dst = EndBody(BeginBody(dst, part, BodyText, 0), part, BodyText, true, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEnvelope(b *testing.B) {
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = someone.appendEnvelope(dst[:0])
	}
	b.SetBytes(int64(len(dst)))
}
