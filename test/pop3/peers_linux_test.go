package pop3

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/site"
)

// The unique-ids are Dovecot's, for what it has numbered, for what we have, and for what came from Courier.
func TestUIDLIsDovecots(t *testing.T) {
	d := peers.Dovecot(t, peers.Config{Protocols: []string{"pop3"}, Users: []string{"alice"}})
	s := newSite(t, false).All()
	own := func() { // two owners, in turns
		st, err := os.Stat(d.Maildirs + "/alice")
		s.Must(err)
		s.Must(filepath.Walk(s.Alice, func(path string, _ os.FileInfo, err error) error {
			return os.Lchown(path, int(st.Sys().(*syscall.Stat_t).Uid), int(st.Sys().(*syscall.Stat_t).Gid))
		}))
	}
	back := func() {
		s.Must(filepath.Walk(s.Alice, func(path string, _ os.FileInfo, err error) error { return os.Lchown(path, site.AliceID, site.AliceID) }))
	}
	mailbox := d.Maildirs + "/alice/Maildir"
	theirs := func() []string {
		t.Helper()
		own()
		os.RemoveAll(mailbox)
		s.Must(os.Rename(s.Alice, mailbox))
		nc, err := net.Dial("tcp", d.POP3)
		s.Must(err)
		c := &client{site.NewClient(t, nc)}
		c.Want("+OK")
		c.Do("USER alice", "+OK")
		c.Do("PASS secret", "+OK")
		l := c.lines("UIDL")
		c.Do("QUIT", "+OK")
		c.Ended()
		s.Must(os.Rename(mailbox, s.Alice))
		back()
		return l
	}
	ours := func() []string {
		t.Helper()
		c := s.login(false)
		l := c.lines("UIDL")
		c.Do("QUIT", "+OK")
		return l
	}
	same := func(what string, a, b []string, n int) {
		t.Helper()
		if !slices.Equal(a, b) || len(a) != n {
			t.Errorf("%s: %q, %q", what, a, b)
		}
	}
	s.Put(texts(2)...)
	same("Dovecot first", theirs(), ours(), 2)
	s.File("new/1800000000.M1P1.host", "Subject: x\n\n", time.Now())
	same("we first", ours(), theirs(), 3)
	s.File("dovecot-uidlist", "3 V1700000000 N6 G0123456789abcdef0123456789abcdef\n3 PUID1-1 :1700000000.M0P1.host\n5 PUID7-1 :1700000001.M1P1.host\n", time.Now())
	a := ours()
	same("Courier's", a, theirs(), 3)
	if !slices.Contains(a, "1 UID1-1") {
		t.Error(a)
	}
}

// A session under a shell, with pipes, and one that a server of single connections starts, as its owner and as root.
func TestSessions(t *testing.T) {
	t.Run("pipes", func(t *testing.T) {
		s := newSite(t, true)
		s.Put(texts(2)...)
		c := exec.Command("sh", "-c", fmt.Sprintf("printf 'STAT\\r\\nDELE 1\\r\\nQUIT\\r\\n' | %s/pop3d -C %s -session %s | cat", s.Bin, s.Configuration(), s.Alice))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.Credentials}
		var errs bytes.Buffer
		c.Stderr, c.Dir = &errs, "/"
		out, err := c.Output()
		if want := "+OK 2 messages\r\n+OK 2 40\r\n+OK marked\r\n+OK bye, 1 messages left\r\n"; err != nil || string(out) != want {
			t.Errorf("%v %q\n%s", err, out, errs.String())
		}
		if l := s.Left(); len(l) != 1 {
			t.Error(l)
		}
	})
	t.Run("tcpserver", func(t *testing.T) {
		path, err := exec.LookPath("tcpserver")
		if err != nil {
			t.Skip("tcpserver is not installed (ucspi-tcp)")
		}
		s := newSite(t, true)
		s.Start("authd", "keyd")
		host, port, _ := net.SplitHostPort(s.Addr)
		c := exec.Command(path, "-HR", "-l0", host, port, s.Bin+"/pop3d", "-C", s.Configuration())
		s.supervise(c)
		s.Await("tcpserver", func() bool {
			nc, err := net.Dial("tcp", s.Addr)
			if err == nil {
				nc.Close()
			}
			return err == nil
		})
		s.single(s.dial(false))
	})
	site.Both(t, func(t *testing.T, whole bool) { // as inetd does: the connection is standard input
		s := newSite(t, whole)
		s.Start("authd", "keyd")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		s.Must(err)
		defer l.Close()
		nc, err := net.Dial("tcp", l.Addr().String())
		s.Must(err)
		server, err := l.Accept()
		s.Must(err)
		stdin, err := server.(*net.TCPConn).File()
		s.Must(err)
		server.Close()
		c := exec.Command(s.Bin+"/pop3d", "-C", s.Configuration())
		c.Stdin, c.Stdout = stdin, stdin
		s.supervise(c)
		stdin.Close()
		d := &client{site.NewClient(t, nc)}
		d.Want("+OK ")
		s.single(d)
	})
}

// supervise starts a command, and ends it and what it has started with the test.
func (s *pop3Site) supervise(c *exec.Cmd) {
	s.T.Helper()
	log, err := os.OpenFile(s.Dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.Must(err)
	defer log.Close()
	c.Stderr, c.Dir, c.SysProcAttr = log, "/", &syscall.SysProcAttr{Credential: s.Credentials, Setpgid: true}
	s.Must(c.Start())
	s.T.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
	})
}

// single is a session by itself.
func (s *pop3Site) single(c *client) {
	s.T.Helper()
	s.Put(texts(2)...)
	c.Do("USER alice", "+OK")
	c.Do("PASS secret", "+OK 2 ")
	c.lines("RETR 2")
	c.Do("DELE 1", "+OK")
	c.Do("QUIT", "+OK bye, 1 ")
	c.Ended()
	if l := s.Left(); len(l) != 1 {
		s.T.Error(l)
	}
}
