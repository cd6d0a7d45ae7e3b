package facts

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"postamt/internal/message"
)

func describe(t testing.TB, text string) Facts {
	t.Helper()
	f, wire, err := new(Describer).Describe(strings.NewReader(text))
	if err != nil || !Facts(f).Valid() || Facts(f).Wire() != wire || len(f) > MaxSize {
		t.Fatal(len(f), wire, err)
	}
	return f
}

// describeWide makes the same with wide words, whether they are needed or not.
func describeWide(t testing.TB, text string) Facts {
	t.Helper()
	m, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b := new(builder)
	b.scan(m.Root)
	own, refs := b.threadIDs()
	b.record(wide, m, m.Root.Envelope(), own, refs)
	return b.b
}

// values is all that can be read of Facts, as text: for comparing, and for the fuzzer.
func values(f Facts) string {
	var b strings.Builder
	sent, zone, ok := f.Sent()
	fmt.Fprintf(&b, "%v %d %d %d %v\n%q %q %v %q %q %q\n", f.Valid(), f.Wire(), sent, zone, ok, f.Subject(), f.BaseSubject(), f.IsReply(), f.DisplayFrom(), f.DisplayTo(), f.MessageID())
	for i := range f.References().Len() {
		fmt.Fprintf(&b, "%q ", f.References().At(i))
	}
	fmt.Fprintf(&b, "%s %s %q\n", f.AppendEmailID(nil), f.AppendThreadID(nil), f.AppendFields(nil, ^Names(0)))
	fmt.Fprintln(&b, f.Truncated())
	envelope(&b, f.Envelope())
	part(&b, f.Root())
	return b.String()
}

func envelope(w io.Writer, e Envelope) {
	fmt.Fprintf(w, "%q %q %q %q %v\n", e.Date(), e.Subject(), e.InReplyTo(), e.MessageID(), []bool{e.Date() == nil, e.Subject() == nil, e.InReplyTo() == nil, e.MessageID() == nil})
	for _, l := range []Addresses{e.From(), e.Sender(), e.ReplyTo(), e.To(), e.Cc(), e.Bcc()} {
		for i := range l.Len() {
			a := l.At(i)
			fmt.Fprintf(w, "%d %q %q %q %q, ", a.Kind, a.Name, a.Route, a.Mailbox, a.Host)
		}
		fmt.Fprintln(w)
	}
}

func part(w io.Writer, p Part) {
	fmt.Fprintf(w, "(%v %v %v %v %q %q %q %q %q %q %q %q ", p.IsMultipart(), p.IsMessage(), p.Header(), p.Body(), p.Type(), p.Subtype(), p.Encoding(), p.ID(), p.Description(), p.MD5(), p.Disposition(), p.Location())
	for _, ps := range []Params{p.Params(), p.DispParams()} {
		for i := range ps.Len() {
			name, value := ps.At(i)
			fmt.Fprintf(w, "%q=%q ", name, value)
		}
		fmt.Fprint(w, "; ")
	}
	for i := range p.Languages().Len() {
		fmt.Fprintf(w, "%q ", p.Languages().At(i))
	}
	fmt.Fprintln(w)
	if p.IsMessage() {
		envelope(w, p.Envelope())
	}
	for c, ok := p.First(); ok; c, ok = c.Next(p) {
		part(w, c)
	}
	fmt.Fprint(w, ")")
}

// wanted is the same, of a parsed message.
func wantedEnvelope(w io.Writer, e *message.Envelope) {
	fmt.Fprintf(w, "%q %q %q %q %v\n", e.Date, e.Subject, e.InReplyTo, e.MessageID, []bool{e.Date == nil, e.Subject == nil, e.InReplyTo == nil, e.MessageID == nil})
	for _, l := range [][]message.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		for _, a := range l {
			fmt.Fprintf(w, "%d %q %q %q %q, ", a.Kind, a.Name, a.Route, a.Mailbox, a.Host)
		}
		fmt.Fprintln(w)
	}
}

