package route

import (
	"strings"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Resolve is one step: what m is, without following aliases. An address without a domain (the bare <postmaster>) is local.
func (t *Tables) Resolve(m addr.Mailbox) Verdict {
	l := lookup{t: t}
	v, e := l.resolve(m)
	if v.Kind == Alias {
		t.fill(&v, e)
	}
	return v
}

// ResolveFinal is Resolve for an address that is the end of an expansion: no alias is looked at, so that what an alias was once
// expanded to stays, whatever the tables say by now.
func (t *Tables) ResolveFinal(m addr.Mailbox) Verdict {
	l := lookup{t: t, final: true}
	v, _ := l.resolve(m)
	if v.Kind == Refuse && v.Reply.Permanent() {
		// The dead member of a list, who is named in the child message for his report: an alias that says why says it better.
		if w := t.Resolve(m); w.Kind == Alias && w.Targets[0].Kind == alias.Fail {
			v.Reply, v.Source = refusal(w.Targets[0], false), w.Targets[0].Pos
		}
	}
	return v
}

// lookup is one resolution.
type lookup struct {
	t      *Tables
	final  bool          // aliases are passed over
	skip   []alias.Entry // these are
	passed []alias.Entry // those of skip that were
}

// alias asks one table for one name at one level.
func (l *lookup) alias(tab *alias.Table, local, domain string, bare bool) (alias.Entry, bool) {
	if l.final || tab == nil {
		return alias.Entry{}, false
	}
	e, ok := tab.Lookup(local, domain)
	if ok && !l.pass(e) {
		return e, true
	}
	if !bare || local == "" {
		return alias.Entry{}, false
	}
	e, ok = tab.Lookup(local, "")
	return e, ok && !l.pass(e)
}

// pass: e is one to pass over.
func (l *lookup) pass(e alias.Entry) bool {
	for _, s := range l.skip {
		if s == e {
			l.passed = append(l.passed, e)
			return true
		}
	}
	return false
}

// resolve judges m; the entry is that of an alias.
func (l *lookup) resolve(m addr.Mailbox) (Verdict, alias.Entry) {
	t := l.t
	if m.IsNull() {
		return refuse(Verdict{}, smtp.NewReply(550, "5.1.3", "the null path is no recipient")), alias.Entry{}
	}
	if m.Domain == "" {
		m.Domain = t.LocalDomain
	}
	if m.Domain == "" {
		v := Verdict{Addr: m, Ours: true}
		if strings.EqualFold(m.Local, "postmaster") {
			return l.postmaster(v, "")
		}
		return refuse(v, smtp.NewReply(550, "5.1.1", "no such user here")), alias.Entry{}
	}
	domain, err := addr.ASCIIDomain(m.Domain)
	if err != nil {
		return refuse(Verdict{Addr: m}, smtp.NewReply(550, "5.1.2", "bad domain")), alias.Entry{}
	}
	if t.Returns != nil && !l.final {
		switch to, ok, err := t.Returns.Return(m.Local, domain); {
		case err != nil:
			return refuse(Verdict{Addr: m, Ours: true, Source: returned}, smtp.NewReply(550, "5.1.1", err.Error())), alias.Entry{}
		case ok:
			return Verdict{Kind: Alias, Addr: m, Ours: true, Source: returned, Targets: []alias.Target{{Kind: alias.Address, Addr: to, Pos: returned}}}, alias.Entry{}
		}
	}
	at, local := t.LocalDomains[domain]
	virtual, relayed := false, false
	if !local {
		if at, virtual = t.VirtualDomains[domain]; !virtual {
			at, relayed = t.RelayDomains[domain]
		}
	}
	v := Verdict{Addr: m, Ours: local || virtual || relayed, Source: at}
	found := func(e alias.Entry) (Verdict, alias.Entry) {
		v.Kind, v.Ours, v.Source = Alias, true, e.Pos()
		return v, e
	}

	base, tag, tagged := addr.SplitTag(m.Local, t.Delimiters)
	name := m.Local
	if tagged && !l.final {
		if r := t.unsubscribes(base, tag, domain); r != nil {
			return refuse(v, r), alias.Entry{}
		}
	}
	for {
		if e, ok := l.alias(t.Virtual, name, domain, local); ok {
			return found(e)
		}
		if local {
			if e, ok := l.alias(t.Aliases, name, domain, true); ok {
				return found(e)
			}
		}
		if local || virtual {
			ok, err := t.user(&v, name, domain, local)
			if err != nil {
				return refuse(v, smtp.NewReply(451, "4.3.0", "the user database cannot be read now")), alias.Entry{}
			}
			if ok {
				if len(name) < len(m.Local) {
					v.Tag = tag
				}
				return t.deliver(v, name, domain), alias.Entry{}
			}
		}
		if !tagged {
			break
		}
		name, tagged = base, false
	}
	if e, ok := l.alias(t.Virtual, "", domain, false); ok {
		return found(e)
	}
	if local {
		if e, ok := l.alias(t.Aliases, "", domain, false); ok {
			return found(e)
		}
	}
	if !local && !virtual {
		return t.remote(v, base, domain), alias.Entry{}
	}
	if strings.EqualFold(base, "postmaster") {
		// RFC 5321 section 4.5.1: postmaster of every domain that mail is delivered for.
		return l.postmaster(v, domain)
	}
	if l.passed != nil {
		return refuse(v, smtp.NewReply(550, "5.4.6", "alias that leads only to itself")), alias.Entry{}
	}
	return refuse(v, smtp.NewReply(550, "5.1.1", "no such user here")), alias.Entry{}
}

// unsubscribes looks at an address that takes a member off a mailing list: its tag is "user=domain=token". One that we have not made takes nobody off; without keys we
// make none.
func (t *Tables) unsubscribes(base, tag, domain string) *smtp.Reply {
	i := strings.LastIndexByte(tag, '=')
	if len(base) < len(unsubscribe) || !strings.EqualFold(base[len(base)-len(unsubscribe):], unsubscribe) || i < 0 {
		return nil
	}
	m, err := addr.FromTag(tag[:i])
	if err == nil && t.Returns != nil && t.Returns.Made(tag[i+1:], addr.Mailbox{Local: base, Domain: domain}, m) {
		return nil
	}
	return smtp.NewReply(550, "5.7.1", "nobody has been sent this address: use the one in the message from the list")
}

// unsubscribe ends the names of addresses by which members leave a mailing list.
const unsubscribe = "-unsubscribe"

// user looks for the user, and sets what belongs to him.
func (t *Tables) user(v *Verdict, name, domain string, bare bool) (bool, error) {
	if t.Users == nil {
		return false, nil
	}
	user, at, ok, err := t.Users.User(name, domain)
	home := domain
	if !ok && err == nil && bare {
		user, at, ok, err = t.Users.User(name, "")
		home = t.LocalDomain
	}
	if err != nil {
		v.Source = at
		return false, err
	}
	if !ok {
		return false, nil
	}
	v.User, v.Source = user, at
	v.Mailbox = addr.Mailbox{Local: strings.TrimSuffix(user, "@"+home), Domain: home}
	return true, nil
}

// deliver is the verdict for a user, unless a route says otherwise. The route for everything else ("*") does not concern users.
func (t *Tables) deliver(v Verdict, name, domain string) Verdict {
	v.Kind = Mailbox
	if r, ok := t.Routes.find(v.Addr.Local, name, domain, false); ok {
		v = r.apply(v)
	}
	return v
}

// remote is the verdict for an address of no domain of ours, or of one that we relay for.
func (t *Tables) remote(v Verdict, base, domain string) Verdict {
	v.Kind = Remote
	switch r, ok := t.Routes.find(v.Addr.Local, base, domain, true); {
	case ok:
		return r.apply(v)
	case !t.Smarthost.IsZero():
		v.Next = t.Smarthost
		if v.Source.File == "" {
			v.Source.File = "smarthost"
		}
	default:
		v.Next = ByMX
		if v.Source.File == "" {
			v.Source.File = "mx"
		}
	}
	return v
}

// postmaster is asked when the domain of v has none: the local one, or the address of the postmaster key.
func (l *lookup) postmaster(v Verdict, domain string) (Verdict, alias.Entry) {
	t := l.t
	if t.LocalDomain != "" && domain != t.LocalDomain {
		if w, e := l.resolve(addr.Mailbox{Local: "postmaster", Domain: t.LocalDomain}); w.Kind != Refuse || !w.Reply.Permanent() {
			w.Addr = v.Addr
			return w, e
		}
	}
	if key := t.Postmaster; !l.final && !key.IsNull() && !t.isPostmaster(key) && !l.pass(alias.Entry{}) {
		v.Kind, v.Source = Alias, postmasterKey
		return v, alias.Entry{}
	}
	// Not a permanent error: that there must be a postmaster is ours to mend.
	return refuse(v, smtp.NewReply(451, "4.3.5", "there is no postmaster here yet")), alias.Entry{}
}

// isPostmaster: m is the local postmaster, whom the postmaster key cannot stand for.
func (t *Tables) isPostmaster(m addr.Mailbox) bool {
	_, local := t.LocalDomains[m.Domain]
	return strings.EqualFold(m.Local, "postmaster") && (local || m.Domain == "")
}

var postmasterKey, returned = alias.Pos{File: "postmaster"}, alias.Pos{File: "srs"}

// fill adds to the verdict on an alias what its entry says. The zero entry is the postmaster key, or an address of Returns, which is full already.
func (t *Tables) fill(v *Verdict, e alias.Entry) {
	if v.Targets != nil {
		return
	}
	if e == (alias.Entry{}) {
		v.Targets = []alias.Target{{Kind: alias.Address, Addr: t.Postmaster, Pos: postmasterKey}}
		if t.Postmaster.Domain == "" {
			v.Targets[0].Kind = alias.Local
		}
		return
	}
	v.Targets = e.Targets()
	v.Owner = t.owner(v, e)
}

// owner is who is told of errors of the alias NAME when there is an alias owner-NAME: what that stands for if it is one address
// (sendmail), else owner-NAME itself. Errors of owner-NAME and of NAME-request are their senders' business.
func (t *Tables) owner(v *Verdict, e alias.Entry) addr.Mailbox {
	name, domain := e.Key(), ""
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name, domain = name[:i], name[i+1:]
	}
	if name == "" || strings.HasPrefix(name, "owner-") || strings.HasSuffix(name, "-request") {
		return addr.Mailbox{}
	}
	name = "owner-" + name
	at := domain
	if at == "" {
		at = v.Addr.Domain
	}
	o, ok := t.Virtual.Lookup(name, domain)
	if !ok {
		o, ok = t.Aliases.Lookup(name, domain)
	}
	if !ok {
		return addr.Mailbox{}
	}
	if l := o.Targets(); len(l) == 1 {
		switch l[0].Kind {
		case alias.Address:
			return l[0].Addr
		case alias.Local:
			return t.qualify(l[0].Addr, at)
		}
	}
	return addr.Mailbox{Local: name, Domain: at}
}

// qualify puts a domain on the local name m: that of the alias it was found in, if it is a local one.
func (t *Tables) qualify(m addr.Mailbox, domain string) addr.Mailbox {
	m.Domain = domain
	if _, ok := t.LocalDomains[domain]; !ok {
		m.Domain = t.LocalDomain
	}
	return m
}

func refuse(v Verdict, r *smtp.Reply) Verdict {
	v.Kind, v.Reply = Refuse, r
	return v
}
