package queued

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
)

// A thousand messages for one dead host cost one connection an interval, and hold nobody up.
func TestDeadDestination(t *testing.T) {
	o := newOffice(t)
	o.courier.script = func(to Destination, rcpt string) remote.Outcome {
		if to.Domain == "dead.example" {
			return dead
		}
		return done
	}
	for i := range 1000 {
		o.s.Wake(o.put("", fmt.Sprintf("u%d@dead.example", i)))
	}
	o.s.Wake(o.put("", "x@alive.example"))
	o.work()
	calls := o.courier.took()
	if n := each(calls)["x@alive.example"]; n != 1 {
		t.Errorf("the one for a living host was sent %d times", n)
	}
	if len(calls) != 2 {
		t.Errorf("%d connections, want 2", len(calls))
	}
	// Intervals of 4, 8, 16 ... minutes at the least.
	begun := o.now
	connections := 0
	for o.now.Sub(begun) < 4*time.Hour {
		o.now = o.now.Add(time.Minute)
		o.work()
		connections += len(o.courier.took())
	}
	if connections < 4 || connections > 7 {
		t.Errorf("%d connections in four hours", connections)
	}
	if n := o.s.index.len(); n != 1000 {
		t.Errorf("%d entries for 1000 messages", n)
	}
	o.courier.script = always(done)
	o.s.Flush()
	o.scan()
	o.work()
	if n := len(o.courier.took()); n != 1000 {
		t.Errorf("after a flush %d were sent, want all", n)
	}
	o.wantEmpty()
}

// The only message for a dead host is tried at each of its turns: none is lost because the host is still held dead.
func TestDeadDestinationMissesNoTurn(t *testing.T) {
	for _, jitter := range []float64{0, 0.5, 1} {
		o := newOffice(t)
		o.s.jitter = func() float64 { return jitter }
		o.courier.script = always(dead)
		id := o.send("", "x@dead.example")
		for turn := range 12 {
			if n := len(o.courier.took()); n != 1 {
				t.Errorf("jitter %v, turn %d: %d connections, want 1", jitter, turn, n)
			}
			o.wait(id)
		}
	}
}

// A permanent answer of the look-up concerns the address, not the way.
func TestNoSuchDomainIsNotDead(t *testing.T) {
	o := newOffice(t)
	o.courier.script = func(_ Destination, rcpt string) remote.Outcome {
		if rcpt == sender {
			return done
		}
		return remote.Outcome{Kind: remote.Perm, Stage: remote.StageConnect, Reply: perm.Reply, Local: true}
	}
	for range 3 {
		o.send(sender, "x@nowhere.example")
	}
	if n := each(o.courier.took())["x@nowhere.example"]; n != 3 {
		t.Errorf("%d look-ups, want 3", n)
	}
	o.wantEmpty()
}

// gate lets a test hold transactions and let them go one by one.
type gate struct {
	in  chan Destination
	out chan error
}

func newGate() *gate { return &gate{in: make(chan Destination, 1000), out: make(chan error)} }

func (g *gate) hang(ctx context.Context, to Destination) error {
	g.in <- to
	select {
	case err := <-g.out:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// began waits until n transactions have begun.
func (g *gate) began(t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.in:
		case <-time.After(20 * time.Second):
			t.Fatal("no transaction begins")
		}
	}
}

