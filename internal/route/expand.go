package route

import (
	"slices"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Expand follows aliases to the end. The error is an *smtp.Reply: nobody can be reached in this way (unknown, a loop, too deep:
// 5.4.6), or there are more than l.Count targets. Members of a list that cannot be reached, beside others who can, are finals of
// kind Refuse.
func (t *Tables) Expand(m addr.Mailbox, l Limits) (Expansion, error) { return t.expand(m, l, nil) }

func (t *Tables) expand(m addr.Mailbox, l Limits, tell func(Step) bool) (Expansion, error) {
	first := lookup{t: t}
	v, e := first.resolve(m)
	if v.Kind != Alias && tell != nil {
		tell(Step{Verdict: v})
	}
	if v.Kind == Refuse {
		return Expansion{}, v.Reply
	}
	if v.Kind != Alias {
		return Expansion{Finals: []Final{{Verdict: v}}}, nil
	}
	w := walk{t: t, limits: l, tell: tell, done: make(map[visit]bool), seen: make(map[string]bool)}
	w.start(v, e)
	switch {
	case w.quit:
		return Expansion{}, nil
	case w.over:
		return Expansion{}, tooMany()
	case w.live == 0 && len(w.finals) > 0:
		return Expansion{}, worst(w.finals)
	}
	return Expansion{Finals: w.finals}, nil
}

// worst is the reply for an alias that reaches nobody: a temporary one if there is any, for then all is not lost.
func worst(finals []Final) *smtp.Reply {
	for i := range finals {
		if finals[i].Reply.Temporary() {
			return finals[i].Reply
		}
	}
	return finals[0].Reply
}

func tooMany() *smtp.Reply {
	return smtp.NewReply(550, "5.4.6", "alias stands for too many addresses")
}

// walk is one expansion.
type walk struct {
	t      *Tables
	limits Limits
	probe  bool            // the first live final is enough
	tell   func(Step) bool // nil: nobody listens

	count  int
	quit   bool // who listens has heard enough
	over   bool // count is past its limit: nothing holds
	live   int
	finals []Final
	seen   map[string]bool // Final.Key of those that are not Refuse
	done   map[visit]bool
	path   []step // aliases and lists we are in
}

// step is an alias, or a list file.
type step struct {
	entry alias.Entry
	list  string
}

// stepTo is the step to an alias. An address of Returns is one of its own: it has no entry, as the postmaster key has none.
func stepTo(v *Verdict, e alias.Entry) step {
	if v.Source == returned {
		return step{list: "srs"}
	}
	return step{entry: e}
}

// visit is a step as it is reached by one address; what it stands for may depend on that.
type visit struct {
	step
	addr string
}

// place is where targets stand.
type place struct {
	addr  addr.Mailbox  // the address that is expanded
	skip  []alias.Entry // entries that a target which means "itself" passes over
	owner addr.Mailbox
	via   []alias.Pos
	list  bool // in a list file

	mail *alias.List // the mailing list
	at   addr.Mailbox
}

// start expands the alias v, whose entry is e.
func (w *walk) start(v Verdict, e alias.Entry) {
	w.t.fill(&v, e)
	w.told(&alias.Target{}, v, false, false)
	here := stepTo(&v, e)
	w.done[visit{here, v.Addr.Key()}] = true
	w.path = append(w.path, here)
	at := place{addr: v.Addr, owner: v.Owner}
	if v.Source != returned {
		at.skip = []alias.Entry{e}
	}
	w.targets(v.Targets, at)
}

func (w *walk) stop() bool { return w.over || w.probe && w.live > 0 }

func (w *walk) targets(list []alias.Target, at place) {
	for i := range list {
		if w.count++; w.count > w.limits.Count {
			w.over = true
		}
		if w.stop() {
			return
		}
		switch x := &list[i]; x.Kind {
		case alias.Address:
			w.address(x.Addr, x, at)
		case alias.Local:
			w.address(w.t.qualify(x.Addr, at.addr.Domain), x, at)
		case alias.Domain:
			w.address(addr.Mailbox{Local: at.addr.Local, Domain: x.Addr.Domain}, x, at)
		case alias.Include:
			w.include(x, at)
		case alias.Blackhole:
			w.told(x, Verdict{Kind: Discard, Source: x.Pos}, false, false)
		default:
			if r := refusal(*x, at.list); r != nil {
				w.fail(at, x, at.addr, r)
			} else {
				w.deed(x, at)
			}
		}
	}
}

// deed is a target that is a command or a file.
func (w *walk) deed(x *alias.Target, at place) {
	v := Verdict{Kind: Command, Addr: at.addr, Owner: at.owner, Target: *x, Ours: true, Source: x.Pos}
	if x.Kind == alias.File {
		v.Kind = File
	}
	w.told(x, v, false, false)
	w.final(Final{Verdict: v, Via: via(at, x), List: at.mail, ListAt: at.at})
}

// address follows one target that is an address.
func (w *walk) address(m addr.Mailbox, x *alias.Target, at place) {
	if m.Domain == "" {
		w.fail(at, x, addr.Mailbox{Local: m.Local, Domain: at.addr.Domain}, smtp.NewReply(451, "4.3.5", "there is no local domain"))
		return
	}
	l := lookup{t: w.t, skip: at.skip, final: x.Final}
	v, e := l.resolve(m)
	if v.Kind != Alias {
		v.Owner = at.owner
		if (len(l.passed) > 0 || x.Final) && v.Kind == Mailbox && v.Tag == "" && m.Key() != at.addr.Key() {
			// "bob: bob, archive", asked for as bob+lists: the copy for bob is still one for bob+lists.
			if base, tag, ok := addr.SplitTag(at.addr.Local, w.t.Delimiters); ok && (addr.Mailbox{Local: base, Domain: at.addr.Domain}).Key() == m.Key() {
				v.Addr, v.Tag = at.addr, tag
			}
		}
		w.told(x, v, false, false)
		w.final(Final{Verdict: v, Via: via(at, x), List: at.mail, ListAt: at.at})
		return
	}
	here := stepTo(&v, e)
	if slices.Contains(w.path, here) {
		w.fail(at, x, m, smtp.NewReply(550, "5.4.6", "alias loop"))
		return
	}
	key := visit{here, v.Addr.Key()}
	if w.done[key] {
		w.told(x, v, false, true)
		return
	}
	if len(w.path) >= w.limits.Depth {
		// Not done: by a shorter way it may yet be reached.
		w.fail(at, x, m, smtp.NewReply(550, "5.4.6", "aliases too deep"))
		return
	}
	w.done[key] = true
	w.t.fill(&v, e)
	if v.Owner.IsNull() {
		v.Owner = at.owner
	}
	w.told(x, v, false, false)
	w.path = append(w.path, here)
	skip := l.passed
	if v.Source != returned {
		skip = append(skip, e)
	}
	w.targets(v.Targets, place{addr: v.Addr, skip: skip, owner: v.Owner, via: via(at, x), mail: at.mail, at: at.at})
	w.path = w.path[:len(w.path)-1]
}

// include follows ":include:".
func (w *walk) include(x *alias.Target, at place) {
	here := step{list: x.Text}
	if slices.Contains(w.path, here) {
		w.fail(at, x, at.addr, smtp.NewReply(550, "5.4.6", "list file that includes itself"))
		return
	}
	key := visit{here, at.addr.Key()}
	if w.done[key] {
		w.told(x, Verdict{Kind: Alias, Addr: at.addr, Source: x.Pos}, true, true)
		return
	}
	if len(w.path) >= w.limits.Depth {
		w.fail(at, x, at.addr, smtp.NewReply(550, "5.4.6", "aliases too deep"))
		return
	}
	if w.t.Lists == nil {
		w.fail(at, x, at.addr, unreadable())
		return
	}
	list, err := w.t.Lists.List(x.Text)
	if err != nil {
		w.fail(at, x, at.addr, unreadable())
		return
	}
	if list.ID != "" {
		if r := w.mayPost(list, at); r != nil {
			w.fail(at, x, at.addr, r)
			return
		}
		at.mail, at.at = list, at.addr
		if !list.Bounces.IsNull() {
			at.owner = list.Bounces
		}
	}
	w.done[key] = true
	w.told(x, Verdict{Kind: Alias, Addr: at.addr, Source: x.Pos, Owner: at.owner}, true, false)
	at.via = via(at, x)
	at.list = true
	w.path = append(w.path, here)
	w.targets(list.Targets, at)
	w.path = w.path[:len(w.path)-1]
}

// mayPost is why the sender may not post to a mailing list; nil: he may, or nobody asks. What comes from nobody is a report or an answer of a machine, and
// a list must not spread those.
func (w *walk) mayPost(list *alias.List, at place) *smtp.Reply {
	from := w.limits.Sender
	switch {
	case !w.limits.Posting:
		return nil
	case from.IsNull():
		return smtp.NewReply(550, "5.7.1", "a mailing list takes no mail without a sender")
	case list.Post == "" || from.Key() == at.owner.Key():
		return nil
	}
	posters := list
	if list.Post != alias.Members {
		var err error
		if posters, err = w.t.Lists.List(list.Post); err != nil {
			return unreadable()
		}
	}
	key := from.Key()
	for i := range posters.Targets {
		switch x := &posters.Targets[i]; x.Kind {
		case alias.Address:
			if x.Addr.Key() == key {
				return nil
			}
		case alias.Local:
			if w.t.qualify(x.Addr, at.addr.Domain).Key() == key {
				return nil
			}
		case alias.Domain:
			if sameDomain(x.Addr.Domain, from.Domain) {
				return nil
			}
		}
	}
	return smtp.NewReply(550, "5.7.1", "this address may not post to the list")
}

func sameDomain(a, b string) bool {
	x, err := addr.ASCIIDomain(a)
	y, err2 := addr.ASCIIDomain(b)
	return err == nil && err2 == nil && x == y
}

func unreadable() *smtp.Reply {
	return smtp.NewReply(451, "4.3.0", "a list file cannot be read now")
}

func (w *walk) fail(at place, x *alias.Target, m addr.Mailbox, r *smtp.Reply) {
	v := Verdict{Kind: Refuse, Addr: m, Owner: at.owner, Reply: r, Ours: true, Source: x.Pos}
	w.told(x, v, false, false)
	w.final(Final{Verdict: v, Via: via(at, x), List: at.mail, ListAt: at.at})
}

func (w *walk) final(f Final) {
	key := f.Key()
	if f.Kind == Refuse {
		// Apart from the live ones, and a temporary failure apart from a permanent one.
		key = f.Reply.Enhanced.String() + " " + key
	}
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	if f.Kind != Refuse {
		w.live++
	}
	w.finals = append(w.finals, f)
}

// via is the way to x. A copy: at.via is shared by all targets of one place.
func via(at place, x *alias.Target) []alias.Pos {
	return append(at.via[:len(at.via):len(at.via)], x.Pos)
}
