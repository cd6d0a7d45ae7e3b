package queued

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postamt/internal/alias"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/smtp"
)

// saysForward is the answer of a delivery agent to a recipient whose user has a forward file that says lines.
func saysForward(lines ...string) remote.Outcome {
	return remote.Outcome{Kind: remote.Perm, Stage: remote.StageRcpt, Reply: &smtp.Reply{Code: 551, Enhanced: smtp.EnhancedCode{5, 1, 6}, Lines: lines}, Peer: peer, Expanded: lines}
}

// forwardFiles makes the courier a delivery agent whose users have forward files. What is for a part of an address (XTARGET) is done.
func (o *office) forwardFiles(files map[string][]string) {
	o.courier.answer = func(to Destination, r remote.Rcpt) remote.Outcome {
		local, _, _ := strings.Cut(r.Addr.Local, "+")
		if lines := files[local]; to.Local && r.Target == "" && lines != nil {
			return saysForward(lines...)
		}
		return done
	}
}

// got counts what was delivered, by address and what of it; what was only told is not.
func got(calls []call) map[string]int {
	n := make(map[string]int)
	for _, c := range calls {
		for i, r := range c.tx.Rcpts {
			if c.out[i].Kind == remote.Done {
				n[strings.TrimSpace(r.Addr.String()+" "+r.Target)]++
			}
		}
	}
	return n
}

func TestForwardFile(t *testing.T) {
	for name, c := range map[string]struct {
		says map[string][]string
		to   string
		want map[string]int
	}{
		"everything": {map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example", "forward:command-1", "forward:file-2", "discard"}}, "bob@example.org",
			map[string]int{"bob@example.org mailbox": 1, "x@elsewhere.example": 1, "bob@example.org forward:command-1": 1, "bob@example.org forward:file-2": 1}},
		"nobody":                          {map[string][]string{"bob": {"discard"}}, "bob@example.org", map[string]int{}},
		"not the alias":                   {map[string][]string{"bob": {`address:\dave@example.org`, `address:\x@elsewhere.example`}}, "bob@example.org", map[string]int{"dave@example.org": 1, "x@elsewhere.example": 1}},
		"himself":                         {map[string][]string{"bob": {"address:bob@example.org", "address:bob+2By@example.org"}}, "bob@example.org", map[string]int{"bob@example.org mailbox": 1}},
		"an alias that he is a member of": {map[string][]string{"bob": {"address:team@example.org"}}, "bob@example.org", map[string]int{"bob@example.org mailbox": 1, "carol@example.org": 1, "y@elsewhere.example": 1}},
		"the same one twice":              {map[string][]string{"bob": {"address:carol@example.org", "address:carol+2Bx@example.org", "address:team@example.org"}}, "bob@example.org", map[string]int{"bob@example.org mailbox": 1, "carol@example.org": 1, "y@elsewhere.example": 1}},
		"from one user to another":        {map[string][]string{"bob": {"address:carol@example.org"}, "carol": {"address:x@elsewhere.example"}}, "bob@example.org", map[string]int{"x@elsewhere.example": 1}},
		"in a circle":                     {map[string][]string{"bob": {"address:carol@example.org"}, "carol": {"address:bob@example.org"}}, "bob@example.org", map[string]int{"bob@example.org mailbox": 1}},
		"in a circle, with a tag":         {map[string][]string{"bob": {"address:carol+2Bb@example.org"}, "carol": {"address:bob+2Bc@example.org"}}, "bob+t@example.org", map[string]int{"bob+c@example.org mailbox": 1}},
		"an alias whose members forward": {map[string][]string{"bob": {"address:x@elsewhere.example"}, "carol": {"mailbox", "forward:all"}}, "team@example.org",
			map[string]int{"x@elsewhere.example": 1, "carol@example.org mailbox": 1, "carol@example.org forward:all": 1, "y@elsewhere.example": 1}},
		"the command of an alias, by two aliases": {map[string][]string{"bob": {"address:run@example.org", "address:run2@example.org"}}, "bob@example.org", map[string]int{"run@example.org " + runTarget: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.aliases("team: bob, carol, y@elsewhere.example\nrun: |cmd\nrun2: |cmd\ndave: z@elsewhere.example\n")
			o.forwardFiles(c.says)
			o.send(sender, c.to)
			calls := o.courier.took()
			o.wantCalls("sent", got(calls), c.want)
			for _, k := range calls { // a slow one must not keep another's result from being recorded
				if k.to.Target != "" && len(k.rcpts) != 1 {
					t.Errorf("%v go together to %v", k.rcpts, k.to)
				}
			}
			o.wantEmpty()
		})
	}
}

