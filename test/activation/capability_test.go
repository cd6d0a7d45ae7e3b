package activation

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// unit returns what a unit of etc/systemd says of keys.
func unit(t *testing.T, name string) func(key string) string {
	t.Helper()
	root, err := peers.ModuleRoot()
	must(t, err)
	b, err := os.ReadFile(filepath.Join(root, "etc/systemd", name))
	must(t, err)
	return func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(string(b))
		if m == nil {
			return ""
		}
		return m[1]
	}
}

// mailbox: alice has a message.
func (m *machine) mailbox() {
	m.t.Helper()
	maildir := filepath.Join(m.dir, "mail/alice/Maildir")
	for _, d := range []string{"", "tmp", "cur", "new"} {
		must(m.t, os.MkdirAll(filepath.Join(maildir, d), 0o700))
		must(m.t, os.Chown(filepath.Join(maildir, d), m.id("vmail"), m.id("vmail")))
	}
	m.write("mail/alice/Maildir/new/1.a.h", "Subject: hello\n\nhello\n")
}

// reader is a program by which users reach their mail.
type reader struct {
	program, kind string
	addr          func(*machine) string
	reads         func(m *machine, more ...string) // alice reads her message, with more options for curl
	session       string                           // its line in the log begins so
}

var readers = []reader{
	{"pop3d", "pop3", func(m *machine) string { return m.pop3 }, func(m *machine, more ...string) {
		m.t.Helper()
		if text := m.fetch(more...); !strings.Contains(text, "\r\nhello\r\n") {
			m.t.Errorf("by POP3 came %q", text)
		}
	}, ": maildrop why=quit client=127.0.0.1 "},
	{"imapd", "imap", func(m *machine) string { return m.imap }, func(m *machine, more ...string) {
		m.t.Helper()
		if text := curl(m.t, "imap://"+m.imap+"/INBOX;MAILINDEX=1", "alice", "secret", more...); !strings.Contains(text, "\r\nhello\r\n") {
			m.t.Errorf("by IMAP came %q", text)
		}
	}, ": mailbox why=logout client=127.0.0.1 "},
}

// listens waits until somebody listens there.
func (m *machine) listens(addr string) {
	m.t.Helper()
	must(m.t, suite.Await(limit, "a listener", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}))
}

// Pop3d and imapd with no more capabilities than their units give, in a network of their own as there, reach authd on sockets that belong to whom theirs say.
func TestCapabilitiesOfReaders(t *testing.T) {
	for _, r := range readers {
		t.Run(r.program, func(t *testing.T) { testCapabilities(t, r) })
	}
}

func testCapabilities(t *testing.T, r reader) {
	activate, setpriv := tool(t, "systemd-socket-activate", "systemd"), tool(t, "setpriv", "util-linux")
	m := newMachine(t, "systemd", withTLS)
	says := unit(t, "postamt-"+r.program+".service")
	bounds := "-all"
	for c := range strings.FieldsSeq(says("CapabilityBoundingSet")) {
		bounds += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	network := ""
	if says("PrivateNetwork") == "yes" {
		network = "unshare -n"
	}
	m.mailbox()
	must(t, os.Mkdir(filepath.Join(m.dir, "run/postamt"), 0o755))
	must(t, os.MkdirAll(filepath.Join(m.dir, "lib/postamt/auth"), 0o755))
	must(t, os.Chown(filepath.Join(m.dir, "lib/postamt/auth"), m.id("pa-auth"), m.id("pa-auth")))
	must(t, os.Chmod(filepath.Join(m.dir, "lib/postamt/auth"), 0o700))

	const script = `keyd &
"$0" -l /run/postamt/auth -l /run/postamt/auth-users --fdname=client:users -E PATH -E POSTAMT_CONF authd &
exec "$0" -l "$1" --fdname="$5" -E PATH -E POSTAMT_CONF $2 "$3" --bounding-set="$4" "$6"`
	m.start("sh", "-c", script, activate, r.addr(m), network, setpriv, bounds, r.kind, r.program)
	for socket, name := range map[string]string{"auth": "postamt-auth.socket", "auth-users": "postamt-auth-users.socket"} {
		path, u := filepath.Join(m.dir, "run/postamt", socket), unit(t, name)
		must(t, suite.Await(limit, "the socket "+socket, func() bool { _, err := os.Lstat(path); return err == nil }))
		mode, err := strconv.ParseUint(u("SocketMode"), 8, 32)
		must(t, err)
		must(t, os.Chmod(path, os.FileMode(mode)))
		owner := [2]int{}
		for i, key := range []string{"SocketUser", "SocketGroup"} {
			if a := u(key); a != "" {
				owner[i] = m.id(a)
			}
		}
		must(t, os.Chown(path, owner[0], owner[1]))
	}
	must(t, suite.Await(limit, "keyd", func() bool { _, err := os.Lstat(filepath.Join(m.dir, "run/postamt/keyd")); return err == nil }))
	m.listens(r.addr(m))
	r.reads(m, "--ssl-reqd")
}

// As root a program for one connection is several processes too: the mailbox is its owner's, and the log knows the client.
func TestReadersOfOneConnection(t *testing.T) {
	for _, r := range readers {
		t.Run(r.program, func(t *testing.T) { testOneConnection(t, r) })
	}
}

func testOneConnection(t *testing.T, r reader) {
	for _, x := range []struct {
		name, pkg string
		args      []string
	}{
		{"systemd-socket-activate", "systemd", []string{"-a", "--inetd", "-E", "PATH", "-E", "POSTAMT_CONF", "-l", "HOST:PORT", r.program}},
		{"tcpserver", "ucspi-tcp", []string{"-HR", "-l0", "HOST", "PORT", r.program}},
		{"tcpsvd", "ipsvd", []string{"-l0", "HOST", "PORT", r.program}},
	} {
		t.Run(x.name, func(t *testing.T) {
			server := []string{tool(t, x.name, x.pkg)}
			m := newMachine(t, "systemd", "")
			m.mailbox()
			host, port, err := net.SplitHostPort(r.addr(m))
			must(t, err)
			for _, a := range x.args {
				server = append(server, strings.NewReplacer("HOST", host, "PORT", port).Replace(a))
			}
			const script = `install -d /run/postamt; install -d -o pa-auth -g pa-auth -m 0700 /var/lib/postamt/auth; authd & exec "$0" "$@"`
			m.start(append([]string{"sh", "-c", script}, server...)...)
			must(t, suite.Await(limit, "authd", func() bool { _, err := os.Lstat(filepath.Join(m.dir, "run/postamt/auth-users")); return err == nil }))
			m.listens(r.addr(m))
			r.reads(m)
			st, err := os.Stat(filepath.Join(m.dir, "mail/alice/Maildir/postamt.index"))
			must(t, err)
			if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != m.id("vmail") {
				t.Errorf("served as %d", uid)
			}
			must(t, suite.Await(limit, "a line of the session", func() bool {
				b, _ := os.ReadFile(filepath.Join(m.dir, "supervisor"))
				return strings.Contains(string(b), r.session)
			}))
		})
	}
}
