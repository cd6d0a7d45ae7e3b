//go:build amd64 || arm64

package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
	"postamt/test/killpoint"
	"postamt/test/suite"
)

// pointTargets is what each round sends: one message to each, in this order. They are few because there are many rounds.
var pointTargets = []target{
	{rcpts: []string{"alice@example.test"}, mailboxes: []string{"alice"}},
	{rcpts: []string{"team@example.test"}, mailboxes: []string{"alice", "bob", "carol"}},
	{rcpts: []string{"near@remote.test", "near@distant.test"}, away: []string{"near@remote.test", "near@distant.test"}},
	{rcpts: []string{"dave@example.test", "nobody@remote.test"}, mailboxes: []string{"dave"}, bounced: true},
	{rcpts: []string{"abroad@example.test", "carol@example.test"}, mailboxes: []string{"erin", "carol"}, away: []string{"far@remote.test"}},
	{rcpts: []string{"bob@example.test", "erin@example.test"}, mailboxes: []string{"bob", "erin"}},
	{rcpts: []string{"all@example.test"}, mailboxes: []string{"alice", "bob", "carol", "dave", "erin"}}, // two children
}

// large is a message that no program keeps in memory.
const large = 5

// samples is about how many points of each kind an ordinary run tries.
const samples = 5

// points runs round for the points 1, 2, ... of a program: some of them, or with CRASH_POINTS=all every one, or with
// CRASH_POINTS=17 that one. A first round without a fault, point 0, tells how many there are. Rounds wait more than they work, so
// some run at a time. A round returns whether its fault came to pass; the number of points differs a little from run to run.
func points(t *testing.T, round func(t *testing.T, n int) (calls int, hit bool)) {
	killpoint.Need(t)
	if _, err := programs(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	total := 0
	t.Run("0", func(t *testing.T) { total, _ = round(t, 0) })
	if total == 0 {
		t.Fatal("no call was counted")
	}
	first, step := 1, 1
	last := total + total/10
	switch text := os.Getenv("CRASH_POINTS"); {
	case text == "all":
	case text != "":
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal("CRASH_POINTS:", err)
		}
		first, last = n, n
	default:
		last = total
		step = max(1, total/samples)
		first = 1 + rand.IntN(step)
	}
	t.Logf("%d points: from %d in steps of %d (CRASH_POINTS=N for one, =all for all)", total, first, step)
	var tried, hits atomic.Int64
	var wg sync.WaitGroup
	room := make(chan struct{}, 4)
	for n := first; n <= last; n += step {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				tried.Add(1)
				if _, hit := round(t, n); hit {
					hits.Add(1)
				}
			})
		})
	}
	wg.Wait()
	t.Logf("%d rounds, %d of them with their fault, in %v", tried.Load(), hits.Load(), time.Since(begun).Round(time.Second))
	if hits.Load() == 0 {
		t.Error("no round had its fault")
	}
}

// programs are built once, not for each System.
var programs = sync.OnceValues(suite.Build)

// A bench is a System on which one program is under a plan.
type bench struct {
	*suite.System
	t      *testing.T
	victim string
	load   *load
	sinks  []*smtptest.Server
	run    *killpoint.Run // of the victim, once it was started
	rest   func()         // ends the readers; nil: there are none
}

// newBench lays out a system. Looks says that calls that change nothing count as well, on the tables too.
func newBench(t *testing.T, victim string, looks bool, fault func(killpoint.Call) killpoint.Fault) *bench {
	b := &bench{t: t, victim: victim}
	for range 2 {
		b.sinks = append(b.sinks, smtptest.New(t, smtptest.Config{Reply: func(_ int, verb, args string) string {
			if verb == "RCPT" && strings.Contains(args, "nobody@") {
				return "550 5.1.1 no such user"
			}
			return ""
		}}))
	}
	bin, err := programs()
	if err == nil {
		b.System, err = suite.New(suite.Config{Bin: bin, Users: users, Aliases: aliases, Settings: quick, Routes: fmt.Sprintf(
			"remote.test [127.0.0.1]:%d\ndistant.test [127.0.0.1]:%d\n", b.sinks[0].Addr.Port(), b.sinks[1].Addr.Port())})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Remove)
	t.Cleanup(func() {
		for _, name := range suite.Programs {
			b.Kill(name)
		}
		if !t.Failed() {
			return
		}
		if b.run != nil {
			if hit, ok := b.run.Hit(); ok {
				t.Logf("%s was at call %v", victim, hit)
			}
		}
		for _, name := range suite.Programs {
			log := b.Log(name)
			t.Logf("log of %s:\n%s", name, log[max(0, len(log)-6<<10):])
		}
	})
	b.load = &load{t: t, addr: b.Addr, from: "sender@example.test", targets: pointTargets, sizes: map[int]int{large: 80 << 10}}
	below := []string{b.Queue, filepath.Join(b.Dir, "home"), filepath.Join(b.Dir, "run")}
	if looks {
		below = append(below, filepath.Join(b.Dir, "users"), filepath.Join(b.Dir, "aliases"), filepath.Join(b.Dir, "routes"))
	}
	b.StartBy = map[string]func(*exec.Cmd) error{victim: func(cmd *exec.Cmd) error {
		cmd.Env = append(cmd.Environ(), "GOMAXPROCS=1")
		var err error
		b.run, err = killpoint.Start(cmd, killpoint.Plan{Below: below, Looks: looks, Fault: fault})
		return err
	}}
	return b
}

