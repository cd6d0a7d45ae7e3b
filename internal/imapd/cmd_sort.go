package imapd

import (
	"cmp"
	"errors"
	"slices"

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

// sorted are messages in an order. That of all messages is remembered, for the next who asks: webmail does for each page.
func (u *user) sorted(criteria []thread.Criterion, uids []uint32) ([]uint32, error) {
	box, name := u.view.box, orderName(criteria)
	if name != "" {
		if order, ok := box.Kept(name, nil).([]uint32); ok {
			return these(order, uids), nil
		}
	}
	s := thread.NewSorter(criteria, len(uids))
	if err := u.each(criteria, uids, s); err != nil {
		return nil, err
	}
	sorted := s.Sorted()
	if name != "" && len(sorted) == len(uids) && len(uids) >= sortAnew {
		box.Keep(name, uids, slices.Clone(sorted))
	}
	return sorted, nil
}

// sortAnew is how few messages are sorted each time.
const sortAnew = 500

// orderName is what an order is remembered by, "" if it is not: what it is of can become another, or is at hand.
func orderName(criteria []thread.Criterion) string {
	name, facts := []byte("SORT"), false
	for _, c := range criteria {
		if c.Key == thread.Size {
			return ""
		}
		facts = facts || c.Key != thread.Arrival
		if c.Reverse {
			name = append(name, '-')
		}
		name = append(name, '0'+byte(c.Key))
	}
	if !facts {
		return ""
	}
	return string(name)
}

// these are those of order that are in uids, which ascend.
func these(order, uids []uint32) []uint32 {
	list := make([]uint32, 0, len(uids))
	if len(uids) == 0 {
		return list
	}
	first, last := uids[0], uids[len(uids)-1]
	in := func(uid uint32) bool { _, ok := slices.BinarySearch(uids, uid); return ok }
	if n := int(last-first) + 1; n <= 64*len(uids) {
		bits := make([]uint64, n/64+1)
		for _, uid := range uids {
			bits[(uid-first)/64] |= 1 << ((uid - first) % 64)
		}
		in = func(uid uint32) bool {
			return uid >= first && uid <= last && bits[(uid-first)/64]>>((uid-first)%64)&1 != 0
		}
	}
	for _, uid := range order {
		if in(uid) {
			list = append(list, uid)
		}
	}
	return list
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
	tree, err := u.threads(algorithm, q.matches)
	if err != nil {
		return err
	}
	b := append(u.buf[:0], "* THREAD"...)
	if len(q.matches) > 0 {
		number := u.view.number
		if cmd.UID {
			number = func(uid uint32) uint32 { return uid }
		}
		b = tree.AppendList(append(b, ' '), number)
	}
	u.send(append(b, crlf...))
	return q.end(cmd)
}

// threads are the UIDs of messages in threads. Those of all messages are remembered, as in sorted.
func (u *user) threads(algorithm thread.Algorithm, uids []uint32) (*thread.Tree, error) {
	v, name := u.view, "THREAD"+string('0'+byte(algorithm))
	if tree, ok := v.box.Kept(name, uids).(*thread.Tree); ok {
		return tree, nil
	}
	t, added := thread.New(algorithm, len(uids)), 0
	const columns = 1<<facts.ColumnSent | 1<<facts.ColumnBase | 1<<facts.ColumnThread
	if err := v.box.Columns(u.ctx, v.validity, uids, columns, func(uid uint32, values [][]byte) error {
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
		own, refs, _ := facts.NextID(values[facts.ColumnThread])
		t.Add(uid, sent, arrived, own)
		added++
		for ref, rest, ok := facts.NextID(refs); ok; ref, rest, ok = facts.NextID(rest) {
			t.Reference(ref)
		}
		t.Subject(facts.BaseOf(values[facts.ColumnBase]))
		return nil
	}); err != nil {
		return nil, err
	}
	tree := t.Tree()
	if added == len(uids) && added >= sortAnew {
		v.box.Keep(name, uids, tree)
	}
	return tree, nil
}
