package tls

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// low are the findings of severity LOW that we know, and why they stay. Anything else of LOW fails the test, and anything
// above in any case.
var low = map[string]string{
	"LUCKY13": "CBC ciphers are last in our order, for servers and mail programs that have no GCM: without them the mail of these comes in clear, " +
		"and those cannot log in. crypto/tls checks their padding in constant time.",
	"cipherlist_AVERAGE": "the same CBC ciphers.",
	"TLS_session_ticket": "the hint of seven days is a constant of crypto/tls. What counts is the life of the keys: with keyd " +
		"a ticket is refused after 36 hours.",
}

// TestTestSSL lets testssl.sh rate every kind of listener. It runs for minutes, so only when TESTSSL is set: make testssl.
func TestTestSSL(t *testing.T) {
	if os.Getenv("TESTSSL") == "" {
		t.Skip("TESTSSL is not set")
	}
	need(t, "testssl")
	s := start(t, true, "smtpd_junk_limit 100000\nsmtpd_error_hard 100000\nsmtpd_error_soft 100000\nimapd_error_limit 0\n").readers()
	for _, x := range []struct {
		kind string
		arg  []string
	}{{"mx", []string{"-t", "smtp", s.Addr}}, {"submission", []string{"-t", "smtp", s.Submit}}, {"submissions", []string{s.submissions}},
		{"pop3", []string{"-t", "pop3", s.pop3}}, {"pop3s", []string{s.pop3s}},
		{"imap", []string{"-t", "imap", s.imap}}, {"imaps", []string{s.imaps}}} {
		t.Run(x.kind, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
			defer cancel()
			out := filepath.Join(s.dir, x.kind+".json")
			where := strings.Replace(x.arg[len(x.arg)-1], "127.0.0.1", "mx.example.test", 1)
			arg := append([]string{"--jsonfile", out, "--add-ca", s.ca.file, "--warnings", "off", "--color", "0", "--quiet", "--nodns", "none", "--ip", "127.0.0.1",
				// All that is rated: less are the list of single ciphers and the simulated clients, which take half of the time.
				"--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--vulnerable"},
				append(x.arg[:len(x.arg)-1:len(x.arg)-1], where)...)
			begin := time.Now()
			c := exec.CommandContext(ctx, "testssl", arg...)
			c.Dir = s.dir
			c.WaitDelay = 5 * time.Second
			text, err := c.CombinedOutput() // its exit status counts findings
			if ctx.Err() != nil {
				t.Fatalf("not ready after %v\n%s", time.Since(begin), text)
			}
			b, rerr := os.ReadFile(out)
			var found []struct{ ID, Severity, Finding, CVE string }
			if rerr == nil {
				rerr = json.Unmarshal(b, &found)
			}
			if rerr != nil || len(found) < 100 {
				t.Fatalf("%d findings, %v, %v\n%s", len(found), rerr, err, text)
			}
			for _, f := range found {
				switch f.Severity {
				case "OK", "INFO", "DEBUG":
				case "WARN":
					// What could not be tried is no finding about us; it is shown, so that nobody thinks it was tried.
					t.Logf("WARN: %s: %s", f.ID, f.Finding)
				case "LOW":
					if why := low[f.ID]; why != "" {
						t.Logf("LOW: %s: %s: %s", f.ID, f.Finding, why)
						break
					}
					fallthrough
				default:
					t.Errorf("%s %s: %s %s", f.Severity, f.ID, f.Finding, f.CVE)
				}
			}
			t.Logf("%d findings in %v", len(found), time.Since(begin).Round(time.Second))
		})
	}
}
