package queued

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/queue"
	"postamt/internal/route"
)

// run starts the Server by the machine's clock; stop ends it as a signal does.
func (o *office) run(grace time.Duration) (stop func()) {
	o.s.now = time.Now
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s := o.s
	go func() { s.Run(ctx, grace); close(ended) }()
	return func() {
		o.t.Helper()
		cancel()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			o.t.Fatal("it does not end")
		}
	}
}

// Q08: new mail goes by a backlog that is being scanned and attempted. Counted in messages, not in seconds.
func TestQ08_NewMailBesideABacklog(t *testing.T) {
	const backlog = 20_000
	dir, err := os.MkdirTemp("/dev/shm", "queued") // so many syncs take long elsewhere
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := newOfficeIn(t, dir)
	for i := range backlog {
		o.now = time.Now().Add(-time.Hour)
		if i%2 == 0 {
			o.now = time.Now().Add(time.Hour) // deferred
		}
		o.put("", fmt.Sprintf("old@d%d.example", i%100))
	}
	o.now = time.Now().Add(-time.Second)
	var old, between atomic.Int64
	fresh := make(chan struct{})
	begun := make(chan struct{})
	o.courier.hang = func(_ context.Context, to Destination) error {
		if to.Local {
			between.Store(old.Load() - between.Load())
			close(fresh)
		} else if old.Add(1) == 100 {
			close(begun)
		}
		return nil
	}
	o.opt.Limits.Attempts = 50
	o.start()
	stop := o.run(time.Minute)
	<-begun
	id := o.put("", "bob@example.org")
	between.Store(old.Load())
	o.s.Wake(id)
	select {
	case <-fresh:
	case <-time.After(60 * time.Second):
		t.Fatal("not delivered")
	}
	if n := between.Load(); n > backlog/20 {
		t.Errorf("%d old messages went first", n)
	}
	o.s.mu.Lock()
	if n := len(o.s.active); n > o.opt.Active {
		t.Errorf("%d messages are active, the limit is %d", n, o.opt.Active)
	}
	o.s.mu.Unlock()
	stop()
}

func TestShutdown(t *testing.T) {
	o := newOffice(t)
	o.opt.Limits.WindowStart = 1
	o.start()
	g := newGate()
	o.courier.hang = func(ctx context.Context, to Destination) error {
		if to.Domain != "slow.example" {
			return nil
		}
		return g.hang(ctx, to)
	}
	o.now = time.Now().Truncate(time.Second)
	running := o.put("", "a@slow.example")
	stop := o.run(time.Minute)
	o.s.Wake(running)
	g.began(t, 1)
	// Its second job waits for a window of one; its first is done, and is to be reported.
	waiting := o.put(sender, "b@fast.example SUCCESS", "c@slow.example")
	o.s.Wake(waiting)
	for len(o.courier.took()) == 0 || !o.s.sched.isCrowded(Destination{Next: route.ByMX, Domain: "slow.example"}, 0) {
		time.Sleep(time.Millisecond)
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	for !o.s.sched.closing.Load() {
		time.Sleep(time.Millisecond)
	}
	g.out <- nil // what runs is finished
	<-stopped
	o.wantStates(running, "")
	o.wantStates(waiting, "D-")
	if o.mtime(waiting).After(time.Now()) {
		t.Error("what was not begun is put off")
	}
	if notes, _ := o.q.ReadLog(waiting); len(notes) > 0 {
		t.Errorf("what was not begun is recorded: %+v", notes)
	}
	o.wantStates(waiting.Derive("report", "success", "b@fast.example"), "-")
	if n := len(o.s.active); n != 0 {
		t.Errorf("%d messages are still open", n)
	}
}

// What does not end within the grace is cut, and is as it was.
func TestShutdownCutsShort(t *testing.T) {
	o := newOffice(t)
	g := newGate()
	o.courier.hang = g.hang
	o.now = time.Now().Truncate(time.Second)
	id := o.put("", "a@slow.example")
	stop := o.run(time.Millisecond)
	g.began(t, 1) // found by the scan at start
	stop()
	o.wantStates(id, "-")
	if o.mtime(id).After(time.Now()) {
		t.Error("it is put off")
	}
	if notes, _ := o.q.ReadLog(id); len(notes) > 0 {
		t.Errorf("recorded: %+v", notes)
	}
}

// A loop of everything at once, for the race detector: announcements, scans, flushes, holds, a writer, the end.
func TestRunEverything(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: bob, carol, x@elsewhere.example\n")
	var n atomic.Int64
	o.courier.hang = func(context.Context, Destination) error {
		if n.Add(1)%7 == 0 {
			return fmt.Errorf("refused")
		}
		return nil
	}
	o.now = time.Now().Add(-time.Minute)
	stop := o.run(time.Minute)
	var ids []queue.ID
	for i := range 60 {
		id := o.put(sender, "team@example.org", fmt.Sprintf("y@d%d.example SUCCESS", i%5), "nobody@example.org")
		ids = append(ids, id)
		o.s.Wake(id)
		switch i % 10 {
		case 3:
			o.s.Rescan()
		case 5:
			o.s.Flush()
		case 7:
			o.q.Hold(ids[i-1])
			o.q.Release(ids[i-1])
		}
		_ = o.s.Stats()
	}
	for deadline := time.Now().Add(30 * time.Second); len(o.queued()) > 0; time.Sleep(5 * time.Millisecond) {
		o.s.Flush()
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", o.queued())
		}
	}
	stop()
	o.wantEmpty()
	sent := each(o.courier.took())
	for _, r := range []string{"bob@example.org", "carol@example.org", "x@elsewhere.example"} {
		if sent[r] != 60 {
			t.Errorf("%s was sent %d messages, want 60", r, sent[r])
		}
	}
}

