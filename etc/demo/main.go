// Demo runs the whole suite in one directory, on loopback, as any user: what `make run` starts.
//
// The first run lays out ./run: configuration, users, aliases, a self-signed certificate. Later runs find
// all of it, and the mail, as it was. The programs are those in bin/; they run until Ctrl-C.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const domain = "example.test"

// programs in the order in which they start: each finds the one it talks to.
var programs = []string{"authd", "deliver", "queued", "smtpd", "pop3d", "imapd"}

func main() {
	dir := "run"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "postamt.conf")); errors.Is(err, os.ErrNotExist) {
		if err := layOut(dir); err != nil {
			return err
		}
	}
	pop3, err := userListener(dir, "pop3d_listen", "=pop3", 2110)
	if err != nil {
		return err
	}
	imap, err := userListener(dir, "imapd_listen", "=imap", 2143)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	ended := make(chan error, len(programs))
	var children []*exec.Cmd
	defer func() {
		for _, c := range children {
			c.Process.Signal(syscall.SIGTERM)
		}
		for range children {
			<-ended
		}
	}()
	for _, p := range programs {
		c, err := start(filepath.Join("bin", p), filepath.Join(dir, "postamt.conf"), ended)
		if err != nil {
			return err
		}
		children = append(children, c)
	}
	mx, err := listener(dir, "smtpd_listen", "=mx")
	if err != nil {
		return err
	}
	fmt.Printf(`
postamt runs in %[1]s (domain %[2]s; users alice and bob, passwords in %[1]s/passwords).

send:  printf 'Subject: hello\n\nfirst message\n' | bin/sendmail -C %[1]s/postamt.conf alice@%[2]s
       printf 'From: bob@%[2]s\nSubject: hello\n\nfirst message\n' | curl -sS --crlf smtp://%[3]s --mail-from bob@%[2]s --mail-rcpt alice@%[2]s -T -
read:  cat %[1]s/mail/alice/Maildir/new/*
       curl -sS -k --ssl-reqd 'imap://%[5]s/INBOX;MAILINDEX=1' -u alice
       curl -sS -k --ssl-reqd pop3://%[4]s/1 -u alice
queue: bin/queuectl -C %[1]s/postamt.conf list

Ctrl-C ends it.

`, dir, domain, mx, pop3, imap)
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		ended <- err // for the deferred wait
		return fmt.Errorf("a program ended: %v", err)
	}
}

// start runs one program and returns when it is ready.
func start(program, conf string, ended chan<- error) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := exec.Command(program, "-C", conf, "-notify", "3")
	c.ExtraFiles = []*os.File{w}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours; they get TERM
	err = c.Start()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("%w (has `make` been run?)", err)
	}
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := bufio.NewReader(r).ReadByte(); err != nil {
		c.Process.Kill()
		return nil, fmt.Errorf("%s did not get ready: %v (its own words are above)", program, c.Wait())
	}
	go func() { ended <- c.Wait() }()
	return c, nil
}

// layOut writes a small system: everything a first message needs and nothing else.
func layOut(dir string) error {
	for _, d := range []string{"", "run", "queue", "mail", "mail/alice", "mail/bob"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	port := freePort(2525)
	submission := freePort(max(2587, port+1))
	alice, bob := password(), password()
	files := map[string]string{
		"postamt.conf": fmt.Sprintf(`# The demonstration system. See postamt.conf(5).
hostname mail.%[1]s
origin %[1]s
local_domains %[1]s localhost
queue_dir queue
run_dir run
state_dir state
# Each program is one process, root's if root runs this.
login_user
smtpd_user
queue_user
auth_user
keyd_user
aliases aliases
users users
passwords passwords
smtpd_listen 127.0.0.1:%[2]d=mx 127.0.0.1:%[3]d=submission unix:smtpd.sock=local
tls_cert tls.crt
tls_key tls.key
tls_keys self
log stderr
`, domain, port, submission),
		"aliases": "# aliases(5)\npostmaster: alice\nall: alice, bob\n",
		"users": fmt.Sprintf("# users(5); without a uid the mail belongs to whoever runs deliver\nalice:x::::%s::\nbob:x::::%s::\n",
			filepath.Join(dir, "mail/alice"), filepath.Join(dir, "mail/bob")),
		"passwords": fmt.Sprintf("alice:{PLAIN}%s\nbob:{PLAIN}%s\n", alice, bob),
	}
	if err := certificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), "mail."+domain); err != nil {
		return err
	}
	for _, name := range []string{"users", "aliases", "passwords", "postamt.conf"} { // the last says that all is there
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("laid out %s\nalice's password is %s, bob's %s\n", dir, alice, bob)
	return nil
}

func add(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func freePort(from int) int {
	for p := from; p < from+200; p++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			l.Close()
			return p
		}
	}
	return from
}

func password() string { return strings.ToLower(rand.Text()[:12]) }

func certificate(certFile, keyFile, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// userListener is listener, and makes one that is missing: the system was just laid out, or before there was the program.
func userListener(dir, key, kind string, port int) (string, error) {
	if a, err := listener(dir, key, kind); err == nil {
		return a, nil
	}
	a := fmt.Sprintf("127.0.0.1:%d", freePort(port))
	return a, add(filepath.Join(dir, "postamt.conf"), key+" "+a+kind+"\n")
}

// listener finds the address of the first listener of that kind that a key of the configuration has.
func listener(dir, key, kind string) (string, error) {
	conf, err := os.ReadFile(filepath.Join(dir, "postamt.conf"))
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(conf), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			for _, l := range f[1:] {
				if a, ok := strings.CutSuffix(l, kind); ok {
					return a, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%s/postamt.conf: %s has no listener %s", dir, key, kind)
}
