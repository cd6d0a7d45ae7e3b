package queued

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/remote"
)

func TestExpand(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: bob, carol, x@elsewhere.example\n")
	id := o.send(sender, "team@example.org")
	child := id.Derive("expand", "team@example.org")
	calls := o.courier.took()
	o.wantCalls("team", each(calls), map[string]int{"bob@example.org": 1, "carol@example.org": 1, "x@elsewhere.example": 1})
	for _, c := range calls {
		if c.tx.QID != string(id) || c.suspect || c.tx.From.String() != sender {
			t.Errorf("from %s as %s, suspect %v: the copies of one message bear its id", c.tx.From, c.tx.QID, c.suspect)
		}
	}
	if !strings.Contains(o.log.String(), string(child)) {
		t.Error("the child's id is not the derived one")
	}
	o.wantEmpty()
}

// A parent that goes on is marked before its children are attempted.
func TestExpandedIsMarkedFirst(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: bob, x@elsewhere.example\n")
	o.courier.script = by(map[string]remote.Outcome{"slow@slow.example": temp}, done)
	id := o.put(sender, "team@example.org SUCCESS,FAILURE", "slow@slow.example")
	o.courier.before = func(to Destination) { o.wantStates(id, "X-") }
	o.s.Wake(id)
	o.work()
	if r := reports(o.courier.took()); len(r) != 1 || !strings.Contains(r[0].body, "expanded") {
		t.Errorf("reports: %+v", r)
	}
	o.crash()
	o.scan()
	o.now = o.mtime(id)
	o.work()
	o.wantCalls("after a crash", each(o.courier.took()), map[string]int{"slow@slow.example": 1})
}

// D13: a crash between the child and the mark of its parent; meanwhile the alias is edited.
func TestD13_EditedAndCrashed(t *testing.T) {
	o := newOffice(t)
	o.aliases("one: bob, x@elsewhere.example\ntwo: dave\n")
	id := o.put(sender, "one@example.org", "two@example.org")
	m := o.message(id, false)
	o.s.routeAll(m) // both children are there, nothing is marked
	m.file.Close()
	os.Remove(o.path(id.Derive("expand", "two@example.org"))) // the second is not
	o.aliases("one: carol\ntwo: carol, dave\n")
	o.crash()
	o.s.Wake(id)
	o.one() // the parent before its child
	o.scan()
	o.work()
	// Those whom the child names, once; and carol, who is left to the second alias, is not missed.
	o.wantCalls("all", each(o.courier.took()), map[string]int{
		"bob@example.org": 1, "x@elsewhere.example": 1, "carol@example.org": 1, "dave@example.org": 1,
	})
	o.wantEmpty()
}

