package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postamt/internal/queue"
)

// C09: who may not read the queue is told so, in one line, whatever he asks for, and changes nothing. Some of its group may pass through it.
func TestC09_OrdinaryUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	conf, q := site(t)
	dir := filepath.Dir(conf)
	id := put(t, q, "alice@example.org", queue.Rcpt{Addr: "bob@example.com"})
	const group = 23003
	for path, mode := range map[string]os.FileMode{dir: 0o755, conf: 0o644, q.Path(): 0o750, dir + "/run": 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(q.Path(), func(path string, _ os.DirEntry, err error) error { return errors.Join(err, os.Chown(path, 0, group)) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 32 { // chown takes the bits away
		if err := os.Chmod(q.Path()+"/active/"+strconv.FormatInt(int64(i), 32), 0o730|os.ModeSticky|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	program := dir + "/queuectl" // the test's own directory may be closed to others
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(to, self)
		to.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, gid := range []uint32{65534, group} {
		for _, args := range []string{"list", "list --sort size", "show " + string(id), "cat " + string(id), "stats", "top -n 1", "hold " + string(id),
			"delete " + string(id), "bounce " + string(id), "retry " + string(id), "retry --all", "expire --age +1s", "requeue " + string(id), "pause", "pause example.net", "resume example.net"} {
			if verb, _, _ := strings.Cut(args, " "); gid == group && strings.Contains("show cat top "+"retry "+string(id), verb) && args != "retry --all" {
				continue // who is in the group can read what he knows the id of, and what is due is
			}
			c := exec.Command(program, append([]string{"-C", conf}, strings.Fields(args)...)...)
			c.Dir = "/"
			c.Env = []string{"QUEUECTL_IS_MAIN=1", "PATH=/bin"}
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: gid}}
			var out, errs bytes.Buffer
			c.Stdout, c.Stderr = &out, &errs
			c.Run()
			if code := c.ProcessState.ExitCode(); code != 77 || strings.Contains(out.String(), "example.org") || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), "the owner of the queue and root may") {
				t.Errorf("group %d, %s: exit %d, %q %q", gid, args, code, out.String(), errs.String())
			}
		}
	}
	if l, err := q.Look(id); err != nil || l.Held {
		t.Error(l, err)
	}
}
