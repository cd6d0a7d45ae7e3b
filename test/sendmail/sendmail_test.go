// Package sendmail has programs of other people send mail by our sendmail, through smtpd, queued and deliver, and sees what happens to those who call it in odd circumstances.
package sendmail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/suite"
)

// limit is for whatever must happen soon; a machine under load may take its time.
const limit = 40 * time.Second

// programs are built once.
var programs = sync.OnceValues(suite.Build)

const aliases = "postmaster: alice\nroot: alice\nnobody: bob\nstuck: :defer: for now\n"

func start(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if c.Aliases == "" {
		c.Aliases = aliases
	}
	c.Bin = bin
	return suite.Start(t, c)
}

// missing skips the test by name, but fails it in CI, where nothing is missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getenv("SKIP_MISSING") != "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed; run test/deps.sh")
	}
	return path
}

// call is sendmail under a name, with that standard input.
func call(s *suite.System, stdin, name string, args ...string) *exec.Cmd {
	bin, _ := programs()
	c := exec.Command(filepath.Join(bin, "sendmail"), args...)
	c.Args[0] = name
	c.Env = append(os.Environ(), "POSTAMT_CONF="+s.Conf)
	c.Stdin = strings.NewReader(stdin)
	return c
}

// ends runs a command, which ends with that code, and returns what it prints.
func ends(t *testing.T, code int, c *exec.Cmd) string {
	t.Helper()
	out, err := c.CombinedOutput()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("%q: exit code %d, not %d\n%s", c.Args, got, code, out)
	}
	return string(out)
}

