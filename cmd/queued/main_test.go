package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/queue/queuetest"
)

// The test binary is the program too.
func TestMain(m *testing.M) {
	if os.Getenv("QUEUED_IS_MAIN") != "" {
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
	c.Env = append(os.Environ(), "QUEUED_IS_MAIN=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// exits runs the program to its end.
func exits(t testing.TB, args ...string) (code int, out, errs string) {
	t.Helper()
	c := program(t, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// site is a configuration in one directory.
type site struct {
	t     testing.TB
	dir   string
	conf  string
	queue *queue.Queue
	wrap  []string // runs the program
}

func newSite(t testing.TB) *site {
	dir, err := os.MkdirTemp("", "queued") // short: the path of a socket has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir, conf: dir + "/postamt.conf"}
	for _, d := range []string{"run", "queue", "mail"} {
		if err := os.Mkdir(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.configure("")
	s.file("users", "bob\ncarol\n")
	s.file("aliases", "")
	s.queue = queuetest.Open(t, dir+"/queue", queue.Options{})
	return s
}

func (s *site) file(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.dir+"/"+name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) configure(more string) {
	s.file("postamt.conf", "hostname mx.example.org\norigin example.org\nlocal_domains example.org\nrun_dir "+s.dir+"/run\nqueue_dir "+s.dir+
		"/queue\nmailbox_dir "+s.dir+"/mail\nlocal_transport lmtp:unix:"+s.dir+"/run/lmtp\ndns_servers 127.0.0.1:9\nlog stderr\nqueue_user\n"+more)
}

func (s *site) put(rcpt string) queue.ID {
	s.t.Helper()
	now := time.Now()
	e := queue.Envelope{ID: queue.NewID(now), Arrived: now.UTC(), Rcpts: []queue.Rcpt{{Addr: rcpt}}}
	w, err := s.queue.Create(&e)
	if err == nil {
		w.Write([]byte("Subject: x\r\n\r\nhello\r\n"))
		err = w.Commit()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return e.ID
}

// running is the program as a service.
type running struct {
	t   testing.TB
	cmd *exec.Cmd

	mu    sync.Mutex
	log   strings.Builder
	lines chan string
}

// start waits until the program says that it is ready.
func (s *site) start() *running {
	s.t.Helper()
	ready, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer ready.Close()
	r := &running{t: s.t, cmd: program(s.t, "-C", s.conf, "-notify", "3"), lines: make(chan string, 10_000)}
	r.cmd.ExtraFiles = []*os.File{w}
	if len(s.wrap) > 0 {
		if r.cmd.Path, err = exec.LookPath(s.wrap[0]); err != nil {
			s.t.Skip(err)
		}
		r.cmd.Args = slices.Concat(s.wrap, r.cmd.Args)
	}
	errs, err := r.cmd.StderrPipe()
	if err == nil {
		err = r.cmd.Start()
	}
	w.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for in := bufio.NewScanner(errs); in.Scan(); {
			r.mu.Lock()
			r.log.WriteString(in.Text() + "\n")
			r.mu.Unlock()
			r.lines <- in.Text()
		}
		close(r.lines)
	}()
	s.t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Kill()
			r.cmd.Wait()
		}
		if s.t.Failed() {
			r.mu.Lock()
			s.t.Logf("log:\n%s", r.log.String())
			r.mu.Unlock()
		}
	})
	ready.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		s.t.Fatalf("not ready: %v", err)
	}
	return r
}

// saw waits for a line of the log with all of words in it.
func (r *running) saw(words ...string) {
	r.t.Helper()
	deadline := time.After(30 * time.Second)
next:
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("it ended and did not say %q", words)
			}
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue next
				}
			}
			return
		case <-deadline:
			r.t.Fatalf("it does not say %q", words)
		}
	}
}

// ends sends a signal and waits for exit 0.
func (r *running) ends(sig os.Signal) {
	r.t.Helper()
	r.cmd.Process.Signal(sig)
	for range r.lines { // to the end of the pipe, as Wait demands
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("after %v: %v", sig, err)
	}
}

