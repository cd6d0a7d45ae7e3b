package imapd

import (
	"errors"
	"slices"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// entry is a name that LIST may tell of.
type entry struct {
	name       string
	there      bool // a mailbox, not only a level above one
	subscribed bool
	children   bool // there are mailboxes below it
	plain      bool // RFC 3501 has \Noselect, and not \NonExistent
	childInfo  bool // RECURSIVEMATCH: some below it are what was asked for, and are not told themselves
	uses       []string
	place      mailbox.Place // of one that is there
	dir        string        // of its directory
	id         uint64        // only for NOTIFY: mailbox.Account.Identity
	oldName    string        // RFC 5465 section 5.4: that it had before
	noAccess   bool          // RFC 5465 section 3.1: it was to be watched, and may not be read
}

// RFC 9051 section 6.3.9: "LIST" [SP select-opts] SP mailbox SP mbox-or-pat [SP return-opts].
func (u *user) cmdList(_ imap.Command, d *imap.Decoder) error {
	l := d.SP().ListCommand()
	if err := d.End(); err != nil {
		return err
	}
	if !l.Extended && l.Patterns[0] == "" { // section 6.3.9: the delimiter
		u.send(append(u.buf[:0], "* LIST (\\Noselect) \".\" \"\"\r\n"...))
		return nil
	}
	all, err := u.entries(l.Select&imap.ListSubscribed != 0)
	if err != nil {
		return err
	}
	for i := range all {
		e := &all[i]
		if !matchesAny(l, e.name) || !u.selectedBy(l, all, e) {
			continue
		}
		if l.Select&imap.ListSubscribed == 0 && !e.there && !e.children {
			continue
		}
		e.plain = !l.Extended && u.revision1()
		u.writeEntry("LIST", e, (l.Select|l.Return)&imap.ListSubscribed != 0)
		if l.Return&imap.ListStatus != 0 && e.there {
			if err := u.status(e.name, l.Status); err != nil && !errors.As(err, new(*imap.Status)) {
				u.srv.Log.Problem(u.id, "LIST: status of "+e.name, err) // RFC 5819 section 2: no STATUS then
			}
		}
		if l.Return&imap.ListMyRights != 0 && e.there {
			if err := u.writeMyRights(e.name); err != nil {
				u.srv.Log.Problem(u.id, "LIST: rights in "+e.name, err) // RFC 8440 section 3: no MYRIGHTS then
			}
		}
		if l.Return&imap.ListMetadata != 0 && e.there { // RFC 9590 section 3
			p, err := u.mayAnnotate(e.name)
			if err != nil {
				continue
			}
			list, err := u.annotations(p, l.Metadata)
			if err != nil {
				u.srv.Log.Problem(u.id, "LIST: metadata of "+e.name, err)
				continue
			}
			u.writeMetadata(imap.GetMetadata{MaxSize: -1, Mailbox: e.name, Entries: l.Metadata}, list)
		}
	}
	return nil
}

// selectedBy applies the selection options (RFC 5258 section 3.1, RFC 6154 section 4).
func (u *user) selectedBy(l imap.List, all []entry, e *entry) bool {
	wanted := func(e *entry) bool {
		return (l.Select&imap.ListSubscribed == 0 || e.subscribed) && (l.Select&imap.ListSpecialUse == 0 || len(e.uses) > 0)
	}
	if l.Select&imap.ListRecursiveMatch != 0 {
		for i := range all {
			if c := &all[i]; isBelow(c.name, e.name) && wanted(c) && !matchesAny(l, c.name) {
				e.childInfo = true
				return true
			}
		}
	}
	return wanted(e)
}

// RFC 3501 section 6.3.9: "LSUB" SP mailbox SP list-mailbox: names that are subscribed to, and, where % stops above one, the level above it.
func (u *user) cmdLsub(_ imap.Command, d *imap.Decoder) error {
	l := d.SP().ListCommand()
	if err := d.End(); err != nil {
		return err
	}
	all, err := u.entries(true)
	if err != nil {
		return err
	}
	for i := range all {
		e := &all[i]
		if !matchesAny(l, e.name) {
			continue
		}
		below := slices.ContainsFunc(all, func(c entry) bool {
			return c.subscribed && isBelow(c.name, e.name) && !matchesAny(l, c.name)
		})
		if e.subscribed || below {
			u.writeEntry("LSUB", &entry{name: e.name, there: e.subscribed, children: e.children}, false)
		}
	}
	return nil
}

// entries are all names, INBOX first, then in their order: mailboxes, the levels above them, and, if asked for, what is subscribed to and not there.
func (u *user) entries(subscribed bool) ([]entry, error) {
	named, err := u.namespaces.All()
	if err != nil {
		return nil, err
	}
	subs, err := u.account.Folders.Subscriptions()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*entry, len(named))
	get := func(name string) *entry {
		e := byName[name]
		if e == nil {
			e = &entry{name: name}
			byName[name] = e
		}
		return e
	}
	get(maildir.Inbox).there = true
	for _, f := range named {
		e := get(f.Name)
		e.there, e.uses, e.place, e.dir = true, f.Uses, f.Place, f.Dir
		for at := strings.LastIndexByte(f.Name, '.'); at > 0; at = strings.LastIndexByte(f.Name[:at], '.') {
			get(level(f.Name[:at])).children = true
		}
	}
	for _, name := range subs {
		if e := byName[name]; e != nil {
			e.subscribed = true
		} else if subscribed {
			get(name).subscribed = true
			for at := strings.LastIndexByte(name, '.'); at > 0; at = strings.LastIndexByte(name[:at], '.') {
				get(level(name[:at]))
			}
		}
	}
	list := make([]entry, 0, len(byName))
	for _, e := range byName {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b entry) int {
		switch {
		case a.name == b.name:
			return 0
		case a.name == maildir.Inbox:
			return -1
		case b.name == maildir.Inbox:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
}

// level is the name of a level above mailboxes: INBOX in any case is INBOX (RFC 9051 section 9), and a client that is told of another "inbox" has to take it for that one.
func level(name string) string {
	if strings.EqualFold(name, maildir.Inbox) {
		return maildir.Inbox
	}
	return name
}

func isBelow(name, above string) bool {
	return len(name) > len(above) && name[len(above)] == '.' && level(name[:len(above)]) == above
}

// writeEntry sends one LIST or LSUB response. RFC 9051 section 7.3.1: the attributes; subscribed: \Subscribed among them.
func (u *user) writeEntry(response string, e *entry, subscribed bool) {
	b := append(append(append(u.buf[:0], "* "...), response...), " ("...)
	begin := len(b) - 1
	add := func(name string) { b = append(imap.Space(b, begin), name...) }
	switch {
	case e.there:
	case response == "LSUB":
		add(`\Noselect`)
	default:
		add(`\NonExistent`)
		if e.plain { // RFC 5258 section 3.4: else it is implied
			add(`\Noselect`)
		}
	}
	if e.noAccess {
		add(`\NoAccess`)
	}
	if e.children {
		add(`\HasChildren`)
	} else if e.there {
		add(`\HasNoChildren`)
	}
	if e.subscribed && subscribed {
		add(`\Subscribed`)
	}
	for _, use := range e.uses {
		add(use)
	}
	b = imap.AppendMailbox(append(b, `) "." `...), e.name, u.c.Mode)
	if e.childInfo {
		b = append(b, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	if e.oldName != "" {
		b = append(imap.AppendMailbox(append(b, ` ("OLDNAME" (`...), e.oldName, u.c.Mode), "))"...)
	}
	u.send(append(b, crlf...))
}

// writeName tells that a mailbox is there, for SELECT of revision 2.
func (u *user) writeName(name string) error {
	all, err := u.entries(false)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(all, func(e entry) bool { return e.name == name }); i >= 0 {
		u.writeEntry("LIST", &all[i], false)
	}
	return nil
}

func matchesAny(l imap.List, name string) bool {
	return slices.ContainsFunc(l.Patterns, func(p string) bool { return matches(l.Reference+p, name) })
}

// matches says whether a name is one of a pattern: "*" is anything, "%" anything without a delimiter. INBOX is of any case (RFC 9051 section 6.3.9), as a level too. A "*" that was
// passed is never taken back, and a "%" only up to the next delimiter, so time is at most that of pattern times name.
func matches(pattern, name string) bool {
	anyCase := 0
	if name == maildir.Inbox || isBelow(name, maildir.Inbox) {
		anyCase = len(maildir.Inbox)
	}
	p, n := 0, 0
	star, starAt, level, levelAt := -1, 0, -1, 0
	for n < len(name) || p < len(pattern) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, starAt, level = p, n, -1
			p++
		case p < len(pattern) && pattern[p] == '%':
			level, levelAt = p, n
			p++
		case p < len(pattern) && n < len(name) && (pattern[p] == name[n] || n < anyCase && pattern[p]&^0x20 == name[n]&^0x20):
			p++
			n++
		case level >= 0 && levelAt < len(name) && name[levelAt] != '.':
			levelAt++
			p, n = level+1, levelAt
		case star >= 0 && starAt < len(name):
			starAt++
			p, n, level = star+1, starAt, -1
		default:
			return false
		}
	}
	return true
}
