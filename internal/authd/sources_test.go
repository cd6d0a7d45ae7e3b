package authd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/password"
)

// put writes a file whose time no other has.
func put(t *testing.T, path, text string) {
	t.Helper()
	fileTime = fileTime.Add(time.Second)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, fileTime, fileTime)); err != nil {
		t.Fatal(err)
	}
}

var fileTime = time.Now().Add(-time.Hour)

// find is the account of that name, in one word.
func find(s Source, name string) string {
	a, err := s.Find(context.Background(), name)
	switch {
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case err != nil:
		return "error"
	case a.Password.Locked():
		return "locked"
	}
	return a.Password.Scheme()
}

// A13, F: the users file is read again when it changes; one that cannot be used leaves the last good one in force.
func TestUsersFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	reported := 0
	u := NewUsersFile(path, "", func(error) { reported++ })
	if err := u.Open(); err == nil {
		t.Error("a file that is not there was opened")
	}
	put(t, path, "alice:{PLAIN}one\nbroken:{PLAIN}x:no-number\nodd:{MD5}x\nlocked:*\n")
	if err := u.Open(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"alice": "PLAIN", "broken": "error", "odd": "error", "locked": "locked", "nobody": "unknown"} {
		if got := find(u, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if reported != 2 {
		t.Errorf("one broken line, and a password in clear: %d reports", reported)
	}
	put(t, path, "bob:{PLAIN}two\n")
	if find(u, "alice") != "unknown" || find(u, "bob") != "PLAIN" {
		t.Error("not read again")
	}
	put(t, path, "alice:{PLAIN}one\x00")
	if find(u, "alice") != "unknown" || find(u, "bob") != "PLAIN" {
		t.Error("a file with NUL is in force")
	}
	put(t, path, "alice:{PLAIN}one\n")
	if err := os.Chmod(path, 0o606); err != nil {
		t.Fatal(err)
	}
	if find(u, "alice") != "unknown" || find(u, "bob") != "PLAIN" {
		t.Error("a file that everyone may write is in force")
	}
	if err := NewUsersFile(path, "", func(error) {}).Open(); err == nil {
		t.Error("a file that everyone may write was opened")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if find(u, "alice") != "PLAIN" {
		t.Error("not read again after chmod o-w")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if find(u, "alice") != "PLAIN" {
		t.Error("removed: forgotten")
	}
}

func TestNoErrorOfTheUsersFileShowsAPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	var said strings.Builder
	u := NewUsersFile(path, "", func(err error) { fmt.Fprintln(&said, err) })
	put(t, path, "a:canary\nb:{canary}x\nc:{PLAIN}canary:no-number\nd:{MD5}canary\ne:$9$canary\nf:{PLAIN.hex}canary\ng:{BLF-CRYPT}$2b$canary\n")
	for _, name := range strings.Split("abcdefg", "") {
		a, err := u.Find(context.Background(), name)
		if err == nil {
			t.Errorf("%s: %v", name, a)
		}
		fmt.Fprintf(&said, "%v\n%+v\n", err, a)
	}
	if strings.Contains(said.String(), "canary") {
		t.Error(said.String())
	}
}

// The yescrypt hash is of Debian's passwd(1).
func TestSystemAccounts(t *testing.T) {
	dir := t.TempDir()
	passwd, shadow := filepath.Join(dir, "passwd"), filepath.Join(dir, "shadow")
	yescrypt, err := password.Make("YESCRYPT", "secret")
	if err != nil {
		t.Fatal(err)
	}
	yescrypt = strings.TrimPrefix(yescrypt, "{CRYPT}")
	if !strings.HasPrefix(yescrypt, "$y$") {
		t.Fatal(yescrypt)
	}
	put(t, passwd, `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
toor:x:0:1000:root again:/root:/bin/sh
wheel:x:1005:0:group root:/home/wheel:/bin/sh
alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash
alice:x:1001:1001:the second:/home/other:/bin/bash
bob:x:1001:1001::/home/bob:/bin/sh
old:x:1002:1002::/home/old:/bin/sh
gone:x:1003:1003::/home/gone:/bin/sh
Caps:x:1004:1004::/home/caps:/bin/sh
new:x:1006:1006::/home/new:/bin/sh
odd:x:1007:1007::/home/odd:/bin/sh
none:x:1008:1008::/home/none:/bin/sh
+nis::::::
short:x:1
relative:x:1009:1009::home:/bin/sh
`)
	put(t, shadow, fmt.Sprintf(`root:%[1]s:20000:0:99999:7:::
toor:%[1]s:20000:0:99999:7:::
alice:%[1]s:20000:0:99999:7:::
alice:*:20000:0:99999:7:::
bob:!%[1]s:20000:0:99999:7:::
old:%[1]s:10000:0:90:7:::
gone:%[1]s:20000:0:99999:7::10001:
Caps:%[1]s:20000:0:99999:7:::
new:%[1]s:0:0:99999:7:::
odd:$9$what:20000:0:99999:7:::
wheel:%[1]s:20000:0:99999:7:::
`, yescrypt))
	s := NewSystem(passwd, shadow, 1000, func(err error) { t.Error(err) })
	s.now = func() time.Time { return time.Unix(10001*24*3600, 0) }
	for name, want := range map[string]string{"alice": "CRYPT", "bob": "locked", "none": "locked", "root": "unknown", "daemon": "unknown",
		"toor": "unknown", "wheel": "unknown", "caps": "unknown", "Caps": "unknown", "odd": "error", "+nis": "unknown", "": "unknown",
		"short": "unknown", "relative": "unknown"} {
		if got := find(s, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"alice": "false false", "old": "false false", "gone": "true false", "new": "false true"} {
		a, err := s.Find(context.Background(), name)
		if err != nil {
			t.Fatal(name, err)
		}
		if got := fmt.Sprint(a.Disabled, a.Expired); got != want {
			t.Errorf("%s is disabled, expired: %s, want %s", name, got, want)
		}
	}
	s.now = func() time.Time { return time.Unix(10091*24*3600, 0) }
	if a, _ := s.Find(context.Background(), "old"); !a.Expired {
		t.Error("a password of 91 days where 90 are allowed")
	}
	a, err := s.Find(context.Background(), "alice")
	if err != nil || a.UID != 1000 || a.Home != "/home/alice" || !a.Password.Verify("secret") || a.Password.Verify("Secret") {
		t.Errorf("alice: %+v, %v", a, err)
	}
	if err := os.Remove(shadow); err != nil {
		t.Fatal(err)
	}
	s = NewSystem(passwd, shadow, 0, func(error) {})
	if got := find(s, "alice"); got != "error" {
		t.Errorf("without shadow: %s", got)
	}
	if got := find(s, "root"); got != "unknown" {
		t.Errorf("min_uid 0: root is %s", got)
	}
}

// stub writes a checkpassword program.
func stub(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "checker")
	// A child that is forked meanwhile would keep it open for writing, and it could not be executed: text file busy.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMain lets the checkers execute us, as they execute authd.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-checked" {
		os.Exit(Checked())
	}
	os.Exit(m.Run())
}

// A06: only who executes what it was told to has said yes, only exit 1 is a no.
func TestCheckpassword(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell has no way to keep NULs in a variable.
	const honest = `got=$(tr '\000' '|' <&3); [ "$got" = 'alice|secret|0|' ] || exit 1; exec 3<&-; exec "$@"`
	for _, c := range []struct{ name, body, given, want string }{
		{"honest, right", honest, "secret", "yes"},
		{"honest, wrong", honest, "Secret", "no"},
		{"exit 0 without exec", "exit 0", "secret", "later"},
		{"runs, and does not become", `"$@"; exit 0`, "secret", "yes"},
		{"runs it, and says no", `"$@"; exit 1`, "secret", "no"},
		{"exit 1", "exit 1", "secret", "no"},
		{"exit 2", "exit 2", "secret", "later"},
		{"exit 111", "exit 111", "secret", "later"},
		{"signal", "kill -SEGV $$", "secret", "later"},
		{"hangs", "exec sleep 600", "secret", "later"},
		{"its child hangs", "sleep 600 & wait", "secret", "later"},
		{"reads nothing", `exec 3<&-; exec "$@"`, "secret", "yes"},
		{"prints garbage", `echo garbage; echo garbage >&2; echo garbage >&4; exec "$@"`, "secret", "later"},
		{"prints elsewhere", `echo garbage; echo garbage >&2; ` + honest, "secret", "yes"},
		{"executes something else", "exec true", "secret", "later"},
		{"leaves a child with our pipe", "sleep 5 & exit 0", "secret", "later"},
		{"512 octets", honest, strings.Repeat("x", 512-len("alice")-len("0")-3), "no"},
		{"513 octets", `exec "$@"`, strings.Repeat("x", 513-len("alice")-len("0")-3), "no"},
		{"a NUL", `exec "$@"`, "secret\x00", "no"},
		{"is no program", "", "secret", "later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ck := &Checkpassword{Program: []string{stub(t, c.body)}, Self: []string{self, "-checked"}, Timeout: 20 * time.Second}
			if strings.Contains(c.name, "hangs") {
				ck.Timeout = 500 * time.Millisecond
			}
			if c.body == "" {
				ck.Program[0] = "/nonexistent"
			}
			before := time.Now()
			a, err := ck.Check(context.Background(), "alice", c.given, here)
			got := "later"
			switch {
			case err == nil && a.Name == "alice":
				got = "yes"
			case errors.Is(err, ErrUnknown):
				got = "no"
			}
			if got != c.want {
				t.Errorf("%s (%v), want %s", got, err, c.want)
			}
			if d := time.Since(before); d > 60*time.Second {
				t.Errorf("after %v", d)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// A06, through the server: 535 is for exit 1 alone.
func TestCheckpasswordThroughTheServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{`exec "$@"`: "ok alice", "exit 1": "no ", "exit 111": "no temp_fail", "exit 0": "no temp_fail"} {
		w := newWorld(t, nil, &Checkpassword{Program: []string{stub(t, body)}, Self: []string{self, "-checked"}, Timeout: 20 * time.Second})
		if got := verdict(w.plain("alice", "secret")); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
		w.hashes = 0
		if reply, _ := scram(w, "alice", "secret"); verdict(reply) != "no " {
			t.Errorf("%s: SCRAM: %s", body, verdict(reply))
		}
	}
}

// Another server that is away is one line, which says once that it is, and why.
func TestRemoteAway(t *testing.T) {
	r := &Remote{Client: &authwire.Client{Path: filepath.Join(t.TempDir(), "auth")}}
	_, err := r.Check(context.Background(), "alice", "secret", netip.Addr{})
	if !errors.Is(err, authwire.ErrUnavailable) || strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "unavailable") != 1 || !strings.Contains(err.Error(), "connect: ") {
		t.Errorf("%v", err)
	}
}
