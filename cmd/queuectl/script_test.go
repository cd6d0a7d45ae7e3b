package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postamt/internal/queue"
	"postamt/internal/queue/queuetest"
)

// Each verb and each exit code of the page has a script. $WORK/queue is the queue; it is checked when a script ends.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Setup: setup, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"exits": exits, "put": putInto, "note": noteInto, "defer": deferInto, "full": fullInto,
	}})
}

func setup(e *testscript.Env) error {
	e.Setenv("POSTAMT_CONF", filepath.Join(e.WorkDir, "postamt.conf"))
	text := "hostname mx.example.org\nrun_dir " + e.WorkDir + "/run\nqueue_dir " + e.WorkDir + "/queue\nlocal_transport lmtp:unix:/run/lmtp\n"
	err := os.WriteFile(filepath.Join(e.WorkDir, "postamt.conf"), []byte(text), 0o600)
	for _, d := range []string{"run", "queue"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(e.WorkDir, d), 0o700))
	}
	if err != nil {
		return err
	}
	q, err := queue.Open(filepath.Join(e.WorkDir, "queue"), queue.Options{})
	if err != nil {
		return err
	}
	e.Values["queue"] = q
	e.Defer(func() { q.Close() })
	return nil
}

func queueOf(ts *testscript.TestScript) *queue.Queue { return ts.Value("queue").(*queue.Queue) }

// exits CODE COMMAND...: the code, exactly.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// put VARIABLE AGE SIZE FROM RCPT...: a message; the variable is its id.
func putInto(ts *testscript.TestScript, neg bool, args []string) {
	q := queueOf(ts)
	age, err := time.ParseDuration(args[1])
	ts.Check(err)
	var size int
	fmt.Sscan(args[2], &size)
	at := time.Now().Add(-age)
	e := queue.Envelope{ID: queue.NewID(at), Arrived: at, From: strings.Trim(args[3], "<>")}
	for _, r := range args[4:] {
		addr, state, _ := strings.Cut(r, "=")
		one := queue.Rcpt{Addr: addr}
		if state != "" {
			one.State = state[0]
		}
		e.Rcpts = append(e.Rcpts, one)
	}
	w, err := q.Create(&e)
	ts.Check(err)
	fmt.Fprintf(w, "Subject: %s\r\nX: y\r\n\r\nbody of %s\r\n%s\r\n", args[0], args[0], strings.Repeat("x", size))
	ts.Check(w.Commit())
	ts.Setenv(args[0], string(e.ID))
	ts.Setenv("S"+args[0], string(e.ID[19:]))
}

// note ID EVENT RCPT STATUS HOST TEXT
func noteInto(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(queueOf(ts).AppendLog(queue.ID(args[0]), queue.Note{Time: time.Now(), Event: args[1], Rcpt: args[2], Status: args[3], Host: args[4], Text: args[5]}))
}

// defer ID DURATION
func deferInto(ts *testscript.TestScript, neg bool, args []string) {
	m, err := queueOf(ts).Message(queue.ID(args[0]))
	ts.Check(err)
	defer m.Close()
	d, err := time.ParseDuration(args[1])
	ts.Check(err)
	ts.Check(m.Defer(time.Now().Add(d)))
}

// full MAILBOX SIZE: a message of that size did not fit.
func fullInto(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(queueOf(ts).NoteFull(args[0], size, time.Now()))
}

// The examples of the page are run as they stand there.
func TestExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../man/queuectl.8")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), ".Sh EXAMPLES")
	conf, q := site(t)
	dir := filepath.Dir(conf)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, dir+"/queuectl"); err != nil {
		t.Fatal(err)
	}
	spam, other := put(t, q, "spam@example.org", queue.Rcpt{Addr: "x@example.com"}), put(t, q, "a@b.example", queue.Rcpt{Addr: "y@example.net"})
	for _, id := range []queue.ID{spam, other} {
		if err := q.AppendLog(id, queue.Note{Time: time.Now(), Event: "deferred", Status: "4.4.3", Text: "no name server"}); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	ran := 0
	for line := range strings.Lines(examples) {
		command := strings.TrimPrefix(strings.TrimSpace(line), ".Dl ")
		if !strings.HasPrefix(command, "$ ") {
			continue
		}
		c := exec.Command("sh", "-c", strings.NewReplacer(`\(dq`, `"`, `\e`, `\`).Replace(command[2:]))
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "POSTAMT_CONF="+conf)
		b, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v %s", command, err, b)
		}
		out.Write(b)
		ran++
	}
	for _, want := range []string{"      2 deferred 4.4.3 no name server\n", string(spam) + ": hold\n", "Subject: x"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if _, err := q.Look(spam); !errors.Is(err, queue.ErrNotExist) || ran < 9 {
		t.Errorf("%d examples were run; the last one on spam: %v", ran, err)
	}
	l, err := q.Look(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, asked, _ := q.GivenUp(other); asked != (time.Since(l.Envelope.Arrived) > 4*24*time.Hour) {
		t.Errorf("of %v, given up: %v", l.Envelope.Arrived, asked)
	}
	queuetest.Check(t, q)
}
