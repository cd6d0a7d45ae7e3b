package imapd

import (
	"errors"
	"io/fs"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/maildir"
)

// RFC 9051 section 6.3.4: "CREATE" SP mailbox; a delimiter at its end only says that others will be below it. RFC 6154 section 5: USE.
func (u *user) cmdCreate(_ imap.Command, d *imap.Decoder) error {
	name := strings.TrimSuffix(d.SP().Mailbox(), ".")
	uses := d.CreateParams()
	if err := d.End(); err != nil {
		return err
	}
	if name == maildir.Inbox {
		return imap.No(imap.AlreadyExists, "INBOX is there")
	}
	above, err := u.needBelow(name)
	if err != nil {
		return err
	}
	if err := u.account.Folders.Create(name); err != nil {
		return err
	}
	u.notify.knows(name, func(e *entry) { e.there = true })
	defer u.account.Changed()
	if above != "" { // RFC 4314 section 4
		if err := u.account.Folders.InheritACL(u.ctx, above, name); err != nil {
			u.account.Folders.Delete(name)
			return err
		}
	}
	for _, use := range uses {
		err := u.account.Folders.SetSpecialUse(u.ctx, use, name)
		if err != nil { // RFC 6154 section 3: it is not created then
			u.account.Folders.Delete(name)
		}
		if errors.Is(err, maildir.ErrSpecialUse) {
			return imap.No(imap.UseAttr, "that special use is not known")
		}
		if err != nil {
			return err
		}
	}
	box, err := u.account.Open(name)
	if err != nil {
		return err
	}
	defer box.Close()
	id, err := box.ID(u.ctx)
	if err != nil {
		return err
	}
	return imap.OK(imap.CodeMailboxID(id), "created") // RFC 8474 section 4.1
}

// RFC 9051 section 6.3.5: "DELETE" SP mailbox. Those below it stay.
func (u *user) cmdDelete(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	if name == maildir.Inbox {
		return imap.No(imap.Cannot, "INBOX cannot be deleted")
	}
	if err := u.need(name, maildir.DeleteFolder); err != nil {
		return err
	}
	if err := u.account.Folders.Delete(name); err != nil {
		return err
	}
	if u.view != nil && u.view.name == name {
		u.leave()
	}
	u.notify.knows(name, func(e *entry) { e.there = false })
	u.account.Changed()
	return nil
}

// RFC 9051 section 6.3.6: "RENAME" SP mailbox SP mailbox.
func (u *user) cmdRename(_ imap.Command, d *imap.Decoder) error {
	from := d.SP().Mailbox()
	to := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	if to == maildir.Inbox {
		return imap.No(imap.AlreadyExists, "INBOX is there")
	}
	if err := u.mayRename(from, to); err != nil {
		return err
	}
	err := u.account.Folders.Rename(from, to)
	if err == nil {
		u.notify.knowsRenamed(from, to)
	}
	u.account.Changed()
	if errors.Is(err, fs.ErrNotExist) {
		return imap.No(imap.NonExistent, "there is no such mailbox")
	}
	if err != nil {
		return err
	}
	return u.follow(from, to)
}

// follow keeps the selected mailbox if it was renamed by this session, with those above it perhaps. Of INBOX the messages have moved, as the news will tell.
func (u *user) follow(from, to string) error {
	v := u.view
	if v == nil || from == maildir.Inbox {
		return nil
	}
	below, ok := strings.CutPrefix(v.name, from)
	if !ok || below != "" && below[0] != '.' {
		return nil
	}
	box, err := u.account.Open(to + below)
	if err != nil {
		return err
	}
	v.box.Close()
	v.box, v.name = box, to+below
	return nil
}

// mayRename: RFC 4314 section 4: x on what is renamed, k on what it will be below.
func (u *user) mayRename(from, to string) error {
	if err := u.need(from, maildir.DeleteFolder); err != nil && !errors.Is(err, maildir.ErrNoFolder) { // only a level, or half renamed
		return err
	}
	_, err := u.needBelow(to)
	return err
}

// RFC 9051 section 6.3.7 and 6.3.8: "SUBSCRIBE" / "UNSUBSCRIBE" SP mailbox. There need be no such mailbox.
func (u *user) cmdSubscribe(cmd imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	err := u.account.Folders.Subscribe(u.ctx, name, cmd.Name == "SUBSCRIBE")
	if err == nil {
		u.notify.knows(name, func(e *entry) { e.subscribed = cmd.Name == "SUBSCRIBE" })
	}
	u.account.Changed()
	return err
}
