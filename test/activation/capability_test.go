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

// listens waits until somebody listens for POP3.
func (m *machine) listens() {
	m.t.Helper()
	must(m.t, suite.Await(limit, "a listener", func() bool {
		c, err := net.Dial("tcp", m.pop3)
		if err == nil {
			c.Close()
		}
		return err == nil
	}))
}

// Pop3d with no more capabilities than its unit gives, in a network of its own as there, reaches authd on sockets that belong to whom theirs say.
func TestCapabilitiesOfPop3d(t *testing.T) {
	activate, setpriv := tool(t, "systemd-socket-activate", "systemd"), tool(t, "setpriv", "util-linux")
	m := newMachine(t, "systemd", withTLS)
	pop3d := unit(t, "postamt-pop3d.service")
	bounds := "-all"
	for c := range strings.FieldsSeq(pop3d("CapabilityBoundingSet")) {
		bounds += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	network := ""
	if pop3d("PrivateNetwork") == "yes" {
		network = "unshare -n"
	}
	m.mailbox()
	must(t, os.Mkdir(filepath.Join(m.dir, "run/postamt"), 0o755))
	must(t, os.MkdirAll(filepath.Join(m.dir, "lib/postamt/auth"), 0o755))
	must(t, os.Chown(filepath.Join(m.dir, "lib/postamt/auth"), m.id("pa-auth"), m.id("pa-auth")))
	must(t, os.Chmod(filepath.Join(m.dir, "lib/postamt/auth"), 0o700))

	const script = `keyd &
"$0" -l /run/postamt/auth -l /run/postamt/auth-users --fdname=client:users -E PATH -E POSTAMT_CONF authd &
exec "$0" -l "$1" --fdname=pop3 -E PATH -E POSTAMT_CONF $2 "$3" --bounding-set="$4" pop3d`
	m.start("sh", "-c", script, activate, m.pop3, network, setpriv, bounds)
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
	m.listens()
	if text := m.fetch("--ssl-reqd"); !strings.Contains(text, "\r\nhello\r\n") {
		t.Errorf("by POP3 came %q", text)
	}
}

// As root a pop3d for one connection is several processes too: the mailbox is its owner's, and the log knows the client.
func TestPop3dOfOneConnection(t *testing.T) {
	for _, x := range []struct {
		name, pkg string
		args      []string
	}{
		{"systemd-socket-activate", "systemd", []string{"-a", "--inetd", "-E", "PATH", "-E", "POSTAMT_CONF", "-l", "HOST:PORT", "pop3d"}},
		{"tcpserver", "ucspi-tcp", []string{"-HR", "-l0", "HOST", "PORT", "pop3d"}},
		{"tcpsvd", "ipsvd", []string{"-l0", "HOST", "PORT", "pop3d"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			server := []string{tool(t, x.name, x.pkg)}
			m := newMachine(t, "systemd", "")
			m.mailbox()
			host, port, err := net.SplitHostPort(m.pop3)
			must(t, err)
			for _, a := range x.args {
				server = append(server, strings.NewReplacer("HOST", host, "PORT", port).Replace(a))
			}
			const script = `install -d /run/postamt; install -d -o pa-auth -g pa-auth -m 0700 /var/lib/postamt/auth; authd & exec "$0" "$@"`
			m.start(append([]string{"sh", "-c", script}, server...)...)
			must(t, suite.Await(limit, "authd", func() bool { _, err := os.Lstat(filepath.Join(m.dir, "run/postamt/auth-users")); return err == nil }))
			m.listens()
			if text := m.fetch(); !strings.Contains(text, "\r\nhello\r\n") {
				t.Errorf("by POP3 came %q", text)
			}
			st, err := os.Stat(filepath.Join(m.dir, "mail/alice/Maildir/postamt.index"))
			must(t, err)
			if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != m.id("vmail") {
				t.Errorf("served as %d", uid)
			}
			must(t, suite.Await(limit, "a line of the session", func() bool {
				b, _ := os.ReadFile(filepath.Join(m.dir, "supervisor"))
				return strings.Contains(string(b), ": maildrop why=quit client=127.0.0.1 ")
			}))
		})
	}
}
