package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Real supervisors start the child of child_test.go.

func command(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return p
}

// supervise runs a supervisor with args; it and all that it started end with the test.
func supervise(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	p := command(t, name)
	return run(t, env, func(c *exec.Cmd) {
		c.Path, c.Args = p, append([]string{name}, args...)
	})
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, f := listenTCP(t)
	defer f.Close()
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// reach dials until somebody answers: supervisors do not say when they are ready.
func reach(t *testing.T, network, address string) *peer {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		c, err := net.Dial(network, address)
		if err == nil {
			return newPeer(t, c)
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // between attempts
	}
}

func TestTcpserver(t *testing.T) {
	port := freePort(t)
	supervise(t, nil, "tcpserver", "-v", "-R", "-H", "-l", "mx.example", "127.0.0.1", port, os.Args[0])
	for range 2 {
		d := reach(t, "tcp", "127.0.0.1:"+port)
		d.expect("220 kind=mx how=UCSPI", "remote="+d.LocalAddr().String()+" local=127.0.0.1:"+port)
		d.say("wait")
		d.expect("250 true")
		d.say("quit")
		d.ends()
	}
}

func TestSystemdSocketActivate(t *testing.T) {
	port, path := freePort(t), filepath.Join(t.TempDir(), "s")
	supervise(t, nil, "systemd-socket-activate", "-l", "127.0.0.1:"+port, "-l", path, "--fdname=submission:smtpd-local.socket",
		"-E", "CHILD=serve", os.Args[0])
	reach(t, "tcp", "127.0.0.1:"+port).expect("kind=submission how=LISTEN_FDS", `left=""`)
	reach(t, "unix", path).expect("kind=local how=LISTEN_FDS", fmt.Sprintf("uid=%d", os.Getuid()))
}

func TestSystemdAcceptYes(t *testing.T) {
	for _, inetd := range []bool{false, true} {
		port := freePort(t)
		args := []string{"-a", "-l", "127.0.0.1:" + port, "-E", "CHILD=serve"}
		how := "LISTEN_FDS"
		if inetd {
			args = append(args, "--inetd")
			how = "inetd"
		}
		supervise(t, nil, "systemd-socket-activate", append(args, os.Args[0])...)
		d := reach(t, "tcp", "127.0.0.1:"+port)
		d.expect("220 kind=mx how="+how, "remote="+d.LocalAddr().String())
		d.say("quit")
		d.ends()
	}
}

func TestS6SocketBinder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	supervise(t, []string{"CHILD_OWN=unix," + path + ",local", "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")},
		"s6-ipcserver-socketbinder", "-a", "0660", "--", path, os.Args[0])
	d := reach(t, "unix", path)
	d.expect("kind=local how=inetd", fmt.Sprintf("uid=%d", os.Getuid()))
	if st, err := os.Stat(path); err != nil || !strings.HasSuffix(st.Mode().String(), "rw-rw----") {
		t.Errorf("%v %v", st.Mode(), err)
	}
}
