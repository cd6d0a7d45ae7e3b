package dsn

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message"
)

var update = flag.Bool("update", false, "write the golden files anew")

const original = "Received: from client by mx.example.org; Mon, 23 Nov 2026 12:00:00 +0000\r\n" +
	"From: Alice <alice@example.org>\r\nSubject: hello\r\n\r\nA line.\r\n.a dot\r\n"

func at(h, m int) time.Time { return time.Date(2026, 11, 23, h, m, 0, 0, time.UTC) }

// reports are the reports of the golden files, by name.
func reports() map[string]Report {
	base := Report{
		ID: "0h2mc9x4rvk3t7w1qz8g", Hostname: "mx.example.org", To: "alice@example.org", Date: at(12, 5),
		MessageID: "0h2mc9x4rvk3t7w1qz8e", Arrived: at(12, 0),
	}
	failed := Recipient{
		Address: "bob@example.com", Original: "rfc822;bob@example.com", Action: Failed, Status: "5.1.1",
		RemoteMTA: "mx.example.com", Diagnostic: "550 5.1.1 no such user", LastAttempt: at(12, 4),
	}
	with := func(change func(*Report)) Report {
		r := base
		r.Original = strings.NewReader(original)
		r.Recipients = []Recipient{failed}
		change(&r)
		return r
	}
	return map[string]Report{
		"failure": with(func(r *Report) {
			r.EnvID = "QQ314159"
			r.Recipients = append(r.Recipients, Recipient{
				Address: "carol+x@example.net", Original: "rfc822;carol@example.net", Action: Failed, Status: "4.4.1",
				Diagnostic: "no answer from mx.example.net[192.0.2.7]: connection refused", LastAttempt: at(12, 4),
			})
		}),
		"failure-hdrs": with(func(r *Report) { r.Ret = "HDRS" }),
		"delay": with(func(r *Report) {
			r.Kind, r.Ret = Delay, "FULL"
			r.Recipients[0] = Recipient{
				Address: "bob@example.com", Status: "4.4.1", RemoteMTA: "mx.example.com", Diagnostic: "451 4.4.1 try again later",
				LastAttempt: at(12, 4), RetryUntil: at(12, 0).AddDate(0, 0, 5),
			}
		}),
		"success": with(func(r *Report) {
			r.Kind, r.Ret = Success, "FULL"
			r.Recipients = []Recipient{
				{Address: "bob@example.org", Action: Delivered, Status: "2.1.5", LastAttempt: at(12, 4)},
				{Address: "bob@example.com", Action: Relayed, Status: "2.1.9", RemoteMTA: "mx.example.com", Diagnostic: "250 2.0.0 ok", LastAttempt: at(12, 4)},
				{Address: "team@example.org", Action: Expanded, Status: "2.1.5", LastAttempt: at(12, 4)},
			}
		}),
		"utf8": with(func(r *Report) {
			r.To, r.UTF8 = "älice@example.org", true
			r.Original = strings.NewReader("Subject: grüße\r\n\r\nhallo\r\n")
			r.Recipients[0].Address = "bøb@example.com"
			r.Recipients[0].Original = `utf-8;b\x{F8}b@example.com`
		}),
		// Raw bytes in the headers of a message that never said SMTPUTF8.
		"eight-bit-headers": with(func(r *Report) {
			r.Ret = "HDRS"
			r.Original = strings.NewReader("Subject: gr\xfc\xdfe\r\n\r\nbody\r\n")
		}),
		"nothing-returned": with(func(r *Report) { r.Original = nil }),
	}
}

func compose(t testing.TB, r Report) (string, *Message) {
	t.Helper()
	m, err := Compose(r)
	if err != nil {
		t.Fatal(err)
	}
	var b, again bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Fatalf("the second time it is another: %v", err)
	}
	wellFormed(t, b.Bytes(), m)
	return b.String(), m
}

