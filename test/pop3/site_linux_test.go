// Package pop3 tests pop3d with the programs around it as they run: authd, keyd and pop3d, started by root for users of several ids, or
// all by one ordinary user; and with other people's clients and servers. Nothing imports it.
package pop3

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

// Accounts that are in no passwd file. aliceID is the owner of alice's mailbox, as root has it.
const (
	loginID = 60401
	authID  = 60402
	keydID  = 60403
	smtpdID = 60404 // authd wants to know it
	aliceID = 60411
	bobID   = 60412
	plainID = 60420 // the ordinary user who runs everything
)

// limit is for what happens at once, on a machine that has much else to do.
const limit = 2 * time.Minute

// site is a directory with all that pop3d needs. Its users are alice and bob, the password of each is "secret".
type site struct {
	t           testing.TB
	dir, bin    string
	whole       bool // one process, for one user id
	addr, tls   string
	alice       string // her Maildir
	mu          sync.Mutex
	cmds        map[string]*exec.Cmd
	exits       map[string]chan struct{}
	credentials *syscall.Credential
}

var build = sync.OnceValues(suite.Build)

// newSite lays a site out, with further lines of configuration, and starts nothing.
func newSite(t testing.TB, whole bool, more ...string) *site {
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
	s := &site{t: t, dir: dir, bin: dir + "/bin", whole: whole, cmds: map[string]*exec.Cmd{}, exits: map[string]chan struct{}{}}
	os.Chmod(dir, 0o755)
	for _, d := range []string{"bin", "etc", "run", "state", "home", "home/alice", "home/bob"} {
		s.must(os.Mkdir(dir+"/"+d, 0o755))
	}
	for _, p := range []string{"authd", "keyd", "pop3d"} { // the tree that they were built in may be closed to others
		b, err := os.ReadFile(built + "/" + p)
		s.must(err)
		s.must(os.WriteFile(s.bin+"/"+p, b, 0o755))
	}
	_, key, err := peers.WriteCert(dir+"/etc", "mx.example.test")
	s.must(err)
	for _, addr := range []*string{&s.addr, &s.tls} {
		*addr, err = peers.FreeAddr()
		s.must(err)
	}
	conf := "hostname mx.example.test\nlocal_domains example.test\nusers users\npasswords passwords\nqueue_dir " + dir + "/queue\nrun_dir " + dir + "/run\nstate_dir " + dir +
		"/state\nmailbox_dir " + dir + "/home\ntls_cert cert.pem\ntls_key key.pem\nlog stderr\nauth_mechanisms PLAIN LOGIN APOP SCRAM-SHA-256\npop3d_listen " + s.addr + "=pop3 " + s.tls + "=pop3s\n" +
		"pop3d_client_limit 0\n"
	ids := ":"
	switch {
	case whole:
		conf += "login_user\nauth_user\nkeyd_user\nkeyd_clients\ntls_keys keyd\n"
	default:
		conf += fmt.Sprintf("login_user %d:%[1]d\nsmtpd_user %d:%[2]d\nauth_user %d:%[3]d\nkeyd_user %d:%[4]d\nkeyd_clients %[1]d\nmin_uid 100\n", loginID, smtpdID, authID, keydID)
		ids = ""
	}
	users := ""
	for name, id := range map[string]int{"alice": aliceID, "bob": bobID} {
		of := ids
		if of == "" {
			of = fmt.Sprintf("%d:%[1]d", id)
			s.must(os.Chown(dir+"/home/"+name, id, id))
		}
		s.must(os.Chmod(dir+"/home/"+name, 0o700))
		users += name + "::" + of + "::" + dir + "/home/" + name + "\n"
	}
	s.write("etc/postamt.conf", conf+strings.Join(more, "\n")+"\n", 0o644)
	s.write("etc/users", users, 0o644)
	s.write("etc/passwords", "alice:{PLAIN}secret\nbob:{PLAIN}secret\n", 0o640)
	switch {
	case whole && root:
		s.credentials = &syscall.Credential{Uid: plainID, Gid: plainID}
		s.must(filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
			return errors.Join(err, os.Chown(path, plainID, plainID))
		}))
	case !whole:
		s.must(errors.Join(os.Chmod(key, 0o640), os.Chown(key, 0, keydID), os.Chmod(dir+"/etc/cert.pem", 0o644), os.Chown(dir+"/etc/passwords", 0, authID)))
	}
	s.alice = s.maildir("alice")
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	s.must(os.WriteFile(s.dir+"/"+name, []byte(text), mode))
	s.must(os.Chmod(s.dir+"/"+name, mode))
}

func (s *site) configuration() string { return s.dir + "/etc/postamt.conf" }

// own makes the owner of a mailbox the owner of a file.
func (s *site) own(path, user string) {
	id := map[string]int{"alice": aliceID, "bob": bobID}[user]
	if s.whole {
		id = plainID
	}
	if os.Geteuid() == 0 {
		s.must(os.Chown(path, id, id))
	}
}

func (s *site) maildir(user string) string {
	dir := s.dir + "/home/" + user + "/Maildir"
	for _, d := range []string{dir, dir + "/new", dir + "/cur", dir + "/tmp"} {
		if os.Mkdir(d, 0o700) == nil {
			s.own(d, user)
		}
	}
	return dir
}

// put makes messages of alice's as old as an hour: they leave no tombstone.
func (s *site) put(texts ...string) {
	s.t.Helper()
	old := time.Now().Add(-time.Hour)
	for i, text := range texts {
		s.file(fmt.Sprintf("new/%d.M%dP1.host", 1700000000+i, i), text, old)
	}
}

