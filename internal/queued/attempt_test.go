package queued

import (
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
)

func TestDelivered(t *testing.T) {
	o := newOffice(t)
	id := o.send(sender, "bob@example.org", "carol@example.org", "x@elsewhere.example")
	o.wantStates(id, "")
	calls := o.courier.took()
	if len(calls) != 2 {
		t.Fatalf("%d transactions, want one to the agent and one to the other host", len(calls))
	}
	for _, c := range calls {
		if c.to.Local != (len(c.rcpts) == 2) || c.suspect || c.tx.QID != string(id) || !strings.Contains(c.body, string(id)) {
			t.Errorf("to %v: %+v", c.to, c)
		}
	}
	o.wantEmpty()
}

func TestDeferred(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(temp)
	id := o.send(sender, "bob@example.org")
	want := o.now
	for attempt, wait := range []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute} {
		want = want.Add(wait)
		if got := o.mtime(id); !got.Equal(want) {
			t.Errorf("attempt %d: next at %v, want %v", attempt+1, got.Sub(o.now), want.Sub(o.now))
		}
		if got := o.next(); got != wait {
			t.Errorf("attempt %d: the index waits for %v, want %v", attempt+1, got, wait)
		}
		o.s.index.add(id, want, false) // next took it
		o.now = want
		if n := len(o.courier.took()); n != 1 {
			t.Errorf("attempt %d: %d transactions", attempt+1, n)
		}
		o.work()
	}
	notes, err := o.q.ReadLog(id)
	if err != nil {
		t.Fatal(err)
	}
	deferred := 0
	for _, n := range notes {
		if n.Event == "deferred" {
			deferred++
			if n.Rcpt != "bob@example.org" || n.Status != "4.2.0" || !strings.Contains(n.Text, "later") {
				t.Errorf("note %+v", n)
			}
		}
	}
	if deferred != 4 {
		t.Errorf("%d notes, want one for each of 4 attempts", deferred)
	}
	if log := o.log.String(); !strings.Contains(log, "attempt=4") {
		t.Error("no fourth attempt in the log")
	}
	o.courier.script = always(done)
	o.now = o.mtime(id)
	o.work()
	o.wantEmpty()
	if _, err := os.Stat(o.dir + "/log/" + string(id)); err == nil {
		t.Error("the message's log is left")
	}
}

func TestR11_EachRecipientItsOwn(t *testing.T) {
	o := newOffice(t)
	o.courier.script = by(map[string]remote.Outcome{"no@elsewhere.example": perm, "later@elsewhere.example": temp}, done)
	id := o.send(sender, "yes@elsewhere.example", "later@elsewhere.example", "no@elsewhere.example")
	o.wantStates(id, "D-F")
	for _, line := range []string{": delivered rcpt=<yes@", ": deferred rcpt=<later@", ": failed rcpt=<no@"} {
		if n := strings.Count(o.log.String(), string(id)+line); n != 1 {
			t.Errorf("%q is %d times in the log:\n%s", line, n, o.log.String())
		}
	}
	calls := o.courier.took()
	r := reports(calls)
	if len(r) != 1 || r[0].rcpts[0] != sender {
		t.Fatalf("reports: %+v", r)
	}
	if text := r[0].body; strings.Count(text, "Final-Recipient") != 1 || !strings.Contains(text, "no@elsewhere.example") || strings.Contains(text, "later@") {
		t.Errorf("the report names others:\n%s", text)
	}
	// R12: the next attempt is for the third one alone.
	o.now = o.mtime(id)
	o.courier.script = always(done)
	o.work()
	o.wantCalls("second attempt", each(o.courier.took()), map[string]int{"later@elsewhere.example": 1})
	o.wantEmpty()
}

func TestR12_TemporaryAfterTheDot(t *testing.T) {
	o := newOffice(t)
	after := temp
	after.Stage = remote.StageData
	o.courier.script = by(map[string]remote.Outcome{"b@two.example": after, "c@two.example": after}, done)
	id := o.send(sender, "a@one.example", "b@two.example", "c@two.example")
	o.wantStates(id, "D--")
	o.courier.took()
	o.crash()
	o.now = o.mtime(id)
	o.scan()
	o.work()
	o.wantStates(id, "D--")
	o.wantCalls("after a crash", each(o.courier.took()), map[string]int{"b@two.example": 1, "c@two.example": 1})
}

