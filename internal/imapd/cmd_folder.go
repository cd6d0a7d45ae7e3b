package imapd

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
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
	p, err := u.newPlace(name)
	if err != nil {
		return err
	}
	if len(uses) > 0 && p.Shared != "" {
		return errSharedUse
	}
	above, err := u.needBelow(p)
	if err != nil {
		return err
	}
	if err := p.Folders.Create(p.Folder); err != nil {
		return err
	}
	u.notify.knows(name, func(e *entry) { e.there = true })
	defer p.Account.Changed()
	if above != "" { // RFC 4314 section 4
		if err := p.Folders.InheritACL(u.ctx, above, p.Folder); err != nil {
			p.Folders.Delete(p.Folder)
			return err
		}
	}
	for _, use := range uses {
		err := p.Folders.SetSpecialUse(u.ctx, use, p.Folder)
		if err != nil { // RFC 6154 section 3: it is not created then
			p.Folders.Delete(p.Folder)
		}
		if errors.Is(err, maildir.ErrSpecialUse) {
			return imap.No(imap.UseAttr, "that special use is not known")
		}
		if err != nil {
			return err
		}
	}
	box, err := p.Open()
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

var (
	errSharedRoot = imap.No(imap.Cannot, "a shared mailbox right below "+mailbox.SharedNamespace+" is the administrator's to make and to remove")
	errSharedUse  = imap.No(imap.UseAttr, "a shared mailbox has no special use")
)

// isSharedRoot says whether a place is the maildir of a shared mailbox; its name is not "", which is none.
func isSharedRoot(p mailbox.Place, name string) bool { return p.Shared != "" && p.Shared == name }

// newPlace is where a mailbox could be that is not there yet. Shared ones that the user may not see are for him where he may make none.
func (u *user) newPlace(name string) (mailbox.Place, error) {
	p, err := u.namespaces.At(name)
	there := false
	if err == nil && p.Shared != "" {
		var f *os.File
		if f, _, err = p.Folders.Open(p.Folder); err == nil {
			there = true
			f.Close()
			_, err = p.Rights()
		} else if errors.Is(err, maildir.ErrNoFolder) {
			err = nil
		}
	}
	switch {
	case err == nil && there:
		err = imap.No(imap.AlreadyExists, "there is a mailbox of that name")
	case strings.Count(name, ".") < 2 && (isSharedRoot(p, name) || errors.Is(err, maildir.ErrNoFolder)):
		err = errSharedRoot
	case errors.Is(err, maildir.ErrNoFolder):
		err = noPerm(maildir.CreateBelow)
	}
	return p, err
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
	p, err := u.need(name, maildir.DeleteFolder)
	if err == nil && isSharedRoot(p, name) {
		err = errSharedRoot
	}
	if err == nil {
		err = p.Folders.Delete(p.Folder)
	}
	if err != nil {
		return err
	}
	if u.view != nil && u.view.name == name {
		u.leave()
	}
	u.notify.knows(name, func(e *entry) { e.there = false })
	p.Account.Changed()
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
	p, new, err := u.mayRename(from, to)
	if err != nil {
		return err
	}
	err = p.Folders.Rename(p.Folder, new)
	if err == nil {
		u.notify.knowsRenamed(from, to)
	}
	p.Account.Changed()
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
	p, err := u.namespaces.At(to + below)
	if err != nil {
		return err
	}
	box, err := p.Open()
	if err != nil {
		return err
	}
	v.box.Close()
	v.box, v.name = box, to+below
	return nil
}

// mayRename: RFC 4314 section 4: x on what is renamed, k on what it will be below. With a folder go those below it, so that it takes x on all of those that are shared.
// new is the name of the folder in its maildir.
func (u *user) mayRename(from, to string) (p mailbox.Place, new string, err error) {
	if p, err = u.namespaces.At(from); err != nil {
		return p, "", err
	}
	if isSharedRoot(p, from) {
		return p, "", errSharedRoot
	}
	if err := u.mayDelete(p); err != nil {
		return p, "", err
	}
	target, err := u.newPlace(to)
	if err == nil && target.Account != p.Account {
		err = imap.No(imap.Cannot, "a mailbox stays in its maildir: create another one there and move the messages")
	}
	if err == nil {
		_, err = u.needBelow(target)
	}
	return p, target.Folder, err
}

// mayDelete: the right x in a folder. One of the user's own may be only a level, or half renamed. Of shared ones those below must have it too, and one that he does not
// see is none to him, and stays.
func (u *user) mayDelete(p mailbox.Place) error {
	if p.Shared == "" {
		_, err := u.need(p.Name(p.Folder), maildir.DeleteFolder)
		if errors.Is(err, maildir.ErrNoFolder) {
			err = nil
		}
		return err
	}
	all, err := p.Folders.Folders()
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.Name != p.Folder && !strings.HasPrefix(f.Name, p.Folder+".") {
			continue
		}
		_, err := u.need(p.Name(f.Name), maildir.DeleteFolder)
		if errors.Is(err, maildir.ErrNoFolder) && f.Name != p.Folder {
			err = noPerm(maildir.DeleteFolder)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
