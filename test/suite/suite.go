// Package suite runs a whole postamt in one directory: configuration, users, queue, sockets, logs and maildirs below it,
// all listeners on loopback, every program as the caller's user. End-to-end tests, crash tests and benchmarks stand on it.
//
// It uses the programs as an administrator would: postamt.conf(5) and users(5) are written, the programs of bin/
// are started with -C, readiness comes through -notify, they are ended by signals, mail is found in maildirs.
// Nothing here imports the programs' packages, so that a test sees what a stranger sees.
package suite

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
)

// Programs of the suite, in the order in which a message passes them.
var Programs = [...]string{"smtpd", "queued", "deliver"}

// tools are programs of the suite that run when somebody calls them.
var tools = [...]string{"authd", "keyd", "pop3d", "imapd", "queuectl", "mailboxctl", "aliasctl", "sendmail", "vacation"}

// Config says what a System is like. The zero value serves example.test for alice and bob.
type Config struct {
	Dir      string   // empty: a temporary directory that Stop removes
	Bin      string   // directory of the programs; empty: bin/ of this module, built anew
	Domain   string   // empty: example.test
	Hostname string   // empty: mx.DOMAIN
	Users    []string // empty: alice and bob; each one's password is the name

	Aliases        string // text of the aliases file
	VirtualAliases string // text of the virtual aliases file
	Routes         string // text of the routes file
	DNS            string // address of a name server, such as a stub.Server's; empty: none answers
	TLS            bool   // a self-signed certificate for smtpd, and a listener with TLS from the start
	Auth           bool   // authd runs, and everybody may log in with every mechanism that needs no certificate
	Keyd           bool   // the key of TLS is held by keyd, which runs too
	Settings       string // further lines of postamt.conf; a key here replaces ours

	// Prefix goes before the command line of each program when it is started: a program that executes its arguments in
	// its own place, such as nsenter.
	Prefix []string
}

// A System is a configured postamt, running or not. Its methods may be called from several goroutines, but those that start
// and end one program only from one at a time.
type System struct {
	Dir    string // everything is below
	Conf   string // postamt.conf
	Addr   string // host:port of smtpd's mx listener
	Submit string // host:port of smtpd's submission listener
	Secure string // host:port of smtpd's submissions listener if Config.TLS
	Auth   string // authd's client socket if Config.Auth
	Socket string // path of smtpd's local listener
	LMTP   string // path of deliver's listener
	Queue  string // queue directory
	Cert   string // certificate file if Config.TLS
	Domain string
	Users  []string

	// StartBy, by program, starts its command in place of cmd.Start: the way in for a supervisor. Set it before Launch.
	StartBy map[string]func(*exec.Cmd) error

	bin      string
	programs []string // in the order in which a message passes them
	prefix   []string
	remove   bool

	mu      sync.Mutex
	running map[string]*program
}

type program struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

// Start lays out a System, starts its programs and, when the test ends, stops them and checks the queue. A failed test logs
// the end of each program's log.
func Start(t testing.TB, c Config) *System {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, name := range s.programs {
				log := s.Log(name)
				t.Logf("log of %s:\n%s", name, log[max(0, len(log)-8<<10):])
			}
		}
		s.Remove()
	})
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	return s
}

// New lays out a System without starting anything.
func New(c Config) (*System, error) {
	s := &System{Dir: c.Dir, Domain: c.Domain, Users: c.Users, bin: c.Bin, prefix: c.Prefix, programs: Programs[:], running: map[string]*program{}}
	if s.Domain == "" {
		s.Domain = "example.test"
	}
	if c.Hostname == "" {
		c.Hostname = "mx." + s.Domain
	}
	if len(s.Users) == 0 {
		s.Users = []string{"alice", "bob"}
	}
	var err error
	if s.bin == "" {
		if s.bin, err = Build(); err != nil {
			return nil, err
		}
	}
	if s.Dir == "" {
		// Short, because the path of a Unix socket has room for 107 bytes; t.TempDir may need more.
		if s.Dir, err = os.MkdirTemp("", "pa-"); err != nil {
			return nil, err
		}
		s.remove = true
	}
	for _, addr := range []*string{&s.Addr, &s.Submit, &s.Secure} {
		if *addr, err = peers.FreeAddr(); err != nil {
			return nil, err
		}
	}
	if c.Auth {
		s.programs = append([]string{"authd"}, Programs[:]...)
		s.Auth = filepath.Join(s.Dir, "run", "auth")
	}
	if c.Keyd {
		s.programs = append(s.programs[:len(s.programs):len(s.programs)], "keyd")
	}
	s.Conf = filepath.Join(s.Dir, "postamt.conf")
	s.Queue = filepath.Join(s.Dir, "queue")
	s.Socket = filepath.Join(s.Dir, "run", "smtpd.sock")
	s.LMTP = filepath.Join(s.Dir, "run", "deliver.sock")
	if err := s.layout(c); err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}

