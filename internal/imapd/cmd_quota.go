package imapd

import (
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// A quota root is a whole maildir (RFC 9208 section 3.2): the user's own, which has the empty name, or a shared one, which has that of its INBOX. What has no quota has none.

// RFC 9208 section 4.1.1: "GETQUOTA" SP quota-root-name.
func (u *user) cmdGetQuota(_ imap.Command, d *imap.Decoder) error {
	root := d.SP().AString()
	if err := d.End(); err != nil {
		return err
	}
	account, err := u.quotaRoot(root)
	if err != nil {
		return err
	}
	if account != nil {
		used, limit, err := account.Usage()
		if err != nil {
			return err
		}
		if limit != (maildir.Quota{}) {
			u.writeQuota(root, used, limit)
			return nil
		}
	}
	return imap.No(imap.NonExistent, "there is no such quota root")
}

// quotaRoot is the maildir of that name, nil if there is none, or none of which the user may read a mailbox: how much there is says how much others have (section 6).
func (u *user) quotaRoot(root string) (*mailbox.Account, error) {
	if root == "" {
		return u.account, nil
	}
	all, err := u.namespaces.All()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Shared != root {
			continue
		}
		if may, err := all[i].MayRead(); err == nil && may {
			return all[i].Account, nil
		}
	}
	return nil, nil
}

// RFC 9208 section 4.1.2: "GETQUOTAROOT" SP mailbox, of which there need be none of that name yet.
func (u *user) cmdGetQuotaRoot(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	p, err := u.namespaces.At(name)
	if err == nil && p.Shared != "" {
		_, err = u.need(name, maildir.Read) // section 6: how much there is says how much others have
	}
	if err != nil {
		return err
	}
	counted := true
	if p.Folder != maildir.Inbox {
		dir, err := maildir.FolderDir(p.Folder)
		if err != nil {
			return err
		}
		counted = maildir.Counted(dir)
	}
	used, limit, err := p.Account.Usage()
	if err != nil {
		return err
	}
	b := imap.AppendMailbox(append(u.buf[:0], "* QUOTAROOT "...), name, u.c.Mode)
	counted = counted && limit != maildir.Quota{}
	if counted {
		b = imap.AppendAString(append(b, ' '), p.Shared, u.c.Mode)
	}
	u.send(append(b, crlf...))
	if counted {
		u.writeQuota(p.Shared, used, limit)
	}
	return nil
}

// RFC 9208 section 4.1.3: "SETQUOTA" SP quota-root-name SP setquota-list. QUOTASET is not announced: whose the machine is gives the room on it.
func (u *user) cmdSetQuota(_ imap.Command, d *imap.Decoder) error {
	d.SP().AString()
	d.SP().QuotaLimits()
	if err := d.End(); err != nil {
		return err
	}
	return imap.No(imap.NoPerm, "quotas are set by the administrator")
}

// writeQuota sends the QUOTA response. RFC 9208 section 5.1: STORAGE is in units of 1024 octets. What is used is rounded up and what there is down, so that nobody seems to have room
// that he has not.
func (u *user) writeQuota(root string, used, limit maildir.Quota) {
	b := imap.AppendAString(append(u.buf[:0], "* QUOTA "...), root, u.c.Mode)
	list := len(b) + 1
	b = append(b, " ("...)
	resource := func(name string, used, limit int64) {
		b = append(imap.Space(b, list), name...)
		b = imap.AppendNumber(append(b, ' '), uint64(used))
		b = imap.AppendNumber(append(b, ' '), uint64(limit))
	}
	if limit.Bytes > 0 {
		resource("STORAGE", (used.Bytes+1023)/1024, limit.Bytes/1024)
	}
	if limit.Messages > 0 {
		resource("MESSAGE", used.Messages, limit.Messages)
	}
	u.send(append(b, ")\r\n"...))
}