func TestExitCodes(t *testing.T) {
	s := newSite(t)
	good := []string{"-C", s.conf}
	for _, c := range []struct {
		name  string
		setup func()
		args  []string
		code  int
		want  []string // in what it says
	}{
		{"flag", nil, []string{"-frob"}, 64, []string{"usage:"}},
		{"argument", nil, append(good, "x"), 64, []string{"usage:"}},
		{"help", nil, []string{"-h"}, 64, []string{"usage:"}},
		{"no configuration", nil, []string{"-C", s.dir + "/none"}, 78, []string{s.dir + "/none"}},
		{"Q22 errors, all of them", func() { s.configure("no_such_key 1\nretry_min 5x\n") }, good, 78, []string{"no_such_key", "retry_min", ":11"}},
		{"the same for -check", nil, append(good, "-check"), 78, []string{"no_such_key"}},
		{"a table that cannot be read", func() { s.configure(""); os.Remove(s.dir + "/aliases"); os.Mkdir(s.dir+"/aliases", 0o700) }, good, 78, []string{"aliases"}},
		{"no queue", func() {
			os.Remove(s.dir + "/aliases")
			s.file("aliases", "")
			s.configure("")
			b, _ := os.ReadFile(s.conf)
			s.file("other.conf", strings.ReplaceAll(string(b), s.dir+"/queue", s.dir+"/nowhere"))
		}, []string{"-C", s.dir + "/other.conf"}, 71, []string{"nowhere"}},
		{"no queue to check", nil, []string{"-C", s.dir + "/other.conf", "-check"}, 71, []string{"nowhere"}},
		{"no place for the socket", func() {
			b, _ := os.ReadFile(s.conf)
			s.file("other.conf", strings.ReplaceAll(string(b), s.dir+"/run\n", s.dir+"/users/below\n"))
		}, []string{"-C", s.dir + "/other.conf"}, 71, []string{"users/below", "not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.setup != nil {
				c.setup()
			}
			code, out, errs := exits(t, c.args...)
			if code != c.code || out != "" {
				t.Errorf("exit %d, want %d; %q %q", code, c.code, out, errs)
			}
			for _, w := range c.want {
				if !strings.Contains(errs, w) {
					t.Errorf("it does not say %q: %s", w, errs)
				}
			}
		})
	}
}

func TestQ07_Two(t *testing.T) {
	s := newSite(t)
	first := s.start()
	if code, _, errs := exits(t, "-C", s.conf); code != 75 || !strings.Contains(errs, "another queued") {
		t.Errorf("exit %d, %s", code, errs)
	}
	// It has left the first one's socket alone.
	id := s.put("bob@example.org")
	s.wake(string(id))
	first.saw(string(id))
	first.ends(syscall.SIGINT)
}

