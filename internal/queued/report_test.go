package queued

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/queue"
	"postamt/internal/remote"
)

// The attempt that failed is made again after a crash between the report and the mark: one report.
func TestReportOnce(t *testing.T) {
	o := newOffice(t)
	id := o.put(sender, "gone@elsewhere.example", "bob@example.org")
	for range 3 {
		m := o.message(id, true)
		m.results[0] = result{kind: remote.Perm, reply: perm.Reply}
		m.results[1] = result{kind: remote.Done, reply: done.Reply, local: true}
		if err := o.s.report(m, o.now, false); err != nil {
			t.Fatal(err)
		}
		if len(m.spawned) != 1 || m.spawned[0] != id.Derive("report", "failure", "gone@elsewhere.example") {
			t.Errorf("reports %v", m.spawned)
		}
		m.file.Close()
		o.crash()
	}
	if ids := o.queued(); len(ids) != 2 {
		t.Errorf("%v in the queue, want the message and one report", ids)
	}
	o.courier.script = by(map[string]remote.Outcome{"gone@elsewhere.example": perm}, done)
	o.scan()
	o.work()
	if n := len(reports(o.courier.took())); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
	o.wantEmpty()
}

// A report is sent when what it tells of is recorded on the disk: the power may fail afterwards, and it is not told again.
func TestReportAfterTheRecord(t *testing.T) {
	for name, c := range map[string]struct {
		rcpts []string
		step  durable.Op
	}{
		"removed":            {[]string{"gone@elsewhere.example"}, durable.OpSyncDir},
		"removed, success":   {[]string{"bob@example.org SUCCESS"}, durable.OpSyncDir},
		"one waits":          {[]string{"gone@elsewhere.example", "later@elsewhere.example"}, durable.OpDatasync},
		"one waits, success": {[]string{"bob@example.org SUCCESS", "later@elsewhere.example"}, durable.OpDatasync},
	} {
		o := newOffice(t)
		o.courier.script = by(map[string]remote.Outcome{"gone@elsewhere.example": perm, "later@elsewhere.example": temp}, done)
		o.q.Close()
		var steps []durable.Op // since the last message was written
		q, err := queue.Open(o.dir, queue.Options{Ops: &durable.Ops{Fault: func(op durable.Op, _ string) error {
			if op == durable.OpCreate {
				steps = nil
			}
			steps = append(steps, op)
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		o.q = q
		o.start()
		sent := 0
		o.courier.before = func(to Destination) {
			if to.Domain != "sender.example" {
				return
			}
			if sent++; !slices.Contains(steps, c.step) {
				t.Errorf("%s: a report is sent after %v", name, steps)
			}
		}
		id := o.send(sender, c.rcpts...)
		if sent != 1 {
			t.Errorf("%s: %d reports", name, sent)
		}
		os.Remove(o.path(id))
		o.q.ForgetLog(id)
	}
}

// Q10: after a crash between a child, or a report, and the mark of what it follows from, the scan may come upon either first.
// The one that follows waits: it would be sent, and be gone, and the other would make it again.
func TestWhatFollowsWaits(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: x@elsewhere.example\n")
	list := o.put(sender, "team@example.org", "gone@elsewhere.example")
	m := o.message(list, true)
	o.s.routeAll(m)
	m.results[1] = result{kind: remote.Perm, reply: perm.Reply}
	if err := o.s.report(m, o.now, false); err != nil {
		t.Fatal(err)
	}
	m.file.Close()
	o.crash()
	o.courier.script = by(map[string]remote.Outcome{"gone@elsewhere.example": perm}, done)
	for _, id := range m.spawned {
		o.s.index.add(id, o.now, true)
		o.one()
	}
	if calls := o.courier.took(); len(m.spawned) != 2 || len(calls) > 0 {
		t.Errorf("of %v were sent before what they follow from: %+v", m.spawned, calls)
	}
	o.scan()
	o.work()
	calls := o.courier.took()
	o.wantCalls("all", each(calls), map[string]int{"x@elsewhere.example": 1, "gone@elsewhere.example": 1, sender: 1})
	o.wantEmpty()
}

// There is no room for the report: the failure is not recorded either.
func TestReportCannotBeQueued(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"gone@elsewhere.example": perm}, done)
	id := o.put(sender, "gone@elsewhere.example", "x@elsewhere.example")
	report := o.path(id.Derive("report", "failure", "gone@elsewhere.example"))
	if err := os.Mkdir(report, 0o700); err != nil { // in its way
		t.Fatal(err)
	}
	o.s.Wake(id)
	o.work()
	o.wantStates(id, "-D")
	for _, dir := range []string{report, o.dir + "/corrupt"} {
		os.RemoveAll(dir)
	}
	os.Mkdir(o.dir+"/corrupt", 0o700)
	o.now = o.now.Add(o.opt.Retry.Min)
	o.work()
	calls := o.courier.took()
	if n := len(reports(calls)); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
	if n := each(calls)["x@elsewhere.example"]; n != 1 {
		t.Errorf("sent %d times to the one who had it", n)
	}
	o.wantEmpty()
}

func TestR24R25_Notify(t *testing.T) {
	withDSN := done
	withDSN.DSN = true
	for _, c := range []struct {
		rcpt    string
		outcome remote.Outcome
		action  string // of the report; "": none
	}{
		{"x@elsewhere.example", perm, "failed"},
		{"x@elsewhere.example FAILURE,DELAY", perm, "failed"},
		{"x@elsewhere.example NEVER", perm, ""},
		{"x@elsewhere.example SUCCESS", perm, ""},
		{"x@elsewhere.example DELAY", perm, ""},
		{"x@elsewhere.example", done, ""},
		{"x@elsewhere.example FAILURE", done, ""},
		{"x@elsewhere.example SUCCESS", done, "relayed"},
		{"x@elsewhere.example SUCCESS", withDSN, ""}, // the next host's business
		{"bob@example.org SUCCESS,FAILURE", done, "delivered"},
		{"bob@example.org SUCCESS", withDSN, "delivered"},
		{"bob@example.org NEVER", done, ""},
		{"nobody@example.org", done, "failed"},
		{"nobody@example.org NEVER", done, ""},
	} {
		o := newOffice(t)
		addr, _, _ := strings.Cut(c.rcpt, " ")
		o.courier.script = by(map[string]remote.Outcome{addr: c.outcome}, done)
		o.send(sender, c.rcpt)
		r := reports(o.courier.took())
		if c.action == "" && len(r) > 0 || c.action != "" && (len(r) != 1 || !strings.Contains(r[0].body, "Action: "+c.action)) {
			t.Errorf("%s, %v: reports %+v, want %q", c.rcpt, c.outcome.Kind, r, c.action)
		}
		o.wantEmpty()
	}
}

// One report names at most a thousand; the others have their own.
func TestManyFailures(t *testing.T) {
	o := newOffice(t)
	e := queue.Envelope{From: sender}
	for i := range 1500 {
		e.Rcpts = append(e.Rcpts, queue.Rcpt{Addr: fmt.Sprintf("nobody%d@example.org", i)})
	}
	o.s.Wake(o.putEnvelope(e))
	o.work()
	named := 0
	r := reports(o.courier.took())
	for _, c := range r {
		named += strings.Count(c.body, "Final-Recipient:")
	}
	if len(r) != 2 || named != 1500 {
		t.Errorf("%d reports that name %d", len(r), named)
	}
	o.wantEmpty()
}

// wait lets the clock run to the next attempt, and makes it.
func (o *office) wait(id queue.ID) bool {
	if o.states(id) == "" {
		return false
	}
	o.now = o.mtime(id)
	o.work()
	return true
}

func TestQ14_FiveDays(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"x@elsewhere.example": temp, "bob@example.org": temp}, done)
	begun := o.now
	id := o.send(sender, "x@elsewhere.example", "bob@example.org NEVER")
	var warned, bounced []time.Duration
	attempts := 0
	for more := true; more; {
		for _, c := range o.courier.took() {
			switch {
			case !c.tx.From.IsNull():
				attempts++
			case strings.Contains(c.body, "Action: delayed"):
				warned = append(warned, o.now.Sub(begun))
			case strings.Contains(c.body, "Action: failed"):
				bounced = append(bounced, o.now.Sub(begun))
			default:
				t.Errorf("report: %s", c.body)
			}
			if c.tx.From.IsNull() && strings.Contains(c.body, "bob@") {
				t.Error("it names one who asked for none")
			}
		}
		if attempts%7 == 3 {
			o.crash() // what a crash forgets does not matter
			o.scan()
		}
		before := o.now
		if more = o.wait(id); more && o.now.Sub(before) > o.opt.Retry.Max+time.Second {
			t.Errorf("%v without an attempt", o.now.Sub(before))
		}
	}
	if len(warned) != 1 || warned[0] < warnAfter || warned[0] > warnAfter+o.opt.Retry.Max {
		t.Errorf("warned after %v", warned)
	}
	if len(bounced) != 1 || bounced[0] < expire || bounced[0] > expire+time.Minute {
		t.Errorf("bounced after %v", bounced)
	}
	if attempts < 2*30 || attempts > 2*60 {
		t.Errorf("%d transactions in five days", attempts)
	}
	o.wantEmpty()
}

