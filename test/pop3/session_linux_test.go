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
	"postamt/test/site"
)

// texts are n short messages.
func texts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("Subject: %d\n\ntext\n", i+1)
	}
	return all
}

// P05: a second session is told that the first has the maildrop; whatever ends the first lets go of it.
func TestP05_InUse(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(2)...)
		for i, secure := range []bool{false, true} {
			a := s.login(secure)
			b := s.dial(!secure)
			b.Do("USER alice", "+OK")
			b.Do("PASS secret", "-ERR [IN-USE]")
			b.Ended()
			if i == 0 {
				a.Close()
				s.Logged("maildrop", "why=lost")
			} else {
				a.Do("QUIT", "+OK") // the lock is gone before it is said
			}
			s.login(false).Do("QUIT", "+OK")
		}
		s.Logged("maildrop", "why=in-use")
		c := s.dial(false) // another user's is another
		a := s.login(false)
		c.Do("USER bob", "+OK")
		c.Do("PASS secret", "+OK 0 ")
		a.Do("QUIT", "+OK")
		c.Do("QUIT", "+OK")
	})
}

// P05: a worker that is killed leaves no lock, and has removed nothing; what it was sending is not finished.
func TestP05_WorkerKilled(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).All()
			s.Put("Subject: 1\n\n"+strings.Repeat("0123456789\n", 3<<20), "Subject: 2\n\n\n")
			c := s.login(secure)
			other := s.dial(false)
			other.Do("USER bob", "+OK")
			other.Do("PASS secret", "+OK")
			c.Do("DELE 2", "+OK")
			c.Do("RETR 1", "+OK")
			c.Want("Subject")
			s.Must(syscall.Kill(s.Part("worker"), syscall.SIGKILL))
			if text := c.Ended(); strings.HasSuffix(text, "\r\n.\r\n") {
				t.Error("the message was finished")
			}
			if l := s.Left(); len(l) != 2 {
				t.Error(l)
			}
			other.Do("NOOP", "+OK")               // another's worker is another
			s.Await("a new worker", func() bool { // the monitor waits a second
				c = s.dial(secure)
				c.Do("USER alice", "+OK")
				c.Say("PASS secret")
				line, err := c.R.ReadString('\n')
				if !strings.HasPrefix(line, "+OK 2 ") && !strings.HasPrefix(line, "-ERR [SYS/TEMP]") {
					t.Fatal(line, err)
				}
				return line[0] == '+'
			})
			c.Do("RETR 2", "+OK")
		})
	}
}

// While authd is dead nobody is told that his password is wrong; who has logged in goes on; with the next authd logins work.
func TestAuthdDead(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(1)...)
		waiting := s.dial(true)
		in := s.dial(false)
		in.Do("USER bob", "+OK")
		in.Do("PASS secret", "+OK")
		bad := s.dial(false)
		bad.Do("USER alice", "+OK")
		bad.Do("PASS wrong", "-ERR [AUTH]")
		s.Kill("authd", syscall.SIGKILL)
		s.Exit("authd")
		for _, c := range []*client{waiting, s.dial(false)} {
			c.Do("USER alice", "+OK")
			c.Do("PASS secret", "-ERR [SYS/TEMP]")
		}
		in.Do("STAT", "+OK 0 0")
		in.Do("QUIT", "+OK")
		s.Kill("pop3d", syscall.SIGHUP) // from here on it has never heard of authd
		s.Await("a reload", func() bool { return strings.Contains(s.Log(), "pop3d: -: reload ") })
		if lines := strings.Join(s.dial(true).lines("CAPA"), "|"); !strings.Contains(lines, "SASL PLAIN") {
			t.Error(lines)
		}
		s.Start("authd")
		s.login(true).Do("QUIT", "+OK")
	})
}

// The parts end together.
func TestPartsEnd(t *testing.T) {
	for _, role := range []string{"front", "monitor"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false, "drain_timeout 1h").All() // c's worker would wait for QUIT
			s.Put(texts(1)...)
			c, d := s.login(false), s.login2(true)
			c.Do("DELE 1", "+OK")
			monitor := s.Cmds["pop3d"].Process.Pid
			pids := proc.Tree(monitor)
			if len(pids) != 4 { // two workers
				t.Fatal(pids)
			}
			kill := monitor
			if role == "front" {
				kill = s.Part("front")
			}
			s.Must(syscall.Kill(kill, syscall.SIGKILL))
			if code := s.Exit("pop3d"); code == 0 {
				t.Error("exit 0")
			}
			s.Await("the end of all", func() bool { return len(proc.Tree(pids...)) == 0 })
			c.Ended()
			d.Ended()
			if l := s.Left(); len(l) != 1 {
				t.Error(l)
			}
			s.Start("pop3d")
			s.login(false).Do("RETR 1", "+OK")
		})
	}
}

// login2 is bob's.
func (s *pop3Site) login2(secure bool) *client {
	s.T.Helper()
	c := s.dial(secure)
	c.Do("USER bob", "+OK")
	c.Do("PASS secret", "+OK")
	return c
}

