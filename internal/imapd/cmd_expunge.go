package imapd

import (
	"errors"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// RFC 9051 section 6.4.3 and 6.4.9: "EXPUNGE"; "UID EXPUNGE" SP sequence-set. What has gone is told as news, before the tagged response.
func (u *user) cmdExpunge(cmd imap.Command, d *imap.Decoder) error {
	v := u.view
	if v.rights&maildir.Expunge == 0 {
		return noPerm(maildir.Expunge)
	}
	uids := v.uids
	if cmd.UID {
		set := d.SP().NumSet()
		if err := d.End(); err != nil {
			return err
		}
		var err error
		if uids, _, err = u.set(set, true); err != nil {
			return err
		}
	} else if err := d.End(); err != nil {
		return err
	}
	n, err := u.expungeDeleted(uids, cmd.UID)
	if err == nil && n > 0 && u.qresync { // RFC 7162 section 3.2.9
		_, _, highest, _ := v.box.Status()
		return imap.OK(imap.CodeHighestModSeq(highest), "expunged")
	}
	return err
}

// expungeDeleted removes those of the messages that are marked as deleted, and returns how many are gone. RFC 9738 section 3.1: only UID EXPUNGE is bounded.
func (u *user) expungeDeleted(uids []uint32, bounded bool) (n int, err error) {
	v := u.view
	// What another program has done since the last command counts, above all that it has taken the mark away.
	if err := v.box.Sync(); err != nil {
		return 0, err
	}
	var marked []uint32
	v.box.Each(uids, func(_ int, m *mailbox.Message) bool {
		if m.Flags&mailbox.Trashed != 0 {
			marked = append(marked, m.UID)
		}
		return true
	})
	if len(marked) == 0 {
		return 0, nil
	}
	if bounded {
		marked = u.bounded(marked)
	}
	failed, err := v.box.Expunge(v.validity, marked)
	if err == nil && len(failed) > 0 {
		err = errNotRemoved
	}
	return len(marked) - len(failed), err
}

var errNotRemoved = errors.New("imapd: some messages could not be removed")