// inbox is the text of the one message that a user has got.
func inbox(t *testing.T, s *suite.System, user string) string {
	t.Helper()
	found, err := s.AwaitDelivered(user, 1, limit)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil || len(found) != 1 {
		t.Fatalf("%d messages, %v", len(found), err)
	}
	os.Remove(found[0])
	return string(b)
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

// TestForms: the command lines of programs that are not here, one for each.
func TestForms(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	const head = "From: root (Cron Daemon)\nTo: root\nSubject: form\n\nbody\n"
	for name, form := range map[string][]string{
		"cron, Debian":      {"-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"},
		"cronie":            {"-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"},
		"crond, BusyBox":    {"-ti", "oem"},
		"fcron":             {"-Ffcron", "-odi", "root"},
		"at":                {"-i", "root"},
		"anacron":           {"-FAnacron", "-odi", "root"},
		"Sympa":             {"-oi", "-odi", "-oem", "-N", "success,delay,failure", "-R", "hdrs", "-V", "123", "-f", "list-owner@example.test", "root@example.test"},
		"Mailman 2":         {"-f", "list-bounces@example.test", "root@example.test"},
		"majordomo":         {"-oi", "-odq", "-flist-owner@example.test", "root"},
		"RT":                {"-oi", "-t", "-f", "rt@example.test"},
		"PHP":               {"-t", "-i", "-fwww@example.test"},
		"Perl, MIME::Lite":  {"-t", "-oi", "-oem"},
		"Python, trac":      {"-i", "-f", "trac@example.test", "root@example.test"},
		"Ruby, mail":        {"-i", "-f", "app@example.test", "--", "root@example.test"},
		"Java, mutt's edit": {"-oem", "-oi", "-f", "a@example.test", "-N", "failure", "-R", "full", "--", "root@example.test"},
		"mdadm":             {"-t"},
		"uucp":              {"-fa@example.test", "-G", "-i", "--", "root"},
	} {
		ends(t, 0, call(s, head, "sendmail", form...))
		text := inbox(t, s, "alice")
		contains(t, text, "\nFrom: root@example.test (Cron Daemon)\nTo: root@example.test\nSubject: form\n\nbody\n", "\nDate: ", "\nMessage-ID: <", "Received: from mx.example.test (login ")
		if strings.Count(text, "\nDate: ") != 1 || strings.Count(text, "\nMessage-ID: ") != 1 {
			t.Errorf("%s: a field is there twice:\n%s", name, text)
		}
	}
}

// C04: octets arrive as they were, but for line ends.
func TestC04_Octets(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	body := "Gr\xc3\xbc\xc3\x9fe \xff\xfe\x00\x1a\n.\n..\nFrom here\n" + strings.Repeat("long ", 40_000) + "\n"
	ends(t, 0, call(s, "Subject: Gr\xfc\xdfe\n\n"+body+"10%\r20%\rend", "sendmail", "-i", "alice"))
	text := inbox(t, s, "alice")
	if want := "\nSubject: Gr\xfc\xdfe\n\n" + body + "10%\n20%\nend\n"; !strings.HasSuffix(text, want) {
		t.Errorf("%.600q", text)
	}
}

// A user who is unknown to us gets nothing, and what cron has to say to him comes back, or goes to the postmaster.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	contains(t, ends(t, 67, call(s, "hello\n", "sendmail", "-f", "bob", "alice", "stranger")), "stranger@example.test: 550 5.1.1 ")
	contains(t, ends(t, 67, call(s, "output of a job\n", "sendmail", "-oem", "-f", "bob", "alice", "stranger")), "returned to its sender")
	contains(t, inbox(t, s, "bob"), "Return-Path: <>\n", "\nSubject: Returned mail", "\n<stranger@example.test>\n    550 5.1.1 ", "\n\noutput of a job\n")
	ends(t, 67, call(s, "output of a job\n", "sendmail", "-oem", "-f", "www-data", "stranger"))
	contains(t, inbox(t, s, "alice"), "Return-Path: <>\n", "\nTo: <postmaster>\n", "\n\noutput of a job\n")
	if n := len(s.Delivered("alice")) + len(s.Delivered("bob")); n > 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// Who cannot be reached just now is queued: mailq shows it, runq tries again, and an alias that is mended is found.
func TestQueue(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	contains(t, ends(t, 0, call(s, "", "mailq")), "Mail queue is empty\n")
	ends(t, 0, call(s, "", "sendmail", "-bv", "alice", "stuck"))
	contains(t, ends(t, 67, call(s, "", "sendmail", "-bv", "alice", "stranger")), "alice@example.test... deliverable\nstranger@example.test... 550 5.1.1 ")
	contains(t, ends(t, 0, call(s, "", "sendmail", "-bt", "root")), "alice")
	ends(t, 0, call(s, "Subject: later\n\nbody\n", "sendmail", "-f", "bob", "stuck"))
	if err := suite.Await(limit, "an attempt", func() bool {
		return strings.Contains(ends(t, 0, call(s, "", "mailq")), "for now")
	}); err != nil {
		t.Fatal(err)
	}
	contains(t, ends(t, 0, call(s, "", "sendmail", "-bp")), "  bob@example.test\n", "stuck@example.test\n", "-- 1 Kbytes in 1 Request.\n")
	if err := os.WriteFile(s.Dir+"/aliases", []byte("stuck: alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ends(t, 0, call(s, "", "sendmail", "-q"))
	if err := suite.Await(limit, "the message", func() bool {
		ends(t, 0, call(s, "", "runq")) // until queued has seen that the file has changed
		return len(s.Delivered("alice")) > 0
	}); err != nil {
		t.Fatal(err)
	}
	contains(t, inbox(t, s, "alice"), "\nSubject: later\n")
	if err := s.AwaitEmpty(limit); err != nil {
		t.Error(err)
	}
}

// A job that takes its time keeps nobody, and smtpd may be gone meanwhile, even when it ends.
func TestSmtpdIsAway(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	r, w := io.Pipe()
	c := call(s, "", "sendmail", "-f", "bob", "alice")
	c.Stdin = r
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "Subject: slow\n\nfirst line\n")
	if err := s.Terminate("smtpd"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "second line\n")
	w.Close()
	if err := s.Launch("smtpd"); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	contains(t, inbox(t, s, "alice"), "\n\nfirst line\nsecond line\n")

	if err := s.Terminate("smtpd"); err != nil {
		t.Fatal(err)
	}
	kept := call(s, "hello\n", "sendmail", "alice")
	kept.Env = append(kept.Env, "POSTAMT_DEAD_LETTER="+s.Dir+"/dead")
	contains(t, ends(t, 75, kept), "smtpd does not answer", "is kept in")
	b, err := os.ReadFile(s.Dir + "/dead")
	if err != nil || !strings.HasSuffix(string(b), "\n\nhello\n\n") {
		t.Errorf("%s %v", b, err)
	}
}

// C02, C04: ten thousand recipients, one message, and Bcc is not in it. The addresses of the header are beyond what smtpd looks at.
func TestC02_TenThousand(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Settings: "recipient_delimiter +\n"})
	var m strings.Builder
	m.WriteString("Subject: all\nTo: ")
	for i := range 10_000 {
		fmt.Fprintf(&m, "\"User, number %d\" <alice+%d>,\n ", i, i)
	}
	m.WriteString("bob\nBcc: bob+secret\nFrom: bob\nDate: now\nMessage-ID: <x@y>\n\nbody\n")
	ends(t, 0, call(s, m.String(), "sendmail", "-t"))
	text := inbox(t, s, "bob")
	if strings.Contains(text, "secret") || strings.Count(text, "\nFrom: ") != 1 || strings.Count(text, "\nMessage-ID: ") != 1 || strings.Count(text, "\nDate: ") != 1 {
		t.Errorf("%.300s ... %s", text, text[len(text)-300:])
	}
	contains(t, text, `"User, number 9999" <alice+9999@example.test>`)
	if err := s.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Delivered("alice")); n == 0 {
		t.Error("alice has nothing")
	}
}