// begin starts the programs that are not the victim.
func (b *bench) begin() {
	b.t.Helper()
	var wg sync.WaitGroup
	for _, name := range suite.Programs {
		if name != b.victim {
			wg.Go(func() {
				if err := b.Launch(name); err != nil {
					b.t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// launchVictim starts the victim under its plan. It may die of it before it is ready, and then says why.
func (b *bench) launchVictim() (ready bool) {
	b.t.Helper()
	err := b.Launch(b.victim)
	if b.run == nil {
		b.t.Fatal(err)
	}
	if err == nil {
		return true
	}
	if _, hit := b.run.Hit(); !hit {
		b.t.Fatal(err)
	}
	return false
}

// read has a mail program look at some of the mailboxes until the test ends: a copy is not where the attempt before has put it (M02).
func (b *bench) read() {
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, user := range []string{"alice", "carol", "dave", "sender"} {
		readers.Go(func() { reader(b.System, user, stop) })
	}
	b.rest = sync.OnceFunc(func() {
		close(stop)
		readers.Wait()
	})
	b.t.Cleanup(b.rest)
}

// post sends messages over a connection of their own each, and returns false when smtpd is not there.
func (b *bench) post(first, end int) bool {
	b.t.Helper()
	for n := first; n < end; n++ {
		m := sent{number: n, to: n % len(b.load.targets)}
		c, err := dial(b.Addr)
		if err != nil {
			return false
		}
		alive, err := c.send(&m, b.load.from, b.load.targets[m.to].rcpts, b.load.text(n))
		c.Close()
		if err != nil {
			b.t.Errorf("%s: %v", m.id(), err)
		}
		b.load.sent = append(b.load.sent, m)
		if !alive {
			return false
		}
	}
	return true
}

// replace starts the victim anew, without a plan, if it has died.
func (b *bench) replace() {
	b.t.Helper()
	delete(b.StartBy, b.victim)
	b.Kill(b.victim)
	if err := b.run.Wait(); err != nil {
		b.t.Error(err)
	}
	if err := b.Launch(b.victim); err != nil {
		b.t.Fatal(err)
	}
}

// over tells whether the victim has ended.
func (b *bench) over() bool {
	select {
	case <-b.run.Done():
		return true
	default:
		return false
	}
}

// drain waits until nothing is queued. It has everything tried now, again and again, as an administrator in a hurry would: what
// waits for a program that was away would wait for seconds.
func (b *bench) drain() {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if err := b.Flush(); err != nil {
			b.t.Error(err)
			return
		}
		err := b.AwaitEmpty(300 * time.Millisecond)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Error(err)
			return
		}
	}
}

// judge ends the programs and asks whether all promises were kept. crash is when the victim died; zero: it did not.
func (b *bench) judge(crash time.Time) (again int) {
	b.t.Helper()
	if b.rest != nil {
		b.rest() // what moves from new to cur while they are read is in neither
	}
	if err := b.End(); err != nil {
		b.t.Error(err)
	}
	if err := b.Check(); err != nil {
		b.t.Error(err)
	}
	queueEmpty(b.t, b.System)
	tempFiles(b.t, b.System, crash)
	again = b.load.verify(b.System, b.sinks...)
	for _, name := range suite.Programs {
		if log := b.Log(name); strings.Contains(log, "panic") || strings.Contains(log, "fatal error") {
			b.t.Errorf("%s panicked", name)
		}
	}
	return again
}

// allAcknowledged checks that every message was taken.
func (b *bench) allAcknowledged() {
	b.t.Helper()
	for i := range b.load.sent {
		if m := &b.load.sent[i]; m.fate != acknowledged {
			b.t.Errorf("%s was not taken: fate %d, %s", m.id(), m.fate, m.reply)
		}
	}
}
