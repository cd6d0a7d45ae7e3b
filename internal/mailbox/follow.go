package mailbox

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/watch"
)

// Poll is how often a mailbox that is followed is looked at even if nothing has told of a change: on a file system that others write to from other
// hosts nothing does.
const (
	poll     = 30 * time.Second
	pollOnly = 2 * time.Second // where the system tells of no changes at all
)

// followers are those who want to know of changes.
type followers struct {
	mu      sync.Mutex
	all     map[*func()]struct{}
	watches []*watch.Watch
	timer   *time.Timer
}

// Follow has f called when something may have changed since the last Sync, in this process or elsewhere, until stop is called; also that the folder is Gone.
// f is called by whoever changes the mailbox, so it must be quick and must not use it. Changes that came before are for a Sync after Follow.
func (b *Mailbox) Follow(f func()) (stop func()) {
	dirs := []*os.File{b.cur, b.new}
	if unix.Faccessat(int(b.dir.Fd()), ".", unix.W_OK, 0) != nil {
		dirs = append(dirs, b.dir) // who may not write sees a message when it has a UID: the lock of the list comes and goes here
	}
	end := b.followers.follow(f, b.watcher, dirs, b.moved)
	if b.account == nil || b.folder == "" {
		return end
	}
	// That a folder is removed or gets another name is seen in the directory above it.
	endAbove := b.account.Follow(f)
	return func() { end(); endAbove() }
}

// Follow has f called when a folder may have been made, removed, renamed or subscribed to, as Mailbox.Follow does for messages. Changes of INBOX's list of UIDs call
// it too: they are in the same directory.
func (a *Account) Follow(f func()) (stop func()) {
	seen := int64(0)
	return a.followers.follow(f, a.all.watcher, []*os.File{a.dir}, func() bool { return a.FoldersChanged(&seen) })
}

// Changed tells those who follow the account that this process has changed a folder, as far as nobody else does.
func (a *Account) Changed() { a.followers.changed() }

// FoldersChanged reports whether there may be other folders or subscriptions than when it was asked with the same seen before, which begins as 0.
func (a *Account) FoldersChanged(seen *int64) bool {
	s, err := stampOf(a.dir)
	if err == nil && s.modified == *seen {
		return false
	}
	if *seen = s.modified; err != nil || !s.settled(false) {
		*seen = 0
	}
	return true
}

// Identity is a number of a folder that stays with it when it is renamed, by the name of its directory; 0: there is none. One that is made after it was removed may get it.
func (a *Account) Identity(dir string) uint64 {
	var st unix.Stat_t
	if unix.Fstatat(int(a.dir.Fd()), dir, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return st.Ino
}

// follow begins to follow directories. Moved looks whether they have changed where nothing tells.
func (s *followers) follow(f func(), w *watch.Watcher, dirs []*os.File, moved func() bool) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		s.all = make(map[*func()]struct{})
		s.watch(w, dirs, moved)
	}
	key := &f
	s.all[key] = struct{}{}
	return func() {
		s.mu.Lock()
		delete(s.all, key)
		var end []*watch.Watch
		if len(s.all) == 0 && s.timer != nil {
			end, s.watches = s.watches, nil
			s.timer.Stop()
			s.timer = nil
		}
		s.mu.Unlock()
		for _, w := range end { // without the lock: a call of changed may be under way, and is waited for
			w.Close()
		}
	}
}

// changed tells the followers.
func (s *followers) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.all {
		(*f)()
	}
}

// changed tells the followers of the mailbox.
func (b *Mailbox) changed() { b.followers.changed() }

