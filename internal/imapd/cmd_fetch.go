package imapd

import (
	"errors"
	"slices"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// fetch is a FETCH under way.
type fetch struct {
	u       *user
	items   []imap.FetchItem
	same    []same // for each of them
	facts   bool   // something is asked for that is in the facts of a message
	withUID bool
	changed map[uint32]bool // got \Seen from us
	failed  error           // the first message that could not be given
}

// same is what is the same of an item in the responses for all messages.
type same struct {
	name   []byte
	fields facts.Names // of a header, if all that are asked for are in the facts of messages; else 0
}

// RFC 9051 section 6.4.5: "FETCH" SP sequence-set SP fetch-att. RFC 7162 section 3.1.4: CHANGEDSINCE, VANISHED. RFC 9394 section 3.3: PARTIAL.
func (u *user) cmdFetch(cmd imap.Command, d *imap.Decoder) error {
	set := d.SP().NumSet()
	p := d.SP().Fetch()
	if err := d.End(); err != nil {
		return err
	}
	if p.Vanished && !(cmd.UID && u.qresync) {
		return imap.Bad("VANISHED is for UID FETCH, and after ENABLE QRESYNC")
	}
	f := &fetch{u: u, items: p.Items, withUID: cmd.UID}
	uids, missing, err := u.set(set, cmd.UID)
	if err != nil {
		return err
	}
	if p.Partial != nil && u.beyond(uint64(p.Partial.Last-p.Partial.First)+1) {
		return u.refuseLimited()
	}
	if p.ChangedSince > 0 && !f.has(imap.FetchModSeq) { // RFC 7162 section 3.1.4.1: it adds MODSEQ
		f.items = append(f.items, imap.FetchItem{Kind: imap.FetchModSeq})
	}
	seen := f.plan()
	if p.ChangedSince > 0 {
		u.enableCondstore()
		if uids, err = u.changedSince(uids, set, p); err != nil {
			return err
		}
	}
	if p.Partial != nil {
		from, to := p.Partial.Of(len(uids))
		uids = uids[from:to]
	}
	uids = u.bounded(uids)
	if f.has(imap.FetchModSeq) {
		u.enableCondstore()
	}
	if seen && !u.view.readOnly && u.view.rights&maildir.KeepSeen != 0 { // RFC 4314 section 4
		if err := f.markSeen(uids); err != nil {
			return err
		}
	}
	if err := f.all(uids); err != nil {
		return err
	}
	switch {
	case f.failed != nil && !errors.Is(f.failed, mailbox.ErrExpunged):
		return f.failed
	case missing, f.failed != nil && !cmd.UID:
		return errGoneSome
	}
	return nil
}

// errGoneSome ends a FETCH, STORE or SEARCH by numbers some of which are of messages that others have removed, which the client will be told. It is no failure, nor is it one by
// UIDs (RFC 9051 section 6.4.9): clients show a NO to their users, who can do nothing. RFC 2180 section 4 leaves OK and NO open.
var errGoneSome = imap.OK(imap.ExpungeIssued, "some of the messages are gone")

func (f *fetch) has(k imap.FetchKind) bool {
	return slices.ContainsFunc(f.items, func(i imap.FetchItem) bool { return i.Kind == k })
}

// plan says whether the messages are seen by being fetched.
func (f *fetch) plan() (seen bool) {
	for i := range f.items {
		item := &f.items[i]
		x := same{name: append(imap.AppendFetchName(nil, item, f.u.c.Mode), ' ')}
		seen = seen || item.SetsSeen()
		switch item.Kind {
		case imap.FetchFlags, imap.FetchInternalDate, imap.FetchSaveDate, imap.FetchSize, imap.FetchModSeq, imap.FetchRFC822:
		case imap.FetchUID:
			f.withUID = true
		case imap.FetchSection:
			f.facts = f.facts || len(item.Section.Part) > 0 || item.Section.Text != imap.SectionAll
			x.fields = knownFields(&item.Section)
		default:
			f.facts = true
		}
		f.same = append(f.same, x)
	}
	return seen
}

// changedSince leaves of the messages those that were changed since, and says which have gone if that was asked.
func (u *user) changedSince(uids []uint32, set imap.NumSet, p imap.Fetch) (changed []uint32, err error) {
	v := u.view
	if p.Vanished {
		ch, ok := v.box.Since(v.validity, p.ChangedSince)
		if !ok {
			return nil, errValidity
		}
		set.Resolve(u.lastUID())
		u.tellEarlier(ch, set, 0)
	}
	v.box.Each(uids, func(_ int, m *mailbox.Message) bool {
		if m.ModSeq > p.ChangedSince {
			changed = append(changed, m.UID)
		}
		return true
	})
	return changed, nil
}

// markSeen gives \Seen to those that have not got it.
func (f *fetch) markSeen(uids []uint32) error {
	v := f.u.view
	var unseen []uint32
	v.box.Each(uids, func(_ int, m *mailbox.Message) bool {
		if m.Flags&mailbox.Seen == 0 {
			unseen = append(unseen, m.UID)
		}
		return true
	})
	if len(unseen) == 0 {
		return nil
	}
	changed, err := v.box.SetFlags(v.validity, unseen, mailbox.Add, mailbox.Seen, nil)
	if err != nil {
		return err
	}
	v.told(changed)
	f.changed = make(map[uint32]bool, len(changed))
	for i := range changed {
		f.changed[changed[i].UID] = true
	}
	return nil
}

// all fetches messages.
func (f *fetch) all(uids []uint32) error {
	u := f.u
	if f.facts {
		n := 0
		err := u.view.box.Facts(u.ctx, u.view.validity, uids, func(uid uint32, b []byte) error {
			n++
			return f.one(uid, b)
		})
		if err == nil && n < len(uids) {
			f.failed = mailbox.ErrExpunged
		}
		return err
	}
	for _, uid := range uids {
		if err := f.one(uid, nil); err != nil {
			return err
		}
	}
	return nil
}

// one fetches a message. An error is one after which nothing more can be sent.
func (f *fetch) one(uid uint32, known facts.Facts) error {
	u := f.u
	m, ok := u.view.box.Message(uid)
	if !ok {
		f.failed = mailbox.ErrExpunged
		return nil
	}
	if err := u.learn(m.Keywords); err != nil {
		return err
	}
	return f.message(&m, known)
}

// message sends one FETCH response.
func (f *fetch) message(m *mailbox.Message, known facts.Facts) error {
	u := f.u
	r := response{u: u, m: m, original: original{box: u.view.box, uid: m.UID, known: known, fields: u.fields}}
	defer r.close()
	if err := undecodable(f.items, known); err != nil {
		f.failed = err
		return nil
	}
	// RFC 7162 section 3.2.4: the UID is said too where \Seen was set.
	b := u.beginFetch(u.buf[:0], u.view.number(m.UID), m.UID, f.withUID || u.condstore && f.changed[m.UID])
	if f.changed[m.UID] && !f.has(imap.FetchFlags) {
		b = append(u.appendFlags(append(b, "FLAGS "...), m), ' ')
	}
	if !f.has(imap.FetchModSeq) && u.condstore && (f.changed[m.UID] || f.has(imap.FetchFlags)) {
		b = append(imap.AppendNumber(append(b, "MODSEQ ("...), m.ModSeq), ") "...)
	}
	for i := range f.items {
		var err error
		if b, err = r.append(b, &f.items[i], &f.same[i]); err != nil {
			var s *imap.Status
			if r.sent {
				return cutError{err}
			}
			if !errors.Is(err, mailbox.ErrExpunged) && !errors.As(err, &s) {
				return err
			}
			// Nothing of this message was sent. Those that can be read are not to wait for one that cannot.
			f.failed = err
			return nil
		}
	}
	if n := len(b); n > 0 && b[n-1] == ' ' {
		b = b[:n-1]
	}
	u.fields = r.fields
	u.send(append(b, ")\r\n"...))
	if err := u.c.Err(); err != nil {
		return connError{err}
	}
	return nil
}

// cutError is one in the midst of a literal: whatever came next would be taken for its octets, so the session ends without a word (M12).
type cutError struct{ error }

func (e cutError) Unwrap() error { return e.error }
