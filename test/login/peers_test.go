package login

import (
	"os"
	"os/exec"
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
	logged(t, s, "authd", 2, "user=<alice> client=127.0.0.1 service=smtp mech=PLAIN")
	c = mustDial(t, p.Addr)
	s.Kill("authd")
	if r, err := c.say(plain("alice", "alice")); err == nil && strings.HasPrefix(r, "2") {
		t.Errorf("authd is gone: %q", r)
	}
}

// Exim has our authd judge its users, whose program is swaks: mail is taken after the right password only, and of authd's death it says
// "later" (435 is its word for it).
func TestEximAsksAuthd(t *testing.T) {
	s := start(t, suite.Config{Auth: true})
	openTo(t, s)
	authenticator := func(mechanism string) string {
		return mechanism + ":\n  driver = dovecot\n  public_name = " + mechanism + "\n  server_socket = " + s.Auth + "\n  server_set_id = $auth1\n  server_advertise_condition = true\n"
	}
	p := peers.Exim(t, peers.Config{Heavy: true, Domains: []string{"example.net"}, Extra: []string{"auth_advertise_hosts = *", "acl_smtp_mail = accept authenticated = *"},
		Section: []string{"begin authenticators", authenticator("PLAIN"), authenticator("LOGIN")}})
	send := func(mechanism, password string) (string, error) {
		out, err := exec.Command(tool(t, "swaks"), "--server", p.Addr, "--helo", "client.test", "--from", "alice@example.net", "--to", "bob@example.net",
			"--auth", mechanism, "--auth-user", "alice", "--auth-password", password).CombinedOutput()
		return string(out), err
	}
	delivered := 0
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		if out, err := send(mechanism, "wrong"); err == nil || !strings.Contains(out, "<** 535 ") {
			t.Errorf("%s with a wrong password: %v\n%s", mechanism, err, out)
		}
		if out, err := send(mechanism, "alice"); err != nil {
			t.Fatalf("%s: %v\n%s", mechanism, err, out)
		}
		delivered++
	}
	if err := suite.Await(limit, "two messages", func() bool { return len(p.Delivered("bob")) == delivered }); err != nil {
		t.Error(err)
	}
	logged(t, s, "authd", 4, "user=<alice> client=127.0.0.1 service=smtp mech=")
	s.Kill("authd")
	if out, err := send("PLAIN", "alice"); err == nil || !strings.Contains(out, "<** 435 ") {
		t.Errorf("authd is gone: %v\n%s", err, out)
	}
	if out, err := exec.Command(tool(t, "swaks"), "--server", p.Addr, "--helo", "client.test", "--from", "alice@example.net", "--to", "bob@example.net").CombinedOutput(); err == nil {
		t.Errorf("without a login:\n%s", out)
	}
	if err := s.Launch("authd"); err != nil {
		t.Fatal(err)
	}
	openTo(t, s)
	if out, err := send("LOGIN", "alice"); err != nil {
		t.Errorf("authd is back: %v\n%s", err, out)
	}
	delivered++
	if err := suite.Await(limit, "three messages", func() bool { return len(p.Delivered("bob")) == delivered }); err != nil {
		t.Error(err)
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
