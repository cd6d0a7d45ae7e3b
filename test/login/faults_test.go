package login

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/suite"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// from is a connection from an address of its own: who guesses is known by it.
func from(t testing.TB, addr, ip string) *client {
	t.Helper()
	c, err := dial(t, addr, ip)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A01: what is no response of PLAIN is nobody's login, and hurts nobody else.
func TestA01_Responses(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Auth: true, Users: []string{"alice", "bob", "x"}})
	other := from(t, s.Submit, "127.0.1.1")
	for i, c := range []struct{ name, say, want string }{
		{"no base64", "AUTH PLAIN not!base64", "501"},
		{"no NUL", "AUTH PLAIN " + b64("alice"), "501"},
		{"one NUL", "AUTH PLAIN " + b64("alice\x00alice"), "501"},
		{"three NULs", "AUTH PLAIN " + b64("\x00alice\x00alice\x00"), "501"},
		{"alice as bob", "AUTH PLAIN " + b64("bob\x00alice\x00alice"), "535"},
		{"alice as alice", "AUTH PLAIN " + b64("alice\x00alice\x00alice"), "235"},
		{"empty response", "AUTH PLAIN =", "501"},
		{"cancelled", "AUTH PLAIN\r\n*", "334 501"},
		{"empty password", plain("alice", ""), "535"},
		{"password of one octet", plain("bob", "b"), "535"},
		{"right password of one octet", plain("x", "x"), "235"},
		{"a megabyte", "AUTH PLAIN\r\n" + strings.Repeat("QUFB", 1<<18), "334 500"},
	} {
		conn := from(t, s.Submit, fmt.Sprintf("127.0.2.%d", i+1))
		go io.WriteString(conn.conn, c.say+"\r\n") // the server may not want all of a megabyte
		for _, code := range strings.Fields(c.want) {
			if r, err := conn.reply(); !strings.HasPrefix(r, code) {
				t.Errorf("%s: %q, %v, want %s", c.name, r, err, code)
				break
			}
		}
		other.want("250", "NOOP")
	}
	other.want("235", plain("alice", "alice"))
}

// A03: guesses at one user from hundreds of addresses: he gets in as before where he has been, and a few seconds later elsewhere. Guesses
// at many from one address wait for each other. How long, authd's log says.
func TestA03_ManyAddresses(t *testing.T) {
	t.Parallel()
	cheap := hash(t, "SHA256-CRYPT", "alice") // of the like is what an unknown user costs
	bin, _ := programs()
	s, err := suite.New(suite.Config{Bin: bin, Auth: true, Settings: "passwords secrets\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	if err := os.WriteFile(filepath.Join(s.Dir, "secrets"), []byte("alice:"+cheap+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.End() })
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	from(t, s.Submit, "127.0.3.1").want("235", plain("alice", "alice"))
	var guessing sync.WaitGroup
	const guesses = 200
	for i := range guesses {
		guessing.Go(func() {
			c, err := dial(t, s.Submit, fmt.Sprintf("127.1.%d.%d", i/200, 1+i%200))
			if err != nil {
				t.Error(err)
				return
			}
			if r, err := c.say(plain("alice", "guess")); !strings.HasPrefix(r, "535") {
				t.Errorf("%q, %v", r, err)
			}
		})
	}
	guessing.Wait()
	from(t, s.Submit, "127.0.3.1").want("235", plain("alice", "alice"))
	from(t, s.Submit, "127.0.3.2").want("235", plain("alice", "alice"))
	log := logged(t, s, "authd", guesses, ": auth-failed ")
	log = logged(t, s, "authd", 3, ": auth-ok ")
	var waits []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, ": auth-ok ") {
			_, wait, _ := strings.Cut(strings.TrimSpace(line), " wait=")
			waits = append(waits, wait)
		}
	}
	if got := strings.Join(waits, " "); got != "  4.000" {
		t.Errorf("the right password waited %q", waits)
	}
	c := from(t, s.Submit, "127.0.3.3")
	for i := range 3 {
		c.want("535", plain(fmt.Sprint("user", i), "guess"))
	}
	logged(t, s, "authd", 1, "user=<user2> client=127.0.3.3 service=smtp mech=PLAIN reason=\"wrong user name or password\" wait=1.000")
}

