package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
	"postamt/test/suite"
)

// Tests with a realm run the real program as root, for users whose ids are in no passwd file: u1 is 60001.
const (
	frontID = 60000
	queueID = 60009
	firstID = 60000 // of u0, who is not
)

var build = sync.OnceValues(suite.Build)

// realm is a directory in which deliver serves users of several ids.
type realm struct {
	*site
	cmd  *exec.Cmd
	errs string // file
	done chan struct{}
	lmtp string
}

func newRealm(t testing.TB, users int, more ...string) *realm {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users")
	}
	// Not t.TempDir: its parents are closed to everyone but root.
	dir, err := os.MkdirTemp("", "pa-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	r := &realm{site: &site{t: t, dir: dir, conf: dir + "/postamt.conf"}, errs: dir + "/log"}
	r.file("postamt.conf", "hostname mx.example.org\norigin example.org\nlocal_domains example.org\nrun_dir run\nqueue_dir queue\nmailbox_dir mail\nlog stderr\n"+
		fmt.Sprintf("login_user %d:%d\nqueue_user %d:%d\nmailbox_user 60100:60100\n", frontID, frontID, queueID, queueID)+strings.Join(more, "\n")+"\n")
	for _, d := range []string{"run", "mail", "home"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chown(dir+"/mail", 60100, 60100)
	var text strings.Builder
	for i := 1; i <= users; i++ {
		fmt.Fprintf(&text, "u%d:{PLAIN}secret:%d:%d::%s\n", i, firstID+i, firstID+i, r.home(fmt.Sprint("u", i), firstID+i))
	}
	r.file("users", text.String())
	return r
}

// home makes a home that is closed to others.
func (r *realm) home(user string, uid int) string {
	home := r.dir + "/home/" + user
	if err := os.Mkdir(home, 0o700); err != nil {
		r.t.Fatal(err)
	}
	os.Chown(home, uid, uid)
	return home
}

func (r *realm) addUsers(lines string) {
	text, _ := os.ReadFile(r.dir + "/users")
	os.WriteFile(r.dir+"/users.new", append(text, lines...), 0o600)
	os.Rename(r.dir+"/users.new", r.dir+"/users")
}

// run starts the program; change may change how.
func (r *realm) run(change ...func(*exec.Cmd)) {
	r.t.Helper()
	bin, err := build()
	if err != nil {
		r.t.Fatal(err)
	}
	ready, w, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer ready.Close()
	log, err := os.OpenFile(r.errs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(bin+"/deliver", "-C", r.conf, "-notify", "3")
	c.ExtraFiles, c.Stderr = []*os.File{w}, log
	for _, f := range change {
		f(c)
	}
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	w.Close()
	r.cmd, r.done = c, make(chan struct{})
	done := r.done
	go func() {
		c.Wait()
		close(done)
	}()
	r.t.Cleanup(func() {
		c.Process.Kill()
		<-done
		if r.t.Failed() {
			log := r.log()
			r.t.Logf("log, its end:\n%s", log[max(0, len(log)-20000):])
		}
	})
	ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		r.t.Fatalf("not ready: %v\n%s", err, r.log())
	}
}

func (r *realm) log() string {
	b, _ := os.ReadFile(r.errs)
	return string(b)
}

// end stops it in order.
func (r *realm) end() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(30 * time.Second):
		r.t.Fatal("it does not end")
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		r.t.Errorf("exit %d", code)
	}
}

// children are the living children of the program whose title ends in role, of that uid (-1: any).
func (r *realm) children(role string, uid int) (pids []int) {
	for _, pid := range proc.Tree(r.cmd.Process.Pid) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if strings.HasSuffix(strings.TrimRight(string(title), "\x00"), ": "+role) &&
			(uid < 0 || bytes.Contains(status, fmt.Appendf(nil, "\nUid:\t%d\t%d\t%d\t%d\n", uid, uid, uid, uid))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *realm) await(what string, f func() bool) {
	r.t.Helper()
	if err := suite.Await(20*time.Second, what, f); err != nil {
		r.t.Fatal(err)
	}
}

// client is a session of a mail server that tries again as queued does.
type client struct {
	c net.Conn
	r *bufio.Reader
}

func (r *realm) client() *client {
	r.t.Helper()
	c, err := r.dial()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(50 * time.Second))
	b, err := hello(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return &client{c, b}
}

// send sends a message and returns the last reply for each recipient.
func (c *client) send(id, params, body string, users ...string) (replies []string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "MAIL FROM:<a@b.example> XQID=%s XARRIVED=1764000000000000%s\r\n", id, params)
	for _, u := range users {
		fmt.Fprintf(&b, "RCPT TO:<%s@example.org>\r\n", u)
	}
	b.WriteString("DATA\r\n")
	if _, err := io.WriteString(c.c, b.String()); err != nil {
		return nil, err
	}
	if _, err := c.r.ReadString('\n'); err != nil {
		return nil, err
	}
	replies = make([]string, len(users))
	var accepted []int
	for i := range users {
		if replies[i], err = c.r.ReadString('\n'); err != nil {
			return nil, err
		}
		if replies[i][0] == '2' {
			accepted = append(accepted, i)
		}
	}
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "354") {
		if len(accepted) == 0 && err == nil {
			io.WriteString(c.c, "RSET\r\n")
			_, err = c.r.ReadString('\n')
		}
		return replies, err
	}
	go io.WriteString(c.c, body+"\r\n.\r\n")
	for _, i := range accepted {
		if replies[i], err = c.r.ReadString('\n'); err != nil {
			return nil, err
		}
	}
	return replies, nil
}

func (r *realm) mail(user string) []string {
	m, _ := filepath.Glob(r.dir + "/home/" + user + "/Maildir/[nc][eu][wr]/*.Q*")
	return m
}

// want checks that all replies begin so.
func (r *realm) want(replies []string, err error, want ...string) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	for i, w := range want {
		if !strings.HasPrefix(replies[i], w) {
			r.t.Errorf("recipient %d: %q, want %s", i, replies[i], w)
		}
	}
}

// owned checks that a tree belongs to uid and is closed to others.
func (r *realm) owned(path string, uid int) {
	r.t.Helper()
	files := 0
	filepath.Walk(path, func(p string, st os.FileInfo, err error) error {
		if err != nil {
			r.t.Error(err)
			return nil
		}
		sys := st.Sys().(*syscall.Stat_t)
		if int(sys.Uid) != uid || int(sys.Gid) != uid || st.Mode().Perm()&0o077 != 0 {
			r.t.Errorf("%s: %d:%d, %v", p, sys.Uid, sys.Gid, st.Mode())
		}
		if st.Mode().IsRegular() {
			files++
			if st.Mode().Perm() != 0o600 {
				r.t.Errorf("%s: %v", p, st.Mode())
			}
		}
		return nil
	})
	if files == 0 {
		r.t.Errorf("%s: no message", path)
	}
}
