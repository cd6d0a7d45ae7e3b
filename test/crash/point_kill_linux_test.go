//go:build amd64 || arm64

package crash

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/killpoint"
)

// end waits until the victim has died or everything is done; then the victim is told to end, which has points too.
func (b *bench) end() (crash time.Time, hit bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !b.over() && len(b.Queued()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s neither ends nor works; left: %v", b.victim, b.Queued())
		}
	}
	if !b.over() {
		b.Terminate(b.victim) // an error, if it is killed at that
	}
	_, hit = b.run.Hit()
	return time.Now(), hit
}

// TestKillQueuedAtEachCall: Q10, Q16, F08. Half of the mail waits when queued starts, half comes while it works.
func TestKillQueuedAtEachCall(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "queued", false, killpoint.KillAt(n))
		b.begin()
		b.read()
		half := len(pointTargets) / 2
		b.post(0, half)
		b.launchVictim()
		b.post(half, len(pointTargets))
		b.allAcknowledged()
		_, hit := b.end()

		// Q16: whoever is marked in a file that is left has what he gets.
		marked := map[string]int{}
		for _, path := range b.Queued() {
			text, _ := os.ReadFile(path)
			id := b.load.identify(text)
			for line := range strings.Lines(string(text)) {
				if rcpt, ok := strings.CutPrefix(line, "D rcpt "); ok && id != "" {
					rcpt = strings.Fields(rcpt)[0]
					marked[id+" "+rcpt] = b.copies(id, rcpt)
				}
				if line == "\n" {
					break
				}
			}
		}
		b.replace()
		b.drain()
		b.judge(time.Time{})
		for who, before := range marked {
			id, rcpt, _ := strings.Cut(who, " ")
			if after := b.copies(id, rcpt); after != before {
				t.Errorf("%s was sent to %s again, though marked", id, rcpt)
			}
		}
		// What was under way may go out again, to each of them once: one crash was all.
		for i := range b.load.sent {
			m := &b.load.sent[i]
			for _, rcpt := range b.load.targets[m.to].away {
				if n := b.copies(m.id(), rcpt); n > 2 {
					t.Errorf("%s was sent to %s %d times in all", m.id(), rcpt, n)
				}
			}
		}
		return len(b.run.Calls()), hit
	})
}

// copies is how many copies of a message for a recipient the sinks have got.
func (b *bench) copies(id, rcpt string) (n int) {
	for _, sink := range b.sinks {
		for _, m := range sink.Messages() {
			for _, r := range m.Rcpts {
				if r == "<"+rcpt+">" && b.load.identify(m.Data) == id {
					n++
				}
			}
		}
	}
	return n
}

// TestAliasChangesInACrash: D13. Between the crash and the next attempt the list has other members. Those of before get the
// message or those of now, each once; if the expansion was written it holds.
func TestAliasChangesInACrash(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "queued", false, killpoint.KillAt(n))
		b.load.targets = []target{{rcpts: []string{"team@example.test"}, mailboxes: []string{"alice", "bob", "carol"}}}
		b.begin()
		b.post(0, 1)
		b.allAcknowledged()
		b.launchVictim()
		_, hit := b.end()
		if err := os.WriteFile(filepath.Join(b.Dir, "aliases"), []byte("team: bob, dave\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		written := strings.Contains(b.Log("queued"), ": expanded ")
		b.replace()
		b.drain()
		if now := len(b.Delivered("dave")) > 0; now {
			b.load.targets[0].mailboxes = []string{"bob", "dave"}
			if written {
				t.Error("the list was expanded, and was expanded again")
			}
		}
		b.judge(time.Time{})
		return len(b.run.Calls()), hit
	})
}

// TestKillSmtpdAtEachCall: F08, S29. What was answered 250 is there once, what was not at most once.
func TestKillSmtpdAtEachCall(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "smtpd", false, killpoint.KillAt(n))
		b.begin()
		if b.launchVictim() && b.post(0, len(pointTargets)) {
			b.allAcknowledged()
		}
		_, hit := b.end()
		b.replace()
		taken := len(b.load.sent)
		if !b.post(taken, taken+1) || b.load.sent[taken].fate != acknowledged {
			t.Error("smtpd takes nothing after a crash")
		}
		b.drain()
		if again := b.judge(time.Time{}); again > 0 {
			t.Errorf("%d copies were sent again", again)
		}
		return len(b.run.Calls()), hit
	})
}

// TestKillDeliverAtEachCall: D19, M01, M02, F08. Only temporary files may be left, and only of the crash.
func TestKillDeliverAtEachCall(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "deliver", false, killpoint.KillAt(n))
		b.begin()
		b.read()
		b.launchVictim()
		b.post(0, len(pointTargets))
		b.allAcknowledged()
		crash, hit := b.end()
		b.replace()
		b.drain()
		b.judge(crash)
		return len(b.run.Calls()), hit
	})
}

// TestKillFirstStartAtEachCall: Q20, F08. The directories of a new queue, and of a new maildir, are made by a program that is killed
// at that: whoever comes next makes what is missing.
func TestKillFirstStartAtEachCall(t *testing.T) {
	for _, victim := range []string{"smtpd", "queued"} {
		t.Run(victim, func(t *testing.T) {
			points(t, func(t *testing.T, n int) (int, bool) {
				b := newBench(t, victim, false, killpoint.KillAt(n))
				b.launchVictim()
				_, hit := b.run.Hit()
				calls := len(b.run.Calls())
				b.replace()
				b.begin()
				b.post(0, 1)
				b.allAcknowledged()
				b.drain()
				b.judge(time.Time{})
				return calls, hit
			})
		})
	}
}
