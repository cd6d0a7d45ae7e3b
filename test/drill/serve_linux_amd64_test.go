package drill

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
)

// With all walls up the system does its work: keys through keyd, a login through authd, a list from a directory that only an alias names, mail as
// its owner; and whatever is replaced by a rename holds afterwards, with and without HUP.
func TestServesBehindTheWalls(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start the programs as root does")
	}
	t.Parallel()
	r := layOut(t, walls{true, true, true})
	// As an ACME client has them: names that lead to another directory.
	for _, d := range []string{"live", "archive", "lists"} {
		r.place(d, "", 0o755|os.ModeDir, "")
	}
	serial := r.renew(1)
	r.place("lists/team", "", 0o644, "u1\n")
	r.place("etc/aliases", "", 0o644, "postmaster: u1\nteam: :include:"+r.dir+"/lists/team\n")
	b, _ := os.ReadFile(r.dir + "/etc/postamt.conf")
	text := strings.Replace(string(b), "127.0.0.1:0=mx", "127.0.0.1:0=submission", 1)
	text = strings.Replace(text, "tls_cert cert.pem\ntls_key ../tls/key.pem", "tls_cert ../live/cert.pem\ntls_key ../live/key.pem", 1)
	r.place("etc/postamt.conf", "", 0o644, text)
	for _, p := range []string{"queued", "authd", "keyd", "deliver", "smtpd"} {
		r.start(p)
	}
	for _, x := range []struct{ socket, group string }{{"auth", "pa-smtpd"}, {"auth-users", "pa-smtpd"}, {"queued", "pa-queue"}, {"keyd", ""}} {
		st, err := os.Stat(r.dir + "/run/" + x.socket)
		if err != nil {
			t.Fatal(err)
		}
		if s := st.Sys().(*syscall.Stat_t); s.Uid != 0 || int(s.Gid) != accounts[x.group] {
			t.Errorf("%s belongs to %d:%d", x.socket, s.Uid, s.Gid)
		}
	}
	r.submit("team@example.test", serial, "one")
	if f := r.await("u1", "one"); owner(t, f) != accounts["u1"] {
		t.Error("mail belongs to ", owner(t, f))
	}

	// Everything anew, by renames: an alias and a list in silence, keys and certificates too; passwords; then with HUP.
	r.replace("lists/team", "u2\n")
	r.replace("etc/aliases", "postmaster: u1\nteam: :include:"+r.dir+"/lists/team\nnew: u2\n")
	serial = r.renew(2)
	// Who has looked at a list within the second takes it as it was: mail is sent until one is for the new one.
	for found, tries := "", 0; found == ""; tries++ {
		if tries == 60 {
			r.await("u2", "two")
		}
		r.submit("team@example.test", serial, "two")
		for end := time.Now().Add(2 * time.Second); found == "" && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			found = r.mailOf("u2", "two")
		}
	}
	for _, p := range []string{"queued", "authd", "keyd", "smtpd"} {
		syscall.Kill(r.pids[p], syscall.SIGHUP)
	}
	r.eventually("four reloads", func() bool {
		b, _ := os.ReadFile(r.logs)
		n := 0
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "reload what="+r.dir+"/etc/postamt.conf") {
				n++
				if strings.Contains(line, "error=") {
					t.Fatal(line)
				}
			}
		}
		return n == 4
	})
	serial = r.renew(3)
	r.submit("new@example.test", serial, "three")
	r.await("u2", "three")
	if b, _ := os.ReadFile(r.logs); bytes.Contains(b, []byte("denied")) {
		t.Errorf("something was denied:\n%s", b)
	}
	// What nobody named at the start waits.
	r.place("late", "", 0o755|os.ModeDir, "")
	r.place("late/list", "", 0o644, "u1\n")
	r.replace("etc/aliases", "postmaster: u1\nlate: :include:"+r.dir+"/late/list\n")
	r.eventually("a list in a new directory is refused for now", func() bool {
		err := submit(r.addr(), "late@example.test", serial, "four")
		return err != nil && strings.HasPrefix(err.Error(), "451 ")
	})
}

