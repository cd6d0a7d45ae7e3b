package vacation

import (
	"fmt"
	"strings"
	"testing"
)

// personal is the header of a message that is answered.
const personal = "From: Alice <alice@a.example>\nTo: Bob <bob@b.example>\nSubject: lunch\nMessage-ID: <1@a.example>\n"

var bob = []string{"bob@b.example", "bob", "robert@b.example"}

// D18: lists, the null sender, what programs have sent, loops: never. Each with the one thing that is changed in a message that is answered.
func TestD18_Reasons(t *testing.T) {
	for _, c := range []struct {
		sender, field string
		want          Reason
	}{
		{"alice@a.example", "", Due},

		{"", "", NullSender},
		{"<>", "", NullSender},
		{"MAILER-DAEMON", "", SystemSender},
		{"mailer-daemon@a.example", "", SystemSender},
		{"postmaster@a.example", "", SystemSender},
		{"Postmaster", "", SystemSender},
		{"owner-list@a.example", "", SystemSender},
		{"Owner-List@a.example", "", SystemSender},
		{"list-owner@a.example", "", SystemSender},
		{"list-request@a.example", "", SystemSender},
		{"list-bounces@a.example", "", SystemSender},
		{"list-bounces+bob=b.example@a.example", "", SystemSender},
		{"bounces+17-bob=b.example@a.example", "", SystemSender},
		{"bounce-17@a.example", "", SystemSender},
		{"list-return-17-bob=b.example@a.example", "", SystemSender},
		{"listserv@a.example", "", SystemSender},
		{"majordomo@a.example", "", SystemSender},
		{"noreply@a.example", "", SystemSender},
		{"no-reply@a.example", "", SystemSender},
		{"No_Reply@a.example", "", SystemSender},
		{"shop-no-reply@a.example", "", SystemSender},
		{"noreply+17@a.example", "", SystemSender},
		{"do-not-reply@a.example", "", SystemSender},
		{"DoNotReply@a.example", "", SystemSender},
		{"owner@a.example", "", Due},
		{"request@a.example", "", Due},
		{"alice.reply@a.example", "", Due},
		{"SRS0=abcd=XY=c.example=alice@a.example", "", Due},

		{"alice", "", BadSender},
		{"alice@", "", BadSender},
		{"alice@a..example", "", BadSender},
		{"alice@a.example b@c.example", "", BadSender},
		{"alice@a.example\nb", "", BadSender},
		{"-oQ/tmp alice@a.example", "", BadSender},

		{"bob@b.example", "", OwnSender},
		{"BOB@B.example", "", OwnSender},
		{"bob+tag@b.example", "", OwnSender},
		{"robert@b.example", "", OwnSender},
		{"bob@a.example", "", Due}, // another Bob

		{"alice@a.example", "no field\n", BadHeader},
		{"alice@a.example", "\n", BadHeader},
		{"alice@a.example", " : x\n", Due}, // goes on the line before
		{"alice@a.example", ": x\n", BadHeader},
		{"alice@a.example", "Sübject: x\n", BadHeader},
		{"alice@a.example", "X: \xff\x00\n", Due},

		{"alice@a.example", "Auto-Submitted: auto-replied\n", AutoSubmitted},
		{"alice@a.example", "auto-submitted: AUTO-GENERATED; owner-email=x@y\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: auto-notified\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: yes\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted:\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: no-one-knows\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: (no) auto-replied\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: (no\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: no\nAuto-Submitted: auto-replied\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: auto-replied\nAuto-Submitted: no\n", AutoSubmitted},
		{"alice@a.example", "Auto-Submitted: no\n", Due},
		{"alice@a.example", "Auto-Submitted: (a\n (comment) NO; x=y\n", AutoSubmitted}, // all of it is a comment
		{"alice@a.example", "Auto-Submitted: (a (comment)) no\n", Due},
		{"alice@a.example", "Auto-Submitted:\n (a comment) NO ; x=y\n", Due},

		{"alice@a.example", "Precedence: bulk\n", Bulk},
		{"alice@a.example", "PRECEDENCE: List\n", Bulk},
		{"alice@a.example", "Precedence: junk\n", Bulk},
		{"alice@a.example", "Precedence: auto_reply\n", Bulk},
		{"alice@a.example", "Precedence: first-class\n", Due},

		{"alice@a.example", "List-Id: <l.a.example>\n", List},
		{"alice@a.example", "List-Unsubscribe: <mailto:x@y>\n", List},
		{"alice@a.example", "list-post: NO\n", List},
		{"alice@a.example", "Mailing-List: contact x\n", List},
		{"alice@a.example", "X-BeenThere: l@a.example\n", List},
		{"alice@a.example", "X-Mailing-List: l@a.example\n", List},
		{"alice@a.example", "Listen-To: me\n", Due},

		{"alice@a.example", "X-Auto-Response-Suppress: All\n", Suppressed},
		{"alice@a.example", "X-Auto-Response-Suppress: DR, RN, OOF\n", Suppressed},
		{"alice@a.example", "X-Auto-Response-Suppress: AutoReply\n", Suppressed},
		{"alice@a.example", "X-Auto-Response-Suppress: DR, NRN\n", Due},

		{"alice@a.example", "X-Autoreply: yes\n", AutoReply},
		{"alice@a.example", "X-Autorespond: lunch\n", AutoReply},
		{"alice@a.example", "Content-Type: multipart/report; report-type=delivery-status\n", Report},
		{"alice@a.example", "Content-Type: multipart/mixed\n", Due},
		{"alice@a.example", "X-Spam-Flag: YES\n", Spam},
		{"alice@a.example", "X-Spam-Status: Yes, score=7.1\n", Spam},
		{"alice@a.example", "X-Spam: Yes\n", Spam},
		{"alice@a.example", "X-Spam-Status: No, score=0.1\nX-Spam-Flag: NO\n", Due},

		{"alice@a.example", "From: robert@b.example\n", OwnFrom},
		{"alice@a.example", "From: bob+x@b.example, alice@a.example\n", OwnFrom},
		{"alice@a.example", "From: bob@a.example\n", Due},
	} {
		if _, got := Decide(Mail{Sender: c.sender, Header: []byte(personal + c.field), Own: bob}); got != c.want {
			t.Errorf("from %q with %q: %q, want %q", c.sender, c.field, got, c.want)
		}
	}
	for _, h := range []string{"", "\n", "x\n"} {
		if _, got := Decide(Mail{Sender: "alice@a.example", Header: []byte(h), Own: bob}); got != BadHeader {
			t.Errorf("header %q: %q", h, got)
		}
	}
}

