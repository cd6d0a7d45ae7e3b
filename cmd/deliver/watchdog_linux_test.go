package main

import (
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemd's watchdog is told by the monitor as long as the front accepts, and not when the front hangs.
func TestWatchdog(t *testing.T) {
	r := newRealm(t, 1)
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.run(func(c *exec.Cmd) { c.Env = append(c.Env, "NOTIFY_SOCKET="+r.dir+"/notify", "WATCHDOG_USEC=200000") })
	b := make([]byte, 100)
	ping := func(wait time.Duration) bool {
		for {
			l.SetReadDeadline(time.Now().Add(wait))
			n, err := l.Read(b)
			if err != nil {
				return false
			}
			if strings.HasPrefix(string(b[:n]), "WATCHDOG=1") {
				return true
			}
		}
	}
	for range 5 {
		if !ping(time.Minute) {
			t.Fatal("no ping")
		}
	}
	front := r.children("front", -1)[0]
	syscall.Kill(front, syscall.SIGSTOP)
	n := 0
	for n < 1000 && ping(time.Second) {
		n++
	}
	syscall.Kill(front, syscall.SIGCONT)
	if n > 3 { // under way before
		t.Errorf("%d pings for a front that hangs", n)
	}
	if !ping(time.Minute) {
		t.Error("no ping of one that goes on")
	}
	r.end()
}
