package submit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"postamt/internal/addr"
)

func alice() Author {
	return Author{Sender: addr.Mailbox{Local: "alice", Domain: "o.example"}, Name: "Alice", Origin: "o.example", MessageID: "1@mx.example", Now: time.Date(2026, 11, 29, 10, 0, 0, 0, time.FixedZone("", 3600))}
}

// TestDrafts: testdata/*.txt have a header as it comes, as it is sent, and the recipients that -t finds, one a line.
func TestDrafts(t *testing.T) {
	names, _ := filepath.Glob("testdata/*.txt")
	if len(names) == 0 {
		t.Fatal("no testdata")
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		part := map[string]string{}
		for _, f := range a.Files {
			part[f.Name] = string(f.Data)
		}
		got, err := Prepare([]byte(strings.ReplaceAll(part["in"], "\n", "\r\n")), true, alice())
		if err != nil {
			if want := part["error"]; want != err.Error()+"\n" {
				t.Errorf("%s: %v; want %s", name, err, want)
			}
			continue
		}
		if out := strings.ReplaceAll(string(got.Header), "\r\n", "\n"); out != part["out"] {
			t.Errorf("%s:\n got:\n%s\nwant:\n%s", name, out, part["out"])
		}
		if to := strings.Join(append(got.Recipients, ""), "\n"); to != part["to"] {
			t.Errorf("%s:\n got:\n%s\nwant:\n%s", name, to, part["to"])
		}
	}
}

// Without -t nobody is a recipient, what cannot be read is no error, and Bcc goes all the same.
func TestPrepareWithoutRecipients(t *testing.T) {
	d, err := Prepare([]byte("To: Jane Doe, root\r\nFrom: root (Cron Daemon)\r\nBcc: x\r\n"), false, alice())
	if err != nil || len(d.Recipients) > 0 || !strings.Contains(string(d.Header), "\r\nTo: Jane Doe, root\r\nFrom: root@o.example (Cron Daemon)\r\n") || strings.Contains(string(d.Header), "Bcc") {
		t.Errorf("%q, %q, %v", d.Header, d.Recipients, err)
	}
}

func TestC02_TenThousandRecipients(t *testing.T) {
	var h strings.Builder
	h.WriteString("Subject: all\r\nTo: ")
	for i := range 10_000 {
		fmt.Fprintf(&h, "\"User, %d\" <u%d@example.org>,\r\n\t", i, i)
	}
	h.WriteString("\r\n")
	d, err := Prepare([]byte(h.String()), true, alice())
	if err != nil || len(d.Recipients) != 10_000 || d.Recipients[9_999] != "u9999@example.org" {
		t.Errorf("%d recipients, %v", len(d.Recipients), err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"":             "<a@x>",
		"Alice Liddel": "Alice Liddel <a@x>",
		"A. Liddel":    `"A. Liddel" <a@x>`,
		`A "B" \C`:     `"A \"B\" \\C" <a@x>`,
		"=?x?q?a?=":    `"=?x?q?a?=" <a@x>`,
		"Jürgen":       "=?utf-8?q?J=C3=BCrgen?= <a@x>",
		"J\xfcrgen A.": `"J?rgen A." <a@x>`,
	} {
		if got := nameAddr(name, "a@x"); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// FuzzDraft: whatever the header, the one that is sent has no Bcc, and what is sent twice is the same as what is sent once.
func FuzzDraft(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.txt")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range txtar.Parse(b).Files {
			if p.Name == "in" {
				f.Add(strings.ReplaceAll(string(p.Data), "\n", "\r\n"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := Read(strings.NewReader(s), Input{IgnoreDots: true})
		if err != nil {
			return
		}
		defer text.Body.Close()
		d, err := Prepare(text.Header, true, alice())
		if err != nil {
			return
		}
		for _, r := range d.Recipients {
			if _, err := addr.Parse(r, true); err != nil {
				t.Fatalf("%q: recipient %q: %v", s, r, err)
			}
		}
		for _, f := range split(d.Header) {
			if kindOf(f) == blind {
				t.Fatalf("%q: %q is left", s, f.Raw)
			}
		}
		if end, _ := divide(d.Header); end != len(d.Header) {
			t.Fatalf("%q: the header ends in %q", s, d.Header[end:])
		}
		again, err := Prepare(d.Header, true, alice())
		if err != nil || string(again.Header) != string(d.Header) {
			t.Fatalf("%q: %v\n%q\n%q", s, err, d.Header, again.Header)
		}
	})
}
