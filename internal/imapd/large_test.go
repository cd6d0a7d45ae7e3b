package imapd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/message"
)

// openWith opens anybody's mailboxes, with these messages in INBOX.
func openWith(t testing.TB, messages []string) func(context.Context) (*mailbox.Account, error) {
	path := filepath.Join(t.TempDir(), "Maildir")
	for _, dir := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(path, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range messages {
		if err := os.WriteFile(filepath.Join(path, "cur", fmt.Sprintf("17000000%02d.M1P1.host:2,S", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var d facts.Describer
	all := mailbox.NewAccounts(nil, mailbox.Options{Describe: d.Describe, Form: facts.Form, Columns: facts.Columns, Column: facts.AppendColumn, Report: func(err error) { t.Log(err) }})
	t.Cleanup(all.End)
	return func(context.Context) (*mailbox.Account, error) { return all.Open(path) }
}

// said is what package message says of a message, as IMAP has it.
type said struct {
	text string
	*message.Message
}

func parsed(t *testing.T, text string) said {
	m, err := message.Parse(strings.NewReader(text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return said{text, m}
}

func saidEnvelope(b []byte, e *message.Envelope) []byte {
	b = append(imap.AppendNString(append(b, '('), e.Date, 0), ' ')
	b = imap.AppendNString(b, e.Subject, 0)
	for _, list := range [][]message.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		b = append(b, ' ')
		begin := len(b)
		b = append(b, '(')
		for _, a := range list {
			b = imap.AppendAddress(b, a.Name, a.Route, a.Mailbox, a.Host, 0)
		}
		b = imap.EndList(b, begin)
	}
	b = append(imap.AppendNString(append(b, ' '), e.InReplyTo, 0), ' ')
	return append(imap.AppendNString(b, e.MessageID, 0), ')')
}

func saidBody(b []byte, p *message.Part) []byte {
	body := imap.BodyPart[string]{Type: p.Type, Subtype: p.Subtype, Encoding: p.Encoding, Octets: uint64(p.Body.Wire), Lines: uint64(p.Body.Lines)}
	for _, v := range p.Params {
		body.Params = append(body.Params, imap.Param[string]{Name: v.Name, Value: v.Value})
	}
	kind := body.Kind(p.Message != nil, p.Children != nil)
	b = imap.BeginBody(b, &body, kind, 0)
	for _, c := range p.Children {
		b = saidBody(b, c)
	}
	if p.Message != nil {
		b = append(saidEnvelope(append(b, ' '), p.Message.Envelope()), ' ')
		b = saidBody(b, p.Message)
	}
	return imap.EndBody(b, &body, kind, true, 0)
}

// sections calls each with the sections of the parts in p, and what they are.
func (m said) sections(p *message.Part, path string, each func(section, content string)) {
	parts := p.Children
	if parts == nil {
		parts = []*message.Part{p}
	}
	for i, c := range parts {
		at := fmt.Sprint(path, i+1)
		each(at, m.wire(c.Body))
		if c != p {
			each(at+".MIME", m.wire(c.Header))
		}
		switch {
		case c.Message != nil:
			each(at+".HEADER", m.wire(c.Message.Header))
			each(at+".TEXT", m.wire(c.Message.Body))
			m.sections(c.Message, at+".", each)
		case c.Children != nil && c != p:
			m.sections(c, at+".", each)
		}
	}
}

func (m said) wire(s message.Span) string {
	return strings.ReplaceAll(m.text[s.Offset:s.End()], "\n", "\r\n")
}

// fields are those of the header, all of it, with one of the names.
func (m said) fields(names ...string) string {
	var b strings.Builder
	for s := message.Scan([]byte(m.text), true); ; {
		f, ok := s.Next()
		if !ok {
			return strings.ReplaceAll(b.String(), "\n", "\r\n") + "\r\n"
		}
		if slices.ContainsFunc(names, f.Is) {
			b.Write(f.Raw)
		}
	}
}

// What the facts say of messages of which much is to be said is what the messages say.
func TestLargeFacts(t *testing.T) {
	people := func(from, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Person %d <p%d@example.com>,\n ", from+i, from+i)
		}
		return b.String() + "\"The, last\" <last@example.org>\n"
	}
	parts := "Subject: parts\nFrom: c@example.org\nTo: y@x\nContent-Type: multipart/mixed; boundary=b\n\n"
	for i := range 1500 {
		parts += fmt.Sprintf("--b\nContent-Type: text/plain; name=\"file %d\"\n\nbody %d\n\n", i, i)
	}
	nested := "Subject: outside\nFrom: d@example.org\nTo: w@x\n"
	for i := range 30 {
		nested += fmt.Sprintf("Content-Type: message/rfc822\n\nSubject: at depth %d\nFrom: \"N %d\" <n%d@example.org>\nTo: %s", i, i, i, people(0, 50))
	}
	nested += "Content-Type: multipart/mixed; boundary=b\n\n--b\n\ninnermost\n--b\nContent-Type: text/html\n\n<p>\n--b--\n"
	var ids strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&ids, "<%d.long.long.long@example.org>\n ", i)
	}
	messages := []string{
		"Subject: to many\nFrom: e@example.org\nTo: " + people(1000, 1000) + "Cc: " + people(2000, 1000) + "Bcc: " + people(3000, 1000) + "Message-ID: <1@x>\n\nx\n",
		parts + "--b--\n",
		"Subject: referring\nFrom: b@example.org\nReferences: " + ids.String() + "<last@x>\nTo: z@x\nMessage-ID: <2@x>\n\nx\n",
		"From: a@example.org\n" + strings.Repeat("X-Filler: "+strings.Repeat("x", 60)+"\n", 4400) + "X-Late: late\nSubject: the last\nCc: o@x,\n v@x\n\nx\n",
		nested,
		"Subject: small\nFrom: f@example.org\nTo: x@x\nX-Odd: a\x00b\rc\nCc: a\x00b\r <c@d>\n\nx\n",
	}
	if ids.Len() < 40_000 || len(messages[3]) < 300_000 {
		t.Fatal("not so large")
	}
	open := openWith(t, messages)
	ask := func(command string) string {
		t.Helper()
		c := &input{pieces: [][]byte{[]byte(enter + "a2 EXAMINE INBOX\r\na3 " + command + "\r\na4 LOGOUT\r\n")}}
		s := NewServer(testConfig())
		if l := s.Authorize(t.Context(), c, IMAP, testPeer); l != nil {
			s.Serve(t.Context(), l.Conn, open, l.Note)
		}
		_, out, ok := strings.Cut(c.out.String(), "\r\na2 OK ")
		_, out, _ = strings.Cut(out, "\r\n")
		out, _, answered := strings.Cut(out, "a3 OK ")
		if !ok || !answered {
			t.Fatalf("%s: %.500q", command, c.out.String())
		}
		return out
	}
	same := func(what, got, want string) {
		t.Helper()
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		if got != want {
			t.Errorf("%s: differs at octet %d: %.100q, want %.100q", what, i, got[i:], want[i:])
		}
	}
	literal := func(section, content string) string {
		if content == "" {
			return "BODY[" + section + `] ""`
		}
		return fmt.Sprintf("BODY[%s] {%d}\r\n%s", section, len(content), content)
	}
	odd := strings.NewReplacer("\x00", "\x80", "\r\n", "\r\n", "\r", " ")
	for i, text := range messages {
		m := parsed(t, text)
		n := i + 1
		same("ENVELOPE", ask(fmt.Sprintf("FETCH %d ENVELOPE", n)), fmt.Sprintf("* %d FETCH (ENVELOPE %s)\r\n", n, saidEnvelope(nil, m.Root.Envelope())))
		same("BODYSTRUCTURE", ask(fmt.Sprintf("FETCH %d BODYSTRUCTURE", n)), fmt.Sprintf("* %d FETCH (BODYSTRUCTURE %s)\r\n", n, saidBody(nil, m.Root)))
		names, contents := []string{}, []string{}
		all := 0
		m.sections(m.Root, "", func(section, content string) {
			if all++; all < 200 || all > 2990 || all%50 == 0 {
				names, contents = append(names, "BODY.PEEK["+section+"]"), append(contents, literal(section, content))
			}
		})
		same("sections", ask(fmt.Sprintf("FETCH %d (%s)", n, strings.Join(names, " "))), fmt.Sprintf("* %d FETCH (%s)\r\n", n, strings.Join(contents, " ")))
		same("no section", ask(fmt.Sprintf("FETCH %d BODY.PEEK[1501]", n)), fmt.Sprintf("* %d FETCH (BODY[1501] NIL)\r\n", n))
		for _, fields := range []string{"SUBJECT FROM CC", "TO", "REFERENCES MESSAGE-ID", "X-LATE SUBJECT", "X-ODD CC"} {
			section := "HEADER.FIELDS (" + fields + ")"
			want := fmt.Sprintf("* %d FETCH (%s)\r\n", n, literal(section, odd.Replace(m.fields(strings.Fields(fields)...))))
			same(section, ask(fmt.Sprintf("FETCH %d BODY.PEEK[%s]", n, section)), want)
		}
	}
	for search, want := range map[string]string{
		"HEADER To p1999@example.com": " 1", "HEADER Bcc p3999@": " 1", "HEADER Cc last@example.org": " 1",
		"TO p49@example.com": "", "HEADER Subject \"the last\"": " 4", "CC v@x": " 4",
		"HEADER X-Late \"\"": " 4", "HEADER References <1199.long": " 3", "HEADER References <last@x>": " 3",
		"NOT HEADER Subject \"\"": "", "TEXT \"body 1499\"": " 2", "BODY innermost": " 5",
		"TEXT \"at depth 29\"": " 5", "FROM example.org": " 1 2 3 4 5 6", "NOT TO last@": " 2 3 4 5 6",
	} {
		same(search, ask("SEARCH "+search), "* SEARCH"+want+"\r\n")
	}
	// Of the fourth nothing is kept of what is behind its 256 KiB: it has no subject and no Cc to be sorted by.
	for sort, want := range map[string]string{
		"FROM": " 4 3 2 5 1 6", "REVERSE FROM": " 6 1 5 2 3 4", "TO": " 4 1 5 6 2 3", "SUBJECT": " 4 5 2 3 6 1", "DISPLAYFROM": " 4 3 2 5 1 6", "CC": " 2 3 4 5 6 1",
	} {
		same(sort, ask("SORT ("+sort+") UTF-8 ALL"), "* SORT"+want+"\r\n")
	}
}