// A message whose log is longer than anybody reads is warned of once and expires all the same.
func TestQ14_ManyRecipients(t *testing.T) {
	o := newOffice(t)
	o.courier.script = func(_ Destination, rcpt string) remote.Outcome {
		if rcpt == sender {
			return done
		}
		r := temp
		reply := *temp.Reply
		reply.Lines = []string{strings.Repeat(rcpt+"+", 25)}
		r.Reply = &reply
		return r
	}
	e := queue.Envelope{From: sender}
	for i := range 300 {
		e.Rcpts = append(e.Rcpts, queue.Rcpt{Addr: fmt.Sprintf("user%d@elsewhere.example", i)})
	}
	begun := o.now
	id := o.putEnvelope(e)
	o.s.Wake(id)
	o.work()
	warned, bounced := 0, 0
	for more := true; more; more = o.wait(id) {
		for _, c := range reports(o.courier.took()) {
			if strings.Contains(c.body, "Action: delayed") {
				warned++
			} else {
				bounced++
			}
		}
		if o.now.Sub(begun) > 2*expire {
			t.Fatal("it does not expire")
		}
	}
	bounced += len(reports(o.courier.took()))
	if warned != 1 || bounced != 1 {
		t.Errorf("%d warnings, %d reports of failure", warned, bounced)
	}
	o.wantEmpty()
}

