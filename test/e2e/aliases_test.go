package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/suite"
)

const aliases = `
postmaster: alice
list:  alice, bob, far@sink.test
one:   alice
two:   alice
both:  one, two, bob
loopa: loopb
loopb: loopa
mixed: bob, ring
ring:  gnir, carol
gnir:  ring
gone:  :fail: moved to the other side
`

// TestAliases sends to lists, a catch-all and a tag, each with a System of its own behind one table.
func TestAliases(t *testing.T) {
	for _, test := range []struct {
		name       string
		to         []string
		alice, bob int
		sink       []string
	}{
		{name: "list", to: []string{"list@example.test"}, alice: 1, bob: 1, sink: []string{"far@sink.test"}},
		{name: "catch-all", to: []string{"whoever@catch.test"}, alice: 1},
		{name: "before the catch-all", to: []string{"known@catch.test"}, bob: 1},
		{name: "another domain", to: []string{"bob@old.test"}, bob: 1},
		{name: "tag", to: []string{"bob+nofolder@example.test"}, bob: 1},
		{name: "D12 two aliases", to: []string{"one@example.test", "two@example.test"}, alice: 1},
		{name: "D12 direct and by aliases", to: []string{"one@example.test", "alice@example.test", "two@example.test"}, alice: 1},
		{name: "D12 alias of aliases", to: []string{"both@example.test", "alice@example.test", "bob@example.test"}, alice: 1, bob: 1},
		{name: "letters of either case", to: []string{"LIST@Example.Test", "ALICE@example.test"}, alice: 1, bob: 1, sink: []string{"far@sink.test"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := sinkAt(t, "127.0.0.1")
			s := start(t, suite.Config{
				Aliases:        aliases,
				VirtualAliases: "@catch.test alice@example.test\nknown@catch.test bob@example.test\n@old.test @example.test\n",
				Routes:         fmt.Sprintf("sink.test [127.0.0.1]:%s\n", k.port()),
				Settings:       "virtual_domains catch.test old.test\n",
			})
			var to []string
			for _, a := range test.to {
				to = append(to, "<"+a+">")
			}
			dial(t, s.Addr).send("<sender@client.test>", to, note(test.name))
			inbox(t, s, "alice", test.alice)
			inbox(t, s, "bob", test.bob)
			got := k.await(t, len(test.sink))
			empty(t, s)
			// A second copy could have come until now.
			inbox(t, s, "alice", test.alice)
			inbox(t, s, "bob", test.bob)
			for i, m := range got {
				if len(m.to) != 1 || m.to[0] != test.sink[i] || m.from != "sender@client.test" {
					t.Errorf("the sink has a message from %s to %s", m.from, m.to)
				}
			}
		})
	}
}

func TestTagFolder(t *testing.T) {
	s := start(t, suite.Config{})
	for _, dir := range []string{"cur", "new", "tmp"} {
		for _, in := range []string{"", ".lists"} {
			if err := os.MkdirAll(filepath.Join(s.Maildir("alice"), in, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	dial(t, s.Addr).send("<sender@client.test>", []string{"<alice+lists@example.test>"}, note("a tag"))
	empty(t, s)
	inbox(t, s, "alice", 0)
	found, _ := filepath.Glob(filepath.Join(s.Maildir("alice"), ".lists", "new", "*"))
	if len(found) != 1 {
		t.Errorf("%d messages in the folder", len(found))
	}
}

func TestRefusedAtRcpt(t *testing.T) {
	s := start(t, suite.Config{Aliases: aliases})
	c := dial(t, s.Addr)
	c.say("250", "MAIL FROM:<sender@client.test>")
	c.say("550 5.1.1", "RCPT TO:<nobody-here@example.test>")
	c.say("550 5.7.1", "RCPT TO:<someone@elsewhere.test>")
	c.say("550 5.4.6", "RCPT TO:<loopa@example.test>")
	c.say("550 5.1.1 moved to the other side", "RCPT TO:<gone@example.test>")
	c.say("550 5.1.1", "RCPT TO:<alice%example.test@example.test>")
	c.say("554", "DATA")
	c.say("250", "RSET")
	if n := len(s.Queued()); n != 0 {
		t.Errorf("%d messages are queued", n)
	}
}

// TestD01_LoopInList: who can be reached gets the message, and the sender hears of the loop.
func TestD01_LoopInList(t *testing.T) {
	s := start(t, suite.Config{Aliases: aliases, Users: []string{"alice", "bob", "carol"}})
	dial(t, s.Addr).send("<alice@example.test>", []string{"<mixed@example.test>"}, note("a loop"))
	inbox(t, s, "bob", 1)
	inbox(t, s, "carol", 1)
	r := parse(t, inbox(t, s, "alice", 1)[0])
	empty(t, s)
	if len(r.Recipients) != 1 || r.Recipients[0]["Status"] != "5.4.6" {
		t.Errorf("reported %v", r.Recipients)
	}
}

// TestD03_AddressesAreNoTargets: what would be a command, a file or a list in an alias file is a user who does not exist.
func TestD03_AddressesAreNoTargets(t *testing.T) {
	dir, err := os.MkdirTemp("", "c") // t.TempDir would not fit into the 64 octets of a local part
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	canary := filepath.Join(dir, "canary")
	included := filepath.Join(dir, "list")
	if err := os.WriteFile(included, []byte("alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, suite.Config{})
	c := dial(t, s.Addr)
	c.say("250", "MAIL FROM:<sender@client.test>")
	for _, local := range []string{
		`"|touch ` + canary + `"`, `|touch`, `"|touch${IFS}` + canary + `"`, canary, `"` + canary + `"`, `":include:` + included + `"`,
		`~root/x`, `"$(touch ` + canary + `)"`, "`touch" + canary + "`", `"; touch ` + canary + `"`, `"../../` + canary + `"`, `"alice/../bob"`,
		`"\\alice"`, `".lists"`,
	} {
		c.say("550 5.1.1", "RCPT TO:<"+local+"@example.test>")
	}
	// The sender's address is not run either.
	c.say("250", "RSET")
	c.send(`<"|touch `+canary+`"@client.test>`, []string{"<alice@example.test>"}, note("a canary"))
	text := inbox(t, s, "alice", 1)[0]
	if !strings.HasPrefix(text, `Return-Path: <"|touch `+canary+`"@client.test>`) {
		t.Errorf("begins with %.100q", text)
	}
	empty(t, s)
	if _, err := os.Lstat(canary); !os.IsNotExist(err) {
		t.Errorf("the canary: %v", err)
	}
}
