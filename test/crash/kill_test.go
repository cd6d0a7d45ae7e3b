// Package crash kills the programs, fills the disk and cuts the power, and then asks whether the promises of postamt(7) held:
// what was acknowledged is there, each local recipient has it exactly once, nothing is there in part, and nobody had to help.
//
// The clients are strangers to the programs, and what they know is all that counts: see fate.
package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
	"postamt/test/suite"
)

// quick lets the programs try again soon, so that a test ends soon.
const quick = "retry_min 1s\nretry_max 2s\nqueue_scan_interval 1s\nrelay_clients 127.0.0.0/8\n"

// users and aliases of the tests, and what is sent to them: to one, to several, to lists, to the same person twice over, and away.
var users = []string{"alice", "bob", "carol", "dave", "erin", "sender"}

const aliases = `team: alice, bob, carol
owner-team: dave
all: team, dave, erin
abroad: erin, far@remote.test
`

func targets() []target {
	return []target{
		{rcpts: []string{"alice@example.test"}, mailboxes: []string{"alice"}},
		{rcpts: []string{"bob@example.test"}, mailboxes: []string{"bob"}},
		{rcpts: []string{"carol@example.test", "dave@example.test"}, mailboxes: []string{"carol", "dave"}},
		{rcpts: []string{"team@example.test"}, mailboxes: []string{"alice", "bob", "carol"}},
		{rcpts: []string{"bob@example.test", "team@example.test", "all@example.test"},
			mailboxes: []string{"alice", "bob", "carol", "dave", "erin"}},
		{rcpts: []string{"near@remote.test"}, remote: true},
		{rcpts: []string{"abroad@example.test", "dave@example.test", "near@remote.test"},
			mailboxes: []string{"dave", "erin"}, remote: true},
	}
}

// sink takes mail for remote.test, and is not always willing.
func sink(t testing.TB) *smtptest.Server {
	var mu sync.Mutex
	n := 0
	return smtptest.New(t, smtptest.Config{Reply: func(_ int, verb, _ string) string {
		if verb != "MAIL" {
			return ""
		}
		mu.Lock()
		defer mu.Unlock()
		switch n++; {
		case n%19 == 0:
			return "451 4.3.2 not now"
		case n%47 == 0:
			return smtptest.Close
		}
		return ""
	}})
}

// chance returns a seed that is different each time, or that of a run to be repeated.
func chance(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CRASH_SEED"); text != "" {
		fmt.Sscan(text, &seed)
	}
	t.Logf("CRASH_SEED=%d", seed)
	return seed
}

