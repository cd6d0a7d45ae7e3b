package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// TestLoad has Postfix's smtp-source send many messages at once: each is there exactly once for each of its recipients.
func TestLoad(t *testing.T) {
	const messages, sessions = 500, 10
	source, err := peers.Command("smtp-source", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(messages), "-l", "4096", "-r", "2",
		"-M", "client.test", "-f", "sender@client.test", "-t", "user@example.test")
	if errors.Is(err, peers.ErrMissing) {
		missing(t, err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	users := []string{"2user", "user"} // it counts down, and writes no number before the last one
	s := start(t, suite.Config{Users: users})
	source.Args = append(source.Args, s.Addr)
	output(t, source)
	for _, user := range users {
		if _, err := s.AwaitDelivered(user, messages, limit); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, s)
	// Each accepted message has its own id, which is in the 250 reply, the log and the Received field.
	accepted := map[string]int{}
	for line := range strings.Lines(s.Log("smtpd")) {
		if id, rest, _ := strings.Cut(strings.TrimPrefix(line, "smtpd: "), ": "); strings.HasPrefix(rest, "accepted ") {
			accepted[id]++
		}
	}
	if len(accepted) != messages {
		t.Errorf("%d messages were accepted, want %d", len(accepted), messages)
	}
	for _, user := range users {
		found := map[string]int{}
		for _, text := range inbox(t, s, user, messages) {
			_, id, _ := strings.Cut(text, "\tby mx.example.test with SMTP id ")
			id, _, _ = strings.Cut(id, ";")
			found[id]++
			if len(text) < 4096 {
				t.Errorf("%s has a message of %d bytes", user, len(text))
			}
			if to := "\nDelivered-To: " + user + "@example.test\n"; !strings.Contains(text, to) {
				t.Errorf("%s has a message without %q", user, to)
			}
		}
		for id := range accepted {
			if found[id] != 1 {
				t.Errorf("%s has message %s %d times", user, id, found[id])
			}
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
