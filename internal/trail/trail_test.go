package trail

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
)

const (
	asked  = "cob7r9hgogk7b1baq48i"
	child  = "cob7r9hgogtdl710m95j"
	report = "cob7r9hgoj3u6nm3cd6i"
)

var now = time.Date(2026, 12, 3, 12, 0, 0, 0, time.UTC)

func born(s string) (time.Time, bool) {
	id, err := queue.ParseID(s)
	if err != nil {
		return time.Time{}, false
	}
	return id.Time(), true
}

func parser() *Parser { return &Parser{Now: now, Local: time.UTC, Born: born} }

// ends are those of a story, a line each.
func ends(s *Story) string {
	var b strings.Builder
	for _, e := range s.Ends() {
		fmt.Fprintf(&b, "<%s> %s %s %s %v\n", e.Rcpt, e.State, e.Detail, e.ID, e.Report)
	}
	return b.String()
}

const want = `<far@sink.test> relayed mx.sink.test[192.0.2.9]:25: 250 2.0.0 OK: queued ` + child + ` false
<bob@example.test> stored user=bob folder=.work file=1795948533.Q` + asked + `Xbfebef88e4b3.mx.example.test,S=348,W=360 ` + child + ` false
<gone@no.test> failed 550 5.1.1 he left; <alice@example.test> is told by ` + report + ` ` + child + ` false
<later@slow.test> waiting UNTILmx.slow.test[192.0.2.8]:25: 451 4.4.1 connect to mx.slow.test[192.0.2.8]:25: connection refused ` + child + ` false
<alice@example.test> stored user=alice file=1795948533.Q` + report + `X1.mx.example.test,S=1880,W=1945 ` + report + ` true
`

// The same lines, as loggers write them, tell the same story; also to who asks for the Message-ID and reads once. They have other programs' lines in between, and texts of
// strangers that would like to be lines.
func TestLoggers(t *testing.T) {
	files, err := filepath.Glob("testdata/*.log")
	if err != nil || len(files) < 12 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Story{New("", asked), New("<one@client.test>")} {
			if err := s.Read(bytes.NewReader(text), parser()); err != nil {
				t.Fatal(err)
			}
			until := "until 2026-11-29T10:40:34Z: "
			switch {
			case strings.HasSuffix(name, "none.log"):
				until = ""
			case strings.HasSuffix(name, "short.log"), strings.HasSuffix(name, "short-iso.log"), strings.HasSuffix(name, "traditional.log"):
				// whole seconds
			}
			if got := ends(s); got != strings.Replace(want, "UNTIL", until, 1) {
				t.Errorf("%s: %s", name, got)
			}
			events := s.Events()
			if len(events) != 12 {
				t.Errorf("%s: %d events", name, len(events))
			}
			for _, l := range events {
				if d := l.Time.Sub(time.Date(2026, 11, 29, 10, 35, 33, 0, time.UTC)); until != "" && (d < 0 || d >= time.Second) {
					t.Errorf("%s: %v %s", name, l.Time, l.Event)
				}
			}
		}
	}
}

