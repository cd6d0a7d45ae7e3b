package pipe

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"postamt/internal/addr"
	"postamt/internal/smtp"
)

func run(t *testing.T, line string, change func(*Command)) string {
	t.Helper()
	c := Command{Line: line, Dir: t.TempDir(), Env: (&Delivery{}).Environment(), Input: strings.NewReader("Subject: x\n\nhello\n"), Timeout: time.Minute}
	if change != nil {
		change(&c)
	}
	err := c.Run()
	if err == nil {
		return ""
	}
	if err == ErrStop {
		return "stop"
	}
	var r *smtp.Reply
	if !errors.As(err, &r) {
		t.Fatalf("%q: %v is no reply", line, err)
	}
	return r.Error()
}

func TestD08_Results(t *testing.T) {
	for line, want := range map[string]string{
		"true":           "",
		"exec <&-; true": "",
		"grep -q hello":  "",
		"cat >/dev/null; echo all is well; exit 0": "",
		"exit 75":                     "451 4.3.0 the command has failed with exit code 75",
		"exit 71":                     "451 4.3.0 the command has failed with exit code 71",
		"exit 69":                     "550 5.3.0 the command has failed with exit code 69",
		"exit 67":                     "550 5.1.1 the command has failed with exit code 67",
		"exit 64":                     "550 5.3.0 the command has failed with exit code 64",
		"exit 77":                     "550 5.7.0 the command has failed with exit code 77",
		"exit 255":                    "451 4.3.0 the command has failed with exit code 255",
		"exit 1":                      "451 4.3.0 the command has failed with exit code 1",
		"exit 111":                    "451 4.3.0 the command has failed with exit code 111",
		"exec /nowhere/cmd":           "451 4.3.0 the command has failed with exit code 127: sh: 1: exec: /nowhere/cmd: not found",
		"kill -9 $$":                  "451 4.3.0 the command was ended by a signal: signal: killed",
		"echo 5.7.1 not you; exit 75": "550 5.7.1 the command has failed with exit code 75: not you",
		"echo 4.2.2 full >&2; exit 1": "451 4.2.2 the command has failed with exit code 1: full",
		"echo 2.0.0 fine; exit 67":    "550 5.1.1 the command has failed with exit code 67: 2.0.0 fine",
		`printf '\n\n  no\033[2J\r\nmore\n'; exit 67`: "550 5.1.1 the command has failed with exit code 67: no?[2J?",
	} {
		if got := run(t, line, nil); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	for line, want := range map[string]string{
		"exit 0": "", "exit 99": "stop",
		"exit 100": "550 5.3.0 the command has failed with exit code 100",
		"exit 67":  "451 4.3.0 the command has failed with exit code 67",
		"exit 111": "451 4.3.0 the command has failed with exit code 111",
	} {
		if got := run(t, line, func(c *Command) { c.QMail = true }); got != want {
			t.Errorf("as in .qmail, %q: %q, want %q", line, got, want)
		}
	}
}

// endless never ends: who does not read all of it must not be waited for.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("x\n"), len(p)/2+1)), nil
}

func TestD08_LeavesThings(t *testing.T) {
	begun := time.Now()
	if got := run(t, "read x; exit 0", func(c *Command) { c.Input = endless{} }); got != "" {
		t.Errorf("input that was not read: %s", got)
	}
	if got := run(t, "sleep 300 & echo $! > child; exit 67", func(c *Command) {
		dir := c.Dir
		t.Cleanup(func() {
			if pid, err := os.ReadFile(dir + "/child"); err == nil {
				(&Command{Line: "kill " + string(pid), Dir: "/", Input: strings.NewReader(""), Timeout: time.Minute}).Run()
			}
		})
	}); got != "550 5.1.1 the command has failed with exit code 67" {
		t.Errorf("a child that keeps the output: %s", got)
	}
	if got := run(t, "head -c 300000000 /dev/zero; exit 67", nil); !strings.HasPrefix(got, "550 5.1.1") || len(got) > 300 {
		t.Errorf("much output: %.400s", got)
	}
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("it took %v", d)
	}
}

