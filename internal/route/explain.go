package route

import (
	"errors"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Step is one thing that an expansion comes to.
type Step struct {
	Depth  int          // 0: what was asked for; what an alias or a list stands for is one deeper
	Target alias.Target // that led here; zero for what was asked for
	// Verdict is what it is. For a target that is no address its Kind says what becomes of it: Discard of ":blackhole:", Refuse of what cannot be reached in this way.
	Verdict
	List  bool // a list file, whose targets follow
	Again bool // an alias or list whose steps were told already
}

// Explain is Expand that also tells each step as it is taken, outermost first, until tell returns false, which is no error. An address that is unknown is one
// step, too.
func (t *Tables) Explain(m addr.Mailbox, l Limits, tell func(Step) bool) (Expansion, error) {
	return t.expand(m, l, tell)
}

// Fields is a step as programs show it: what is meant, its kind, a detail of that kind, the place that decides, and the place that led here.
func (s *Step) Fields() (name, kind, detail, at, from string) {
	name, kind, at = s.Addr.String(), s.Kind.String(), s.Source.String()
	switch {
	case s.Again:
		kind = "again"
	case s.List:
		kind = "list"
	}
	if s.Depth > 0 {
		from = s.Target.Pos.String()
		if !isAddress(s.Target.Kind) {
			name = s.Target.String()
		}
	}
	switch s.Kind {
	case Mailbox:
		detail = s.User
		if !s.Next.IsZero() {
			detail += " by " + s.Next.String()
		}
	case Remote:
		detail = s.Next.String()
	case Refuse:
		detail = s.Reply.Error()
	case Alias:
		if !s.Owner.IsNull() && !s.Again {
			detail = s.Owner.String()
		}
	}
	return name, kind, detail, at, from
}

// told says where the walk is.
func (w *walk) told(x *alias.Target, v Verdict, list, again bool) {
	if w.tell != nil && !w.tell(Step{Depth: len(w.path), Target: *x, Verdict: v, List: list, Again: again}) {
		w.over, w.quit = true, true
	}
}

// TooMany tells whether an error of Expand or Explain is that an address stands for more than Limits.Count.
func TooMany(err error) bool {
	var r *smtp.Reply
	return errors.As(err, &r) && r.Error() == tooMany().Error()
}

// Source is a key of an alias by which mail comes to a target.
type Source struct {
	Key string      // as it is looked up: "bob", "sales@example.org", "@example.org"
	At  alias.Pos   // its line
	Via []alias.Pos // the targets that lead from it to the end, outermost first
}

// Sources calls f for every key by which mail comes to a target, which is an address, a name, or what else stands in alias files, until f returns false. Each entry is expanded for that,
// up to where the target is met, so that the answer is the one that mail gets; a million entries that stand for one address each take seconds.
func (t *Tables) Sources(target alias.Target, l Limits, f func(Source) bool) {
	meant := t.meaning(target)
	for _, tab := range []*alias.Table{t.Virtual, t.Aliases} {
		for e := range tab.Entries() {
			var via, found []alias.Pos
			t.expand(t.keyAddress(e, target.Addr.Local), l, func(s Step) bool {
				if s.Depth == 0 {
					return s.Source == e.Pos() // another entry holds for this key
				}
				via = append(via[:s.Depth-1], s.Target.Pos)
				if meant(&s) {
					found = via
				}
				return found == nil
			})
			if found != nil && !f(Source{e.Key(), e.Pos(), found}) {
				return
			}
		}
	}
}

// meaning is whether a step is the target.
func (t *Tables) meaning(target alias.Target) func(*Step) bool {
	if target.Kind != alias.Address && target.Kind != alias.Local {
		return func(s *Step) bool { return s.Target.Kind == target.Kind && s.Target.Text == target.Text }
	}
	m := target.Addr
	if m.Domain == "" {
		m.Domain = t.LocalDomain
	}
	last := Final{Verdict: t.ResolveFinal(m)}
	key, end := m.Key(), last.Key()
	return func(s *Step) bool {
		if s.List || !isAddress(s.Target.Kind) {
			return false
		}
		if s.Kind == Alias {
			return s.Addr.Key() == key
		}
		is := Final{Verdict: s.Verdict}
		return s.Kind == last.Kind && is.Key() == end || s.Addr.Key() == key
	}
}

func isAddress(k alias.Kind) bool { return k == alias.Address || k == alias.Local || k == alias.Domain }

// KeyAddress is the address that a key is asked by: of a name the one in the local domain, of "@domain" one that nobody has.
func (t *Tables) KeyAddress(key string) addr.Mailbox {
	switch i := strings.LastIndexByte(key, '@'); {
	case i < 0:
		return addr.Mailbox{Local: key, Domain: t.LocalDomain}
	case i > 0:
		return addr.Mailbox{Local: key[:i], Domain: key[i+1:]}
	default:
		return addr.Mailbox{Local: "*", Domain: key[1:]}
	}
}

// keyAddress is KeyAddress of an entry; of "@domain" it is the one with the local part given, if that has no alias or user of its own.
func (t *Tables) keyAddress(e alias.Entry, local string) addr.Mailbox {
	m := t.KeyAddress(e.Key())
	if e.Key()[0] == '@' && local != "" {
		if own := (addr.Mailbox{Local: local, Domain: m.Domain}); t.Resolve(own).Source == e.Pos() {
			return own
		}
	}
	return m
}
