package activation

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// machine is a view of this machine in which postamt is installed: its accounts, programs, configuration and service directories as they are
// in etc/, run by root in namespaces of mounts and processes. What it writes lies below dir.
type machine struct {
	t    *testing.T
	dir  string
	addr string
	pop3 string
	imap string
}

var accounts = []string{"pa-queue", "pa-smtpd", "pa-auth", "pa-keyd", "pa-login", "pa-log", "vmail"}

const firstID = 61100

// newMachine is one with the service directories of etc/kind in service/, and more lines in its configuration.
func newMachine(t *testing.T, kind, more string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the service directories change to accounts: needs root")
	}
	unshare := tool(t, "unshare", "util-linux")
	if out, err := exec.Command(unshare, "-m", "-p", "-f", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("unshare cannot make namespaces here: %s", out)
	}
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t}
	if m.dir, err = os.MkdirTemp("", "pa-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(m.dir) })
	must(t, os.Chmod(m.dir, 0o755))
	for _, a := range []*string{&m.addr, &m.pop3, &m.imap} {
		*a, err = peers.FreeAddr()
		must(t, err)
	}
	for _, d := range []string{"etc", "run", "lib", "spool", "log", "mail/alice"} {
		must(t, os.MkdirAll(filepath.Join(m.dir, d), 0o755))
	}
	must(t, os.CopyFS(filepath.Join(m.dir, "bin"), os.DirFS(bin)))
	must(t, os.CopyFS(filepath.Join(m.dir, "service"), os.DirFS(filepath.Join(root, "etc", kind))))
	for name, more := range map[string]string{"passwd": "%s:x:%d:%[2]d::/nonexistent:/bin/sh\n", "group": "%s:x:%d:\n"} {
		b, err := os.ReadFile("/etc/" + name)
		must(t, err)
		for i, a := range accounts {
			l := fmt.Sprintf(more, a, firstID+i)
			if name == "group" && a == "pa-queue" {
				l = strings.Replace(l, ":\n", ":pa-smtpd\n", 1)
			}
			b = append(b, l...)
		}
		m.write("etc/"+name, string(b))
	}
	cert, key, err := peers.WriteCert(filepath.Join(m.dir, "etc"), "mx.example.test")
	must(t, err)
	must(t, os.Chmod(cert, 0o644))
	must(t, os.Chown(key, m.id("pa-keyd"), m.id("pa-keyd")))
	must(t, os.Chown(filepath.Join(m.dir, "mail/alice"), m.id("vmail"), m.id("vmail")))
	m.write("etc/users", "alice:{PLAIN}secret::::/var/mail/alice::\n")
	m.write("etc/aliases", "postmaster: alice\n")
	m.write("etc/postamt.conf", "hostname mx.example.test\norigin example.test\nlocal_domains example.test\nlog stderr\ndns_servers 127.0.0.1:9\n"+
		"smtpd_client_limit 0\nsmtpd_client_rate 0\nsmtpd_listen "+m.addr+"=mx unix:smtpd.sock=local\npop3d_listen "+m.pop3+"=pop3\nimapd_listen "+m.imap+"=imap\n"+more)
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) id(account string) int {
	for i, a := range accounts {
		if a == account {
			return firstID + i
		}
	}
	m.t.Fatal(account)
	return 0
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	must(m.t, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644))
}

// start runs a supervisor in the view; the end of the test ends every process in it.
func (m *machine) start(supervisor ...string) {
	m.t.Helper()
	const script = `set -e
mount --make-rprivate /
for f in passwd group; do mount --bind "$0/etc/$f" /etc/$f; done
mount --bind "$0/run" /run; mount --bind "$0/lib" /var/lib; mount --bind "$0/spool" /var/spool; mount --bind "$0/log" /var/log; mount --bind "$0/mail" /var/mail
umask 022
install -d -o pa-queue -g pa-queue -m 0750 /var/spool/postamt
install -d /var/lib/postamt
export PATH="$0/bin:$PATH" POSTAMT_CONF="$0/etc/postamt.conf"
exec "$@"`
	c := exec.Command("unshare", append([]string{"-m", "-p", "-f", "--kill-child=KILL", "--mount-proc", "sh", "-c", script, m.dir}, supervisor...)...)
	f, err := os.Create(filepath.Join(m.dir, "supervisor"))
	must(m.t, err)
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(m.t, c.Start())
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.logs()
		}
		c.Process.Kill()
		c.Wait()
	})
}

