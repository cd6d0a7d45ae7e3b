package drill

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/peers"
	"postamt/test/proc"
	"postamt/test/suite"
)

// accounts are those of the defaults, for the programs of a realm alone: they see passwd and group files of ours.
var accounts = map[string]int{"pa-smtpd": 60301, "pa-queue": 60302, "pa-auth": 60303, "pa-keyd": 60304, "pa-login": 60305, "u1": 60311, "u2": 60312, "team": 60313}

// walls is which of them stand.
type walls struct{ account, landlock, seccomp bool }

// realm is a whole system as root starts it, with accounts, owners and modes as they should be.
type realm struct {
	t     *testing.T
	dir   string
	bin   string
	walls walls
	as    *syscall.Credential // who starts the programs; nil: root
	pids  map[string]int
	logs  string
	addrs map[string]string // of pop3d and imapd
}

const launchEnv = "DRILL_LAUNCH"

func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(launchEnv); ok {
		fmt.Fprintln(os.Stderr, "drill:", launch(mode, os.Args[1], os.Args[2:]))
		os.Exit(127)
	}
	os.Exit(m.Run())
}

// launch becomes a program which has accounts of ours, and a kernel without what mode names.
func launch(mode, dir string, args []string) error {
	runtime.LockOSThread() // what follows is for this thread, and execve leaves no other
	os.Unsetenv(launchEnv)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, f := range []string{"passwd", "group"} {
		if err := unix.Mount(dir+"/"+f, "/etc/"+f, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", f, err)
		}
	}
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS} // the number of the call
	f := []unix.SockFilter{load}
	for name, nr := range map[string]uint32{"landlock": unix.SYS_LANDLOCK_CREATE_RULESET, "seccomp": unix.SYS_SECCOMP} {
		if strings.Contains(mode, "no "+name) {
			f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
				unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
		}
	}
	if len(f) > 1 {
		f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
		if err := setFilter(f); err != nil {
			return fmt.Errorf("filter: %w", err)
		}
	}
	return fmt.Errorf("execve %s: %w", args[0], unix.Exec(args[0], args, os.Environ()))
}

// newRealm is one in which everything runs. The front and the worker are those of the program named.
func newRealm(t *testing.T, w walls, of string) *realm {
	t.Helper()
	r := layOut(t, w)
	for _, p := range []string{"queued", "authd", "keyd", "deliver", "smtpd"} {
		r.start(p)
	}
	r.mail()
	r.place("queue/active/0/00000000000000000000", "pa-queue", 0o660, "x")
	if of != "deliver" {
		r.start(of)
		r.login(of)
	}
	for _, pid := range proc.Tree(r.pids[of]) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		for _, part := range []string{"front", "worker"} {
			if strings.HasPrefix(string(title), of+": "+part) && owner(t, fmt.Sprint("/proc/", pid)) != accounts["u2"] {
				r.pids[part] = pid
			}
		}
	}
	if !w.account { // the parts of deliver have theirs all the same: it is the modes that let everybody in
		filepath.WalkDir(r.dir, func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				os.Chmod(path, 0o777)
			}
			return nil
		})
	}
	return r
}