func wantedPart(w io.Writer, p *message.Part) {
	fmt.Fprintf(w, "(%v %v %v %v %q %q %q %q %q %q %q %q ", p.Children != nil, p.Message != nil, p.Header, p.Body, p.Type, p.Subtype, p.Encoding, p.ID, p.Description, p.MD5, p.Disposition, p.Location)
	for _, ps := range []message.Params{p.Params.Joined(), p.DispParams.Joined()} {
		for _, v := range ps {
			fmt.Fprintf(w, "%q=%q ", v.Name, v.Value)
		}
		fmt.Fprint(w, "; ")
	}
	for _, l := range p.Language {
		fmt.Fprintf(w, "%q ", l)
	}
	fmt.Fprintln(w)
	if p.Message != nil {
		wantedEnvelope(w, p.Message.Envelope())
		wantedPart(w, p.Message)
	}
	for _, c := range p.Children {
		wantedPart(w, c)
	}
	fmt.Fprint(w, ")")
}

// check sets the facts of a message against what package message says of it.
func check(t testing.TB, text string) Facts {
	t.Helper()
	f := describe(t, text)
	m, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Wire() != m.Wire {
		t.Fatal(f.Wire(), m.Wire)
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("%s:\n%s\nwant\n%s", what, got, want)
		}
	}
	var got, want bytes.Buffer
	e := m.Root.Envelope()
	envelope(&got, f.Envelope())
	wantedEnvelope(&want, e)
	same("envelope", got.String(), want.String())
	same("subject", string(f.Subject()), message.Text(string(e.Subject)))
	base, reply := message.BaseSubject(string(e.Subject))
	same("base subject", fmt.Sprint(string(f.BaseSubject()), f.IsReply()), fmt.Sprint(base, reply))
	sent, zone, ok := f.Sent()
	date, dated := message.Date(string(e.Date))
	if ok != dated || ok && (date.Unix() != sent || date.Format(time.RFC3339) != date.In(time.FixedZone("", zone)).Format(time.RFC3339)) {
		t.Fatal("sent", sent, zone, ok, date)
	}
	got.Reset()
	want.Reset()
	part(&got, f.Root())
	wantedPart(&want, m.Root)
	same("structure", got.String(), want.String())
	got.Reset()
	want.Reset()
	for s := message.Scan(m.Root.Fields(), true); ; {
		field, ok := s.Next()
		if !ok {
			break
		}
		if _, ok := Name(string(field.Name())); ok {
			raw := strings.TrimSuffix(string(field.Raw), "\r") // without an LF it is half a line end
			want.WriteString(wire(strings.TrimSuffix(raw, "\n") + "\n"))
		}
	}
	same("fields", string(f.AppendFields(nil, ^Names(0))), want.String())
	var refs []string
	for i := range f.References().Len() {
		refs = append(refs, string(f.References().At(i)))
	}
	ids := func(name string) []string {
		field, ok := m.Root.Field(name)
		if !ok {
			return nil
		}
		return message.MessageIDs(string(field.AppendText(nil)))
	}
	wanted := ids("References")
	if replies := ids("In-Reply-To"); len(wanted) == 0 && len(replies) > 0 {
		wanted = replies[:1]
	}
	if !slices.Equal(refs, wanted) {
		t.Fatal(refs, wanted)
	}
	if own := ids("Message-ID"); len(own) > 0 && string(f.MessageID()) != own[0] || len(own) == 0 && f.MessageID() != nil {
		t.Fatalf("%q, want %q", f.MessageID(), own)
	}
	w := describeWide(t, text)
	copy(w[atEmailID:atWords], f[atEmailID:atWords])
	same("wide", values(w), values(f))
	if f.Truncated() != m.Truncated {
		t.Fatal("truncated", f.Truncated(), m.Truncated)
	}
	return f
}