// runTarget is the command "cmd" of an alias, as queued names it.
var runTarget = smtp.InAlias + alias.Target{Kind: alias.Pipe, Text: "cmd"}.Name()

// D01, D12: one text in two aliases is one command; what of one address is meant twice is two.
func TestCommandsOfAliases(t *testing.T) {
	o := newOffice(t)
	o.aliases("one: |cmd, |other, /file, bob\ntwo: |cmd, bob\n")
	o.send(sender, "one@example.org", "two@example.org", "one+tag@example.org")
	n := map[string]int{}
	for to, k := range got(o.courier.took()) {
		_, target, _ := strings.Cut(to, " ")
		n[target] += k
	}
	name := func(kind alias.Kind, text string) string {
		return smtp.InAlias + alias.Target{Kind: kind, Text: text}.Name()
	}
	o.wantCalls("sent", n, map[string]int{"": 1, runTarget: 1, name(alias.Pipe, "other"): 1, name(alias.File, "/file"): 1})
	o.wantEmpty()
}

// A forward file of which something cannot be told now waits as a whole, and what cannot be reached ever is reported while others get theirs.
func TestForwardThatCannotBeToldNow(t *testing.T) {
	o := newOffice(t)
	o.aliases("list: :include:/list\nlater: :defer: tomorrow\n")
	for _, say := range []string{"address:list@example.org", "address:later@example.org", "address:not an address", "address:+GG", "something new"} {
		o.forwardFiles(map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example", say}})
		id := o.send(sender, "bob@example.org")
		o.wantStates(id, "-")
		o.wantCalls(say, got(o.courier.took()), map[string]int{})
		o.forwardFiles(map[string][]string{"bob": {"mailbox", "address:nobody@example.org"}})
		o.now = o.mtime(id)
		o.work()
		calls := o.courier.took()
		o.wantCalls(say+", mended", got(calls), map[string]int{"bob@example.org mailbox": 1, sender: 1})
		if r := reports(calls); len(r) != 1 || !strings.Contains(r[0].body, "nobody@example.org") {
			t.Errorf("%s: reports %+v", say, r)
		}
		o.wantEmpty()
	}
}

// What a child of a forward file is like.
func TestForwardedMessage(t *testing.T) {
	o := newOffice(t)
	o.forwardFiles(map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example"}, "carol": {"address:x@elsewhere.example"}})
	o.send("", "bob+t@example.org")
	for _, c := range o.courier.took() {
		head := strings.HasPrefix(c.body, "Delivered-To: bob+t@example.org\r\nSubject: ")
		if !c.tx.From.IsNull() || head != (c.rcpts[0] == "x@elsewhere.example") {
			t.Errorf("from %s to %v: %.100q", c.tx.From, c.rcpts, c.body)
		}
	}
	// RFC 3461 section 5.2.7: to one, the parameters go along; to several, the sender is told that it was expanded, and of failures.
	for to, want := range map[string]struct{ notify, told string }{"carol@example.org": {"SUCCESS,FAILURE", ""}, "bob@example.org": {"FAILURE", "Action: expanded"}} {
		o.send(sender, to+" SUCCESS,FAILURE")
		calls := o.courier.took()
		var notify, told []string
		for _, c := range calls {
			for i, r := range c.tx.Rcpts {
				if r.Addr.String() == "x@elsewhere.example" && c.out[i].Kind == remote.Done {
					notify = append(notify, r.Notify+" "+r.ORcpt)
				}
			}
		}
		for _, r := range reports(calls) {
			if !strings.Contains(r.body, "x@elsewhere.example") { // that it was relayed is another report
				told = append(told, r.body)
			}
		}
		if len(notify) != 1 || notify[0] != want.notify+" rfc822;"+to {
			t.Errorf("%s: the next host is told %q", to, notify)
		}
		if len(told) > 1 || (want.told == "") != (len(told) == 0) || want.told != "" && !strings.Contains(told[0], want.told) {
			t.Errorf("%s: the sender is told %q", to, told)
		}
	}
	o.wantEmpty()
}

// D13: a crash between the child and the mark; then the file says something else. Who is named by the child gets it once, by it; the ids are the same.
// It is so for the recipient of an alias as well, whose message is a child itself.
func TestD13_ForwardEditedAndCrashed(t *testing.T) {
	for _, to := range []string{"bob@example.org", "team@example.org"} {
		for name, then := range map[string][]string{"the same": {"mailbox", "address:x@elsewhere.example"}, "others": {"address:carol@example.org"}, "none": nil} {
			for _, childFirst := range []bool{false, true} {
				o := newOffice(t)
				o.aliases("team: bob\n")
				o.forwardFiles(map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example"}})
				id := o.put(sender, to)
				if to == "team@example.org" {
					o.s.Wake(id)
					o.one()
					id = id.Derive("expand", to)
				}
				m := o.message(id, false)
				m.results[0] = result{kind: remote.Perm, forward: []string{"mailbox", "address:x@elsewhere.example"}, local: true}
				o.s.expandForwards(m)
				before := o.queued()
				m.file.Close()
				if m.results[0].kind != remote.Done || len(before) != 3 {
					t.Fatalf("%v, %v are queued", m.results[0], before)
				}
				o.crash()
				o.forwardFiles(map[string][]string{"bob": then})
				o.scan()
				slices.Sort(before)
				if childFirst { // whichever comes first waits, or does not, for the others
					slices.Reverse(before)
				}
				for _, id := range before {
					if o.s.claim(t.Context(), id, true) {
						o.s.attempt(task{id: id, suspect: true})
						o.s.sched.wg.Wait()
					}
				}
				for range 5 {
					o.work()
					o.now = o.now.Add(o.opt.Retry.Min)
				}
				n := got(o.courier.took())
				if name == "none" {
					// He has no file any more: it is his mailbox, which recognises the copy that the child brings.
					if n["bob@example.org"] != 1 || n["bob@example.org mailbox"] != 1 || n["x@elsewhere.example"] != 1 {
						t.Errorf("%s, then %s: sent %v", to, name, n)
					}
				} else {
					o.wantCalls(to+", then "+name, n, map[string]int{"bob@example.org mailbox": 1, "x@elsewhere.example": 1})
				}
				o.wantEmpty()
			}
		}
	}
}

// Another host is not to send our mail on, whatever it offers: it is not asked to tell.
func TestOnlyTheAgentIsAskedWhatItForwards(t *testing.T) {
	o := newOffice(t)
	o.send(sender, "bob@example.org", "x@elsewhere.example")
	for _, c := range o.courier.took() {
		if c.tx.Expand != c.to.Local {
			t.Errorf("to %v: Expand %v", c.to, c.tx.Expand)
		}
	}
	o.wantEmpty()
}

// The report does not tell strangers what is wrong with a forward file, and where that is; the log does.
func TestReportHidesFiles(t *testing.T) {
	o := newOffice(t)
	o.courier.script = always(remote.Outcome{Kind: remote.Temp, Stage: remote.StageRcpt, Peer: peer,
		Reply: smtp.NewReply(451, "4.3.5", "the forward file of this user cannot be used: /home/bob/.forward: writable by everyone")})
	id := o.send(sender, "bob@example.org")
	for range 1000 {
		if o.states(id) == "" {
			break
		}
		o.now = o.mtime(id)
		o.work()
	}
	r := reports(o.courier.took())
	if len(r) == 0 {
		t.Fatal("no report")
	}
	for _, c := range r {
		if strings.Contains(c.body, "/home/bob") || strings.Contains(c.body, "writable") {
			t.Errorf("the sender is told %s", c.body)
		}
	}
	if !strings.Contains(o.log.String(), "/home/bob/.forward: writable by everyone") {
		t.Error("the log does not say it")
	}
}

// D20: of one command, and of the commands of one user, four run at once, whatever addresses they are reached by; mailboxes do not wait for them, nor
// does more mail for them fill the room for active messages.
func TestD20_CommandsThatHang(t *testing.T) {
	o := newOffice(t)
	o.opt.Active, o.opt.Limits.Local = 40, 20 // ten may wait
	o.start()
	g := newGate()
	o.courier.hang = func(ctx context.Context, to Destination) error {
		if to.Target == "" {
			return nil
		}
		return g.hang(ctx, to)
	}
	var last queue.ID
	for i := range 30 {
		e := queue.Envelope{From: "", Origin: queue.NewID(o.now), Rcpts: []queue.Rcpt{{Addr: fmt.Sprintf("run+%d@example.org", i), Via: "run@example.org", Target: runTarget}}}
		if i%2 > 0 {
			e.Rcpts[0] = queue.Rcpt{Addr: fmt.Sprintf("bob+%d@example.org", i), Via: "bob@example.org", Target: "forward:command-1"}
		}
		last = o.putEnvelope(e)
		if !o.s.claim(t.Context(), last, true) {
			t.Fatal("no room")
		}
		o.s.attempt(task{id: last})
	}
	g.began(t, 8)
	if n := o.s.sched.waiting(); n != 0 {
		t.Errorf("%d have stepped back", n)
	}
	for i := range 30 {
		last = o.putEnvelope(queue.Envelope{From: "", Origin: queue.NewID(o.now), Rcpts: []queue.Rcpt{{Addr: "run@example.org", Via: fmt.Sprintf("%d@example.org", i), Target: runTarget}}})
		if !o.s.claim(t.Context(), last, true) {
			t.Fatal("no room")
		}
		o.s.attempt(task{id: last})
	}
	if n := o.s.sched.waiting(); n != 30 {
		t.Errorf("%d have stepped back, want 30", n)
	}
	id := o.putEnvelope(queue.Envelope{From: "", Origin: queue.NewID(o.now), Rcpts: []queue.Rcpt{{Addr: "bob@example.org", Via: "bob@example.org", Target: smtp.JustMailbox}}})
	o.s.claim(t.Context(), id, true)
	o.s.attempt(task{id: id})
	for o.states(id) != "" { // until the test's own time is over
		time.Sleep(time.Millisecond)
	}
	select {
	case to := <-g.in:
		t.Errorf("one more runs: %v", to)
	default:
	}
	close(g.out)
	o.s.sched.wg.Wait()
	o.courier.hang = nil
	o.work()
	o.wantEmpty()
}

// Two who send their mail to each other: nobody loses what both were sent, whoever answers first.
func TestForwardToEachOther(t *testing.T) {
	for _, c := range []struct {
		says map[string][]string
		to   []string
		want map[string]int
	}{
		{map[string][]string{"bob": {"address:carol@example.org"}, "carol": {"address:bob@example.org"}}, []string{"bob@example.org", "carol@example.org"}, map[string]int{"bob@example.org": 1, "carol@example.org": 1}},
		{map[string][]string{"bob": {"address:carol@example.org"}, "carol": {"address:bob@example.org"}}, []string{"both@example.org"}, map[string]int{"bob@example.org": 1, "carol@example.org": 1}},
		{map[string][]string{"bob": {"address:carol@example.org"}, "carol": {"address:dave@example.org"}, "dave": {"address:bob@example.org"}},
			[]string{"bob@example.org", "carol@example.org", "dave@example.org"}, map[string]int{"bob@example.org": 1, "carol@example.org": 1, "dave@example.org": 1}},
		// What is kept is one copy, by whatever addresses and aliases.
		{map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example"}}, []string{"bob@example.org", "bob+t@example.org"}, map[string]int{"bob@example.org": 1, "x@elsewhere.example": 1}},
		{map[string][]string{"carol": {"address:bob@example.org"}}, []string{"team@example.org"}, map[string]int{"bob@example.org": 1, "y@elsewhere.example": 1}},
	} {
		o := newOffice(t)
		o.aliases("both: bob, carol\nbob: \\bob, y@elsewhere.example\nteam: carol, bob\n")
		if len(c.to) > 1 || c.to[0] == "both@example.org" {
			o.aliases("both: bob, carol\n")
		}
		o.forwardFiles(c.says)
		o.send(sender, c.to...)
		n := map[string]int{}
		for to := range got(o.courier.took()) {
			to, _, _ = strings.Cut(to, " ")
			n[to] = 1 // of one mailbox deliver makes one
		}
		o.wantCalls(strings.Join(c.to, " "), n, c.want)
		o.wantEmpty()
	}
}

// A message that a list has sent is not sent to it again by way of a forward file.
func TestForwardToList(t *testing.T) {
	o := newOffice(t)
	o.aliases("news: :include:/news\n")
	o.lists["/news"] = "#: id news.example.org\nx@elsewhere.example\n"
	o.forwardFiles(map[string][]string{"bob": {"address:news@example.org"}})
	id := o.putText(queue.Envelope{From: sender, Rcpts: []queue.Rcpt{{Addr: "bob@example.org"}}}, "List-Id: News\r\n <News.example.org>\r\nSubject: x\r\n\r\n")
	o.s.Wake(id)
	o.work()
	calls := o.courier.took()
	o.wantCalls("nobody but the sender", got(calls), map[string]int{sender: 1})
	if r := reports(calls); len(r) != 1 || !strings.Contains(r[0].body, "5.4.6") {
		t.Errorf("%+v", r)
	}
	o.wantEmpty()
}

// What a user keeps, and what his command does, does not wait for another host that hangs.
func TestForwardDoesNotWait(t *testing.T) {
	o := newOffice(t)
	o.forwardFiles(map[string][]string{"bob": {"mailbox", "address:x@elsewhere.example"}})
	goOn := make(chan bool)
	o.courier.hang = func(_ context.Context, to Destination) error {
		if to.Domain == "slow.example" {
			<-goOn
		}
		return nil
	}
	id := o.put(sender, "bob@example.org", "y@slow.example")
	o.s.claim(t.Context(), id, false)
	o.s.take(task{id: id})
	for deadline := time.Now().Add(30 * time.Second); o.states(id) != "X-"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the states are %s", o.states(id))
		}
	}
	close(goOn)
	o.s.sched.wg.Wait()
	o.courier.hang = nil
	o.work()
	o.wantCalls("all", got(o.courier.took()), map[string]int{"bob@example.org mailbox": 1, "x@elsewhere.example": 1, "y@slow.example": 1})
	o.wantEmpty()
}

// A child waits for its parent's mark, not for the parent's command.
func TestForwardBesideACommand(t *testing.T) {
	o := newOffice(t)
	o.aliases("bob: \\bob, |cmd\n")
	o.courier.answer = func(to Destination, r remote.Rcpt) remote.Outcome {
		switch {
		case r.Target == "" && to.Local:
			return saysForward("address:x@elsewhere.example")
		case r.Target != "":
			return temp
		}
		return temp
	}
	o.send(sender, "bob@example.org")
	o.courier.took()
	o.crash()
	o.courier.answer = func(to Destination, r remote.Rcpt) remote.Outcome {
		if r.Target != "" {
			return temp
		}
		return done
	}
	o.scan()
	o.now = o.now.Add(24 * time.Hour)
	o.work()
	if n := got(o.courier.took())["x@elsewhere.example"]; n != 1 {
		t.Errorf("x has got it %d times", n)
	}
}
