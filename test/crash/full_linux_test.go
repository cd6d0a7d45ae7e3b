package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/suite"
)

// TestFull is P5 (F01, F02): first no mailbox can be written, then nor can the queue. What is accepted before waits, what is
// sent after is put off, nothing is returned to its sender, and when there is room again the work goes on by itself.
func TestFull(t *testing.T) {
	for _, c := range []struct {
		name, kind   string
		size         int64 // of the queue; the maildirs, where one message may be stored five times, have eight times as much
		queue, boxes []string
		inodes       bool
	}{
		{"tmpfs size", "tmpfs", 0, []string{"size=2m"}, []string{"size=16m"}, false},
		{"tmpfs inodes", "tmpfs", 0, []string{"size=64m", "nr_inodes=120"}, []string{"size=64m", "nr_inodes=1000"}, true},
		{"ext4 size", "ext4", 4 << 20, nil, nil, false},
		{"ext4 inodes", "ext4", 32 << 20, []string{"-N", "128"}, []string{"-N", "1024"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			needRoot(t)
			s, err := suite.New(suite.Config{Users: users, Aliases: aliases, Settings: quick})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Remove)
			newDisk(t, s.Queue, c.kind, c.size, c.queue...)
			boxes := newDisk(t, filepath.Join(s.Dir, "home"), c.kind, 8*c.size, c.boxes...)
			homes(t, s)
			t.Cleanup(func() {
				s.End()
				if t.Failed() {
					for _, name := range suite.Programs {
						log := s.Log(name)
						t.Logf("log of %s:\n%s", name, log[max(0, len(log)-4<<10):])
					}
				}
			})
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			pids := s.Pids()

			free := boxes.fill(t, c.inodes)
			l := &load{t: t, addr: s.Addr, from: "sender@example.test", seed: chance(t), targets: targets()[:5]}
			l.start(4)
			if err := suite.Await(patience, "100 refusals", func() bool { return l.count(refused) >= 100 }); err != nil {
				t.Error(err)
			}
			l.wait(true)
			for i := range l.sent {
				m := &l.sent[i]
				if m.fate == refused && !strings.HasPrefix(m.reply, "452 4.3.1 ") {
					t.Errorf("%s: refused with %q", m.id(), m.reply)
				}
				if m.fate == unknown || m.fate == unsent {
					t.Errorf("%s: the connection was lost", m.id())
				}
			}
			before := l.count(acknowledged)
			if before == 0 {
				t.Error("nothing was accepted")
			}
			if err := suite.Await(patience, "an attempt that was deferred", func() bool {
				return strings.Contains(s.Log("queued"), ": deferred ")
			}); err != nil {
				t.Error(err)
			}
			for _, user := range s.Users {
				if n := len(s.Delivered(user)); n > 0 {
					t.Errorf("%s has got %d messages, without room for them", user, n)
				}
			}

			free()
			start := time.Now()
			if err := s.AwaitEmpty(patience); err != nil {
				t.Fatal(err)
			}
			t.Logf("empty %v after there was room", time.Since(start).Round(time.Millisecond))
			l.most = int(l.next.Load()) + 20
			l.start(2)
			l.wait(false)
			if n := l.count(acknowledged); n != before+20 {
				t.Errorf("of 20 messages after that %d were accepted", n-before)
			}
			if err := s.AwaitEmpty(patience); err != nil {
				t.Fatal(err)
			}
			for i, pid := range s.Pids() {
				if pid != pids[i] {
					t.Errorf("%s is another process", suite.Programs[i])
				}
			}
			if err := s.End(); err != nil {
				t.Error(err)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			queueEmpty(t, s)
			tempFiles(t, s, time.Time{})
			l.verify(s)
		})
	}
}

// homes makes the users' homes on a file system that was mounted over those that were there.
func homes(t testing.TB, s *suite.System) {
	t.Helper()
	for _, user := range s.Users {
		if err := os.Mkdir(filepath.Dir(s.Maildir(user)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
