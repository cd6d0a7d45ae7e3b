package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
)

// Mail for users of three ids, and for one who has none, lies in maildirs that are theirs. The users file is for root alone.
func TestSplit(t *testing.T) {
	r := newRealm(t, 3)
	r.addUsers("virtual\n")
	r.run()
	r.threeUsers(func(c *client, replies []string, err error) {
		r.want(replies, err, "250 2.0.0 Stored as one", "250 ", "250 ", "550 5.1.1 ", "250 ")
		r.owned(r.dir+"/mail/example.org", 60100)
		if got := r.children("worker", -1); len(got) != 4 {
			t.Errorf("%d workers for 4 ids", len(got))
		}
	}, "u1", "u2", "u3", "nobody", "virtual")
	for _, pid := range append(r.children("worker", -1), r.children("front", -1)...) {
		r.harmless(pid)
	}
	st, err := os.Stat(r.dir + "/run/deliver.sock")
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != queueID || st.Mode().Perm() != 0o660 {
		t.Error("socket:", st, err)
	}
	r.end()
	if _, err := os.Stat(r.dir + "/run/deliver.sock"); err == nil {
		t.Error("the socket is left")
	}
}

// The two capabilities that the service unit leaves it are enough.
func TestSplitWithTwoCapabilities(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("setpriv is not installed")
	}
	r := newRealm(t, 3)
	conf, _ := os.ReadFile(r.conf)
	r.file("postamt.conf", strings.Replace(string(conf), "queue_user 60009:60009", "queue_user 0:0", 1)) // to give the socket away takes a third
	r.run(func(c *exec.Cmd) {
		c.Args = append([]string{"setpriv", "--clear-groups", "--no-new-privs", "--bounding-set", "-all,+setuid,+setgid", "--inh-caps", "-all", c.Path}, c.Args[1:]...)
		c.Path = setpriv
	})
	r.threeUsers(func(_ *client, replies []string, err error) { r.want(replies, err, "250", "250", "250") }, "u1", "u2", "u3")
	r.end()
}

// threeUsers sends messages small and large.
func (r *realm) threeUsers(check func(*client, []string, error), users ...string) {
	r.t.Helper()
	c := r.client()
	replies, err := c.send("one", "", "Subject: x\r\n\r\nhello", users...)
	check(c, replies, err)
	large := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 50000) // 3.6 MB: more than is held in memory
	replies, err = c.send("two", "", "Subject: large\r\n\r\n"+large, users...)
	if err != nil {
		r.t.Fatal(err)
	}
	for i, u := range []string{"u1", "u2", "u3"} {
		r.owned(r.dir+"/home/"+u+"/Maildir", firstID+1+i)
		m := r.mail(u)
		if len(m) != 2 {
			r.t.Fatalf("%s has %q after %q", u, m, replies)
		}
		for _, f := range m {
			b, _ := os.ReadFile(f)
			if strings.Contains(f, "Qtwo") && !bytes.HasSuffix(b, []byte("\n\n"+strings.ReplaceAll(large, "\r\n", "\n"))) && !bytes.HasSuffix(b, []byte("\n\n"+strings.ReplaceAll(large, "\r\n", "\n")+"\n")) {
				r.t.Errorf("%s: %d bytes", f, len(b))
			}
			if head := fmt.Sprintf("Return-Path: <a@b.example>\nDelivered-To: %s@example.org\nSubject: ", u); !bytes.HasPrefix(b, []byte(head)) {
				r.t.Errorf("%s begins %.200q", f, b)
			}
		}
	}
}

// harmless looks at a child from outside: what it is, what it could become, and what it has open.
func (r *realm) harmless(pid int) {
	r.t.Helper()
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, want := range []string{`\nUid:\t6\d{4}\t6\d{4}\t6\d{4}\t6\d{4}\n`, `\nGroups:\t6\d{4} \n`, `\nCapPrm:\t0{16}\n`, `\nCapEff:\t0{16}\n`, `\nNoNewPrivs:\t1\n`} {
		if !regexp.MustCompile(want).Match(b) {
			r.t.Errorf("%d: no %q in\n%s", pid, want, b)
		}
	}
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if bytes.Contains(env, []byte("HOME=")) || bytes.Count(env, []byte{0}) > 4 {
		r.t.Errorf("%d: environment %q", pid, env)
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if strings.HasPrefix(to, r.dir) && !strings.HasPrefix(to, r.dir+"/home/") && !strings.HasPrefix(to, r.dir+"/mail") && to != r.errs {
			r.t.Errorf("%d has %s open", pid, to)
		}
	}
	core, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if !regexp.MustCompile(`Max core file size +0 +0 `).Match(core) {
		r.t.Errorf("%d: limits %s", pid, core)
	}
}

