package queued

import (
	"fmt"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
)

func TestTrafficIsCounted(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"x@a.example": temp, "y@a.example": perm}, done)
	id := o.send(sender, "x@a.example", "y@A.example", "bob@example.org")
	o.s.traffic.arrived(id, o.now)
	o.s.traffic.arrived(id, o.now.Add(time.Hour)) // put back
	got := o.s.traffic.take()
	want := []queue.DomainTraffic{{Domain: "a.example", Deferred: 1, Failed: 1}, {Domain: "example.org", Out: 1}, {Domain: "sender.example", Out: 1}}
	if fmt.Sprint(got.Domains) != fmt.Sprint(want) || got.In != 1 {
		t.Errorf("%+v", got)
	}
	if o.s.traffic.take() != nil {
		t.Error("nothing changed")
	}
	got.Started, got.At = o.now, o.now
	if err := o.q.WriteTraffic(got); err != nil {
		t.Fatal(err)
	}
	if back, err := o.q.ReadTraffic(); err != nil || fmt.Sprint(back.Domains) != fmt.Sprint(want) || back.In != 1 || !back.Started.Equal(o.now) {
		t.Errorf("%+v %v", back, err)
	}
	o.now = o.now.Add(time.Hour)
	o.courier.script = always(done)
	o.work()
}

func TestTrafficOfManyDomains(t *testing.T) {
	var tr traffic
	now := time.Now()
	add := func(d *queue.DomainTraffic) { d.Out++ }
	for i := range 2 * maxDomains {
		tr.count(fmt.Sprintf("x@%d.example", i), now, add)
	}
	if n := len(tr.domains); n != maxDomains+1 || tr.domains["*"].Out != maxDomains {
		t.Errorf("%d domains, %+v others", n, tr.domains["*"])
	}
	tr.count("x@new.example", now.Add(2*idleDomain), add)
	if len(tr.domains) != 1 {
		t.Errorf("%d domains after a pause", len(tr.domains))
	}
}
