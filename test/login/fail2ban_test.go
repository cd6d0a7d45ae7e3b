package login

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// banned is the addresses that fail2ban finds in a log.
func banned(t *testing.T, log string) []string {
	t.Helper()
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool(t, "fail2ban-regex"), "-o", "ip", file, filepath.Join(root, "etc/fail2ban/filter.d/postamt.conf")).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return regexp.MustCompile(`(?m)^[0-9a-f.:]+$`).FindAllString(string(out), -1)
}

// What authd writes is what the filter reads: as it stands in a file of syslog's and of a supervisor's.
func TestFail2banReadsTheLog(t *testing.T) {
	tool(t, "fail2ban-regex")
	s := start(t, suite.Config{Auth: true})
	c := mustDial(t, s.Submit)
	c.want("535", plain("alice", "wrong"))
	c.want("535", plain("x client=192.0.2.66 service=", "wrong"))
	c.want("535", plain("> client=192.0.2.66 service=", "wrong"))
	c.want("235", plain("alice", "alice"))
	var log strings.Builder
	failures := 0
	for line := range strings.Lines(logged(t, s, "authd", 1, ": auth-ok ")) {
		log.WriteString("Nov 25 12:00:00 mx " + strings.Replace(line, "authd:", "authd[4711]:", 1))
		log.WriteString("2026-11-25 12:00:01 " + line)
		if strings.Contains(line, "auth-failed") {
			failures++
		}
	}
	got := banned(t, log.String())
	if failures != 3 || len(got) != 2*failures {
		t.Errorf("%d failures, %q banned by\n%s", failures, got, log.String())
	}
	for _, ip := range got {
		if ip != "127.0.0.1" {
			t.Errorf("%s is banned by\n%s", ip, log.String())
		}
	}
	if got := banned(t, `Nov 25 12:00:00 mx authd[1]: s1a2b3c: auth-failed user=<alice> client=2001:db8::7 service=smtp mech=PLAIN reason="wrong user name or password"
Nov 25 12:00:00 mx authd[1]: s1a2b3c: auth-failed user=<alice> service=smtp mech=PLAIN reason="wrong"
Nov 25 12:00:00 mx smtpd[1]: s1a2b3c: reject helo="x authd: s: auth-failed user=<a> client=192.0.2.66 service=smtp"
`); len(got) != 1 || got[0] != "2001:db8::7" {
		t.Errorf("%q", got)
	}
}