func TestSecondExpansionAdopts(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: bob, x@elsewhere.example\n")
	id := o.put(sender, "team@example.org")
	for range 3 {
		m := o.message(id, true)
		o.s.routeAll(m)
		m.file.Close()
		o.crash()
	}
	if ids := o.queued(); len(ids) != 2 {
		t.Errorf("%v in the queue, want the parent and one child", ids)
	}
	// The same with a child that a crash cut short.
	child := id.Derive("expand", "team@example.org")
	if err := os.Truncate(o.path(child), 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(o.path(child), 0o760); err != nil {
		t.Fatal(err)
	}
	o.scan()
	o.work()
	o.wantCalls("team", each(o.courier.took()), map[string]int{"bob@example.org": 1, "x@elsewhere.example": 1})
	o.wantEmpty()
}

// A child that is held stays held, and is not made a second time.
func TestHeldChildIsAdopted(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: bob\n")
	id := o.put(sender, "team@example.org")
	m := o.message(id, false)
	o.s.routeAll(m)
	m.file.Close()
	if err := o.q.Hold(id.Derive("expand", "team@example.org")); err != nil {
		t.Fatal(err)
	}
	o.crash()
	o.scan()
	o.work()
	if calls := o.courier.took(); len(calls) != 0 {
		t.Errorf("sent: %+v", calls)
	}
	o.wantEmpty()
}

func TestD12_DirectAndByAliases(t *testing.T) {
	o := newOffice(t)
	o.aliases("one: bob, x@elsewhere.example, carol\ntwo: bob, X@elsewhere.example, x@ELSEWHERE.example, dave\nnobody: bob\n")
	o.send(sender, "bob@example.org", "one@example.org", "two@example.org", "nobody@example.org", "BOB@example.org")
	n := each(o.courier.took())
	if n["bob@example.org"]+n["BOB@example.org"] > 2 || n["carol@example.org"] != 1 || n["dave@example.org"] != 1 || n["x@elsewhere.example"] != 1 {
		t.Errorf("sent %v", n)
	}
	o.wantEmpty()
}

// One of two aliases cannot be expanded now: the other must not count on it.
func TestD12_OneAliasWaits(t *testing.T) {
	o := newOffice(t)
	o.aliases("one: bob, :include:/list\ntwo: bob, carol\n")
	id := o.send(sender, "one@example.org", "two@example.org")
	o.wantStates(id, "-X")
	o.wantCalls("two", each(o.courier.took()), map[string]int{"bob@example.org": 1, "carol@example.org": 1})
	o.lists["/list"] = "dave\n"
	o.now = o.mtime(id)
	o.work()
	n := each(o.courier.took())
	if n["dave@example.org"] != 1 {
		t.Errorf("sent %v, and dave not", n)
	}
	o.wantEmpty()
}

func TestD01_AliasThatNamesItself(t *testing.T) {
	o := newOffice(t)
	o.aliases("bob: \\bob, x@elsewhere.example\ncarol: carol, y@elsewhere.example\na: b\nb: a\n")
	o.send(sender, "bob@example.org", "carol@example.org")
	o.wantCalls("all", each(o.courier.took()), map[string]int{
		"bob@example.org": 1, "x@elsewhere.example": 1, "carol@example.org": 1, "y@elsewhere.example": 1,
	})
	o.send(sender, "a@example.org")
	if r := reports(o.courier.took()); len(r) != 1 || !strings.Contains(r[0].body, "5.4.6") {
		t.Errorf("a loop: %+v", r)
	}
	o.wantEmpty()
}

func TestListOwner(t *testing.T) {
	o := newOffice(t)
	o.aliases("list: gone@elsewhere.example, bob\nowner-list: carol\n")
	o.courier.script = by(map[string]remote.Outcome{"gone@elsewhere.example": perm}, done)
	o.send(sender, "list@example.org SUCCESS,FAILURE")
	r := reports(o.courier.took())
	to := map[string]string{}
	for _, c := range r {
		to[c.rcpts[0]] = c.body
	}
	// RFC 3461 section 5.2.7.1: delivered, as far as the sender is concerned; failures are the owner's.
	if len(r) != 2 || !strings.Contains(to[sender], "Action: delivered") || !strings.Contains(to["carol@example.org"], "gone@elsewhere.example") {
		t.Errorf("reports: %v", to)
	}
	// A null sender stays null: no report at all.
	o.send("", "list@example.org")
	for _, c := range o.courier.took() {
		if !c.tx.From.IsNull() || strings.Contains(c.body, "Final-Recipient") {
			t.Errorf("from %s to %v", c.tx.From, c.rcpts)
		}
	}
	o.wantEmpty()
}

// A list within a list or another alias keeps its owner, whose mail is a child of its own.
func TestListWithinAnAlias(t *testing.T) {
	o := newOffice(t)
	o.aliases("list: gone@elsewhere.example, bob\nowner-list: carol\nchain: list\nmix: dave, list, x@elsewhere.example\nall: list, dave\nowner-all: eve@elsewhere.example\n")
	for to, c := range map[string]struct {
		from map[string]string
		told string
	}{
		"chain@example.org": {map[string]string{"gone@elsewhere.example": "carol@example.org", "bob@example.org": "carol@example.org"}, "delivered"},
		"mix@example.org": {map[string]string{"gone@elsewhere.example": "carol@example.org", "bob@example.org": "carol@example.org",
			"dave@example.org": sender, "x@elsewhere.example": sender}, "expanded"},
		"all@example.org": {map[string]string{"gone@elsewhere.example": "carol@example.org", "bob@example.org": "carol@example.org",
			"dave@example.org": "eve@elsewhere.example"}, "delivered"},
	} {
		o.send(sender, to+" SUCCESS,FAILURE")
		calls := o.courier.took()
		got := make(map[string]string)
		for _, k := range calls {
			for _, rcpt := range k.rcpts {
				if !k.tx.From.IsNull() {
					if _, twice := got[rcpt]; twice {
						t.Errorf("to %s: %s gets two copies", to, rcpt)
					}
					got[rcpt] = k.tx.From.String()
				}
			}
		}
		if !maps.Equal(got, c.from) {
			t.Errorf("to %s: senders %v, want %v", to, got, c.from)
		}
		if r := reports(calls); len(r) != 1 || !strings.Contains(r[0].body, "Action: "+c.told) {
			t.Errorf("to %s: reports %+v, want %q", to, r, c.told)
		}
		o.wantEmpty()
	}
}

// A crash between two children of one alias, or behind both, and edits meanwhile: everybody gets the message, nobody two of it. Who was added gets it if not all
// was written.
func TestD13_EditedAndCrashedBetweenTwoChildren(t *testing.T) {
	const before = "mix: list, bob, x@elsewhere.example\nlist: y@elsewhere.example\nowner-list: carol\n"
	for after, added := range map[string]string{
		before: "",
		"mix: list, bob, x@elsewhere.example\nlist: y@elsewhere.example, z@elsewhere.example\nowner-list: carol\n": "z@elsewhere.example",
		"mix: bob, x@elsewhere.example, list\nlist: y@elsewhere.example\nowner-list: carol\n":                      "",
		"mix: bob, list, z@elsewhere.example\nlist: y@elsewhere.example, x@elsewhere.example\nowner-list: carol\n": "z@elsewhere.example",
	} {
		for _, whole := range []bool{true, false} {
			o := newOffice(t)
			o.aliases(before)
			id := o.put(sender, "mix@example.org")
			m := o.message(id, false)
			o.s.routeAll(m)
			m.file.Close()
			if len(o.queued()) != 3 {
				t.Fatalf("%v in the queue, want the parent and two children", o.queued())
			}
			if !whole {
				os.Remove(o.path(id.Derive("expand", "mix@example.org")))
			}
			o.aliases(after)
			o.crash()
			o.s.Wake(id)
			o.one()
			o.scan()
			o.now = o.now.Add(time.Minute)
			o.work()
			want := map[string]int{"bob@example.org": 1, "x@elsewhere.example": 1, "y@elsewhere.example": 1}
			if !whole && added != "" {
				want[added] = 1
			}
			o.wantCalls(after, each(o.courier.took()), want)
			o.wantEmpty()
		}
	}
}

// One child is written, and the next cannot be: nobody gets the message before its parent can be marked.
func TestD13_FailureBetweenTwoChildren(t *testing.T) {
	o := newOffice(t)
	o.aliases("mix: list, bob, x@elsewhere.example\nlist: y@elsewhere.example\nowner-list: carol\n")
	id := o.put(sender, "mix@example.org")
	busy, err := o.q.Create(&queue.Envelope{ID: id.Derive("expand", "mix@example.org"), Origin: id, Arrived: o.now, From: sender, Rcpts: []queue.Rcpt{{State: queue.Pending, Addr: "bob@example.org"}}})
	if err == nil {
		_, err = busy.Write(make([]byte, 1<<20))
	}
	if err != nil {
		t.Fatal(err)
	}
	o.s.Wake(id)
	o.work()
	o.wantStates(id, "-")
	if calls := o.courier.took(); len(calls) != 0 {
		t.Errorf("sent: %+v", calls)
	}
	busy.Abort()
	o.now = o.mtime(id)
	o.work()
	o.wantCalls("then", each(o.courier.took()), map[string]int{"bob@example.org": 1, "x@elsewhere.example": 1, "y@elsewhere.example": 1})
	o.wantEmpty()
}

func TestNotifyOfMembers(t *testing.T) {
	for _, c := range []struct{ alias, notify, member, action string }{
		{"bob", "SUCCESS,FAILURE", "SUCCESS,FAILURE", "delivered"}, // RFC 3461 section 5.2.7.2: one
		{"bob, carol", "SUCCESS,FAILURE", "FAILURE", "expanded"},   // section 5.2.7.3 (c): many
		{"bob, carol", "SUCCESS", "NEVER", "expanded"},
		{"bob, carol", "FAILURE,DELAY", "FAILURE,DELAY", ""},
		{"bob, carol", "NEVER", "NEVER", ""},
		{"bob, carol", "", "", ""},
	} {
		o := newOffice(t)
		o.aliases("team: " + c.alias + "\n")
		o.send(sender, "team@example.org "+c.notify)
		calls := o.courier.took()
		for _, k := range calls {
			if r := k.tx.Rcpts[0]; k.to.Local && r.Notify != c.member {
				t.Errorf("NOTIFY=%s for %s: members get %q, want %q", c.notify, c.alias, r.Notify, c.member)
			}
		}
		r := reports(calls)
		if c.action == "" && len(r) > 0 || c.action != "" && (len(r) != 1 || !strings.Contains(r[0].body, "Action: "+c.action)) {
			t.Errorf("NOTIFY=%s for %s: reports %+v, want %q", c.notify, c.alias, r, c.action)
		}
	}
}

func TestBlackholeIsLogged(t *testing.T) {
	o := newOffice(t)
	o.aliases("nobody: :blackhole:\n")
	id := o.send(sender, "nobody@example.org")
	if log := o.log.String(); !strings.Contains(log, "expanded") || !strings.Contains(log, string(id)) {
		t.Errorf("not a word of it:\n%s", log)
	}
	o.wantEmpty()
}

// What follows from new mail does not wait behind the backlog.
func TestChildrenBeforeTheBacklog(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: carol\n")
	for range 50 {
		o.put(sender, "bob@example.org")
	}
	o.now = o.now.Add(time.Second)
	o.crash()
	o.scan()
	o.s.Wake(o.put(sender, "team@example.org"))
	o.one()
	o.one()
	o.wantCalls("two attempts", each(o.courier.took()), map[string]int{"carol@example.org": 1})
	o.work()
	o.wantEmpty()
}

// A list with a destination for each member is not quadratic work, and each destination gets one transaction.
func TestManyDestinations(t *testing.T) {
	o := newOffice(t)
	e := queue.Envelope{From: sender}
	const n = 20_000
	for i := range n {
		e.Rcpts = append(e.Rcpts, queue.Rcpt{Addr: fmt.Sprintf("a@d%d.example", i%(n/2))})
	}
	id := o.putEnvelope(e)
	m := o.message(id, false)
	defer m.file.Close()
	jobs := o.s.routeAll(m)
	if len(jobs) != n/2 {
		t.Errorf("%d jobs, want %d", len(jobs), n/2)
	}
	for _, j := range jobs {
		if len(j.job.rcpts) != 2 {
			t.Fatalf("%v has %d recipients", j.to, len(j.job.rcpts))
		}
	}
	if limit := o.opt.Limits.Recipients; limit != 10 {
		t.Fatal(limit)
	}
	e.Rcpts = nil
	for i := range 25 {
		e.Rcpts = append(e.Rcpts, queue.Rcpt{Addr: fmt.Sprintf("a%d@one.example", i)})
	}
	m2 := o.message(o.putEnvelope(e), false)
	defer m2.file.Close()
	if jobs := o.s.routeAll(m2); len(jobs) != 3 {
		t.Errorf("25 recipients in %d transactions of 10", len(jobs))
	}
}

// A member that its alias refuses is reported, even if a user has that name; the user's mailbox gets nothing by it.
func TestRefusedMemberHasAUsersName(t *testing.T) {
	o := newOffice(t)
	o.aliases("team: carol, dave\ndave: :fail: 5.7.0 he has left\nring: carol, bob\nbob: loop\nloop: bob\nother: team, dave2\ndave2: \\dave\n")
	for name, status := range map[string]string{"team": "5.7.0 he has left", "ring": "5.4.6"} {
		o.send(sender, name+"@example.org")
		calls := o.courier.took()
		r := reports(calls)
		if len(r) != 1 || !strings.Contains(r[0].body, status) || each(calls)["carol@example.org"] != 1 || len(each(calls)) != 2 {
			t.Errorf("%s: %v, %d reports", name, each(calls), len(r))
		}
	}
	// It keeps nobody else from the mailbox.
	o.send(sender, "team@example.org", "dave2@example.org")
	if calls := o.courier.took(); each(calls)["dave@example.org"] != 1 || len(reports(calls)) != 1 {
		t.Errorf("%v, %d reports", each(calls), len(reports(calls)))
	}
	o.wantEmpty()
}
