package pop3

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
)

// texts are n short messages.
func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("Subject: %d\n\ntext\n", i+1)
	}
	return all
}

// A second session is told that the first has the maildrop; whatever ends the first lets go of it.
func TestInUse(t *testing.T) {
	both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).all()
		s.put(texts(2)...)
		for i, secure := range []bool{false, true} {
			a := s.login(secure)
			b := s.dial(!secure)
			b.do("USER alice", "+OK")
			b.do("PASS secret", "-ERR [IN-USE]")
			b.ended()
			if i == 0 {
				a.Close()
				s.logged("maildrop", "why=lost")
			} else {
				a.do("QUIT", "+OK") // the lock is gone before it is said
			}
			s.login(false).do("QUIT", "+OK")
		}
		s.logged("maildrop", "why=in-use")
		c := s.dial(false) // another user's is another
		a := s.login(false)
		c.do("USER bob", "+OK")
		c.do("PASS secret", "+OK 0 ")
		a.do("QUIT", "+OK")
		c.do("QUIT", "+OK")
	})
}

// A worker that is killed leaves no lock, and has removed nothing; what it was sending is not finished.
func TestWorkerKilled(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).all()
			s.put("Subject: 1\n\n"+strings.Repeat("0123456789\n", 3<<20), "Subject: 2\n\n\n")
			c := s.login(secure)
			other := s.dial(false)
			other.do("USER bob", "+OK")
			other.do("PASS secret", "+OK")
			c.do("DELE 2", "+OK")
			c.do("RETR 1", "+OK")
			c.want("Subject")
			s.must(syscall.Kill(s.part("worker"), syscall.SIGKILL))
			if text := c.ended(); strings.HasSuffix(text, "\r\n.\r\n") {
				t.Error("the message was finished")
			}
			if l := s.left(); len(l) != 2 {
				t.Error(l)
			}
			other.do("NOOP", "+OK")               // another's worker is another
			s.await("a new worker", func() bool { // the monitor waits a second
				c = s.dial(secure)
				c.do("USER alice", "+OK")
				c.say("PASS secret")
				line, err := c.r.ReadString('\n')
				if !strings.HasPrefix(line, "+OK 2 ") && !strings.HasPrefix(line, "-ERR [SYS/TEMP]") {
					t.Fatal(line, err)
				}
				return line[0] == '+'
			})
			c.do("RETR 2", "+OK")
		})
	}
}

// While authd is dead nobody is told that his password is wrong; who has logged in goes on; with the next authd logins work.
func TestAuthdDead(t *testing.T) {
	both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).all()
		s.put(texts(1)...)
		waiting := s.dial(true)
		in := s.dial(false)
		in.do("USER bob", "+OK")
		in.do("PASS secret", "+OK")
		bad := s.dial(false)
		bad.do("USER alice", "+OK")
		bad.do("PASS wrong", "-ERR [AUTH]")
		s.kill("authd", syscall.SIGKILL)
		s.exit("authd")
		for _, c := range []*client{waiting, s.dial(false)} {
			c.do("USER alice", "+OK")
			c.do("PASS secret", "-ERR [SYS/TEMP]")
		}
		in.do("STAT", "+OK 0 0")
		in.do("QUIT", "+OK")
		s.start("authd")
		s.login(true).do("QUIT", "+OK")
	})
}

// The parts end together.
func TestPartsEnd(t *testing.T) {
	for _, role := range []string{"front", "monitor"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).all()
			s.put(texts(1)...)
			c, d := s.login(false), s.login2(true)
			c.do("DELE 1", "+OK")
			monitor := s.cmds["pop3d"].Process.Pid
			pids := proc.Tree(monitor)
			if len(pids) != 4 { // two workers
				t.Fatal(pids)
			}
			kill := monitor
			if role == "front" {
				kill = s.part("front")
			}
			s.must(syscall.Kill(kill, syscall.SIGKILL))
			if code := s.exit("pop3d"); code == 0 {
				t.Error("exit 0")
			}
			s.await("the end of all", func() bool { return len(proc.Tree(pids...)) == 0 })
			c.ended()
			d.ended()
			if l := s.left(); len(l) != 1 {
				t.Error(l)
			}
			s.start("pop3d")
			s.login(false).do("RETR 1", "+OK")
		})
	}
}

// login2 is bob's.
func (s *site) login2(secure bool) *client {
	s.t.Helper()
	c := s.dial(secure)
	c.do("USER bob", "+OK")
	c.do("PASS secret", "+OK")
	return c
}

// HUP gives both halves a new configuration, and one that is none changes nothing; sessions under way go on.
func TestReload(t *testing.T) {
	both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "pop3d_expire 3").all()
		s.put(texts(1)...)
		c := s.login(false)
		if l := c.lines("CAPA"); !slices.Contains(l, "EXPIRE 3") {
			t.Fatal(l)
		}
		text, err := os.ReadFile(s.configuration())
		s.must(err)
		s.must(os.WriteFile(s.configuration(), []byte(strings.Replace(string(text), "pop3d_expire 3", "pop3d_expire 33", 1)), 0o644))
		s.kill("pop3d", syscall.SIGHUP)
		c.do("DELE 1", "+OK")
		c.do("RSET", "+OK")
		c.do("QUIT", "+OK")
		s.await("the new configuration", func() bool {
			d := s.dial(true)
			before := slices.Contains(d.lines("CAPA"), "EXPIRE 33")
			d.do("USER alice", "+OK")
			d.do("PASS secret", "+OK")
			after := slices.Contains(d.lines("CAPA"), "EXPIRE 33")
			d.do("QUIT", "+OK")
			return before && after
		})
		s.must(os.WriteFile(s.configuration(), append(text, "frob\n"...), 0o644))
		s.kill("pop3d", syscall.SIGHUP)
		s.logged("reload", "frob")
		if l := s.login(true).lines("CAPA"); !slices.Contains(l, "EXPIRE 33") {
			t.Error(l)
		}
	})
}

