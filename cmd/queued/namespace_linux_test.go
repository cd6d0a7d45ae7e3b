package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Q07: in another PID namespace, as in another container on the same queue, where process ids tell nothing.
func TestQ07_InAnotherPIDNamespace(t *testing.T) {
	s := newSite(t)
	first := s.start()
	c := program(t, "-C", s.conf)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var errs bytes.Buffer
	c.Stderr = &errs
	err := c.Run()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a PID namespace needs root")
	}
	if c.ProcessState.ExitCode() != 75 || !strings.Contains(errs.String(), "another queued") {
		t.Errorf("%v: %s", err, errs.String())
	}
	first.ends(syscall.SIGTERM)
}

// Where systemd-resolved, NetworkManager or resolvconf write it, resolv.conf is a symbolic link out of /etc. The sandbox grants what
// it leads to, also if that comes later, and not 127.0.0.1 is asked instead.
func TestResolvConfElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	for name, late := range map[string]bool{"there": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			elsewhere, err := os.MkdirTemp("", "resolve")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(elsewhere)
			write := func() {
				if err := os.WriteFile(elsewhere+"/stub-resolv.conf", []byte("nameserver 127.0.0.97\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.Mkdir(s.dir+"/etc", 0o755), os.Symlink(".."+elsewhere+"/stub-resolv.conf", s.dir+"/etc/resolv.conf")); err != nil {
				t.Fatal(err)
			}
			conf, err := os.ReadFile(s.conf)
			if err != nil {
				t.Fatal(err)
			}
			s.file("postamt.conf", strings.Replace(string(conf), "dns_servers 127.0.0.1:9\n", "", 1))
			if !late {
				write()
			}
			s.wrap = []string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc && exec "$@"`, s.dir + "/etc"}
			r := s.start()
			if late {
				write()
			}
			id := s.put("x@elsewhere.example")
			s.wake(string(id))
			r.saw(string(id), "deferred", "server 127.0.0.97:53")
			r.ends(syscall.SIGTERM)
		})
	}
}