// Q08: with room for a hundred of a thousand, all get their attempt, though nothing but the index asks for readings.
func TestQ08_MoreThanTheIndexHolds(t *testing.T) {
	const messages = 1000
	o := newOffice(t)
	o.now = time.Now().Add(-time.Hour)
	for i := range messages {
		o.put("", fmt.Sprintf("old@d%d.example", i%10))
	}
	var done atomic.Int64
	all := make(chan struct{})
	o.courier.hang = func(context.Context, Destination) error {
		if done.Add(1) == messages {
			close(all)
		}
		return nil
	}
	o.opt.Scan = time.Hour
	o.opt.Active = 8
	o.opt.Limits.Recipients = 1
	o.start()
	o.s.index.limit = 100
	stop := o.run(time.Minute)
	select {
	case <-all:
	case <-time.After(60 * time.Second):
		t.Errorf("%d of %d attempts; %v", done.Load(), messages, o.s.Stats())
	}
	stop()
}

// The watchdog is told while dispatch goes round, waiting for room included, and not while it hangs.
func TestWatch(t *testing.T) {
	o := newOffice(t)
	leave := make(chan struct{})
	hanging := make(chan struct{}, 100)
	o.courier.hang = func(ctx context.Context, _ Destination) error {
		hanging <- struct{}{}
		<-leave
		return nil
	}
	beats := make(chan struct{}, 1)
	o.s.opt().Active = 4 // of which three are for what is found in the queue
	o.s.Watch(time.Millisecond, func() {
		select {
		case beats <- struct{}{}:
		default: // not yet listened to: dispatch has to go on
		}
	})
	o.now = time.Now().Add(-time.Hour)
	var last queue.ID
	for range 6 {
		last = o.put("", "someone@d.example")
	}
	stop := o.run(time.Second)
	for range 2 {
		<-hanging
	}
	for range 100 {
		<-beats
	}
	o.s.mu.Lock()
	o.s.Wake(last)
	stuck := false
	for n := 0; !stuck && n < 10_000; n++ {
		select {
		case <-beats:
		case <-time.After(time.Second):
			stuck = true
		}
	}
	if !stuck {
		t.Error("it hangs, and is alive")
	}
	close(leave)
	o.s.mu.Unlock()
	stop()
}

// A disk that stalls while many connections end does not make a thread of each: no more than filers wait for it at once.
func TestFilersAreBounded(t *testing.T) {
	const messages = 5 * filers
	o := newOffice(t)
	o.opt.Limits.Local = messages
	o.now = time.Now().Add(-time.Second)
	var ids []queue.ID
	for range messages {
		ids = append(ids, o.put(sender, "bob@example.org"))
	}
	o.q.Close()
	var mu sync.Mutex
	now, most := 0, 0
	q, err := queue.Open(o.dir, queue.Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpUnlink {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) // the disk stalls
			mu.Lock()
			now--
			mu.Unlock()
		}
		return nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	o.q = q
	var carried sync.WaitGroup
	carried.Add(messages)
	o.courier.hang = func(context.Context, Destination) error {
		carried.Done()
		carried.Wait() // all end together
		return nil
	}
	o.start()
	stop := o.run(time.Minute)
	for _, id := range ids {
		o.s.Wake(id)
	}
	carried.Wait()
	stop()
	o.wantEmpty()
	if most < 2 || most > filers {
		t.Errorf("%d files were removed at once", most)
	}
}
