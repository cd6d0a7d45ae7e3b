package login

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// openTo lets servers that run as other users reach authd's socket, as a group would.
func openTo(t *testing.T, s *suite.System) {
	t.Helper()
	for path, mode := range map[string]os.FileMode{s.Dir: 0o711, filepath.Dir(s.Auth): 0o711, s.Auth: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// Postfix has our authd judge its users.
func TestPostfixAsksAuthd(t *testing.T) {
	s := start(t, suite.Config{Auth: true})
	openTo(t, s)
	p := peers.Postfix(t, peers.Config{Domains: []string{"example.net"}, Extra: []string{"smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot",
		"smtpd_sasl_path = " + s.Auth, "smtpd_sasl_security_options = noanonymous"}})
	c := mustDial(t, p.Addr)
	c.want("535", plain("alice", "wrong"))
	c.want("235", plain("alice", "alice"))
	c = mustDial(t, p.Addr)
	s.Kill("authd")
	if r, err := c.say(plain("alice", "alice")); err == nil && strings.HasPrefix(r, "2") {
		t.Errorf("authd is gone: %q", r)
	}
	if !strings.Contains(s.Log("authd"), "user=<alice> client=127.0.0.1 service=smtp mech=PLAIN") {
		t.Errorf("authd does not say who:\n%s", s.Log("authd"))
	}
}

// Dovecot judges our smtpd's users.
func TestSmtpdAsksDovecot(t *testing.T) {
	d := peers.Dovecot(t, peers.Config{Users: []string{"alice", "bob"}, Password: "dovesecret"})
	s := start(t, suite.Config{TLS: true, Settings: "auth_server " + d.Auth + "\n"})
	c := mustDial(t, s.Submit)
	c.want("235", plain("alice", "dovesecret"))
	c.want("250", "MAIL FROM:<alice@example.test>")
	c.want("250", "RSET")
	c.want("553", "MAIL FROM:<bob@example.test>")
	c = mustDial(t, s.Submit)
	c.want("535", plain("alice", "alice"))
	c.want("250", "NOOP")
}
