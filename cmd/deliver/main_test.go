package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary is the program too.
func TestMain(m *testing.M) {
	if os.Getenv("DELIVER_IS_MAIN") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "DELIVER_IS_MAIN=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// site is a whole configuration in one directory.
type site struct {
	t    testing.TB
	dir  string
	conf string
}

func newSite(t testing.TB, more ...string) *site {
	s := &site{t: t, dir: t.TempDir()}
	s.conf = s.dir + "/postamt.conf"
	s.file("postamt.conf", "hostname mx.example.org\norigin example.org\nlocal_domains example.org\nrun_dir "+s.dir+"/run\nqueue_dir "+s.dir+"/queue\n"+
		"mailbox_dir "+s.dir+"/mail\nlog stderr\nlogin_user\n"+strings.Join(more, "\n")+"\n")
	s.file("users", "bob\nalice:::::"+s.dir+"/nohome\nforeign::54321:54321::/nowhere\nquota:::::::quota=1k\n")
	s.file("aliases", "")
	for _, d := range []string{"run", "queue", "mail"} {
		if err := os.Mkdir(s.dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) file(name, text string) {
	if err := os.WriteFile(s.dir+"/"+name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) maildir(user string) string { return s.dir + "/mail/example.org/" + user + "/Maildir" }

func (s *site) messages(user string) []string {
	m, _ := filepath.Glob(s.maildir(user) + "/new/*")
	return m
}

// filter runs the program as another mail server would.
func (s *site) filter(in string, args ...string) (code int, errs string) {
	c := program(s.t, append([]string{"-C", s.conf}, args...)...)
	c.Stdin = strings.NewReader(in)
	var b bytes.Buffer
	c.Stderr = &b
	err := c.Run()
	if err != nil && c.ProcessState == nil {
		s.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), b.String()
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		name, in string
		args     []string
		code     int
		want     string // the file; or a part of what is said, when the code is not 0
	}{
		{"lf", "Subject: x\n\nbody\n", []string{"-f", "a@b.example", "bob"}, 0,
			"Return-Path: <a@b.example>\nDelivered-To: bob@example.org\nSubject: x\n\nbody\n"},
		{"crlf", "Subject: x\r\n\r\nbody\r\n", []string{"-f", "<a@b.example>", "bob"}, 0,
			"Return-Path: <a@b.example>\nDelivered-To: bob@example.org\nSubject: x\n\nbody\n"},
		{"null sender", "x\n", []string{"-f", "", "bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\nx\n"},
		{"mailer daemon", "x\n", []string{"-f", "MAILER-DAEMON", "bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\nx\n"},
		{"local sender", "x\n", []string{"-f", "root", "bob"}, 0, "Return-Path: <root@example.org>\nDelivered-To: bob@example.org\nx\n"},
		{"strange sender", "x\n", []string{"-f", "a..b@x_y", "bob"}, 0, "Return-Path: <a..b@x_y>\nDelivered-To: bob@example.org\nx\n"},
		{"From_", "From a@b.example Mon Nov 24 00:00:00 2026\nSubject: x\n\nFrom here\n", []string{"bob"}, 0,
			"Return-Path: <a@b.example>\nDelivered-To: bob@example.org\nSubject: x\n\nFrom here\n"},
		{"From_ and -f", "From x\nSubject: x\n", []string{"-f", "c@b.example", "bob"}, 0, "Return-Path: <c@b.example>\nDelivered-To: bob@example.org\nSubject: x\n"},
		{"S33 not From_", ">From x\n", []string{"bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\n>From x\n"},
		{"empty", "", []string{"bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\n"},
		{"no final newline", "x", []string{"bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\nx"},
		{"dot", ".\n..\n", []string{"bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\n.\n..\n"},
		{"address", "x\n", []string{"bob@example.org"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\nx\n"},
		{"extension", "x\n", []string{"-a", "lists", "bob"}, 0, "Return-Path: <>\nDelivered-To: bob+lists@example.org\nx\n"},
		{"D03 extension", "x\n", []string{"-a", "../../x", "bob"}, 0, "Return-Path: <>\nDelivered-To: \"bob+../../x\"@example.org\nx\n"},
		{"C03 extension", "x\n", []string{"-a", "a\nBcc: b", "bob"}, 0, "Return-Path: <>\nDelivered-To: bob@example.org\nx\n"},
		{"delivered-to", "x\n", []string{"-d", "alias@example.org", "bob"}, 0, "Return-Path: <>\nDelivered-To: alias@example.org\nx\n"},
		{"unknown", "x\n", []string{"nobody"}, 67, "nobody"},
		{"unknown address", "x\n", []string{"bob@elsewhere.example"}, 67, "bob@elsewhere.example"},
		{"D03 path", "x\n", []string{"../bob"}, 67, "../bob"},
		{"D03 pipe", "x\n", []string{"|/bin/sh"}, 67, "/bin/sh"},
		{"C03 sender", "x\n", []string{"-f", "a@b.example>\nBcc: c", "bob"}, 65, "sender"},
		{"bad recipient", "x\n", []string{"-d", "a b", "bob"}, 65, "recipient"},
		{"home missing", "x\n", []string{"alice"}, 75, "home directory is missing"},
		{"another's", "x\n", []string{"foreign"}, 75, "uid 54321"},
		{"D16 quota", strings.Repeat("x\n", 1000), []string{"quota"}, 75, "over quota"},
		{"usage", "", []string{"-x", "bob"}, 64, "usage:"},
		{"C01 usage", "", []string{"bob", "alice"}, 64, "usage:"},
		{"usage of the service", "", []string{"-f", "x"}, 64, "usage:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			code, errs := s.filter(c.in, c.args...)
			m := s.messages("bob")
			if code != c.code {
				t.Fatalf("exit %d, want %d: %s", code, c.code, errs)
			}
			if code != 0 {
				if !strings.Contains(errs, c.want) || len(m) != 0 || code != 64 && strings.Count(errs, "\n") != 1 {
					t.Errorf("said %q, stored %q", errs, m)
				}
				return
			}
			if len(m) != 1 || errs != "" {
				t.Fatalf("stored %q, said %q", m, errs)
			}
			if got, _ := os.ReadFile(m[0]); string(got) != c.want {
				t.Errorf("stored %q, want %q", got, c.want)
			}
			if tmp, _ := filepath.Glob(s.maildir("bob") + "/tmp/*"); len(tmp) != 0 {
				t.Errorf("left %q", tmp)
			}
		})
	}
}

func TestFilterTooLarge(t *testing.T) {
	s := newSite(t, "message_size_limit 10k")
	if code, errs := s.filter(strings.Repeat("x\n", 10000), "bob"); code != 65 || len(s.messages("bob")) != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestQ22_Configuration(t *testing.T) {
	s := newSite(t, "no_such_key 1")
	// The filter has a message in its hands, which is not to come back to its sender for this.
	if code, errs := s.filter("x\n", "bob"); code != 75 || !strings.Contains(errs, "no_such_key") {
		t.Errorf("exit %d: %s", code, errs)
	}
	missing := newSite(t)
	os.Remove(missing.dir + "/users")
	if code, errs := missing.filter("x\n", "bob"); code != 75 || !strings.Contains(errs, "/users: no such file") {
		t.Errorf("no users file: exit %d: %s", code, errs)
	}
	if code, errs := s.filter(""); code != 78 || !strings.Contains(errs, "no_such_key") {
		t.Errorf("service: exit %d: %s", code, errs)
	}
}

// C05: a limit on the size of files is an error like a full disk, and the
// message stays with whoever ran us.
func TestC05_FileSizeLimit(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh")
	}
	s := newSite(t)
	c := program(t, "-C", s.conf, "bob")
	c.Args = append([]string{"sh", "-c", `ulimit -f 1; exec "$0" "$@"`}, append([]string{c.Path}, c.Args[1:]...)...)
	c.Path, _ = exec.LookPath("sh")
	c.Stdin = strings.NewReader(strings.Repeat("0123456789abcde\n", 1000))
	var b bytes.Buffer
	c.Stderr = &b
	c.Run()
	if code := c.ProcessState.ExitCode(); code != 75 || len(s.messages("bob")) != 0 {
		t.Errorf("exit %d: %s", code, b.String())
	}
}

// running is the program as a service.
type running struct {
	cmd  *exec.Cmd
	errs bytes.Buffer
}

func (s *site) start(wrap ...string) *running {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	v := &running{cmd: program(s.t, "-C", s.conf, "-notify", "3")}
	if len(wrap) > 0 {
		path, _ := exec.LookPath(wrap[0])
		v.cmd.Args = append(append([]string{}, wrap...), append([]string{v.cmd.Path}, v.cmd.Args[1:]...)...)
		v.cmd.Path = path
	}
	v.cmd.ExtraFiles = []*os.File{w}
	v.cmd.Stderr = &v.errs
	if err := v.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	w.Close()
	defer r.Close()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		v.cmd.Wait()
		s.t.Fatalf("not ready: %v: %s", err, v.errs.String())
	}
	return v
}

func (s *site) dial() (net.Conn, error) { return net.Dial("unix", s.dir+"/run/deliver.sock") }

// send delivers one message and returns the reply to its end, or an error when
// the connection ended before.
func send(c net.Conn, r *bufio.Reader, id, params, user string) (string, error) {
	fmt.Fprintf(c, "MAIL FROM:<a@b.example> XQID=%s XARRIVED=1764000000000000%s\r\nRCPT TO:<%s@example.org>\r\nDATA\r\n", id, params, user)
	for _, want := range []string{"250", "250", "354"} {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(line, want) {
			return line, nil
		}
	}
	fmt.Fprintf(c, "Subject: %s\r\n\r\n%s\r\n.\r\n", id, strings.Repeat("x", 2000))
	return r.ReadString('\n')
}

func hello(c net.Conn) (*bufio.Reader, error) {
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return nil, err
	}
	io.WriteString(c, "LHLO test.example\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "250 ") {
			return r, err
		}
	}
}

func TestService(t *testing.T) {
	s := newSite(t)
	v := s.start()
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := hello(c)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := send(c, r, "id1", "", "bob"); err != nil || !strings.HasPrefix(line, "250 2.0.0 ") {
		t.Errorf("%q, %v", line, err)
	}
	if line, _ := send(c, r, "id2", "", "nobody"); !strings.HasPrefix(line, "550 5.1.1 ") {
		t.Errorf("%q", line)
	}
	io.WriteString(c, "RSET\r\n") // an idle session is told to go, one in a transaction may end it
	r.ReadString('\n')
	v.cmd.Process.Signal(syscall.SIGTERM)
	if err := v.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, v.errs.String())
	}
	if !regexp.MustCompile(`id1: stored rcpt=<bob@example.org> user=bob .* file=1764000000\.Qid1X`).MatchString(v.errs.String()) {
		t.Errorf("log: %s", v.errs.String())
	}
}

// SIGKILL at any moment, and again: every message that was acknowledged is there
// once, and those that were not are there once after the next attempt. (D19, F08, P4)
func TestD19_KilledAtAnyMoment(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	s := newSite(t)
	const sessions = 8
	users := []string{"bob", "carol", "dora"}
	s.file("users", strings.Join(users, "\n")+"\n")
	var mu sync.Mutex
	sent := make(map[string]string) // id -> user
	pending := make(map[string]bool)
	acked := make(map[string]bool)
	next := 0
	take := func() (id, user, params string) {
		mu.Lock()
		defer mu.Unlock()
		for id := range pending {
			delete(pending, id)
			return id, sent[id], " XSUSPECT"
		}
		next++
		id = fmt.Sprintf("m%05d", next)
		sent[id] = users[next%len(users)]
		return id, sent[id], ""
	}
	work := func() {
		c, err := s.dial()
		if err != nil {
			return
		}
		defer c.Close()
		r, err := hello(c)
		if err != nil {
			return
		}
		for {
			id, user, params := take()
			line, err := send(c, r, id, params, user)
			mu.Lock()
			if err == nil && strings.HasPrefix(line, "250") {
				acked[id] = true
			} else {
				pending[id] = true
			}
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}
	for range kills {
		v := s.start()
		var wg sync.WaitGroup
		for range sessions {
			wg.Go(work)
		}
		// A while of the program's life, not a wait for something to happen.
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		v.cmd.Process.Kill()
		v.cmd.Wait()
		wg.Wait()
		s.count(sent, acked, false)
	}
	if len(acked) < kills {
		t.Errorf("only %d messages in %d lives", len(acked), kills)
	}
	// The last attempt at what is left.
	v := s.start()
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	r, err := hello(c)
	if err != nil {
		t.Fatal(err)
	}
	for id := range pending {
		if line, err := send(c, r, id, " XSUSPECT", sent[id]); err != nil || !strings.HasPrefix(line, "250") {
			t.Fatalf("%s: %q %v", id, line, err)
		}
		acked[id] = true
	}
	c.Close()
	v.cmd.Process.Signal(syscall.SIGTERM)
	v.cmd.Wait()
	s.count(sent, acked, true)
	t.Logf("%d messages, %d kills", len(acked), kills)
}

var idInName = regexp.MustCompile(`\.Q(m\d+)X`)

// count checks that each acknowledged message is there once, whole, and no
// message twice.
func (s *site) count(sent map[string]string, acked map[string]bool, all bool) {
	s.t.Helper()
	there := make(map[string]int)
	files, _ := filepath.Glob(s.dir + "/mail/example.org/*/Maildir/new/*")
	for _, f := range files {
		id := idInName.FindStringSubmatch(f)[1]
		there[id]++
		if !strings.Contains(f, "/"+sent[id]+"/") {
			s.t.Errorf("%s is in %s", id, f)
		}
		if all {
			p, _ := os.ReadFile(f)
			if !strings.Contains(f, fmt.Sprintf(",S=%d,", len(p))) || !bytes.HasSuffix(p, []byte("x\n")) {
				s.t.Errorf("%s has %d bytes", f, len(p))
			}
		}
	}
	for id := range acked {
		if there[id] == 0 {
			s.t.Errorf("%s was acknowledged and is not there", id)
		}
	}
	for id, n := range there {
		if n > 1 {
			s.t.Errorf("%s is there %d times", id, n)
		}
	}
	if all && len(there) != len(sent) {
		s.t.Errorf("%d messages of %d", len(there), len(sent))
	}
}
