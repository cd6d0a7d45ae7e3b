// Package peers runs mail servers that are not ours, so that tests and benchmarks meet strangers: Postfix, Exim,
// Dovecot and Courier, from Debian's packages, unpacked by test/deps.sh into a directory and not installed.
//
// Each server has everything of its own: configuration, queue, log and delivered mail below one directory,
// listeners, ordinarily on free ports of 127.0.0.1. No peer asks the DNS unless told to: all mail goes to local maildirs, to a
// fixed host, or nowhere. A peer runs in its own process group and is ended by that group's id, so nothing it started
// outlives Stop. All need root: Postfix because its master insists, Exim because we lend it the account its package
// was built for, Dovecot and Courier because they look for themselves below /usr and get a view of the file system in which they are there.
package peers

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
)

// Config says what a peer does. The zero value accepts mail from loopback for alice and bob at no domain at all, and
// sends mail nowhere.
type Config struct {
	Dir      string            // the peer's directory, reachable by every user; empty: a temporary one that Stop removes
	Addr     string            // address and port to listen on; empty: a free port of 127.0.0.1
	Hostname string            // name in the banner and in EHLO; empty: "postfix.example.net" or "exim.example.net"
	Domains  []string          // delivered to Maildirs
	Users    []string          // who exists in Domains; empty: alice and bob
	RelayTo  string            // host:port for mail to every domain that is neither in Domains nor in Routes
	Routes   map[string]string // domain to host:port
	MX       bool              // find the hosts of all other domains in the DNS, by the machine's resolv.conf: in a network namespace only
	TLS      bool              // offer STARTTLS with a self-signed certificate, and use it when the other side offers it
	Process  int               // processes of one service, and connections; 0: 100
	Accept   bool              // accept only: what was accepted stays in the queue, no delivery is tried
	Extra    []string          // lines added at the end of main.cf or dovecot.conf, or in Exim's main section

	// Exim only.
	Heavy   bool     // the daemon with everything in it, such as the authenticator that asks Dovecot
	Local   []string // options of the transport for Domains, beginning with its driver, in the place of Maildirs
	Section []string // lines added at the end, such as a section "begin authenticators"

	// Dovecot and Courier only.
	Protocols []string // any of "imap", "pop3", "lmtp"; none: authentication and look-ups alone. Courier has the first two, always
	Password  string   // of every user; empty: "secret"
	Maildirs  string   // holds USER/Maildir; empty: below Dir
	Owner     string   // account that owns what is in Maildirs; empty: nobody
}

// A Server is a running peer.
type Server struct {
	Addr     string        // host:port that speaks SMTP
	Dir      string        // everything of this peer is below
	Maildirs string        // USER/Maildir/new/... of delivered mail
	Log      string        // the peer's log file
	Conf     string        // configuration directory (Postfix) or file (Exim)
	Cert     string        // certificate file when Config.TLS
	Startup  time.Duration // from the start of the first process to the first banner

	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{} // closed when cmd has been waited for
	remove bool
}

// Pid returns the process id of the server's first process, the parent of the others.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Maildir returns the maildir of a user of Config.Domains. It may not exist before the first delivery.
func (s *Server) Maildir(user string) string { return filepath.Join(s.Maildirs, user, "Maildir") }

// Delivered returns the messages in the user's new/, in no particular order.
func (s *Server) Delivered(user string) []string {
	names, _ := filepath.Glob(filepath.Join(s.Maildir(user), "new", "*"))
	return names
}

// ErrMissing is returned, wrapped, when a peer is not unpacked; test/deps.sh does that.
var ErrMissing = errors.New("not unpacked; run test/deps.sh")

// errNotRoot is why an unprivileged run goes without peers.
var errNotRoot = errors.New("peers need root")

// Dir returns the directory in which test/deps.sh unpacked the peers: $PEERS_DIR, else .cache/peers of this module.
func Dir() (string, error) {
	if dir := os.Getenv("PEERS_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".cache", "peers"), nil
}

// ModuleRoot returns the nearest directory at or above the working directory that holds go.mod.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("peers: no go.mod at or above the working directory")
		}
		dir = up
	}
}

// Command returns a command that runs a program of the unpacked packages, such as smtp-source or postqueue.
func Command(name string, args ...string) (*exec.Cmd, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	return command(dir, name, args...)
}

// command is Command for what was unpacked into dir.
func command(dir, name string, args ...string) (*exec.Cmd, error) {
	for _, in := range []string{"usr/sbin", "usr/lib/postfix/sbin"} {
		path := filepath.Join(dir, in, name)
		if _, err := os.Stat(path); err == nil {
			cmd := exec.Command(path, args...)
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraryPath(dir))
			return cmd, nil
		}
	}
	return nil, fmt.Errorf("peers: %s: %w", filepath.Join(dir, "usr/sbin", name), ErrMissing)
}

