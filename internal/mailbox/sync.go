package mailbox

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/uidlist"
)

const listName = "dovecot-uidlist"

// Sync finds what has changed since the last one, here or by others. It costs a few stat(2) when nothing has.
func (b *Mailbox) Sync() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = ahead{}
	return b.sync(false)
}

// sync: the mailbox is locked. Hard reads the directories whatever their times say.
func (b *Mailbox) sync(hard bool) error {
	unlock, err := b.index.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return b.syncLocked(hard)
}

func (b *Mailbox) syncLocked(hard bool) error {
	defer b.news()
	x := b.index.x
	if b.index.back { // what was read of the list went into an index that is no more
		b.forgetList()
		b.index.back = false
	}
	now, err := b.look()
	if err != nil {
		return err
	}
	listed := now.list.modified != x.state.list.modified || now.inode != x.state.inode || now.listSize != x.state.listSize
	if !hard && b.index.good && !listed && x.validity != 0 &&
		now.cur.modified == x.state.cur.modified && x.state.cur.settled(b.local) && now.new.modified == x.state.new.modified && x.state.new.settled(b.local) {
		return nil
	}
	t := &syncing{b: b, x: x, now: now, hard: hard}
	if err := t.run(listed); err != nil {
		return err
	}
	if len(t.frames) == 0 && b.index.good {
		return nil
	}
	if err := b.index.write(b.ops, t.frames); err != nil {
		b.report(err) // what was read is right: on a full disk there is still mail to be read
	}
	return nil
}

// news tells the followers that there is some, here found or by another process whose index was read. When only the state of the directories is another one there is none:
// who follows would look again and again.
func (b *Mailbox) news() {
	if n := b.index.x.highest; n != b.announced {
		b.announced = n
		b.changed()
	}
}

// look stats what a change would show in.
func (b *Mailbox) look() (s state, err error) {
	if s.cur, err = stampOf(b.cur); err != nil {
		return s, err
	}
	if s.new, err = stampOf(b.new); err != nil {
		return s, err
	}
	var st unix.Stat_t
	seen := time.Now()
	switch err := unix.Fstatat(int(b.dir.Fd()), listName, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		s.list = stamp{st.Mtim.Nano(), seen.UnixNano()}
		s.inode, s.listSize = st.Ino, st.Size
	case err != unix.ENOENT:
		return s, fmt.Errorf("mailbox: stat %s/%s: %w", b.dir.Name(), listName, err)
	}
	return s, nil
}

// syncing is one run of sync.
type syncing struct {
	b      *Mailbox
	x      *index
	now    state
	frames []byte
	modseq uint64
	whole  bool // all entries of the list were read
	hard   bool // somebody waits for what it finds
}

