package peers

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestDovecot sends a message by LMTP and reads it by IMAP and POP3, with clients that are neither ours nor Dovecot's.
func TestDovecot(t *testing.T) {
	s := Dovecot(t, Config{Protocols: []string{"lmtp", "imap", "pop3"}, TLS: true})
	swaks(t, s.Addr, "alice", "--protocol", "LMTP")
	if got := len(s.Delivered("alice")); got != 1 {
		t.Fatalf("%d messages in new/", got)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("SKIP_MISSING") == "1" {
			t.Skip("curl is not installed")
		}
		t.Fatal("curl is not installed; run test/deps.sh")
	}
	for _, url := range []string{"imap://" + s.IMAP + "/INBOX;MAILINDEX=1", "imaps://" + s.IMAPS + "/INBOX;MAILINDEX=1", "pop3://" + s.POP3 + "/1", "pop3s://" + s.POP3S + "/1"} {
		out, err := exec.Command(curl, "--silent", "--show-error", "--insecure", "--user", "alice:secret", url).CombinedOutput()
		if err != nil || !strings.Contains(string(out), ".second line begins with a dot") {
			t.Errorf("curl %s: %v\n%s", url, err, out)
		}
	}
	if out, err := exec.Command(curl, "--silent", "--user", "alice:wrong", "imap://"+s.IMAP).CombinedOutput(); err == nil {
		t.Errorf("curl with a wrong password:\n%s", out)
	}
}

// startLMTP starts a Dovecot that can be asked for a banner as the other peers can.
func startLMTP(c Config) (*Server, error) {
	c.Protocols = []string{"lmtp"}
	s, err := StartDovecot(c)
	if err != nil {
		return nil, err
	}
	return s.Server, nil
}