// RFC 3834 section 2: only what names the recipient is answered.
func TestNotAddressed(t *testing.T) {
	for _, c := range []struct {
		fields string
		own    string // "": not addressed
	}{
		{"To: bob@b.example\n", "bob@b.example"},
		{"To: BOB@B.EXAMPLE\n", "BOB@b.example"},
		{"Cc: x@y.example, \"Bob, at home\" <bob@b.example>\n", "bob@b.example"},
		{"Bcc: bob@b.example\n", "bob@b.example"},
		{"Resent-To: bob@b.example\n", "bob@b.example"},
		{"Resent-Cc: bob@b.example\n", "bob@b.example"},
		{"To: friends: x@y.example, bob@b.example;\n", "bob@b.example"},
		{"To: x@y.example\nTo: bob@b.example\n", "bob@b.example"},
		{"To: bob+tag@b.example\n", "bob+tag@b.example"},
		{"To: robert@b.example\n", "robert@b.example"},
		{"To: bob@other.example\n", "bob@other.example"},
		{"To: bob@other.example, robert@b.example\n", "robert@b.example"}, // of which it is certain
		{"To: x@y.example\n", ""},
		{"To: robert@other.example\n", ""},
		{"To: bobby@b.example\n", ""},
		{"To: undisclosed-recipients:;\n", ""},
		{"To: \"bob@b.example\" <x@y.example>\n", ""},
		{"To: x@y.example (bob@b.example)\n", ""},
		{"To: bob@b.example <x@y.example>\n", ""}, // may be read in two ways
		{"To: bob\n", ""},
		{"Reply-To: bob@b.example\n", ""},
		{"Delivered-To: bob@b.example\n", ""},
		{"", ""},
	} {
		m := Mail{Sender: "alice@a.example", Header: []byte("From: alice@a.example\n" + c.fields), Own: bob}
		a, why := Decide(m)
		want := Due
		if c.own == "" {
			want = NotAddressed
		}
		if why != want || a.Own != c.own {
			t.Errorf("%q: %q, %q", c.fields, a.Own, why)
		}
		m.Any = true
		if a, why := Decide(m); why != Due || a.Own != c.own {
			t.Errorf("%q, any: %q, %q", c.fields, a.Own, why)
		}
	}
}

