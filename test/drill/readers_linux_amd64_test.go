package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/test/proc"
)

// The half of pop3d and of imapd that strangers talk to can open neither passwords nor keys nor mail, and cannot ask who has logged in.
func TestReadersFront(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start the programs as root does")
	}
	for _, program := range []string{"pop3d", "imapd"} {
		t.Run(program, func(t *testing.T) { t.Parallel(); testFront(t, program) })
	}
}

func testFront(t *testing.T, program string) {
	r := layOut(t, walls{true, true, true})
	for _, p := range []string{"queued", "authd", "keyd", "deliver", program} {
		r.start(p)
	}
	r.mail()
	front := 0
	for _, pid := range proc.Tree(r.pids[program]) {
		if title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(title), program+": front") {
			front = pid
		}
	}
	if front == 0 || owner(t, fmt.Sprint("/proc/", front, "/task")) != accounts["pa-login"] {
		t.Fatal("there is no front of pa-login's")
	}
	c, err := capture(front)
	if err != nil {
		t.Fatal(err)
	}
	a := &attack{captive: c, r: r}
	mail, _ := filepath.Glob(r.dir + "/home/u1/Maildir/new/*")
	if len(mail) == 0 {
		t.Fatal("there is no mail")
	}
	if err := a.read(r.dir + "/etc/cert.pem"); err != nil { // which it may
		t.Error(err)
	}
	for name, err := range map[string]error{
		"read the passwords":   a.read(r.dir + "/etc/passwords"),
		"read the key":         a.read(r.dir + "/tls/key.pem"),
		"read mail":            a.read(mail[0]),
		"open a maildir":       a.open(unix.O_RDONLY|unix.O_DIRECTORY, r.dir+"/home/u1/Maildir/new"),
		"make a file":          a.create(r.dir + "/run/new"),
		"connect to auth":      a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(r.dir+"/run/auth")),
		"connect to authusers": a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(r.dir+"/run/auth-users")),
		"connect to deliver":   a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(r.dir+"/run/deliver.sock")),
	} {
		if yes, err := denied(err); !yes || err != nil {
			t.Errorf("%s: denied: %v, %v", name, yes, err)
		}
	}
	if err := c.release(); err != nil {
		t.Error(err)
	}
}
