package imap

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/proc"
	"postamt/test/site"
)

// 10,000 sessions wait in IDLE, half of them alice's and half bob's, and cost some memory each; a message for each of the two is told to all.
func TestIdle10000(t *testing.T) {
	const sessions = 10_000
	const most = 25 << 10 // octets of memory for each, of all processes together
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files); files.Max < sessions+1000 {
		t.Skipf("no process may have more than %d files open", files.Max)
	}
	s := newSite(t, false, "imapd_user_limit 0")
	const cheap = "{SHA256-CRYPT}$5$rounds=1000$abcdefgh$XIppta5rT8zJUu4vAOKQXrwq9uY4Ijlz6VjyOmkx5i4" // of "secret"; a login takes as long as that of the dearest hash
	s.Write("etc/passwords", "alice:"+cheap+"\nbob:"+cheap+"\n", 0o640)
	s.All()
	s.Maildir("bob")
	pss := func() int64 {
		sum, err := proc.PSS(proc.Tree(s.Cmds["imapd"].Process.Pid)...)
		s.Must(err)
		return sum
	}
	users := [...]string{"alice", "bob"}
	readers := make([]*bufio.Reader, sessions)
	begin := func(from, to int) {
		var group sync.WaitGroup
		next := make(chan int)
		for range 20 {
			group.Go(func() {
				for i := range next {
					if err := idle(s, users[i%2], &readers[i]); err != nil {
						t.Errorf("session %d: %v", i, err)
					}
				}
			})
		}
		for i := range to - from {
			next <- from + i
		}
		close(next)
		group.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	const first = 100 // what is there once, whoever logs in, is not of a session
	begun := time.Now()
	begin(0, first)
	before := pss()
	begin(first, sessions)
	each := (pss() - before) / int64(sessions-first)
	t.Logf("%d sessions in %v, %.1f KiB each", sessions, time.Since(begun).Round(time.Millisecond), float64(each)/1024)
	if each > most {
		t.Errorf("%d octets a session, more than %d", each, most)
	}
	var told []time.Duration
	begun = time.Now()
	for _, user := range users {
		tmp, file := s.Maildir(user)+"/tmp/1700000000.M1P1.host", s.Maildir(user)+"/new/1700000000.M1P1.host"
		s.Must(os.WriteFile(tmp, []byte("Subject: x\n\nx\n"), 0o600))
		s.Own(tmp, user)
		s.Must(os.Rename(tmp, file))
	}
	for i, r := range readers {
		if line, err := r.ReadString('\n'); line != "* 1 EXISTS\r\n" || err != nil {
			t.Fatalf("session %d: %q, %v", i, line, err)
		}
		told = append(told, time.Since(begun))
	}
	t.Logf("the last one was told after %v", slices.Max(told).Round(time.Millisecond))
}

// idle begins a session of a user's that is in IDLE.
func idle(s *imapSite, user string, r **bufio.Reader) error {
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return err
	}
	s.T.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(site.Limit))
	*r = bufio.NewReaderSize(c, 1024)
	for _, step := range []struct{ say, until string }{{"", "* OK "}, {"a LOGIN " + user + " secret\r\n", "a OK "}, {"b SELECT INBOX\r\n", "b OK "}, {"c IDLE\r\n", "+ "}} {
		fmt.Fprint(c, step.say)
		for line := ""; !strings.HasPrefix(line, step.until); {
			if line, err = (*r).ReadString('\n'); err != nil {
				return fmt.Errorf("%q, %w", line, err)
			}
		}
	}
	return nil
}
