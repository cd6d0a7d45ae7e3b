package activation

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
	maildir := filepath.Join(m.dir, "mail/alice/Maildir")
	for _, d := range []string{"", "tmp", "cur", "new"} {
		must(t, os.MkdirAll(filepath.Join(maildir, d), 0o700))
		must(t, os.Chown(filepath.Join(maildir, d), m.id("vmail"), m.id("vmail")))
	}
	m.write("mail/alice/Maildir/new/1.a.h", "Subject: hello\n\nhello\n")
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
	must(t, suite.Await(limit, "a listener", func() bool {
		c, err := net.Dial("tcp", m.pop3)
		if err == nil {
			c.Close()
		}
		return err == nil
	}))
	if text := m.fetch("--ssl-reqd"); !strings.Contains(text, "\r\nhello\r\n") {
		t.Errorf("by POP3 came %q", text)
	}
}
