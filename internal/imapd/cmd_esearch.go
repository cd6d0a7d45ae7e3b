package imapd

import (
	"errors"
	"slices"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/maildir"
)

// RFC 7377 section 2: "ESEARCH" [SP "IN" SP "(" source-mbox ")"] [SP "RETURN" ...] SP search-program. One mailbox is open at a time, besides the selected one.
func (u *user) cmdESearch(cmd imap.Command, d *imap.Decoder) (err error) {
	sources := d.SearchSource()
	r := d.SearchReturn()
	charset, key := d.SP().SearchProgram()
	if err := d.End(); err != nil {
		return err
	}
	defer func() { u.unsave(r, err) }()
	if !r.Given {
		r.All = true
	}
	here := sources == nil || slices.ContainsFunc(sources, func(f imap.MailboxFilter) bool { return f.Kind == imap.FilterSelected })
	switch {
	case here && u.view == nil:
		return imap.Bad("no mailbox is selected")
	case r.Save && (!here || len(sources) > 1):
		return imap.Bad("SAVE is for the selected mailbox alone")
	case r.Update && u.view == nil:
		return imap.Bad("UPDATE is for the selected mailbox, and none is")
	}
	if err := u.mayReturn(cmd, r); err != nil {
		return err
	}
	if charset != "" && u.utf8 {
		return errCharset
	}
	if err := decodeKey(charset, &key); err != nil {
		return err
	}
	if sources != nil {
		defer func() { u.lowest = 0 }() // in which mailbox would it be?
	}
	if here {
		if err := u.searchIn(cmd, r, &key, u.view); err != nil {
			return err
		}
	}
	names, err := u.namesOf(sources)
	if err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case u.view == nil || u.view.name != name:
			err = u.searchOther(cmd, r, &key, name)
		case !here:
			err = u.searchIn(cmd, r, &key, u.view)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// searchOther searches a mailbox that need not be there any more.
func (u *user) searchOther(cmd imap.Command, r imap.SearchReturn, key *imap.SearchKey, name string) error {
	p, rights, err := u.at(name)
	if errors.Is(err, maildir.ErrNoFolder) || err == nil && rights&maildir.Read == 0 { // RFC 7377 section 2.2: such a mailbox is passed over
		return nil
	}
	if err != nil {
		return err
	}
	box, err := p.Open()
	if errors.Is(err, maildir.ErrNoFolder) {
		return nil
	}
	if err != nil {
		return err
	}
	defer box.Close()
	if err := box.Sync(); err != nil {
		return err
	}
	return u.searchIn(cmd, r, key, newView(box, name, true, rights))
}

// searchIn searches one mailbox, and tells what was found there, if something was.
func (u *user) searchIn(cmd imap.Command, r imap.SearchReturn, key *imap.SearchKey, v *view) error {
	q := &query{u: u, v: v}
	var err error
	if v == u.view {
		q.saved, q.keywords = u.saved, u.keywords
	} else if q.keywords, err = v.box.Keywords(); err != nil {
		return err
	}
	if err := q.prepareAll(key); err != nil {
		return err
	}
	q.bound()
	if err := q.run(u.ctx, v.uids, u.progress(cmd, v)); err != nil {
		return err
	}
	if q.modseq {
		u.enableCondstore()
	}
	if r.Save {
		u.save(r, q.matches)
	}
	if len(q.matches) > 0 && !silent(r) {
		u.resultIn(cmd, r, q)
	}
	if v != u.view { // UPDATE is for the selected mailbox only
		return nil
	}
	cmd.UID = true
	return u.update(cmd, r, q, nil, q.matches)
}

// resultIn is the response of one mailbox.
func (u *user) resultIn(cmd imap.Command, r imap.SearchReturn, q *query) {
	b := imap.AppendString(append(u.buf[:0], "* ESEARCH (TAG "...), cmd.Tag, u.c.Mode)
	b = imap.AppendMailbox(append(b, " MAILBOX "...), q.v.name, u.c.Mode)
	b = append(imap.AppendNumber(append(b, " UIDVALIDITY "...), uint64(q.v.validity)), ") UID"...)
	u.extendedResult(b, r, q, q.matches, q.matches)
}

// namesOf are the mailboxes that filters mean, but for the selected one, each once, in the order of LIST.
func (u *user) namesOf(filters []imap.MailboxFilter) (names []string, err error) {
	if !slices.ContainsFunc(filters, func(f imap.MailboxFilter) bool { return f.Kind != imap.FilterSelected }) {
		return nil, nil
	}
	all, err := u.entries(false)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if e := &all[i]; e.there && slices.ContainsFunc(filters, func(f imap.MailboxFilter) bool { return covers(&f, e.name, e.subscribed, e.place.Shared != "") }) {
			names = append(names, e.name)
		}
	}
	return names, nil
}

// covers says whether a filter means a mailbox (RFC 5465 section 6, RFC 7377 section 2.2). Mail may be delivered to any of the user's own: so inboxes are all these (section 6.3).
func covers(f *imap.MailboxFilter, name string, subscribed, shared bool) bool {
	switch f.Kind {
	case imap.FilterInboxes, imap.FilterPersonal:
		return !shared
	case imap.FilterSubscribed:
		return subscribed
	}
	return slices.ContainsFunc(f.Mailboxes, func(m string) bool {
		if m == name && f.Kind >= imap.FilterSubtree {
			return true
		}
		below, ok := strings.CutPrefix(name, m+".")
		return ok && (f.Kind == imap.FilterSubtree || f.Kind == imap.FilterSubtreeOne && !strings.Contains(below, "."))
	})
}
