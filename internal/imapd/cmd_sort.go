package imapd

import (
	"cmp"
	"errors"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/thread"
)

// RFC 5256 section 3: "SORT" [SP "RETURN" ...] SP sort-criteria SP charset SP search-keys. RFC 5267: ESORT. RFC 5957: DISPLAY.
func (u *user) cmdSort(cmd imap.Command, d *imap.Decoder) error {
	r := d.SearchReturn()
	keys := d.SP().SortKeys()
	charset := d.SP().Charset()
	key := d.SP().SearchKeys()
	if err := d.End(); err != nil {
		return err
	}
	criteria := make([]thread.Criterion, len(keys))
	for i, k := range keys {
		c, ok := sortKey(k.Order)
		if !ok {
			return imap.Bad("that order is not offered")
		}
		criteria[i] = thread.Criterion{Key: c, Reverse: k.Reverse}
	}
	q, err := u.matching(cmd, r, charset, &key)
	if err != nil {
		return err
	}
	sorted, err := u.sorted(criteria, q.matches)
	if err != nil {
		return err
	}
	u.found(cmd, r, q, sorted)
	return cmp.Or(u.update(cmd, r, q, criteria, sorted), q.end(cmd))
}

// sorted are messages in an order.
func (u *user) sorted(criteria []thread.Criterion, uids []uint32) ([]uint32, error) {
	s := thread.NewSorter(criteria, len(uids))
	if err := u.each(criteria, uids, s); err != nil {
		return nil, err
	}
	return s.Sorted(), nil
}

// sortKey is the key of a criterion; false: it is not offered.
func sortKey(o imap.SortOrder) (thread.Key, bool) {
	switch o {
	case imap.SortArrival:
		return thread.Arrival, true
	case imap.SortCc:
		return thread.Cc, true
	case imap.SortDate:
		return thread.Date, true
	case imap.SortFrom:
		return thread.From, true
	case imap.SortSize:
		return thread.Size, true
	case imap.SortSubject:
		return thread.Subject, true
	case imap.SortTo:
		return thread.To, true
	case imap.SortDisplayFrom:
		return thread.DisplayFrom, true
	case imap.SortDisplayTo:
		return thread.DisplayTo, true
	}
	return 0, false
}

// each gives a sorter what it asks for of messages.
func (u *user) each(criteria []thread.Criterion, uids []uint32, s *thread.Sorter) error {
	v := u.view
	columns, known := uint32(0), false
	for _, c := range criteria {
		switch k, ok := sortColumn(c.Key); {
		case ok:
			columns |= 1 << k
		case c.Key != thread.Arrival && c.Key != thread.Size:
			known = true
		}
	}
	add := func(uid uint32, values [][]byte, f facts.Facts) error {
		s.Add(uid)
		for _, c := range criteria {
			if c.Key.IsText() {
				if k, ok := sortColumn(c.Key); ok && values != nil {
					s.Folded(foldedOf(k, values[k]))
				} else {
					s.Text(u.sortText(c.Key, f))
				}
				continue
			}
			n, err := u.sortNumber(c.Key, uid, values, f)
			if err != nil && !errors.Is(err, mailbox.ErrExpunged) {
				return err
			}
			s.Number(n)
		}
		return nil
	}
	switch {
	case known:
		return v.box.Facts(u.ctx, v.validity, uids, func(uid uint32, f []byte) error { return add(uid, nil, f) })
	case columns != 0:
		return v.box.Columns(u.ctx, v.validity, uids, columns, func(uid uint32, values [][]byte) error { return add(uid, values, nil) })
	}
	for _, uid := range uids {
		if err := add(uid, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// sortColumn is the column of a key; of the others the facts are asked.
func sortColumn(k thread.Key) (column int, ok bool) {
	switch k {
	case thread.Date:
		return facts.ColumnSent, true
	case thread.Subject:
		return facts.ColumnBase, true
	case thread.From:
		return facts.ColumnSortFrom, true
	case thread.To:
		return facts.ColumnSortTo, true
	}
	return 0, false
}

func foldedOf(column int, value []byte) []byte {
	if column == facts.ColumnBase {
		value, _ = facts.BaseOf(value)
	}
	return value
}

func (u *user) sortNumber(k thread.Key, uid uint32, values [][]byte, f facts.Facts) (int64, error) {
	switch k {
	case thread.Size:
		return u.view.box.Size(uid)
	case thread.Date:
		sent, _, ok := f.Sent()
		if values != nil {
			sent, _, ok = facts.SentOf(values[facts.ColumnSent])
		}
		if ok {
			return sent, nil
		}
	}
	t, err := u.view.box.Date(uid)
	return t.Unix(), err
}

func (u *user) sortText(k thread.Key, f facts.Facts) []byte {
	e := f.Envelope()
	switch k {
	case thread.Subject:
		return f.BaseSubject()
	case thread.From:
		return e.From().First()
	case thread.To:
		return e.To().First()
	case thread.Cc:
		return e.Cc().First()
	case thread.DisplayFrom:
		return u.display(f.DisplayFrom(), e.From())
	}
	return u.display(f.DisplayTo(), e.To())
}

// display is the name of an address as RFC 5957 section 3 sorts it: without one it is mailbox@host.
func (u *user) display(name []byte, a facts.Addresses) []byte {
	if len(name) > 0 || a.Len() == 0 {
		return name
	}
	one := a.At(0)
	if len(one.Host) == 0 {
		return one.Mailbox
	}
	u.scratch = append(append(append(u.scratch[:0], one.Mailbox...), '@'), one.Host...)
	return u.scratch
}

// RFC 5256 section 3: "THREAD" SP thread-alg SP charset SP search-keys.
func (u *user) cmdThread(cmd imap.Command, d *imap.Decoder) error {
	algorithm, ok := thread.Parse(d.SP().Keyword())
	charset := d.SP().Charset()
	key := d.SP().SearchKeys()
	if err := d.End(); err != nil {
		return err
	}
	if !ok {
		return imap.Bad("that algorithm is not offered")
	}
	q, err := u.matching(cmd, imap.SearchReturn{}, charset, &key)
	if err != nil {
		return err
	}
	v := u.view
	t := thread.New(algorithm, len(q.matches))
	const columns = 1<<facts.ColumnSent | 1<<facts.ColumnBase | 1<<facts.ColumnThread
	if err := v.box.Columns(u.ctx, v.validity, q.matches, columns, func(uid uint32, values [][]byte) error {
		sent, _, ok := facts.SentOf(values[facts.ColumnSent])
		arrived := sent
		if !ok || algorithm == thread.Refs { // by the date of arrival
			t, err := v.box.Date(uid)
			if errors.Is(err, mailbox.ErrExpunged) {
				return nil
			}
			if err != nil {
				return err
			}
			if arrived = t.Unix(); !ok {
				sent = arrived
			}
		}
		id := uid
		if !cmd.UID {
			id = v.number(uid)
		}
		own, refs, _ := facts.NextID(values[facts.ColumnThread])
		t.Add(id, sent, arrived, own)
		for ref, rest, ok := facts.NextID(refs); ok; ref, rest, ok = facts.NextID(rest) {
			t.Reference(ref)
		}
		t.Subject(facts.BaseOf(values[facts.ColumnBase]))
		return nil
	}); err != nil {
		return err
	}
	b := append(u.buf[:0], "* THREAD"...)
	if len(q.matches) > 0 {
		b = t.Tree().AppendList(append(b, ' '))
	}
	u.send(append(b, crlf...))
	return q.end(cmd)
}