func wire(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

const example = "Return-Path: <alice@example.org>\n" +
	"Received: from x by y; Mon, 7 Feb 1994 21:52:25 -0800\n" +
	"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\n" +
	"From: Alice =?utf-8?q?M=C3=BCller?= <alice@example.org>\n" +
	"Subject: Re: [list] =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n" +
	"To: \"Bob, the builder\" <bob@example.com>,\n carol@example.net (Carol)\n" +
	"Message-ID: <1@example.org>\n" +
	"References: <0@example.com>\n <00@example.com>\n" +
	"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
	"--b\nContent-Type: text/plain; charset=utf-8\nContent-Language: de, en\n\nHallo\n" +
	"--b\nContent-Type: message/rfc822\nContent-Disposition: attachment; filename*0=a; filename*1=b\n\nSubject: inner\nFrom: dora@example.org\n\nx\n--b--\n"

func TestExample(t *testing.T) {
	f := check(t, example)
	if got := string(f.Subject()); got != "Re: [list] Grüße" {
		t.Error(got)
	}
	if string(f.BaseSubject()) != "Grüße" || !f.IsReply() || string(f.DisplayFrom()) != "Alice Müller" || string(f.DisplayTo()) != "Bob, the builder" {
		t.Errorf("%q %v %q %q", f.BaseSubject(), f.IsReply(), f.DisplayFrom(), f.DisplayTo())
	}
	if sent, zone, ok := f.Sent(); sent != 760686745 || zone != -8*3600 || !ok {
		t.Error(sent, zone, ok)
	}
	if string(f.MessageID()) != "1@example.org" || f.References().Len() != 2 || string(f.References().At(0)) != "0@example.com" {
		t.Error(f.MessageID(), f.References())
	}
	to, _ := Name("TO")
	date, _ := Name("date")
	if got := string(f.AppendFields(nil, to|date)); got != "Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\nTo: \"Bob, the builder\" <bob@example.com>,\r\n carol@example.net (Carol)\r\n" {
		t.Errorf("%q", got)
	}
	if _, ok := Name("Received"); ok {
		t.Error("Received is not kept")
	}
	if n := len(f); n > 2*len(example) {
		t.Errorf("%d octets of facts for %d", n, len(example))
	}
}

// What mail programs ask for when they list messages is all there.
func TestClientsNeedNoFile(t *testing.T) {
	for client, fields := range map[string]string{
		"Thunderbird": "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To",
		"Apple Mail":  "date subject from to cc message-id in-reply-to references content-type x-priority x-uniform-type-identifier x-universally-unique-identifier list-id list-unsubscribe",
		"K-9":         "date subject from content-type to cc reply-to message-id references in-reply-to list-unsubscribe sender X-K9mail-Identity Chat-Version",
		"mutt":        "DATE FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE X-LABEL X-ORIGINAL-TO",
		"Evolution":   "DATE FROM TO CC SUBJECT REFERENCES IN-REPLY-TO MESSAGE-ID MIME-VERSION CONTENT-TYPE CONTENT-CLASS X-CALENDAR-ATTACHMENT X-MAILING-LIST X-LOOP LIST-ID LIST-POST MAILING-LIST ORIGINATOR X-LIST SENDER RETURN-PATH X-BEENTHERE",
		"Outlook":     "References X-Ref X-Priority X-MSMail-Priority X-MSOESRec Newsgroups",
		"Roundcube":   "DATE FROM TO SUBJECT CONTENT-TYPE CC REPLY-TO LIST-POST DISPOSITION-NOTIFICATION-TO X-PRIORITY MESSAGE-ID REFERENCES IN-REPLY-TO BCC SENDER RETURN-PATH MAIL-FOLLOWUP-TO MAIL-REPLY-TO X-DRAFT-INFO",
	} {
		all := Names(0)
		for name := range strings.FieldsSeq(fields) {
			n, ok := Name(name)
			if all |= n; !ok {
				t.Errorf("%s asks for %s", client, name)
			}
		}
		if bits.OnesCount64(uint64(all)) != len(strings.Fields(fields)) {
			t.Errorf("%s: two names have one number", client)
		}
	}
}

// RFC 8474: ids are of the content, whatever the line ends, and of the thread.
func TestObjectIDs(t *testing.T) {
	email := func(s string) string { return string(describe(t, s).AppendEmailID(nil)) }
	thread := func(s string) string { return string(describe(t, s).AppendThreadID(nil)) }
	if a, b := email(example), email(strings.ReplaceAll(example, "\n", "\r\n")); a != b || len(a) != 25 || a[0] != 'M' {
		t.Error(a, b)
	}
	if email("a\r\r\n") == email("a\n") || email("a\r") == email("a") || email("a\r") == email("a\n") {
		t.Error("messages with other wire forms have one id")
	}
	sum := sha256.Sum256([]byte(example))
	f := describe(t, example)
	if !bytes.Equal(f[atEmailID:][:idSize], sum[:idSize]) {
		t.Error("not what sha256sum says")
	}
	root := thread("Message-ID: <0@example.com>\n\n")
	for _, s := range []string{example, "References: <0@example.com> <5@x>\n", "In-Reply-To: Your message <0@example.com>\n", "References: none\nIn-Reply-To: <0@example.com>\nMessage-ID: <7@x>\n"} {
		if got := thread(s); got != root {
			t.Errorf("%s: %s, want %s", s, got, root)
		}
	}
	if a, b := thread("Subject: x\n"), email("Subject: x\n"); a[1:] != b[1:] || a == b {
		t.Error(a, b)
	}
	// However it is read.
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b []byte
		for range r.IntN(100) {
			b = append(b, "\r\r\nab"[r.IntN(5)])
		}
		one, _, _ := new(Describer).Describe(iotest.OneByteReader(bytes.NewReader(b)))
		if got, want := string(Facts(one).AppendEmailID(nil)), email(string(b)); got != want {
			t.Fatalf("%q", b)
		}
		sum := sha256.Sum256(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")))
		if !bytes.Equal(one[atEmailID:][:idSize], sum[:idSize]) {
			t.Fatalf("%q", b)
		}
	}
}

// Every message that the limits let through is there whole, in the narrower form that can hold it.
func TestAll(t *testing.T) {
	many := strings.Repeat("Some Body <some.body.else@example.com>,\n ", 1400) + "x@y\n"
	for _, c := range []struct {
		what, text      string
		wide, truncated bool
	}{
		{"the example", example, false, false},
		{"300 recipients", "To: " + strings.Repeat("a@b, ", 300) + "\n", false, false},
		{"fields that take all the room", "To: " + strings.Repeat("x", 30<<10) + "\nCc: " + strings.Repeat("x", 30<<10) + "\nSubject: x\n", false, false},
		{"2,800 recipients", "To: " + many + "Cc: " + many + "Subject: x\n", true, false},
		{"10,001 recipients", "To: " + strings.Repeat("a@b, ", 10_001) + "\nSubject: x\n", true, false},
		{"a long subject", "Subject: " + strings.Repeat("x", 63<<10) + "\nMessage-ID: <a@b>\n", false, false},
		{"a subject that has no end", "Subject: " + strings.Repeat("x", 70<<10) + "\nMessage-ID: <a@b>\n", true, true},
		{"1,200 references", "References: " + strings.Repeat("<12345678901234567890@example.com>\n ", 1200) + "\nSubject: x\n", false, false},
		{"1,700 references", "References: " + strings.Repeat("<12345678901234567890@example.com>\n ", 1700) + "\nSubject: x\n", true, false},
		{"many of all", "To: " + many + "Cc: " + many + "References: " + strings.Repeat("<12345678901234567890@example.com>\n ", 1700) + "\nSubject: x\n", true, false},
		{"2,000 parts", "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n\n", 2000), true, false},
		{"more parts than count", "Subject: x\nContent-Type: multipart/digest; boundary=b\n\n" + strings.Repeat("--b\n\n\n", 20_000), true, false},
		{"a long parameter", "Subject: x\nContent-Type: text/plain; name=" + strings.Repeat("x", 64000), false, false},
		{"a long value and its decoded form", "Subject: =?utf-8?q?" + strings.Repeat("=C3=A4", 10_000) + "?=\n", true, false},
		{"a header that has no end", "X: " + strings.Repeat("x\n ", 200<<10) + "\nSubject: x\n", false, true},
		{"many fields", "Subject: x\n" + strings.Repeat("Lines: 1\n", 20_000), true, false},
		{"deep", "Subject: x\n" + strings.Repeat("Content-Type: message/rfc822\n\n", 150), false, false},
		{"deep, with much in each", "Subject: x\n" + strings.Repeat("To: "+strings.Repeat("a@b, ", 200)+"\nContent-Type: message/rfc822\n\n", 150), true, false},
	} {
		f := check(t, c.text)
		if f.Truncated() != c.truncated || f.flag(isWide) != c.wide {
			t.Errorf("%s: wide %v, truncated %v, %d octets", c.what, f.flag(isWide), f.Truncated(), len(f))
		}
		if strings.Contains(c.text, "Subject: x\n") && string(f.Envelope().Subject()) != "x" {
			t.Errorf("%s: %q", c.what, f.Envelope().Subject())
		}
	}
}