// One connection, from an inetd that runs as root: it is served by the account.
func TestSingleConnectionAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to drop it")
	}
	t.Parallel()
	r := layOut(t, walls{true, true, true})
	for _, p := range []string{"queued", "keyd"} {
		r.start(p)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := server.(*net.TCPConn).File()
	server.Close()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	c := exec.Command(self, r.dir, r.bin+"/smtpd", "-C", r.dir+"/etc/postamt.conf")
	c.Env = []string{launchEnv + "="}
	var said bytes.Buffer
	c.Stdin, c.Stderr = stdin, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	s, err := smtp.NewClient(nc, "mx.example.test")
	if err != nil {
		c.Process.Kill()
		c.Wait()
		t.Fatalf("%v\n%s", err, said.String())
	}
	if uid := owner(t, fmt.Sprint("/proc/", c.Process.Pid, "/task")); uid != accounts["pa-smtpd"] {
		t.Error("it runs as ", uid)
	}
	if err := s.Mail("x@example.com"); err != nil {
		t.Error(err)
	}
	if err := s.Rcpt("u1@example.test"); err != nil {
		t.Error(err)
	}
	if w, err := s.Data(); err != nil {
		t.Error(err)
	} else {
		fmt.Fprint(w, "Subject: x\r\n\r\nx\r\n")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	s.Quit()
	if err := c.Wait(); err != nil || strings.Contains(said.String(), "confined") {
		t.Errorf("%v\n%s", err, said.String())
	}
}

// renew writes a certificate and its key as an ACME client does, and returns a word that is in the certificate.
func (r *realm) renew(n int) string {
	r.t.Helper()
	name := fmt.Sprintf("mx%d.example.test", n)
	tmp := r.t.TempDir()
	if _, _, err := peers.WriteCert(tmp, name); err != nil {
		r.t.Fatal(err)
	}
	for _, f := range []string{"cert", "key"} {
		to := fmt.Sprintf("%s/archive/%s%d.pem", r.dir, f, n)
		b, err := os.ReadFile(tmp + "/" + f + ".pem")
		if err != nil {
			r.t.Fatal(err)
		}
		r.place(fmt.Sprintf("archive/%s%d.pem", f, n), "", 0o644, string(b))
		if f == "key" {
			os.Chown(to, 0, accounts["pa-keyd"])
			os.Chmod(to, 0o640)
		}
		link := r.dir + "/live/" + f + ".pem"
		if err := os.Symlink("../archive/"+filepath.Base(to), link+".new"); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			r.t.Fatal(err)
		}
	}
	return name
}

func (r *realm) replace(name, text string) {
	r.t.Helper()
	r.place(name+".new", "", 0o644, text)
	if err := os.Rename(r.dir+"/"+name+".new", r.dir+"/"+name); err != nil {
		r.t.Fatal(err)
	}
}

// submit sends a message as u1, over TLS, once the certificate is that of the name.
func (r *realm) submit(to, name, subject string) {
	r.t.Helper()
	var last error
	r.eventually("mail is taken for "+to, func() bool {
		addr := r.addr()
		if err := submit(addr, to, name, subject); fmt.Sprint(err) != fmt.Sprint(last) {
			last = err
			r.t.Log("submit: ", err)
		}
		return last == nil && addr != ""
	})
}

// addr is where smtpd listens, "" before it has said so.
func (r *realm) addr() string {
	b, _ := os.ReadFile(r.logs)
	_, addr, _ := strings.Cut(string(b), "smtpd: -: start version=")
	_, addr, _ = strings.Cut(addr, " on=")
	addr, _, _ = strings.Cut(addr, "=submission")
	return addr
}

func submit(addr, to, name, subject string) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "mx.example.test"}); err != nil {
		return fmt.Errorf("STARTTLS: %w", err)
	}
	s, _ := c.TLSConnectionState()
	if got := s.PeerCertificates[0].DNSNames; len(got) == 0 || got[0] != name {
		return fmt.Errorf("the certificate is for %q", got)
	}
	if err := c.Auth(smtp.PlainAuth("", "u1", "one", "127.0.0.1")); err != nil {
		return fmt.Errorf("AUTH: %w", err)
	}
	if err := c.Mail("u1@example.test"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "From: u1@example.test\r\nSubject: %s\r\n\r\nx\r\n", subject)
	return w.Close()
}

// await is a user's mail with that subject, once it is there.
func (r *realm) await(user, subject string) (file string) {
	r.t.Helper()
	r.eventually(subject+" is with "+user, func() bool {
		file = r.mailOf(user, subject)
		return file != ""
	})
	return file
}

func (r *realm) mailOf(user, subject string) string {
	files, _ := filepath.Glob(r.dir + "/home/" + user + "/Maildir/new/*")
	for _, f := range files {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("\nSubject: "+subject+"\n")) {
			return f
		}
	}
	return ""
}

func (r *realm) eventually(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("not: ", what)
		}
	}
}
