package facts

import (
	"bytes"
	"strings"
	"testing"

	"postamt/internal/match"
	"postamt/internal/message"
)

// checkColumns compares what columns say with what the facts say.
func checkColumns(t testing.TB, f Facts) {
	t.Helper()
	column := func(k int) []byte { return AppendColumn(nil, f, k) }
	s, z, ok := f.Sent()
	if cs, cz, cok := SentOf(column(ColumnSent)); cs != s && ok || cz != z && ok || cok != ok {
		t.Errorf("sent %d %d %v, not %d %d %v", cs, cz, cok, s, z, ok)
	}
	fold := func(b []byte) []byte {
		b = match.AppendFold(nil, b[:min(len(b), 1024)])
		return b[:min(len(b), 1024)]
	}
	if base, reply := BaseOf(column(ColumnBase)); !bytes.Equal(base, fold(f.BaseSubject())) || reply != f.IsReply() {
		t.Errorf("base %q %v", base, reply)
	}
	for k, a := range map[int]Addresses{ColumnSortFrom: f.Envelope().From(), ColumnSortTo: f.Envelope().To()} {
		if v := column(k); !bytes.Equal(v, fold(a.First())) {
			t.Errorf("first address %q, not %q", v, a.First())
		}
	}
	id, rest, ok := NextID(column(ColumnThread))
	if !ok || !bytes.Equal(id, f.MessageID()) {
		t.Errorf("message id %q, not %q", id, f.MessageID())
	}
	for refs, i := f.References(), 0; ; i++ {
		id, rest, ok = NextID(rest)
		if ok != (i < refs.Len()) || ok && !bytes.Equal(id, refs.At(i)) {
			t.Errorf("reference %d: %q %v of %d", i, id, ok, refs.Len())
		}
		if !ok {
			break
		}
	}
	for k, name := range map[int]string{ColumnSubject: "Subject", ColumnFrom: "From", ColumnTo: "To"} {
		value := column(k)
		names, _ := Name(name)
		header := f.AppendFields(nil, names)
		for _, key := range []string{"", "e", "Re", "@", "example.test", "c@d", "b @c", "a@b.example", "grüße", "ß", "nobody has this", "\xff", string(fold(header))} {
			key := match.New(key)
			in, known := InColumn(value, key)
			if known == f.Truncated() {
				t.Fatalf("%s: known %v", name, known)
			}
			is := inFields(header, key)
			if name != "Subject" {
				list := f.Envelope().From()
				if name == "To" {
					list = f.Envelope().To()
				}
				for i := range list.Len() {
					a := list.At(i)
					is = is || key.In([]byte(string(a.Mailbox)+"@"+string(a.Host)))
				}
			}
			if known && in != is {
				t.Errorf("%s: %v, not %v: %q in %q", name, in, is, value, header)
			}
		}
	}
}

// inFields: a field has the key in it, unfolded and decoded.
func inFields(header []byte, key *match.Key) bool {
	for s := message.Scan(header, true); ; {
		field, ok := s.Next()
		if !ok {
			return false
		}
		if key.In([]byte(message.Text(string(field.AppendText(nil))))) {
			return true
		}
	}
}

func TestColumns(t *testing.T) {
	for _, text := range append(corpus(),
		"Subject: one\nSubject: =?utf-8?q?zw=C3=B6lf?=\nFrom: a@b\nFrom: =?iso-8859-1?q?Gr=FC=DFe?= <c@d>\nTo: u:;\nDate: Tue, 1 Jul 2003 10:52:37 +0200\n\n",
		"Subject: Re: [list] Fwd: x\nTo: \"quoted\"@example.test, b@c\nReferences: <1@a> <2@b>\n <3@c>\nMessage-ID: <4@d>\n\n",
		"Subject: "+strings.Repeat("long ", 500)+"\nMessage-ID: \n\nbody",
		"From: x <a (comment) @ b . example>\nTo: \"b \"@c, undisclosed:;\n\n",
		"To:\nSubject:\n\n", "", "\xff\xfe: \xff\nSubject: a\xffb \x00\nFrom: \xe4@b\n\n",
		"Subject: a\n"+strings.Repeat("X-Filler: "+strings.Repeat("x", 60)+"\n", 6000)+"From: late@example.test\n\n") {
		checkColumns(t, describe(t, text))
	}
}

// Octets that nobody made are no reason to fail.
func TestColumnsOfAnything(t *testing.T) {
	f := describe(t, "Subject: a\nFrom: b@c\nTo: d@e\nReferences: <a@b> <c@d>\n\n")
	for at := range f {
		bad := bytes.Clone(f)
		bad[at] ^= 0xff
		for k := range Columns {
			AppendColumn(nil, bad, k)
			AppendColumn(nil, f[:at], k)
		}
	}
	for _, value := range [][]byte{nil, {0}, {0xff}, {200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200}, []byte("\x05ab"), []byte("\x02ab\x09")} {
		SentOf(value)
		BaseOf(value)
		InColumn(value, match.New("a"))
		for rest, ok := value, true; ok; _, rest, ok = NextID(rest) {
		}
	}
}