func TestWindow(t *testing.T) {
	o := newOffice(t)
	g := newGate()
	o.courier.hang = g.hang
	to := Destination{Next: route.ByMX, Domain: "one.example"}
	for i := range 30 {
		o.s.attempt(task{id: o.put("", fmt.Sprintf("u%d@one.example", i))})
	}
	state := func() (window, workers int) {
		o.s.sched.mu.Lock()
		defer o.s.sched.mu.Unlock()
		d := o.s.sched.dests[to]
		return d.window, d.workers
	}
	want := func(what string, window, workers int) {
		t.Helper()
		if w, n := state(); w != window || n != workers {
			t.Errorf("%s: window %d with %d transactions, want %d with %d", what, w, n, window, workers)
		}
	}
	g.began(t, 2)
	want("start", 2, 2)
	g.out <- nil // a success: one ends, two begin
	g.began(t, 2)
	want("a success", 3, 3)
	g.out <- nil
	g.began(t, 2)
	g.out <- nil
	g.began(t, 1)
	want("three", 4, 4)
	// A failed connection among others halves it, and those that are too many end.
	unreachable := func() {
		t.Helper()
		before, _ := state()
		g.out <- fmt.Errorf("refused")
		for {
			if after, n := state(); after == max(1, before/2) && n < 4 {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	unreachable()
	want("one failure", 2, 3)
	o.s.sched.closing.Store(true) // the others are not the matter
	for range 3 {
		g.out <- nil
	}
	o.s.sched.wg.Wait()
	o.s.sched.finish()
}

// The agent has transactions of its own: hosts that hang, however many, do not stop local mail.
func TestHangingHostsAndLocalMail(t *testing.T) {
	o := newOffice(t)
	g := newGate()
	o.courier.hang = func(ctx context.Context, to Destination) error {
		if to.Local {
			return nil
		}
		return g.hang(ctx, to)
	}
	hanging := 0
	for i := range o.opt.Limits.Attempts + 5 {
		o.s.attempt(task{id: o.put("", fmt.Sprintf("x@d%d.example", i))})
		hanging++
	}
	g.began(t, o.opt.Limits.Attempts)
	id := o.put("", "bob@example.org")
	settled := make(chan struct{})
	jobDone := o.s.sched.done
	o.s.sched.done = func(j *job, out []remote.Outcome) {
		jobDone(j, out)
		if j.msg.id == id {
			close(settled)
		}
	}
	o.s.attempt(task{id: id})
	select {
	case <-settled:
	case <-time.After(20 * time.Second):
		t.Error("local mail waits for hosts that hang")
	}
	for range hanging {
		g.out <- nil
	}
	o.s.sched.wg.Wait()
	o.wantEmpty()
}

// A message steps back from a destination for which many wait, and is not forgotten.
func TestCrowded(t *testing.T) {
	o := newOffice(t)
	o.opt.Active = 16 // five may wait
	o.start()
	g := newGate()
	o.courier.hang = g.hang
	var last queue.ID
	for i := range 19 {
		id := o.put("", fmt.Sprintf("u%d@slow.example", i))
		if !o.s.claim(context.Background(), id, true) {
			t.Fatal("no room")
		}
		o.s.attempt(task{id: id})
		last = id
	}
	g.began(t, 2) // and five wait: the others step back
	for range 3 { // readings of the directory find nothing new, an announcement does not park it twice
		o.scan()
		if n := o.s.index.len(); n != 0 {
			t.Errorf("a reading of the directory adds %d entries", n)
		}
		o.s.Wake(last)
		if !o.one() {
			t.Error("an announcement is not taken up")
		}
	}
	o.s.sched.mu.Lock()
	d := o.s.sched.dests[Destination{Next: route.ByMX, Domain: "slow.example"}]
	active, parked := len(o.s.active), len(d.parked)
	o.s.sched.mu.Unlock()
	if active != 7 || parked != 12 || len(o.s.sched.parked) != 12 {
		t.Errorf("%d are active, %d and %d parked; want 7 and 12", active, parked, len(o.s.sched.parked))
	}
	if log, _ := o.q.ReadLog(last); len(log) > 0 {
		t.Errorf("recorded: %v", log)
	}
	close(g.out)
	o.s.sched.wg.Wait()
	if n := len(o.s.sched.parked); n != 0 {
		t.Errorf("%d are still parked", n)
	}
	o.courier.hang = nil
	o.work()
	o.wantEmpty()
}

// Q08: when as many have stepped back as may, others are put off, so that what waits for one host cannot fill the memory.
func TestCrowdedBeyondMemory(t *testing.T) {
	o := newOffice(t)
	o.opt.Active = 16 // five may wait
	o.start()
	o.s.sched.room = 4
	g := newGate()
	o.courier.hang = g.hang
	var last queue.ID
	for i := range 19 {
		last = o.put("", fmt.Sprintf("u%d@slow.example", i))
		if !o.s.claim(context.Background(), last, true) {
			t.Fatal("no room")
		}
		o.s.attempt(task{id: last})
	}
	g.began(t, 2)
	if parked, put := o.s.sched.waiting(), o.s.index.len(); parked != 4 || put != 8 {
		t.Errorf("%d have stepped back, %d are put off; want 4 and 8", parked, put)
	}
	if next := o.mtime(last); !next.Equal(o.now.Add(o.opt.Retry.Min)) {
		t.Errorf("the last is next tried %v from now", next.Sub(o.now))
	}
	close(g.out)
	o.s.sched.wg.Wait()
	o.courier.hang = nil
	o.now = o.now.Add(o.opt.Retry.Min)
	o.work()
	o.wantEmpty()
}
