package imapd

import (
	"context"

	"postamt/internal/imap"
	"postamt/internal/maildir"
)

// RFC 8508 section 3: "REPLACE" SP seq-number SP mailbox append-message. Section 4.3: APPENDUID in an untagged OK, before EXPUNGE, which is told as news.
func (u *user) cmdReplace(cmd imap.Command, d *imap.Decoder) error {
	n := d.SP().SeqNumber()
	name := d.SP().Mailbox()
	if d.Err() != nil {
		return d.Err()
	}
	v := u.view
	uids, missing, err := u.set(imap.NumSet{Ranges: []imap.NumRange{{First: n, Last: n}}}, cmd.UID)
	switch {
	case err != nil:
		return err
	case missing:
		return imap.No(imap.ExpungeIssued, "the message is gone")
	case len(uids) == 0:
		return imap.No(imap.NonExistent, "there is no such message")
	}
	if gone := maildir.DeleteMessages | maildir.Expunge; v.rights&gone != gone { // RFC 8508 section 6
		return noPerm(gone &^ v.rights)
	}
	to, rights, err := u.target(name)
	if err != nil {
		return err
	}
	defer to.Close()
	s, err := u.stage(d, to, rights, func(octets int64) error { return v.box.RoomInstead(uids[0], to, octets) })
	if err == nil {
		err = d.End()
	}
	if err != nil {
		if s != nil {
			to.Discard(s)
		}
		return err
	}
	validity, _, _, _ := to.Status()
	uid, err := v.box.Replace(context.WithoutCancel(u.ctx), v.validity, uids[0], to, s)
	if err != nil {
		return err
	}
	u.say(imap.OK(imap.CodeAppendUID(validity, []uint32{uid}), "the new message is there"))
	if u.qresync { // section 4.5, RFC 7162 section 3.2.9
		_, _, highest, _ := v.box.Status()
		return imap.OK(imap.CodeHighestModSeq(highest), "replaced")
	}
	return nil
}
