package auth

import (
	"strings"
	"testing"

	"postamt/internal/authwire"
	"postamt/test/peers"
)

// asked plays what Postfix and Exim have in common. temporary is their word for "the authentication server is out of order".
func asked(t *testing.T, addr string, a *authd, m *memory, temporary string) {
	ehlo := smtp(t, addr).say("EHLO client.test")
	if !strings.Contains(ehlo, "AUTH PLAIN LOGIN") && !strings.Contains(ehlo, "AUTH LOGIN PLAIN") {
		t.Fatalf("EHLO: %q", ehlo)
	}
	if strings.Contains(ehlo, "PLUS") {
		t.Errorf("EHLO offers what needs channel binding: %q", ehlo)
	}

	// Initial response, and none.
	smtp(t, addr).want("AUTH PLAIN "+plain("alice", "secret"), "235")
	s := smtp(t, addr)
	s.want("AUTH PLAIN", "334")
	s.want(plain("bob", "hidden"), "235")
	s = smtp(t, addr)
	s.want("AUTH LOGIN", "334 "+b64("Username:"))
	s.want(b64("alice"), "334 "+b64("Password:"))
	s.want(b64("secret"), "235")
	r := m.last()
	if r.Service != "smtp" || r.RemoteIP.String() != "127.0.0.1" || !r.NoLogin {
		t.Errorf("what arrived of the last request: %+v", r)
	}

	// A wrong password, and then the right one, on the same connection.
	s = smtp(t, addr)
	s.want("AUTH PLAIN "+plain("alice", "wrong"), "535")
	s.want("AUTH LOGIN", "334")
	s.want(b64("nobody"), "334")
	s.want(b64("secret"), "535")
	s.want("AUTH PLAIN "+plain("alice", "secret"), "235")

	// Nothing is known: "later", though FAIL is "never" to both of them.
	m.setDown(true)
	smtp(t, addr).want("AUTH PLAIN "+plain("alice", "secret"), temporary)
	m.setDown(false)
	smtp(t, addr).want("AUTH PLAIN "+plain("alice", "secret"), "235")

	// authd dies between one session and the next, and between question and answer.
	s = smtp(t, addr)
	between := smtp(t, addr)
	between.want("AUTH LOGIN", "334")
	a.die()
	s.want("AUTH PLAIN "+plain("alice", "secret"), temporary)
	if got := between.say(b64("alice")); !strings.HasPrefix(got, temporary) {
		t.Errorf("after the death of authd between challenge and response: %q", got)
	}
	a.start()
	s.want("AUTH PLAIN "+plain("alice", "secret"), "235")
}

// A submission server of Postfix asks us.
func TestPostfixAsks(t *testing.T) {
	m := &memory{passwords: map[string]string{"alice": "secret", "bob": "hidden"}}
	a := startAuthd(t, m)
	s := peers.Postfix(t, peers.Config{Accept: true, Extra: []string{
		"smtpd_sasl_auth_enable = yes",
		"smtpd_sasl_type = dovecot",
		"smtpd_sasl_path = " + a.path,
		"smtpd_sasl_security_options = noanonymous",
		"smtpd_error_sleep_time = 0",
		"smtpd_soft_error_limit = 100",
		"smtpd_hard_error_limit = 100",
	}})
	asked(t, s.Addr, a, m, "454")

	// It has a list of mechanisms of its own, and can refuse those that send the password.
	if r := m.last(); r.Security != authwire.Insecure {
		t.Errorf("a plain connection is %v", r.Security)
	}
}

// Exim's dovecot authenticator asks us.
func TestEximAsks(t *testing.T) {
	m := &memory{passwords: map[string]string{"alice": "secret", "bob": "hidden"}}
	a := startAuthd(t, m)
	authenticator := func(name, mechanism string) string {
		return name + ":\n  driver = dovecot\n  public_name = " + mechanism + "\n  server_socket = " + a.path + "\n  server_set_id = $auth1\n  server_advertise_condition = true\n"
	}
	s := peers.Exim(t, peers.Config{Heavy: true, Accept: true, Extra: []string{"auth_advertise_hosts = *"},
		Section: []string{"begin authenticators", authenticator("plain_dovecot", "PLAIN"), authenticator("login_dovecot", "LOGIN")}})
	asked(t, s.Addr, a, m, "435")
}
