package trail

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/internal/smtp"
)

// States of an End.
const (
	Stored    = "stored"
	Relayed   = "relayed"
	Delivered = "delivered" // one of both
	Waiting   = "waiting"
	Held      = "held"
	Failed    = "failed"
	Discarded = "discarded"
	Unknown   = "unknown"
)

// End is where a recipient's copy is.
type End struct {
	ID     string // of the message
	Rcpt   string
	State  string
	Detail string
	Report bool // the message is a report, or came of one

	target string
}

// message is one of a story while its end is worked out.
type message struct {
	id     string
	rcpts  int // -1: nobody says
	ends   []*End
	byName map[string]*End // nil: others stand for this recipient
	report string          // the last report of failure, and whom it told
	held   string
	gone   string // why it is not in the queue any more
}

func (m *message) end(rcpt, target string) *End {
	name := rcpt + " " + target
	e := m.byName[name]
	if e == nil {
		e = &End{ID: m.id, Rcpt: rcpt, State: Unknown, target: target}
		m.byName[name], m.ends = e, append(m.ends, e)
	}
	return e
}

// drop takes out a recipient that others stand for.
func (m *message) drop(rcpt string) {
	if e := m.byName[rcpt+" "+smtp.WholeFile]; e != nil {
		e.State = "" // line by line, addresses come last
		return
	}
	m.end(rcpt, "").State = ""
}

// Ends are where the copies of each recipient are, those of reports last.
func (s *Story) Ends() []End {
	events := s.Events()
	messages := make(map[string]*message)
	var order []*message
	of := func(id string) *message {
		m := messages[id]
		if m == nil {
			m = &message{id: id, rcpts: -1, byName: make(map[string]*End)}
			messages[id], order = m, append(order, m)
		}
		return m
	}
	stored := make(map[string]*Line) // by origin, recipient and target
	for i := range events {
		if l := &events[i]; l.Program == "deliver" && l.Event == "stored" {
			stored[l.ID+" "+l.Address("rcpt")+" "+l.Get("target")] = l
		}
	}
	for i := range events {
		l := &events[i]
		if !s.wanted[l.ID] || l.Program == "deliver" {
			continue
		}
		m := of(l.ID)
		s.tell(m, l, stored)
		if l.Program == "queued" && l.Event == "expanded" {
			if child := l.Get("child"); child != "" && child != "-" {
				of(child).rcpts = number(l.Get("rcpts"))
			}
		}
		if l.Program == "queued" && l.Get("report") != "" {
			of(l.Get("report"))
		}
	}
	for id := range s.wanted {
		if s.files[id] != nil {
			of(id)
		}
	}
	var ends []End
	for _, m := range order {
		s.finish(m)
		report := s.isReport(m.id)
		for _, e := range m.ends {
			if e.Report = report; e.State != "" {
				ends = append(ends, *e)
			}
		}
	}
	slices.SortStableFunc(ends, func(a, b End) int {
		return cmp.Compare(btoi(a.Report), btoi(b.Report))
	})
	return ends
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// isReport: it is one about a message that is meant, or what came of one; not the message that was asked for.
func (s *Story) isReport(id string) bool {
	for range 100 { // parents come from a log, which may be forged
		switch {
		case id == "" || s.asked[id]:
			return false
		case s.reports[id]:
			return true
		}
		id = s.parents[id]
	}
	return false
}

// origin is the id under which deliver knows a message.
func (s *Story) origin(id string) string {
	if f := s.files[id]; f != nil && f.Origin != "" {
		return f.Origin
	}
	for range 100 {
		up, ok := s.parents[id]
		if !ok {
			break
		}
		id = up
	}
	return id
}

// tell takes one event.
func (s *Story) tell(m *message, l *Line, stored map[string]*Line) {
	rcpt, reply := l.Address("rcpt"), l.Get("reply")
	switch l.Event {
	case "accepted", "arrived":
		m.rcpts = number(l.Get("rcpts"))
	case "held":
		m.held = cmp.Or(l.Get("why"), l.Get("text"), "held")
	case "released":
		m.held = ""
	case "damaged":
		m.gone = "damaged: " + l.Get("error")
	case "removed":
		m.gone = "removed"
	case "bounced":
		m.report = "<" + l.Address("to") + "> is told by " + l.Get("report")
	case "expanded":
		m.drop(rcpt)
		if l.Get("rcpts") == "0" && l.Get("child") == "-" {
			e := m.end(rcpt, "")
			e.State, e.Detail = Discarded, "nobody else gets it by "+l.Get("source")
		}
	case "discarded":
		e := m.end(rcpt, "")
		e.State, e.Detail = Discarded, l.Get("why")
		m.report = "nobody is told"
	case "deferred":
		if rcpt == "" || l.Program == "queue" {
			return // finish knows more
		}
		e := m.end(rcpt, l.Get("target"))
		e.State, e.Detail = Waiting, reason(l)
		if next, err := strconv.ParseFloat(l.Get("next"), 64); err == nil && !l.Time.IsZero() {
			e.Detail = until(l.Time.Add(time.Duration(next*float64(time.Second)))) + e.Detail
		}
	case "failed", "expired":
		e := m.end(rcpt, l.Get("target"))
		e.State, e.Detail = Failed, reason(l)
		if l.Event == "expired" {
			e.Detail = "given up: " + e.Detail
		}
		if m.report != "" {
			e.Detail += "; " + m.report
		}
	case "delivered":
		e := m.end(rcpt, l.Get("target"))
		via := l.Get("via")
		e.State, e.Detail = Relayed, join(via, reply)
		at := stored[s.origin(m.id)+" "+rcpt+" "+l.Get("target")]
		switch {
		case at != nil:
			e.State, e.Detail = Stored, place(at)
		case strings.HasPrefix(via, "/"):
			e.State = Stored
		case via == "":
			e.State = Discarded
		}
	}
}

func join(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), ": ")
}