// What a command says of half a message does not count, whether it is pleased with that or not.
func TestInputFails(t *testing.T) {
	for _, line := range []string{"cat >/dev/null", "cat >/dev/null; exit 65"} {
		got := run(t, line, func(c *Command) {
			c.Input = io.MultiReader(strings.NewReader("Subject: half\n"), iotest.ErrReader(syscall.EIO))
		})
		if got != "451 4.3.0 the message cannot be read" {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := run(t, "true", func(c *Command) { c.Dir = "/nonexistent/home/of/bob" }); got != "451 4.3.0 the command cannot be started: fork/exec: no such file or directory" {
		t.Error(got)
	}
}

// Nothing of ours is open in a command, and no signal is ignored but what was so before us (nohup).
func TestCommandInherits(t *testing.T) {
	f, err := os.Open("pipe.go")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := run(t, "ls -l /proc/self/fd | grep -q 'pipe[.]go' && exit 67; exit 0", nil); got != "" {
		t.Errorf("a file of ours is open: %s", got)
	}
	for s, sig := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "XFSZ": syscall.SIGXFSZ, "PIPE": syscall.SIGPIPE} {
		if signal.Ignored(sig) {
			continue
		}
		if got := run(t, "kill -"+s+" $$; exit 67", nil); !strings.HasPrefix(got, "451 4.3.0 the command was ended by a signal") {
			t.Errorf("SIG%s: %q", s, got)
		}
	}
}

func TestD08_Timeout(t *testing.T) {
	dir := t.TempDir()
	got := run(t, "echo $$ > pid; sleep 300 & sleep 300", func(c *Command) { c.Dir, c.Timeout = dir, 300*time.Millisecond })
	if got != "451 4.3.0 the command has not ended within 300ms" {
		t.Error(got)
	}
	pid, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	// The group is gone, the child that it left too. (A zombie until its new parent looks is no member that runs.)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if run(t, "for s in $(ps -o stat= --pgroup "+strings.TrimSpace(string(pid))+"); do case $s in Z*) ;; *) exit 1;; esac; done", nil) == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its process group lives")
		}
	}
}

// D07, CVE-2014-6271: what came with the message is data.
func TestD07_Environment(t *testing.T) {
	d := Delivery{Sender: "() { :;}; touch canary\nX=y", Recipient: addr.Mailbox{Local: "-oQ/tmp+it's", Domain: "example.org"}, Tag: "it's", User: "bob", Home: "/home/bob x",
		Arrived: time.Date(2026, 11, 29, 10, 0, 0, 0, time.Local), Origin: smtp.Origin{IP: "2001:db8::1", Name: "mx.example.net", Helo: "$(touch canary)", Login: "bob@example.org"}}
	dir := t.TempDir()
	if said := run(t, `env -u PWD -u _ -u OLDPWD -u SHLVL > env`, func(c *Command) { c.Env, c.Dir = d.Environment(), dir }); said != "" {
		t.Fatal(said)
	}
	text, err := os.ReadFile(dir + "/env")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = slices.DeleteFunc(lines, func(s string) bool { return s == "" })
	slices.Sort(lines)
	want := `CLIENT_ADDRESS=2001:db8::1
CLIENT_HELO=__touch_canary_
CLIENT_HOSTNAME=mx.example.net
DEFAULT=it_s
DOMAIN=example.org
DTLINE=Delivered-To: _oQ_tmp+it_s@example.org
EXT=it_s
EXTENSION=it_s
HOME=/home/bob x
HOST=example.org
LOCAL=_oQ_tmp+it_s
LOGNAME=bob
NEWSENDER=__________touch_canary_X=y
ORIGINAL_RECIPIENT=_oQ_tmp+it_s@example.org
PATH=/usr/local/bin:/usr/bin:/bin
RECIPIENT=_oQ_tmp+it_s@example.org
RPLINE=Return-Path: <__________touch_canary_X=y>
SASL_USERNAME=bob@example.org
SENDER=__________touch_canary_X=y
SHELL=/bin/sh
UFLINE=From __________touch_canary_X=y  Sun Nov 29 10:00:00 2026
USER=bob`
	if g := strings.Join(lines, "\n"); g != want {
		t.Errorf("%s", g)
	}
}
