package usage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "usage")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// count is the verdict on one more message to so many.
func count(t *testing.T, s *Store, rcpts int, at time.Time, l Limits) string {
	t.Helper()
	over, err := s.Count("alice", rcpts, at, l)
	if err != nil {
		t.Fatal(err)
	}
	return over
}

func TestEachLimitIsNamedWhenItIsPassed(t *testing.T) {
	for _, c := range []struct {
		l    Limits
		want string
	}{
		{Limits{MessagesHour: 3}, "more than 3 messages an hour"},
		{Limits{MessagesDay: 3}, "more than 3 messages a day"},
		{Limits{RecipientsHour: 6}, "more than 6 recipients an hour"},
		{Limits{RecipientsDay: 7}, "more than 7 recipients a day"},
	} {
		s, _ := open(t)
		for i := range 3 {
			if over := count(t, s, 2, noon, c.l); over != "" {
				t.Errorf("%+v: message %d: %s", c.l, i, over)
			}
		}
		for range 2 { // and it stays so
			if over := count(t, s, 2, noon, c.l); over != c.want {
				t.Errorf("%+v: %q, want %q", c.l, over, c.want)
			}
		}
	}
}

// Ten at 12:00; at 13:15 three quarters of the hour before are still within sixty minutes.
func TestTheHourSlides(t *testing.T) {
	s, _ := open(t)
	for range 10 {
		count(t, s, 1, noon, Limits{})
	}
	at := noon.Add(75 * time.Minute)
	if over := count(t, s, 1, at, Limits{MessagesHour: 8}); over != "" { // 7.5 and this one
		t.Error("13:15, 8 allowed: ", over)
	}
	if over := count(t, s, 1, at, Limits{MessagesHour: 8}); over == "" {
		t.Error("13:15: the hour before is forgotten")
	}
	if over := count(t, s, 1, noon.Add(3*time.Hour), Limits{MessagesHour: 1}); over != "" {
		t.Error("15:00: ", over)
	}
	if over := count(t, s, 1, noon.Add(3*time.Hour), Limits{MessagesDay: 13}); over == "" {
		t.Error("15:00: the day is forgotten with the hour")
	}
	if over := count(t, s, 1, noon.Add(72*time.Hour), Limits{MessagesDay: 1}); over != "" {
		t.Error("three days later: ", over)
	}
}

func TestAClockThatGoesBackForgivesNothingAndKeepsNothingForever(t *testing.T) {
	s, _ := open(t)
	for range 3 {
		count(t, s, 1, noon, Limits{})
	}
	if over := count(t, s, 1, noon.Add(-10*time.Second), Limits{MessagesHour: 3}); over == "" {
		t.Error("ten seconds back, across the hour: forgiven")
	}
	s, _ = open(t)
	for range 5 {
		count(t, s, 1, noon.Add(300*24*time.Hour), Limits{}) // the clock was wrong by 300 days
	}
	for i := range 3 {
		at := noon.Add(time.Duration(i) * 72 * time.Hour)
		if over := count(t, s, 1, at, Limits{MessagesHour: 2, MessagesDay: 2}); over != "" {
			t.Errorf("%v: %s", at, over)
		}
	}
}

func TestADamagedFileBeginsAnew(t *testing.T) {
	s, dir := open(t)
	count(t, s, 1, noon, Limits{})
	whole, err := os.ReadFile(filepath.Join(dir, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "hour", string(whole[:30]), strings.Repeat("\x00", 104), strings.Repeat("9", 500),
		strings.Replace(string(whole), "00000001", "-0000009", 1), "day " + string(whole)} {
		if err := os.WriteFile(filepath.Join(dir, "alice"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if over := count(t, s, 1, noon, Limits{MessagesHour: 2}); over != "" {
			t.Errorf("%q: %s", text, over)
		}
		count(t, s, 1, noon, Limits{})
		if over := count(t, s, 1, noon, Limits{MessagesHour: 2}); over == "" {
			t.Errorf("%q: nothing is counted from there on", text)
		}
	}
}

// Two processes count two hundred each, and none is lost.
func TestTwoProcessesAtOnce(t *testing.T) {
	if dir := os.Getenv("USAGE_TEST_DIR"); dir != "" {
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			count(t, s, 2, noon, Limits{})
		}
		return
	}
	s, dir := open(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var children []*exec.Cmd
	for range 2 {
		c := exec.Command(self, "-test.run=^TestTwoProcessesAtOnce$")
		c.Env = append(os.Environ(), "USAGE_TEST_DIR="+dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if over := count(t, s, 0, noon, Limits{MessagesHour: 400}); over == "" {
		t.Error("fewer than 401 messages")
	}
	if over := count(t, s, 1, noon, Limits{RecipientsHour: 801}); over != "" {
		t.Error(over)
	}
}

func TestNamesThatAreNoLogins(t *testing.T) {
	s, dir := open(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\x00b"} {
		if _, err := s.Count(name, 1, noon, Limits{}); err == nil {
			t.Errorf("%q was counted", name)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "alice")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Count("alice", 1, noon, Limits{}); err == nil {
		t.Error("a symbolic link was followed")
	}
	if _, err := s.Count("alice@example.org", 1, noon, Limits{}); err != nil {
		t.Error(err)
	}
}

func TestForgetRemovesWhoHasBeenSilent(t *testing.T) {
	s, dir := open(t)
	for i := range 300 {
		name := fmt.Sprint("user", i)
		if _, err := s.Count(name, 1, noon, Limits{}); err != nil {
			t.Fatal(err)
		}
		at := noon.Add(time.Duration(i%2) * -49 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget(noon); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 150 {
		t.Errorf("%d left, want 150; %v", len(left), err)
	}
}

// Nothing is held open: a reload that makes another Store leaves nothing behind, and a directory may be replaced.
func TestNothingIsHeldOpen(t *testing.T) {
	s, dir := open(t)
	count(t, s, 1, noon, Limits{})
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	count(t, s, 1, noon, Limits{})
	if _, err := os.Stat(filepath.Join(dir, "alice")); err != nil {
		t.Error(err)
	}
}
