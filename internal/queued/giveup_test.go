package queued

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
)

func (o *office) giveUp(id queue.ID, text string) {
	o.t.Helper()
	if err := o.q.GiveUp(id, text); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) wantNoWishes() {
	o.t.Helper()
	names, err := os.ReadDir(o.dir + "/bounce")
	if err != nil || len(names) > 0 {
		o.t.Errorf("left in bounce: %v %v", names, err)
	}
}

func TestGivenUpIsReportedWithTheLastReason(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"x@a.example": temp, "y@a.example": temp, "z@b.example": dead}, done)
	id := o.send(sender, "x@a.example", "y@a.example", "z@b.example", "bob@example.org")
	o.courier.took()
	o.giveUp(id, "")
	o.s.Wake(id)
	o.work()
	calls := o.courier.took()
	r := reports(calls)
	if len(calls) != 1 || len(r) != 1 {
		t.Fatalf("%d transactions, %d reports", len(calls), len(r))
	}
	for _, want := range []string{"Final-Recipient: rfc822; x@a.example", "Final-Recipient: rfc822; y@a.example", "Final-Recipient: rfc822; z@b.example",
		"Status: 4.4.7", "450 4.2.0 later", "connection refused", "Action: failed"} {
		if !strings.Contains(r[0].body, want) {
			t.Errorf("no %q in\n%s", want, r[0].body)
		}
	}
	for _, not := range []string{"bob@example.org", "more recipients"} {
		if strings.Contains(r[0].body, not) {
			t.Errorf("%q in\n%s", not, r[0].body)
		}
	}
	o.wantEmpty()
	o.wantNoWishes()
}

func TestGivenUpWithAText(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(done)
	id := o.put(sender, "x@a.example")
	o.giveUp(id, "we do not\ndeliver this")
	o.scan()
	o.work()
	r := reports(o.courier.took())
	if len(r) != 1 || !strings.Contains(r[0].body, "554 5.4.7 we do not") {
		t.Fatalf("%d reports: %v", len(r), r)
	}
	o.wantEmpty()
	o.wantNoWishes()
}

func TestHeldMessageIsGivenUp(t *testing.T) {
	o := newOffice(t)
	id := o.put(sender, "x@a.example")
	if err := o.q.Hold(id); err != nil {
		t.Fatal(err)
	}
	o.giveUp(id, "")
	o.scan()
	o.work()
	if r := reports(o.courier.took()); len(r) != 1 {
		t.Errorf("%d reports", len(r))
	}
	o.wantEmpty()
	o.wantNoWishes()
}

// A wish that comes during an attempt is fulfilled after it, at once; if the attempt succeeds there is nothing to fulfil.
func TestGivenUpDuringAnAttempt(t *testing.T) {
	for _, outcome := range []remote.Outcome{temp, done} {
		o := newOffice(t)
		var id queue.ID
		o.courier.before = func(Destination) {
			o.courier.before = nil
			if err := o.q.GiveUp(id, ""); err != nil {
				t.Error(err)
			}
		}
		o.courier.script = by(map[string]remote.Outcome{"x@a.example": outcome}, done)
		id = o.put(sender, "x@a.example")
		o.s.Wake(id)
		o.work()
		o.wantEmpty()
		want := 1
		if outcome.Kind == remote.Done {
			want = 0
			o.scan()
		}
		if n := len(reports(o.courier.took())); n != want {
			t.Errorf("%v: %d reports, want %d", outcome.Kind, n, want)
		}
		o.wantNoWishes()
	}
}

// Wherever a crash cuts it, the sender is told once, and nothing is sent after.
func TestCrashWhileGivingUp(t *testing.T) {
	// The report is there, the message neither marked nor removed; its next attempt was hours away when it was given up.
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"x@a.example": temp}, done)
	id := o.send(sender, "x@a.example")
	o.courier.took()
	later := o.now.Add(3 * time.Hour)
	if err := os.Chtimes(o.path(id), later, later); err != nil {
		t.Fatal(err)
	}
	o.giveUp(id, "enough")
	m := o.message(id, true)
	if err := o.q.Due(id, o.now); err != nil { // what giveUp does first
		t.Fatal(err)
	}
	m.results[0] = result{kind: remote.Perm, expired: true, reply: temp.Reply}
	if err := o.s.report(m, o.now, false); err != nil {
		t.Fatal(err)
	}
	m.file.Close()
	o.crash()
	o.scan()
	o.work()
	o.now = o.now.Add(time.Hour)
	o.scan()
	o.work()
	calls := o.courier.took()
	if len(calls) != 1 || len(reports(calls)) != 1 {
		t.Errorf("%d transactions, %d reports", len(calls), len(reports(calls)))
	}
	o.wantEmpty()
	o.wantNoWishes()

	// The message is gone, the wish is not.
	o.wish(t, o.put(sender, "x@a.example"))
	o.wantEmpty()
	o.wantNoWishes()
}

// wish removes a message and leaves its wish.
func (o *office) wish(t *testing.T, id queue.ID) {
	o.giveUp(id, "")
	if err := os.Remove(o.path(id)); err != nil {
		t.Fatal(err)
	}
	o.crash()
	o.scan()
	o.work()
	if n := len(o.courier.took()); n != 0 {
		t.Errorf("%d transactions for a message that is gone", n)
	}
}

func TestGivenUpWithTheNullSenderIsDropped(t *testing.T) {
	o := newOffice(t)
	id := o.put("", "x@a.example")
	o.giveUp(id, "")
	o.s.Wake(id)
	o.work()
	if n := len(o.courier.took()); n != 0 {
		t.Errorf("%d transactions", n)
	}
	if !strings.Contains(o.log.String(), string(id)+": discarded") {
		t.Error("not logged")
	}
	o.wantEmpty()
	o.wantNoWishes()
}

func TestRequeuedMessageIsAsNew(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"x@a.example": temp}, done)
	id := o.send(sender, "x@a.example")
	for range 40 { // four hours apart: past the age at which it is returned, but for what follows
		o.now = o.now.Add(4 * time.Hour)
		if err := o.q.Requeue(id, o.now); err != nil {
			t.Fatal(err)
		}
		o.s.Wake(id)
		o.work()
	}
	calls := o.courier.took()
	if n := each(calls)["x@a.example"]; n != 41 || len(reports(calls)) != 0 {
		t.Errorf("%d attempts, %d reports", n, len(reports(calls)))
	}
	if next := o.next(); next > 6*time.Minute {
		t.Errorf("the next attempt is in %v, not after the first delay", next)
	}
	os.Remove(o.path(id))
	os.Remove(o.dir + "/log/" + string(id))
}

// A message that is deleted during an attempt leaves nothing, at whichever moment.
func TestDeletedDuringAnAttempt(t *testing.T) {
	for _, outcome := range []remote.Outcome{temp, done, perm} {
		o := newOffice(t)
		var id queue.ID
		o.courier.before = func(Destination) {
			o.courier.before = nil
			if err := o.q.Delete(id); err != nil {
				t.Error(err)
			}
		}
		o.courier.script = by(map[string]remote.Outcome{"x@a.example": outcome}, done)
		id = o.put(sender, "x@a.example")
		o.s.Wake(id)
		o.work()
		o.wantEmpty()
		o.now = o.now.Add(5 * time.Hour)
		o.work()
		if n := each(o.courier.took())["x@a.example"]; n != 1 {
			t.Errorf("%d attempts", n)
		}
	}
}