func TestQ15_NoReportAboutAReport(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(perm)
	o.send("", "gone@elsewhere.example")
	if calls := o.courier.took(); len(calls) != 1 {
		t.Errorf("%d transactions, want the message alone", len(calls))
	}
	if log := o.log.String(); !strings.Contains(log, "discarded") || !strings.Contains(log, "null") {
		t.Errorf("not logged:\n%s", log)
	}
	o.wantEmpty()

	// The report of an ordinary message that cannot be delivered either.
	o.send(sender, "gone@elsewhere.example")
	if n := len(reports(o.courier.took())); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
	o.wantEmpty()
}

func TestQ16_MarkedThenCrash(t *testing.T) {
	o := newOffice(t)
	id := o.put(sender, "x@elsewhere.example", "bob@example.org")
	m := o.message(id, false)
	if err := m.file.Mark(map[int]byte{0: queue.Done, 1: queue.Done}, true); err != nil {
		t.Fatal(err)
	}
	m.file.Close()
	o.crash() // before the unlink
	o.scan()
	o.work()
	if calls := o.courier.took(); len(calls) != 0 {
		t.Errorf("sent again: %+v", calls)
	}
	o.wantEmpty()
}

// A removal that fails must not send the message again at every attempt.
func TestRemoveFails(t *testing.T) {
	o := newOffice(t)
	id := o.put(sender, "x@elsewhere.example")
	if os.Getuid() == 0 {
		// Root may unlink anything, but not a name that is a directory.
		o.courier.before = func(Destination) {
			os.Rename(o.path(id), o.dir+"/aside")
			os.Mkdir(o.path(id), 0o700)
		}
	} else {
		shard := o.dir + "/active/" + string(id[len(id)-1:])
		o.courier.before = func(Destination) { os.Chmod(shard, 0o500) }
		defer os.Chmod(shard, 0o700)
	}
	o.s.Wake(id)
	o.work()
	if os.Getuid() == 0 {
		os.Remove(o.path(id))
		os.Rename(o.dir+"/aside", o.path(id))
	} else {
		os.Chmod(o.dir+"/active/"+string(id[len(id)-1:]), 0o700)
	}
	o.wantStates(id, "D")
	o.courier.before = nil
	o.courier.took()
	o.now = o.now.Add(o.opt.Retry.Min)
	o.work()
	if calls := o.courier.took(); len(calls) != 0 {
		t.Errorf("sent again: %+v", calls)
	}
	o.wantEmpty()
}

// Two jobs: what one has sent is recorded while the other still runs.
func TestRecordedBeforeTheOthersEnd(t *testing.T) {
	o := newOffice(t)
	hang, hanging := make(chan struct{}), make(chan struct{})
	o.courier.before = func(to Destination) {
		if to.Domain == "slow.example" {
			close(hanging)
			<-hang
		}
	}
	id := o.put(sender, "a@fast.example", "b@slow.example")
	sent := make(chan struct{})
	jobDone := o.s.sched.done
	o.s.sched.done = func(j *job, out []remote.Outcome) {
		jobDone(j, out)
		if j.rcpts[0] == 0 {
			close(sent)
		}
	}
	o.s.attempt(task{id: id})
	<-hanging
	<-sent
	o.wantStates(id, "D-")
	close(hang)
	o.s.sched.wg.Wait()
	o.wantStates(id, "")
}

func TestQ18_HeldDuringTheAttempt(t *testing.T) {
	o := newOffice(t)
	for _, c := range []struct {
		name    string
		outcome remote.Outcome
		want    string
	}{{"done", done, "D"}, {"later", temp, "-"}} {
		t.Run(c.name, func(t *testing.T) {
			o.courier.script = always(c.outcome)
			id := o.put(sender, "x@"+c.name+".example")
			o.courier.before = func(Destination) {
				if err := o.q.Hold(id); err != nil {
					t.Error(err)
				}
			}
			o.s.Wake(id)
			o.work()
			o.courier.before = nil
			o.wantStates(id, "") // in active
			o.courier.took()
			o.now = o.now.Add(time.Hour)
			o.scan()
			o.work()
			if n := len(o.courier.took()); n != 0 {
				t.Errorf("%d attempts while it is held", n)
			}
			if err := o.q.Release(id); err != nil {
				t.Fatal(err)
			}
			o.wantStates(id, c.want)
			o.courier.script = always(done)
			o.now = o.now.Add(o.opt.Retry.Max)
			o.scan()
			o.work()
			if n := len(o.courier.took()); (n == 0) != (c.want == "D") {
				t.Errorf("%d attempts after the release", n)
			}
			o.wantEmpty()
		})
	}
}