// watch: the followers are locked.
func (s *followers) watch(watcher *watch.Watcher, dirs []*os.File, moved func() bool) {
	interval := pollOnly
	if watcher != nil {
		interval = poll
		for _, d := range dirs {
			w, err := watcher.Add(d, s.changed)
			if err != nil { // there are only so many
				interval = pollOnly
				break
			}
			s.watches = append(s.watches, w)
		}
	}
	s.timer = time.AfterFunc(interval, func() {
		if moved() {
			s.changed()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if slices.ContainsFunc(s.watches, (*watch.Watch).Ended) {
			interval = pollOnly
		}
		if s.timer != nil {
			s.timer.Reset(interval)
		}
	})
}

// moved reports whether a directory has another time than the one that was noted.
func (b *Mailbox) moved() bool {
	now, err := b.look()
	if err != nil {
		return true // a Sync will say it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.index.x.state
	return now.cur.modified != was.cur.modified || now.new.modified != was.new.modified || now.list.modified != was.list.modified
}

// Changes are what happened to a mailbox.
type Changes struct {
	Messages []Message // that came or changed, ascending by UID
	Gone     []uint32
	Whole    bool   // Gone are all that have gone; else some are forgotten
	Highest  uint64 // the highest mod-sequence after them
}

// Since tells what has happened since the mailbox had that highest mod-sequence, as of the last Sync. False: it has another UIDVALIDITY.
func (b *Mailbox) Since(validity uint32, modseq uint64) (c Changes, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.index.x
	if x.validity != validity {
		return c, false
	}
	c.Highest, c.Whole = x.highest, modseq >= x.since
	if x.highest == modseq {
		c.Whole = true
		return c, true
	}
	for i := range x.messages {
		if m := &x.messages[i]; m.modseq > modseq {
			c.Messages = append(c.Messages, m.says())
		}
	}
	for _, e := range x.gone {
		if e.modseq > modseq {
			c.Gone = append(c.Gone, e.uid)
		}
	}
	return c, true
}

// Snapshot is the UIDs of all messages, ascending, with UIDVALIDITY and the highest mod-sequence of that moment. All sessions share it: it must not
// be changed.
func (b *Mailbox) Snapshot() (uids []uint32, validity uint32, highest uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, t := b.index.x, &b.told
	if t.of != x || t.members != x.members || t.uids == nil {
		t.begin(x)
		t.members, t.uids = x.members, make([]uint32, len(x.messages))
		for i := range t.uids {
			t.uids[i] = x.messages[i].uid
		}
	}
	return t.uids[:len(t.uids):len(t.uids)], x.validity, x.highest
}

// maxKept things are remembered of a mailbox: two orders, or the threads.
const maxKept = 2

// Keep remembers, as long as the mailbox is open and no message has come or gone, what somebody has found out about these messages, which are all there are: else it is
// forgotten at once. It is what does not change with flags. Nobody may change it.
func (b *Mailbox) Keep(name string, uids []uint32, value any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.keeping()
	if !b.index.x.isAll(uids) {
		return
	}
	for old := range t.kept {
		if len(t.kept) < maxKept {
			break
		}
		delete(t.kept, old)
	}
	if t.kept == nil {
		t.kept = make(map[string]any, maxKept)
	}
	t.kept[name] = value
}

// Kept is what is remembered by that name, nil for nothing. With uids it is of these messages and no others.
func (b *Mailbox) Kept(name string, uids []uint32) any {
	b.mu.Lock()
	defer b.mu.Unlock()
	value := b.keeping().kept[name]
	if value != nil && uids != nil && !b.index.x.isAll(uids) {
		return nil
	}
	return value
}

// keeping forgets what was of other messages.
func (b *Mailbox) keeping() *told {
	x, t := b.index.x, &b.told
	t.begin(x)
	if t.keptWith != x.members {
		t.kept, t.keptWith = nil, x.members
	}
	return t
}

// isAll: these are all messages.
func (x *index) isAll(uids []uint32) bool {
	if len(uids) != len(x.messages) {
		return false
	}
	for i, uid := range uids {
		if x.messages[i].uid != uid {
			return false
		}
	}
	return true
}

// FirstUnseen is the first message that nobody has seen, 0: there is none.
func (b *Mailbox) FirstUnseen() uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, t := b.index.x, &b.told
	if t.of != x || t.changes != x.changes {
		t.begin(x)
		t.changes, t.unseen = x.changes, 0
		for i := range x.messages {
			if m := &x.messages[i]; m.flags()&Seen == 0 {
				t.unseen = m.uid
				break
			}
		}
	}
	return t.unseen
}

// told is what was told of an index: who opens a mailbox that has not changed is not to wait for a look at each message.
type told struct {
	of      *index
	members uint64 // when uids were made
	changes uint64 // when unseen was found
	uids    []uint32
	unseen  uint32

	kept     map[string]any
	keptWith uint64 // members
}

// begin forgets what is of another index.
func (t *told) begin(x *index) {
	if t.of != x {
		*t = told{of: x, changes: ^uint64(0)}
	}
}

// Recent are those that no session of this process has claimed (RFC 3501 section 2.3.2): all that have come since one did last, and else those in new/. Copies, and
// what is appended with flags, are in cur/ and recent too (sections 6.3.11 and 6.4.7). Claim: from now on one has
// those below this UID; 0: none.
func (b *Mailbox) Recent(claim uint32) (uids []uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.index.x
	i, _ := x.find(b.claimed)
	for ; i < len(x.messages); i++ {
		if m := &x.messages[i]; b.claimed > 0 || m.inNew() {
			uids = append(uids, m.uid)
		}
	}
	b.claimed = max(b.claimed, claim)
	return uids
}

// All calls f for all messages, in the order of their UIDs, until it returns false. f must not use the mailbox, nor the message after the call.
func (b *Mailbox) All(f func(m *Message) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.index.x.messages
	var m Message // one for all: it is f's for the call
	for i := range all {
		if m = all[i].says(); !f(&m) {
			return
		}
	}
}

// Each calls f for messages, in the order of uids, which ascend, with their place there, until it returns false. Those that are gone are passed
// over. f must not use the mailbox, nor the message after the call.
func (b *Mailbox) Each(uids []uint32, f func(i int, m *Message) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.index.x.messages
	at := 0
	var m Message
	for i, uid := range uids {
		// The next one is where the last was, or a little behind.
		for steps := 0; at < len(all) && all[at].uid < uid; steps++ {
			if steps == 8 {
				at, _ = b.index.x.find(uid)
				break
			}
			at++
		}
		if at < len(all) && all[at].uid == uid {
			if m = all[at].says(); !f(i, &m) {
				return
			}
		}
	}
}
