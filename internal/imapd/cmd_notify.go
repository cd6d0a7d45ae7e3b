package imapd

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// maxWatched mailboxes are watched for a session, besides the selected one. Each is open, with six descriptors and two watches of the system, which the sessions of a
// user share.
const maxWatched = 128

const (
	messageEvents = imap.EventMessageNew | imap.EventMessageExpunge | imap.EventFlagChange
	nameEvents    = imap.EventMailboxName | imap.EventSubscriptionChange
)

// errOverflow: RFC 5465 section 3.1 and 5.8.
var errOverflow = imap.No(imap.NotificationOverflow, "too many mailboxes")

// RFC 5465 section 3.1: "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE").
func (u *user) cmdNotify(_ imap.Command, d *imap.Decoder) error {
	args := d.SP().Notify()
	if err := d.End(); err != nil {
		return err
	}
	n := &notify{u: u, watched: make(map[string]*watched), denied: make(map[string]bool)}
	for _, g := range args.Groups {
		switch {
		case g.Events&^(messageEvents|nameEvents) != 0:
			return imap.No(imap.CodeBadEvent((messageEvents | nameEvents).Names()), "not all of these events are known")
		case g.Kind <= imap.FilterSelectedDelayed:
			n.selected = g
		default:
			n.groups = append(n.groups, g)
		}
	}
	if err := n.begin(args.Status); err != nil {
		n.end()
		u.notify.goOn()
		return err
	}
	u.notify.end()
	u.notify = n
	return nil // the news of the selected mailbox follows, as after any command
}

// notify is what a client wants to be told of. Its methods but begin are for nil, too: then nothing was said, and he wants what everybody gets.
//
// What if more happens than he can be told? Nothing is kept for him: what is told is how mailboxes are now, when they are not as he was told last. So a client who does not read
// holds up his own session and no more.
type notify struct {
	u        *user
	selected imap.EventGroup   // of the zero value: nothing
	groups   []imap.EventGroup // of other mailboxes

	names   map[string]entry // as he knows them
	watched map[string]*watched
	denied  map[string]bool // that he was told of
	stop    func()          // of following the names; nil: they are not followed
}

// watched is a mailbox that is not selected, as the client knows it.
type watched struct {
	box      *mailbox.Mailbox
	stop     func()
	changed  atomic.Bool // something may have happened
	events   imap.Events
	validity uint32
	next     uint32
	messages int
	highest  uint64
	unseen   uint64
}

func (n *notify) ofSelected() bool { return n == nil || n.selected.Events != 0 }

func (n *notify) flags() bool { return n == nil || n.selected.Events&imap.EventFlagChange != 0 }