func TestStamps(t *testing.T) {
	east := time.FixedZone("", 2*3600)
	for _, tt := range []struct{ stamp, want string }{
		{"Nov 29 10:35:33", "2026-11-29T08:35:33Z"},
		{"Dec  3 10:35:33", "2026-12-03T08:35:33Z"},
		{"Dec 31 23:59:59", "2025-12-31T21:59:59Z"},
		{"Jan  1 00:00:00", "2025-12-31T22:00:00Z"},
		{"Nov 29 10:35:33.123456", "2026-11-29T08:35:33.123456Z"},
		{"2026-11-29T10:35:33Z", "2026-11-29T10:35:33Z"},
		{"2026-11-29T10:35:33.5-03:30", "2026-11-29T14:05:33.5Z"},
		{"2026-11-29T10:35:33+0200", "2026-11-29T08:35:33Z"},
		{"2026-11-29 10:35:33.000000001", "2026-11-29T08:35:33.000000001Z"},
		{"2026-11-29_10:35:33.12345", "2026-11-29T10:35:33.12345Z"},
		{"1795948533.25", "2026-11-29T10:35:33.25Z"},
		{"<22>Nov 29 10:35:33", "2026-11-29T08:35:33Z"},
		{"@400000006b0c001a05f5e100", "2026-11-29T10:35:33.1Z"}, // s6-log
		{"@400000006b0bffff05f5e100", "2026-11-29T10:35:33.1Z"}, // svlogd
	} {
		p := &Parser{Now: now, Local: east, Born: born}
		l, ok := p.Parse(tt.stamp + " mx smtpd[1]: " + asked + ": accepted from=<a@b.example>")
		if got := l.Time.Format(time.RFC3339Nano); !ok || got != tt.want {
			t.Errorf("%s: %s %v, want %s", tt.stamp, got, ok, tt.want)
		}
	}
}

// What strangers write, to other programs or to ours, is no line of ours.
func TestForgeries(t *testing.T) {
	line := "queued: " + asked + ": delivered rcpt=<a@b.example>"
	for _, s := range []string{
		"Nov 29 10:35:33 mx sshd[1]: " + line,
		"Nov 29 10:35:33 mx sshd[1]: Invalid user " + line,
		"Nov 29 10:35:33 mx myqueued[1]: x " + line,
		"Nov 29 10:35:33 mx two " + line,
		"Nov 29 10:35:33 mx kernel: " + line,
		"Nov 29 10:35:33 mx postfix/smtpd[1]: " + line,
		"Nov 29 10:35:33 mx smtpd[1]: " + line,
		"Nov 29 10:35:33 mx a-smtpd[1]: " + line,
		"mx " + line,
		"smtpd: s1: reject reply=\"550 " + line + "\"",
		"smtpd: s1: reject helo=\"x " + line + "\"",
		"queued:" + line,
		"queued: " + asked + " : delivered",
	} {
		if l, ok := parser().Parse(s); ok && l.ID == asked {
			t.Errorf("%q: %+v", s, l)
		}
		story := New("", asked)
		story.Read(strings.NewReader(s+"\n"), parser())
		if story.Known() {
			t.Errorf("%q is believed", s)
		}
	}
	l, ok := parser().Parse(`smtpd: ` + asked + `: accepted from="<\x22a b\x22@c.example>" helo="x rcpts\x3d9" message-id=<a\x1b\x5c@b> rcpts=1 cut="...`)
	if !ok || l.Address("from") != `"a b"@c.example` || l.Get("helo") != "x rcpts=9" || l.Get("rcpts") != "1" || l.Get("message-id") != "<a\x1b\\@b>" || l.Get("cut") != "" {
		t.Errorf("%+v %q", l, l.Get("from"))
	}
	if got := Values("a", "x y=\x1b\"", "b", "", "c", "d"); got != `a="x y\x3d\x1b\x22" c=d` {
		t.Error(got)
	}
}

// Of a child, and of a report, it is told how they came to be, and not what else did; a second reading finds what stood in front.
func TestFromBelow(t *testing.T) {
	text, err := os.ReadFile("testdata/svlogd-tt.log")
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range map[string]int{child: 12, report: 7} {
		s := New("", id)
		for range 2 {
			s.Again()
			if err := s.Read(bytes.NewReader(text), parser()); err != nil {
				t.Fatal(err)
			}
		}
		events := s.Events()
		if len(events) != n || events[0].Event != "expanded" && events[0].Event != "bounced" && events[0].ID != asked {
			t.Errorf("%s: %d events, want %d: %v", id, len(events), n, events)
		}
		got := ends(s)
		if id == report && strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "<") || strings.Contains(got, "<all@") {
			t.Errorf("%s: %s", id, got)
		}
	}
}

