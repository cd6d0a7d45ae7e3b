package pop3

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
	"postamt/test/site"
)

// What happens to a maildrop (faults.md, rows P05 and M), seen by clients of the programs as they run.

// P05: of many clients that want one maildrop at the same time one has it; what one has removed the next does not see, and no unique-id comes twice.
func TestP05_ManyAtOnce(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		const clients, messages = 6, 15
		s := newSite(t, whole).All()
		s.Put(texts(messages)...)
		var inside, refused atomic.Int32
		var mu sync.Mutex
		removed := map[string]bool{}
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for round := 0; ; round++ {
					c := s.dial((i+round)%2 == 0)
					c.Do("USER alice", "+OK")
					c.Say("PASS secret")
					line, err := c.R.ReadString('\n')
					if strings.HasPrefix(line, "-ERR [IN-USE]") {
						refused.Add(1)
						c.Ended()
						continue
					}
					if !strings.HasPrefix(line, "+OK") {
						t.Errorf("%q, %v", line, err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d sessions have the maildrop", n)
					}
					listing := ids(c.lines("UIDL"))
					mu.Lock()
					left := messages - len(removed)
					for _, id := range listing {
						if removed[id] {
							t.Errorf("%s is there again", id)
						}
					}
					mu.Unlock()
					if len(listing) != left {
						t.Errorf("%d messages, of which %d are left", len(listing), left)
					}
					over := len(listing) == 0
					if !over {
						c.Do("DELE 1", "+OK")
					}
					mu.Lock()
					if !over {
						removed[listing[0]] = true
					}
					inside.Add(-1) // before the server has, and what is removed is noted by then
					mu.Unlock()
					c.Do("QUIT", "+OK")
					c.Ended()
					if over || t.Failed() {
						return
					}
				}
			})
		}
		all.Wait()
		if l := s.Left(); len(l) > 0 || len(removed) != messages && !t.Failed() {
			t.Errorf("%d were removed, %q are left", len(removed), l)
		}
		t.Log(refused.Load(), "were refused") // none, if the machine ran them one after the other
	})
}

// P05: nothing that dies leaves a lock: neither all of pop3d, nor the client's machine.
func TestP05_Killed(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(2)...)
		c := s.login(true)
		c.Do("DELE 1", "+OK")
		pids := proc.Tree(s.Cmds["pop3d"].Process.Pid)
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		s.Exit("pop3d")
		s.Await("the end of all", func() bool { return len(proc.Tree(pids...)) == 0 })
		s.Start("pop3d")
		c = s.login(false)
		c.Do("STAT", "+OK 2 ")
		c.Do("DELE 1", "+OK")
		c.Conn.(*net.TCPConn).SetLinger(0) // a reset
		c.Close()
		s.Logged("maildrop", "why=lost")
		c = s.login(true)
		c.Do("STAT", "+OK 2 ")
		c.Do("QUIT", "+OK")
	})
}

// P05: what has the name of the lock file and is none keeps its owner out, and nobody else; nothing is written through it.
func TestP05_LockIsNoFile(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0).All()
	s.Put(texts(1)...)
	lock := s.Alice + "/postamt.pop3.lock"
	target := s.Dir + "/home/alice/target"
	for what, make := range map[string]func() error{
		"symbolic link": func() error { return os.Symlink(target, lock) },
		"directory":     func() error { return os.Mkdir(lock, 0o700) },
	} {
		s.Must(make())
		s.Own(lock, "alice")
		c := s.dial(false)
		c.Do("USER alice", "+OK")
		c.Do("PASS secret", "-ERR [SYS/TEMP]")
		c.Ended()
		s.login2(false).Do("QUIT", "+OK")
		if _, err := os.Lstat(target); err == nil {
			t.Errorf("%s: its target was made", what)
		}
		s.Must(os.Remove(lock))
	}
	s.Must(syscall.Mkfifo(lock, 0o600)) // it can be locked as well as a file, and nobody waits
	s.Own(lock, "alice")
	c := s.login(false)
	d := s.dial(false)
	d.Do("USER alice", "+OK")
	d.Do("PASS secret", "-ERR [IN-USE]")
	c.Do("QUIT", "+OK")
}

// P05: who removes the file that is locked lets another session in; what one has removed is gone for the other, and nothing else is.
func TestP05_LockRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0).All()
	s.Put(texts(3)...)
	a := s.login(false)
	s.Must(os.Remove(s.Alice + "/postamt.pop3.lock"))
	b := s.login(true)
	b.Do("DELE 1", "+OK")
	a.Do("DELE 2", "+OK")
	b.Do("QUIT", "+OK bye, 2 ")
	a.Do("RETR 1", "-ERR the message is gone")
	a.Do("DELE 1", "+OK")
	a.Do("RETR 3", "+OK")
	if text := a.strict(); text != "Subject: 3\r\n\r\ntext\r\n" {
		t.Errorf("%q", text)
	}
	a.Do("QUIT", "+OK bye, 1 ")
	if l := s.Left(); !slices.Equal(l, []string{"1700000002.M2P1.host"}) {
		t.Error(l)
	}
}