func (s *site) wake(word string) {
	s.t.Helper()
	c, err := net.Dial("unixgram", s.dir+"/run/queued")
	if err == nil {
		_, err = c.Write([]byte(word))
		c.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	s := newSite(t)
	s.put("bob@example.org")
	if code, out, errs := exits(t, "-C", s.conf, "-check"); code != 0 || out+errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	// Beside one that runs, and it waits for nobody.
	r := s.start()
	if code, _, errs := exits(t, "-C", s.conf, "-check"); code != 0 {
		t.Errorf("beside a queued: exit %d, %q", code, errs)
	}
	r.ends(syscall.SIGTERM)
	bad := s.put("bob@example.org")
	path := filepath.Join(s.dir, "queue/active", string(bad[len(bad)-1:]), string(bad))
	if err := os.Truncate(path, 150); err != nil {
		t.Fatal(err)
	}
	s.file("queue/corrupt/x", "")
	code, out, _ := exits(t, "-C", s.conf, "-check")
	if code != 1 || strings.Count(out, "\n") != 2 || !strings.Contains(out, string(bad)+": ") || !strings.Contains(out, "corrupt/x: ") {
		t.Errorf("exit %d, %q", code, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the check has changed something: %v", err)
	}
	os.Remove(path)
	os.Remove(s.dir + "/queue/corrupt/x")
}

// Q05: whatever lies among the messages is moved to corrupt, also by a queued in its sandbox, where to rename a FIFO is to make one.
func TestQ05_ForeignFilesInTheSandbox(t *testing.T) {
	s := newSite(t)
	shard := s.dir + "/queue/active/a/"
	if err := errors.Join(syscall.Mkfifo(shard+"fifo", 0o660), os.Symlink("/etc/passwd", shard+"link"), os.Mkdir(shard+"dir", 0o770)); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: shard + "socket", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := s.start()
	names := []string{"fifo", "link", "dir", "socket"}
	for range names { // in the order of the directory
		r.saw("corrupt/", "damaged", "not an ordinary file")
	}
	for _, name := range names {
		path := s.dir + "/queue/corrupt/" + name
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
		os.Remove(path) // or Check of the queue would not be content
	}
	r.ends(syscall.SIGTERM)
}

// What says how long mail is tried, and over what connections, holds after HUP too: also of mail that waits.
func TestReloadOfKeys(t *testing.T) {
	s := newSite(t)
	if err := os.Mkdir(s.dir+"/lists", 0o700); err != nil {
		t.Fatal(err)
	}
	stub := s.dir + "/lists/socket"
	s.file("routes", "lists.example lmtp:"+stub+"\n")
	s.configure("retry_min 2s\nretry_max 2s\nroutes " + s.dir + "/routes\nremote_timeout_greeting 1h\n")
	l, err := net.Listen("unix", stub) // answers nobody
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := s.start()
	r.saw("confined", "sockets", s.dir+"/lists") // a kernel that can tell (Landlock 9) denies all others
	waits := s.put("x@elsewhere.example")
	s.wake(string(waits))
	r.saw(string(waits), "deferred")
	s.configure("retry_min 1s\nretry_max 1s\nbounce_expire_after 1s\nroutes " + s.dir + "/routes\nremote_timeout_greeting 1s\n")
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.saw("reload")
	r.saw(string(waits), "expired")
	hangs := s.put("x@lists.example")
	s.wake(string(hangs))
	r.saw(string(hangs), "greeting", "timed out")
	r.ends(syscall.SIGTERM)
}

// The aliases are those of the last configuration that had no errors.
func TestReload(t *testing.T) {
	s := newSite(t)
	s.file("other", "team: bob\n")
	r := s.start()
	r.saw("start")
	s.configure("no_such_key 1\n")
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.saw("reload", "no_such_key")
	id := s.put("team@example.org")
	s.wake(string(id))
	r.saw(string(id), "failed", "5.1.1")

	s.configure("aliases " + s.dir + "/other\n")
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.saw("reload")
	id = s.put("team@example.org")
	s.wake(string(id))
	r.saw(string(id), "expanded")

	r.cmd.Process.Signal(syscall.SIGUSR1)
	r.saw("state", "active=", "waiting=", "destinations=", "connections=")
	r.ends(syscall.SIGTERM)
	// The name of the socket stays, since the sandbox removes nothing in run_dir; the next one takes it.
	s.start().ends(syscall.SIGTERM)
}

// A message goes through the real courier to an agent that listens later than it should, is flushed there, and is gone.
func TestFlushToTheAgent(t *testing.T) {
	s := newSite(t)
	r := s.start()
	id := s.put("bob@example.org")
	s.wake(string(id))
	r.saw(string(id), "deferred", "run/lmtp")
	l, err := net.Listen("unix", s.dir+"/run/lmtp")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stored := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		stored <- lmtp(c)
	}()
	s.wake("flush")
	r.saw(string(id), "delivered")
	r.saw(string(id), "removed")
	if body := <-stored; !strings.Contains(body, "hello") {
		t.Errorf("stored %q", body)
	}
	s.wake("garbage \x00\xff") // Q21
	s.wake("scan")
	r.ends(syscall.SIGTERM)
}

// lmtp takes one message, and returns it.
func lmtp(c net.Conn) (body string) {
	say := func(s string) { c.Write([]byte(s + "\r\n")) }
	in := bufio.NewScanner(c)
	say("220 agent LMTP")
	for in.Scan() {
		switch verb, _, _ := strings.Cut(in.Text(), " "); strings.ToUpper(verb) {
		case "LHLO":
			say("250-agent\r\n250 PIPELINING")
		case "DATA":
			say("354 go on")
			for in.Scan() && in.Text() != "." {
				body += in.Text() + "\n"
			}
			say("250 2.0.0 stored")
			return body
		default:
			say("250 2.1.0 ok")
		}
	}
	return body
}
