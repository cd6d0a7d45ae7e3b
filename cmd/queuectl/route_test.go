package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postamt/test/stub"
)

// routeSite is a site with a name server and a user bob, who has a forward file.
func routeSite(t *testing.T, uid int) (conf, dir string) {
	t.Helper()
	names := stub.Start(t, `
one.example   MX 20 b.one.example.
one.example   MX 10 a.one.example.
a.one.example A 203.0.113.1
a.one.example AAAA 2001:db8::1
b.one.example A 203.0.113.2
null.example  MX 0 .
bare.example  A 203.0.113.3
ours.example  MX 5 mx.example.org.
inside.example MX 5 a.inside.example.
a.inside.example A 127.0.0.1
broken.example SERVFAIL
`)
	conf, q := site(t)
	dir = filepath.Dir(conf)
	home := dir + "/home/bob"
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		conf: fmt.Sprintf("hostname mx.example.org\nlocal_domains example.org\nrun_dir %s/run\nqueue_dir %s\ndns_servers %s\nusers users\naliases aliases\nremote_tls encrypt\nsrs_keys keys\nsrs_domain example.org\n",
			dir, q.Path(), names.Addr),
		dir + "/users":     fmt.Sprintf("bob::%d:%d::%s\n", uid, uid, home),
		dir + "/aliases":   "postmaster: bob\nlist: a@one.example, b@one.example, c@null.example\n",
		home + "/.forward": "bob, |/bin/cat\n",
		dir + "/keys":      "0123456789abcdef0123456789abcdef\n",
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir+"/keys", 0o600)
	if os.Getuid() == 0 {
		os.Chmod(dir, 0o755)
		for _, p := range []string{home, home + "/.forward"} {
			if err := os.Chown(p, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	return conf, dir
}

func TestRouteAsksNameServers(t *testing.T) {
	conf, _ := routeSite(t, 30001)
	for _, tt := range []struct {
		address, want string
		code          int
	}{
		{"x@one.example", "  one.example\tdestination\tTLS encrypt: STARTTLS, unverified, else the message waits\t-\t-\n" +
			"    a.one.example[2001:db8::1]:25\thost\tpreference 10\t-\t-\n" +
			"    a.one.example[203.0.113.1]:25\thost\tpreference 10\t-\t-\n" +
			"    b.one.example[203.0.113.2]:25\thost\tpreference 20\t-\t-\n", 0},
		{"x@bare.example", "    bare.example[203.0.113.3]:25\thost\tpreference 0\t-\t-\n", 0},
		{"x@null.example", "  null.example\trefuse\t556 5.1.10 domain null.example accepts no mail\t-\t-\n", 68},
		{"x@nowhere.example", "  nowhere.example\trefuse\t550 5.1.2 domain nowhere.example does not exist\t-\t-\n", 68},
		{"x@ours.example", "  ours.example\trefuse\t550 5.4.6 mail for ours.example loops back to this host\t-\t-\n", 68},
		{"x@inside.example", "  inside.example\trefuse\t550 5.4.6 ", 68},
		{"x@broken.example", "  broken.example\trefuse\t451 4.4.3 look-up of broken.example failed: ", 75},
		{"list@example.org", "    null.example\trefuse\t556 5.1.10 ", 68},
	} {
		code, out, errs := queuectl(t, "-C", conf, "route", tt.address)
		if code != tt.code || !strings.Contains(out, tt.want) || errs != "" {
			t.Errorf("%s: exit %d, want %d, and %q in\n%s%s", tt.address, code, tt.code, tt.want, out, errs)
		}
		if n := strings.Count(out, "a.one.example[203.0.113.1]"); tt.address == "list@example.org" && n != 1 {
			t.Errorf("the hosts of a destination are told %d times\n%s", n, out)
		}
	}
}

// A forward file is for root and its user to look at; and nothing on disk is changed by looking.
func TestRouteLooksAtHomes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	const bob = 30001
	conf, dir := routeSite(t, bob)
	program := filepath.Join(dir, "queuectl")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	os.Symlink("/bin/cat", dir+"/home/bob/.qmail-x") // a name that is none of a file
	os.WriteFile(dir+"/home/bob/.qmail-list", []byte("# a comment\n|cat >/dev/null\n&x@one.example\n./Maildir/\n"), 0o644)
	os.Chown(dir+"/home/bob/.qmail-list", bob, bob)
	before := tree(t, dir)
	for uid, want := range map[uint32]string{
		0:     "/home/bob/.forward\tforward\t",
		bob:   "|/bin/cat\tcommand\tas uid 30001\t",
		30002: "/home/bob\thidden\tthe forward file: root and uid 30001 may look at it\t",
	} {
		c := exec.Command(program, "-C", conf, "route", "-n", "bob")
		c.Env = append(os.Environ(), "QUEUECTL_IS_MAIN=1")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		c.Dir = "/"
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "hidden\twhat is paused") != (uid != 0) ||
			strings.Contains(string(out), "rewritten senders are not shown") != (uid != 0) {
			t.Errorf("uid %d: %v, no %q in\n%s", uid, err, want, out)
		}
	}
	code, out, _ := queuectl(t, "-C", conf, "route", "-n", "bob+list")
	for _, want := range []string{
		"/.qmail-list\tforward\t", "\n    |cat >/dev/null\tcommand\tas uid 30001\t", "\n    x@one.example\tremote\tmx\t", "\n    bob+list@example.org\tmailbox\tbob\t",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, no %q in\n%s", code, want, out)
		}
	}
	if code, out, _ := queuectl(t, "-C", conf, "route", "-n", "bob+x"); code != 75 || !strings.Contains(out, "a symbolic link") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			info, ierr := d.Info()
			err = ierr
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