// D10: nothing is delivered as root, for group 0, below min_uid, into another's home, or as the front. It waits, and the log says why.
func TestD10_NeverAsRoot(t *testing.T) {
	r := newRealm(t, 1, "min_uid 1000")
	r.addUsers("root::0:0::/root\ngroup::60050:0::/\nlow::999:999::/\nnogid::60051:::/\nthief::60052:60052::" + r.dir + "/home/u1\n" +
		fmt.Sprintf("front::%d:%d::/\n", frontID, frontID))
	r.run()
	replies, err := r.client().send("m", "", "x", "root", "group", "low", "nogid", "thief", "front", "u1")
	r.want(replies, err, "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0", "451 4.3.0", "250 2.0.0")
	if w := r.children("worker", -1); len(w) != 1 {
		t.Errorf("%d workers", len(w))
	}
	r.end()
	for _, want := range []string{"user root: uid 0", "user group: gid 0", "user low: uid 999 is below", "user nogid has a uid and no gid",
		"home/u1 belongs to uid 60001", "the account of our own front"} {
		if !strings.Contains(r.log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// When there may be fewer workers than users, idle ones make room.
func TestWorkerLimit(t *testing.T) {
	r := newRealm(t, 12, "worker_limit 3")
	r.run()
	c := r.client()
	for i := 1; i <= 12; i++ {
		replies, err := c.send(fmt.Sprint("m", i), "", "x", fmt.Sprint("u", i))
		r.want(replies, err, "250")
		if w := r.children("worker", -1); len(w) > 3 {
			t.Errorf("%d workers", len(w))
		}
	}
	var all []string
	for i := 1; i <= 12; i++ {
		all = append(all, fmt.Sprint("u", i))
	}
	replies, err := c.send("all", "", "x", all...)
	r.want(replies, err, strings.Split(strings.Repeat("250 ", 12), " ")[:12]...)
	r.end()
}

// A worker ends when it has had nothing to do, and the next message starts another.
func TestIdleWorkerEnds(t *testing.T) {
	r := newRealm(t, 1, "worker_idle 1s")
	r.run()
	c := r.client()
	for i := range 3 {
		replies, err := c.send(fmt.Sprint("m", i), "", "x", "u1")
		r.want(replies, err, "250")
		r.await("the worker to leave", func() bool { return len(r.children("worker", -1)) == 0 })
	}
	r.end()
	if n := strings.Count(r.log(), "worker state=left uid=60001"); n != 3 || strings.Contains(r.log(), "state=died") {
		t.Errorf("%d workers left", n)
	}
}

// HUP reaches front and workers; new users are found without it. TERM to every process of the service, as systemd sends it, is an end in
// order.
func TestReloadAndStop(t *testing.T) {
	r := newRealm(t, 1)
	r.run()
	c := r.client()
	replies, err := c.send("m1", "", "x", "u1")
	r.want(replies, err, "250")
	r.addUsers("new::60031:60031::" + r.home("new", 60031) + "\n")
	r.await("the new user", func() bool {
		c := r.client() // sessions with many errors are ended
		defer c.c.Close()
		replies, err := c.send("m2", " XSUSPECT", "x", "new")
		return err == nil && strings.HasPrefix(replies[0], "250")
	})
	conf, _ := os.ReadFile(r.conf)
	r.file("postamt.conf", string(conf)+"message_size_limit 10k\n")
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.await("the reload", func() bool { return strings.Contains(r.log(), "reload what="+r.conf) })
	r.await("the new limit", func() bool {
		c := r.client()
		defer c.c.Close()
		replies, err := c.send("m3", " XSUSPECT", strings.Repeat("0123456789\r\n", 1000), "u1")
		return err == nil && strings.HasPrefix(replies[0], "552")
	})
	r.file("postamt.conf", "no_such_key 1\n")
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.await("the refused reload", func() bool { return strings.Contains(r.log(), "no_such_key") })
	replies, err = c.send("m4", "", "x", "u1")
	r.want(replies, err, "250")

	for _, pid := range proc.Tree(r.cmd.Process.Pid) {
		syscall.Kill(pid, syscall.SIGTERM)
	}
	<-r.done
	if code := r.cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(r.log(), "died") {
		t.Errorf("exit %d", code)
	}
}

// What is trusted at start must be so.
func TestCheckAtStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*realm)
		want  string
	}{
		{"users", func(r *realm) { os.Chmod(r.dir+"/users", 0o666) }, "chmod o-w " + "DIR/users mends it"},
		{"run", func(r *realm) { os.Chmod(r.dir+"/run", 0o777) }, "chmod o-w DIR/run mends it"},
		{"directory", func(r *realm) { os.Chmod(r.dir, 0o777) }, "chmod o-w DIR mends it"},
		{"owner", func(r *realm) { os.Chown(r.dir+"/run", 60001, 60001) }, "chown 60009 DIR/run mends it"},
		{"conf", func(r *realm) { os.Chown(r.conf, 60001, 60001) }, "chown 0 DIR/postamt.conf mends it"},
		{"queue_user", func(r *realm) {
			text, _ := os.ReadFile(r.conf)
			r.file("postamt.conf", strings.Replace(string(text), "queue_user 60009:60009", "queue_user no-such-name", 1))
		}, "queue_user: privilege: account no-such-name: /etc/passwd: no such account"},
		{"account", func(r *realm) {
			text, _ := os.ReadFile(r.conf)
			r.file("postamt.conf", strings.Replace(string(text), "login_user 60000:60000", "login_user no-such-name", 1))
		}, "useradd --system --user-group no-such-name"},
	} {
		r := newRealm(t, 1)
		c.spoil(r)
		bin, err := build()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // one that is not refused serves
		cmd := exec.CommandContext(ctx, bin+"/deliver", "-C", r.conf)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		out, err := cmd.CombinedOutput()
		cancel()
		if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != exConfig || !strings.Contains(string(out), strings.ReplaceAll(c.want, "DIR", r.dir)) {
			t.Errorf("%s: %v: %s", c.name, err, out)
		}
	}
}

