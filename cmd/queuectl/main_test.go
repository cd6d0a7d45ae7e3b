package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postamt/internal/queue"
	"postamt/internal/queue/queuetest"
)

// The test binary is the program too.
func TestMain(m *testing.M) {
	if os.Getenv("QUEUECTL_IS_MAIN") != "" {
		os.Exit(run(os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"queuectl": func() { os.Exit(run(os.Args[1:])) }})
}

func queuectl(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "QUEUECTL_IS_MAIN=1", "GORACE=atexit_sleep_ms=0")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// site is a configuration and a queue in one directory.
func site(t *testing.T) (conf string, q *queue.Queue) {
	dir, err := os.MkdirTemp("", "qctl") // short: the path of a socket has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf = dir + "/postamt.conf"
	for _, d := range []string{"run", "queue"} {
		if err := os.Mkdir(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := "hostname mx.example.org\nrun_dir " + dir + "/run\nqueue_dir " + dir + "/queue\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf, queuetest.Open(t, dir+"/queue", queue.Options{})
}

func put(t *testing.T, q *queue.Queue, from string, rcpts ...queue.Rcpt) queue.ID {
	t.Helper()
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	e := queue.Envelope{ID: queue.NewID(now), Arrived: now, From: from, Rcpts: rcpts}
	w, err := q.Create(&e)
	if err == nil {
		w.Write([]byte("Subject: x\r\n\r\nhello\r\n"))
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func TestListPrintsALineForEachMessage(t *testing.T) {
	conf, q := site(t)
	id := put(t, q, "alice@example.org", queue.Rcpt{Addr: "bob@example.com"},
		queue.Rcpt{Addr: "done@example.com", State: queue.Done}, queue.Rcpt{Addr: "carol@example.net"})
	err := q.AppendLog(id, queue.Note{Time: time.Now(), Event: "deferred", Rcpt: "bob@example.com", Status: "4.4.1", Host: "mx.example.com",
		Text: "connection\trefused\n\x1b[2J\u202e"},
		// as queued goes on
		queue.Note{Time: time.Now(), Event: queue.EventWarned, Text: "after 4h0m0s"}, queue.Note{Time: time.Now(), Event: queue.EventAttempt, Text: "7 4h0m0s warned"})
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := queuectl(t, "-C", conf, "list")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	f := strings.Split(strings.TrimSuffix(out, "\n"), "\t")
	if len(f) != 8 {
		t.Fatalf("%d fields: %q", len(f), out)
	}
	f[3], f[4] = "NEXT", "SIZE"
	want := string(id) + " active 2026-11-25T10:00:00Z NEXT SIZE <alice@example.org> <bob@example.com>,<carol@example.net> " +
		"deferred 4.4.1 mx.example.com connection?refused??[2J?"
	if got := strings.Join(f, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestListShowsHeldMessagesAndTheNullSender(t *testing.T) {
	conf, q := site(t)
	id := put(t, q, "", queue.Rcpt{Addr: "bob@example.com"})
	from := q.Path() + "/active/" + string(id[len(id)-1:]) + "/" + string(id)
	if err := os.Rename(from, q.Path()+"/hold/"+string(id)); err != nil {
		t.Fatal(err)
	}
	_, out, _ := queuectl(t, "-C", conf, "list")
	if !strings.HasPrefix(out, string(id)+"\thold\t") || !strings.Contains(out, "\t<>\t<bob@example.com>\t-\n") {
		t.Errorf("%q", out)
	}
}

func TestListOfAnEmptyQueuePrintsNothing(t *testing.T) {
	conf, _ := site(t)
	if code, out, errs := queuectl(t, "-C", conf, "list"); code != 0 || out != "" || errs != "" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestFlushTellsQueued(t *testing.T) {
	conf, q := site(t)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: strings.TrimSuffix(q.Path(), "queue") + "run/queued", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	w := queue.NewWakeups(conn)
	defer w.Close()
	if code, _, errs := queuectl(t, "-C", conf, "flush"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if got, err := w.Receive(); err != nil || !got.Flush {
		t.Errorf("queued heard %+v, %v", got, err)
	}
}

func TestExitCodes(t *testing.T) {
	conf, q := site(t)
	bad := conf + ".bad"
	if err := os.WriteFile(bad, []byte("queue_dir\nnonsense 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{}, 64, "usage: "},
		{[]string{"list", "more"}, 64, "usage: "},
		{[]string{"-x", "list"}, 64, "usage: "},
		{[]string{"juggle"}, 64, "usage: "},
		{[]string{"-C", conf, "flush"}, 69, "tell queued to flush: "}, // nobody listens
		{[]string{"-C", bad, "list"}, 78, bad + ":2: "},
	} {
		if code, _, errs := queuectl(t, c.args...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%v: exit %d, %q; want %d, %q", c.args, code, errs, c.code, c.says)
		}
	}
	gone := conf + ".gone"
	if err := os.WriteFile(gone, []byte("hostname h.example\nqueue_dir "+q.Path()+"/nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := queuectl(t, "-C", gone, "list"); code != 71 || !strings.Contains(errs, "nowhere") {
		t.Errorf("no queue: exit %d, %q", code, errs)
	}
}