// logs shows what supervisor and services have written.
func (m *machine) logs() {
	b, _ := os.ReadFile(filepath.Join(m.dir, "supervisor"))
	m.t.Logf("supervisor:\n%s", b)
	filepath.WalkDir(filepath.Join(m.dir, "log"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			m.t.Logf("%s:\n%s", path, b[max(0, len(b)-4<<10):])
		}
		return nil
	})
}

// logged waits for a line with these words in the logger's file of a program.
func (m *machine) logged(program, words string) {
	m.t.Helper()
	must(m.t, suite.Await(limit, program+" to log "+words, func() bool {
		b, _ := os.ReadFile(filepath.Join(m.dir, "log/postamt", program, "current"))
		return strings.Contains(string(b), words)
	}))
}

// run runs a command of the supervisor, outside of the view: they meet in the service directories.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	c := exec.Command(name, args...)
	c.Dir = filepath.Join(m.dir, "service")
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serves: a message comes by TLS, whose key another program holds, is delivered as the owner of the mailbox, and fetched from there; and there
// may be many.
func (m *machine) serves() {
	m.t.Helper()
	swaks(m.t, m.addr, "alice@example.test", "-tls")
	var found []string
	must(m.t, suite.Await(limit, "a message for alice", func() bool {
		found, _ = filepath.Glob(filepath.Join(m.dir, "mail/alice/Maildir/new/*"))
		return len(found) == 1
	}))
	st, err := os.Stat(found[0])
	must(m.t, err)
	if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != m.id("vmail") {
		m.t.Errorf("delivered as %d", uid)
	}
	if text := m.fetch("--ssl-reqd"); !strings.Contains(text, "\r\nhello\r\n") {
		m.t.Errorf("by POP3 came %q", text)
	}
	m.logIn("--ssl-reqd")
	crowd(m.t, m.addr, 128)
}

// fetch is the first message of alice.
func (m *machine) fetch(more ...string) string {
	m.t.Helper()
	return fetch(m.t, m.pop3, "alice", "secret", more...)
}

// logIn is alice, by IMAP.
func (m *machine) logIn(more ...string) {
	m.t.Helper()
	logIn(m.t, m.imap, "alice", "secret", more...)
}

// becomes: every process of a program is of its own account by now; deliver, pop3d and imapd are a monitor, which stays root, and a front.
func (m *machine) becomes() {
	m.t.Helper()
	want := map[string]string{"smtpd": "[pa-smtpd]", "queued": "[pa-queue]", "authd": "[pa-auth]", "keyd": "[pa-keyd]", "deliver": "[pa-login root]", "pop3d": "[pa-login root]", "imapd": "[pa-login root]"}
	found := map[string][]string{}
	status, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range status {
		exe, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || filepath.Dir(exe) != filepath.Join(m.dir, "bin") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, uid, _ := strings.Cut(string(b), "\nUid:\t")
		who := "root"
		for _, a := range accounts {
			if strings.HasPrefix(uid, strconv.Itoa(m.id(a))+"\t") {
				who = a
			}
		}
		if name := filepath.Base(exe); who != "vmail" { // a worker
			found[name] = append(found[name], who)
		}
	}
	for name, w := range want {
		slices.Sort(found[name])
		if got := fmt.Sprint(found[name]); got != w {
			m.t.Errorf("%s runs as %s", name, got)
		}
	}
}

// stops: at the supervisor's TERM a transaction goes on to its end, and a program that has ended in order is not started again.
func (m *machine) stops(down func(), ended func() bool) {
	m.t.Helper()
	c, err := dial(m.addr)
	must(m.t, err)
	defer c.Close()
	fmt.Fprint(c, "HELO c.test\r\nMAIL FROM:<bob@example.test>\r\nRCPT TO:<alice@example.test>\r\n")
	for range 3 {
		must(m.t, c.expect("250 "))
	}
	down()
	must(m.t, suite.Await(limit, "smtpd to listen no more", func() bool {
		x, err := dial(m.addr)
		if err == nil {
			x.Close()
		}
		return err != nil
	}))
	fmt.Fprint(c, "DATA\r\n")
	must(m.t, c.expect("354 "))
	fmt.Fprint(c, "\r\nend\r\n.\r\n")
	must(m.t, c.expect("250 "))
	must(m.t, c.expect("421 "))
	m.logged("smtpd", "stop why=signal left=0")
	must(m.t, suite.Await(limit, "the supervisor to see the end", ended))
}