// reader is a mail program that looks at a mailbox all the time and moves what is new to cur/, as maildir(5) says: what an
// attempt has stored may have another name when the next one looks for it.
func reader(s *suite.System, user string, stop <-chan struct{}) {
	box := s.Maildir(user)
	seen := map[string]int{}
	for {
		names, _ := os.ReadDir(filepath.Join(box, "new"))
		for _, e := range names {
			// A second copy of the same name gets other flags, lest it replace the first and nobody sees it.
			flags := [...]string{"S", "FS", "RS", "FRS"}[min(seen[e.Name()], 3)]
			seen[e.Name()]++
			os.Rename(filepath.Join(box, "new", e.Name()), filepath.Join(box, "cur", e.Name()+":2,"+flags))
		}
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestKill is promises P2, P3 and P4: 2,000 messages while one or all of the programs are killed again and again (F08, Q10).
func TestKill(t *testing.T) {
	const messages, kills = 2000, 60
	seed := chance(t)
	remote := sink(t)
	s := suite.Start(t, suite.Config{
		Users: users, Aliases: aliases, Settings: quick,
		Routes: fmt.Sprintf("remote.test [127.0.0.1]:%d\n", remote.Addr.Port()),
	})
	l := &load{t: t, addr: s.Addr, from: "sender@example.test", seed: seed, targets: targets(), most: messages}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() { reader(s, "bob", stop) })
	readers.Go(func() { reader(s, "erin", stop) })
	begun := time.Now()
	l.start(8)

	// A kill comes a random moment after a random number of messages, so that all of them fall into the work.
	r := rand.New(rand.NewPCG(seed, 1<<63))
	count := map[string]int{}
	var last time.Time // when deliver was last killed
	kill := func() {
		t.Helper()
		victims := suite.Programs[:]
		if n := r.IntN(10); n < 9 {
			victims = victims[n/3 : n/3+1]
		}
		var wg sync.WaitGroup
		for _, name := range victims {
			count[name]++
			wg.Go(func() { s.Kill(name) })
		}
		wg.Wait()
		if victims[len(victims)-1] == "deliver" {
			last = time.Now()
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
	}
	done := 0
	for ; done < kills; done++ {
		after := int64(messages * (done + r.IntN(2)) / (kills + 5))
		if err := suite.Await(patience, fmt.Sprintf("message %d", after), func() bool { return l.finished.Load() >= after }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		kill()
	}
	l.wait(false)
	// The last of the work is attempted anew, all of it: that is what is killed now.
	for ; len(s.Queued()) > 0 && done < kills+10; done++ {
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		kill()
	}
	t.Logf("%d kills, of %v, in %v; %d messages still queued", done, count, time.Since(begun).Round(time.Millisecond), len(s.Queued()))
	if done < 50 {
		t.Errorf("only %d kills", done)
	}
	if err := s.AwaitEmpty(patience); err != nil {
		t.Error(err)
	}
	close(stop)
	readers.Wait()
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	queueEmpty(t, s)
	tempFiles(t, s, last)
	// 20 is destination_concurrency: what can be between the final dot and the mark when queued dies.
	if again := l.verify(s, remote); again > 20*count["queued"] {
		t.Errorf("%d copies sent again after %d kills", again, count["queued"])
	}
	if n := l.count(refused); n > 0 {
		t.Errorf("%d messages were refused", n)
	}
	for _, name := range suite.Programs {
		if log := s.Log(name); strings.Contains(log, "panic") || strings.Contains(log, "fatal error") {
			t.Errorf("%s panicked", name)
		}
	}
	t.Logf("all in %v", time.Since(begun).Round(time.Millisecond))
}

// TestKillWhileOneHostHangs is P3 to the letter: of a message with several ways to go, what one host has taken is recorded at
// once, and a crash while another host keeps us waiting sends nothing twice. The same for the child of an alias.
func TestKillWhileOneHostHangs(t *testing.T) {
	fast := smtptest.New(t, smtptest.Config{})
	var willing atomic.Bool
	slow := smtptest.New(t, smtptest.Config{Reply: func(_ int, verb, _ string) string {
		if verb == "." && !willing.Load() {
			return smtptest.Silence
		}
		return ""
	}})
	s := suite.Start(t, suite.Config{
		Users: users, Aliases: aliases, Settings: quick,
		Routes: fmt.Sprintf("remote.test [127.0.0.1]:%d\nslow.test [127.0.0.1]:%d\n", fast.Addr.Port(), slow.Addr.Port()),
	})
	l := &load{t: t, addr: s.Addr, from: "sender@example.test", most: 1, targets: []target{{
		rcpts:     []string{"near@remote.test", "abroad@example.test", "bob@example.test", "hang@slow.test"},
		mailboxes: []string{"bob", "erin"}, remote: true,
	}}}
	l.start(1)
	l.wait(false)
	marked := func() bool {
		for _, path := range s.Queued() {
			text, _ := os.ReadFile(path)
			if strings.Contains(string(text), "\nD rcpt near@remote.test") && strings.Contains(string(text), "\nX rcpt abroad@example.test") {
				return true
			}
		}
		return false
	}
	for run := range 2 {
		if err := suite.Await(patience, "the child to be gone, the rest to be marked, the slow host to be asked", func() bool {
			return len(s.Queued()) == 1 && marked() && len(slow.Messages()) > run
		}); err != nil {
			t.Fatal(err)
		}
		s.Kill("queued")
		willing.Store(run == 1)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AwaitEmpty(patience); err != nil {
		t.Fatal(err)
	}
	// Two: near, and far by the alias.
	if again := l.verify(s, fast); again != 0 || len(fast.Messages()) != 2 {
		t.Errorf("%d copies at the host that took them at once", len(fast.Messages()))
	}
}
