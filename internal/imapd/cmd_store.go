package imapd

import (
	"math"
	"slices"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
)

// set is the messages of the selected mailbox that a command names: UIDs, ascending. RFC 9051 section 9, seq-number: a sequence number that no message has is BAD; of UIDs
// that does not matter. Messages that are gone, and of which the client was not told, are left out: missing says so of numbers; RFC 9051 section 6.4.9: of UIDs nothing is said.
func (u *user) set(s imap.NumSet, byUID bool) (uids []uint32, missing bool, err error) {
	v := u.view
	switch {
	case s.Saved:
		uids = slices.Clone(u.saved)
	case byUID:
		last := uint32(0)
		if n := len(v.uids); n > 0 {
			last = v.uids[n-1]
		}
		s.Resolve(last)
		s.Places(v.uids, func(from, to int) { uids = append(uids, v.uids[from:to]...) })
	case u.uidOnly:
		return nil, false, imap.Bad("message numbers are not known to this session")
	case !s.Within(uint32(len(v.uids))):
		return nil, false, imap.Bad("there is no message of that number")
	default:
		s.Resolve(uint32(len(v.uids)))
		for _, r := range s.Ranges {
			uids = append(uids, v.uids[r.First-1:r.Last]...)
		}
	}
	n := len(uids)
	if len(v.gone) > 0 {
		uids = slices.DeleteFunc(uids, func(uid uint32) bool { _, gone := slices.BinarySearch(v.gone, uid); return gone })
	}
	return uids, !byUID && len(uids) < n, nil
}

// RFC 9051 section 6.4.6: "STORE" SP sequence-set SP store-att-flags. RFC 7162 section 3.1.3: UNCHANGEDSINCE.
func (u *user) cmdStore(cmd imap.Command, d *imap.Decoder) error {
	set := d.SP().NumSet()
	p := d.SP().Store()
	if err := d.End(); err != nil {
		return err
	}
	uids, missing, err := u.set(set, cmd.UID)
	if err != nil {
		return err
	}
	flags, keywords, err := splitFlags(p.Flags)
	if err != nil {
		return err
	}
	uids = u.bounded(uids)
	op := mailbox.Replace
	switch p.Op {
	case imap.StoreAdd:
		op = mailbox.Add
	case imap.StoreRemove:
		op = mailbox.Remove
	}
	since := uint64(math.MaxUint64)
	if p.Conditional {
		u.enableCondstore()
		since = p.UnchangedSince
	}
	v := u.view
	changed, refused, err := u.setFlags(uids, since, op, flags, keywords)
	if nerr := u.learnOf(changed); err == nil {
		err = nerr
	}
	if p.Silent {
		v.guessed(changed)
	} else {
		v.told(changed)
	}
	// RFC 9051 section 6.4.6: the new value, of those too that had it before. RFC 7162 section 3.1.3: a mod-sequence that has changed is told even if the client wants silence.
	switch {
	case !p.Silent:
		var list []mailbox.Message // the mailbox is locked while it tells of them, and a client may take his time
		v.box.Each(uids, func(_ int, m *mailbox.Message) bool {
			if _, no := slices.BinarySearch(refused, m.UID); !no {
				list = append(list, *m)
			}
			return true
		})
		if nerr := u.learnOf(list); err == nil {
			err = nerr
		}
		for i := range list {
			u.fetchFlags(&list[i])
		}
	case u.condstore:
		for i := range changed {
			u.fetchModSeq(&changed[i])
		}
	}
	switch {
	case err != nil:
		return err
	case len(refused) > 0:
		return imap.OK(imap.CodeModified(u.numbers(refused, cmd.UID)), "some were changed by others in the meantime")
	case missing:
		return errGoneSome
	}
	return nil
}

// numbers are messages as the command names them: by UIDs or by sequence numbers.
func (u *user) numbers(uids []uint32, byUID bool) []uint32 {
	if byUID {
		return uids
	}
	list := make([]uint32, len(uids))
	for i, uid := range uids {
		list[i] = u.view.number(uid)
	}
	return list
}

// fetchModSeq says what the mod-sequence of a message is.
func (u *user) fetchModSeq(m *mailbox.Message) {
	b := u.beginFetch(u.buf[:0], u.view.number(m.UID), m.UID, true)
	b = imap.AppendNumber(append(b, "MODSEQ ("...), m.ModSeq)
	u.send(append(b, "))\r\n"...))
}
