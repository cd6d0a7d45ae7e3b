package imapd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maillog"
	"postamt/internal/watch"
)

// openWatched is how mailboxes are opened with a watcher: those of a new maildir at the path.
func openWatched(t testing.TB) (open func(context.Context) (*mailbox.Account, error), path string) {
	w, err := watch.New()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no inotify and no kqueue on this system")
	}
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "Maildir")
	var d facts.Describer
	all := mailbox.NewAccounts(w, mailbox.Options{Describe: d.Describe, Form: facts.Form, Columns: facts.Columns, Column: facts.AppendColumn, Report: func(err error) { t.Log(err) }})
	t.Cleanup(func() { all.End(); w.Close() })
	return func(context.Context) (*mailbox.Account, error) { return all.Open(path) }, path
}

// speaker is a client who has logged in elsewhere.
type speaker struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
	w func([]byte) (int, error)
}

// speak begins a session. It has ended when the test has.
func speak(ctx context.Context, t testing.TB, s *Server, open func(context.Context) (*mailbox.Account, error)) *speaker {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer ours.Close()
		s.Serve(ctx, imap.NewConn(ours), open, Note{Session: "-", Client: maillog.Client{Proto: "IMAP", Login: "alice"}})
	}()
	t.Cleanup(func() { theirs.Close(); <-over })
	theirs.SetReadDeadline(time.Now().Add(time.Minute))
	c := &speaker{t, theirs, bufio.NewReaderSize(theirs, 16), theirs.Write}
	c.until("* PREAUTH")
	return c
}

func (c *speaker) say(line string) {
	c.t.Helper()
	if _, err := c.w([]byte(line + "\r\n")); err != nil {
		c.t.Error(err)
	}
}

// until reads to the line that begins so, and returns the lines.
func (c *speaker) until(begin string) (lines []string) {
	c.t.Helper()
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%v, want %q, after %q", err, begin, lines)
		}
		lines = append(lines, strings.TrimSuffix(l, "\r\n"))
		if strings.HasPrefix(l, begin) {
			return lines
		}
	}
}

// I22: a mailbox that gets a message in every millisecond is told of, to the last one, and not for each.
func TestI22_Coalesced(t *testing.T) {
	open, path := openWatched(t)
	c := speak(t.Context(), t, NewServer(testConfig()), open)
	c.say("a SELECT INBOX")
	c.until("a OK")
	c.say("b IDLE")
	c.until("+ ")
	const n = 300
	for i := range n {
		name := fmt.Sprintf("%d.M%d.h", 1700000000+i, i)
		if err := os.WriteFile(filepath.Join(path, "tmp", name), []byte("Subject: x\n\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(path, "tmp", name), filepath.Join(path, "new", name)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	told := 0
	for _, l := range c.until(fmt.Sprintf("* %d EXISTS", n)) {
		if strings.HasSuffix(l, " EXISTS") {
			told++
		}
	}
	t.Logf("%d messages, told %d times", n, told)
	if told > n*9/10 {
		t.Errorf("told %d times of %d messages", told, n)
	}
	c.say("DONE")
	c.until("b OK")
}

// I22: who is in IDLE and says nothing is sent away, and who says something else is told, and can go on.
func TestI22_NoDone(t *testing.T) {
	conf := testConfig()
	s := NewServer(conf)
	open := newOpen(t)
	c := speak(t.Context(), t, s, open)
	c.say("a SELECT INBOX")
	c.say("b IDLE")
	c.until("+ ")
	c.say("c NOOP")
	c.until("b BAD")
	c.say("d IDLE")
	c.until("+ ")
	c.say("done")
	c.until("d OK")
	conf.TimeoutIdle = 50 * time.Millisecond
	c = speak(t.Context(), t, s, open)
	c.say("a IDLE")
	c.until("* BYE idle for too long")
}

// A server that stops says so to who is in IDLE, with a mailbox or without.
func TestDrainIdle(t *testing.T) {
	for _, first := range []string{"a NOOP", "a SELECT INBOX"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := speak(ctx, t, NewServer(testConfig()), newOpen(t))
		c.say(first)
		c.until("a OK")
		c.say("b IDLE")
		c.until("+ ")
		cancel()
		c.until("* BYE [UNAVAILABLE] the server stops")
	}
}

// I12: that another program removes or renames the folder is seen in IDLE at once.
func TestI12_ByAnother(t *testing.T) {
	for _, how := range []func(path string) error{
		func(path string) error { return os.Rename(path, path+"er") },
		os.RemoveAll,
	} {
		open, path := openWatched(t)
		c := speak(t.Context(), t, NewServer(testConfig()), open)
		c.say("a CREATE work")
		c.say("b SELECT work")
		c.until("b OK")
		c.say("c IDLE")
		c.until("+ ")
		if err := how(filepath.Join(path, ".work")); err != nil {
			t.Fatal(err)
		}
		c.until("* BYE [NONEXISTENT]")
		if _, err := os.Stat(filepath.Join(path, ".work")); !os.IsNotExist(err) {
			t.Errorf("it is back: %v", err)
		}
	}
}
