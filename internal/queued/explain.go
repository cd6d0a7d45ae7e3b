package queued

import (
	"strings"

	"postamt/internal/addr"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// The decisions about a recipient that need no message, for queued and for who wants to know them beforehand. They are pure.

// DestinationOf is where a recipient with a verdict of kind Mailbox, Remote, Command or File goes; local is the transport to the delivery agent.
func DestinationOf(v *route.Verdict, local route.Transport) Destination {
	switch {
	case v.Kind == route.Command || v.Kind == route.File:
		return commandAt(smtp.InAlias+v.Target.Name(), local)
	case v.Kind == route.Mailbox && v.Next.IsZero():
		return Destination{Next: local, Local: true}
	case v.Kind == route.Remote && v.Next.ByDomain():
		return Destination{Next: v.Next, Domain: v.Addr.Domain}
	}
	return Destination{Next: v.Next}
}

// commandAt is where the commands and files go of which four run at once: those of one name in alias files, or those in the forward files of one user, who is named by his mailbox.
func commandAt(whose string, local route.Transport) Destination {
	return Destination{Next: local, Local: true, Target: whose}
}

// SenderFor is who is told of errors with f, of a message of from: as sendmail and Postfix have it, the owner of the list. The null path stays null.
func SenderFor(f *route.Final, from string) string {
	if f.Owner.IsNull() || from == "" {
		return from
	}
	return f.Owner.String()
}

// SentOnAs is the sender towards other hosts of what an alias or a forward file sends on; null: the one that it has. What is sent on for somebody else has one of
// ours there: of hosts of his domain's we are none. Our own reports about it go to him himself.
func SentOnAs(tables *route.Tables, sender string) (none addr.Mailbox) {
	if tables.Returns == nil || sender == "" {
		return none
	}
	from, err := addr.Parse(sender, true)
	if err != nil {
		return none
	}
	domain, err := addr.ASCIIDomain(from.Domain)
	if err != nil {
		return none
	}
	if _, local := tables.LocalDomains[domain]; local {
		return none
	}
	if _, virtual := tables.VirtualDomains[domain]; virtual {
		return none
	}
	return tables.Returns.Rewrite(from)
}

// SendOn follows a line smtp.InAddress of a forward file to its ends; own is the verdict on its user. tell may be nil, and else is told each step as by route.Explain,
// and whether that is the mailbox of the user himself, which ends there. A reply that is not nil holds up all of the file.
func SendOn(tables *route.Tables, l route.Limits, line string, own *route.Verdict, tell func(s route.Step, own bool)) ([]route.Final, *smtp.Reply) {
	text, final := strings.CutPrefix(strings.TrimPrefix(line, smtp.InAddress), `\`)
	text, err := smtp.ParseXtext(text)
	var m addr.Mailbox
	if err == nil {
		m, err = addr.Parse(text, true)
	}
	if err != nil {
		return nil, smtp.NewReply(451, "4.3.5", "the forward file has a bad address")
	}
	if v := tables.ResolveFinal(m); isOwn(&v, own) {
		if tell != nil {
			tell(route.Step{Verdict: v}, true)
		}
		return []route.Final{{Verdict: v}}, nil
	}
	if final {
		v := tables.ResolveFinal(m)
		if tell != nil {
			tell(route.Step{Verdict: v}, false)
		}
		if v.Kind == route.Refuse && v.Reply.Temporary() {
			return nil, v.Reply
		}
		return []route.Final{{Verdict: v}}, nil
	}
	var steps func(route.Step) bool
	if tell != nil {
		steps = func(s route.Step) bool {
			tell(s, isOwn(&s.Verdict, own))
			return true
		}
	}
	x, err := tables.Explain(m, l, steps)
	if err != nil {
		r := asReply(err)
		if r.Temporary() {
			return nil, r
		}
		return []route.Final{{Verdict: route.Verdict{Kind: route.Refuse, Addr: m, Reply: r}}}, nil
	}
	for k := range x.Finals {
		if r := x.Finals[k].Reply; r != nil && r.Temporary() {
			return nil, r
		}
	}
	return x.Finals, nil
}

func isOwn(v, own *route.Verdict) bool {
	return v.Kind == route.Mailbox && v.Mailbox.Key() == own.Mailbox.Key()
}
