package aliases

import (
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postamt/internal/tables"
	"postamt/test/suite"
)

// smtpd and queued look up in what is compiled, behind their walls, follow the text when it changes, and take the next one that is compiled.
func TestProgramsUseWhatIsCompiled(t *testing.T) {
	s := suite.Start(t, suite.Config{Aliases: "staff: alice, bob\nold: bob\n"})
	path := filepath.Join(s.Dir, "aliases")
	compile := func() {
		t.Helper()
		if _, err := tables.Compile(path); err != nil {
			t.Fatal(err)
		}
	}
	rcpt := func(name string) error {
		t.Helper()
		c, err := smtp.Dial(s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Mail("me@far.example"); err != nil {
			t.Fatal(err)
		}
		return c.Rcpt(name + "@" + s.Domain)
	}
	open := func(program string) bool { // it has the very file that is there
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.Pid(program)))
		for _, l := range links {
			if to, _ := os.Readlink(l); to == path+".cdb" {
				return true
			}
		}
		return false
	}
	await := func(what string, condition func() bool) {
		t.Helper()
		if err := suite.Await(10*time.Second, what, condition); err != nil {
			t.Fatal(err)
		}
	}
	send := func(n int) {
		t.Helper()
		if err := smtp.SendMail(s.Addr, nil, "me@far.example", []string{"staff@" + s.Domain}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"alice", "bob"} {
			if _, err := s.AwaitDelivered(user, n, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	compile()
	await("smtpd opens it", func() bool { return rcpt("staff") == nil && open("smtpd") })
	send(1)
	// A program looks at its files when it is asked something.
	n := 1
	await("queued opens it", func() bool {
		if open("queued") {
			return true
		}
		n++
		send(n)
		return false
	})
	if err := os.WriteFile(path+".new", []byte("staff: alice, bob\nnew: alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	await("the text holds", func() bool { return rcpt("new") == nil && rcpt("old") != nil })
	compile()
	await("smtpd opens the next", func() bool { return rcpt("new") == nil && rcpt("old") != nil && open("smtpd") })
}
