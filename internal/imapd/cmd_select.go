package imapd

import (
	"errors"
	"slices"
	"strconv"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// RFC 9051 section 6.3.2 and 6.3.3: "SELECT" / "EXAMINE" SP mailbox [SP select-params]. RFC 7162 section 3.1.8 and 3.2.5: CONDSTORE, QRESYNC.
func (u *user) cmdSelect(cmd imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	p := d.SelectParams()
	if err := d.End(); err != nil {
		return err
	}
	if p.QResync != nil && !u.qresync {
		return imap.Bad("QRESYNC was not enabled")
	}
	// RFC 9051 section 6.3.2: whatever comes of it, the mailbox that was selected is no more.
	u.unselect()
	place, rights, err := u.at(name)
	if err != nil {
		return err
	}
	if rights&maildir.Read == 0 {
		return noPerm(maildir.Read)
	}
	box, err := place.Open()
	if err != nil {
		return err
	}
	if err := box.Sync(); err != nil {
		box.Close()
		return err
	}
	if p.CondStore || p.QResync != nil {
		u.condstore = true
	}
	u.view, u.nameless = newView(box, name, cmd.Name == "EXAMINE", rights), 0
	if u.keywords, err = keywordsOf(box); err != nil {
		u.unselect()
		return err
	}
	if err := u.describe(name); err != nil {
		u.unselect()
		return err
	}
	if p.QResync != nil {
		if err := u.resynchronize(p.QResync); err != nil {
			u.unselect()
			return err
		}
	}
	if u.view.readOnly {
		return imap.OK(imap.ReadOnly, "the mailbox is open to be read")
	}
	return imap.OK(imap.ReadWrite, "the mailbox is open")
}

// describe sends what is to be known of a mailbox when it is opened.
func (u *user) describe(name string) error {
	v := u.view
	u.count()
	u.writeFlags()
	if u.revision1() {
		if n := v.number(v.box.FirstUnseen()); n != 0 {
			u.say(imap.OK(imap.CodeUnseen(n), "the first message that was not seen"))
		}
	}
	_, next, _, _ := v.box.Status()
	u.say(imap.OK(imap.CodeUIDValidity(v.validity), "UIDs are valid"))
	u.say(imap.OK(imap.CodeUIDNext(next), "the next UID"))
	u.say(imap.OK(imap.CodeHighestModSeq(v.modseq), "the highest mod-sequence"))
	id, err := v.box.ID(u.ctx)
	if err != nil {
		return err
	}
	u.say(imap.OK(imap.CodeMailboxID(id), "the mailbox's own"))
	if u.rev2 { // RFC 9051 section 6.3.2: LIST is required
		return u.writeName(name)
	}
	return nil
}

// resynchronize tells a client what has changed since it was last here (RFC 7162 section 3.2.5).
func (u *user) resynchronize(q *imap.QResync) error {
	v := u.view
	if q.UIDValidity != v.validity {
		return nil
	}
	ch, ok := v.box.Since(v.validity, q.ModSeq)
	if !ok {
		return errValidity
	}
	known := q.UIDs
	if len(known.Ranges) == 0 {
		known.Ranges = []imap.NumRange{{First: 1, Last: u.lastUID()}}
	}
	known.Resolve(u.lastUID())
	u.tellEarlier(ch, known, u.agreed(q))
	changed := slices.DeleteFunc(ch.Messages, func(m mailbox.Message) bool { return !known.Contains(m.UID) || v.number(m.UID) == 0 })
	if err := u.learnOf(changed); err != nil {
		return err
	}
	for i := range changed {
		u.fetchFlags(&changed[i])
	}
	return nil
}

// lastUID is the highest UID that a message has or had.
func (u *user) lastUID() uint32 {
	_, next, _, _ := u.view.box.Status()
	return next - 1
}

// tellEarlier says which messages of a set, with UIDs above from, have gone in the meantime: VANISHED (EARLIER). Where it is not remembered these are all that are not there, of which
// the client may know (RFC 7162 section 3.2.5.1 and 3.2.6).
func (u *user) tellEarlier(ch mailbox.Changes, known imap.NumSet, from uint32) {
	if !ch.Whole {
		if gone := u.missing(known, from); len(gone) > 0 {
			b := imap.AppendNumSet(append(u.buf[:0], "* VANISHED (EARLIER) "...), imap.NumSet{Ranges: gone})
			u.send(append(b, crlf...))
		}
		return
	}
	gone := slices.DeleteFunc(ch.Gone, func(uid uint32) bool { return uid <= from || !known.Contains(uid) })
	slices.Sort(gone)
	if gone = slices.Compact(gone); len(gone) > 0 {
		b := imap.AppendNumbers(append(u.buf[:0], "* VANISHED (EARLIER) "...), gone)
		u.send(append(b, crlf...))
	}
}

// agreed is the UID up to which nothing has gone: of pairs of a number and a UID that the client has sent, the last one of those in front that still belong together
// (RFC 7162 section 3.2.5.2).
func (u *user) agreed(q *imap.QResync) (uid uint32) {
	numbers, uids := q.Seqs.Ranges, q.MatchUIDs.Ranges
	for len(numbers) > 0 && len(uids) > 0 {
		n, k := &numbers[0], &uids[0]
		if u.view.number(k.First) != n.First {
			break
		}
		uid = k.First
		if n.First++; n.First > n.Last {
			numbers = numbers[1:]
		}
		if k.First++; k.First > k.Last {
			uids = uids[1:]
		}
	}
	return uid
}

// missing are the UIDs of a set, above from, that messages had and none has. One that has come since this session was last told is there, and a client may have its UID from
// another session; one that has gone since will be told.
func (u *user) missing(known imap.NumSet, from uint32) (gone []imap.NumRange) {
	last := u.lastUID()
	now, _, _ := u.view.box.Snapshot()
	uids := slices.Clip(u.view.uids)
	if len(uids) > 0 {
		i, _ := slices.BinarySearch(now, uids[len(uids)-1]+1)
		now = now[i:]
	}
	uids = append(uids, now...)
	for _, r := range known.Ranges {
		at, end := max(r.First, from+1), min(r.Last, last)
		i, _ := slices.BinarySearch(uids, at)
		for ; at <= end && at != 0; i++ {
			if i == len(uids) || uids[i] > end {
				gone = append(gone, imap.NumRange{First: at, Last: end})
				break
			}
			if uids[i] > at {
				gone = append(gone, imap.NumRange{First: at, Last: uids[i] - 1})
			}
			at = uids[i] + 1
		}
	}
	return gone
}

// unselect closes the selected mailbox.
func (u *user) unselect() {
	if u.view == nil {
		return
	}
	if err := u.view.box.Close(); err != nil {
		u.srv.Log.Problem(u.id, "close mailbox", err)
	}
	u.view, u.saved, u.contexts = nil, nil, nil
	u.say(imap.OK(imap.Closed, "the mailbox that was selected is closed")) // RFC 7162 section 3.2.11: to every client, whatever he has enabled
}

// RFC 9051 section 6.4.1: "CLOSE". What is marked as deleted goes, without a word about it.
func (u *user) cmdClose(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	v := u.view
	var err error
	if !v.readOnly && v.rights&maildir.Expunge != 0 { // RFC 4314 section 4: else it is not expunged, and that is OK
		_, err = u.expungeDeleted(v.uids, false)
	}
	u.leave() // RFC 7162 section 3.2.8: HIGHESTMODSEQ must not be said, for others may have changed what the client was not told of
	return err
}

// RFC 9051 section 6.4.2: "UNSELECT".
func (u *user) cmdUnselect(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	u.leave()
	return nil
}

// leave is unselect without a word, as the client has asked for it.
func (u *user) leave() {
	if err := u.view.box.Close(); err != nil {
		u.srv.Log.Problem(u.id, "close mailbox", err)
	}
	u.view, u.saved, u.contexts = nil, nil, nil
}

// RFC 9051 section 6.3.11: "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")".
func (u *user) cmdStatus(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	items := d.SP().StatusItems()
	if err := d.End(); err != nil {
		return err
	}
	return u.status(name, items)
}

// status sends the STATUS response for a mailbox.
func (u *user) status(name string, items imap.StatusItems) error {
	p, err := u.namespaces.At(name)
	if err != nil {
		return err
	}
	if ok, err := p.MayRead(); err != nil {
		return err
	} else if !ok {
		return noPerm(maildir.Read)
	}
	box, err := p.Open()
	if err != nil {
		return err
	}
	defer box.Close()
	if err := box.Sync(); err != nil {
		return err
	}
	if items&imap.StatusHighestModSeq != 0 {
		u.enableCondstore()
	}
	b, err := u.appendStatus(imap.AppendMailbox(append(u.buf[:0], "* STATUS "...), name, u.c.Mode), box, items)
	u.send(b)
	return err
}

// appendStatus appends what is asked for.
func (u *user) appendStatus(b []byte, box *mailbox.Mailbox, items imap.StatusItems) ([]byte, error) {
	validity, next, highest, messages := box.Status()
	b = append(b, " ("...)
	n := len(b)
	number := func(item imap.StatusItems, name string, f func() (uint64, error)) error {
		if items&item == 0 {
			return nil
		}
		v, err := f()
		b = append(strconv.AppendUint(append(append(b, name...), ' '), v, 10), ' ')
		return err
	}
	value := func(v uint64) func() (uint64, error) { return func() (uint64, error) { return v, nil } }
	octets := func(deleted bool) func() (uint64, error) {
		return func() (uint64, error) { v, err := octetsOf(box, deleted); return uint64(v), err }
	}
	err := errors.Join(
		number(imap.StatusMessages, "MESSAGES", value(uint64(messages))),
		number(imap.StatusRecent, "RECENT", func() (uint64, error) { return uint64(len(box.Recent(0))), nil }),
		number(imap.StatusUIDNext, "UIDNEXT", value(uint64(next))),
		number(imap.StatusUIDValidity, "UIDVALIDITY", value(uint64(validity))),
		number(imap.StatusUnseen, "UNSEEN", func() (uint64, error) { return countFlags(box, mailbox.Seen, 0), nil }),
		number(imap.StatusDeleted, "DELETED", func() (uint64, error) { return countFlags(box, mailbox.Trashed, mailbox.Trashed), nil }),
		number(imap.StatusSize, "SIZE", octets(false)),
		number(imap.StatusDeletedStorage, "DELETED-STORAGE", octets(true)),
		number(imap.StatusHighestModSeq, "HIGHESTMODSEQ", value(highest)),
	)
	if items&imap.StatusAppendLimit != 0 { // RFC 7889 section 3: NIL is no limit
		b = append(b, "APPENDLIMIT "...)
		if n, ok := u.appendLimit(); ok {
			b = append(strconv.AppendUint(b, n, 10), ' ')
		} else {
			b = append(b, "NIL "...)
		}
	}
	if items&imap.StatusMailboxID != 0 {
		id, ierr := box.ID(u.ctx)
		err = errors.Join(err, ierr)
		b = append(append(append(b, "MAILBOXID ("...), id...), ") "...)
	}
	if len(b) > n {
		b = b[:len(b)-1]
	}
	if err != nil {
		return b[:0], err
	}
	return append(b, ")\r\n"...), nil
}

// countFlags counts the messages of which these flags are as they should be.
func countFlags(box *mailbox.Mailbox, of, are mailbox.Flags) (n uint64) {
	box.All(func(m *mailbox.Message) bool {
		if m.Flags&of == are {
			n++
		}
		return true
	})
	return n
}

// octetsOf is the size of all messages, or of those that are marked as deleted.
func octetsOf(box *mailbox.Mailbox, deleted bool) (sum int64, err error) {
	var uids []uint32
	box.All(func(m *mailbox.Message) bool {
		if !deleted || m.Flags&mailbox.Trashed != 0 {
			uids = append(uids, m.UID)
		}
		return true
	})
	for _, uid := range uids {
		n, err := box.Size(uid)
		if err != nil && !errors.Is(err, mailbox.ErrExpunged) {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
