package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/test/suite"
)

// queuectl runs it, and fails on another exit code.
func queuectl(t *testing.T, s *suite.System, in string, code int, args ...string) string {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(bin, "queuectl"), append([]string{"-C", s.Conf}, args...)...)
	c.Stdin = strings.NewReader(in)
	out, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != code {
		t.Fatalf("queuectl %v: exit %d, want %d: %v\n%s", args, got, code, err, out)
	}
	return string(out)
}

// A paused destination gets nothing, also from a queued that was killed and started again, and what waited comes when it is resumed.
func TestPausedDestination(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	s := start(t, suite.Config{Routes: "sink.test [127.0.0.1]:" + k.port() + "\n"})
	hop := "[127.0.0.1]:" + k.port()
	c := dial(t, s.Socket)
	queuectl(t, s, "", 0, "pause", "sink.test", "they asked for it")
	for i := range 5 {
		c.send("<a@client.test>", []string{"<alice@example.test>"}, note(fmt.Sprint("here ", i)))
	}
	id := c.send("<alice@example.test>", []string{"<x@sink.test>"}, note("waits"))
	await(t, "the note", func() bool {
		return strings.Contains(queuectl(t, s, "", 0, "list"), "paused 4.3.2 sink.test they asked for it")
	})
	inbox(t, s, "alice", 5)
	s.Kill("queued")
	if err := s.Launch("queued"); err != nil {
		t.Fatal(err)
	}
	queuectl(t, s, "", 0, "retry", id)
	queuectl(t, s, "", 0, "flush")
	await(t, "the line after the restart", func() bool { return strings.Count(s.Log("queued"), "paused destination=sink.test") == 2 })
	if n := len(k.messages()); n != 0 {
		t.Fatalf("%d messages at a paused destination", n)
	}
	if list := queuectl(t, s, "", 0, "pause"); !strings.HasPrefix(list, "sink.test\t") {
		t.Errorf("pause: %q", list)
	}
	queuectl(t, s, "", 0, "pause", hop)
	queuectl(t, s, "", 0, "resume", "sink.test")
	await(t, "the next hop to be why", func() bool { return strings.Contains(queuectl(t, s, "", 0, "list"), "paused 4.3.2 "+hop) })
	queuectl(t, s, "", 0, "resume", hop)
	k.await(t, 1)
	empty(t, s)
}

// What is given up is returned once, whenever queued is killed, and the queue is empty then.
func TestGivenUp(t *testing.T) {
	s := start(t, suite.Config{Routes: "dead.test [127.0.0.1]:1\n"})
	const n = 40
	var ids []string
	sender := dial(t, s.Socket)
	for i := range n {
		ids = append(ids, sender.send("<alice@example.test>", []string{fmt.Sprintf("<x%d@dead.test>", i)}, note("to nobody")))
	}
	await(t, "all to be deferred", func() bool { return strings.Count(queuectl(t, s, "", 0, "list", "--reason", "4.4"), "\n") == n })
	queuectl(t, s, ids[0], 0, "hold", "-")
	wishes := make(chan error, 1)
	go func() {
		bin, _ := programs()
		c := exec.Command(filepath.Join(bin, "queuectl"), "-C", s.Conf, "bounce", "-m", "enough of this", "-")
		c.Stdin = strings.NewReader(strings.Join(ids, "\n"))
		wishes <- c.Run()
	}()
	for i := range 4 {
		await(t, "some reports", func() bool { return len(s.Delivered("alice")) > i*n/5 })
		s.Kill("queued")
		if err := s.Launch("queued"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-wishes; err != nil {
		t.Fatal(err)
	}
	empty(t, s)
	reports := inbox(t, s, "alice", n)
	for i := range n {
		told := 0
		for _, r := range reports {
			if strings.Contains(r, fmt.Sprintf("rfc822; x%d@dead.test", i)) && strings.Contains(r, "enough of this") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("x%d: told %d times", i, told)
		}
	}
	if left := queuectl(t, s, "", 0, "list"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// Q18: messages are held, released, retried and deleted while they are attempted. In the end nothing is left, not even half.
func TestQ18_OperatorsRaceAttempts(t *testing.T) {
	k := sinkAt(t, "127.0.0.1")
	s := start(t, suite.Config{Routes: "sink.test [127.0.0.1]:" + k.port() + "\ndead.test [127.0.0.1]:1\n"})
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	sender := dial(t, s.Socket)
	begun := time.Now()
	for i := 0; i < 20 || time.Since(begun) < 3*time.Second; i++ {
		to := []string{"<x@sink.test>", "<x@dead.test>"}[i%2]
		id := sender.send("<alice@example.test>", []string{to}, note("race"))
		for _, verb := range []string{"hold", "release", "retry", "requeue"} {
			c := exec.Command(filepath.Join(bin, "queuectl"), "-C", s.Conf, verb, id)
			out, err := c.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 69) {
				t.Errorf("%s: %v %s", verb, err, out)
			}
		}
		if i%4 == 3 {
			queuectl(t, s, "", 0, "list", "--sort", "attempts", "-r")
		}
		if i%2 == 1 {
			queuectl(t, s, id, 0, "delete", "-")
		}
	}
	queuectl(t, s, queuectl(t, s, "", 0, "list", "--state", "hold", "--ids"), 0, "release", "-")
	empty(t, s)
	q, err := queue.Open(s.Queue, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if problems, err := q.Check(); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
