package imapd

import (
	"slices"
	"strconv"
	"time"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/uidlist"
)

// The flags of a maildir by the names that IMAP has for them. Passed has none: Dovecot does not show it either, and clients have the keyword $Forwarded.
var systemFlags = [...]struct {
	flag mailbox.Flags
	name string
}{
	{mailbox.Replied, `\Answered`}, {mailbox.Flagged, `\Flagged`}, {mailbox.Trashed, `\Deleted`}, {mailbox.Seen, `\Seen`}, {mailbox.Draft, `\Draft`},
}

// allFlags are those of clients.
const allFlags = mailbox.Replied | mailbox.Flagged | mailbox.Trashed | mailbox.Seen | mailbox.Draft

// splitFlags sorts a client's flags into those of a maildir and keywords. RFC 9051 section 2.3.2: a client cannot change \Recent, and other flags with a backslash are not his to make.
func splitFlags(names []string) (f mailbox.Flags, keywords []string, err error) {
next:
	for _, name := range names {
		for _, s := range systemFlags {
			if s.name == name {
				f |= s.flag
				continue next
			}
		}
		if name[0] == '\\' {
			return 0, nil, imap.Bad("not a flag that can be set")
		}
		keywords = append(keywords, name)
	}
	return f, keywords, nil
}

// appendFlags appends the flags of a message, in parentheses.
func (u *user) appendFlags(b []byte, m *mailbox.Message) []byte {
	b = append(b, '(')
	n := len(b)
	for _, s := range systemFlags {
		if m.Flags&s.flag != 0 {
			b = append(append(b, s.name...), ' ')
		}
	}
	if u.view.recent[m.UID] && u.revision1() {
		b = append(b, `\Recent `...)
	}
	for bits, i := m.Keywords, 0; bits != 0; bits, i = bits>>1, i+1 {
		if bits&1 != 0 && u.keywords[i] != "" {
			b = append(append(b, u.keywords[i]...), ' ')
		}
	}
	if len(b) > n {
		b = b[:len(b)-1]
	}
	return append(b, ')')
}

// keywordsOf is the keywords of a mailbox that can be said: their names stand in a file to which other programs can write anything.
func keywordsOf(box *mailbox.Mailbox) (uidlist.Keywords, error) {
	k, err := box.Keywords()
	for i := range k {
		if !imap.IsFlag(k[i]) || k[i][0] == '\\' {
			k[i] = ""
		}
	}
	return k, err
}

