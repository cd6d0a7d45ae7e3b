package e2e

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// TestDeliverUnderPostfix: Postfix hands its local mail to deliver, as deliver(8) shows: as a command for each recipient, and
// over the socket. What deliver says decides: stored, bounced, or kept for later.
func TestDeliverUnderPostfix(t *testing.T) {
	_, err := user.Lookup("nobody")
	if err != nil || os.Getuid() != 0 {
		t.Skip("Postfix delivers as nobody, which needs root and that account")
	}
	const message = "Subject: hello\r\n\r\nfirst\r\n.dot\r\n"
	// local(8) runs the command as the recipient, whose account must exist; who may have which mailbox is for users(5) to say.
	command := func(t *testing.T) (extra []string, maildir string) {
		// Of these accounts of Debian's, games has no home and daemon is unknown.
		dir := filterDir(t, "nobody", "games")
		home(t, dir, "nobody", "nobody")
		return []string{fmt.Sprintf(`mailbox_command = %s/deliver -C %s/postamt.conf -f "$SENDER" -a "$EXTENSION" "$USER"`, dir, dir)}, dir + "/nobody/Maildir"
	}
	socket := func(t *testing.T) (extra []string, maildir string) {
		s := start(t, suite.Config{Domain: "box.test", Users: []string{"nobody", "games"}})
		// Anybody may be the LMTP client here, because the directory is the test's.
		for _, path := range []string{s.Dir, filepath.Dir(s.LMTP)} {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(s.LMTP, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Dir(s.Maildir("games"))); err != nil {
			t.Fatal(err)
		}
		return []string{"mailbox_transport = lmtp:unix:" + s.LMTP}, s.Maildir("nobody")
	}
	for name, prepare := range map[string]func(*testing.T) ([]string, string){"command": command, "socket": socket} {
		t.Run(name, func(t *testing.T) {
			extra, maildir := prepare(t)
			p := peers.Postfix(t, peers.Config{Extra: append(extra, "mydestination = box.test", "mailbox_size_limit = 0", "recipient_delimiter = +", "minimal_backoff_time = 1h")})
			c := dial(t, p.Addr)
			for _, rcpt := range []string{"nobody@box.test", "nobody+lists@box.test", "games@box.test", "daemon@box.test"} {
				c.hand("<sender@far.test>", []string{"<" + rcpt + ">"}, []byte(message))
			}
			log := func() string {
				b, _ := os.ReadFile(p.Log)
				return string(b)
			}
			line := func(rcpt string) string {
				for l := range strings.Lines(log()) {
					if strings.Contains(l, "to=<"+rcpt+">") && strings.Contains(l, "status=") {
						return l
					}
				}
				return ""
			}
			for rcpt, want := range map[string][]string{
				"nobody@box.test":       {"status=sent"},
				"nobody+lists@box.test": {"status=sent"},
				"games@box.test":        {"status=deferred"},
				"daemon@box.test":       {"status=bounced", "dsn=5.1.1"},
			} {
				await(t, "a result for "+rcpt, func() bool { return line(rcpt) != "" })
				for _, w := range want {
					if l := line(rcpt); !strings.Contains(l, w) {
						t.Errorf("%q is not in %s", w, l)
					}
				}
			}
			stored, err := filepath.Glob(maildir + "/new/*")
			if err != nil || len(stored) != 2 {
				t.Fatalf("stored %q", stored)
			}
			all := strings.Join(texts(t, stored), "")
			for _, want := range []string{"Return-Path: <sender@far.test>\n", "Delivered-To: nobody@box.test\n", "Delivered-To: nobody+lists@box.test\n", "\nfirst\n.dot\n"} {
				if !strings.Contains(all, want) {
					t.Errorf("%q is not in\n%s", want, all)
				}
			}
		})
	}
}
