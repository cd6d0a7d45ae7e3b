package imapd

import (
	"slices"

	"postamt/internal/imap"
	"postamt/internal/thread"
)

// A client has so many searches kept up to date. RFC 5267 section 4.3.1 wants one at least.
const maxContexts = 8

// maxSorted messages are put in order again for each change, of a context with an order.
const maxSorted = 10000

// searchContext is a SEARCH or SORT with UPDATE (RFC 5267 section 4.3): a search of the selected mailbox whose result the client knows.
type searchContext struct {
	u       *user
	tag     string
	uid     bool // UIDs are told, not numbers
	q       *query
	order   []thread.Criterion // nil: the mailbox's
	items   []imap.FetchItem   // of messages that are new (RFC 5465 section 7)
	matches []uint32           // UIDs, in the order of the client

	added, removed []uint32 // ascending; since it was told
}

// mayReturn says what is wrong with return options.
func (u *user) mayReturn(cmd imap.Command, r imap.SearchReturn) error {
	if r.Relevancy {
		return imap.Bad("RELEVANCY is not offered")
	}
	if r.Update && slices.ContainsFunc(u.contexts, func(c *searchContext) bool { return c.tag == cmd.Tag }) {
		return imap.Bad("the tag is that of a search that is kept up to date")
	}
	return nil
}

// update keeps a search up to date if that was asked for, or says that it will not be.
func (u *user) update(cmd imap.Command, r imap.SearchReturn, q *query, order []thread.Criterion, matches []uint32) error {
	if !r.Update {
		return nil
	}
	if u.limited || len(u.contexts) == maxContexts || order != nil && len(matches) > maxSorted {
		u.say(imap.No(imap.CodeNoUpdate(cmd.Tag), "too many searches, or messages, to keep up to date"))
		return nil
	}
	q.freeze()
	u.contexts = append(u.contexts, &searchContext{u: u, tag: cmd.Tag, uid: cmd.UID, q: q, order: order, items: r.UpdateItems, matches: slices.Clone(matches)})
	return nil
}

// RFC 5267 section 4.3.5: "CANCELUPDATE" 1*(SP quoted).
func (u *user) cmdCancelUpdate(_ imap.Command, d *imap.Decoder) error {
	var tags []string
	for d.More() || len(tags) == 0 {
		tags = append(tags, d.SP().String())
	}
	if err := d.End(); err != nil {
		return err
	}
	u.contexts = slices.DeleteFunc(u.contexts, func(c *searchContext) bool { return slices.Contains(tags, c.tag) })
	return nil
}

func (c *searchContext) has(uid uint32) bool {
	if c.order != nil {
		return slices.Contains(c.matches, uid)
	}
	_, in := slices.BinarySearch(c.matches, uid)
	return in
}

// begin begins a response.
func (c *searchContext) begin() []byte {
	b := append(imap.AppendString(append(c.u.buf[:0], "* ESEARCH (TAG "...), c.tag, c.u.c.Mode), ')')
	if c.uid {
		b = append(b, " UID"...)
	}
	return b
}

// vanished tells of matches that are about to be told as gone: their numbers are valid up to then (section 4.3.4). n.gone has them from the highest down, so each is what it was
// before all.
func (c *searchContext) vanished(n news) {
	var numbers, uids []uint32
	for i, uid := range n.vanish {
		if c.has(uid) {
			uids = append(uids, uid)
			numbers = append(numbers, n.gone[len(n.gone)-1-i])
		}
	}
	if len(uids) == 0 {
		return
	}
	if c.uid {
		numbers = uids
	}
	b := c.remove(append(c.begin(), " REMOVEFROM ("...), uids, numbers)
	c.u.send(append(b, ")\r\n"...))
}

// remove takes matches out, and appends where they were: in the order of the mailbox nobody needs to know (section 4.3.4).
func (c *searchContext) remove(b []byte, uids, numbers []uint32) []byte {
	if c.order == nil {
		b = imap.AppendNumbers(append(b, "0 "...), numbers)
		c.matches = slices.DeleteFunc(c.matches, func(uid uint32) bool { _, in := slices.BinarySearch(uids, uid); return in })
		return b
	}
	for i, uid := range uids {
		at := slices.Index(c.matches, uid)
		if i > 0 {
			b = append(b, ' ')
		}
		b = imap.AppendNumber(append(imap.AppendNumber(b, uint64(at+1)), ' '), uint64(numbers[i]))
		c.matches = slices.Delete(c.matches, at, at+1)
	}
	return b
}

// look asks the messages that have come or changed.
func (c *searchContext) look(n news) error {
	asked := slices.Concat(n.touched, n.came) // ascending: those that came are behind all others
	c.added, c.removed = nil, nil
	if len(asked) == 0 {
		return nil
	}
	c.q.matches = nil
	if err := c.q.run(c.u.ctx, asked, func(int) error { return c.u.ctx.Err() }); err != nil {
		return err
	}
	for _, uid := range asked {
		_, is := slices.BinarySearch(c.q.matches, uid)
		switch was := c.has(uid); {
		case is && !was:
			c.added = append(c.added, uid)
		case was && !is:
			c.removed = append(c.removed, uid)
		}
	}
	return nil
}

// tell tells what look has found.
func (c *searchContext) tell() error {
	u := c.u
	sorted, err := c.put()
	if err != nil {
		return err
	}
	if len(c.removed) > 0 {
		b := c.remove(append(c.begin(), " REMOVEFROM ("...), c.removed, u.numbers(c.removed, c.uid))
		u.send(append(b, ")\r\n"...))
	}
	if len(c.added) == 0 {
		return nil
	}
	b, numbers := append(c.begin(), " ADDTO ("...), u.numbers(c.added, c.uid)
	if c.order == nil {
		b = append(imap.AppendNumbers(append(b, "0 "...), numbers), ' ')
	} else {
		for at, uid := range sorted { // from the first place on: so each is right when the client comes to it
			if i, new := slices.BinarySearch(c.added, uid); new {
				b = append(imap.AppendNumber(append(imap.AppendNumber(b, uint64(at+1)), ' '), uint64(numbers[i])), ' ')
			}
		}
	}
	c.matches = sorted
	b[len(b)-1] = ')'
	u.send(append(b, crlf...))
	return nil
}

// put is what the matches are when some have been removed and some added. Of those that have an order, what is gone and was not told yet is removed too: it has no place any more.
func (c *searchContext) put() (sorted []uint32, err error) {
	if len(c.added) == 0 {
		return nil, nil
	}
	sorted = slices.DeleteFunc(slices.Concat(c.matches, c.added), func(uid uint32) bool { _, out := slices.BinarySearch(c.removed, uid); return out })
	slices.Sort(sorted)
	if c.order == nil {
		return sorted, nil
	}
	if sorted, err = c.u.sorted(c.order, sorted); err != nil {
		return nil, err
	}
	gone := func(uid uint32) bool { return !slices.Contains(sorted, uid) }
	for _, uid := range c.matches {
		if gone(uid) && !slices.Contains(c.removed, uid) {
			c.removed = append(c.removed, uid)
		}
	}
	slices.Sort(c.removed)
	c.added = slices.DeleteFunc(c.added, gone)
	return sorted, nil
}
