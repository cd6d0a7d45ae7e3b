// Package site is a directory with all that a program needs by which users reach their mail, pop3d or imapd: authd and keyd beside it, started by
// root for users of several ids, or all by one ordinary user; and a client that speaks lines. It is for tests.
package site

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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

	"postamt/test/peers"
	"postamt/test/proc"
	"postamt/test/suite"
)

// Accounts that are in no passwd file. AliceID is the owner of alice's mailbox, as root has it.
const (
	loginID = 60401
	authID  = 60402
	keydID  = 60403
	smtpdID = 60404 // authd wants to know it
	AliceID = 60411
	BobID   = 60412
	PlainID = 60420 // the ordinary user who runs everything
)

// Limit is for what happens at once, on a machine that has much else to do.
const Limit = 2 * time.Minute

// Kind is what differs between the programs.
type Kind struct{ Program, Service, Greeting string }

// The programs.
var (
	POP3 = Kind{"pop3d", "pop3", "+OK "}
	IMAP = Kind{"imapd", "imap", "* OK "}
)

// Site is laid out in a directory. Its users are alice and bob, the password of each is "secret".
type Site struct {
	Kind
	T           testing.TB
	Dir, Bin    string
	Whole       bool // one process, for one user id
	Addr, TLS   string
	Alice       string // her Maildir
	mu          sync.Mutex
	Cmds        map[string]*exec.Cmd
	exits       map[string]chan struct{}
	Credentials *syscall.Credential
}

var build = sync.OnceValues(suite.Build)

// New lays a site out, with further lines of configuration, and starts nothing.
func New(t testing.TB, kind Kind, whole bool, more ...string) *Site {
	t.Helper()
	root := os.Geteuid() == 0
	if !root && !whole {
		t.Skip("needs root, to become users")
	}
	built, err := build()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: its parents are closed to others, and the path of a socket has room for 107 bytes.
	dir, err := os.MkdirTemp("", "pa-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Site{Kind: kind, T: t, Dir: dir, Bin: dir + "/bin", Whole: whole, Cmds: map[string]*exec.Cmd{}, exits: map[string]chan struct{}{}}
	os.Chmod(dir, 0o755)
	for _, d := range []string{"bin", "etc", "run", "state", "home", "home/alice", "home/bob"} {
		s.Must(os.Mkdir(dir+"/"+d, 0o755))
	}
	for _, p := range []string{"authd", "keyd", "mailboxctl", kind.Program} { // the tree that they were built in may be closed to others
		if os.Link(built+"/"+p, s.Bin+"/"+p) == nil {
			continue
		}
		b, err := os.ReadFile(built + "/" + p)
		s.Must(err)
		s.Must(os.WriteFile(s.Bin+"/"+p, b, 0o755))
	}
	_, key, err := peers.WriteCert(dir+"/etc", "mx.example.test")
	s.Must(err)
	for _, addr := range []*string{&s.Addr, &s.TLS} {
		*addr, err = peers.FreeAddr()
		s.Must(err)
	}
	conf := "hostname mx.example.test\nlocal_domains example.test\nusers users\npasswords passwords\nqueue_dir " + dir + "/queue\nrun_dir " + dir + "/run\nstate_dir " + dir +
		"/state\nmailbox_dir " + dir + "/home\ntls_cert cert.pem\ntls_key key.pem\nlog stderr\nauth_mechanisms PLAIN LOGIN APOP SCRAM-SHA-256\n" +
		kind.Program + "_listen " + s.Addr + "=" + kind.Service + " " + s.TLS + "=" + kind.Service + "s\n" +
		kind.Program + "_client_limit 0\n"
	ids := ":"
	switch {
	case whole:
		conf += "login_user\nauth_user\nkeyd_user\nkeyd_clients\ntls_keys keyd\n"
	default:
		conf += fmt.Sprintf("login_user %d:%[1]d\nsmtpd_user %d:%[2]d\nauth_user %d:%[3]d\nkeyd_user %d:%[4]d\nkeyd_clients %[1]d\nmin_uid 100\n", loginID, smtpdID, authID, keydID)
		ids = ""
	}
	users := ""
	for name, id := range map[string]int{"alice": AliceID, "bob": BobID} {
		of := ids
		if of == "" {
			of = fmt.Sprintf("%d:%[1]d", id)
			s.Must(os.Chown(dir+"/home/"+name, id, id))
		}
		s.Must(os.Chmod(dir+"/home/"+name, 0o700))
		users += name + "::" + of + "::" + dir + "/home/" + name + "\n"
	}
	s.Write("etc/postamt.conf", conf+strings.Join(more, "\n")+"\n", 0o644)
	s.Write("etc/users", users, 0o644)
	s.Write("etc/passwords", "alice:{PLAIN}secret\nbob:{PLAIN}secret\n", 0o640)
	switch {
	case whole && root:
		s.Credentials = &syscall.Credential{Uid: PlainID, Gid: PlainID}
		s.Must(filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
			if path == s.Bin { // of who has built them
				return filepath.SkipDir
			}
			return errors.Join(err, os.Chown(path, PlainID, PlainID))
		}))
	case !whole:
		s.Must(errors.Join(os.Chmod(key, 0o640), os.Chown(key, 0, keydID), os.Chmod(dir+"/etc/cert.pem", 0o644), os.Chown(dir+"/etc/passwords", 0, authID)))
	}
	s.Alice = s.Maildir("alice")
	return s
}

