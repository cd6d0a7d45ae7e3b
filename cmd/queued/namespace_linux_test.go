package main

import (
	"bytes"
	"errors"
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