// A13: a session outlives the password that it was opened with, and the user; the next login does not.
func TestA13_SessionsLive(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Auth: true})
	bin, _ := programs()
	passwd := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, "authd"), append([]string{"-C", s.Conf, "passwd"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	c := from(t, s.Submit, "127.0.4.1")
	c.want("235", plain("alice", "alice"))
	passwd("new\n", "-s", "SHA512-CRYPT", "alice")
	send(c)
	from(t, s.Submit, "127.0.4.2").want("535", plain("alice", "alice"))
	from(t, s.Submit, "127.0.4.3").want("235", plain("alice", "new"))
	passwd("", "-d", "alice")
	from(t, s.Submit, "127.0.4.4").want("535", plain("alice", "new"))
	c.want("250", "NOOP")
	if _, err := s.AwaitDelivered("bob", 1, limit); err != nil {
		t.Error(err)
	}
}

// send has a session send a message from alice to bob.
func send(c *client) {
	c.t.Helper()
	c.want("250", "MAIL FROM:<alice@example.test>")
	c.want("250", "RCPT TO:<bob@example.test>")
	c.want("354", "DATA")
	c.want("250", "From: alice@example.test\r\nSubject: a test\r\n\r\ntext\r\n.")
}

// F09: signals in the middle of a login and of a message: what was begun comes to its end, or is told "later"; the message that was
// promised is delivered once.
func TestF09_Signals(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Auth: true})
	stop := func(name string) {
		t.Helper()
		if err := s.Signal(name, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		err := suite.Await(limit, name+" to stop", func() bool {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid(name)))
			return bytes.Contains(b, []byte(") T "))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	signal := func(name string, sig syscall.Signal) {
		t.Helper()
		if err := s.Signal(name, sig); err != nil {
			t.Fatal(err)
		}
	}
	hup := func(name string) {
		t.Helper()
		n := strings.Count(s.Log(name), ": reload ")
		signal(name, syscall.SIGHUP)
		logged(t, s, name, n+1, ": reload ")
	}
	begin := func() *client {
		c := mustDial(t, s.Submit)
		c.want("334", "AUTH LOGIN")
		c.want("334", b64("alice"))
		return c
	}
	data := func(c *client) {
		c.want("250", "MAIL FROM:<alice@example.test>")
		c.want("250", "RCPT TO:<bob@example.test>")
		c.want("354", "DATA")
		io.WriteString(c.conn, "From: alice@example.test\r\nSubject: signals\r\n\r\nfirst\r\n")
	}

	t.Run("HUP", func(t *testing.T) {
		c := begin()
		hup("authd")
		hup("smtpd")
		c.want("235", b64("alice"))
		data(c)
		hup("smtpd")
		hup("authd")
		c.want("250", "second\r\n.")
	})
	t.Run("STOP and CONT of authd", func(t *testing.T) {
		c := begin()
		stop("authd")
		io.WriteString(c.conn, b64("alice")+"\r\n")
		mx := mustDial(t, s.Addr) // meanwhile others are served
		mx.want("250", "MAIL FROM:<x@client.test>")
		mx.want("250", "RCPT TO:<alice@example.test>")
		signal("authd", syscall.SIGCONT)
		if r, err := c.reply(); !strings.HasPrefix(r, "235") {
			t.Errorf("%q, %v", r, err)
		}
	})
	t.Run("STOP and CONT of smtpd", func(t *testing.T) {
		c := begin()
		stop("smtpd")
		io.WriteString(c.conn, b64("alice")+"\r\n")
		signal("smtpd", syscall.SIGCONT)
		if r, err := c.reply(); !strings.HasPrefix(r, "235") {
			t.Fatalf("%q, %v", r, err)
		}
		data(c)
		stop("smtpd")
		io.WriteString(c.conn, "second\r\n.\r\n")
		signal("smtpd", syscall.SIGCONT)
		if r, err := c.reply(); !strings.HasPrefix(r, "250") {
			t.Errorf("%q, %v", r, err)
		}
	})
	t.Run("TERM of authd", func(t *testing.T) {
		c := begin()
		if err := s.Terminate("authd"); err != nil {
			t.Fatal(err)
		}
		c.want("454", b64("alice"))
		if err := s.Launch("authd"); err != nil {
			t.Fatal(err)
		}
		c.want("235", plain("alice", "alice"))
	})
	t.Run("TERM of smtpd", func(t *testing.T) {
		busy := mustDial(t, s.Submit)
		busy.want("235", plain("alice", "alice"))
		data(busy)
		within := begin()
		ended := make(chan error, 1)
		go func() { ended <- s.Terminate("smtpd") }()
		if r, err := within.reply(); !strings.HasPrefix(r, "421 4.3.2") {
			t.Errorf("in AUTH: %q, %v", r, err)
		}
		busy.want("250", "second\r\n.")
		if r, err := busy.reply(); !strings.HasPrefix(r, "421 4.3.2") {
			t.Errorf("after the message: %q, %v", r, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.Launch("smtpd"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("STOP beyond a deadline", func(t *testing.T) {
		conf, err := os.OpenFile(s.Conf, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = conf.WriteString("smtpd_timeout_command 2s\n")
			err = errors.Join(err, conf.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		hup("smtpd")
		c := mustDial(t, s.Submit)
		stop("smtpd")
		time.Sleep(2500 * time.Millisecond) // ten minutes, for a server that is not as patient
		signal("smtpd", syscall.SIGCONT)
		if r, err := c.reply(); !strings.HasPrefix(r, "421 4.4.2") {
			t.Errorf("%q, %v", r, err)
		}
		mustDial(t, s.Submit)
	})

	if _, err := s.AwaitDelivered("bob", 3, limit); err != nil {
		t.Error(err)
	}
	if err := s.AwaitEmpty(limit); err != nil {
		t.Error(err)
	}
	if n := len(s.Delivered("bob")); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

// F17: nobody reads the logs, or there are none, or their disk is full: people log in, mail arrives, and the programs end when they are told to.
func TestF17_Logs(t *testing.T) {
	t.Parallel()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	blocked, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer blocked.Close()
	defer full.Close()
	raw, err := full.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool {
		for err = nil; err == nil; _, err = syscall.Write(int(fd), make([]byte, 1<<16)) {
		}
		return true
	})
	if err != syscall.EAGAIN {
		t.Fatal(err)
	}
	noRoom, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer noRoom.Close()
	for name, by := range map[string]func(*exec.Cmd) error{
		"nobody reads": func(c *exec.Cmd) error { c.Stderr = full; return c.Start() },
		"no room":      func(c *exec.Cmd) error { c.Stderr = noRoom; return c.Start() },
		"closed": func(c *exec.Cmd) error {
			c.Args = append([]string{"sh", "-c", `exec "$@" 2>&-`, "sh", c.Path}, c.Args[1:]...)
			c.Path = "/bin/sh"
			return c.Start()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := suite.New(suite.Config{Bin: bin, Auth: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Remove)
			s.StartBy = map[string]func(*exec.Cmd) error{"authd": by, "smtpd": by, "queued": by, "deliver": by}
			t.Cleanup(func() {
				if err := errors.Join(s.End(), s.Check()); err != nil {
					t.Error(err)
				}
			})
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				c := mustDial(t, s.Submit)
				c.want("535", plain("nobody", "wrong"))
				c.want("235", plain("alice", "alice"))
				send(c)
				if _, err := s.AwaitDelivered("bob", i+1, limit); err != nil {
					t.Error(err)
				}
			}
			for _, program := range []string{"authd", "smtpd", "queued", "deliver"} {
				if log := s.Log(program); log != "" {
					t.Errorf("%s logs elsewhere:\n%s", program, log)
				}
			}
		})
	}
}