// The longest that there can be is not longer than is said, and is made in a time that is linear.
func TestMaxSize(t *testing.T) {
	groups := strings.Repeat("a:;", 5000) + "\n" // two addresses for three octets
	header := ""
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc"} {
		header += name + ": " + groups
	}
	for what, text := range map[string]string{
		"addresses":  strings.Repeat(header+"Content-Type: message/rfc822\n\n", 20),
		"parts":      "Content-Type: multipart/digest; boundary=b\n\n" + strings.Repeat("--b\n\n\n", 20_000),
		"parameters": "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Type: a/b"+strings.Repeat(";c=", 200)+"\n\n\n", 10_000),
		"fields":     strings.Repeat("To:\n", 64<<10),
		"languages":  strings.Repeat("Content-Language: "+strings.Repeat("a,", 30<<10)+"\nContent-Type: message/rfc822\n\n", 20),
		"references": "References: " + strings.Repeat("<@>", 20<<10) + "\n",
	} {
		if f := describe(t, text); len(f) > 24<<20 {
			t.Errorf("%s: %d octets of facts for %d", what, len(f), len(text))
		} else {
			t.Log(what, len(f))
		}
	}
}

// A message of 4 GiB has numbers that narrow words have no room for.
func TestHuge(t *testing.T) {
	m, err := message.Parse(strings.NewReader("Subject: x\n\nx\n"), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m.Wire, m.Root.Body.Octets, m.Root.Body.Wire, m.Root.Body.Lines = 1<<32, 1<<32-20, 1<<32-13, 1<<31
	b := new(builder)
	b.build(m, new(sync.Mutex))
	f := Facts(b.b)
	if !f.Valid() || f.Wire() != m.Wire || f.Root().Header() != m.Root.Header || f.Root().Body() != m.Root.Body || string(f.Subject()) != "x" {
		t.Errorf("%v, want %v", f.Root().Body(), m.Root.Body)
	}
}

func TestNothing(t *testing.T) {
	for _, f := range []Facts{nil, {}, {Form}, {Form, isWide}, make(Facts, fixedSize(narrow)), append(Facts{Form, isWide}, make(Facts, fixedSize(narrow))...)} {
		if f.Subject() != nil || f.Envelope().From().Len() != 0 || f.Root().Type() != nil || f.Truncated() || f.Root().IsMultipart() {
			t.Errorf("%x has something", []byte(f))
		}
	}
}

func TestReadFails(t *testing.T) {
	if f, _, err := new(Describer).Describe(io.MultiReader(strings.NewReader(example), iotest.ErrReader(io.ErrClosedPipe))); err == nil || f != nil {
		t.Error(f, err)
	}
}

// One that is used again says the same.
func TestDescriberAgain(t *testing.T) {
	var d Describer
	for _, text := range corpus() {
		got, _, err := d.Describe(strings.NewReader(text))
		if want := describe(t, text); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q", text)
		}
	}
}