// begin opens what is to be watched. Status: the client is told how it is now.
func (n *notify) begin(status bool) error {
	if len(n.groups) == 0 {
		return nil
	}
	n.stop = n.u.namespaces.Follow(n.u.attention.call)
	all, err := n.u.entries(true)
	if err != nil {
		return err
	}
	n.names = n.byName(all)
	if err := n.watch(all, false); err != nil {
		return err
	}
	for i := range all {
		if w := n.watched[all[i].name]; status && w != nil && !n.isSelected(all[i].name) {
			if err := n.status(w, all[i].name, w.events, true, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *notify) end() {
	if n == nil {
		return
	}
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
	for name := range n.watched {
		n.drop(name)
	}
}

// goOn follows the names again: only who followed them last is told.
func (n *notify) goOn() {
	if n == nil || n.stop == nil {
		return
	}
	n.stop()
	n.stop = n.u.namespaces.Follow(n.u.attention.call)
	n.u.attention.call() // what has happened meanwhile
}

func (n *notify) drop(name string) {
	w := n.watched[name]
	delete(n.watched, name)
	w.stop()
	w.box.Close()
}

func (n *notify) byName(all []entry) map[string]entry {
	m := make(map[string]entry, len(all))
	for _, e := range all {
		if e.there {
			e.id = e.place.Account.Identity(e.dir)
		}
		m[e.name] = e
	}
	return m
}

// eventsOf are those that a mailbox is watched for. A group with NONE takes nothing away from others.
func (n *notify) eventsOf(name string, subscribed bool) (e imap.Events) {
	for i := range n.groups {
		if g := &n.groups[i]; covers(&g.MailboxFilter, name, subscribed, n.u.namespaces.IsShared(name)) {
			e |= g.Events
		}
	}
	return e
}

func (n *notify) isSelected(name string) bool { return n.u.view != nil && n.u.view.name == name }

// watch opens those mailboxes that are to be watched, and closes the others. Of one that is new everything is news.
func (n *notify) watch(all []entry, new bool) error {
	wanted := make(map[string]imap.Events)
	for i := range all {
		if e := &all[i]; e.there {
			if events := n.eventsOf(e.name, e.subscribed) & messageEvents; events != 0 {
				wanted[e.name] = events
			}
		}
	}
	if len(wanted) > maxWatched {
		return errOverflow
	}
	for name, w := range n.watched {
		if _, ok := wanted[name]; !ok || w.box.Gone() {
			n.drop(name)
		}
	}
	for name, events := range wanted {
		if w := n.watched[name]; w != nil {
			w.events = events
			continue
		}
		p, err := n.u.need(name, maildir.Read)
		var no *imap.Status
		if errors.As(err, &no) {
			if e := n.names[name]; !n.denied[name] {
				n.denied[name], e.noAccess = true, true
				n.u.writeEntry("LIST", &e, true)
			}
			continue
		}
		delete(n.denied, name)
		var box *mailbox.Mailbox
		if err == nil {
			box, err = p.Open()
		}
		if errors.Is(err, maildir.ErrNoFolder) {
			continue
		}
		if err != nil {
			return err
		}
		w := &watched{box: box, events: events}
		w.stop = box.Follow(func() { w.changed.Store(true); n.u.attention.call() })
		n.watched[name] = w
		if err := box.Sync(); err != nil {
			return err
		}
		if w.changed.Store(new); !new {
			w.note()
		}
	}
	return nil
}

// note takes down how the mailbox is, and says what is new in it.
func (w *watched) note() (e imap.Events, unseen bool) {
	validity, next, highest, messages := w.box.Status()
	if validity == w.validity && highest == w.highest {
		return 0, false
	}
	n := countFlags(w.box, mailbox.Seen, 0)
	unseen = n != w.unseen
	switch {
	case validity != w.validity:
		e = messageEvents
	case next != w.next:
		e = imap.EventMessageNew
	case messages != w.messages:
		e = imap.EventMessageExpunge
	default:
		e = imap.EventFlagChange
	}
	w.validity, w.next, w.highest, w.messages, w.unseen = validity, next, highest, messages, n
	return e, unseen
}

// status tells how a watched mailbox is, for these events (RFC 5465 sections 3.1 and 5.1 to 5.3). First: for NOTIFY itself.
func (n *notify) status(w *watched, name string, e imap.Events, unseen, first bool) error {
	u := n.u
	items := imap.StatusUIDValidity
	if e&(imap.EventMessageNew|imap.EventMessageExpunge) != 0 {
		items |= imap.StatusMessages | imap.StatusUIDNext
	}
	if u.condstore || first && e&imap.EventFlagChange != 0 {
		items |= imap.StatusHighestModSeq
	}
	if w.events&imap.EventFlagChange != 0 && unseen {
		items |= imap.StatusUnseen
	}
	b, err := u.appendStatus(imap.AppendMailbox(append(u.buf[:0], "* STATUS "...), name, u.c.Mode), w.box, items)
	u.send(b)
	return err
}

// announce tells the client what he wants to know, while he waits. Idle: also that messages are gone, which SELECTED-DELAYED keeps for a command, as IDLE is one.
func (u *user) announce(idle bool) error {
	due := u.attention.take()
	if err := u.tell(idle || u.notify != nil && u.notify.selected.Kind == imap.FilterSelected); err != nil {
		return err
	}
	n := u.notify
	if !due || n == nil || n.stop == nil {
		return nil
	}
	err := n.others()
	if err == nil {
		return nil
	}
	// RFC 5465 section 5.8: as if NOTIFY NONE was said.
	if err != errOverflow {
		u.srv.Log.Problem(u.id, "NOTIFY", err)
	}
	n.end()
	u.notify = &notify{u: u}
	u.say(imap.OK(imap.NotificationOverflow, "there are no notifications any more"))
	return nil
}

// others tells of all mailboxes but the selected one.
func (n *notify) others() error {
	u := n.u
	if u.namespaces.Changed() {
		all, err := u.entries(true)
		if err != nil {
			return err
		}
		n.tellNames(all)
		if err := n.watch(all, true); err != nil {
			return err
		}
	}
	for name, w := range n.watched {
		if !w.changed.Swap(false) || w.box.Gone() { // which the folders will say
			continue
		}
		if err := w.box.Sync(); err != nil {
			return err
		}
		e, unseen := w.note()
		switch {
		case e&w.events == 0, n.isSelected(name):
			continue
		case e == imap.EventFlagChange && !u.condstore && !unseen: // section 5.1: there is nothing to say
			continue
		}
		_, err := u.need(name, maildir.Read)
		var no *imap.Status
		if errors.As(err, &no) || errors.Is(err, maildir.ErrNoFolder) { // section 5.9: he has lost the right
			n.drop(name)
			continue
		}
		if err == nil {
			err = n.status(w, name, e, unseen, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tellNames tells of mailboxes that have come, gone, got another name, or are subscribed to or no more, and of those above (sections 5.4 and 5.5).
func (n *notify) tellNames(all []entry) {
	old, now := n.names, n.byName(all)
	n.names = now
	from := renamed(old, now)
	affected := make(map[string]bool)
	wants := func(name string, e imap.Events) bool {
		return n.eventsOf(name, old[name].subscribed || now[name].subscribed)&e != 0
	}
	for to := range from {
		if !wants(to, imap.EventMailboxName) { // then it has gone
			delete(from, to)
		}
	}
	moved := make(map[string]bool)
	for to, name := range from {
		moved[to], moved[name] = true, true
		if !withParent(from, to, name) {
			affected[to] = true
		}
	}
	for _, names := range []map[string]entry{old, now} {
		for name := range names {
			was, is := old[name], now[name]
			if was.there != is.there && !moved[name] && wants(name, imap.EventMailboxName) {
				affected[name] = true
				if at := strings.LastIndexByte(name, '.'); at > 0 && wants(name[:at], imap.EventMailboxName) {
					affected[name[:at]] = true
				}
			}
			if was.subscribed != is.subscribed && wants(name, imap.EventSubscriptionChange) {
				affected[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(affected)) {
		e := now[name]
		e.name, e.oldName = name, from[name]
		n.u.writeEntry("LIST", &e, true)
	}
}

// renamed are the mailboxes that have another name now, with the old one.
func renamed(old, now map[string]entry) map[string]string {
	gone := make(map[uint64]string)
	for name, was := range old {
		if was.there && !now[name].there {
			gone[was.id] = name
		}
	}
	from := make(map[string]string)
	for name, is := range now {
		if was, ok := gone[is.id]; ok && is.there && is.id != 0 && !old[name].there {
			from[name] = was
		}
	}
	return from
}

// withParent says that a mailbox has got its name with the one above it.
func withParent(from map[string]string, to, name string) bool {
	i, k := strings.LastIndexByte(to, '.'), strings.LastIndexByte(name, '.')
	return i > 0 && k > 0 && to[i:] == name[k:] && from[to[:i]] == name[:k]
}

// knows notes what the session has done to a mailbox itself: that is no news (section 5).
func (n *notify) knows(name string, change func(*entry)) {
	if n == nil || n.names == nil {
		return
	}
	e := n.names[name]
	e.name = name
	change(&e)
	n.names[name] = e
}

func (n *notify) knowsRenamed(from, to string) {
	if n == nil {
		return
	}
	for _, e := range slices.Collect(maps.Values(n.names)) {
		below, ok := strings.CutPrefix(e.name, from)
		if !ok || !e.there || below != "" && below[0] != '.' {
			continue
		}
		n.knows(to+below, func(e *entry) { e.there = true })
		if from != maildir.Inbox {
			n.knows(e.name, func(e *entry) { e.there = false })
		}
	}
}

// fetchNew gives what was asked for of messages that have come (section 5.2), also by contexts that they have come to (section 7), but for those that this session has
// made. They are not seen by it.
func (u *user) fetchNew(came []uint32) error {
	v := u.view
	made := v.made
	v.made = nil
	if u.notify == nil && len(u.contexts) == 0 {
		return nil
	}
	slices.Sort(made)
	for _, uid := range came {
		if _, ours := slices.BinarySearch(made, uid); ours {
			continue
		}
		f := &fetch{u: u}
		if u.notify != nil {
			f.items = slices.Clone(u.notify.selected.Fetch)
		}
		for _, c := range u.contexts {
			if slices.Contains(c.added, uid) {
				f.add(c.items)
			}
		}
		if len(f.items) == 0 {
			continue
		}
		f.plan()
		if err := f.all([]uint32{uid}); err != nil {
			return err
		}
	}
	return nil
}

// add adds those items that are not asked for already.
func (f *fetch) add(items []imap.FetchItem) {
	for i := range items {
		if !slices.ContainsFunc(f.items, func(k imap.FetchItem) bool {
			return string(imap.AppendFetchName(nil, &k, 0)) == string(imap.AppendFetchName(nil, &items[i], 0))
		}) {
			f.items = append(f.items, items[i])
		}
	}
}

// made notes messages that this session has put into a mailbox.
func (u *user) made(to *mailbox.Mailbox, uids []uint32) {
	if u.view != nil && u.view.box == to {
		u.view.made = append(u.view.made, uids...)
	}
}