// wellFormed checks what every report promises.
func wellFormed(t testing.TB, text []byte, m *Message) {
	t.Helper()
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		t.Fatalf("does not end in CRLF: %q", text[max(0, len(text)-40):])
	}
	for line := range bytes.SplitSeq(text, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("line of %d bytes: %.100q", len(line), line)
		}
		if !m.EightBit && !ascii(string(line)) {
			t.Fatalf("needs 8BITMIME and does not say so: %q", line)
		}
	}
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	if !m.UTF8 && !ascii(string(head)) {
		t.Fatalf("needs SMTPUTF8 and does not say so: %q", head)
	}
	if m.UTF8 && !m.EightBit {
		t.Fatal("SMTPUTF8 without 8BITMIME")
	}
}

type parsedPart struct {
	contentType string
	body        string // decoded
}

// parse reads a report with go-message.
func parse(t testing.TB, text string) (message.Header, []parsedPart) {
	t.Helper()
	e, err := message.Read(strings.NewReader(text))
	if err != nil {
		t.Fatalf("go-message: %v\n%s", err, text)
	}
	mr := e.MultipartReader()
	if mr == nil {
		t.Fatalf("not a multipart:\n%s", text)
	}
	var parts []parsedPart
	for {
		p, err := mr.NextPart()
		if err == io.EOF {
			return e.Header, parts
		}
		if err != nil && !message.IsUnknownCharset(err) {
			t.Fatalf("go-message: %v\n%s", err, text)
		}
		typ, _, _ := p.Header.ContentType()
		body, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatalf("go-message: body: %v\n%s", err, text)
		}
		parts = append(parts, parsedPart{typ, string(body)})
	}
}

