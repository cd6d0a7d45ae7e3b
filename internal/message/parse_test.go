package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func parse(t testing.TB, b string) *Message {
	t.Helper()
	m, err := Parse(strings.NewReader(b), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// outline writes a tree on a line: types, bodies of leaves, children in brackets, a message in angle brackets.
func outline(b string, p *Part) string {
	s := p.Type + "/" + p.Subtype
	switch {
	case p.Children != nil:
		var c []string
		for _, child := range p.Children {
			c = append(c, outline(b, child))
		}
		return s + "[" + strings.Join(c, " ") + "]"
	case p.Message != nil:
		return s + "<" + outline(b, p.Message) + ">"
	}
	return fmt.Sprintf("%s%q", s, b[p.Body.Offset:p.Body.End()])
}

func TestParse(t *testing.T) {
	const mixed = "Content-Type: multipart/mixed; boundary=x\n\n"
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", `text/plain""`},
		{"no header", "hello\n", `text/plain"hello\n"`},
		{"no body", "A: 1\n", `text/plain""`},
		{"plain", "A: 1\n\nfoo\n", `text/plain"foo\n"`},
		{"CR LF", "A: 1\r\n\r\nfoo\r\n", `text/plain"foo\r\n"`},
		{"the body begins where no field can", "A: 1\nfoo\nB: 2\n", `text/plain"foo\nB: 2\n"`},
		{"two parts", mixed + "pre\n--x\n\none\n--x\nContent-Type: text/html\n\ntwo\n\n--x--\nepi\n", `multipart/mixed[text/plain"one" text/html"two\n"]`},
		{"two parts, CR LF", strings.ReplaceAll(mixed+"--x\n\none\n--x\n\ntwo\n--x--\n", "\n", "\r\n"), `multipart/mixed[text/plain"one" text/plain"two"]`},
		{"line ends mixed", mixed + "--x\r\n\r\none\n--x\n\ntwo\r\r\n--x--", `multipart/mixed[text/plain"one" text/plain"two\r"]`},
		{"LF behind CR LF", "A: 1\r\n\none\r\n\n\r\n\n", `text/plain"one\r\n\n\r\n\n"`},
		{"white space behind the boundary", mixed + "--x \t\n\none\n--x-- \n", `multipart/mixed[text/plain"one"]`},
		{"not the whole line", mixed + "--x\n\none\n--xy\n--x-\n--x---\n-- x\n --x\n--x--\n", `multipart/mixed[text/plain"one\n--xy\n--x-\n--x---\n-- x\n --x"]`},
		{"no end", mixed + "--x\n\none\n", `multipart/mixed[text/plain"one\n"]`},
		{"an end and then another part", mixed + "--x\n\none\n--x--\n--x\n\ntwo\n", `multipart/mixed[text/plain"one"]`},
		{"no part", mixed + "foo\n", `multipart/mixed[text/plain""]`},
		{"only the end", mixed + "--x--\n", `multipart/mixed[text/plain""]`},
		{"no boundary", "Content-Type: multipart/mixed\n\n--x\n\none\n--x--\n", `multipart/mixed[text/plain""]`},
		{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\none\n----\n", `multipart/mixed[text/plain""]`},
		{"boundary too long", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("x", 257) + "\n\n--" + strings.Repeat("x", 257) + "\n\none\n", `multipart/mixed[text/plain""]`},
		{"boundary of 256", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("x", 256) + "\n\n--" + strings.Repeat("x", 256) + "\n\none\n", `multipart/mixed[text/plain"one\n"]`},
		{"boundary with a space at its end", "Content-Type: multipart/mixed; boundary=\"x \"\n\n--x \n\none\n--x--\n", `multipart/mixed[text/plain"one"]`},
		{"empty parts", mixed + "--x\n--x\n\n--x\nA: 1\n--x\nA: 1\n\n--x\n\n\n--x--\n", `multipart/mixed[text/plain"" text/plain"" text/plain"" text/plain"" text/plain""]`},
		{"a delimiter that looks like a field", "Content-Type: multipart/mixed; boundary=\"x:y\"\n\n--x:y\nA: 1\n--x:y\n\ntwo\n--x:y--\n", `multipart/mixed[text/plain"" text/plain"two"]`},
		{"no empty line before the first part", "Content-Type: multipart/mixed; boundary=x\n--x\n\none\n--x--\n", `multipart/mixed[text/plain"one"]`},
		{"a boundary that begins with another", mixed + "--x\nContent-Type: multipart/alternative; boundary=xx\n\n--xx\n\none\n--xx--\n--x\n\ntwo\n--x--\n", `multipart/mixed[multipart/alternative[text/plain"one"] text/plain"two"]`},
		{"a boundary that is another's end", mixed + "--x\nContent-Type: multipart/mixed; boundary=x--\n\n--x--\n\none\n--x----\n--x\n\ntwo\n--x--\n", `multipart/mixed[multipart/mixed[text/plain"one"] text/plain"two"]`},
		{"the same boundary within", mixed + "--x\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\none\n--x--\n--x\n\ntwo\n--x--\n", `multipart/mixed[multipart/mixed[text/plain"one"] text/plain"two"]`},
		{"the inner one has no end", mixed + "--x\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\none\n--x\n\ntwo\n--x--\n", `multipart/mixed[multipart/mixed[text/plain"one"] text/plain"two"]`},
		{"the inner one has no part", mixed + "--x\nContent-Type: multipart/mixed; boundary=y\n\n--x\n\ntwo\n--x--\n", `multipart/mixed[multipart/mixed[text/plain""] text/plain"two"]`},
		{"digest", "Content-Type: multipart/digest; boundary=x\n\n--x\n\nA: 1\n\none\n--x\nContent-Type: text/plain\n\ntwo\n--x--\n", `multipart/digest[message/rfc822<text/plain"one"> text/plain"two"]`},
		{"message", "Content-Type: message/rfc822\n\nContent-Type: text/html\n\none\n", `message/rfc822<text/html"one\n">`},
		{"message/global", "Content-Type: MESSAGE/GLOBAL\n\nA: 1\n\none\n", `MESSAGE/GLOBAL<text/plain"one\n">`},
		{"message at the end of a header", "Content-Type: message/rfc822\n", `message/rfc822<text/plain"">`},
		{"message without an empty line", "Content-Type: message/rfc822\n(c)\nA: 1\n\none", `message/rfc822<text/plain"(c)\nA: 1\n\none">`},
		{"message, encoded", "Content-Type: message/rfc822\nContent-Transfer-Encoding: Base64\n\nA: 1\n\none\n", `message/rfc822<text/plain"A: 1\n\none\n">`},
		{"message, encoded, without a body", "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n", `message/rfc822<text/plain"">`},
		{"multipart in a message in a multipart", mixed + "--x\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\none\n--y--\n--x--\n", `multipart/mixed[message/rfc822<multipart/mixed[text/plain"one"]>]`},
		{"cut off in an inner header", mixed + "--x\nContent-Type: message/rfc822\n\nA: 1\n--x\n\ntwo", `multipart/mixed[message/rfc822<text/plain""> text/plain"two"]`},
		{"boundary of RFC 2231", "Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\n\none\n--ab--\n", `multipart/mixed[text/plain"one"]`},
		{"NUL", mixed + "--x\n\n\x00\n\x00--x\n--x--\n", `multipart/mixed[text/plain"\x00\n\x00--x"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parse(t, c.in)
			if got := outline(c.in, m.Root); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			checkMessage(t, c.in, m)
		})
	}
}

// Sizes are those that Dovecot tells of the same messages.
func TestSizes(t *testing.T) {
	m := parse(t, "Content-Type: multipart/mixed; boundary=x\n\npre\n--x\n\nhello\n--x\nContent-Type: message/rfc822\n\nSubject: in\n\nbody\n--x\nContent-Type: text/plain\n--x\n\n--x--\nepi\n")
	if m.Wire != 172 {
		t.Errorf("%d octets, want 172", m.Wire)
	}
	for i, want := range []struct{ wire, lines int64 }{{5, 0}, {19, 2}, {0, 0}, {0, 0}} {
		if b := m.Root.Children[i].Body; b.Wire != want.wire || b.Lines != want.lines {
			t.Errorf("part %d: %d octets, %d lines, want %v", i+1, b.Wire, b.Lines, want)
		}
	}
}

// measure is Span as its definition has it.
func measure(b string, s Span) Span {
	part := b[s.Offset:s.End()]
	s.Lines = int64(strings.Count(part, "\n"))
	s.Wire = s.Octets + s.Lines - int64(strings.Count(part, "\r\n"))
	return s
}

// checkMessage checks what holds for the parts of every message.
func checkMessage(t testing.TB, b string, m *Message) {
	t.Helper()
	if m.Span != measure(b, Span{Octets: int64(len(b))}) {
		t.Errorf("the message is %+v", m.Span)
	}
	root := m.Root
	if root.Header.Offset != 0 || root.Body.End() != m.Octets {
		t.Errorf("header at %d, body to %d, message %d", root.Header.Offset, root.Body.End(), m.Octets)
	}
	checkPart(t, b, m, root)
}

func checkPart(t testing.TB, b string, m *Message, p *Part) {
	t.Helper()
	if p.Header.End() != p.Body.Offset || p.Header.Octets < 0 || p.Body.Octets < 0 || p.Body.End() > int64(len(b)) {
		t.Fatalf("header %+v, body %+v of %d", p.Header, p.Body, len(b))
	}
	if p.Header != measure(b, p.Header) || p.Body != measure(b, p.Body) {
		t.Errorf("header %+v, body %+v, want %+v, %+v", p.Header, p.Body, measure(b, p.Header), measure(b, p.Body))
	}
	// The header is what Scan finds there, and its fields are kept as they came.
	if !m.Truncated {
		s := Scan([]byte(b[p.Header.Offset:p.Body.End()]), true)
		for {
			if _, ok := s.Next(); !ok {
				break
			}
		}
		if n := int64(s.Body()); n < p.Header.Octets || n > p.Header.Octets && p.Message == nil && p.Children == nil && p.Header.Octets > 0 {
			// More: it is a part made up, with no header.
			t.Errorf("header of %d octets, Scan sees %d", p.Header.Octets, n)
		}
		if !strings.HasPrefix(b[p.Header.Offset:], string(p.Fields())) || int64(len(p.Fields())) > p.Header.Octets || p.Header.Octets > int64(len(p.Fields()))+2 {
			t.Errorf("fields %q, header %q", p.Fields(), b[p.Header.Offset:p.Header.End()])
		}
	}
	if p.IsMultipart() != (len(p.Children) > 0) || p.IsMessage() != (p.Message != nil) {
		t.Errorf("%s/%s has %d children and a message %v", p.Type, p.Subtype, len(p.Children), p.Message != nil)
	}
	if p.Message != nil {
		if p.Message.Header.Offset != p.Body.Offset || p.Message.Body.End() != p.Body.End() {
			t.Errorf("message from %d to %d in the body %+v", p.Message.Header.Offset, p.Message.Body.End(), p.Body)
		}
		checkPart(t, b, m, p.Message)
	}
	at := p.Body.Offset
	for _, c := range p.Children {
		if c.Header.Offset < at || c.Body.End() > p.Body.End() {
			t.Errorf("child from %d to %d, want within %d and %d", c.Header.Offset, c.Body.End(), at, p.Body.End())
		}
		at = c.Body.End()
		checkPart(t, b, m, c)
	}
}

func corpus(t testing.TB) map[string]string {
	t.Helper()
	const dir = "../../../shared/corpus"
	paths, _ := filepath.Glob(dir + "/*/*.eml")
	if len(paths) == 0 {
		t.Skip("no corpus in ../shared/corpus of the repository's directory")
	}
	messages := map[string]string{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		messages[strings.TrimPrefix(path, dir+"/")] = string(b)
	}
	return messages
}

func TestCorpus(t *testing.T) {
	for name, b := range corpus(t) {
		for form, b := range map[string]string{"as it is": b, "CR LF": strings.ReplaceAll(strings.ReplaceAll(b, "\r\n", "\n"), "\n", "\r\n")} {
			t.Run(name+" "+form, func(t *testing.T) {
				m := parse(t, b)
				checkMessage(t, b, m)
				checkAgain(t, b, m.Root, true)
			})
		}
	}
}

// checkAgain: a part is, read by itself, what it was in the whole. Not so a part that is a message by default only.
func checkAgain(t testing.TB, b string, p *Part, deep bool) {
	for _, c := range p.Children {
		if _, ok := c.Field("Content-Type"); c.Header.Octets == 0 && c.Body.Octets == 0 || !ok && p.Is("multipart", "digest") {
			continue
		}
		own := b[c.Header.Offset:c.Body.End()]
		again := parse(t, own)
		if got, want := outline(own, again.Root), outline(b, c); got != want {
			t.Errorf("by itself %s\nin the whole %s", got, want)
		}
		if deep {
			checkAgain(t, b, c, true)
		}
	}
	if m := p.Message; m != nil && m.Header.Octets > 0 {
		own := b[m.Header.Offset:m.Body.End()]
		if got, want := outline(own, parse(t, own).Root), outline(b, m); got != want {
			t.Errorf("by itself %s\nin the whole %s", got, want)
		}
	}
}

// How the octets arrive changes nothing, and the reader that a caller brings is the one that is used.
func TestReaders(t *testing.T) {
	in := "A: " + strings.Repeat("x", Block) + "\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" +
		strings.Repeat("y", Block-1) + "\r\n" + strings.Repeat("z", 2*Block) + "\r\n--b" + strings.Repeat(" ", Block) + "\n--b--\r\n"
	want := parse(t, in)
	checkMessage(t, in, want)
	for name, r := range map[string]io.Reader{
		"octets":       iotest.OneByteReader(strings.NewReader(in)),
		"halves":       iotest.HalfReader(strings.NewReader(in)),
		"data and EOF": iotest.DataErrReader(strings.NewReader(in)),
		"bufio":        bufio.NewReaderSize(strings.NewReader(in), 4*Block),
	} {
		m, err := Parse(r, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Span != want.Span || outline(in, m.Root) != outline(in, want.Root) || !bytes.Equal(m.Root.Fields(), want.Root.Fields()) {
			t.Errorf("%s: %+v %.200s", name, m.Span, outline(in, m.Root))
		}
	}
	broken := errors.New("broken")
	if _, err := Parse(iotest.ErrReader(broken), Limits{}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestLimits(t *testing.T) {
	in := "A: 1\nTo: " + strings.Repeat("a@b.example, ", 100) + "\n c@d.example\nContent-Type: multipart/mixed; boundary=x\n\n--x\nB: 2\n\none\n--x\nC: 3\n\ntwo\n--x--\n"
	for _, c := range []struct {
		l    Limits
		want string // fields of the root, of the parts
		tree string
	}{
		{Limits{}, "A To Content-Type, B, C", "multipart/mixed[text/plain\"one\" text/plain\"two\"]"},
		{Limits{Field: 100}, "A To Content-Type, B, C", "multipart/mixed[text/plain\"one\" text/plain\"two\"]"},
		{Limits{Header: 100}, "A To", ""},
		{Limits{Header: 7}, "A", ""},
		{Limits{Header: 8}, "A", ""},
		{Limits{Header: 9}, "A To", ""},
		{Limits{Field: 6}, "A To", ""},
		{Limits{Headers: 1370}, "A To Content-Type, B, ", "multipart/mixed[text/plain\"one\" text/plain\"two\"]"},
		{Limits{Depth: 1}, "A To Content-Type, ", `multipart/mixed[text/plain""]`},
		{Limits{Parts: 2}, "A To Content-Type, B", `multipart/mixed[text/plain"one\n--x\nC: 3\n\ntwo"]`},
		{Limits{Parts: 1}, "A To Content-Type, ", `multipart/mixed[text/plain""]`},
	} {
		m, err := Parse(strings.NewReader(in), c.l)
		if err != nil {
			t.Fatal(err)
		}
		names := func(p *Part) string {
			f, s := fields(p.Fields(), true)
			if s.Offset() != len(p.Fields()) {
				t.Errorf("%+v: fields end at %d of %q", c.l, s.Offset(), p.Fields())
			}
			var n []string
			for _, f := range f {
				n = append(n, string(f.Name()))
			}
			return strings.Join(n, " ")
		}
		got := names(m.Root)
		for _, c := range m.Root.Children {
			got += ", " + names(c)
		}
		if got != c.want {
			t.Errorf("%+v: fields %q, want %q", c.l, got, c.want)
		}
		if tree := outline(in, m.Root); c.tree != "" && tree != c.tree {
			t.Errorf("%+v: %s, want %s", c.l, tree, c.tree)
		}
		if want := c.l.Field+c.l.Header+c.l.Headers > 0; m.Truncated != want {
			t.Errorf("%+v: truncated %v", c.l, m.Truncated)
		}
		checkMessage(t, in, m)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nA: 1\r\n\r\n--x--\r\n", byte(0))
	f.Add("Content-Type: multipart/digest; boundary=x\n\n--x\n\nA: 1\n\n--x\nContent-Type: multipart/mixed;boundary=\"x-\"\n\n--x-\n\n\r\r\n--x---\n--x--", byte(20))
	for _, b := range corpusOrNone() {
		f.Add(b, byte(0))
	}
	f.Fuzz(func(t *testing.T, b string, small byte) {
		m := parse(t, b)
		checkMessage(t, b, m)
		checkAgain(t, b, m.Root, false)
		m.Root.Envelope()
		m, err := Parse(strings.NewReader(b), Limits{Field: int(small) + 1, Header: 2*int(small) + 1, Headers: 3 * (int(small) + 1), Depth: int(small)/8 + 1, Parts: int(small)/4 + 1})
		if err != nil {
			t.Fatal(err)
		}
		if !m.Truncated { // else the types can differ
			checkMessage(t, b, m)
		}
		if _, s := fields(m.Root.Fields(), true); s.Offset() != len(m.Root.Fields()) {
			t.Errorf("fields end at %d of %q", s.Offset(), m.Root.Fields())
		}
	})
}

func corpusOrNone() (messages []string) {
	paths, _ := filepath.Glob("../../../shared/corpus/*/*.eml")
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil {
			messages = append(messages, string(b))
		}
	}
	return messages
}