// Logs in the wrong order are put in order by reading them twice.
func TestLogsInAnyOrder(t *testing.T) {
	text, err := os.ReadFile("testdata/rsyslog-iso.log")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	s := New("", asked)
	read := func() {
		for i := range lines { // each its own log, the last first
			if err := s.Read(strings.NewReader(lines[len(lines)-1-i]), parser()); err != nil {
				t.Fatal(err)
			}
		}
	}
	read()
	if !s.Missed() {
		t.Fatal("nothing was missed")
	}
	s.Again()
	read()
	s.Again()
	read()
	if got := ends(s); got != strings.Replace(want, "UNTIL", "until 2026-11-29T10:40:34Z: ", 1) {
		t.Error(got)
	}
}

func TestWhatIsNotKnown(t *testing.T) {
	for _, tt := range []struct{ name, log, want string }{
		{"accepted and no more", "smtpd: " + asked + ": accepted from=<a@b> rcpts=2\n", "<> unknown 2 of 2 recipients " + asked + " false\n"},
		{"an alias of nobody", "queued: " + asked + ": expanded rcpt=<n@x> child=- rcpts=0 source=aliases:3\n", "<n@x> discarded nobody else gets it by aliases:3 " + asked + " false\n"},
		{"a child without a log", "queued: " + asked + ": expanded rcpt=<n@x> child=" + child + " rcpts=3 source=aliases:3\n", "<> unknown 3 of 3 recipients " + child + " false\n"},
		{"held", "smtpd: " + asked + ": accepted from=<a@b> rcpts=1\nqueued: " + asked + ": held why=\"100 messages in an hour\"\n", "<> held 1 of 1 recipients: 100 messages in an hour " + asked + " false\n"},
		{"discarded by a route", "queued: " + asked + ": delivered rcpt=<a@b> status=2.0.0 reply=\"250 2.0.0 discarded by routes:4\"\n", "<a@b> discarded 250 2.0.0 discarded by routes:4 " + asked + " false\n"},
		{"a report that fails", "queued: " + asked + ": discarded rcpt=<a@b> why=\"the sender is null: 550 no\"\nqueued: " + asked + ": failed rcpt=<a@b> status=5.1.1 reply=\"550 no\"\n", "<a@b> failed 550 no; nobody is told " + asked + " false\n"},
		{"parents in a circle", "queued: " + asked + ": expanded rcpt=<n@x> child=" + child + " rcpts=1 source=a\nqueued: " + child + ": expanded rcpt=<n@x> child=" + asked + " rcpts=1 source=a\n", ""},
		{"not one of ours", strings.Repeat("x", 3*maxLine) + "\nqueued: " + child + ": removed\n", ""},
	} {
		s := New("", asked)
		if err := s.Read(strings.NewReader(tt.log), parser()); err != nil {
			t.Fatal(err)
		}
		if got := ends(s); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.log")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f.Add(strings.TrimSuffix(line, "\n"))
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, ok := parser().Parse(s)
		if !ok {
			return
		}
		if !isProgram(l.Program) || l.ID == "" || strings.Contains(l.ID, " ") || !strings.Contains(s, l.ID+": "+l.Event) {
			t.Errorf("%q: %+v", s, l)
		}
		for k, v := range l.All() {
			if again := (&Line{Values: Values(k, v)}); v != "" && again.Get(k) != v {
				t.Errorf("%q: %q is %q", s, v, again.Get(k))
			}
		}
		story := New("<a@b>", l.ID)
		story.Read(strings.NewReader(s), parser())
		story.Ends()
	})
}

// A log of which nearly all is about others.
func BenchmarkRead(b *testing.B) {
	text, err := os.ReadFile("testdata/rsyslog-iso.log")
	if err != nil {
		b.Fatal(err)
	}
	text = bytes.Repeat(text, 1000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s := New("", "00000000000000000000")
		if err := s.Read(io.NewSectionReader(bytes.NewReader(text), 0, int64(len(text))), parser()); err != nil {
			b.Fatal(err)
		}
	}
}
