package imap

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"postamt/test/site"
)

// RFC 8437: a client logs in as one user after the other over one connection, and is served the mailboxes of each and nobody else's. imaplib, which knows nothing of it, is told
// of the command only. Where each user has a process of his own there is no such command: that process would be told the password of the next one.
func TestUnauthenticate(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "imapd_user_limit 0").All()
		if !whole {
			for _, secure := range []bool{false, true} {
				c := s.Dial(secure)
				if line := c.Do("a LOGIN alice secret", "a OK [CAPABILITY "); strings.Contains(line, "UNAUTHENTICATE") {
					t.Error(line)
				}
				c.Do("b UNAUTHENTICATE", "b BAD ")
			}
			return
		}
		for _, user := range []string{"alice", "bob"} {
			w := &wire{Client: s.Dial(true)}
			w.do("LOGIN " + user + " secret")
			w.append("INBOX", "", user)
		}
		if _, err := exec.LookPath("python3"); err != nil {
			t.Skip("python3 is missing")
		}
		out, err := exec.Command("python3", "-c", `
import imaplib, ssl, sys
imaplib.Commands["UNAUTHENTICATE"] = ("AUTH", "SELECTED")
host, port = sys.argv[1].rsplit(":", 1)
tls = ssl.create_default_context(cafile=sys.argv[2])
tls.check_hostname = False
m = imaplib.IMAP4_SSL(host, int(port), ssl_context=tls)
for k in range(20):
    user = ("alice", "bob")[k % 2]
    if k % 3 == 0:
        m.login(user, "secret")
    else:
        m.authenticate("PLAIN", lambda _: b"\0" + user.encode() + b"\0secret")
    m.select("INBOX")
    t, d = m.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    assert d[0][1].strip() == b"Subject: " + user.encode(), d
    m._simple_command("UNAUTHENTICATE")
    m.state = "NONAUTH"
    try:
        m.login(user, "wrong") if k == 10 else None
    except imaplib.IMAP4.error as e:
        assert "AUTHENTICATIONFAILED" in str(e), e
m.logout()
`, s.TLS, s.Dir+"/etc/cert.pem").CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		s.Logged(": mailbox why=unauthenticate", "login=alice")
		s.Logged(": mailbox why=unauthenticate", "login=bob")

		// Without waiting, from many at once.
		const rounds = 5 // a login costs a hash
		var all sync.WaitGroup
		for k := range 20 {
			c := s.Dial(true)
			all.Go(func() {
				var b strings.Builder
				for n := range rounds {
					user := []string{"alice", "bob"}[(k+n)%2]
					fmt.Fprintf(&b, "a%d LOGIN %s {6+}\r\nsecret\r\nb%[1]d SELECT INBOX\r\nc%[1]d FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]\r\nd%[1]d UNAUTHENTICATE\r\n", n, user)
				}
				c.Say(b.String() + "z LOGOUT")
				for n := range rounds {
					user := []string{"alice", "bob"}[(k+n)%2]
					var got strings.Builder
					for !strings.HasPrefix(got.String(), fmt.Sprintf("d%d OK ", n)) {
						line, err := c.R.ReadString('\n')
						if err != nil || strings.Contains(line, " BAD ") || strings.Contains(line, " NO ") {
							t.Errorf("%d, %d: %q, %v", k, n, line, err)
							return
						}
						if subject, ok := strings.CutPrefix(line, "Subject: "); ok && strings.TrimSpace(subject) != user {
							t.Errorf("%s was sent %q", user, line)
						}
						got.Reset()
						got.WriteString(line)
					}
				}
				c.Want("* BYE ")
			})
		}
		all.Wait()
	})
}