func TestQ18_DeletedDuringTheAttempt(t *testing.T) {
	for name, outcome := range map[string]remote.Outcome{"done": done, "later": temp, "never": perm} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.courier.script = func(to Destination, rcpt string) remote.Outcome {
				if rcpt == sender {
					return done
				}
				return outcome
			}
			id := o.put(sender, "x@elsewhere.example")
			o.courier.before = func(to Destination) {
				if to.Domain == "elsewhere.example" {
					os.Remove(o.path(id))
				}
			}
			o.s.Wake(id)
			o.work()
			if left, _ := os.ReadDir(o.dir + "/log"); len(left) > 0 || o.s.index.len() > 0 {
				t.Errorf("left of it: %v in log, %d entries", left, o.s.index.len())
			}
			o.now = o.now.Add(o.opt.Retry.Max)
			o.work()
			if n := each(o.courier.took())["x@elsewhere.example"]; n != 1 {
				t.Errorf("%d attempts, want 1", n)
			}
			o.wantEmpty() // and queuetest.Check finds no log without a message
		})
	}
}

// A message deleted between attempts takes its log with it.
func TestQ18_DeletedBetweenAttempts(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(temp)
	id := o.send(sender, "x@elsewhere.example")
	os.Remove(o.path(id))
	o.now = o.now.Add(o.opt.Retry.Max)
	o.work()
	if _, err := os.Stat(o.dir + "/log/" + string(id)); err == nil {
		t.Error("its log is left")
	}
}

func TestQ18_Touched(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(temp)
	id := o.send(sender, "x@elsewhere.example")
	o.courier.took()
	o.now = o.now.Add(time.Minute)
	if err := os.Chtimes(o.path(id), o.now, o.now); err != nil {
		t.Fatal(err)
	}
	o.scan()
	o.work()
	if n := len(o.courier.took()); n != 1 {
		t.Errorf("%d attempts after touch and scan, want 1", n)
	}
	if n := o.s.index.len(); n != 1 {
		t.Errorf("%d entries for one message", n)
	}
	// During an attempt: the attempt's own time holds.
	o.now = o.mtime(id)
	o.courier.before = func(Destination) { os.Chtimes(o.path(id), o.now, o.now) }
	o.work()
	if !o.mtime(id).After(o.now) {
		t.Error("a touch during the attempt makes the next one due at once")
	}
}

// The time in the index is not before the time in the file: else the file would be read over and over.
func TestNoEarlyAttempt(t *testing.T) {
	o := newOffice(t)
	o.now = o.now.Add(987654321 * time.Nanosecond)
	o.s.start = o.now
	o.courier.script = always(temp)
	id := o.send(sender, "x@elsewhere.example")
	o.now = o.mtime(id).Add(-time.Nanosecond)
	if o.one() {
		t.Error("taken up before its time")
	}
	o.now = o.mtime(id)
	o.courier.took()
	o.work()
	if n := len(o.courier.took()); n != 1 {
		t.Errorf("%d attempts when due, want 1", n)
	}
	// A person's touch has more digits than the index.
	at := o.now.Add(time.Minute + 123456789*time.Nanosecond)
	if err := os.Chtimes(o.path(id), at, at); err != nil {
		t.Fatal(err)
	}
	o.scan()
	o.now = at.Add(-time.Nanosecond)
	if o.one() {
		t.Error("taken up before the time of a touch")
	}
	o.now = at.Add(time.Microsecond)
	if !o.one() || len(o.courier.took()) != 1 {
		t.Error("not taken up at the time of a touch")
	}
}

