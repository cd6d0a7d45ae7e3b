package queue

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/durable"
)

// P4: a program that dies at any step of accepting, marking and removing. What
// was acknowledged is there once and whole, nothing else is, and nobody has to
// clean up.
func TestF08_KilledAtEachStep(t *testing.T) {
	const env = "QUEUE_TEST_KILL"
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		killed(t, n)
		return
	}
	ended := false
	for n := 1; !ended; n++ {
		if n > 200 {
			t.Fatal("it does not end")
		}
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestF08_KilledAtEachStep$", "-test.count=1")
		cmd.Env = append(os.Environ(), env+"="+strconv.Itoa(n), "QUEUE_TEST_DIR="+dir)
		out, err := cmd.Output()
		var exit *exec.ExitError
		switch {
		case err == nil:
			ended = true
		case !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL:
			t.Fatalf("step %d: %v: %s", n, err, out)
		}

		q := openTest(t, dir, Options{Foreign: func(path, what string) { t.Errorf("step %d: %s: %s", n, path, what) }})
		for id, e := range scan(t, q) {
			if e.Writing {
				if _, err := q.Recover(id); err != nil {
					t.Errorf("step %d: %v", n, err)
				}
			}
		}
		if err := q.Lock(); err != nil {
			t.Fatal(err)
		}
		left := scan(t, q)                // and it removes logs that were left
		states := make(map[string]string) // by id, what the process was told to be sure of
		lines := bufio.NewScanner(bytes.NewReader(out))
		for lines.Scan() {
			if what, id, ok := strings.Cut(lines.Text(), " "); ok && (what == "accepted" || what == "marked" || what == "holding" || what == "removing") {
				states[id] = what
			}
		}
		for id, what := range states {
			if what == "holding" {
				if err := q.Release(ID(id)); err != nil && !errors.Is(err, ErrNotExist) {
					t.Errorf("step %d: %v", n, err)
				}
			}
			m, err := q.Message(ID(id))
			if err != nil {
				if what != "removing" || !errors.Is(err, ErrNotExist) {
					t.Errorf("step %d: %s, and then: %v", n, what, err)
				}
				continue
			}
			if what == "marked" && m.Envelope.Rcpts[0].State != Done {
				t.Errorf("step %d: the mark is lost", n)
			}
			if text(t, m) != strings.Repeat(id, int(m.Size)/idLen) || m.Size < 100*idLen {
				t.Errorf("step %d: changed", n)
			}
			m.Close()
			delete(left, ID(id))
		}
		if len(left) > 1 {
			t.Errorf("step %d: %d messages that nobody was told of", n, len(left))
		}
		for id := range left { // one that was whole, and whose 250 was about to be said
			if m, err := q.Message(id); err != nil {
				t.Errorf("step %d: %v", n, err)
			} else {
				m.Close()
			}
		}
		if ended && n < 20 {
			t.Errorf("only %d steps", n)
		}
	}
}

// killed works on some messages and dies at the n-th step, saying what it did.
func killed(t *testing.T, n int) {
	syscall.Umask(0o007)
	q, err := Open(os.Getenv("QUEUE_TEST_DIR"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	q.strict = true
	die := func() {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	errHalf := errors.New("half")
	q.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if n--; n == 0 {
			if op == durable.OpWrite {
				return errHalf // which is half written, and dies before anything else
			}
			die()
		}
		if n == -1 {
			die()
		}
		return nil
	}}
	must := func(err error) {
		if errors.Is(err, errHalf) {
			die()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		e := envelope("a@example.com", "b@example.com")
		must(tryPut(q, e, strings.Repeat(string(e.ID), 100+i*10_000)))
		fmt.Println("accepted", e.ID)
		m, err := q.Message(e.ID)
		must(err)
		must(q.AppendLog(e.ID, Note{Time: time.Now(), Event: "deferred"}))
		must(m.Mark(map[int]byte{0: Done}, true))
		fmt.Println("marked", e.ID)
		if i == 0 {
			fmt.Println("holding", e.ID)
			must(q.Hold(e.ID))
			must(q.Release(e.ID))
			fmt.Println("marked", e.ID)
		}
		fmt.Println("removing", e.ID)
		must(m.Remove(nil))
		must(q.SyncRemovals())
		m.Close()
	}
	e := envelope()
	must(tryPut(q, e, strings.Repeat(string(e.ID), 100)))
	fmt.Println("accepted", e.ID)
}
