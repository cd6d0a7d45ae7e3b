package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/authwire"
)

// running is an authd that serves.
type running struct {
	t      testing.TB
	cmd    *exec.Cmd
	dir    string
	client *authwire.Client
	users  *authwire.UserClient

	mu  sync.Mutex
	log bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *running) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// start starts authd and ends it with the test; it must exit 0.
func start(t testing.TB, conf string) *running {
	t.Helper()
	dir := filepath.Dir(conf)
	r := &running{t: t, dir: dir, cmd: command(t, "", "-C", conf, "-notify", "3"),
		client: &authwire.Client{Path: filepath.Join(dir, "auth")}, users: &authwire.UserClient{Path: filepath.Join(dir, "auth-users")}}
	ready, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	r.cmd.ExtraFiles = []*os.File{w}
	r.cmd.Stderr = r
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		r.client.Close()
		r.users.Close()
		r.cmd.Process.Signal(syscall.SIGTERM)
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("authd: %v\n%s", err, r.logged())
		}
	})
	ready.SetReadDeadline(time.Now().Add(time.Minute))
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("authd is not ready:\n%s", r.logged())
	}
	return r
}

// reload sends SIGHUP and returns the line that says what came of it.
func (r *running) reload() string {
	r.t.Helper()
	before := len(r.logged())
	r.cmd.Process.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(r.logged()[before:]) {
			if strings.Contains(line, "reload") && strings.HasSuffix(line, "\n") {
				return line
			}
		}
	}
	r.t.Fatalf("no reload:\n%s", r.logged())
	return ""
}

// plain logs in over the socket, without a penalty.
func (r *running) plain(user, given string) string {
	x := r.client.Begin(context.Background(), &authwire.Request{Mechanism: "PLAIN", Service: "smtp", NoLogin: true, NoPenalty: true})
	defer x.End()
	reply := x.Next(context.Background(), []byte("\x00"+user+"\x00"+given))
	if reply.Status == authwire.OK {
		return "ok " + reply.User
	}
	return "no " + string(reply.Code)
}

func (r *running) want(user, given, want string) {
	r.t.Helper()
	if got := r.plain(user, given); got != want {
		r.t.Errorf("%s with %s: %s, want %s", user, given, got, want)
	}
}