// layOut makes a realm in which nothing runs yet.
func layOut(t *testing.T, w walls) *realm {
	t.Helper()
	dir, err := os.MkdirTemp("", "drill") // short: the path of a socket has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &realm{t: t, dir: dir, walls: w, pids: map[string]int{}, logs: dir + "/log", addrs: map[string]string{}}
	for _, p := range []string{"pop3d", "imapd"} {
		if r.addrs[p], err = peers.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	built, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	r.bin = dir + "/bin"
	for path, of := range map[string]string{"": "", "bin": "", "etc": "", "tls": "", "run": "", "state": "", "home": "", "queue": "pa-queue", "home/u1": "u1", "home/u2": "u2", "shared": "",
		"shared/team": "team", "shared/team/new": "team"} {
		mode := os.FileMode(0o755)
		if of != "" {
			mode = 0o750
		}
		r.place(path, of, mode|os.ModeDir, "")
	}
	for _, p := range []string{"smtpd", "queued", "authd", "keyd", "deliver", "pop3d", "imapd"} { // the tree that they were built in may be closed to others
		b, err := os.ReadFile(built + "/" + p)
		if err != nil {
			t.Fatal(err)
		}
		r.place("bin/"+p, "", 0o755, string(b))
	}
	if _, _, err := peers.WriteCert(dir+"/tls", "mx.example.test"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/tls/cert.pem", dir+"/etc/cert.pem"); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/etc/cert.pem", 0o644)
	os.Chmod(dir+"/tls/key.pem", 0o640)
	os.Chown(dir+"/tls/key.pem", 0, accounts["pa-keyd"])
	var passwd, group strings.Builder
	passwd.WriteString("root:x:0:0::/root:/bin/sh\n")
	group.WriteString("root:x:0:\n")
	for name, id := range accounts {
		fmt.Fprintf(&passwd, "%s:x:%d:%[2]d::/:/bin/false\n", name, id)
		member := ""
		switch name {
		case "pa-queue":
			member = "pa-smtpd"
		case "team":
			member = "u2"
		}
		fmt.Fprintf(&group, "%s:x:%d:%s\n", name, id, member)
	}
	r.place("passwd", "", 0o644, passwd.String())
	r.place("group", "", 0o644, group.String())
	stay := ""
	if !w.account {
		stay = "smtpd_user\nqueue_user\nauth_user\nkeyd_user\n"
	}
	if !w.account { // deliver's, which is not without accounts
		stay = strings.Replace(stay, "queue_user\n", "", 1)
	}
	r.place("etc/postamt.conf", "", 0o644, "hostname mx.example.test\nlocal_domains example.test\nusers users\npasswords passwords\naliases aliases\n"+
		"smtpd_listen 127.0.0.1:0=mx\npop3d_listen "+r.addrs["pop3d"]+"=pop3\nimapd_listen "+r.addrs["imapd"]+"=imap\nqueue_dir "+dir+"/queue\nrun_dir "+dir+"/run\nstate_dir "+dir+"/state\nmailbox_dir "+dir+"/mail\nshared_mailboxes "+dir+"/shared\n"+
		"tls_cert cert.pem\ntls_key ../tls/key.pem\nlogin_messages_day 1000\nlog stderr\nmin_uid 100\n"+stay)
	r.place("etc/users", "", 0o644, fmt.Sprintf("u1::%d:%[1]d::%[2]s/home/u1\nu2::%[3]d:%[3]d::%[2]s/home/u2\n", accounts["u1"], dir, accounts["u2"]))
	r.place("shared/team/new/1.m", "team", 0o640, "Subject: x\n\n")
	r.place("etc/aliases", "", 0o644, "postmaster: u1\n")
	r.place("etc/passwords", "", 0o640, "u1:{PLAIN}one\n")
	os.Chown(dir+"/etc/passwords", 0, accounts["pa-auth"])
	return r
}

func owner(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

// place makes a file or directory.
func (r *realm) place(name, account string, mode os.FileMode, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	var err error
	if mode.IsDir() {
		err = os.MkdirAll(path, 0o755)
	} else {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err == nil {
		err = errors.Join(os.Chown(path, accounts[account], accounts[account]), os.Chmod(path, mode.Perm()))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// start starts a program as root, and waits until it is ready.
func (r *realm) start(program string) {
	r.t.Helper()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	ready, w, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer ready.Close()
	log, err := os.OpenFile(r.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	mode := ""
	if !r.walls.landlock {
		mode += "no landlock "
	}
	if !r.walls.seccomp {
		mode += "no seccomp "
	}
	c := exec.Command(self, r.dir, r.bin+"/"+program, "-C", r.dir+"/etc/postamt.conf", "-notify", "3")
	c.Env = []string{launchEnv + "=" + mode}
	c.ExtraFiles, c.Stderr = []*os.File{w}, log
	if r.as != nil {
		c = exec.Command(r.bin+"/"+program, c.Args[3:]...)
		c.ExtraFiles, c.Stderr, c.SysProcAttr = []*os.File{w}, log, &syscall.SysProcAttr{Credential: r.as}
	}
	if program == "queued" && !r.walls.account {
		c.Args[4] = r.dir + "/etc/queued.conf"
		text, _ := os.ReadFile(r.dir + "/etc/postamt.conf")
		r.place("etc/queued.conf", "", 0o644, string(text)+"queue_user\n")
	}
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	w.Close()
	r.pids[program] = c.Process.Pid
	r.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if r.t.Failed() && program == "queued" {
			b, _ := os.ReadFile(r.logs)
			r.t.Logf("logs:\n%s", b[max(0, len(b)-8<<10):])
		}
	})
	ready.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		b, _ := os.ReadFile(r.logs)
		if strings.Contains(string(b), "drill: mount") {
			r.t.Skipf("mount namespaces are missing here: %s", b)
		}
		r.t.Fatalf("%s is not ready: %v\n%s", program, err, b)
	}
}

// login has u1 logged in at pop3d or imapd until the test ends, and so a worker that serves him.
func (r *realm) login(program string) {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addrs[program])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	lines := bufio.NewReader(nc)
	say := map[string][]string{"pop3d": {"", "USER u1", "PASS one"}, "imapd": {"", "a LOGIN u1 one"}}[program]
	for _, line := range say {
		if line != "" {
			io.WriteString(nc, line+"\r\n")
		}
		if answer, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") && !strings.Contains(answer, " OK ") {
			b, _ := os.ReadFile(r.logs)
			r.t.Fatalf("%s: %q, %v\n%s", line, answer, err, b)
		}
	}
}

// mail brings a message to u1 and to u2, and so a worker into being for each.
func (r *realm) mail() {
	r.t.Helper()
	nc, err := net.Dial("unix", r.dir+"/run/deliver.sock")
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	c := textproto.NewConn(nc)
	for _, line := range []string{"", "LHLO x", "MAIL FROM:<>", "RCPT TO:<u1@example.test>", "RCPT TO:<u2@example.test>", "DATA"} {
		if line != "" {
			io.WriteString(nc, line+"\r\n")
		}
		if code, text, err := c.ReadResponse(0); err != nil || code >= 400 {
			r.t.Fatal(line, code, text, err)
		}
	}
	io.WriteString(nc, "Subject: x\r\n\r\nx\r\n.\r\n")
	for range 2 {
		if code, text, err := c.ReadResponse(250); err != nil {
			r.t.Fatal(code, text, err)
		}
	}
}