func TestSuspect(t *testing.T) {
	o := newOffice(t)
	old := o.put(sender, "bob@example.org")
	o.now = o.now.Add(time.Second)
	o.crash()
	found := o.put(sender, "bob@example.org")
	o.scan()
	o.work()
	for _, c := range o.courier.took() {
		if !c.suspect {
			t.Errorf("%s, found by the scan, is not suspect", c.tx.QID)
		}
	}
	o.wantStates(old, "")
	o.wantStates(found, "")

	// An announcement of what was accepted before the start.
	old = o.put(sender, "bob@example.org")
	o.now = o.now.Add(time.Second)
	o.crash()
	o.s.Wake(old)
	o.work()
	if c := o.courier.took(); len(c) != 1 || !c[0].suspect {
		t.Errorf("older than the start and not suspect: %+v", c)
	}

	// No answer to the end of the message; an answer would leave it as it is. The agent may be gone by the second look.
	gone := dead
	gone.MaybeDelivered = true
	for _, c := range []struct {
		outcome remote.Outcome
		want    bool
	}{{lost, true}, {temp, false}, {gone, true}, {dead, false}} {
		o.courier.script = always(c.outcome)
		id := o.send(sender, "bob@example.org")
		o.courier.took()
		o.now = o.now.Add(o.opt.Retry.Min + time.Second)
		o.courier.script = always(done)
		o.s.Wake(id) // an announcement, by whomever, does not make it less so
		o.work()
		if calls := o.courier.took(); len(calls) != 1 || calls[0].suspect != c.want {
			t.Errorf("after %v: %+v, want suspect %v", c.outcome.Reply, calls, c.want)
		}
	}
	if !strings.Contains(o.log.String(), "may be delivered twice") {
		t.Error("R10: not logged")
	}
}

// The delivery agent is away: nothing is recorded, nothing is said to the sender, and however often the directory is
// read meanwhile, the message waits in one place.
func TestAgentAway(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(dead)
	id := o.send(sender, "bob@example.org")
	for range 50 {
		o.now = o.now.Add(o.opt.Retry.Min)
		o.scan()
		o.work()
		if n := o.s.index.len(); n != 1 {
			t.Fatalf("%d entries for one message", n)
		}
	}
	if notes, _ := o.q.ReadLog(id); len(notes) > 0 {
		t.Errorf("recorded: %+v", notes)
	}
	o.courier.took()
	o.courier.script = always(done)
	o.now = o.now.Add(o.opt.Retry.Min)
	o.work()
	o.wantEmpty()
}

func TestDamagedAndForeign(t *testing.T) {
	o := newOffice(t)
	id := o.put(sender, "x@elsewhere.example")
	if err := os.Truncate(o.path(id), 100); err != nil {
		t.Fatal(err)
	}
	o.s.Wake(id)
	o.s.Wake(queue.NewID(o.now)) // names nothing
	o.work()
	o.wantEmpty()
	if n := o.s.index.len(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	if err := os.RemoveAll(o.dir + "/corrupt"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(o.dir+"/corrupt", 0o700); err != nil {
		t.Fatal(err)
	}
	if calls := o.courier.took(); len(calls) != 0 {
		t.Errorf("sent: %+v", calls)
	}
}

// A message that is being written is left to its writer; what a crash left is finished or removed by the scan.
func TestScanWithWriters(t *testing.T) {
	o := newOffice(t)
	e := queue.Envelope{ID: queue.NewID(o.now), Arrived: o.now.UTC(), From: sender, Rcpts: []queue.Rcpt{{Addr: "x@elsewhere.example"}}}
	w, err := o.q.Create(&e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 200<<10)); err != nil { // more than is kept in memory
		t.Fatal(err)
	}
	whole := o.put(sender, "x@elsewhere.example") // left by a crash after the sync
	if err := os.Chmod(o.path(whole), 0o760); err != nil {
		t.Fatal(err)
	}
	part := o.put(sender, "x@elsewhere.example") // and in the middle
	if err := os.Chmod(o.path(part), 0o760); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.path(part), 100); err != nil {
		t.Fatal(err)
	}
	o.s.Wake(e.ID)
	o.scan()
	o.work()
	if c := o.courier.took(); len(c) != 1 || c[0].tx.QID != string(whole) || !c[0].suspect {
		t.Errorf("sent: %+v, want the adopted one alone", c)
	}
	if ids := o.queued(); len(ids) != 1 || ids[0] != e.ID {
		t.Errorf("left: %v, want the one being written", ids)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	o.s.Wake(e.ID)
	o.work()
	o.wantEmpty()
}
