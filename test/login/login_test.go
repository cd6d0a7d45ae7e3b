// Package login has strangers log in: their mail programs at our smtpd, their servers at our authd, and our smtpd at theirs.
//
// What a test says it says by tools that are not ours, or byte by byte.
package login

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
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

// limit is for whatever must happen soon; a machine under load may take its time.
const limit = 60 * time.Second

// programs are built once, not for each System.
var programs = sync.OnceValues(suite.Build)

// start runs a System.
func start(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	c.Bin = bin
	return suite.Start(t, c)
}

// logged waits until a program has written so many lines with these words, and returns its log: a log follows what it tells of.
func logged(t *testing.T, s *suite.System, program string, n int, words string) string {
	t.Helper()
	err := suite.Await(limit, fmt.Sprintf("%d lines with %q", n, words), func() bool { return strings.Count(s.Log(program), words) >= n })
	if err != nil {
		t.Errorf("%v in the log of %s:\n%s", err, program, s.Log(program))
	}
	return s.Log(program)
}

// tool returns the path of a program of the machine.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	return path
}

// client is a connection on which a test says what it likes.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// dial connects from that address of loopback, "" for any, and says EHLO.
func dial(t testing.TB, addr, from string) (*client, error) {
	d := net.Dialer{Timeout: limit}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	c := newClient(t, conn)
	if _, err := c.reply(); err != nil {
		return nil, err
	}
	_, err = c.say("EHLO client.test")
	return c, err
}

func newClient(t testing.TB, conn net.Conn) *client {
	conn.SetDeadline(time.Now().Add(2 * limit))
	return &client{t, conn, bufio.NewReader(conn)}
}

func mustDial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := dial(t, addr, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *client) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil || len(line) < 4 || line[3] != '-' {
			return all.String(), err
		}
	}
}

func (c *client) say(line string) (string, error) {
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return "", err
	}
	return c.reply()
}

// want says a line to which the reply must begin with code.
func (c *client) want(code, line string) {
	c.t.Helper()
	if r, err := c.say(line); err != nil || !strings.HasPrefix(r, code) {
		c.t.Fatalf("%s: %q, %v, want %s", line, r, err, code)
	}
}

// plain is AUTH PLAIN.
func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// Authd dies: logins wait, sessions live; it is back: they log in.
func TestAuthdIsKilled(t *testing.T) {
	s := start(t, suite.Config{Auth: true})
	c := mustDial(t, s.Submit)
	c.want("535", plain("alice", "wrong"))
	s.Kill("authd")
	c.want("454", plain("alice", "alice"))
	c.want("454", plain("alice", "wrong"))
	c.want("250", "NOOP")
	c.want("530", "MAIL FROM:<alice@example.test>")
	fresh := mustDial(t, s.Submit) // its EHLO had nobody to ask
	fresh.want("454", plain("alice", "alice"))
	// Nor has an smtpd that has never heard it: what is not offered is not tried, and a server that sends without AUTH would bounce on 530.
	reloads := strings.Count(s.Log("smtpd"), ": reload ")
	if err := s.Signal("smtpd", syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "smtpd", reloads+1, ": reload ")
	never := mustDial(t, s.Submit)
	if r, err := never.say("EHLO client.test"); !strings.Contains(r, "-AUTH ") || !strings.Contains(r, " PLAIN") || err != nil {
		t.Errorf("nobody can log in, it seems: %q, %v", r, err)
	}
	never.want("454", plain("alice", "alice"))
	mx := mustDial(t, s.Addr)
	mx.want("250", "MAIL FROM:<x@client.test>")
	mx.want("250", "RCPT TO:<alice@example.test>")
	if err := s.Launch("authd"); err != nil {
		t.Fatal(err)
	}
	c.want("235", plain("alice", "alice"))
	fresh.want("235", plain("bob", "bob"))
	c.want("250", "MAIL FROM:<alice@example.test>")
}

