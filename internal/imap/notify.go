package imap

import "strings"

// FilterKind says which mailboxes a filter means (RFC 5465 section 6, RFC 7377 section 2.2).
type FilterKind uint8

const (
	FilterSelected FilterKind = iota + 1
	FilterSelectedDelayed
	FilterInboxes
	FilterPersonal
	FilterSubscribed
	FilterSubtree
	FilterSubtreeOne
	FilterMailboxes
)

// MailboxFilter is filter-mailboxes.
type MailboxFilter struct {
	Kind      FilterKind
	Mailboxes []string // of the last three
}

const (
	maxFilters         = 100
	maxFilterMailboxes = 2000
)

// mailboxFilter reads filter-mailboxes.
func (d *Decoder) mailboxFilter() (f MailboxFilter) {
	switch string(d.word()) {
	case "SELECTED":
		f.Kind = FilterSelected
	case "SELECTED-DELAYED":
		f.Kind = FilterSelectedDelayed
	case "INBOXES":
		f.Kind = FilterInboxes
	case "PERSONAL":
		f.Kind = FilterPersonal
	case "SUBSCRIBED":
		f.Kind = FilterSubscribed
	case "SUBTREE":
		f.Kind = FilterSubtree
	case "SUBTREE-ONE":
		f.Kind = FilterSubtreeOne
	case "MAILBOXES":
		f.Kind = FilterMailboxes
	default:
		d.Fail("unknown mailbox filter")
	}
	if f.Kind < FilterSubtree {
		return f
	}
	// one-or-more-mailbox = mailbox / "(" mailbox *(SP mailbox) ")"
	if d.SP(); d.Is('(') {
		d.NonEmptyList(maxFilterMailboxes, func() { f.Mailboxes = append(f.Mailboxes, d.Mailbox()) })
	} else {
		f.Mailboxes = []string{d.Mailbox()}
	}
	return f
}

// Events is a set of events.
type Events uint16

const (
	EventMessageNew Events = 1 << iota
	EventMessageExpunge
	EventFlagChange
	EventAnnotationChange
	EventMailboxName
	EventSubscriptionChange
	EventMailboxMetadataChange
	EventServerMetadataChange
	EventUnknown // some other: NO [BADEVENT]

	messageEvents = EventMessageNew | EventMessageExpunge | EventFlagChange | EventAnnotationChange
)

// eventNames are the events in the order of their bits.
var eventNames = [...]string{"MessageNew", "MessageExpunge", "FlagChange", "AnnotationChange", "MailboxName", "SubscriptionChange", "MailboxMetadataChange",
	"ServerMetadataChange"}

// Names are the names of the events, for the code BADEVENT.
func (e Events) Names() (names []string) {
	for i, n := range eventNames {
		if e&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// EventGroup is event-group: which events of which mailboxes; no event is NONE.
type EventGroup struct {
	MailboxFilter
	Events Events
	Fetch  []FetchItem // of MessageNew of the selected mailbox
}

// Notify is what NOTIFY asks for; no group is NONE.
type Notify struct {
	Status bool // the state of the mailboxes first
	Groups []EventGroup
}

// Notify reads "NONE" / "SET" [SP "STATUS"] SP event-group *(SP event-group), to the end.
func (d *Decoder) Notify() (n Notify) {
	switch string(d.word()) {
	case "NONE":
		return n
	case "SET":
	default:
		d.Fail("SET or NONE is needed")
	}
	n.Status = d.skipFold(" STATUS")
	for selected := 0; ; {
		g := d.SP().eventGroup()
		if n.Groups = append(n.Groups, g); len(n.Groups) > maxFilters {
			d.Fail("too many event groups")
		}
		if g.Kind <= FilterSelectedDelayed {
			selected++
		}
		if selected > 1 {
			d.Fail("the selected mailbox is given twice")
		}
		if !d.More() {
			return n
		}
	}
}

// eventGroup reads "(" filter-mailboxes SP events ")".
func (d *Decoder) eventGroup() (g EventGroup) {
	d.Expect('(')
	g.MailboxFilter = d.mailboxFilter()
	if d.SP(); d.Is('(') {
		d.NonEmptyList(32, func() { d.event(&g) })
	} else if string(d.word()) != "NONE" {
		d.Fail("events are needed")
	}
	d.Expect(')')
	// RFC 5465 section 5: MessageNew and MessageExpunge go together, FlagChange with both.
	const both = EventMessageNew | EventMessageExpunge
	if e := g.Events & both; e != 0 && e != both || g.Events&EventFlagChange != 0 && e != both {
		d.Fail("MessageNew, MessageExpunge: one without the other")
	}
	if g.Kind <= FilterSelectedDelayed && g.Events&^(messageEvents|EventUnknown) != 0 || g.Kind > FilterSelectedDelayed && g.Fetch != nil {
		d.Fail("not for this mailbox filter")
	}
	return g
}

func (d *Decoder) event(g *EventGroup) {
	w := d.word()
	for i, name := range eventNames {
		if strings.EqualFold(string(w), name) {
			g.Events |= 1 << i
			if i == 0 && d.spaceThen('(') {
				g.Fetch = d.fetchList()
			}
			return
		}
	}
	g.Events |= EventUnknown
}
