package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/suite"
)

// TestPowerCut is P1 and P2 (F06, F21): the file systems stop in the middle of the work, and what their journals had not
// written is gone. Queue and maildirs are on two, so that no journal that both share keeps an order that we do not.
func TestPowerCut(t *testing.T) {
	needRoot(t)
	const rounds = 3
	for _, c := range []struct {
		kind string
		size int64
	}{
		{"ext4", 128 << 20},
		{"xfs", 320 << 20}, // mkfs.xfs makes no smaller one
	} {
		t.Run(c.kind, func(t *testing.T) {
			for round := range rounds {
				t.Run(fmt.Sprint(round), func(t *testing.T) { powerCut(t, c.kind, c.size) })
			}
		})
	}
}

// stopAll stops the programs, but for calls to a disk that are under way.
func stopAll(t *testing.T, s *suite.System) {
	t.Helper()
	for _, name := range suite.Programs {
		if err := s.Signal(name, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	stopped := func() bool {
		for _, pid := range s.Pids() {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
			for _, path := range threads {
				text, _ := os.ReadFile(path)
				_, state, _ := strings.Cut(string(text), ") ")
				if state != "" && !strings.ContainsRune("TD", rune(state[0])) {
					return false
				}
			}
		}
		return true
	}
	if err := suite.Await(patience, "the programs to stop", stopped); err != nil {
		t.Fatal(err)
	}
}

func powerCut(t *testing.T, kind string, size int64) {
	seed := chance(t)
	r := rand.New(rand.NewPCG(seed, 1<<63))
	remote := sink(t)
	s, err := suite.New(suite.Config{Users: users, Aliases: aliases, Settings: quick,
		Routes: fmt.Sprintf("remote.test [127.0.0.1]:%d\n", remote.Addr.Port())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	disks := []*disk{
		newDisk(t, s.Queue, kind, size),
		newDisk(t, filepath.Join(s.Dir, "home"), kind, size),
	}
	t.Cleanup(func() {
		for _, name := range suite.Programs {
			s.Kill(name)
		}
		if t.Failed() {
			for _, name := range suite.Programs {
				log := s.Log(name)
				t.Logf("log of %s:\n%s", name, log[max(0, len(log)-4<<10):])
			}
		}
	})
	homes(t, s)
	unix.Sync() // the homes are older than the power cut
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, addr: s.Addr, from: "sender@example.test", seed: seed, targets: targets()}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() { reader(s, "bob", stop) })
	l.start(8)
	time.Sleep(time.Duration(500+r.IntN(1500)) * time.Millisecond)

	if n := l.count(refused); n > 0 {
		t.Errorf("%d messages were refused before the cut", n)
	}
	// Power goes for all at the same time: nobody may act on what one disk says while the other still works. XFS needs that,
	// whose fsync can return success when the shutdown comes while it runs: of 20 shutdowns under load, 5 left a file out
	// whose sync, and whose directory's, had returned 0. No program can guard against that, and no power cut does it.
	stopAll(t, s)
	before := l.acknowledged()
	first := r.IntN(2)
	disks[first].cut(t)
	disks[1-first].cut(t)
	begun := int(l.next.Load())
	for _, name := range suite.Programs {
		s.Signal(name, unix.SIGCONT)
	}
	// Whoever begins from here on must not be deceived either.
	dark := l.finished.Load()
	if err := suite.Await(patience, "messages after the cut", func() bool { return l.finished.Load() > dark+50 }); err != nil {
		t.Error(err)
	}
	l.wait(true)
	// A sync that failed may have reached the disk for all that, and a dead disk lets nobody remove the file: who was refused
	// because of the cut knows as little as who lost his connection.
	for i := range l.sent {
		m := &l.sent[i]
		if m.fate == acknowledged && !before[m.number] {
			if m.number >= begun {
				t.Errorf("%s: acknowledged after the cut: %q", m.id(), m.reply)
			}
			m.fate = unknown // for XFS, as above
		}
		if m.fate == refused {
			if !strings.HasPrefix(m.reply, "451 4.3.0 ") {
				t.Errorf("%s: refused with %q", m.id(), m.reply)
			}
			m.fate = unknown
		}
	}
	close(stop)
	readers.Wait()
	for _, name := range suite.Programs {
		s.Kill(name)
	}
	for _, d := range disks {
		d.detach(t)
	}
	for _, d := range disks {
		d.attach(t)
	}

	cut := time.Now()
	t.Logf("%d queued messages survived", len(s.Queued()))
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitEmpty(patience); err != nil {
		t.Error(err)
	}
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	queueEmpty(t, s)
	tempFiles(t, s, cut)
	again := l.verify(s, remote)
	t.Logf("%d copies were sent to the other host again", again)
}