// C04: 256 MB go through, in little memory.
func TestC04_Large(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Settings: "message_size_limit 0\n"})
	const size = 256 << 20
	c := call(s, "", "sendmail", "-i", "alice")
	c.Stdin = io.MultiReader(strings.NewReader("Subject: large\n\n"), io.LimitReader(lines{}, size))
	ends(t, 0, c)
	if rss := c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; rss > 32<<10 {
		t.Errorf("%d KB of memory", rss)
	}
	found, err := s.AwaitDelivered("alice", 1, limit)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(found[0]); err != nil || st.Size() < size || st.Size() > size+2000 {
		t.Errorf("%v, %v", st.Size(), err)
	}
}

// lines are lines of 64 octets without an end.
type lines struct{}

func (lines) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
		if i%64 == 63 {
			p[i] = '\n'
		}
	}
	return len(p) &^ 63, nil
}

// C04, C05: circumstances. Either the message arrives, or an exit code says that it did not.
func TestC05_Circumstances(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Settings: "message_size_limit 0\n"})
	bin, _ := programs()
	sh := tool(t, "sh")
	for name, c := range map[string]struct {
		script string
		code   int
	}{
		"nothing in the environment": {`echo hello | env -i POSTAMT_CONF="$POSTAMT_CONF" "$sendmail" alice`, 0},
		"a hostile environment":      {`echo hello | TZ=../../etc/shadow GODEBUG=x=y,netdns=9 LD_PRELOAD=/x IFS=x HOME=/none TMPDIR=/none "$sendmail" alice`, 0},
		"no directory":               {`mkdir "$dir/gone"; cd "$dir/gone"; rmdir "$dir/gone"; echo hello | "$sendmail" alice`, 0},
		"umask 0":                    {`umask 0; echo hello | "$sendmail" alice`, 0},
		"no standard output":         {`echo hello | "$sendmail" -v alice >&- 2>&-`, 0},
		"no standard input":          {`"$sendmail" alice <&-`, 0}, // the same as an empty one
		"a directory as input":       {`"$sendmail" alice </`, 74},
		"signals ignored":            {`trap "" PIPE XFSZ; echo hello | "$sendmail" alice`, 0},
		"no files":                   {`ulimit -f 0; echo hello | "$sendmail" alice`, 0},
		"no files, a long message":   {`ulimit -f 0; head -c 4000000 /dev/zero | tr '\0' '\n' | "$sendmail" alice`, 75},
		"no room":                    {`head -c 4000000 /dev/zero | TMPDIR=/none "$sendmail" alice`, 75},
		"few descriptors":            {`ulimit -n 4; exec "$sendmail" alice`, 71},
		"some descriptors":           {`ulimit -n 12; echo hello | "$sendmail" alice`, 0},
		"a full standard output":     {`"$mailq" >/dev/full`, 74},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Symlink(filepath.Join(bin, "sendmail"), s.Dir+"/mailq"); err != nil && !os.IsExist(err) {
				t.Fatal(err)
			}
			x := exec.Command(sh, "-c", c.script)
			x.Env = append(os.Environ(), "POSTAMT_CONF="+s.Conf, "sendmail="+filepath.Join(bin, "sendmail"), "mailq="+s.Dir+"/mailq", "dir="+s.Dir)
			out := ends(t, c.code, x)
			if strings.Contains(out, "goroutine") {
				t.Errorf("%s", out)
			}
			if c.code == 0 {
				inbox(t, s, "alice")
			}
			if n := len(s.Delivered("alice")); n > 0 {
				t.Errorf("%d messages too many", n)
			}
		})
	}
}