// libraryPath lists where the unpacked programs find libraries, Postfix's own and those this machine lacks.
func libraryPath(dir string) string {
	dirs := []string{filepath.Join(dir, "usr/lib/postfix")}
	for _, pattern := range []string{"usr/lib", "usr/lib/*-linux-*", "lib/*-linux-*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":")
}

// Postfix starts a Postfix and stops it when the test ends. Without root the test is skipped; with
// SKIP_MISSING=1 also when Postfix is not there.
func Postfix(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := StartPostfix(c)
	return started(t, s, err)
}

// Exim starts an Exim and stops it when the test ends, on the same terms as Postfix.
func Exim(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := StartExim(c)
	return started(t, s, err)
}

func started(t testing.TB, s *Server, err error) *Server {
	t.Helper()
	switch {
	case errors.Is(err, errNotRoot), errors.Is(err, errNoOverlay), errors.Is(err, ErrMissing) && os.Getenv("SKIP_MISSING") == "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(s.Log); err == nil {
				t.Logf("%s:\n%s", s.Log, log[max(0, len(log)-8<<10):])
			}
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// FreeAddr returns a loopback address with a port that was free a moment ago, and that no other test of ours was given lately.
func FreeAddr() (string, error) {
	var l net.Listener
	var err error
	for range 100 {
		// Not one that the system hands out: any connection made before the program listens may get it.
		port := 10_000 + rand.IntN(22_768)
		if !reserve(port) {
			continue
		}
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", err
}

// reserved are sockets whose names say that a port is ours: other test processes see them, and the system takes them away when we end. The
// oldest make room.
var reserved struct {
	sync.Mutex
	ring [300]net.PacketConn
	next int
}

func reserve(port int) bool {
	c, err := net.ListenPacket("unixgram", fmt.Sprintf("@postamt-test-port-%d", port))
	if err != nil {
		return !errors.Is(err, syscall.EADDRINUSE) // a system without such names
	}
	reserved.Lock()
	defer reserved.Unlock()
	if old := reserved.ring[reserved.next]; old != nil {
		old.Close()
	}
	reserved.ring[reserved.next] = c
	reserved.next = (reserved.next + 1) % len(reserved.ring)
	return true
}

// prepare makes what every peer has: directory, address, defaults and certificate.
func prepare(c *Config, name string) (*Server, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("peers: %s: %w", name, errNotRoot)
	}
	s := &Server{Dir: c.Dir, exited: make(chan struct{})}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", name+"-")
		if err != nil {
			return nil, err
		}
		s.Dir, s.remove = dir, true
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.Dir, 0o755); err != nil { // the peers' own users must get in
		return nil, err
	}
	if c.Hostname == "" {
		c.Hostname = name + ".example.net"
	}
	if len(c.Users) == 0 {
		c.Users = []string{"alice", "bob"}
	}
	if c.Process == 0 {
		c.Process = 100
	}
	if s.Addr = c.Addr; s.Addr == "" {
		var err error
		if s.Addr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	s.Maildirs = filepath.Join(s.Dir, "mail")
	return s, nil
}

// start runs cmd in a process group of its own and waits until the SMTP banner comes.
func (s *Server) start(cmd *exec.Cmd) (*Server, error) {
	if err := s.startUntil(cmd, func(deadline time.Time) error { return Banner(s.Addr, deadline) }); err != nil {
		return nil, err
	}
	return s, nil
}

// startUntil runs cmd and waits until ready returns nil. When it fails, nothing is left.
func (s *Server) startUntil(cmd *exec.Cmd, ready func(deadline time.Time) error) error {
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	cmd.WaitDelay = time.Second // a child that outlives its parent must not hold the output open
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	s.cmd = cmd
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		s.clean()
		return err
	}
	go func() { cmd.Wait(); close(s.exited) }()
	if err := s.await(ready, 20*time.Second); err != nil {
		log, _ := os.ReadFile(s.Log)
		s.Stop()
		return fmt.Errorf("%w\n%s\n%s", err, s.output.Bytes(), log)
	}
	s.Startup = time.Since(begin)
	return nil
}

// await asks until the peer is ready.
func (s *Server) await(ready func(deadline time.Time) error, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := ready(deadline)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("peers: %s ended before it was ready", s.cmd.Path)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("peers: %s: not ready: %w", s.cmd.Path, err)
		}
	}
}

// Banner makes one connection to addr ("host:port", or a path of a Unix socket), and returns nil when a 220 came on it
// before the deadline. It leaves with QUIT.
func Banner(addr string, deadline time.Time) error {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	var b [4]byte
	if _, err := conn.Read(b[:]); err != nil {
		return err
	}
	if string(b[:3]) != "220" {
		return fmt.Errorf("peers: %s greeted with %q", addr, b[:])
	}
	conn.Write([]byte("QUIT\r\n"))
	return nil
}

// Stop ends every process of the peer and, if Config.Dir was empty, removes its directory. A second Stop does nothing.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	pgid := s.cmd.Process.Pid
	s.cmd = nil
	syscall.Kill(-pgid, syscall.SIGTERM)
	gone := false
	for range 1000 {
		// Zombies that wait for init, which may take its time, do no harm: they hold neither port nor file.
		if len(proc.Group(pgid)) == 0 {
			gone = true
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !gone {
		syscall.Kill(-pgid, syscall.SIGKILL)
	}
	<-s.exited
	s.clean()
	if !gone {
		return fmt.Errorf("peers: process group %d had to be killed", pgid)
	}
	return nil
}

func (s *Server) clean() {
	if s.remove {
		os.RemoveAll(s.Dir)
	}
}

// account returns the numeric user and group of a name in /etc/passwd.
func account(name string) (uid, gid int, err error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(passwd)) {
		f := strings.Split(line, ":")
		if f[0] != name || len(f) < 4 {
			continue
		}
		if uid, err = strconv.Atoi(f[2]); err != nil {
			return 0, 0, err
		}
		gid, err = strconv.Atoi(f[3])
		return uid, gid, err
	}
	return 0, 0, fmt.Errorf("peers: no account %s; run test/deps.sh", name)
}

// mkdir makes a directory with exactly this mode and owner, whatever the umask.
func mkdir(path string, mode os.FileMode, uid, gid int) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