func corpus() (messages []string) {
	messages = []string{example, "", "\n", "x", "Subject:", "Subject:\r", "Subject: \r\nSubject: y\r\n", "From: a:b@c;,\"d\" <@e,@f:g@h>\nSubject: \x00\x00\nTo: =?utf-8?q?=00=00?= <\x00@\x00>\n"}
	paths, _ := filepath.Glob("../../../shared/corpus/*/*.eml")
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil {
			messages = append(messages, string(b))
		}
	}
	return messages
}

func TestCorpus(t *testing.T) {
	for _, text := range corpus() {
		check(t, text)
		check(t, strings.ReplaceAll(text, "\n", "\r\n"))
	}
}

func TestNoMemory(t *testing.T) {
	f := describe(t, example)
	names, _ := Name("To")
	b := make([]byte, 0, 1000)
	n := testing.AllocsPerRun(100, func() {
		e := f.Envelope()
		for i := range e.To().Len() {
			b = append(b[:0], e.To().At(i).Name...)
		}
		b = f.AppendFields(b[:0], names)
		p := f.Root()
		for c, ok := p.First(); ok; c, ok = c.Next(p) {
			b = append(b[:0], c.Type()...)
		}
		b = f.AppendEmailID(b[:0])
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDescribe(f *testing.F) {
	for _, text := range corpus() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) { check(t, string(b)) })
}

// FuzzRead: any octets can be read.
func FuzzRead(f *testing.F) {
	for _, text := range corpus() {
		if len(text) < 4<<10 {
			f.Add([]byte(describe(f, text)))
			f.Add([]byte(describeWide(f, text)))
		}
	}
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		values(b)
		if len(b) > atFlags {
			b = slices.Clone(b)
			b[atFlags] ^= isWide
			values(b)
		}
	})
}