// learn tells the client of keywords that he has not been told of, before he meets them on messages. Dovecot renames messages first and then gives the new letter its
// name: a letter without one is waited for once, not for long, and looked up again when it is met.
func (u *user) learn(bits uint32) error {
	bits &^= u.named
	const wait = 100 * time.Millisecond
	if bits == 0 || bits&^u.nameless == 0 && time.Since(u.looked) < wait { // not for each message of a FETCH
		return nil
	}
	until := time.Now()
	if bits&^u.nameless != 0 && until.Sub(u.looked) > wait {
		until = until.Add(wait)
	}
	for {
		k, err := keywordsOf(u.view.box)
		if err != nil {
			return err
		}
		if k != u.keywords {
			u.keywords = k
			u.writeFlags()
		}
		if bits &^= u.named; bits == 0 || !time.Now().Before(until) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	u.nameless, u.looked = u.nameless|bits, time.Now()
	return nil
}

// learnOf is learn for messages.
func (u *user) learnOf(list []mailbox.Message) error {
	bits := uint32(0)
	for i := range list {
		bits |= list[i].Keywords
	}
	return u.learn(bits)
}

// writeFlags sends FLAGS and PERMANENTFLAGS.
func (u *user) writeFlags() {
	var names, may []string
	flags, keywords := mayChange(u.view.rights)
	for _, s := range systemFlags {
		names = append(names, s.name)
		if flags&s.flag != 0 {
			may = append(may, s.name)
		}
	}
	full := true
	u.named = 0
	for i, k := range u.keywords {
		if k != "" {
			names = append(names, k)
			u.named |= 1 << i
			if keywords {
				may = append(may, k)
			}
		} else {
			full = false
		}
	}
	u.send(append(imap.AppendFlags(append(u.buf[:0], "* FLAGS "...), names...), crlf...))
	switch {
	case u.view.readOnly:
		u.say(imap.OK(imap.CodePermanentFlags(nil), "nothing can be changed"))
	case keywords && !full:
		u.say(imap.OK(imap.CodePermanentFlags(append(may, `\*`)), "these flags are kept, and new ones"))
	default: // RFC 4314 section 5.1.1: of a mailbox with other rights those that may be changed
		u.say(imap.OK(imap.CodePermanentFlags(may), "these flags are kept"))
	}
}

// tell says what has happened in the selected mailbox since the last time, as far as the client wants to know. RFC 9051 section 7.5.1: expunge, whether it may be said that
// messages are gone.
func (u *user) tell(expunge bool) error {
	v := u.view
	if v == nil {
		return nil
	}
	if !u.notify.ofSelected() && !u.expunging {
		if v.box.Gone() {
			return errFolder
		}
		return nil // it waits until he wants to know, or selects it anew
	}
	recent := len(v.recent)
	n, err := v.sync(expunge)
	if err != nil {
		return err
	}
	for _, c := range u.contexts {
		c.vanished(n)
	}
	u.vanished(n)
	switch {
	case len(n.came) > 0:
		u.count()
	case len(v.recent) < recent:
		u.countRecent()
	}
	if u.notify.flags() {
		if err := u.learnOf(n.changed); err != nil {
			return err
		}
		for i := range n.changed {
			u.fetchFlags(&n.changed[i])
		}
	}
	for _, c := range u.contexts {
		if err := c.look(n); err != nil {
			return err
		}
	}
	if err := u.fetchNew(n.came); err != nil {
		return err
	}
	for _, c := range u.contexts {
		if err := c.tell(); err != nil {
			return err
		}
	}
	return nil
}

// vanished says which messages are gone.
func (u *user) vanished(n news) {
	if len(n.vanish) == 0 {
		return
	}
	u.saved = slices.DeleteFunc(u.saved, func(uid uint32) bool { // RFC 5182 section 2.1
		_, gone := slices.BinarySearch(n.vanish, uid)
		return gone
	})
	b := u.buf[:0]
	if u.qresync || u.uidOnly {
		u.send(append(imap.AppendNumbers(append(b, "* VANISHED "...), n.vanish), crlf...))
		return
	}
	for _, number := range n.gone {
		b = append(strconv.AppendUint(append(b, "* "...), uint64(number), 10), " EXPUNGE\r\n"...)
		if len(b) > 8<<10 {
			u.send(b)
			b = u.buf[:0]
		}
	}
	u.send(b)
}

// count says how many messages there are.
func (u *user) count() {
	b := strconv.AppendInt(append(u.buf[:0], "* "...), int64(len(u.view.uids)), 10)
	u.send(append(b, " EXISTS\r\n"...))
	if u.revision1() {
		u.claim()
	}
	u.countRecent()
}

// countRecent says how many of them are recent.
func (u *user) countRecent() {
	if u.revision1() {
		b := strconv.AppendInt(append(u.buf[:0], "* "...), int64(len(u.view.recent)), 10)
		u.send(append(b, " RECENT\r\n"...))
	}
}

// claim makes the messages recent that no session was told of before this one.
func (u *user) claim() {
	v := u.view
	below := uint32(0)
	if !v.readOnly {
		below = 1
		if n := len(v.uids); n > 0 {
			below += v.uids[n-1]
		}
	}
	for _, uid := range v.box.Recent(below) {
		if v.recent == nil {
			v.recent = make(map[uint32]bool)
		}
		if v.number(uid) != 0 {
			v.recent[uid] = true
		}
	}
}

// beginFetch begins a FETCH response, or a UIDFETCH one (RFC 9586), with the UID where the client wants it in all.
func (u *user) beginFetch(b []byte, number, uid uint32, withUID bool) []byte {
	b = append(b, "* "...)
	if u.uidOnly {
		return append(strconv.AppendUint(b, uint64(uid), 10), " UIDFETCH ("...)
	}
	b = append(strconv.AppendUint(b, uint64(number), 10), " FETCH ("...)
	if withUID {
		b = append(strconv.AppendUint(append(b, "UID "...), uint64(uid), 10), ' ')
	}
	return b
}

// fetchFlags says what the flags of a message are.
func (u *user) fetchFlags(m *mailbox.Message) {
	b := u.beginFetch(u.buf[:0], u.view.number(m.UID), m.UID, u.uidCommand || u.condstore || u.notify != nil)
	b = u.appendFlags(append(b, "FLAGS "...), m)
	if u.condstore {
		b = append(strconv.AppendUint(append(b, " MODSEQ ("...), m.ModSeq, 10), ')')
	}
	u.send(append(b, ")\r\n"...))
}
