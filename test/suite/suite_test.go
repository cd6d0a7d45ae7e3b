package suite

import (
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLayout(t *testing.T) {
	s, err := New(Config{Bin: t.TempDir(), Users: []string{"carol"}, Settings: "hostname other.example.test\nretry_min 1s", TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	b, err := os.ReadFile(s.Conf)
	if err != nil {
		t.Fatal(err)
	}
	conf := string(b)
	if strings.Count(conf, "hostname ") != 1 || !strings.Contains(conf, "hostname other.example.test\nretry_min 1s\n") {
		t.Errorf("settings did not replace ours:\n%s", conf)
	}
	if _, err := os.Stat(filepath.Dir(s.Maildir("carol"))); err != nil {
		t.Error(err)
	}
	if len(s.Socket) > 107 {
		t.Errorf("socket path too long: %s", s.Socket)
	}
	if err := s.Run(); err == nil {
		t.Error("programs that do not exist have started")
	}
	s.Remove()
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", s.Dir, err)
	}
}

// TestMessage sends with the standard library's client, a stranger to all of ours.
func TestMessage(t *testing.T) {
	s := Start(t, Config{})
	send := func(to, text string) {
		t.Helper()
		message := "Subject: " + text + "\r\n\r\n" + text + "\r\n"
		if err := smtp.SendMail(s.Addr, nil, "sender@client.test", []string{to}, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	body := func(user string, n int) string {
		t.Helper()
		found, err := s.AwaitDelivered(user, n, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, path := range found {
			b, err := Body(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		slices.Sort(all)
		return strings.Join(all, "")
	}

	send("alice@example.test", "first")
	if got := body("alice", 1); got != "first\n" {
		t.Errorf("stored %q", got)
	}

	// What is accepted while queued is down is delivered by the next one.
	s.Kill("queued")
	if s.Pid("queued") != 0 {
		t.Error("queued is still there")
	}
	send("alice@example.test", "second")
	if n := len(s.Queued()); n == 0 {
		t.Error("the queue is empty although nobody serves it")
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	if got := body("alice", 2); got != "first\nsecond\n" {
		t.Errorf("stored %q", got)
	}
	if err := s.AwaitEmpty(20 * time.Second); err != nil {
		t.Error(err)
	}
	if n := len(s.Delivered("bob")); n != 0 {
		t.Errorf("bob has %d messages", n)
	}
}
