package tls

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/suite"
)

// serial is of the certificate that a client gets.
func (s *system) serial() (string, error) {
	c, err := startTLS(s.Addr, s.client("mx.example.test"))
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// serials are of the certificates that clients of smtpd, of pop3d and of imapd get.
func (s *system) serials() (serials [3]string, err error) {
	if serials[0], err = s.serial(); err != nil {
		return serials, err
	}
	c, err := stls(s.pop3, s.client("mx.example.test"))
	if err != nil {
		return serials, fmt.Errorf("pop3d: %w", err)
	}
	defer c.Close()
	serials[1] = c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	i, err := imapTLS(s.imap, s.client("mx.example.test"))
	if err != nil {
		return serials, fmt.Errorf("imapd: %w", err)
	}
	defer i.Close()
	serials[2] = i.ConnectionState().PeerCertificates[0].SerialNumber.String()
	return serials, nil
}

// plainMail sends a message in clear.
func (s *system) plainMail() error {
	nc, r, err := dial(s.Addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, say := range []string{"MAIL FROM:<a@client.test>", "RCPT TO:<alice@example.test>", "DATA", "Subject: x\r\n\r\nbody\r\n."} {
		fmt.Fprintf(nc, "%s\r\n", say)
		if l, err := reply(r); err != nil || l[0] != '2' && l[0] != '3' {
			return fmt.Errorf("%s: %s%v", say, l, err)
		}
	}
	return nil
}

// A dead keyd, or one that hangs, is 454 before STARTTLS, -ERR or NO before STLS and STARTTLS of the readers, and a failed handshake where TLS comes first; mail in
// clear goes on. As soon as there is a new one, all is well, and nobody had to do anything.
func TestKeydGone(t *testing.T) {
	t.Parallel()
	s := start(t, true, "").readers()
	works := func(when string) {
		t.Helper()
		if _, err := s.serials(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		for _, addr := range []string{s.submissions, s.pop3s, s.imaps} {
			if err := s.greeted(addr); err != nil {
				t.Errorf("%s, %s: %v", when, addr, err)
			}
		}
	}
	fails := func(when string) {
		t.Helper()
		if _, err := s.serial(); err == nil || !strings.HasPrefix(err.Error(), "454 4.7.0 ") {
			t.Errorf("%s: %v", when, err)
		}
		if _, err := stls(s.pop3, s.client("mx.example.test")); err == nil || !strings.HasPrefix(err.Error(), "-ERR [SYS/TEMP] ") {
			t.Errorf("%s: pop3d: %v", when, err)
		}
		if _, err := imapTLS(s.imap, s.client("mx.example.test")); err == nil || !strings.HasPrefix(err.Error(), "a NO [UNAVAILABLE] ") {
			t.Errorf("%s: imapd: %v", when, err)
		}
		for _, addr := range []string{s.submissions, s.pop3s, s.imaps} {
			if err := s.greeted(addr); err == nil {
				t.Errorf("%s, %s: a handshake", when, addr)
			}
		}
		if err := s.plainMail(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	works("at first")
	s.Kill("keyd")
	fails("killed")
	if err := s.Launch("keyd"); err != nil {
		t.Fatal(err)
	}
	works("started again")
	if err := s.Signal("keyd", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// For a second nobody asks again whether keyd is well; one that is stopped, and not gone, costs a handshake.
	if _, err := s.serial(); err == nil {
		t.Error("stopped: a handshake")
	}
	if _, err := stls(s.pop3, s.client("mx.example.test")); err == nil {
		t.Error("stopped: pop3d: a handshake")
	}
	if _, err := imapTLS(s.imap, s.client("mx.example.test")); err == nil {
		t.Error("stopped: imapd: a handshake")
	}
	fails("stopped")
	s.Signal("keyd", syscall.SIGCONT)
	works("continued")

	// smtpd starts without it.
	s.Kill("keyd")
	if err := s.Terminate("smtpd"); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch("smtpd"); err != nil {
		t.Fatal(err)
	}
	fails("smtpd started without keyd")
	if err := s.Launch("keyd"); err != nil {
		t.Fatal(err)
	}
	works("keyd started after smtpd")
	if _, err := s.AwaitDelivered("alice", 3, 20*time.Second); err != nil {
		t.Error(err)
	}
}

// T07: renewal, in both orders, while handshakes go on: each of them succeeds, and the new certificate comes.
func TestT07_RenewalWithKeyd(t *testing.T) {
	t.Parallel()
	s := start(t, true, "").readers()
	last, err := s.serials()
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			now, err := s.serials()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if now[0] != last[0] && now[1] != last[1] && now[2] != last[2] {
				last = now
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the old certificate is still in use\n%s%s%s%s", what, s.Log("smtpd"), s.Log("pop3d"), s.Log("imapd"), s.Log("keyd"))
			}
		}
	}
	stays := func(what string) {
		t.Helper()
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if now, err := s.serials(); err != nil || now != last {
				t.Fatalf("%s: %v, another certificate: %v", what, err, now != last)
			}
		}
	}
	k := ecKey(t)
	s.ca.certificate(t, s.dir, "ec", k, "mx.example.test")
	stays("the certificate without its key")
	key(t, s.dir, "ec", k)
	await("the key after the certificate")

	k = ecKey(t)
	key(t, s.dir, "ec", k)
	stays("the key without its certificate")
	s.ca.certificate(t, s.dir, "ec", k, "mx.example.test")
	await("the certificate after the key")

	s.ca.certificate(t, s.dir, "ec", k, "mx.example.test")
	await("a new certificate for the same key")
	os.WriteFile(s.dir+"/ec.key", []byte("half"), 0o600)
	stays("half a key")
}

// The wall: smtpd runs where it cannot read the key, as another user, asks keyd therefore, and serves TLS all the same; a user who is not on
// the list is refused by keyd, and nobody but root reads its memory.
func TestKeydOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	need(t, "setpriv")
	need(t, "socat")
	t.Parallel()
	const smtpdUID, keydUID, otherUID = 64001, 64002, 64003
	s := start(t, true, fmt.Sprintf("keyd_clients %d\ntls_keys auto\n", smtpdUID))
	for _, name := range []string{"smtpd", "keyd"} {
		if err := s.Terminate(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"ec", "rsa", "wild"} {
		os.Chown(s.dir+"/"+f+".key", keydUID, keydUID)
		os.Chmod(s.dir+"/"+f+".crt", 0o644)
	}
	for path, mode := range map[string]os.FileMode{s.dir: 0o711, s.Conf: 0o644, s.dir + "/run": 0o755, s.Queue: 0o711, s.dir + "/users": 0o644, s.dir + "/aliases": 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	built, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	bin := s.dir // the tree that we are in may be closed to others
	for _, name := range []string{"smtpd", "keyd"} {
		if out, err := exec.Command("install", "-m", "755", built+"/"+name, bin).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// As systemd does: root makes the sockets and passes them.
	socket := s.dir + "/run/keyd"
	os.Remove(socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	os.Chmod(socket, 0o666)
	local, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	n, err := net.Listen("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	mx, err := n.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer mx.Close()
	run := func(uid uint32, name string, files ...*os.File) *exec.Cmd {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c := exec.Command(bin+"/"+name, "-C", s.Conf, "-notify", fmt.Sprint(3+len(files)))
		c.Env = []string{"LISTEN_FDS=" + fmt.Sprint(len(files))}
		c.ExtraFiles = append(files, w)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		log, err := os.Create(s.dir + "/log/" + name + "2")
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		t.Cleanup(func() {
			c.Process.Signal(syscall.SIGTERM)
			if err := c.Wait(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		if n, _ := r.Read(make([]byte, 1)); n != 1 {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("%s is not ready: %s", name, b)
		}
		return c
	}
	keyd := run(keydUID, "keyd", local)
	for _, d := range []string{"active", "hold", "corrupt", "log"} {
		exec.Command("chown", "-R", fmt.Sprint(smtpdUID), s.Queue+"/"+d).Run()
	}
	run(smtpdUID, "smtpd", mx)
	if _, err := s.serial(); err != nil {
		t.Errorf("%v\n%s", err, s.Log("smtpd2"))
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/mem", keyd.Process.Pid), &st); err != nil || st.Uid != 0 {
		t.Errorf("the memory of keyd belongs to uid %d (%v)", st.Uid, err)
	}
	as := func(uid int, command string) error {
		return exec.Command("setpriv", "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups", "sh", "-c", command).Run()
	}
	if as(smtpdUID, "cat "+s.dir+"/ec.key") == nil {
		t.Error("smtpd can read the key")
	}
	if as(keydUID, "cat "+s.dir+"/ec.key") != nil {
		t.Error("keyd cannot read the key")
	}
	// A question of a stranger: the connection is closed without an answer, and the log says whose it was.
	out, _ := exec.Command("setpriv", "--reuid", fmt.Sprint(otherUID), "--regid", fmt.Sprint(otherUID), "--clear-groups",
		"sh", "-c", "head -c 300 /dev/zero | socat -t 5 - UNIX-CONNECT:"+socket).CombinedOutput()
	if strings.Contains(string(out), "PKY1") {
		t.Errorf("a stranger got %q", out)
	}
	if err := suite.Await(5*time.Second, "a line in the log", func() bool {
		return strings.Contains(s.Log("keyd2"), fmt.Sprintf("uid %d ", otherUID))
	}); err != nil {
		t.Errorf("%v\n%s", err, s.Log("keyd2"))
	}

	// A socket in the place of keyd's, made by a user who may write in run: smtpd does not ask it.
	os.Remove(socket)
	os.Chmod(s.dir+"/run", 0o777)
	impostor := exec.Command("setpriv", "--reuid", fmt.Sprint(otherUID), "--regid", fmt.Sprint(otherUID), "--clear-groups",
		"socat", "UNIX-LISTEN:"+socket+",mode=666,fork", "/dev/null")
	if err := impostor.Start(); err != nil {
		t.Fatal(err)
	}
	defer impostor.Wait()
	defer impostor.Process.Kill()
	if err := suite.Await(10*time.Second, "the other socket", func() bool { _, err := os.Stat(socket); return err == nil }); err != nil {
		t.Fatal(err)
	}
	keyd.Process.Signal(syscall.SIGSTOP) // connections that are there would be used still
	defer keyd.Process.Signal(syscall.SIGCONT)
	if err := suite.Await(20*time.Second, "a refusal to ask the other socket", func() bool {
		s.serial()
		return strings.Contains(s.Log("smtpd2"), fmt.Sprintf("made by uid %d", otherUID))
	}); err != nil {
		t.Errorf("%v\n%s", err, s.Log("smtpd2"))
	}
}