// The same as root of a user namespace, which is nobody outside. Root makes one here; anybody else needs newuidmap and a line in
// /etc/subuid.
func TestSplitInUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		unprivileged(t)
		return
	}
	const outside = 200000 // id 0 of the namespace
	r := newRealm(t, 3)
	filepath.Walk(r.dir, func(p string, st os.FileInfo, err error) error {
		sys := st.Sys().(*syscall.Stat_t)
		return os.Lchown(p, outside+int(sys.Uid), outside+int(sys.Gid))
	})
	os.WriteFile(r.errs, nil, 0o666)
	os.Chown(r.errs, outside, outside)
	r.run(func(c *exec.Cmd) {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: outside, Size: 65536}}
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{Uid: 0, Gid: 0}}
	})
	c := r.client()
	replies, err := c.send("one", "", "x", "u1", "u2", "u3")
	r.want(replies, err, "250", "250", "250")
	for i, u := range []string{"u1", "u2", "u3"} {
		r.owned(r.dir+"/home/"+u+"/Maildir", outside+firstID+1+i)
	}
	r.end()
}

// unprivileged runs TestSplit as root of a namespace that an ordinary user makes.
func unprivileged(t *testing.T) {
	for _, tool := range []string{"unshare", "newuidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	map1 := []string{"--user", "--map-root-user", "--map-auto"}
	if out, err := exec.Command("unshare", append(map1, "true")...).CombinedOutput(); err != nil {
		t.Skipf("unshare --map-auto: %s (a line for %d in /etc/subuid and /etc/subgid is wanted)", bytes.TrimSpace(out), os.Getuid())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("unshare", append(map1, self, "-test.run", "^TestSplit$", "-test.v")...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}