func (t *syncing) run(listed bool) error {
	b := t.b
	t.modseq = max(t.x.highest+1, uint64(time.Now().UnixMicro()))
	files, err := b.files()
	if err != nil {
		return err
	}
	known, err := t.x.allNames()
	if err != nil { // the index was cut under us
		t.forget()
		return t.run(true)
	}
	r := compare(t.x.messages, func(i int) string { return known[i] }, files)
	if len(r.missing) > 0 {
		if r, err = t.again(known); err != nil {
			return err
		}
	}
	if len(r.twice) > 0 {
		united, young, err := b.unite(r.twice)
		if err != nil {
			b.report(err)
		}
		if united > 0 {
			return t.run(listed)
		}
		if young { // the next Sync looks again
			t.now.cur.seen = t.now.cur.modified
		}
	}
	var entries []uidlist.Entry
	if listed || len(r.fresh) > 0 || t.x.validity == 0 {
		if entries, err = t.list(len(r.fresh)); err == errMoved {
			t.forget()
			return t.run(true)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range r.changed {
		m := t.x.messages[c.i]
		_, f, k := parseName(c.is.name)
		if f != m.flags() || k != m.keywords {
			m.modseq = t.modseq
		}
		m.keywords = k
		m.setFlags(f)
		m.setPlace(placeCur)
		if c.is.new {
			m.setPlace(placeNew)
		}
		t.change('F', m, c.is.name)
		known[c.i] = c.is.name
	}
	for _, i := range r.missing {
		t.expunge(t.x.messages[i].uid)
	}
	fresh, given := t.agree(r, known, entries)
	if slices.Contains(given, 0) {
		if err := t.assign(fresh, given); err == errMoved {
			t.forget()
			return t.run(true)
		} else if errors.Is(err, fs.ErrPermission) { // who may only read sees what others have given a UID
			fresh, given = numbered(fresh, given)
		} else if err != nil {
			return err
		}
	}
	if b.list.Low() {
		if err := t.raise(); err != nil {
			b.report(err) // while there is an index it knows better
		}
	}
	t.x.compact()
	t.x.next = max(t.x.next, uint32(b.list.Header().Next))
	t.add(fresh, given)
	if !b.index.good {
		t.x.highest = max(t.x.highest, t.modseq) // what clients have seen before is below, also where there is no message
		t.x.since = t.x.highest
	}
	t.state()
	return nil
}

// forget begins anew: nothing that the index says is so.
func (t *syncing) forget() {
	t.x = &index{highest: t.x.highest}
	t.b.index.x, t.b.index.good = t.x, false
	t.b.forgetList()
	t.frames = nil
}

// list reads what others have added to the UID list, or all of it: then t.whole is set. It is made or mended when it has to be. About n lines are expected.
func (t *syncing) list(n int) (entries []uidlist.Entry, err error) {
	if t.x.validity == 0 {
		t.b.forgetList()
	}
	entries = make([]uidlist.Entry, 0, n)
	collect := func(e uidlist.Entry) error {
		entries = append(entries, e)
		t.b.popKeys(e)
		return nil
	}
	change, err := t.b.list.Read(collect)
	if change == uidlist.Missing && err == nil || errors.Is(err, uidlist.ErrDamaged) {
		entries = entries[:0]
		change, err = t.mend(collect)
	}
	if err == errMoved {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	if v := t.b.list.Header().Validity; v != t.x.validity {
		if t.x.validity != 0 {
			return nil, errMoved
		}
		t.x.validity = v
		t.b.index.good = false
	}
	t.b.list.AtLeast(uidlist.UID(t.x.next)) // the index has seen more than an older copy of the list
	t.whole = change == uidlist.Replaced
	if !t.whole {
		entries, t.whole = append(t.b.ahead, entries...), t.b.aheadAll
	}
	t.b.ahead, t.b.aheadAll = nil, false
	if t.whole {
		clear(t.b.orphans)
		t.b.popRead = true
	}
	return entries, nil
}

// forgetList has the list read from its beginning.
func (b *Mailbox) forgetList() {
	b.list = uidlist.New(b.root, b.dir, b.ops)
	b.popRead = false
	clear(b.pop)
}

// mend makes the list, or what can be saved of it, under its lock.
func (t *syncing) mend(collect func(uidlist.Entry) error) (uidlist.Change, error) {
	tx, err := t.b.list.Lock(context.Background())
	if err != nil {
		return 0, err
	}
	defer tx.Unlock()
	change, err := tx.Read(func(uidlist.Entry) error { return nil }) // another may have been here
	switch {
	case errors.Is(err, uidlist.ErrDamaged):
		repair, err := tx.Repair(uidlist.UID(t.x.next))
		if err != nil {
			return 0, err
		}
		t.b.report(fmt.Errorf("%s/%s: %v", t.b.dir.Name(), listName, repair))
	case err != nil:
		return 0, err
	case change == uidlist.Missing:
		renamed, err := t.b.takeKeywords(tx)
		if err == nil {
			err = tx.Create()
		}
		if err == nil && renamed {
			err = errMoved
		}
		if err != nil {
			return 0, err
		}
	}
	t.b.forgetList()
	return t.b.list.Read(collect)
}

// agree sets what we know against what the list says, and returns all files that become messages now, with the UIDs that they have. RFC 9051 section
// 2.3.1.1: the UID of a message that was expunged does not come back with its file, which another delivery or a copy put back brings: it gets a second line, and
// the later one holds, for Dovecot too.
func (t *syncing) agree(r *reading, known []string, entries []uidlist.Entry) ([]found, []uint32) {
	fresh := r.fresh
	given := make([]uint32, len(fresh))
	for i := range fresh {
		if uid := t.b.orphan(baseOf(fresh[i].name)); !t.x.had(uid) {
			given[i] = uid
		}
	}
	if len(entries) == 0 && !t.whole {
		return fresh, given
	}
	ours := newBases(len(known), func(i int, base string) bool { return baseOf(known[i]) == base })
	for i := range known {
		ours.add(baseOf(known[i]), i)
	}
	says := make([]uint32, len(known))
	for _, e := range entries { // of two lines for one name the later one holds
		if i := r.bases.find(e.Name); i >= 0 {
			if !t.x.had(uint32(e.UID)) {
				given[i] = uint32(e.UID)
			}
		} else if i := ours.find(e.Name); i >= 0 {
			says[i] = uint32(e.UID)
		} else {
			t.b.orphans[maphash.String(t.b.seed, e.Name)] = uint32(e.UID)
		}
	}
	for i := range known {
		m := &t.x.messages[i]
		if m.dead() || says[i] == m.uid || says[i] == 0 && !t.whole {
			continue
		}
		// The list was another when we last read it.
		fresh = append(fresh, found{known[i], m.inNew()})
		given = append(given, says[i])
		t.expunge(m.uid)
	}
	return fresh, given
}

// numbered are the files that have a UID.
func numbered(fresh []found, given []uint32) (files []found, uids []uint32) {
	for i, uid := range given {
		if uid != 0 {
			files, uids = append(files, fresh[i]), append(uids, uid)
		}
	}
	return files, uids
}

// assign gives UIDs to the files that have none, under the lock of the list: others may have been quicker.
func (t *syncing) assign(fresh []found, given []uint32) error {
	tx, err := t.b.list.Lock(context.Background())
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer tx.Unlock()
	where := newBases(len(fresh), func(i int, base string) bool { return baseOf(fresh[i].name) == base })
	for i := range fresh {
		if given[i] == 0 {
			where.add(baseOf(fresh[i].name), i)
		}
	}
	var read []uidlist.Entry
	change, err := tx.Read(func(e uidlist.Entry) error {
		if i := where.find(e.Name); i >= 0 && !t.x.had(uint32(e.UID)) {
			given[i] = uint32(e.UID)
		}
		read = append(read, e)
		t.b.popKeys(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	t.b.keep(change, read)
	if change == uidlist.Missing || t.b.list.Header().Validity != t.x.validity {
		return errMoved
	}
	var without []int
	for i := range fresh {
		if given[i] == 0 {
			without = append(without, i)
		}
	}
	slices.SortFunc(without, func(i, j int) int { return older(fresh[i].name, fresh[j].name) })
	add := make([]uidlist.Entry, len(without))
	for k, i := range without {
		add[k].Name = baseOf(fresh[i].name)
	}
	if len(add) > 0 {
		err := tx.Append(add)
		if errors.Is(err, uidlist.ErrExhausted) { // RFC 9051 section 2.3.1.1: UIDs begin anew under a greater UIDVALIDITY
			if err = tx.Begin(); err == nil {
				t.b.report(fmt.Errorf("%s/%s: no UID is left: begun anew with another UIDVALIDITY", t.b.dir.Name(), listName))
				return errMoved
			}
		}
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		t.b.kept(add)
	}
	for k, i := range without {
		given[i] = uint32(add[k].UID)
	}
	if err := t.b.tidy(tx, len(t.x.messages)+len(fresh)); err != nil {
		t.b.report(err) // it is longer than it need be
	}
	return nil
}

// raise has the list say that the UIDs are taken that it knows nothing of, for when the index is lost too.
func (t *syncing) raise() error {
	tx, err := t.b.list.Lock(context.Background())
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer tx.Unlock()
	var read []uidlist.Entry
	change, err := tx.Read(func(e uidlist.Entry) error {
		read = append(read, e)
		t.b.popKeys(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	t.b.keep(change, read)
	if change == uidlist.Missing || !t.b.list.Low() {
		return nil // others were quicker
	}
	if err := tx.Rewrite(nil); err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	return nil
}

// keep has the next Sync set lines against the directories that were read with the list locked, after or without a look at those.
func (b *Mailbox) keep(change uidlist.Change, read []uidlist.Entry) {
	if change == uidlist.Replaced {
		b.ahead, b.aheadAll = nil, true
	}
	b.ahead = append(b.ahead, read...)
}

// kept adds lines that were written since: a list that is all there is to be set against the directories says of a name that it has not that it has no UID.
func (b *Mailbox) kept(written []uidlist.Entry) {
	if b.aheadAll {
		b.ahead = append(b.ahead, written...)
	}
}

// orphan is the UID that the list had for a file when there was none of that name: Dovecot gives the number first and shows the file then, and a
// reading may miss one.
func (b *Mailbox) orphan(base string) uint32 {
	if len(b.orphans) == 0 {
		return 0
	}
	h := maphash.String(b.seed, base)
	uid := b.orphans[h]
	delete(b.orphans, h)
	return uid
}

// errMoved: the list was replaced since, or the files renamed with it. The next Sync begins anew.
var errMoved = errors.New("mailbox: the list of UIDs was replaced at this moment")

// add makes messages of files.
func (t *syncing) add(fresh []found, given []uint32) {
	octets := 0
	for i := range fresh {
		octets += len(fresh[i].name)
	}
	t.x.names.later = slices.Grow(t.x.names.later, octets)
	t.x.messages = slices.Grow(t.x.messages, len(fresh))
	order := make([]uint64, len(fresh)) // UID and place: numbers are sorted in a third of the time
	for i := range order {
		order[i] = uint64(given[i])<<32 | uint64(i)
	}
	slices.Sort(order)
	for _, o := range order {
		i := uint32(o)
		base, f, k := parseName(fresh[i].name)
		m := message{uid: given[i], modseq: t.modseq, keywords: k, date: unknown, wire: sizeIn(base, ",W="), size: sizeIn(base, ",S=")}
		m.setFlags(f)
		if fresh[i].new {
			m.setPlace(placeNew)
		}
		t.change('A', m, fresh[i].name)
	}
}

// older orders by the second of delivery in the name, then by the name.
func older(a, b string) int {
	seconds := func(s string) int64 {
		s, _, _ = strings.Cut(s, ".")
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 1<<63 - 1
		}
		return n
	}
	return cmp.Or(cmp.Compare(seconds(a), seconds(b)), cmp.Compare(a, b))
}

func (t *syncing) change(kind byte, m message, name string) {
	if !t.b.index.good { // a snapshot will be written
		t.x.put(m, name)
		return
	}
	t.frames = t.x.change(t.frames, kind, m, name)
}

func (t *syncing) expunge(uid uint32) {
	t.x.remove(uid, t.modseq)
	if !t.b.index.good {
		return
	}
	t.frames = t.x.frame(t.frames, 'X', expunged{uid, t.modseq}.append(nil))
}

// state notes what the messages were read from.
func (t *syncing) state() {
	if (t.b.popRead || t.x.state.plain != 0) && len(t.b.pop) == 0 {
		t.now.plain = 1
	}
	t.x.state = t.now
	p := binary.LittleEndian.AppendUint32(nil, t.x.next)
	p = binary.LittleEndian.AppendUint32(p, t.x.validity)
	t.frames = t.x.frame(t.frames, 'S', t.now.append(p))
}

// files reads both directories; new/ last: what is moved from there to cur/ meanwhile is then seen twice rather than not at all.
func (b *Mailbox) files() (all []found, err error) {
	all = make([]found, 0, len(b.index.x.messages)+16)
	if all, err = files(all, b.new, true); err == nil {
		all, err = files(all, b.cur, false)
	}
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	return all, nil
}

// allNames are the names of all messages, in their order.
func (x *index) allNames() ([]string, error) {
	list := make([]string, len(x.messages))
	stored := make([]byte, x.names.length)
	if len(stored) > 0 {
		if _, err := x.names.file.ReadAt(stored, x.names.start); err != nil {
			return nil, err
		}
		if crc32.Checksum(stored, castagnoli()) != x.names.sum {
			return nil, errNotNames
		}
	}
	text := string(stored)
	for i := range x.messages {
		m := &x.messages[i]
		at, n := m.nameAt(), int64(m.nameLength())
		if at >= laterAt {
			list[i] = string(x.names.later[at-laterAt : at-laterAt+n])
		} else {
			list[i] = text[at : at+n]
		}
		if !isName(list[i]) {
			return nil, errNotNames
		}
	}
	return list, nil
}