func (s *System) layout(c Config) error {
	for _, dir := range []string{"queue", "run", "log", "home"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	var users strings.Builder
	for _, user := range s.Users {
		home := filepath.Join(s.Dir, "home", user)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		fmt.Fprintf(&users, "%s:{PLAIN}%s::::%s::\n", user, user, home)
	}
	conf := []string{
		"hostname " + c.Hostname,
		"origin " + s.Domain,
		"local_domains " + s.Domain + " localhost",
		"queue_dir queue",
		"run_dir run",
		"login_user", // one process each, as whoever runs the test
		"smtpd_user", "queue_user", "auth_user", "keyd_user",
		"log stderr",
		"remote_loopback yes",
	}
	listen := "smtpd_listen " + s.Addr + "=mx " + s.Submit + "=submission unix:smtpd.sock=local"
	files := map[string]string{"users": users.String(), "aliases": c.Aliases}
	if c.VirtualAliases != "" {
		files["virtual"] = c.VirtualAliases
		conf = append(conf, "virtual_aliases virtual")
	}
	if c.Routes != "" {
		files["routes"] = c.Routes
		conf = append(conf, "routes routes")
	}
	if c.DNS == "" {
		c.DNS = "127.0.0.1:9" // discard: refused at once, and nobody outside is asked
	}
	conf = append(conf, "dns_servers "+c.DNS)
	if c.TLS {
		cert, _, err := peers.WriteCert(s.Dir, c.Hostname)
		if err != nil {
			return err
		}
		s.Cert = cert
		keys := "self" // and not auto: tests run as root too
		if c.Keyd {
			keys = "keyd"
		}
		conf = append(conf, "tls_cert cert.pem", "tls_key key.pem", "tls_keys "+keys)
		listen += " " + s.Secure + "=submissions"
	}
	conf = append(conf, listen)
	if c.Auth {
		conf = append(conf, "state_dir state", "auth_mechanisms PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS")
	}
	files["postamt.conf"] = override(conf, c.Settings)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// override returns the lines of a configuration, less those whose key has a line in settings, and then settings.
func override(lines []string, settings string) string {
	replaced := map[string]bool{}
	for line := range strings.Lines(settings) {
		if f := strings.Fields(line); len(f) > 0 {
			replaced[f[0]] = true
		}
	}
	var b strings.Builder
	for _, line := range lines {
		if key, _, _ := strings.Cut(line, " "); !replaced[key] {
			b.WriteString(line + "\n")
		}
	}
	b.WriteString(settings)
	if settings != "" && !strings.HasSuffix(settings, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}

// Build compiles the programs into bin/ of this module, as make does, and returns that directory. What is up to date is not
// written again; packages tested at the same time take turns.
func Build() (string, error) {
	root, err := peers.ModuleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	lock, err := os.Open(bin)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", bin + "/"}
	for _, name := range slices.Concat(Programs[:], tools[:]) {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("suite: go build: %w\n%s", err, out)
	}
	return bin, nil
}

// Run starts every program that is not running. They start at the same time; Run returns when all are ready.
func (s *System) Run() error {
	errs := make([]error, len(s.programs))
	var wg sync.WaitGroup
	for i, name := range s.programs {
		if s.Pid(name) == 0 {
			wg.Go(func() { errs[i] = s.Launch(name) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Launch starts one program and returns when it says that it is ready.
func (s *System) Launch(name string) error {
	log, err := os.OpenFile(s.logPath(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, notify, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	args := slices.Concat(s.prefix, []string{filepath.Join(s.bin, name), "-C", s.Conf, "-notify", "3"})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.Dir
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{notify} // descriptor 3
	start := cmd.Start
	if by := s.StartBy[name]; by != nil {
		start = func() error { return by(cmd) }
	}
	err = start()
	notify.Close()
	if err != nil {
		return err
	}
	p := &program{cmd: cmd, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	// The program's death closes the pipe too, so this cannot wait for one that is gone.
	ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("suite: %s was not ready (%v): %v\n%s", name, err, p.err, s.Log(name))
	}
	s.mu.Lock()
	s.running[name] = p
	s.mu.Unlock()
	return nil
}

// Pid returns the process id of a program, 0 if it was not started or was ended.
func (s *System) Pid(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.running[name]; p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// Pids returns the process ids of all programs that were started and not ended.
func (s *System) Pids() []int {
	var pids []int
	for _, name := range s.programs {
		if pid := s.Pid(name); pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Signal sends a signal to a running program.
func (s *System) Signal(name string, sig syscall.Signal) error {
	s.mu.Lock()
	p := s.running[name]
	s.mu.Unlock()
	if p == nil {
		return fmt.Errorf("suite: %s is not running", name)
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends a program by SIGKILL, as a crash would, and returns when it is gone.
func (s *System) Kill(name string) { s.end(name, syscall.SIGKILL) }

// Terminate ends a program by SIGTERM. The error is that of a program that did not exit 0 within 30 seconds.
func (s *System) Terminate(name string) error { return s.end(name, syscall.SIGTERM) }

func (s *System) end(name string, sig syscall.Signal) error {
	s.mu.Lock()
	p := s.running[name]
	delete(s.running, name)
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("suite: %s did not end within 30 s of %v", name, sig)
	}
	if sig == syscall.SIGTERM && p.err != nil {
		return fmt.Errorf("suite: %s: %w", name, p.err)
	}
	return nil
}

// End terminates every program that runs. The directory stays.
func (s *System) End() error {
	errs := make([]error, len(s.programs))
	var wg sync.WaitGroup
	for i, name := range s.programs {
		wg.Go(func() { errs[i] = s.Terminate(name) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Remove removes the directory if New made it.
func (s *System) Remove() {
	if s.remove {
		os.RemoveAll(s.Dir)
	}
}

// Check runs queued -check, which must find nothing wrong.
func (s *System) Check() error {
	out, err := exec.Command(filepath.Join(s.bin, "queued"), "-C", s.Conf, "-check").CombinedOutput()
	if err != nil {
		return fmt.Errorf("suite: queued -check: %w\n%s", err, out)
	}
	return nil
}

// Wake sends queued a datagram: an id, "scan" or "flush".
func (s *System) Wake(text string) error {
	conn, err := net.Dial("unixgram", filepath.Join(s.Dir, "run", "queued"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(text))
	return err
}

// Flush has every message tried now, as queued(8) says: by the time of its file, and a datagram.
func (s *System) Flush() error {
	now := time.Now()
	err := filepath.WalkDir(filepath.Join(s.Queue, "active"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chtimes(path, now, now)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // delivered meanwhile
		}
		return err
	})
	return errors.Join(err, s.Wake("flush"))
}

func (s *System) logPath(name string) string { return filepath.Join(s.Dir, "log", name) }

// Log returns what a program wrote to its standard error so far, over all its runs.
func (s *System) Log(name string) string {
	b, _ := os.ReadFile(s.logPath(name))
	return string(b)
}

// Maildir returns the maildir of a user. It may not exist before the first delivery.
func (s *System) Maildir(user string) string {
	return filepath.Join(s.Dir, "home", user, "Maildir")
}

// Delivered returns the message files in new/ and cur/ of a user's inbox, in no particular order.
func (s *System) Delivered(user string) []string {
	found, _ := filepath.Glob(filepath.Join(s.Maildir(user), "new", "*"))
	cur, _ := filepath.Glob(filepath.Join(s.Maildir(user), "cur", "*"))
	return append(found, cur...)
}

// AwaitDelivered returns the messages of a user's inbox as soon as there are at least n.
func (s *System) AwaitDelivered(user string, n int, limit time.Duration) ([]string, error) {
	var found []string
	err := Await(limit, fmt.Sprintf("%d messages for %s", n, user), func() bool {
		found = s.Delivered(user)
		return len(found) >= n
	})
	return found, err
}

// Queued returns the paths of the messages in the queue, whatever their state, those in hold and corrupt included.
func (s *System) Queued() []string {
	var found []string
	for _, dir := range []string{"active", "hold", "corrupt"} {
		filepath.WalkDir(filepath.Join(s.Queue, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found = append(found, path)
			}
			return nil // what vanishes while we look has been delivered
		})
	}
	return found
}

// AwaitEmpty waits until nothing is queued. One look is not believed: a report or a child that is queued behind it, before the message that it
// comes from goes ahead of it, is in neither place.
func (s *System) AwaitEmpty(limit time.Duration) error {
	if err := Await(limit, "an empty queue", func() bool { return len(s.Queued()) == 0 && len(s.Queued()) == 0 }); err != nil {
		left := s.Queued()
		return fmt.Errorf("%w; %d left: %s", err, len(left), strings.Join(left[:min(len(left), 20)], " "))
	}
	return nil
}

// Await polls every 5 ms until the condition holds, and returns an error that names it when it never did.
func Await(limit time.Duration, what string, condition func() bool) error {
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("suite: waited %v for %s", limit, what)
		}
	}
	return nil
}

// Body returns a stored message without its header.
func Body(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, body, found := bytes.Cut(b, []byte("\n\n"))
	if !found {
		return nil, fmt.Errorf("suite: %s has no empty line", path)
	}
	return body, nil
}
