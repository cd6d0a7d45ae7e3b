//go:build amd64 || arm64

package crash

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/killpoint"
)

// imapSession is an imapd that serves one maildir on a socket.
type imapSession struct {
	cmd  *exec.Cmd
	conn net.Conn
	r    *bufio.Reader
	log  strings.Builder
}

func newImapSession(t *testing.T, dir string, start func(*exec.Cmd) error) *imapSession {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	s := &imapSession{cmd: exec.Command(filepath.Join(bin, "imapd"), "-C", filepath.Join(dir, "conf"), "-session", filepath.Join(dir, "Maildir"))}
	s.conn, err = net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	s.conn.SetDeadline(time.Now().Add(patience))
	s.r = bufio.NewReader(s.conn)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = theirs, theirs, &s.log
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "USER=alice")
	if err := start(s.cmd); err != nil {
		t.Fatal(err)
	}
	return s
}

// do sends a command and reads up to its tagged response; false: the connection has ended.
func (s *imapSession) do(tag, command string) (ok bool, out string) {
	if _, err := io.WriteString(s.conn, tag+" "+command+"\r\n"); err != nil {
		return false, ""
	}
	for {
		line, err := s.r.ReadString('\n')
		if out += line; err != nil {
			return false, out
		}
		if rest, found := strings.CutPrefix(line, tag+" "); found {
			return strings.HasPrefix(rest, "OK "), out
		}
	}
}

func (s *imapSession) end() {
	s.conn.Close()
	s.cmd.Wait()
}

// TestKillImapdAtEachCall: I19. What APPEND, CATENATE and REPLACE have said OK to is there, whole and once, and of what REPLACE replaces one is there always.
func TestKillImapdAtEachCall(t *testing.T) {
	text := func(n int) string { return fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", n, strings.Repeat("x", 100*n)) }
	literal := func(n int) string { return fmt.Sprintf("{%d+}\r\n%s", len(text(n)), text(n)) }
	whole := map[string]string{"catenated": text(1) + "end\r\n"}
	for n := 1; n <= 4; n++ {
		whole[strconv.Itoa(n)] = text(n)
	}
	points(t, func(t *testing.T, n int) (int, bool) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "conf"), []byte("hostname mx.example.org\nlog stderr\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		maildir := filepath.Join(dir, "Maildir")
		if err := os.Mkdir(maildir, 0o700); err != nil {
			t.Fatal(err)
		}
		var run *killpoint.Run
		s := newImapSession(t, dir, func(cmd *exec.Cmd) (err error) {
			run, err = killpoint.Start(cmd, killpoint.Plan{Below: []string{maildir}, Fault: killpoint.KillAt(n)})
			return err
		})
		said := map[string]bool{}
		for _, c := range []struct{ tag, command string }{
			{"a1", "SELECT INBOX"},
			{"a2", "APPEND INBOX " + literal(1)},
			{"a3", `APPEND INBOX (\Seen key) ` + literal(2) + " " + literal(3)},
			{"a4", "APPEND INBOX CATENATE (URL /INBOX/;UID=1 TEXT {5+}\r\nend\r\n)"},
			{"a5", `UID REPLACE 1 INBOX (\Draft) ` + literal(4)},
			{"a6", "LOGOUT"},
		} {
			ok, out := s.do(c.tag, c.command)
			if said[c.tag] = ok; !ok {
				if n == 0 || strings.Contains(out, "\r\n"+c.tag+" ") {
					t.Errorf("%q\n%s", out, s.log.String())
				}
				break
			}
		}
		s.end()
		run.Wait()

		// A lock that does not say yet whose it is, is broken after two minutes (package dotlock). They are not waited for here.
		locks, _ := filepath.Glob(filepath.Join(maildir, "*.lock"))
		for _, name := range locks {
			if st, err := os.Stat(name); err == nil && st.Size() == 0 {
				os.Remove(name)
			}
		}
		s = newImapSession(t, dir, (*exec.Cmd).Start)
		defer s.end()
		if ok, out := s.do("b1", "SELECT INBOX"); !ok {
			t.Fatalf("%q\n%s", out, s.log.String())
		}
		ok, out := s.do("b2", "UID FETCH 1:* BODY.PEEK[]")
		if !ok {
			t.Fatalf("%q\n%s", out, s.log.String())
		}
		var there []string
		for _, part := range strings.Split(out, "BODY[] {")[1:] {
			size, rest, _ := strings.Cut(part, "}\r\n")
			length, _ := strconv.Atoi(size)
			name := ""
			for k, v := range whole {
				if rest[:min(length, len(rest))] == v {
					name = k
				}
			}
			if name == "" || slices.Contains(there, name) {
				t.Errorf("%q is there", part)
			}
			there = append(there, name)
		}
		has := func(name string) bool { return slices.Contains(there, name) }
		for name, must := range map[string]bool{"1": said["a2"] && !said["a5"] && !has("4"), "2": said["a3"], "3": said["a3"], "catenated": said["a4"], "4": said["a5"]} {
			if must && !has(name) {
				t.Errorf("%s is missing of %v after %v", name, there, said)
			}
		}
		if said["a5"] && has("1") {
			t.Error("what was replaced is there")
		}
		if hit, ok := run.Hit(); ok && t.Failed() {
			t.Logf("imapd was at call %v", hit)
		}
		_, hit := run.Hit()
		return len(run.Calls()), hit
	})
}