// TERM ends sessions that wait, and lets those finish that have marked or sent messages.
func TestDrain(t *testing.T) {
	both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).all()
		s.put(texts(3)...)
		idle, greeted, busy := s.login2(false), s.dial(true), s.login(true)
		busy.do("DELE 2", "+OK")
		s.kill("pop3d", syscall.SIGTERM)
		for _, c := range []*client{idle, greeted} {
			if text := c.ended(); text != "" {
				t.Errorf("it said %q", text)
			}
		}
		busy.do("STAT", "+OK 2 ")
		busy.lines("RETR 1")
		busy.do("QUIT", "+OK")
		busy.ended()
		if code := s.exit("pop3d"); code != 0 {
			t.Error("exit", code)
		}
		if l := s.left(); len(l) != 2 {
			t.Error(l)
		}
	})
}

// What others do to the messages of a session: they are renamed, and removed, and new ones come.
func TestOthersWrite(t *testing.T) {
	both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).all()
		s.put("Subject: 1\n\n"+strings.Repeat("0123456789\n", 2<<20), "Subject: 2\n\n", "Subject: 3\n\n", "Subject: 4\n\n")
		c := s.login(false)
		rename := func(n int, flags string) {
			l, _ := filepath.Glob(fmt.Sprintf("%s/*/%d.*", s.alice, 1700000000+n-1))
			if len(l) != 1 {
				t.Fatal(l)
			}
			base, _, _ := strings.Cut(filepath.Base(l[0]), ":")
			s.must(os.Rename(l[0], s.alice+"/cur/"+base+":2,"+flags))
		}
		c.do("RETR 1", "+OK 25165838 octets")
		rename(1, "S") // during RETR
		n := 0
		for line := c.want(""); line != "."; line = c.want("") {
			n += len(line) + 2
		}
		if n != 12+2+12*(2<<20) {
			t.Error(n, "octets")
		}
		rename(1, "FS")
		rename(2, "S")
		rename(4, "")
		l, _ := filepath.Glob(s.alice + "/new/1700000002.*")
		s.must(os.Remove(l[0]))
		s.file("new/1800000000.M1P1.host", "Subject: new\n\n", time.Now())
		for range 2 { // it stays gone
			c.do("RETR 3", "-ERR the message is gone")
			c.do("TOP 3 0", "-ERR the message is gone")
		}
		if l := c.lines("UIDL"); len(l) != 4 {
			t.Error(l)
		}
		c.lines("RETR 2")
		rename(2, "RS")
		for i := 1; i <= 3; i++ {
			c.do(fmt.Sprint("DELE ", i), "+OK")
		}
		c.do("QUIT", "+OK")
		if l := s.left(); len(l) != 2 || !slices.Contains(l, "1800000000.M1P1.host") || !slices.Contains(l, "1700000003.M3P1.host:2,") {
			t.Error(l)
		}
		if strings.Contains(s.log(), " problem") {
			t.Error("problems were logged")
		}
	})
}

// When all messages get other UIDs during a session, because the list of them was replaced, no number of the session means another message.
func TestOtherUIDs(t *testing.T) {
	s := newSite(t, true).all()
	s.put(texts(3)...)
	c := s.login(false)
	c.lines("RETR 1")
	var b strings.Builder
	b.WriteString("3 V1234567890 N4 G00000000000000000000000000000000\n")
	for i := range 3 {
		fmt.Fprintf(&b, "%d :%d.M%dP1.host\n", i+1, 1700000002-i, 2-i)
	}
	s.file("dovecot-uidlist.new", b.String(), time.Now())
	s.must(os.Rename(s.alice+"/dovecot-uidlist.new", s.alice+"/dovecot-uidlist"))
	s.must(os.Rename(s.alice+"/new/1700000000.M0P1.host", s.alice+"/cur/1700000000.M0P1.host:2,S"))
	c.say("RETR 1")
	if line := c.want(""); line[0] == '+' {
		if l := c.want(""); l != "Subject: 1" {
			t.Errorf("RETR 1: %s", l)
		}
		for c.want("") != "." {
		}
	}
	c.do("DELE 1", "+OK")
	c.do("QUIT", "-ERR [SYS/TEMP]")
	if l := s.left(); len(l) != 3 {
		t.Error(l)
	}
	c = s.login(false)
	c.do("DELE 1", "+OK")
	c.do("QUIT", "+OK")
	if l := s.left(); len(l) != 2 || slices.Contains(l, "1700000002.M2P1.host") {
		t.Error(l)
	}
}
