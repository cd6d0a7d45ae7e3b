package queued

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
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