// Of an address that has a tag itself, others with one are not.
func TestOwnTag(t *testing.T) {
	for to, want := range map[string]Reason{"bob+a@b.example": Due, "bob+b@b.example": NotAddressed, "bob@b.example": NotAddressed} {
		if _, why := Decide(Mail{Sender: "alice@a.example", Header: []byte("To: " + to + "\n"), Own: []string{"bob+a@b.example"}}); why != want {
			t.Errorf("%s: %q", to, why)
		}
	}
}

func TestWhatIsTakenFromAMessage(t *testing.T) {
	many := ""
	for i := range 30 {
		many += fmt.Sprintf(" <%d@x>\n", i)
	}
	for _, c := range []struct{ fields, subject, id, references string }{
		{"Subject: lunch\nMessage-ID: <1@a>\n", "lunch", "1@a", "1@a"},
		{"Subject: =?utf-8?q?gr=C3=BCn?=\n =?utf-8?q?_tea?=\n", "grün tea", "", ""},
		{"Subject: a\n\tb\x1b[2J\u202ec\n", "a b [2J c", "", ""},
		{"Subject: " + strings.Repeat("ü", 300) + "\n", strings.Repeat("ü", 200) + "...", "", ""},
		{"Message-ID: <3@a>\nReferences: <1@a>\n <2@a>\nIn-Reply-To: <9@a>\n", "", "3@a", "1@a 2@a 3@a"},
		{"Message-ID: <3@a>\nIn-Reply-To: <2@a>\n", "", "3@a", "2@a 3@a"},
		{"Message-ID: <3@a>\nIn-Reply-To: <1@a> <2@a>\n", "", "3@a", "3@a"},
		{"Message-ID: <3@a> <4@a>\n", "", "", ""},
		{"Message-ID: none\n", "", "", ""},
		{"Message-ID: <" + strings.Repeat("x", 300) + "@a>\n", "", "", ""},
		{"Message-ID: <ü@a>\nReferences: <ü@a> <2@a>\n", "", "", "2@a"},
		{"Message-ID: <30@x>\nReferences:" + many, "", "30@x", "0@x 12@x 13@x 14@x 15@x 16@x 17@x 18@x 19@x 20@x 21@x 22@x 23@x 24@x 25@x 26@x 27@x 28@x 29@x 30@x"},
	} {
		a, why := Decide(Mail{Sender: "alice@a.example", Header: []byte("To: bob@b.example\n" + c.fields), Own: bob})
		if why != Due || a.Subject != c.subject || a.MessageID != c.id || strings.Join(a.References, " ") != c.references || a.To.String() != "alice@a.example" {
			t.Errorf("%.80q: %q, %+v", c.fields, why, a)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("alice@a.example", []byte(personal))
	f.Add("alice@a.example", []byte(personal+"Auto-Submitted: (a) no\nReferences: <1@a> <2@a>\n"))
	f.Add("MAILER-DAEMON", []byte("From: x\n"))
	f.Fuzz(func(t *testing.T, sender string, h []byte) {
		a, why := Decide(Mail{Sender: sender, Header: h, Own: bob, Any: true})
		if why != Due {
			return
		}
		if a.To.IsNull() || strings.ContainsAny(a.Subject, "\r\n\x00") || len(a.References) > maxReferences {
			t.Errorf("%+v", a)
		}
		// Nothing that is told to leave alone is answered, however it is put.
		for _, bad := range []string{"Auto-Submitted: auto-replied\n", "List-Id: x\n"} {
			if _, why := Decide(Mail{Sender: sender, Header: append([]byte(bad), h...), Own: bob, Any: true}); why == Due {
				t.Errorf("answered with %q", bad)
			}
		}
	})
}