func (s *site) file(name, text string, when time.Time) {
	s.t.Helper()
	path := s.alice + "/" + name
	s.must(os.WriteFile(path, []byte(text), 0o600))
	s.own(path, "alice")
	s.must(os.Chtimes(path, when, when))
}

// left are the messages of alice.
func (s *site) left() []string {
	var all []string
	for _, d := range []string{"new", "cur"} {
		l, err := os.ReadDir(s.alice + "/" + d)
		s.must(err)
		for _, e := range l {
			all = append(all, e.Name())
		}
	}
	return all
}

// start starts programs, and waits until each is ready.
func (s *site) start(programs ...string) *site {
	s.t.Helper()
	for _, program := range programs {
		ready, w, err := os.Pipe()
		s.must(err)
		defer ready.Close()
		log, err := os.OpenFile(s.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		s.must(err)
		defer log.Close()
		c := exec.Command(s.bin+"/"+program, "-C", s.configuration(), "-notify", "3")
		c.Dir, c.ExtraFiles, c.Stderr = "/", []*os.File{w}, log
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.credentials}
		s.must(c.Start())
		w.Close()
		done := make(chan struct{})
		go func() {
			c.Wait()
			close(done)
		}()
		s.mu.Lock()
		first := len(s.cmds) == 0
		s.cmds[program], s.exits[program] = c, done
		s.mu.Unlock()
		s.t.Cleanup(func() {
			c.Process.Kill()
			<-done
			if s.t.Failed() && first {
				text := s.log()
				s.t.Logf("log:\n%s", text[max(0, len(text)-8<<10):])
			}
		})
		ready.SetReadDeadline(time.Now().Add(limit))
		if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
			s.t.Fatalf("%s is not ready: %v\n%s", program, err, s.log())
		}
	}
	return s
}

func (s *site) all() *site {
	s.t.Helper()
	return s.start("authd", "keyd", "pop3d")
}

func (s *site) log() string {
	b, _ := os.ReadFile(s.dir + "/log")
	return string(b)
}

func (s *site) await(what string, f func() bool) {
	s.t.Helper()
	s.must(suite.Await(limit, what, f))
}

// logged waits for words in one line of the log.
func (s *site) logged(words ...string) {
	s.t.Helper()
	s.await(fmt.Sprintf("%q in the log", words), func() bool {
	line:
		for line := range strings.Lines(s.log()) {
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

func (s *site) kill(program string, sig syscall.Signal) {
	s.t.Helper()
	s.must(s.cmds[program].Process.Signal(sig))
}

// exit waits for the end of a program, and returns its code.
func (s *site) exit(program string) int {
	s.t.Helper()
	select {
	case <-s.exits[program]:
	case <-time.After(limit):
		s.t.Fatalf("%s does not end", program)
	}
	return s.cmds[program].ProcessState.ExitCode()
}

// part is the process of pop3d of that role, for alice; the whole is both.
func (s *site) part(role string) int {
	s.t.Helper()
	root := s.cmds["pop3d"].Process.Pid
	if s.whole {
		return root
	}
	for _, pid := range proc.Tree(root) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		st, err := os.Stat(fmt.Sprintf("/proc/%d/task", pid))
		if err == nil && strings.HasPrefix(string(title), "pop3d: "+role) && (role == "front" || st.Sys().(*syscall.Stat_t).Uid == aliceID) {
			return pid
		}
	}
	s.t.Fatalf("pop3d has no %s", role)
	return 0
}

// both runs a test with both ways to run the programs.
func both(t *testing.T, f func(t *testing.T, whole bool)) {
	t.Run("root", func(t *testing.T) { t.Parallel(); f(t, false) })
	t.Run("ordinary", func(t *testing.T) { t.Parallel(); f(t, true) })
}

// client speaks POP3.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(limit))
	return &client{t, c, bufio.NewReader(c)}
}

// dial connects in clear, or with TLS.
func (s *site) dial(secure bool) *client {
	s.t.Helper()
	addr := s.addr
	if secure {
		addr = s.tls
	}
	nc, err := net.Dial("tcp", addr)
	s.must(err)
	if secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	}
	c := newClient(s.t, nc)
	c.want("+OK ")
	return c
}

func (s *site) login(secure bool) *client {
	s.t.Helper()
	c := s.dial(secure)
	c.do("USER alice", "+OK")
	c.do("PASS secret", "+OK")
	return c
}

func (c *client) say(line string) { io.WriteString(c, line+"\r\n") }

func (c *client) want(prefix string) string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if !strings.HasPrefix(line, prefix) || err != nil {
		c.t.Fatalf("%q, %v in the place of %q", line, err, prefix)
	}
	return strings.TrimRight(line, "\r\n")
}

func (c *client) do(line, prefix string) string {
	c.t.Helper()
	c.say(line)
	return c.want(prefix)
}

// lines are those of a multi-line response.
func (c *client) lines(command string) []string {
	c.t.Helper()
	c.do(command, "+OK")
	var all []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("%s: %v", command, err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "." {
			return all
		}
		all = append(all, line)
	}
}

// ended: nothing more comes than what is returned.
func (c *client) ended() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatalf("the session does not end; it said %q", b)
	}
	return string(b)
}

// ids are the second words of listings, by their numbers.
func ids(lines []string) []string {
	all := make([]string, len(lines))
	for i, l := range lines {
		n, id, _ := strings.Cut(l, " ")
		if n == strconv.Itoa(i+1) {
			all[i] = id
		}
	}
	return all
}
