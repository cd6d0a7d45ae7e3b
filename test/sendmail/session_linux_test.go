package sendmail

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/test/suite"
)

// -bs: a program speaks SMTP with us; but not one at the other end of a network.
func TestSession(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	dialogue := "EHLO x\r\nMAIL FROM:<bob@example.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: bs\r\n\r\nbody\r\n.\r\nQUIT\r\n"
	out := ends(t, 0, call(s, dialogue, "sendmail", "-bs"))
	contains(t, out, "220 mx.example.test ESMTP", "queued as", "\r\n221 ")
	contains(t, inbox(t, s, "alice"), "\nSubject: bs\n\nbody\n")

	// One that ends in the middle sends nothing.
	out = ends(t, 0, call(s, strings.TrimSuffix(dialogue, ".\r\nQUIT\r\n"), "sendmail", "-bs"))
	if strings.Contains(out, "queued as") {
		t.Errorf("%s", out)
	}

	swaks := exec.Command(tool(t, "swaks"), "--pipe", filepath.Join(filepath.Dir(s.Conf), "bs"), "--from", "bob@example.test", "--to", "alice@example.test", "--helo", "x")
	bin, _ := programs()
	write(t, filepath.Join(s.Dir, "bs"), "#!/bin/sh\nexec "+filepath.Join(bin, "sendmail")+" -bs -C "+s.Conf+"\n")
	ends(t, 0, swaks)
	contains(t, inbox(t, s, "alice"), "\nX-Mailer: swaks")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stranger, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	f, err := accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inetd := call(s, "", "sendmail", "-bs")
	inetd.Stdin, inetd.Stdout = f, f
	inetd.Stderr = nil
	if err := inetd.Run(); err == nil || inetd.ProcessState.ExitCode() != 64 {
		t.Errorf("a stranger is let in: %v", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	end := os.NewFile(uintptr(pair[0]), "pair")
	defer end.Close()
	stunnel := call(s, "", "sendmail", "-bs")
	stunnel.Stdin = end
	contains(t, ends(t, 64, stunnel), "smtpd(8) is made for that")
	ucspi := call(s, dialogue, "sendmail", "-bs")
	ucspi.Env = append(ucspi.Env, "PROTO=TCP", "TCPREMOTEIP=192.0.2.1")
	contains(t, ends(t, 64, ucspi), "smtpd(8) is made for that")
}
