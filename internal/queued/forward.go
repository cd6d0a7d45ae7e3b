package queued

import (
	"cmp"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/dsn"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// deliveredTo is the field that a message carries from each mailbox that has sent it on. One that comes to the same mailbox again stays there.
const deliveredTo = "Delivered-To"

// expandForwards queues the children of the recipients whose forward files deliver has told, and says whether there are new ones. It is done as for an alias, with the
// same ids after a crash. The caller has the mutex of m, or m for himself.
func (s *Server) expandForwards(m *message) (some bool) {
	for i := range m.results {
		r := &m.results[i]
		if r.forward == nil || m.env.Rcpts[i].State != queue.Pending {
			continue
		}
		if m.forwards == nil {
			m.forwards = s.newExpansion(m, cmp.Or(m.tables, s.tables()))
		}
		m.forwards.forward(i, r.forward)
		some = true
	}
	return some
}

// forwardNow does so while other jobs of the message run, which may hang for an hour: what a user keeps for himself does not wait for that.
func (s *Server) forwardNow(m *message) {
	if s.expandForwards(m) {
		s.recordExpanded(m)
		s.submit(m)
	}
}

// forward answers recipient i, whose forward file says lines.
func (e *expansion) forward(i int, lines []string) {
	parent, r := &e.m.env.Rcpts[i], &e.m.results[i]
	to, err := addr.Parse(parent.Addr, true)
	if err != nil {
		*r = result{kind: remote.Perm, reply: badAddress}
		return
	}
	own := e.tables.ResolveFinal(to)
	if parent.Target == "" && e.way().boxes[own.Mailbox.Key()] {
		lines = []string{smtp.JustMailbox}
	}
	var members []member
	for _, line := range lines {
		more, reply := e.forwardTo(line, to, &own)
		if reply != nil {
			*r = result{kind: kindOf(reply), reply: reply}
			return
		}
		members = append(members, more...)
	}
	*r = result{kind: remote.Done, expand: true, success: dsn.Expanded}
	if len(members) == 1 {
		r.success = ""
	}
	if err := e.spawn(parent, members, "forward"); err != nil {
		e.s.log.Problem(string(e.m.id), "forward "+parent.Addr, err)
		*r = result{kind: remote.Temp, reply: errLocal}
	}
}

// forwardTo is who gets the message by one line. What it says of the user himself is his mailbox. A reply that is not nil is for all of the file: as with an
// alias, who cannot be told now holds up everybody, since the children are written once.
func (e *expansion) forwardTo(line string, to addr.Mailbox, own *route.Verdict) ([]member, *smtp.Reply) {
	self := func(target string) member {
		return member{Final: &route.Final{Verdict: route.Verdict{Kind: route.Mailbox, Addr: to, Mailbox: own.Mailbox}}, target: target}
	}
	switch {
	case line == smtp.Discarded:
		return nil, nil
	case line == smtp.JustMailbox, strings.HasPrefix(line, smtp.InForward):
		return []member{self(line)}, nil
	case !strings.HasPrefix(line, smtp.InAddress):
		return nil, smtp.NewReply(451, "4.3.5", "the delivery agent says what nobody understands")
	}
	finals, reply := SendOn(e.tables, e.limits(), line, own, nil)
	if err := e.listLoop(finals); reply == nil && err != nil {
		return nil, asReply(err)
	}
	var members []member
	for k := range finals {
		f := &finals[k]
		if isOwn(&f.Verdict, own) {
			members = append(members, self(smtp.JustMailbox))
			continue
		}
		x := memberOf(f)
		x.away = true
		members = append(members, x)
	}
	return members, reply
}

// limits are those of an expansion for the message.
func (e *expansion) limits() route.Limits {
	l := e.s.opt().Expansion
	l.Posting = true
	l.Sender, _ = addr.Parse(e.m.env.From, true)
	return l
}
