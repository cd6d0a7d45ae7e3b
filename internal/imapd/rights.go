package imapd

import (
	"errors"
	"slices"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

const (
	// flagRights are those to change flags: each is for its own.
	flagRights = maildir.Write | maildir.KeepSeen | maildir.DeleteMessages
	// changeRights: RFC 4314 section 5.2: who has none of these has the mailbox to be read only.
	changeRights = maildir.Insert | maildir.Expunge | flagRights
)

// at finds a mailbox, and what the user may do in it. Errors: those of mailbox.Place.Rights.
func (u *user) at(name string) (mailbox.Place, maildir.Rights, error) {
	p, err := u.namespaces.At(name)
	if err != nil {
		return p, 0, err
	}
	rights, err := p.Rights()
	return p, rights, err
}

// need finds a mailbox in which the user has all of these rights, and says NO to who has not.
func (u *user) need(name string, rights maildir.Rights) (mailbox.Place, error) {
	p, have, err := u.at(name)
	if err == nil && have&rights != rights {
		err = noPerm(rights &^ have)
	}
	return p, err
}

func noPerm(missing maildir.Rights) *imap.Status {
	return imap.No(imap.NoPerm, "you have not the right "+missing.String()+" there")
}

// needBelow is need for the right to have folders below the nearest one that is there, above a place; at the top of the user's own the mode of the maildir decides
// (section 4, CREATE), in a shared maildir the rights in its INBOX. above is "" or a folder of the same maildir.
func (u *user) needBelow(p mailbox.Place) (above string, err error) {
	for at := strings.LastIndexByte(p.Folder, '.'); at > 0; at = strings.LastIndexByte(p.Folder[:at], '.') {
		if f, _, err := p.Folders.Open(p.Folder[:at]); err == nil {
			f.Close()
			above = p.Folder[:at]
			break
		}
	}
	if above == "" && p.Shared != "" {
		above = maildir.Inbox
	}
	if above != "" {
		_, err = u.need(p.Name(above), maildir.CreateBelow)
	}
	if errors.Is(err, maildir.ErrNoFolder) { // it is there, but not for him
		err = noPerm(maildir.CreateBelow)
	}
	return above, err
}

// mayChange says which flags, and whether keywords, these rights let a user change (RFC 4314 section 4, STORE).
func mayChange(r maildir.Rights) (f mailbox.Flags, keywords bool) {
	if r&maildir.Write != 0 {
		f, keywords = allFlags&^(mailbox.Seen|mailbox.Trashed), true
	}
	if r&maildir.KeepSeen != 0 {
		f |= mailbox.Seen
	}
	if r&maildir.DeleteMessages != 0 {
		f |= mailbox.Trashed
	}
	return f, keywords
}

// restrict leaves of a client's flags those that he may change.
func restrict(r maildir.Rights, f mailbox.Flags, keywords []string) (mailbox.Flags, []string) {
	may, too := mayChange(r)
	if !too {
		keywords = nil
	}
	return f & may, keywords
}

// setFlags is Mailbox.SetFlagsUnchanged of the selected mailbox for who may change some flags only: the others stay as they are. RFC 4314 section 4: it is no failure if
// there is one that he may change. To replace them all, these are added and then the others removed.
func (u *user) setFlags(uids []uint32, since uint64, op mailbox.Op, flags mailbox.Flags, keywords []string) (changed []mailbox.Message, refused []uint32, err error) {
	v := u.view
	if v.rights&flagRights == flagRights {
		return v.box.SetFlagsUnchanged(v.validity, uids, since, op, flags, keywords)
	}
	f, k := restrict(v.rights, flags, keywords)
	if v.rights&flagRights == 0 || f == 0 && len(k) == 0 && (flags != 0 || len(keywords) > 0) {
		return nil, nil, noPerm(flagRights &^ v.rights)
	}
	if op != mailbox.Replace {
		return v.box.SetFlagsUnchanged(v.validity, uids, since, op, f, k)
	}
	may, too := mayChange(v.rights)
	var others []string
	if too {
		named, err := v.box.Keywords()
		if err != nil {
			return nil, nil, err
		}
		others = slices.DeleteFunc(slices.Clone(named[:]), func(name string) bool { return name == "" || slices.Contains(k, name) })
	}
	added, refused, err := v.box.SetFlagsUnchanged(v.validity, uids, since, mailbox.Add, f, k)
	if err != nil {
		return added, refused, err
	}
	uids = slices.DeleteFunc(slices.Clone(uids), func(uid uint32) bool { return slices.Contains(refused, uid) })
	removed, err := v.box.SetFlags(v.validity, uids, mailbox.Remove, may&^f, others)
	changed = slices.DeleteFunc(added, func(a mailbox.Message) bool {
		return slices.ContainsFunc(removed, func(r mailbox.Message) bool { return r.UID == a.UID })
	})
	return append(changed, removed...), refused, err
}

// strip takes from messages that were copied what the user may not set there (RFC 4314 section 4: that is no failure either).
func strip(to *mailbox.Mailbox, r maildir.Rights, copied []mailbox.Copied) error {
	if r&flagRights == flagRights || len(copied) == 0 {
		return nil
	}
	may, too := mayChange(r)
	var keywords []string
	if !too {
		named, err := to.Keywords()
		if err != nil {
			return err
		}
		keywords = slices.DeleteFunc(slices.Clone(named[:]), func(name string) bool { return name == "" })
	}
	uids := make([]uint32, len(copied))
	for i, c := range copied {
		uids[i] = c.To
	}
	validity, _, _, _ := to.Status()
	_, err := to.SetFlags(validity, uids, mailbox.Remove, allFlags&^may, keywords)
	return err
}