// A reload with an error keeps what was; without one, new sources and mechanisms hold at once, on connections that are open, too.
func TestReload(t *testing.T) {
	conf, _ := layout(t, "alice:{PLAIN}one\n", "")
	r := start(t, conf)
	if log := r.logged(); strings.Count(log, "problem") != 1 || !strings.Contains(log, "users: passwords in clear, {PLAIN}: 1; ") {
		t.Errorf("it starts with other complaints:\n%s", log)
	}
	r.want("alice", "one", "ok alice")
	r.want("alice@example.test", "one", "ok alice")
	good := read(t, conf)
	for _, settings := range []string{"no_such_key 1\n", "auth_sources checkpassword:/nonexistent\n", "users gone\n"} {
		if err := os.WriteFile(conf, []byte(good+settings), 0o600); err != nil {
			t.Fatal(err)
		}
		if line := r.reload(); !strings.Contains(line, "error") && !strings.Contains(line, "gone") && !strings.Contains(line, "no_such_key") {
			t.Errorf("%q reloads: %s", settings, line)
		}
		r.want("alice", "one", "ok alice")
	}
	other := filepath.Join(r.dir, "others")
	if err := errors.Join(os.WriteFile(other, []byte("bob:{PLAIN}two\n"), 0o600), os.WriteFile(conf, []byte(good+"users others\nauth_mechanisms PLAIN\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	r.reload()
	r.want("alice", "one", "no ")
	r.want("bob", "two", "ok bob")
	x := r.client.Begin(context.Background(), &authwire.Request{Mechanism: "LOGIN", Service: "smtp", NoLogin: true})
	if reply := x.Next(context.Background(), nil); reply.Code != authwire.MechInvalid {
		t.Errorf("LOGIN after it was taken away: %+v", reply)
	}
	x.End()
	if _, err := r.users.Lookup(context.Background(), &authwire.Query{User: "bob", Service: "smtp"}); err != nil {
		t.Error(err)
	}
	if _, err := r.users.Lookup(context.Background(), &authwire.Query{User: "alice", Service: "smtp"}); !errors.Is(err, authwire.ErrNotFound) {
		t.Errorf("alice: %v", err)
	}
}

// A13: a password that was changed holds at the next login, without a signal.
func TestAChangedPasswordHoldsAtOnce(t *testing.T) {
	conf, _ := layout(t, "alice:{PLAIN}one\n", "")
	r := start(t, conf)
	r.want("alice", "one", "ok alice")
	if code, _, complaint := program(t, "another\n", "-C", conf, "passwd", "-s", "PLAIN", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	r.want("alice", "one", "no ")
	r.want("alice", "another", "ok alice")
	if code, _, complaint := program(t, "", "-C", conf, "passwd", "-d", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	r.want("alice", "another", "no ")
}

// Hashes in a file of their own: those in users are said once, and are nobody's password.
func TestPasswordsApart(t *testing.T) {
	conf, users := layout(t, "alice:x\nbob:{PLAIN}old\ncarol:{PLAIN}old\ndave:{PLAIN}old::::::nologin\n", "passwords shadow\n")
	shadow := filepath.Join(filepath.Dir(users), "shadow")
	if err := os.WriteFile(shadow, []byte("alice:{PLAIN}one:ignored:\ncarol:{PLAIN}two\ndave:{PLAIN}old\nnobody:{PLAIN}three\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, conf)
	r.want("alice", "one", "ok alice")
	r.want("alice", "x", "no ")
	r.want("bob", "old", "no ")
	r.want("carol", "old", "no ")
	r.want("carol", "two", "ok carol")
	r.want("dave", "old", "no user_disabled")
	r.want("nobody", "three", "no ")
	const said = "users:2: a password that is not used, because passwords have a file of their own; 3 lines have one"
	if log := r.logged(); strings.Count(log, said) != 1 || strings.Contains(log, "old") {
		t.Errorf("the log says\n%s", log)
	}
	if code, _, complaint := program(t, "four\n", "-C", conf, "passwd", "-s", "PLAIN", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	r.want("alice", "one", "no ")
	r.want("alice", "four", "ok alice")
	if err := os.Chmod(shadow, 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload()
	if log := r.logged(); !strings.Contains(log, shadow+": passwords in clear, {PLAIN}: 3; ") {
		t.Error(log)
	}
	if log := r.logged(); !strings.Contains(log, "everyone may read the passwords; chmod o-r "+shadow) {
		t.Errorf("the log says\n%s", log)
	}
	r.want("alice", "four", "ok alice")
}

// A new installation has no users file; the first user needs no restart.
func TestTheFirstUser(t *testing.T) {
	conf, users := layout(t, "", "passwords shadow\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(users), "shadow"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, conf)
	r.want("alice", "one", "no temp_fail")
	if code, _, complaint := program(t, "one\n", "-C", conf, "passwd", "-s", "PLAIN", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	r.want("alice", "one", "ok alice")
	r.want("alice", "two", "no ")
}

// Several authd may run on the same files, each with sockets of its own: they say the same of everybody, and of nobody, too, even
// if all of them start for the first time.
func TestSeveral(t *testing.T) {
	conf, _ := layout(t, "alice:{PLAIN}one\n", "auth_mechanisms PLAIN SCRAM-SHA-256\n")
	dir := t.TempDir()
	var starting sync.WaitGroup
	var found [8][]byte
	for i := range found {
		starting.Go(func() {
			var err error
			if found[i], err = secret(dir); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for i, b := range found {
		if !bytes.Equal(b, found[0]) || len(b) != 32 {
			t.Errorf("secret %d is %x, the first is %x", i, b, found[0])
		}
	}

	first := start(t, conf)
	other := filepath.Join(first.dir, "other.conf")
	if err := os.WriteFile(other, []byte(read(t, conf)+"auth_listen unix:auth2=client unix:auth2-users=users\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, other)
	second.client.Path = filepath.Join(first.dir, "auth2")
	salt := func(r *running) string {
		x := r.client.Begin(context.Background(), &authwire.Request{Mechanism: "SCRAM-SHA-256", Service: "smtp", NoLogin: true})
		defer x.End()
		reply := x.Next(context.Background(), []byte("n,,n=nobody,r=abcdefghijklmnop"))
		_, salt, ok := strings.Cut(string(reply.Data), ",s=")
		if !ok {
			t.Fatalf("%+v", reply)
		}
		return salt
	}
	if a, b := salt(first), salt(second); a != b {
		t.Errorf("nobody has salt %s, and %s", a, b)
	}
	for _, r := range []*running{first, second} {
		r.want("alice", "one", "ok alice")
		r.want("alice", "two", "no ")
	}
	if code, _, complaint := program(t, "two\n", "-C", conf, "passwd", "-s", "PLAIN", "alice"); code != 0 {
		t.Fatal(complaint)
	}
	for _, r := range []*running{first, second} {
		r.want("alice", "one", "no ")
		r.want("alice", "two", "ok alice")
	}
}

// A06: authd is what the program executes.
func TestCheckpasswordExecutesAuthd(t *testing.T) {
	dir := t.TempDir()
	checker := filepath.Join(dir, "checker")
	script := "#!/bin/sh\n[ \"$(tr '\\000' '|' <&3)\" = 'carol|secret|0|' ] || exit 1\nexec \"$@\"\n"
	if err := os.WriteFile(checker, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	conf, _ := layout(t, "alice:{PLAIN}one\n", "auth_sources users checkpassword:"+checker+"\n")
	r := start(t, conf)
	r.want("alice", "one", "ok alice")
	r.want("carol", "secret", "ok carol")
	r.want("carol", "wrong", "no ")
}

// A server behind a server: the second judges.
func TestAnotherServerAsSource(t *testing.T) {
	behind, _ := layout(t, "vera:{PLAIN}secret\n", "")
	far := start(t, behind)
	conf, _ := layout(t, "alice:{PLAIN}one\n", "auth_sources users server:"+filepath.Join(far.dir, "auth")+","+filepath.Join(far.dir, "auth-users")+"\n")
	r := start(t, conf)
	r.want("alice", "one", "ok alice")
	r.want("vera", "secret", "ok vera")
	r.want("vera", "wrong", "no ")
	if u, err := r.users.Lookup(context.Background(), &authwire.Query{User: "vera", Service: "smtp"}); err != nil || u.Name != "vera" {
		t.Errorf("%v, %v", u, err)
	}
	dead, _ := layout(t, "alice:{PLAIN}one\n", "auth_sources users server:/nonexistent/auth\n")
	d := start(t, dead)
	d.want("alice", "one", "ok alice")
	d.want("vera", "secret", "no temp_fail")
}

// What is no client is cut off and hurts nobody.
func TestGarbageOnTheSocket(t *testing.T) {
	conf, _ := layout(t, "alice:{PLAIN}one\n", "")
	r := start(t, conf)
	for _, garbage := range []string{"EHLO x\r\n", strings.Repeat("x", 1<<20), "VERSION\t9\t9\n", "\x00\n\n", "VERSION\t1\t2\nCPID\t1\nAUTH\n"} {
		c, err := net.Dial("unix", filepath.Join(r.dir, "auth"))
		if err != nil {
			t.Fatal(err)
		}
		go c.Write([]byte(garbage))
		c.SetReadDeadline(time.Now().Add(time.Minute))
		for b := make([]byte, 4096); err == nil; {
			_, err = c.Read(b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q: the connection stays", garbage)
		}
		c.Close()
	}
	r.want("alice", "one", "ok alice")
}