// M07: the size in a name is not trusted for what is sent: a message of another size is not finished, and the next session has its true size.
func TestM07_WrongSizeInName(t *testing.T) {
	t.Parallel()
	s := newSite(t, true).All()
	s.odd = true
	const text = "Subject: x\n\nsome text\n"
	wire := len(text) + 3
	for i, name := range []string{"S=%d,W=1", "S=%d,W=24", "S=%d,W=26", "S=%d,W=1000000", "S=1,W=%[2]d", "S=%d,W=99999999999999999999", "W=-1", "S=,W="} {
		s.File(fmt.Sprintf("cur/%d.M%dP1.h,", 1700000000+i, i)+strings.SplitN(fmt.Sprintf(name, len(text), wire), "%!", 2)[0]+":2,S", text, time.Now())
	}
	wrong := 0
	for range 10 {
		c := s.login(false)
		list := ids(c.lines("LIST"))
		bad := slices.IndexFunc(list, func(size string) bool { return size != fmt.Sprint(wire) })
		if bad < 0 {
			c.Do("QUIT", "+OK")
			break
		}
		wrong++
		c.Do(fmt.Sprint("DELE ", 1+(bad+1)%len(list)), "+OK")
		c.Say(fmt.Sprint("RETR ", bad+1))
		if got := c.Ended(); strings.HasSuffix(got, "\r\n.\r\n") || !strings.HasPrefix(got, "+OK "+list[bad]+" ") {
			t.Fatalf("message %d of %s: %q", bad+1, list[bad], got)
		}
		s.Logged("maildrop", "why=changed")
	}
	c := s.login(false)
	for i, size := range ids(c.lines("LIST")) {
		c.Do(fmt.Sprint("RETR ", i+1), fmt.Sprint("+OK ", wire))
		if got := c.strict(); len(got) != wire || size != fmt.Sprint(wire) {
			t.Errorf("message %d: LIST %s, RETR %q", i+1, size, got)
		}
	}
	if wrong != 4 {
		t.Error(wrong, "sizes were wrong")
	}
}

// M12: a file that is cut, grows, is replaced or removed while it is sent: what was announced is sent, or the connection is closed within the message.
func TestM12_ChangedWhileSent(t *testing.T) {
	const lines = 1 << 20
	text := "Subject: x\n\n" + strings.Repeat("0123456789\n", lines)
	for what, change := range map[string]func(path string) error{
		"cut":      func(path string) error { return os.Truncate(path, int64(len(text)/2)) },
		"emptied":  func(path string) error { return os.Truncate(path, 0) },
		"grows":    func(path string) error { return os.WriteFile(path, []byte(text+"more\n.\nmore\n"), 0o600) }, // and is cut meanwhile
		"appended": func(path string) error { return appendTo(path, "more\n") },
		"removed":  os.Remove,
		"replaced": func(path string) error {
			return os.WriteFile(path+".tmp", []byte("Subject: other\n\n"), 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, true).All()
			s.File("cur/1700000000.M0P1.host:2,S", text, time.Now())
			path := s.Alice + "/cur/1700000000.M0P1.host:2,S"
			c := s.login(false)
			want := len(text) + lines + 2
			c.Do("RETR 1", fmt.Sprintf("+OK %d ", want))
			c.Want("Subject: x")
			s.Must(change(path))
			if what == "replaced" {
				s.Must(os.Rename(path+".tmp", path))
			}
			c.Say("QUIT")
			got := c.Ended()
			rest, ended := strings.CutSuffix(got, "\r\n.\r\n+OK bye, 1 messages left\r\n")
			keeps := what == "removed" || what == "replaced"
			if ended != keeps && what != "grows" || strings.Contains(got, "other") {
				t.Errorf("ended: %v, %q", ended, got[max(0, len(got)-100):])
			}
			if n := len("Subject: x\r\n") + len(rest) + 2; ended && n != want {
				t.Errorf("%d octets, want %d", n, want)
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// M19: maildirs of which a part is missing or out of reach: what can be made is made, else the client is told "later", and others are served.
func TestM19_BrokenMaildirs(t *testing.T) {
	for what, x := range map[string]struct {
		spoil  func(dir string) error
		answer string
	}{
		"no new":        {func(dir string) error { return os.RemoveAll(dir + "/new") }, "+OK 1 "},
		"no cur":        {func(dir string) error { return os.Remove(dir + "/cur") }, "+OK 2 "},
		"no tmp":        {func(dir string) error { return os.Remove(dir + "/tmp") }, "+OK 3 "},
		"no Maildir":    {os.RemoveAll, "+OK 0 "},
		"no home":       {func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) }, "-ERR [SYS/TEMP]"},
		"read-only":     {func(dir string) error { return os.Chmod(dir, 0o555) }, "-ERR [SYS/TEMP]"},
		"closed":        {func(dir string) error { return os.Chmod(dir, 0) }, "-ERR [SYS/TEMP]"},
		"new closed":    {func(dir string) error { return os.Chmod(dir+"/new", 0) }, "-ERR [SYS/TEMP]"},
		"another's":     {func(dir string) error { return os.Lchown(dir, site.BobID, site.BobID) }, "-ERR [SYS/TEMP]"},
		"a file":        {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, "-ERR [SYS/TEMP]"},
		"cur is /etc":   {func(dir string) error { return errors.Join(os.Remove(dir+"/cur"), os.Symlink("/etc", dir+"/cur")) }, "-ERR [SYS/TEMP]"},
		"cur is a pipe": {func(dir string) error { return errors.Join(os.Remove(dir+"/cur"), syscall.Mkfifo(dir+"/cur", 0o600)) }, "-ERR [SYS/TEMP]"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).All()
			s.odd = x.answer[0] == '-'
			s.Put(texts(2)...)
			if what != "no cur" && !strings.HasPrefix(what, "cur is") {
				s.File("cur/1800000000.M1P1.host:2,S", "Subject: 3\n\n", time.Now())
			}
			s.Must(x.spoil(s.Alice))
			c := s.dial(true)
			c.Do("USER alice", "+OK")
			c.Do("PASS secret", x.answer)
			s.login2(false).Do("QUIT", "+OK")
			if x.answer[0] == '-' {
				c.Ended()
				s.Logged("maildrop", "why=failed", "error=")
				return
			}
			c.Do("QUIT", "+OK")
		})
	}
}