func TestQ12_ClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{10 * 365 * 24 * time.Hour, -24 * time.Hour, -10 * time.Minute} {
		t.Run(jump.String(), func(t *testing.T) {
			o := newOffice(t)
			o.courier.script = by(map[string]remote.Outcome{sender: done}, temp)
			var ids []queue.ID
			for i := range 20 {
				ids = append(ids, o.send(sender, fmt.Sprintf("x@d%d.example", i)))
			}
			o.courier.took()
			o.now = o.now.Add(jump)
			o.work()
			o.scan()
			o.work()
			first := len(o.courier.took())
			// By a running clock every message has its turn within the longest interval.
			tried := map[string]int{}
			bounced := 0
			for range int(o.opt.Retry.Max/time.Minute) + 1 {
				o.now = o.now.Add(time.Minute)
				o.work()
				calls := o.courier.took()
				for _, c := range calls {
					if strings.Contains(c.body, "Action: failed") {
						bounced++
					}
				}
				for r, n := range each(calls) {
					tried[r] += n
				}
			}
			delete(tried, sender)
			if bounced > 0 {
				t.Errorf("%d messages were returned", bounced)
			}
			if len(tried) != len(ids) {
				t.Errorf("%d of %d messages were tried in %v (and %d at once)", len(tried), len(ids), o.opt.Retry.Max, first)
			}
			for _, id := range ids {
				if next := o.mtime(id).Sub(o.now); next > o.opt.Retry.Max+time.Second {
					t.Errorf("next attempt in %v", next)
				}
			}
			for _, id := range ids {
				os.Remove(o.path(id))
			}
			o.now = o.now.Add(o.opt.Retry.Max + time.Minute)
			o.work()
		})
	}
}