func (s *Site) Must(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Fatal(err)
	}
}

func (s *Site) Write(name, text string, mode os.FileMode) {
	s.T.Helper()
	s.Must(os.WriteFile(s.Dir+"/"+name, []byte(text), mode))
	s.Must(os.Chmod(s.Dir+"/"+name, mode))
}

func (s *Site) Configuration() string { return s.Dir + "/etc/postamt.conf" }

// Own makes the owner of a mailbox the owner of a file.
func (s *Site) Own(path, user string) {
	id := map[string]int{"alice": AliceID, "bob": BobID}[user]
	if s.Whole {
		id = PlainID
	}
	if os.Geteuid() == 0 {
		s.Must(os.Lchown(path, id, id))
	}
}

func (s *Site) Maildir(user string) string {
	dir := s.Dir + "/home/" + user + "/Maildir"
	for _, d := range []string{dir, dir + "/new", dir + "/cur", dir + "/tmp"} {
		if os.Mkdir(d, 0o700) == nil {
			s.Own(d, user)
		}
	}
	return dir
}

// Put makes messages of alice's as old as an hour: they leave no tombstone.
func (s *Site) Put(texts ...string) {
	s.T.Helper()
	old := time.Now().Add(-time.Hour)
	for i, text := range texts {
		s.File(fmt.Sprintf("new/%d.M%dP1.host", 1700000000+i, i), text, old)
	}
}

func (s *Site) File(name, text string, when time.Time) {
	s.T.Helper()
	path := s.Alice + "/" + name
	s.Must(os.WriteFile(path, []byte(text), 0o600))
	s.Own(path, "alice")
	s.Must(os.Chtimes(path, when, when))
}

// Left are the messages of alice.
func (s *Site) Left() []string {
	var all []string
	for _, d := range []string{"new", "cur"} {
		l, err := os.ReadDir(s.Alice + "/" + d)
		s.Must(err)
		for _, e := range l {
			all = append(all, e.Name())
		}
	}
	return all
}

// Start starts programs, and waits until each is ready.
func (s *Site) Start(programs ...string) *Site {
	s.T.Helper()
	for _, program := range programs {
		ready, w, err := os.Pipe()
		s.Must(err)
		defer ready.Close()
		log, err := os.OpenFile(s.Dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		s.Must(err)
		defer log.Close()
		c := exec.Command(s.Bin+"/"+program, "-C", s.Configuration(), "-notify", "3")
		c.Dir, c.ExtraFiles, c.Stderr = "/", []*os.File{w}, log
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.Credentials}
		s.Must(c.Start())
		w.Close()
		done := make(chan struct{})
		go func() {
			c.Wait()
			close(done)
		}()
		s.mu.Lock()
		first := len(s.Cmds) == 0
		s.Cmds[program], s.exits[program] = c, done
		s.mu.Unlock()
		s.T.Cleanup(func() {
			c.Process.Kill()
			<-done
			if s.T.Failed() && first {
				text := s.Log()
				s.T.Logf("log:\n%s", text[max(0, len(text)-8<<10):])
			}
		})
		ready.SetReadDeadline(time.Now().Add(Limit))
		if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
			s.T.Fatalf("%s is not ready: %v\n%s", program, err, s.Log())
		}
	}
	return s
}

