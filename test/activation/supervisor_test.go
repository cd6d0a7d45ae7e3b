package activation

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/suite"
)

// programs have a service each; with TLS, so that all seven are needed.
var programs = []string{"smtpd", "queued", "deliver", "authd", "keyd", "pop3d", "imapd"}

const withTLS = "tls_cert cert.pem\ntls_key key.pem\ntls_keys keyd\n"

func TestS6(t *testing.T) {
	tool(t, "s6-svscan", "s6")
	m := newMachine(t, "s6", withTLS)
	for _, name := range []string{"README", "to-s6-rc"} { // not services
		must(t, os.Remove(filepath.Join(m.dir, "service", name)))
	}
	m.start("s6-svscan", m.dir+"/service")
	for _, name := range programs {
		must(t, suite.Await(limit, "s6-supervise of "+name, func() bool { return exec.Command("s6-svok", m.dir+"/service/"+name).Run() == nil }))
	}
	m.run("s6-svwait", append([]string{"-U", "-t", "60000"}, programs...)...) // said on the notification-fd
	m.serves()
	m.becomes()
	for _, name := range programs {
		m.run("s6-svc", "-h", name)
		m.logged(name, ": reload ")
	}
	m.stops(func() { m.run("s6-svc", "-d", "smtpd") }, func() bool {
		return m.run("s6-svstat", "-o", "up,exitcode", "smtpd") == "false 0\n"
	})

	// What restarts do not mend is not restarted.
	m.write("etc/postamt.conf", "frob\n")
	m.run("s6-svc", "-t", "queued")
	must(t, suite.Await(limit, "s6-supervise to give queued up", func() bool {
		return m.run("s6-svstat", "-o", "up,wantedup,exitcode", "queued") == "false false 78\n"
	}))
}

// The source definitions for s6-rc compile.
func TestS6RC(t *testing.T) {
	compile := tool(t, "s6-rc-compile", "s6-rc, which Debian 12 has not")
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/source", 0o755))
	if out, err := exec.Command("../../etc/s6/to-s6-rc", dir+"/source").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(compile, dir+"/compiled", dir+"/source").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(tool(t, "s6-rc-db", "s6-rc"), "-c", dir+"/compiled", "contents", "postamt").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || len(got) != 6 {
		t.Errorf("%v: %q", err, got)
	}
}

func TestRunit(t *testing.T) {
	tool(t, "runsvdir", "runit")
	m := newMachine(t, "runit", withTLS)
	must(t, os.Remove(filepath.Join(m.dir, "service", "README")))
	m.start("runsvdir", "-P", m.dir+"/service")
	reach(t, m.addr)
	m.serves()
	m.becomes()
	m.logged("smtpd", ": start ")
	for _, name := range programs {
		m.run("sv", "hup", "./"+name)
		m.logged(name, ": reload ")
	}
	m.stops(func() { m.run("sv", "down", "./smtpd") }, func() bool {
		return strings.HasPrefix(m.run("sv", "status", "./smtpd"), "down: ")
	})
	m.write("etc/postamt.conf", "frob\n")
	m.run("sv", "term", "./queued")
	m.logged("queued", "/etc/postamt.conf:1: ")
	must(t, suite.Await(limit, "runsv to give queued up", func() bool {
		status := m.run("sv", "status", "./queued")
		return strings.HasPrefix(status, "down: ") && !strings.Contains(status, "want up")
	}))
}

// Listeners of systemd: one process for all connections.
func TestSystemdListeners(t *testing.T) {
	path := tool(t, "systemd-socket-activate", "systemd")
	s := lay(t, suite.Config{})
	log := supervise(t, s, exec.Command(path, "-l", s.Addr, "--fdname=mx", "-E", "POSTAMT_CONF", "-E", "PATH", "smtpd"))
	serves(t, s, s.Addr, 128)
	if !strings.Contains(log(), ": start ") || strings.Count(log(), ": start ") != 1 {
		t.Error(log())
	}
}