// HUP gives both halves a new configuration, and one that is none changes nothing; sessions under way go on.
func TestReload(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "pop3d_expire 3").All()
		s.Put(texts(1)...)
		c := s.login(false)
		if l := c.lines("CAPA"); !slices.Contains(l, "EXPIRE 3") {
			t.Fatal(l)
		}
		text, err := os.ReadFile(s.Configuration())
		s.Must(err)
		s.Must(os.WriteFile(s.Configuration(), []byte(strings.Replace(string(text), "pop3d_expire 3", "pop3d_expire 33", 1)), 0o644))
		s.Kill("pop3d", syscall.SIGHUP)
		c.Do("DELE 1", "+OK")
		c.Do("RSET", "+OK")
		c.Do("QUIT", "+OK")
		s.Await("the new configuration", func() bool {
			d := s.dial(true)
			before := slices.Contains(d.lines("CAPA"), "EXPIRE 33")
			d.Do("USER alice", "+OK")
			d.Do("PASS secret", "+OK")
			after := slices.Contains(d.lines("CAPA"), "EXPIRE 33")
			d.Do("QUIT", "+OK")
			return before && after
		})
		s.Must(os.WriteFile(s.Configuration(), append(text, "frob\n"...), 0o644))
		s.Kill("pop3d", syscall.SIGHUP)
		s.Logged("reload", "frob")
		if l := s.login(true).lines("CAPA"); !slices.Contains(l, "EXPIRE 33") {
			t.Error(l)
		}
	})
}

// TERM ends sessions that wait, and lets those finish that have marked or sent messages.
func TestDrain(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(3)...)
		idle, greeted, busy := s.login2(false), s.dial(true), s.login(true)
		busy.Do("DELE 2", "+OK")
		s.Kill("pop3d", syscall.SIGTERM)
		for _, c := range []*client{idle, greeted} {
			if text := c.Ended(); text != "" {
				t.Errorf("it said %q", text)
			}
			c.Close() // or they linger for its end
		}
		busy.Do("STAT", "+OK 2 ")
		busy.lines("RETR 1")
		busy.Do("QUIT", "+OK")
		busy.Ended()
		busy.Close()
		if code := s.Exit("pop3d"); code != 0 {
			t.Error("exit", code)
		}
		if l := s.Left(); len(l) != 2 {
			t.Error(l)
		}
	})
}

// What others do to the messages of a session: they are renamed, and removed, and new ones come.
func TestOthersWrite(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put("Subject: 1\n\n"+strings.Repeat("0123456789\n", 2<<20), "Subject: 2\n\n", "Subject: 3\n\n", "Subject: 4\n\n")
		c := s.login(false)
		rename := func(n int, flags string) {
			l, _ := filepath.Glob(fmt.Sprintf("%s/*/%d.*", s.Alice, 1700000000+n-1))
			if len(l) != 1 {
				t.Fatal(l)
			}
			base, _, _ := strings.Cut(filepath.Base(l[0]), ":")
			s.Must(os.Rename(l[0], s.Alice+"/cur/"+base+":2,"+flags))
		}
		c.Do("RETR 1", "+OK 25165838 octets")
		rename(1, "S") // during RETR
		n := 0
		for line := c.Want(""); line != "."; line = c.Want("") {
			n += len(line) + 2
		}
		if n != 12+2+12*(2<<20) {
			t.Error(n, "octets")
		}
		rename(1, "FS")
		rename(2, "S")
		rename(4, "")
		l, _ := filepath.Glob(s.Alice + "/new/1700000002.*")
		s.Must(os.Remove(l[0]))
		s.File("new/1800000000.M1P1.host", "Subject: new\n\n", time.Now())
		for range 2 { // it stays gone
			c.Do("RETR 3", "-ERR the message is gone")
			c.Do("TOP 3 0", "-ERR the message is gone")
		}
		if l := c.lines("UIDL"); len(l) != 4 {
			t.Error(l)
		}
		c.lines("RETR 2")
		rename(2, "RS")
		for i := 1; i <= 3; i++ {
			c.Do(fmt.Sprint("DELE ", i), "+OK")
		}
		c.Do("QUIT", "+OK")
		if l := s.Left(); len(l) != 2 || !slices.Contains(l, "1800000000.M1P1.host") || !slices.Contains(l, "1700000003.M3P1.host:2,") {
			t.Error(l)
		}
		if strings.Contains(s.Log(), "pop3d: -: problem") || strings.Count(s.Log(), " problem") > 1 {
			t.Error("problems were logged")
		}
	})
}

// When all messages get other UIDs during a session, because the list of them was replaced, no number of the session means another message.
func TestOtherUIDs(t *testing.T) {
	s := newSite(t, true).All()
	s.Put(texts(3)...)
	c := s.login(false)
	c.lines("RETR 1")
	var b strings.Builder
	b.WriteString("3 V1234567890 N4 G00000000000000000000000000000000\n")
	for i := range 3 {
		fmt.Fprintf(&b, "%d :%d.M%dP1.host\n", i+1, 1700000002-i, 2-i)
	}
	s.File("dovecot-uidlist.new", b.String(), time.Now())
	s.Must(os.Rename(s.Alice+"/dovecot-uidlist.new", s.Alice+"/dovecot-uidlist"))
	s.Must(os.Rename(s.Alice+"/new/1700000000.M0P1.host", s.Alice+"/cur/1700000000.M0P1.host:2,S"))
	c.Say("RETR 1")
	if line := c.Want(""); line[0] == '+' {
		if l := c.Want(""); l != "Subject: 1" {
			t.Errorf("RETR 1: %s", l)
		}
		for c.Want("") != "." {
		}
	}
	c.Do("DELE 1", "+OK")
	c.Do("QUIT", "-ERR [SYS/TEMP]")
	if l := s.Left(); len(l) != 3 {
		t.Error(l)
	}
	c = s.login(false)
	c.Do("DELE 1", "+OK")
	c.Do("QUIT", "+OK")
	if l := s.Left(); len(l) != 2 || slices.Contains(l, "1700000002.M2P1.host") {
		t.Error(l)
	}
}
