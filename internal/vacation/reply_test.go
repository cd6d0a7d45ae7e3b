package vacation

import (
	"bytes"
	"io"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"

	"postamt/internal/addr"
)

var stamp = Stamp{From: "bob@b.example", Now: time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC), ID: "x.1@b.example"}

var lunch = Answer{To: addr.Mailbox{Local: "alice", Domain: "a.example"}, Own: "bob@b.example", Subject: "lunch", MessageID: "2@a.example", References: []string{"1@a.example", "2@a.example"}}

func compose(t testing.TB, a Answer, text string) string {
	t.Helper()
	parsed, err := ParseText([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Compose(a, parsed, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// RFC 3834 section 3, all of it.
func TestNotice(t *testing.T) {
	want := `From: bob@b.example
To: alice@a.example
Subject: Auto: lunch
Date: Sun, 29 Nov 2026 10:00:00 +0000
Message-Id: <x.1@b.example>
In-Reply-To: <2@a.example>
References: <1@a.example> <2@a.example>
Auto-Submitted: auto-replied
Precedence: bulk
Mime-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

I am away.
`
	if got := compose(t, lunch, "I am away."); got != want {
		t.Errorf("%s", got)
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		name, text              string
		from, subject, reply, b string
	}{
		{"plain", "away\n", "bob@b.example", "Auto: lunch", "", "away\n"},
		{"fields", "From: Bob Müller <bob@home.example>\nSubject: away: $SUBJECT\nReply-To: carol@b.example\nPrecedence: list\nTo: x@y\nX-Y: z\n\naway\n",
			"\"Bob Müller\" <bob@home.example>", "away: lunch", "<carol@b.example>", "away\n"},
		{"subject alone", "Subject: away\n\nI\n\nam\n", "bob@b.example", "away", "", "I\n\nam\n"},
		{"no text", "Subject: away\n", "bob@b.example", "away", "", "\n"},
		{"a text like a field", "Note: I am away.\n\nBob\n", "bob@b.example", "Auto: lunch", "", "Note: I am away.\n\nBob\n"},
		{"a text like a header at first", "Subject: of the day\nis that I am away.\n", "bob@b.example", "Auto: lunch", "", "Subject: of the day\nis that I am away.\n"},
		{"encoded subject", "Subject: =?utf-8?q?gr=C3=BCn?=\n\nx\n", "bob@b.example", "grün", "", "x\n"},
		{"CRLF", "Subject: away\r\n\r\nI am\r\naway\r\n", "bob@b.example", "away", "", "I am\naway\n"},
		{"Latin-1", "bis M\xe4rz\n", "bob@b.example", "Auto: lunch", "", "bis März\n"},
		{"variables", "To $FROM, about \"$SUBJECT\": $HOME\n", "bob@b.example", "Auto: lunch", "", "To alice@a.example, about \"lunch\": $HOME\n"},
		{"long line", strings.Repeat("x", 3000) + "\n", "bob@b.example", "Auto: lunch", "", strings.Repeat("x", 3000) + "\n"},
		{"dots", ".\n..\n\nFrom me\n", "bob@b.example", "Auto: lunch", "", ".\n..\n\nFrom me\n"},
	} {
		got := compose(t, lunch, c.text)
		r, err := mail.CreateReader(strings.NewReader(got))
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, got)
		}
		subject, _ := r.Header.Subject()
		from, _ := r.Header.AddressList("From")
		reply, _ := r.Header.AddressList("Reply-To")
		replyTo := ""
		if len(reply) > 0 {
			replyTo = reply[0].String()
		}
		p, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p.Body)
		author := strings.Trim(from[0].String(), "<>")
		if from[0].Name != "" {
			author = "\"" + from[0].Name + "\" <" + from[0].Address + ">"
		}
		if len(from) != 1 || author != c.from || subject != c.subject || replyTo != c.reply || strings.ReplaceAll(string(b), "\r\n", "\n") != c.b {
			t.Errorf("%s: from %v, subject %q, reply to %v, text %.100q\n%.1000s", c.name, from, subject, replyTo, b, got)
		}
		for line := range strings.Lines(got) {
			if len(line) > 999 || strings.Contains(line, "\r") || !isASCII(line) {
				t.Errorf("%s: line %.80q", c.name, line)
			}
		}
		if strings.Contains(got, "X-Y") || strings.Count(got, "\nTo: ") != 1 || !strings.Contains(got, "\nPrecedence: bulk\n") {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

func TestBadTexts(t *testing.T) {
	for text, want := range map[string]string{
		strings.Repeat("x", MaxText+1): "longer than 65536 octets",
		"a\x00b":                       "NUL in it",
		"From: me\n\nx":                "From: mail: missing '@' or angle-addr",
		"Subject: x\nReply-To: a@b.example, c@d.example\n": "Reply-To: mail: expected single address, got \", c@d.example\"",
	} {
		if _, err := ParseText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestQuotedAddresses(t *testing.T) {
	a := lunch
	a.To = addr.Mailbox{Local: `a "b`, Domain: "a.example"}
	s := stamp
	s.From = "bob"
	b, err := Compose(a, Text{ReplyTo: &netmail.Address{Name: "Bob, at home", Address: "b c@b.example"}}, s)
	if err != nil || !strings.HasPrefix(string(b), "From: bob\nTo: \"a \\\"b\"@a.example\nReply-To: \"Bob, at home\" <\"b c\"@b.example>\nSubject: Auto: lunch\n") {
		t.Errorf("%v\n%s", err, b)
	}
}

// Our own notices are among what is never answered.
func TestNoticeIsNotAnswered(t *testing.T) {
	header, _, _ := strings.Cut(compose(t, lunch, "away"), "\n\n")
	if _, why := Decide(Mail{Sender: "bob@b.example", Header: []byte(header + "\n"), Own: []string{"alice@a.example"}}); why != AutoSubmitted {
		t.Errorf("%q", why)
	}
}

func FuzzNotice(f *testing.F) {
	f.Add([]byte("Subject: away: $SUBJECT\nFrom: Bob <bob@b.example>\n\nI am $FROM\n"), "lunch\r\nBcc: x@y", "alice@a.example")
	f.Add([]byte("\xff\x00"), "=?utf-8?q?=0aBcc:?=", `"a b"@a.example`)
	f.Fuzz(func(t *testing.T, text []byte, subject, sender string) {
		parsed, err := ParseText(text)
		if err != nil {
			return
		}
		a, why := Decide(Mail{Sender: sender, Header: []byte("To: bob@b.example\nSubject: " + strings.ReplaceAll(subject, "\n", "\n ") + "\n"), Own: bob})
		if why != Due {
			return
		}
		b, err := Compose(a, parsed, stamp)
		if err != nil {
			t.Fatal(err)
		}
		e, err := gomessage.Read(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		n := 0
		for f := e.Header.Fields(); f.Next(); n++ {
			if f.Key() == "Bcc" {
				t.Errorf("%s", b)
			}
		}
		if n < 10 || n > 13 || e.Header.Get("Auto-Submitted") != "auto-replied" {
			t.Errorf("%d fields\n%s", n, b)
		}
		if body, err := io.ReadAll(e.Body); err != nil || len(body) == 0 {
			t.Errorf("%q, %v", body, err)
		}
	})
}
