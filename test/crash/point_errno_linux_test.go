//go:build amd64 || arm64

package crash

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postamt/test/killpoint"
	"postamt/test/suite"
)

// errnoPoints runs round for each point with each error: in an ordinary run, where not every point is tried, with one each.
func errnoPoints(t *testing.T, round func(t *testing.T, fault func(killpoint.Call) killpoint.Fault) (calls int, hit bool)) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EFBIG}
	if os.Getenv("CRASH_POINTS") == "" {
		points(t, func(t *testing.T, n int) (int, bool) {
			return round(t, killpoint.ErrnoAt(n, errnos[n%len(errnos)]))
		})
		return
	}
	for _, e := range errnos {
		t.Run(e.Error(), func(t *testing.T) {
			points(t, func(t *testing.T, n int) (int, bool) { return round(t, killpoint.ErrnoAt(n, e)) })
		})
	}
}

// settle waits until the work that a fault has interrupted is done, without anybody's help.
func (b *bench) settle() {
	b.t.Helper()
	if err := b.AwaitEmpty(patience); err != nil {
		b.t.Error(err)
	}
}

// count returns the calls of the victim, and whether its fault came to pass.
func (b *bench) count() (int, bool) {
	_, hit := b.run.Hit()
	return len(b.run.Calls()), hit
}

// smtpdRound sends each message until it is taken. A fault is answered with 4yz: what was refused is nowhere, and the next is taken.
func smtpdRound(t *testing.T, looks bool, fault func(killpoint.Call) killpoint.Fault) *bench {
	b := newBench(t, "smtpd", looks, fault)
	b.begin()
	if !b.launchVictim() {
		b.replace()
	}
	number := 0
	for i := range pointTargets {
		for attempt := 1; ; attempt++ {
			number = i + (attempt-1)*len(pointTargets)
			b.post(number, number+1)
			m := b.load.sent[len(b.load.sent)-1]
			if m.fate == acknowledged {
				break
			}
			if m.fate != refused || m.reply[0] != '4' {
				t.Errorf("%s: fate %d, %s", m.id(), m.fate, m.reply)
			}
			if attempt == 3 {
				t.Fatalf("%s: refused again and again: %s", m.id(), m.reply)
			}
		}
	}
	b.settle()
	b.judge(time.Time{})
	return b
}

// deliverRound and queuedRound: nobody notices but those who read logs.
func deliverRound(t *testing.T, looks bool, fault func(killpoint.Call) killpoint.Fault) *bench {
	b := newBench(t, "deliver", looks, fault)
	b.begin()
	if !b.launchVictim() {
		b.replace()
	}
	b.post(0, len(pointTargets))
	b.allAcknowledged()
	b.settle()
	b.judge(time.Time{})
	return b
}

func queuedRound(t *testing.T, looks bool, fault func(killpoint.Call) killpoint.Fault) *bench {
	b := newBench(t, "queued", looks, fault)
	b.begin()
	half := len(pointTargets) / 2
	b.post(0, half)
	if !b.launchVictim() {
		b.replace()
	}
	b.post(half, len(pointTargets))
	b.allAcknowledged()
	b.settle()
	if again := b.judge(time.Time{}); again > 0 {
		t.Errorf("%d copies were sent again without a crash", again)
	}
	return b
}

var rounds = []struct {
	victim string
	round  func(t *testing.T, looks bool, fault func(killpoint.Call) killpoint.Fault) *bench
}{
	{"smtpd", smtpdRound},
	{"queued", queuedRound},
	{"deliver", deliverRound},
}

// TestErrnoAtEachCall: F01, D16. One call fails, whichever changes something.
func TestErrnoAtEachCall(t *testing.T) {
	for _, r := range rounds {
		t.Run(r.victim, func(t *testing.T) {
			errnoPoints(t, func(t *testing.T, fault func(killpoint.Call) killpoint.Fault) (int, bool) {
				return r.round(t, false, fault).count()
			})
		})
	}
}

// TestErrorAtEachLook: F01. A disk that cannot be read for a moment, from the directory of the queue to the table of users.
func TestErrorAtEachLook(t *testing.T) {
	for _, r := range rounds {
		t.Run(r.victim, func(t *testing.T) {
			points(t, func(t *testing.T, n int) (int, bool) {
				return r.round(t, true, killpoint.ErrnoAt(n, syscall.EIO)).count()
			})
		})
	}
}

// TestSyncFailsOnce: F03. The kernel reports a lost write once, and the next fsync of that file succeeds: it must not be asked for.
func TestSyncFailsOnce(t *testing.T) {
	for _, r := range rounds {
		t.Run(r.victim, func(t *testing.T) {
			points(t, func(t *testing.T, n int) (syncs int, hit bool) {
				seen := 0
				b := r.round(t, false, func(c killpoint.Call) killpoint.Fault {
					if c.Syncs() {
						seen++
					}
					if c.Syncs() && seen == n {
						return killpoint.Errno(syscall.EIO)
					}
					return killpoint.Fault{}
				})
				failed, hit := b.run.Hit()
				abandoned := false
				for _, c := range b.run.Calls() {
					if c.Syncs() {
						syncs++
					}
					if c.N <= failed.N || c.Path != failed.Path || isDir(c.Path) {
						continue
					}
					switch {
					case strings.HasPrefix(c.Name, "unlink"):
						abandoned = true // what bears the name from here on is another file
					case !abandoned && (c.Syncs() || strings.HasPrefix(c.Name, "rename")):
						t.Errorf("%v after %v had failed", c, failed)
					}
				}
				switch {
				case !hit:
				case isDir(failed.Path):
					if r.victim == "deliver" && strings.HasSuffix(failed.Path, "/new") && !strings.Contains(b.Log("queued"), ": deferred ") {
						t.Errorf("%v failed, and nobody waited", failed)
					}
				case failed.Name == "fsync" && !abandoned:
					// A new file; a mark in an old one is synced by fdatasync, and stays.
					t.Errorf("%v failed, and the file stayed", failed)
				}
				return syncs, hit
			})
		})
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// TestMailboxFullForAWhile: D16. Whatever the limit is called, the mail waits, with a reply that says so, and nothing is left in tmp/.
func TestMailboxFullForAWhile(t *testing.T) {
	killpoint.Need(t)
	for _, e := range []syscall.Errno{syscall.EDQUOT, syscall.EFBIG} {
		t.Run(e.Error(), func(t *testing.T) {
			var full atomic.Bool
			full.Store(true)
			b := newBench(t, "deliver", false, func(c killpoint.Call) killpoint.Fault {
				if full.Load() && strings.Contains(c.Name, "write") {
					return killpoint.Errno(e)
				}
				return killpoint.Fault{}
			})
			b.begin()
			if !b.launchVictim() {
				t.Fatal("deliver does not start")
			}
			b.post(0, len(pointTargets))
			b.allAcknowledged()
			if err := suite.Await(patience, "somebody to be deferred twice", func() bool {
				return strings.Contains(b.Log("queued"), "attempt=2")
			}); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(b.Log("queued")) {
				if strings.Contains(line, "via="+b.LMTP) && strings.Contains(line, ": deferred ") && !strings.Contains(line, "status=4.2.2") {
					t.Errorf("not by the status of a full mailbox: %s", line)
				}
			}
			for _, user := range b.Users {
				if n := len(b.Delivered(user)); n > 0 {
					t.Errorf("%s has got %d messages", user, n)
				}
			}
			full.Store(false)
			b.settle()
			b.judge(time.Time{})
		})
	}
}