func reason(l *Line) string {
	if l.Program == "queue" {
		return join(l.Get("host"), l.Get("text"))
	}
	return join(l.Get("via"), l.Get("reply"))
}

func until(t time.Time) string {
	return "until " + t.UTC().Truncate(time.Second).Format(time.RFC3339) + ": "
}

// place is where deliver has put a message, in its words.
func place(l *Line) string {
	var b []string
	for _, key := range [...]string{"user", "target", "folder", "file"} {
		if v := l.Get(key); v != "" {
			b = append(b, key+"="+v)
		}
	}
	return strings.Join(b, " ")
}

// finish has the queue say how it is now, and names what nobody says anything of.
func (s *Story) finish(m *message) {
	f := s.files[m.id]
	if f == nil {
		if s.looked && m.gone == "" {
			m.gone = "not in the queue any more"
		}
		for _, e := range m.ends {
			if e.State == Waiting && m.gone != "" {
				e.State, e.Detail = Unknown, join(m.gone, e.Detail)
			}
		}
		if m.held != "" && m.gone == "" {
			for _, e := range m.ends {
				if e.State == Waiting || e.State == Unknown {
					e.State, e.Detail = Held, m.held
				}
			}
		}
		if missing := m.rcpts - len(m.ends); missing > 0 || m.rcpts < 0 && len(m.ends) == 0 {
			e := &End{ID: m.id, State: Unknown, Detail: m.gone}
			if m.held != "" && m.gone == "" {
				e.State, e.Detail = Held, m.held
			}
			if missing > 0 {
				e.Detail = join(fmt.Sprintf("%d of %d recipients", missing, m.rcpts), e.Detail)
			}
			m.ends = append(m.ends, e)
		}
		return
	}
	for _, r := range f.Rcpts {
		if r.State == 'X' {
			m.drop(r.Addr)
			continue
		}
		e := m.end(r.Addr, r.Target)
		switch {
		case r.State == '-' && f.Corrupt:
			e.State, e.Detail = Unknown, "damaged"
		case r.State == '-' && f.Held:
			e.State, e.Detail = Held, cmp.Or(m.held, "until it is released")
		case r.State == '-':
			e.State, e.Detail = Waiting, until(f.Next)+s.last(f, r.Addr)
		case r.State == 'D' && (e.State == Unknown || e.State == Waiting):
			e.State, e.Detail = Delivered, "as the queue has it"
		case r.State == 'F' && (e.State == Unknown || e.State == Waiting):
			e.State, e.Detail = Failed, "as the queue has it"
		}
	}
}

// last is the reason that was noted last for a recipient. Those who share one share a line, in which only the first is named, and which ends in their number.
func (s *Story) last(f *File, rcpt string) string {
	shared := ""
	for i := range slices.Backward(f.Notes) {
		l := &f.Notes[i]
		if l.Event == "arrived" || l.Event == "warned" {
			continue
		}
		if a := l.Address("rcpt"); a == rcpt || a == "" {
			return join(l.Event, reason(l))
		}
		if shared == "" && strings.HasSuffix(l.Get("text"), " more recipients)") {
			shared = join(l.Event, reason(l))
		}
	}
	return cmp.Or(shared, "new")
}