// Facts that are cut or changed at any octet can be read.
func TestDamaged(t *testing.T) {
	for _, whole := range []Facts{describe(t, example), describeWide(t, example)} {
		if values(whole) == values(whole[:fixedSize(whole.width())]) {
			t.Error("this shows nothing")
		}
		for at := range whole {
			values(whole[:at])
			for _, v := range []byte{0, 1, 0x7f, 0xff} {
				b := slices.Clone(whole)
				b[at] = v
				values(b)
			}
		}
	}
}

func BenchmarkDescribe(b *testing.B) {
	var d Describer
	text := example + strings.Repeat("0123456789 123456789 123456789 123456789 12345\n", 60)
	r := strings.NewReader(text)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r.Reset(text)
		d.Describe(r)
	}
}

// BenchmarkRead is what an answer to a FETCH reads of each message.
func BenchmarkRead(b *testing.B) {
	b.Run("narrow", func(b *testing.B) { benchmarkRead(b, describe(b, example)) })
	b.Run("wide", func(b *testing.B) { benchmarkRead(b, describeWide(b, example)) })
}

func benchmarkRead(b *testing.B, f Facts) {
	out := make([]byte, 0, 64<<10)
	quote := func(s []byte) { out = append(append(append(out, '"'), s...), '"') }
	b.Run("envelope", func(b *testing.B) {
		for b.Loop() {
			out = out[:0]
			e := f.Envelope()
			for _, s := range [...][]byte{e.Date(), e.Subject(), e.InReplyTo(), e.MessageID()} {
				quote(s)
			}
			for _, l := range [...]Addresses{e.From(), e.Sender(), e.ReplyTo(), e.To(), e.Cc(), e.Bcc()} {
				for i := range l.Len() {
					a := l.At(i)
					quote(a.Name)
					quote(a.Route)
					quote(a.Mailbox)
					quote(a.Host)
				}
			}
		}
	})
	b.Run("structure", func(b *testing.B) {
		var walk func(p Part)
		walk = func(p Part) {
			for _, s := range [...][]byte{p.Type(), p.Subtype(), p.Encoding(), p.ID(), p.Description(), p.MD5(), p.Disposition(), p.Location()} {
				quote(s)
			}
			for i := range p.Params().Len() {
				name, value := p.Params().At(i)
				quote(name)
				quote(value)
			}
			out = append(out, byte(p.Body().Wire), byte(p.Body().Lines))
			for c, ok := p.First(); ok; c, ok = c.Next(p) {
				walk(c)
			}
		}
		for b.Loop() {
			out = out[:0]
			p := f.Root()
			walk(p)
		}
	})
	b.Run("fields", func(b *testing.B) {
		want := Names(0)
		for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "References"} {
			n, _ := Name(name)
			want |= n
		}
		for b.Loop() {
			out = f.AppendFields(out[:0], want)
		}
	})
	b.Run("sort", func(b *testing.B) {
		n := int64(0)
		for b.Loop() {
			sent, _, _ := f.Sent()
			n += sent + int64(len(f.BaseSubject())+len(f.DisplayFrom())+len(f.MessageID()))
			for i := range f.References().Len() {
				n += int64(len(f.References().At(i)))
			}
		}
	})
}