// Who does not read what is printed changes nothing: the code is the same, and so is what becomes of a message.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{})
	bin, _ := programs()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	quiet := func(code int, c *exec.Cmd) {
		t.Helper()
		c.Stdout, c.Stderr = w, w
		if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != code {
			t.Errorf("%q: %v, not %d", c.Args, err, code)
		}
	}
	refused := call(s, "Subject: x\n\nrefused\n", "sendmail", "alice", "stranger")
	refused.Env = append(refused.Env, "POSTAMT_DEAD_LETTER="+s.Dir+"/dead")
	quiet(67, refused)
	if b, err := os.ReadFile(s.Dir + "/dead"); err != nil || !strings.HasSuffix(string(b), "\n\nrefused\n\n") {
		t.Errorf("%s, %v", b, err)
	}
	quiet(0, call(s, "sent\n", "sendmail", "-v", "alice"))
	inbox(t, s, "alice")
	quiet(64, call(s, "", "sendmail", "-y"))
	quiet(67, call(s, "", "sendmail", "-bv", "stranger"))
	quiet(74, call(s, "QUIT\r\n", "sendmail", "-bs"))
	quiet(0, call(s, "", "mailq"))
	quiet(0, exec.Command(filepath.Join(bin, "aliasctl"), "-C", s.Conf, "list"))
	ends(t, 0, call(s, "for a list\n", "sendmail", "bob"))
	if _, err := s.AwaitDelivered("bob", 1, limit); err != nil {
		t.Fatal(err)
	}
	quiet(0, exec.Command(filepath.Join(bin, "mailboxctl"), "list", s.Maildir("bob")))

	// The same with a limit on files: a write fails, and is told of.
	limited := func(code int, program string, args ...string) {
		t.Helper()
		c := exec.Command("sh", append([]string{"-c", `ulimit -f 0; exec "$@"`, "sh", filepath.Join(bin, program)}, args...)...)
		c.Stdin = strings.NewReader("From x  Thu Nov 26 10:00:00 2026\nX: y\n\nz\n")
		contains(t, ends(t, code, c), "file too large\n")
	}
	limited(73, "aliasctl", "-f", s.Dir+"/aliases", "add", "new", "bob")
	limited(71, "mailboxctl", "import", s.Maildir("bob"))
}

// Many at once all get through: who finds no room waits.
func TestMany(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Settings: "smtpd_session_limit 20\n"})
	const n = 200
	var wg sync.WaitGroup
	gate := make(chan bool, 60)
	for i := range n {
		wg.Go(func() {
			gate <- true
			defer func() { <-gate }()
			c := call(s, fmt.Sprintf("Subject: %d\n\nbody\n", i), "sendmail", "alice")
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%d: %v %s", i, err, out)
			}
		})
	}
	wg.Wait()
	if _, err := s.AwaitDelivered("alice", n, limit); err != nil {
		t.Error(err)
	}
}