// A11: a password goes by none of the ways in which passwords get about.
func TestCanary(t *testing.T) {
	const canary = "c4naryXq7"
	const guess = "gu3ssedZz9"
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s, err := suite.New(suite.Config{Bin: bin, Auth: true, TLS: true, Settings: "users secrets\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	users := fmt.Sprintf("alice:{PLAIN}%s::::%s::\nbob:*::::%s::\nbroken:%s:::::\nworse:{PLAIN}%[1]s:nonsense::::\n", canary,
		filepath.Join(s.Dir, "home/alice"), filepath.Join(s.Dir, "home/bob"), canary)
	if err := os.WriteFile(filepath.Join(s.Dir, "secrets"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.End() })
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	c := mustDial(t, s.Submit)
	for _, user := range []string{"alice", "broken", "worse", "nobody"} {
		if user != "alice" {
			c.say(plain(user, canary))
		}
	}
	c.want("535", plain("alice", guess))
	c.want("5", "AUTH PLAIN "+canary)
	c.want("334", "AUTH LOGIN")
	c.want("334", b64([]byte("alice")))
	c.want("235", b64([]byte(canary)))
	c.want("250", "MAIL FROM:<alice@example.test>")
	c.want("250", "RCPT TO:<bob@example.test>")
	c.want("354", "DATA")
	c.want("250", "From: alice@example.test\r\n\r\ntext\r\n.")
	if _, err := s.AwaitDelivered("bob", 1, limit); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "authd", 2, ": auth-failed ")
	logged(t, s, "authd", 1, ": auth-ok ")
	look := map[string]string{}
	for _, name := range []string{"authd", "smtpd", "queued", "deliver"} {
		pid := s.Pid(name)
		if pid == 0 {
			t.Fatalf("%s does not run", name)
		}
		for _, file := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil {
				t.Skip(err)
			}
			look[name+" "+file] = string(b)
		}
		look["log of "+name] = s.Log(name)
	}
	filepath.Walk(s.Dir, func(path string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() && filepath.Base(path) != "secrets" {
			b, _ := os.ReadFile(path)
			look[path] = string(b)
		}
		return nil
	})
	if len(look["authd cmdline"]) == 0 || !strings.Contains(look["log of authd"], "auth-failed") || !strings.Contains(look["log of authd"], "auth-ok") {
		t.Errorf("not the places that were meant: %.300q", look["log of authd"])
	}
	for where, text := range look {
		for _, secret := range []string{canary, guess, b64([]byte(canary)), b64([]byte("\x00alice\x00" + guess)), b64([]byte("\x00broken\x00" + canary))} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, where)
			}
		}
	}
}

// What is beyond a login's limit waits until somebody has looked at it, and the postmaster hears of it once.
func TestALimitHolds(t *testing.T) {
	s := start(t, suite.Config{Auth: true, Aliases: "postmaster: bob\n", Users: []string{"alice", "bob", "carol"}, Settings: "login_messages_hour 2\n"})
	c := mustDial(t, s.Submit)
	c.want("235", plain("alice", "alice"))
	for range 5 {
		c.want("250", "MAIL FROM:<alice@example.test>")
		c.want("250", "RCPT TO:<carol@example.test>")
		c.want("354", "DATA")
		c.want("250", "From: alice@example.test\r\nSubject: newsletter\r\n\r\ntext\r\n.")
	}
	if _, err := s.AwaitDelivered("carol", 2, limit); err != nil {
		t.Fatal(err)
	}
	held := func() []string {
		found, _ := filepath.Glob(filepath.Join(s.Queue, "hold", "*"))
		more, _ := filepath.Glob(filepath.Join(s.Queue, "hold", "*", "*"))
		var ids []string
		for _, path := range append(found, more...) {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && !strings.Contains(filepath.Base(path), ".") {
				ids = append(ids, filepath.Base(path))
			}
		}
		return ids
	}
	if err := suite.Await(limit, "three held messages", func() bool { return len(held()) == 3 }); err != nil {
		t.Fatalf("%v: %v\n%s", err, held(), s.Log("queued"))
	}
	notices, err := s.AwaitDelivered("bob", 1, limit)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(notices[0])
	if !strings.Contains(string(b), "alice") || !strings.Contains(string(b), "more than 2 messages an hour") || !strings.Contains(string(b), "queuectl release") {
		t.Errorf("the postmaster is told\n%s", b)
	}
	bin, _ := programs()
	out, err := exec.Command(filepath.Join(bin, "queuectl"), append([]string{"-C", s.Conf, "release"}, held()...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := s.AwaitDelivered("carol", 5, limit); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitEmpty(limit); err != nil {
		t.Error(err)
	}
	if n := len(s.Delivered("bob")); n != 1 {
		t.Errorf("the postmaster is told %d times", n)
	}
}
