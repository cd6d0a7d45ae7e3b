package imap

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/site"
)

// wire is a session of commands and whole responses, with whatever server.
type wire struct {
	*site.Client
	n int
}

// ask sends a command, literals after it, and returns what comes up to its response, a response each. A literal stands in place, without its CRLF.
func (w *wire) ask(command string, literals ...string) (tagged string, untagged []string) {
	w.T.Helper()
	w.n++
	tag := fmt.Sprintf("t%d ", w.n)
	for _, l := range literals {
		command += fmt.Sprintf(" {%d}\r\n", len(l))
		io.WriteString(w, tag+command)
		if command, tag = l, ""; !strings.HasPrefix(w.response(), "+") {
			w.T.Fatalf("%s: no literal is wanted", command)
		}
	}
	io.WriteString(w, tag+command+"\r\n")
	tag = fmt.Sprintf("t%d ", w.n)
	for {
		r := w.response()
		if rest, ok := strings.CutPrefix(r, tag); ok {
			return rest, untagged
		}
		untagged = append(untagged, r)
	}
}

// do is ask, of a command that succeeds.
func (w *wire) do(command string, literals ...string) []string {
	w.T.Helper()
	tagged, untagged := w.ask(command, literals...)
	if !strings.HasPrefix(tagged, "OK") {
		w.T.Fatalf("%s: %s", command, tagged)
	}
	return untagged
}

func (w *wire) response() string {
	w.T.Helper()
	var all strings.Builder
	for {
		line, err := w.R.ReadString('\n')
		if err != nil {
			w.T.Fatalf("%q: %v", line, err)
		}
		line = strings.TrimRight(line, "\r\n")
		all.WriteString(line)
		i := strings.LastIndexByte(line, '{')
		if i < 0 || !strings.HasSuffix(line, "}") {
			return all.String()
		}
		n, err := strconv.Atoi(line[i+1 : len(line)-1])
		if err != nil {
			return all.String()
		}
		if _, err := io.CopyN(&all, w.R, int64(n)); err != nil {
			w.T.Fatal(err)
		}
	}
}

// session is one of alice's.
func (s *imapSite) session() *wire {
	s.T.Helper()
	w := &wire{Client: s.Dial(true)}
	w.do("LOGIN alice secret")
	return w
}

// text is a message whose subject is a word. Dovecot takes those for one that have the same Date and Message-ID, or none.
func text(subject string) string {
	return "From: a@b.example\nSubject: " + subject + "\nDate: Sat, 28 Nov 2026 17:00:00 +0000\nMessage-ID: <" + subject + "@b.example>\n\ntext of " + subject + "\n"
}

// append puts a message whose subject is a word into a folder.
func (w *wire) append(folder, flags, subject string) {
	w.T.Helper()
	w.do("APPEND "+folder+" ("+flags+")", strings.ReplaceAll(text(subject), "\n", "\r\n"))
}

// mailboxctl runs it as the owner of the mailbox.
func (s *imapSite) mailboxctl(args ...string) string {
	s.T.Helper()
	c := exec.Command(s.Bin+"/mailboxctl", args...)
	c.Dir = "/"
	if os.Geteuid() == 0 {
		st, err := os.Stat(s.Alice)
		s.Must(err)
		own := st.Sys().(*syscall.Stat_t)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: own.Uid, Gid: own.Gid}}
	}
	out, err := c.CombinedOutput()
	if err != nil {
		s.T.Errorf("mailboxctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// holds says that the messages of a folder are these, "subject:flags" each, and that all of the mailbox is well.
func (s *imapSite) holds(folder string, want ...string) {
	s.T.Helper()
	var got []string
	for line := range strings.Lines(s.mailboxctl("-f", folder, "list", s.Alice)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) < 6 {
			s.T.Errorf("mailboxctl list: %q", line)
			continue
		}
		got = append(got, f[5]+":"+f[1])
	}
	if g, w := strings.Join(got, " "), strings.Join(want, " "); g != w {
		s.T.Errorf("%s holds %q, not %q", folder, g, w)
	}
	if out := s.mailboxctl("check", s.Alice); out != "" {
		s.T.Errorf("mailboxctl check:\n%s", out)
	}
}

// A visit is one of somebody else's programs at a site of ours.
type visit struct {
	*imapSite
	t      *testing.T
	secure bool   // TLS from the first octet, else STARTTLS
	port   string // where to
	dir    string // its own; the certificate is in cert.pem
}

// command has all that a program needs to be by itself.
func (v *visit) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(v.t.Context(), args[0], args[1:]...)
	c.Env = append(os.Environ(), "HOME="+v.dir, "FETCHMAILHOME="+v.dir, "TMPDIR="+v.dir, "LC_ALL=C.UTF-8", "TERM=vt100", "MAIL=")
	c.Dir, c.WaitDelay = v.dir, time.Second
	return c
}

// run runs a program to its end, and returns all that it said.
func (v *visit) run(args ...string) string {
	v.t.Helper()
	out, err := v.command(args...).CombinedOutput()
	if err != nil {
		v.t.Fatalf("%s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

// keys runs a program on a terminal.
func (v *visit) keys(command string) string {
	v.t.Helper()
	return v.run("script", "-qec", command, "/dev/null")
}

// file writes one for the program.
func (v *visit) file(name, text string) {
	v.t.Helper()
	v.Must(os.WriteFile(v.dir+"/"+name, []byte(text), 0o600))
}

// either is what differs between STARTTLS and TLS from the first octet.
func (v *visit) either(starttls, secure string) string {
	if v.secure {
		return secure
	}
	return starttls
}