// An ordinary user sends, as himself, and may not read the queue.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		missing(t, "root is needed to be another user")
	}
	s := start(t, suite.Config{})
	bin, _ := programs()
	copied := s.Dir + "/sendmail"
	b, err := os.ReadFile(filepath.Join(bin, "sendmail"))
	err = errors.Join(err, os.WriteFile(copied, b, 0o755), os.Chmod(s.Dir, 0o755), os.Chmod(s.Conf, 0o644), os.Chmod(s.Dir+"/run", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	as := func(stdin, name string, args ...string) *exec.Cmd {
		c := call(s, stdin, name, args...)
		c.Path, c.Dir = copied, "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return c
	}
	ends(t, 0, as("hello\n", "sendmail", "alice"))
	contains(t, inbox(t, s, "alice"), "Return-Path: <nobody@example.test>\n", " (login nobody)\n", "\nFrom: nobody <nobody@example.test>\n")
	contains(t, ends(t, 77, as("", "mailq")), "may be read by root and ")
	if err := os.Chmod(s.Socket, 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, ends(t, 77, as("hello\n", "sendmail", "alice")), "permission denied")
}

// newaliases, runq and -bt become the programs beside them, with a fixed command line.
func TestBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(bin, "sendmail"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/sendmail", string(b))
	for _, name := range []string{"aliasctl", "queuectl"} {
		write(t, dir+"/"+name, "#!/bin/sh\nprintf '%s|' "+name+" \"$@\"\nexit 42\n")
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"newaliases"}, "aliasctl|build|"},
		{[]string{"sendmail", "-bi", "-C", "/x y", "ignored"}, "aliasctl|-C|/x y|build|"},
		{[]string{"sendmail", "-I", "-v"}, "aliasctl|build|"},
		{[]string{"runq"}, "queuectl|flush|"},
		{[]string{"sendmail", "-q"}, "queuectl|flush|"},
		{[]string{"sendmail", "-qR$(touch x)"}, "queuectl|flush|"},
		{[]string{"sendmail", "-bt", "--", "-n", "a b"}, "aliasctl|expand|-n|a b|"},
	} {
		x := &exec.Cmd{Path: dir + "/sendmail", Args: c.args, Dir: dir}
		if got := ends(t, 42, x); got != c.want {
			t.Errorf("%q: %q, not %q", c.args, got, c.want)
		}
	}
}

// What they become inherits no signal that is ignored: they would not end when nobody reads.
func TestBesideIsEndedBySignals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(bin, "sendmail"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/sendmail", string(b))
	write(t, dir+"/aliasctl", "#!/bin/sh\nulimit -c 0\nkill -s $SIGNAL $$\n")
	for name, want := range map[string]syscall.Signal{"PIPE": syscall.SIGPIPE, "XFSZ": syscall.SIGXFSZ} {
		x := &exec.Cmd{Path: dir + "/sendmail", Args: []string{"newaliases"}, Env: append(os.Environ(), "SIGNAL="+name)}
		if err := x.Run(); x.ProcessState == nil || x.ProcessState.Sys().(syscall.WaitStatus).Signal() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The examples of the page are run as they stand there.
func TestExamplesOfThePage(t *testing.T) {
	t.Parallel()
	s := start(t, suite.Config{Domain: "example.org"})
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "man/sendmail.1"))
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), ".Sh EXAMPLES\n")
	examples, _, _ = strings.Cut(examples, "\n.Sh ")
	write(t, s.Dir+"/report", "a report\n")
	bin, _ := programs()
	n := 0
	for block := range strings.SplitSeq(examples, "$ ") {
		block, _, _ = strings.Cut(block, ".Ed")
		command, want, _ := strings.Cut(block, "\n")
		if n++; n == 1 {
			continue // what is before the first
		}
		c := exec.Command("sh", "-c", strings.ReplaceAll(command, `\e`, `\`))
		c.Dir = s.Dir
		c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "POSTAMT_CONF="+s.Conf, "address=bob@example.org")
		if got := ends(t, 0, c); got != want {
			t.Errorf("%s: %q, not %q", command, got, want)
		}
	}
	if n != 4 {
		t.Errorf("%d examples", n-1)
	}
	contains(t, inbox(t, s, "alice"), "\nSubject: backup\n\ndone\n")
	contains(t, inbox(t, s, "bob"), "Return-Path: <reports@example.org>\n", "\n\na report\n")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}
