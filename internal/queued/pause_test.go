package queued

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
)

func (o *office) pause(destination, text string) {
	o.t.Helper()
	if err := o.q.Pause(destination, text); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) resume(destination string) {
	o.t.Helper()
	if err := o.q.Resume(destination); err != nil {
		o.t.Fatal(err)
	}
}

func TestPausedDestinationWaits(t *testing.T) {
	o := newOffice(t)
	o.pause("a.example", "disk full there")
	id := o.send(sender, "x@a.example", "y@b.example", "z@a.example")
	o.wantCalls("paused", each(o.courier.took()), map[string]int{"y@b.example": 1})
	o.wantStates(id, "-D-")
	notes, err := o.q.ReadLog(id)
	if err != nil || len(notes) != 1 || notes[0].Event != "paused" || notes[0].Host != "a.example" || notes[0].Text != "disk full there" {
		t.Errorf("log: %+v %v", notes, err)
	}
	// Ten days, each hour somebody looks, and a restart: nothing is sent, counted, warned of, returned.
	for i := range 10 * 24 {
		o.now = o.now.Add(time.Hour)
		if i == 100 {
			o.crash()
		}
		o.scan()
		o.work()
	}
	if n := len(o.courier.took()); n != 0 {
		t.Errorf("%d transactions", n)
	}
	if notes, _ := o.q.ReadLog(id); len(notes) != 1 {
		t.Errorf("%d notes", len(notes))
	}
	log := o.log.String()
	if n := strings.Count(log, ": deferred "); n != 2 {
		t.Errorf("%d lines about two recipients", n)
	}
	if strings.Count(log, `: paused destination=a.example why="disk full there"`) != 2 { // again after the restart
		t.Error("the pause is not logged")
	}

	// Resumed, it is tried, and is not old: what was waited counts as one gap.
	o.courier.script = by(map[string]remote.Outcome{"x@a.example": temp}, done)
	o.resume("a.example")
	if err := o.q.Due(id, o.now); err != nil {
		t.Fatal(err)
	}
	o.scan()
	o.work()
	calls := o.courier.took()
	if n := each(calls); n["x@a.example"] != 1 || n["z@a.example"] != 1 {
		t.Errorf("sent %v", n)
	}
	o.wantStates(id, "-DD")
	if !strings.Contains(o.log.String(), ": resumed destination=a.example") {
		t.Error("the end is not logged")
	}
	o.courier.script = always(done)
	o.now = o.now.Add(time.Hour)
	o.work()
	o.wantEmpty()
}

// A domain can be paused whatever way its mail takes: to a mailbox here, or with others over one hop. Next hops have names, too.
func TestPauseOfDomainsAndHops(t *testing.T) {
	o := newOffice(t)
	o.tables.Smarthost = route.Transport{Kind: "mx", Host: "hub.example", Port: "2525"}
	hop := Destination{Next: o.tables.Smarthost}.String()
	o.pause("example.org", "")
	o.pause("a.example", "")
	id := o.send(sender, "bob@example.org", "x@a.example", "y@b.example")
	o.wantCalls("domains", each(o.courier.took()), map[string]int{"y@b.example": 1})
	o.wantStates(id, "--D")
	o.resume("example.org")
	o.resume("a.example")
	o.pause(hop, "")
	o.now = o.now.Add(time.Hour)
	o.work()
	o.wantCalls("the hop", each(o.courier.took()), map[string]int{"bob@example.org": 1})
	o.resume(hop)
	o.now = o.now.Add(10 * time.Hour)
	o.work()
	o.wantCalls("nothing", each(o.courier.took()), map[string]int{"x@a.example": 1})
	o.wantEmpty()
}

// What waits for a connection when its destination is paused is not sent.
func TestPauseWithJobsWaiting(t *testing.T) {
	o := newOffice(t)
	o.opt.Limits.Window, o.opt.Limits.WindowStart = 1, 1
	o.start()
	begun, goOn := make(chan bool, 10), make(chan bool)
	o.courier.before = func(Destination) { begun <- true; <-goOn }
	o.courier.hang = nil
	var ids []queue.ID
	for range 5 {
		id := o.put(sender, "x@a.example")
		ids = append(ids, id)
		o.s.claim(t.Context(), id, true)
		o.s.take(task{id: id})
	}
	<-begun
	o.pause("a.example", "")
	close(goOn)
	o.s.sched.wg.Wait()
	if n := len(o.courier.took()); n != 1 {
		t.Errorf("%d sent", n)
	}
	o.resume("a.example")
	o.courier.before = nil
	o.now = o.now.Add(time.Hour)
	o.work()
	if n := len(o.courier.took()); n != 4 {
		t.Errorf("%d sent after", n)
	}
	o.wantEmpty()
}

// Some of a message wait, some fail: these are counted and returned, those are not.
func TestPauseBesideFailures(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"y@b.example": temp}, done)
	o.pause("a.example", "")
	id := o.send(sender, "x@a.example", "y@b.example")
	told := 0
	for range 8 * 24 {
		o.now = o.now.Add(time.Hour)
		o.work()
		for _, r := range reports(o.courier.took()) {
			if strings.Contains(r.body, "Action: failed") {
				told++
				if strings.Contains(r.body, "x@a.example") || !strings.Contains(r.body, "y@b.example") {
					t.Errorf("returned:\n%s", r.body)
				}
			}
		}
	}
	if told != 1 {
		t.Errorf("%d reports", told)
	}
	o.wantStates(id, "-F")
	o.resume("a.example")
	o.now = o.now.Add(4 * time.Hour)
	o.work()
	o.wantCalls("then", each(o.courier.took()), map[string]int{"x@a.example": 1})
	o.wantEmpty()
}

// A change within the granule of the file system's clock is seen, and a directory that cannot be read changes nothing.
func TestPausesAreReadAnew(t *testing.T) {
	o := newOffice(t)
	p := o.s.sched.paused
	for range 50 {
		o.pause("a.example", "")
		if len(p.now()) != 1 {
			t.Fatal("a pause was not seen")
		}
		o.resume("a.example")
		if len(p.now()) != 0 {
			t.Fatal("a resumption was not seen")
		}
	}
	o.pause("a.example", "")
	p.now()
	if err := os.Rename(o.dir+"/pause", o.dir+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if len(p.now()) != 1 {
		t.Error("the last set does not hold")
	}
	if err := os.Rename(o.dir+"/elsewhere", o.dir+"/pause"); err != nil {
		t.Fatal(err)
	}
	o.resume("a.example")
}

// Two changes within one tick of the file system's clock leave the directory the same time.
func TestPausesWithinOneTick(t *testing.T) {
	o := newOffice(t)
	o.pause("a.example", "")
	p := o.s.sched.paused
	at, err := o.q.PausesAt()
	if err != nil || len(p.now()) != 1 {
		t.Fatal(err, p.now())
	}
	o.resume("a.example")
	if err := os.Chtimes(o.dir+"/pause", at, at); err != nil {
		t.Fatal(err)
	}
	time.Sleep(while)
	if len(p.now()) != 0 {
		t.Error("the second change was not seen")
	}
}