func TestGolden(t *testing.T) {
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			got, _ := compose(t, r)
			file := filepath.Join("testdata", name+".eml")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestParts(t *testing.T) {
	for name, want := range map[string][]string{
		"failure":           {"text/plain", "message/delivery-status", "message/rfc822"},
		"failure-hdrs":      {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"delay":             {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"success":           {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"utf8":              {"text/plain", "message/global-delivery-status", "message/global"},
		"eight-bit-headers": {"text/plain", "message/delivery-status", "text/rfc822-headers"},
		"nothing-returned":  {"text/plain", "message/delivery-status"},
	} {
		r := reports()[name]
		text, m := compose(t, r)
		h, parts := parse(t, text)
		var got []string
		for _, p := range parts {
			got = append(got, p.contentType)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: parts %v, want %v", name, got, want)
		}
		typ, params, err := h.ContentType()
		if _, sub, _ := strings.Cut(want[1], "/"); err != nil || typ != "multipart/report" || params["report-type"] != sub {
			t.Errorf("%s: %s %v %v", name, typ, params, err)
		}
		if m.UTF8 != (name == "utf8") {
			t.Errorf("%s: UTF8 %v", name, m.UTF8)
		}
		if h.Get("Auto-Submitted") != "auto-replied" || h.Get("Message-Id") != "<0h2mc9x4rvk3t7w1qz8g.report@mx.example.org>" {
			t.Errorf("%s: %q %q", name, h.Get("Auto-Submitted"), h.Get("Message-Id"))
		}
	}
	text, _ := compose(t, reports()["failure"])
	if _, parts := parse(t, text); parts[2].body != original {
		t.Errorf("returned %q", parts[2].body)
	}
	text, _ = compose(t, reports()["eight-bit-headers"])
	if _, parts := parse(t, text); parts[2].body != "Subject: gr\xfc\xdfe\r\n" {
		t.Errorf("returned %q", parts[2].body)
	}
}

// R24, R25: what is returned of a message, and that no more than that is read.
func TestR25_Returned(t *testing.T) {
	head := "From: a@example.org\r\nSubject: x\r\n"
	big := head + "\r\n" + strings.Repeat("0123456789abcdef\r\n", MaxReturn)
	exact := head + "\r\n" + strings.Repeat("x\r\n", MaxReturn)
	exact = exact[:MaxReturn-2] + "\r\n"
	for _, c := range []struct {
		name, original, ret string
		kind                Kind
		full                bool
		want                string
	}{
		{"small", original, "", Failure, true, original},
		{"RET=FULL", original, "FULL", Failure, true, original},
		{"RET=HDRS", head + "\r\nbody\r\n", "HDRS", Failure, false, head},
		{"delay is never full", head + "\r\nbody\r\n", "FULL", Delay, false, head},
		{"50 MB and RET=FULL", big, "FULL", Failure, false, head},
		{"as much as may be", exact, "FULL", Failure, true, exact},
		{"one byte more", exact + "\n", "FULL", Failure, false, head},
		{"empty", "", "FULL", Failure, true, ""},
		{"no body", head, "FULL", Failure, true, head},
		{"body only", "\r\nbody\r\n", "HDRS", Failure, false, ""},
		{"bare LF", "A: b\n\nbody\n", "FULL", Failure, false, "A: b\r\n"},
		{"NUL", "A: b\r\n\r\n\x00\r\n", "FULL", Failure, false, "A: b\r\n"},
		{"no line end", "A: b\r\n\r\nx", "FULL", Failure, true, "A: b\r\n\r\nx"},
		{"line of 998", head + "\r\n" + strings.Repeat("x", 998) + "\r\n", "FULL", Failure, true, head + "\r\n" + strings.Repeat("x", 998) + "\r\n"},
		{"line of 999", head + "\r\n" + strings.Repeat("x", 999) + "\r\n", "FULL", Failure, false, head},
		{"header line of 2000", "A: " + strings.Repeat("x", 2000) + "\r\n", "HDRS", Failure, false, "A: " + strings.Repeat("x", 2000) + "\r\n"},
	} {
		r := reports()["failure"]
		read := &counter{r: io.MultiReader(strings.NewReader(c.original), endless(c.name == "50 MB and RET=FULL"))}
		r.Original, r.Ret, r.Kind = read, c.ret, c.kind
		text, m := compose(t, r)
		_, parts := parse(t, text)
		if len(parts) != 3 || m.full != c.full || parts[2].body != c.want {
			t.Errorf("%s: %d parts, full %v, %.200q", c.name, len(parts), m.full, parts[len(parts)-1].body)
		}
		if read.n > MaxReturn+1 {
			t.Errorf("%s: %d bytes read", c.name, read.n)
		}
	}
	// Endless headers are cut after a whole line.
	r := reports()["failure-hdrs"]
	r.Original = strings.NewReader(strings.Repeat("X-Junk: 0123456789\r\n", MaxReturn))
	text, _ := compose(t, r)
	_, parts := parse(t, text)
	if b := parts[2].body; len(b) > MaxReturn || len(b) < MaxReturn-100 || !strings.HasSuffix(b, "789\r\n") {
		t.Errorf("%d bytes of headers", len(b))
	}
	if len(text) > MaxReturn+4096 {
		t.Errorf("the report has %d bytes", len(text))
	}
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func endless(on bool) io.Reader {
	if on {
		return zeros{}
	}
	return strings.NewReader("")
}

// P8: nothing from outside makes a field, a line or a part.
func TestP8_Injection(t *testing.T) {
	evil := "x\r\nBcc: victim@example.net\r\n\r\n--=_report_0h2mc9x4rvk3t7w1qz8g\r\nContent-Type: text/html\r\n\r\n\x00\x1b[31m\xff"
	r := reports()["failure"]
	r.EnvID, r.Hostname, r.To, r.ID, r.MessageID = evil, evil, evil, "0h2mc9x4rvk3t7w1qz8g\r\n"+evil, evil
	r.Recipients = []Recipient{{
		Address: evil, Original: evil + ";" + evil, Action: Action(evil), Status: evil, RemoteMTA: evil,
		Diagnostic: evil + strings.Repeat(" words", 1000),
	}}
	// The message knows our boundary.
	r.Original = strings.NewReader("Subject: x\r\n\r\n--=_report_0h2mc9x4rvk3t7w1qz8gxBccvictimexamplenetrep\r\n\r\n--=_report_" +
		token(r.ID) + "\r\n\r\n--=_report_" + token(r.ID) + "--\r\n")
	text, _ := compose(t, r)
	h, parts := parse(t, text)
	if len(parts) != 3 || h.Has("Bcc") {
		t.Errorf("%d parts:\n%s", len(parts), text)
	}
	var names []string
	for line := range strings.SplitSeq(parts[1].body, "\r\n") {
		if name, _, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
			names = append(names, name)
		}
	}
	want := "[Reporting-MTA Original-Envelope-Id Arrival-Date Original-Recipient Final-Recipient Action Status Remote-MTA Diagnostic-Code]"
	if fmt.Sprint(names) != want {
		t.Errorf("fields %v", names)
	}
	if strings.Contains(text, "\x1b") {
		t.Error("an escape sequence came through")
	}
}

func TestBounds(t *testing.T) {
	if _, err := Compose(Report{}); err == nil {
		t.Error("a report without recipients")
	}
	if _, err := Compose(Report{Recipients: make([]Recipient, MaxRecipients+1)}); err == nil {
		t.Error("a report with too many recipients")
	}
	r := reports()["failure"]
	r.Original = iotest.ErrReader(errors.New("input/output error"))
	if err := r.Write(io.Discard); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Error(err)
	}
	if err := reports()["failure"].Write(failing{}); err == nil {
		t.Error("an error of the writer was lost")
	}
	// The zero values of everything but the recipients.
	text, _ := compose(t, Report{Recipients: []Recipient{{}}})
	if _, parts := parse(t, text); len(parts) != 2 {
		t.Errorf("%s", text)
	}
}

type failing struct{}

func (failing) Write(p []byte) (int, error) { return 0, errors.New("no space left on device") }

func TestSafe(t *testing.T) {
	plainForm, global := &Message{}, &Message{UTF8: true}
	for _, c := range []struct{ got, want string }{
		{plainForm.typed("rfc822", "bob@example.com"), "rfc822; bob@example.com"},
		{plainForm.typed("rfc822", "bøb@example.com"), `utf-8; b\x{F8}b@example.com`},
		{plainForm.typed("UTF-8", `b\x{F8}b@example.com`), `utf-8; b\x{F8}b@example.com`},
		{global.typed("rfc822", "bøb@example.com"), "utf-8; bøb@example.com"},
		{global.typed("utf-8", `b\x{F8}b@example.com`), "utf-8; bøb@example.com"},
		{global.typed("utf-8", `\x{0A}\x{D800}\x{110000}\x{202E}\x{zz}\x{41`), `utf-8; \x{0A}\x{D800}\x{110000}\x{202E}\x{zz}\x{41`},
		{plainForm.address("a\r\nb\xff"), `a\x{0D}\x{0A}b?`},
		{global.address("\u202e"), `\x{202E}`},
		{plain("  a \r\n\tb\x00\xc3\xbc  ", 100), "a b??"},
		{plain(strings.Repeat("x", 50), 10), "xxxxxxx..."},
		{hostname("mx.<x>\r\n"), "mx.x"},
		{hostname("\r\n"), "localhost"},
		{Recipient{Status: "5.1.1"}.status(Failure), "5.1.1"},
		{Recipient{Status: "3.1.1"}.status(Failure), "5.0.0"},
		{Recipient{Status: "5.1111.1"}.status(Delay), "4.0.0"},
		{Recipient{}.status(Success), "2.0.0"},
		{Recipient{}.action(Failure), "failed"},
		{Recipient{}.action(Delay), "delayed"},
		{Recipient{Action: Relayed}.action(Success), "relayed"},
		{sentence("delayed", "4.2.2"), "Not yet: the mailbox is full."},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

const pythonParser = `
import sys, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert not m.defects, m.defects
out = [m.get_content_type(), m.get_param("report-type"), str(m["To"] or "")]
for p in m.iter_parts():
    assert not p.defects, p.defects
    out.append(p.get_content_type())
status = list(m.iter_parts())[1]
blocks = status.get_payload()[1:] # not taken apart in message/global-delivery-status
out.append(str(len(blocks)))
for b in blocks:
    out.append(" ".join([b["Final-Recipient"], b["Action"], b["Status"]]))
print("\n".join(out))
`

// A stranger reads the same from our reports.
func TestPythonReadsThem(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	for name, want := range map[string]string{
		"failure": "multipart/report delivery-status alice@example.org text/plain message/delivery-status message/rfc822 2 " +
			"rfc822; bob@example.com failed 5.1.1 rfc822; carol+x@example.net failed 4.4.1",
		"delay": "multipart/report delivery-status alice@example.org text/plain message/delivery-status text/rfc822-headers 1 " +
			"rfc822; bob@example.com delayed 4.4.1",
		"success": "multipart/report delivery-status alice@example.org text/plain message/delivery-status text/rfc822-headers 3 " +
			"rfc822; bob@example.org delivered 2.1.5 rfc822; bob@example.com relayed 2.1.9 rfc822; team@example.org expanded 2.1.5",
		"eight-bit-headers": "multipart/report delivery-status alice@example.org text/plain message/delivery-status text/rfc822-headers 1 " +
			"rfc822; bob@example.com failed 5.1.1",
		"utf8": "multipart/report global-delivery-status älice@example.org text/plain message/global-delivery-status message/global 0",
	} {
		text, _ := compose(t, reports()[name])
		cmd := exec.Command(python, "-X", "utf8", "-c", pythonParser)
		cmd.Stdin = strings.NewReader(text)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, stderr.String())
		} else if got := strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), " "); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Whatever is in a report, it is well-formed and has exactly the expected parts.
func FuzzReport(f *testing.F) {
	f.Add(0, "HDRS", true, "alice@example.org", "rfc822;bob@example.com", "550 5.1.1 no such user", original)
	f.Add(1, "", true, "älice@example.org", `utf-8;b\x{F8}b@x`, "x\r\ny: z", "Subject: grüße\r\n\r\n")
	f.Add(2, "FULL", false, "\x00", ";", "\xff", "\n\n--=_report_id\r\n")
	f.Fuzz(func(t *testing.T, kind int, ret string, smtputf8 bool, address, typed, text, original string) {
		r := Report{
			Kind: Kind(kind % 3), ID: "id", Hostname: text, To: address, Date: at(12, 5), MessageID: typed, EnvID: text, Ret: ret, UTF8: smtputf8,
			Original: strings.NewReader(original),
			Recipients: []Recipient{
				{Address: address, Original: typed, Action: Action(text), Status: text, RemoteMTA: typed, Diagnostic: text, LastAttempt: at(12, 4), RetryUntil: at(13, 0)},
				{Address: text, Original: text, Diagnostic: address},
			},
		}
		out, m := compose(t, r)
		if strings.Count(out, "\r\n--"+m.boundary+"\r\n") != 3 || strings.Count(out, "\r\n--"+m.boundary+"--\r\n") != 1 {
			t.Fatalf("parts of\n%q", out)
		}
		if m.UTF8 && utf8.ValidString(original) && !utf8.ValidString(out) {
			t.Errorf("not UTF-8: %q", out)
		}
		h, parts := parse(t, out)
		if len(parts) != 3 || h.Get("Auto-Submitted") != "auto-replied" {
			t.Fatalf("%d parts:\n%q", len(parts), out)
		}
		if m.full && parts[2].body != original {
			t.Errorf("returned %q of %q", parts[2].body, original)
		}
		blocks := 0
		for line := range strings.SplitSeq(parts[1].body, "\r\n") {
			if strings.HasPrefix(line, "Final-Recipient: ") {
				blocks++
			}
		}
		if blocks != 2 {
			t.Errorf("%d recipients in %q", blocks, parts[1].body)
		}
	})
}
