package queued

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
)

// putHeld queues a message that smtpd has marked.
func (o *office) putHeld(login string) queue.ID {
	o.t.Helper()
	return o.putEnvelope(queue.Envelope{From: sender, Hold: "100 messages an hour", Client: queue.Client{Login: login},
		Rcpts: []queue.Rcpt{{Addr: "x@elsewhere.example"}}})
}

func TestMarkedMailIsHeldAndThePostmasterToldOnce(t *testing.T) {
	o := newOffice(t)
	o.aliases("postmaster: bob\n")
	first, second := o.putHeld("mallory"), o.putHeld("mallory")
	for _, id := range []queue.ID{first, second} {
		o.s.Wake(id)
	}
	o.work()
	calls := o.courier.took()
	if n := each(calls)["x@elsewhere.example"]; n != 0 {
		t.Errorf("%d held messages were sent", n)
	}
	told := 0
	for _, c := range calls {
		if strings.Contains(c.body, "queuectl release "+string(first)) && strings.Contains(c.body, "mallory") &&
			strings.Contains(c.body, "100 messages an hour") && c.tx.From.IsNull() {
			told++
		}
	}
	if told != 1 || len(calls) != 1 {
		t.Errorf("the postmaster was told %d times, %d messages were sent", told, len(calls))
	}
	for _, id := range []queue.ID{first, second} {
		if _, err := os.Stat(o.dir + "/hold/" + string(id)); err != nil {
			t.Error(err)
		}
	}

	// The next day there is something to say again.
	o.now = o.now.Add(tellEvery)
	third := o.putHeld("mallory")
	o.s.Wake(third)
	o.work()
	if n := len(o.courier.took()); n != 1 {
		t.Errorf("%d notices on the next day", n)
	}

	// Released mail goes, and is not held a second time, whoever moves it and with what.
	if err := o.q.Release(first); err != nil {
		t.Fatal(err)
	}
	o.s.Wake(first)
	if err := os.Rename(o.dir+"/hold/"+string(second), o.path(second)); err != nil {
		t.Fatal(err)
	}
	o.scan()
	o.now = o.now.Add(time.Minute)
	o.work()
	if n := each(o.courier.took())["x@elsewhere.example"]; n != 2 {
		t.Errorf("%d of two released messages were sent", n)
	}
	if err := os.Remove(o.dir + "/hold/" + string(third)); err != nil {
		t.Fatal(err)
	}
	os.Remove(o.dir + "/log/" + string(third))
}

// A crash while a message is being held does not let it go, and what was held then is not held again when it is released.
func TestCrashWhileHolding(t *testing.T) {
	o := newOffice(t)
	o.aliases("postmaster: bob\n")
	events := func(id queue.ID) (words string) {
		notes, err := o.q.ReadLog(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range notes {
			words += n.Event + " "
		}
		return words
	}
	whole := o.putHeld("mallory")
	o.s.Wake(whole)
	o.work()
	if got := events(whole); got != "holding held " {
		t.Errorf("log: %s", got)
	}

	marked, moved := o.putHeld("mallory"), o.putHeld("mallory")
	for _, id := range []queue.ID{marked, moved} {
		if err := o.q.AppendLog(id, queue.Note{Time: o.now, Event: holding}); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.q.Hold(moved); err != nil {
		t.Fatal(err)
	}
	o.crash()
	o.scan()
	o.work()
	if n := each(o.courier.took())["x@elsewhere.example"]; n != 0 {
		t.Errorf("%d held messages were sent", n)
	}
	// Released, tried in vain, found again after a restart: it stays released.
	o.courier.script = by(map[string]remote.Outcome{"x@elsewhere.example": temp}, done)
	if err := o.q.Release(moved); err != nil {
		t.Fatal(err)
	}
	o.s.Wake(moved)
	o.work()
	o.crash()
	o.courier.script = by(nil, done)
	o.now = o.now.Add(time.Hour)
	o.scan()
	o.work()
	if n := each(o.courier.took())["x@elsewhere.example"]; n != 2 {
		t.Errorf("the released message was tried %d times of 2", n)
	}
	for _, id := range []queue.ID{whole, marked} {
		if err := os.Remove(o.dir + "/hold/" + string(id)); err != nil {
			t.Error(err)
		}
		os.Remove(o.dir + "/log/" + string(id))
	}
}
