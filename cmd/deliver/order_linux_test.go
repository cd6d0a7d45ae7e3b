package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The order of system calls before a 250: written, synced, closed, renamed,
// directory synced.
func TestOrderOfSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	s := newSite(t)
	if err := os.MkdirAll(s.maildir("bob")+"/new", 0o700); err != nil {
		t.Fatal(err)
	}
	trace := s.dir + "/trace"
	v := s.start(strace, "-f", "-y", "-s", "64", "-o", trace, "-e", "trace=openat,write,writev,fsync,fdatasync,syncfs,close,rename,renameat,renameat2,linkat")
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	r, err := hello(c)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := send(c, r, "first", "", "bob"); err != nil || !strings.HasPrefix(line, "250") {
		t.Fatalf("%q %v", line, err)
	}
	if line, err := send(c, r, "second", "", "bob"); err != nil || !strings.HasPrefix(line, "250") {
		t.Fatalf("%q %v", line, err)
	}
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peer *unix.Ucred
	raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	// strace keeps signals to itself, and ends with the program.
	syscall.Kill(int(peer.Pid), syscall.SIGTERM)
	v.cmd.Wait()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("ptrace(")) || len(text) == 0 {
		t.Skip("strace cannot trace here")
	}
	_, text, _ = bytes.Cut(text, []byte("Stored as first"))
	at := 0
	for _, step := range []string{
		`openat\(\d+<[^>]*/tmp>, "[^"]*Qsecond[^"]*", O_RDWR\|O_CREAT\|O_EXCL\|O_NOFOLLOW\|O_CLOEXEC`,
		`writev\(\d+<[^>]*/tmp/[^>]*Qsecond`,
		`fsync\(\d+<[^>]*/tmp/[^>]*Qsecond`,
		`close\(\d+<[^>]*/tmp/[^>]*Qsecond`,
		`renameat2\(\d+<[^>]*/tmp>, "[^"]*Qsecond[^"]*", \d+<[^>]*/new>, "[^"]*Qsecond[^"]*", RENAME_NOREPLACE`,
		`fsync\(\d+<[^>]*/new>`,
		`write\(\d+<[^>]*>, "250 2.0.0 Stored as second`,
	} {
		i := regexp.MustCompile(step).FindIndex(text[at:])
		if i == nil {
			t.Fatalf("%s not found, in this order, in:\n%s", step, text)
		}
		at += i[1]
	}
	// Nothing else was opened, and nothing synced twice.
	if n := bytes.Count(text, []byte("fsync(")); n != 2 {
		t.Errorf("%d fsyncs, want 2:\n%s", n, text)
	}
}
