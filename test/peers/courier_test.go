package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCourier reads a message by IMAP and POP3, with a client that is neither ours nor Courier's, and leaves nothing running.
func TestCourier(t *testing.T) {
	s := Courier(t, Config{Users: []string{"alice"}})
	uid, gid, err := account(mailboxOwner)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"", "cur", "new", "tmp"} {
		if err := mkdir(filepath.Join(s.Maildir("alice"), d), 0o700, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(s.Maildir("alice"), "new", "1700000000.M1P1.host")
	if err := os.WriteFile(file, []byte("Subject: one\n\nfirst line\n.second line begins with a dot\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("SKIP_MISSING") == "1" {
			t.Skip("curl is not installed")
		}
		t.Fatal("curl is not installed; run test/deps.sh")
	}
	for _, url := range []string{"pop3://" + s.POP3 + "/1", "imap://" + s.IMAP + "/INBOX;MAILINDEX=1"} {
		out, err := exec.Command(curl, "--silent", "--show-error", "--user", "alice:secret", url).CombinedOutput()
		if err != nil || !strings.Contains(string(out), ".second line begins with a dot") {
			t.Errorf("curl %s: %v\n%s", url, err, out)
		}
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	for _, addr := range []string{s.IMAP, s.POP3} {
		if firstLine("tcp", addr, time.Now().Add(time.Second)) == nil {
			t.Errorf("%s still greets", addr)
		}
	}
}
