package imapd

import (
	"errors"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// RFC 9051 section 6.4.7: "COPY" SP sequence-set SP mailbox. All are copied, or none.
func (u *user) cmdCopy(cmd imap.Command, d *imap.Decoder) error {
	uids, to, rights, err := u.fromTo(cmd, d)
	if err != nil {
		return err
	}
	defer to.Close()
	v := u.view
	copied, err := v.box.Copy(u.ctx, v.validity, uids, to)
	if err != nil {
		return err
	}
	if err := strip(to, rights, copied); err != nil {
		u.srv.Log.Problem(u.id, "COPY", err) // they are there
	}
	return u.copyUID(to, copied)
}

// RFC 9051 section 6.4.8: "MOVE" SP sequence-set SP mailbox. COPYUID is sent before the messages go, in an untagged OK.
func (u *user) cmdMove(cmd imap.Command, d *imap.Decoder) error {
	if missing := (maildir.DeleteMessages | maildir.Expunge) &^ u.view.rights; missing != 0 { // RFC 6851 section 4.1
		return noPerm(missing)
	}
	uids, to, rights, err := u.fromTo(cmd, d)
	if err != nil {
		return err
	}
	defer to.Close()
	v := u.view
	moved, err := v.box.Move(u.ctx, v.validity, uids, to)
	if serr := strip(to, rights, moved); serr != nil {
		u.srv.Log.Problem(u.id, "MOVE", serr)
	}
	if len(moved) > 0 {
		u.say(u.copyUID(to, moved))
	}
	if err == nil && u.qresync && len(moved) > 0 {
		_, _, highest, _ := v.box.Status()
		return imap.OK(imap.CodeHighestModSeq(highest), "moved")
	}
	return err
}

// fromTo reads what COPY and MOVE have in common. The mailbox is open.
func (u *user) fromTo(cmd imap.Command, d *imap.Decoder) (uids []uint32, to *mailbox.Mailbox, rights maildir.Rights, err error) {
	set := d.SP().NumSet()
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return nil, nil, 0, err
	}
	uids, missing, err := u.set(set, cmd.UID)
	if err != nil {
		return nil, nil, 0, err
	}
	if missing {
		return nil, nil, 0, imap.No(imap.ExpungeIssued, "some of the messages are gone")
	}
	if uids = u.bounded(uids); u.limited && cmd.Name == "COPY" { // all or none
		return nil, nil, 0, u.refuseLimited()
	}
	to, rights, err = u.target(name)
	return uids, to, rights, err
}

// target opens a mailbox that messages are put into, and says what may be done there. RFC 9051 section 6.3.12 and 6.4.7: TRYCREATE if it is not there and could be made.
func (u *user) target(name string) (*mailbox.Mailbox, maildir.Rights, error) {
	p, rights, err := u.at(name)
	if errors.Is(err, maildir.ErrNoFolder) {
		return nil, 0, imap.No(imap.TryCreate, "there is no such mailbox")
	}
	if err == nil && rights&maildir.Insert == 0 {
		err = noPerm(maildir.Insert)
	}
	if err != nil {
		return nil, 0, err
	}
	to, err := p.Open()
	if errors.Is(err, maildir.ErrNoFolder) {
		err = imap.No(imap.TryCreate, "there is no such mailbox")
	}
	return to, rights, err
}

// copyUID is the response to a COPY or MOVE: RFC 9051 section 7.1, COPYUID.
func (u *user) copyUID(to *mailbox.Mailbox, copied []mailbox.Copied) *imap.Status {
	if len(copied) == 0 {
		return imap.OK("", "no message")
	}
	from, new := make([]uint32, len(copied)), make([]uint32, len(copied))
	for i, c := range copied {
		from[i], new[i] = c.From, c.To
	}
	u.made(to, new)
	validity, _, _, _ := to.Status()
	return imap.OK(imap.CodeCopyUID(validity, from, new), "done")
}