func (s *Site) All() *Site {
	s.T.Helper()
	return s.Start("authd", "keyd", s.Program)
}

func (s *Site) Log() string {
	b, _ := os.ReadFile(s.Dir + "/log")
	return string(b)
}

func (s *Site) Await(what string, f func() bool) {
	s.T.Helper()
	s.Must(suite.Await(Limit, what, f))
}

// Logged waits for words in one line of the log.
func (s *Site) Logged(words ...string) {
	s.T.Helper()
	s.Await(fmt.Sprintf("%q in the log", words), func() bool {
	line:
		for line := range strings.Lines(s.Log()) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue line
				}
			}
			return true
		}
		return false
	})
}

func (s *Site) Kill(program string, sig syscall.Signal) {
	s.T.Helper()
	s.Must(s.Cmds[program].Process.Signal(sig))
}

// Exit waits for the end of a program, and returns its code.
func (s *Site) Exit(program string) int {
	s.T.Helper()
	select {
	case <-s.exits[program]:
	case <-time.After(Limit):
		s.T.Fatalf("%s does not end", program)
	}
	return s.Cmds[program].ProcessState.ExitCode()
}

// Part is the process of the program of that role, for alice; the whole is both.
func (s *Site) Part(role string) int {
	s.T.Helper()
	root := s.Cmds[s.Program].Process.Pid
	if s.Whole {
		return root
	}
	for _, pid := range proc.Tree(root) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		st, err := os.Stat(fmt.Sprintf("/proc/%d/task", pid))
		if err == nil && strings.HasPrefix(string(title), s.Program+": "+role) && (role == "front" || st.Sys().(*syscall.Stat_t).Uid == AliceID) {
			return pid
		}
	}
	s.T.Fatalf("%s has no %s", s.Program, role)
	return 0
}

// Memory is the most that the process of that role had, in octets.
func (s *Site) Memory(role string) int64 {
	s.T.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Part(role)))
	s.Must(err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	s.Must(err)
	return n << 10
}

// Both runs a test with both ways to run the programs.
func Both(t *testing.T, f func(t *testing.T, whole bool)) {
	t.Run("root", func(t *testing.T) { t.Parallel(); f(t, false) })
	t.Run("ordinary", func(t *testing.T) { t.Parallel(); f(t, true) })
}

// Client speaks lines. Its methods end the test when something else comes than they want.
type Client struct {
	T testing.TB
	net.Conn
	R *bufio.Reader
}

// NewClient is one on a connection, which the end of the test closes.
func NewClient(t testing.TB, c net.Conn) *Client {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(Limit))
	return &Client{t, c, bufio.NewReader(c)}
}

// Knock connects in clear, or with TLS.
func (s *Site) Knock(secure bool) (*Client, error) {
	addr := s.Addr
	if secure {
		addr = s.TLS
	}
	nc, err := net.Dial("tcp", addr)
	if err == nil && secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	}
	if err != nil {
		return nil, err
	}
	return NewClient(s.T, nc), nil
}

// Dial is Knock, and waits for the greeting.
func (s *Site) Dial(secure bool) *Client {
	s.T.Helper()
	c, err := s.Knock(secure)
	s.Must(err)
	c.Want(s.Greeting)
	return c
}

func (c *Client) Say(line string) { io.WriteString(c, line+"\r\n") }

func (c *Client) Want(prefix string) string {
	c.T.Helper()
	line, err := c.R.ReadString('\n')
	if !strings.HasPrefix(line, prefix) || err != nil {
		c.T.Fatalf("%q, %v in the place of %q", line, err, prefix)
	}
	return strings.TrimRight(line, "\r\n")
}

func (c *Client) Do(line, prefix string) string {
	c.T.Helper()
	c.Say(line)
	return c.Want(prefix)
}

// Ended: nothing more comes than what is returned.
func (c *Client) Ended() string {
	c.T.Helper()
	b, err := io.ReadAll(c.R)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.T.Fatalf("the session does not end; it said %q", b)
	}
	return string(b)
}
