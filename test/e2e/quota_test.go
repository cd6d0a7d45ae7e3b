package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/suite"
)

// D16: what does not fit waits for room. Meanwhile smtpd refuses what is as large at RCPT, under each of the mailbox's addresses, and takes the rest.
func TestD16_FullMailbox(t *testing.T) {
	s := start(t, suite.Config{Settings: "quota_default 5000\nrecipient_delimiter +\n"})
	full := func() int {
		l, err := os.ReadDir(filepath.Join(s.Queue, "full"))
		if err != nil {
			t.Fatal(err)
		}
		return len(l)
	}
	large := append(note("large"), strings.Repeat("0123456789\r\n", 250)...)
	c := dial(t, s.Addr)
	c.send("<a@client.test>", []string{"<alice@example.test>"}, large)
	inbox(t, s, "alice", 1)
	c.send("<a@client.test>", []string{"<alice@example.test>", "<bob@example.test>"}, large)
	inbox(t, s, "bob", 1)
	await(t, "a note that it is full", func() bool { return full() == 1 })

	ask := func(params string, want, bob string) {
		t.Helper()
		c.say("250", "MAIL FROM:<a@client.test>"+params)
		for _, a := range []string{"alice", "ALICE+tag"} {
			c.say(want, "RCPT TO:<"+a+"@example.test>")
		}
		c.say(bob, "RCPT TO:<bob@example.test>")
		c.say("250", "RSET")
	}
	ask(" SIZE=3000", "452 4.2.2", "250")
	ask(" SIZE=100", "250", "250")
	ask("", "250", "250")

	os.Remove(s.Delivered("alice")[0])
	os.Remove(filepath.Join(s.Maildir("alice"), "maildirsize")) // or it is believed for a quarter of an hour
	// Again and again: the first attempt may not have come to its end, and then it is that which says when the next one is.
	await(t, "the end of the note", func() bool { return s.Flush() == nil && full() == 0 })
	inbox(t, s, "alice", 1)
	ask(" SIZE=3000", "250", "250")
	empty(t, s)
}
