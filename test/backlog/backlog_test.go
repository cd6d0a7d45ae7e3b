// Package backlog starts queued on a queue that is long already.
package backlog

import (
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/test/suite"
)

// fill puts n messages into the queue, by the package that every program of ours uses for it. Half of them are deferred, a
// quarter is due for bob, a quarter for a host that does not answer.
func fill(t *testing.T, dir string, n int) {
	t.Helper()
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	arrived := time.Now().Add(-2 * time.Hour)
	body := []byte("From: <old@example.test>\r\nSubject: old\r\n\r\n" + strings.Repeat("something\r\n", 20))
	put := func(i int) error {
		at := arrived.Add(time.Duration(i) * time.Millisecond)
		e := &queue.Envelope{ID: queue.NewID(at), Arrived: at, From: "old@example.test"}
		e.Origin = e.ID
		rcpt := "bob@example.test"
		if i%4 == 1 {
			rcpt = fmt.Sprintf("someone@d%d.dead.test", i%1000)
		}
		e.Rcpts = []queue.Rcpt{{State: queue.Pending, Addr: rcpt}}
		w, err := q.Create(e)
		if err == nil {
			_, err = w.Write(body)
		}
		if err == nil {
			err = w.Commit()
		}
		if err == nil && i%2 == 0 {
			id := string(e.ID)
			next := time.Now().Add(time.Hour + time.Duration(i)*time.Millisecond)
			err = os.Chtimes(filepath.Join(dir, "active", id[len(id)-1:], id), next, next)
		}
		return err
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := put(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// peak is the most memory that a process has had resident, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.ParseInt(strings.Fields(after + " -")[0], 10, 64)
	if err != nil {
		t.Fatalf("VmHWM: %v", err)
	}
	return kb << 10
}

// TestQ08_LongQueue: queued starts on 100,000 messages, half of them due. It delivers new mail at once, while it still reads
// the queue, and its memory does not grow with the queue beyond what queue_active_limit allows.
//
// BACKLOG=n makes it n messages, BACKLOG_DIR the queue in a directory there; figures are in docs/durability.md.
func TestQ08_LongQueue(t *testing.T) {
	n := 100_000
	if text := os.Getenv("BACKLOG"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	base := os.Getenv("BACKLOG_DIR")
	if base == "" {
		base = "/dev/shm" // so many syncs take long elsewhere
	}
	s, err := suite.New(suite.Config{Routes: "dead.test [127.0.0.1]:9\n.dead.test [127.0.0.1]:9\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	dir, err := os.MkdirTemp(base, "backlog-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Remove(s.Queue); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, s.Queue); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	fill(t, dir, n)
	t.Logf("%d messages written in %v", n, time.Since(begun).Round(time.Second))

	// A log without a message is removed when the whole queue has been read once: that tells when.
	orphan := filepath.Join(dir, "log", string(queue.NewID(time.Now())))
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() bool { _, err := os.Stat(orphan); return os.IsNotExist(err) }

	t.Cleanup(func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log := s.Log("queued")
			t.Logf("log of queued:\n%s", log[:min(len(log), 4<<10)])
		}
	})
	for _, name := range []string{"smtpd", "deliver"} {
		if err := s.Launch(name); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := s.Launch("queued"); err != nil {
		t.Fatal(err)
	}
	ready := time.Since(start)
	if err := smtp.SendMail(s.Addr, nil, "new@client.test", []string{"alice@example.test"}, []byte("Subject: new\r\n\r\nnew\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AwaitDelivered("alice", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	delivered, early := time.Since(start), !read()
	if err := suite.Await(5*time.Minute, "the queue to be read", read); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(start)
	rss := peak(t, s.Pid("queued"))
	t.Logf("%d messages: ready after %v, new mail delivered after %v (queue read: %v), queue read after %v, peak memory %d MB", n,
		ready.Round(time.Millisecond), delivered.Round(time.Millisecond), !early, whole.Round(10*time.Millisecond), rss>>20)
	if delivered > 5*time.Second {
		t.Errorf("new mail was delivered %v after the start", delivered)
	}
	if most := int64(100 << 20); rss > most {
		t.Errorf("queued has needed %d MB, more than %d MB", rss>>20, most>>20)
	}
}
