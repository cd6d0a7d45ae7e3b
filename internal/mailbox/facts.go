package mailbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	batchSize   = 256     // messages that are read at a time
	batchOctets = 8 << 20 // of their facts: 32 KiB each, where 1 KiB is usual
	readers     = 4       // files that are described at a time: two processors, and others that wait for a disk
	readGap     = 8 << 10 // what is not wanted between two records, and is read all the same
	readTail    = 2 << 10 // what is read for a record of which only the beginning is known
	readMost    = 1 << 20
)

// Facts calls each with what Options.Describe said of messages, in the order of the UIDs given, and with those octets for the time of the call. A message's
// file is read if its facts are not in the cache, which it then never is again: its size and date are noted too. Messages that are gone are passed over.
//
// An error of each ends the visit and is returned. What keeps one message from being read is returned when the others were visited; that the cache cannot be
// written is reported only. ErrValidity: as for Copy. Each may use the mailbox: nothing is locked while it is called. Memory is twice batchOctets,
// and the longest of the facts for as long as it is the turn of its message.
func (b *Mailbox) Facts(ctx context.Context, validity uint32, uids []uint32, each func(uid uint32, facts []byte) error) error {
	if b.describe == nil {
		return errors.New("mailbox: it was opened without Describe")
	}
	if len(uids) <= batchSize {
		var t batch
		if err := b.load(ctx, &t, validity, uids); err != nil {
			return err
		}
		err := b.visit(ctx, &t, each)
		return errors.Join(err, t.err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	free, loaded := make(chan *batch, 2), make(chan *batch)
	free <- new(batch)
	free <- new(batch)
	var ended error // of the loader, when loaded is closed
	go func() {     // one batch ahead
		defer close(loaded)
		for part := range slices.Chunk(uids, batchSize) {
			select {
			case t := <-free:
				if ended = b.load(ctx, t, validity, part); ended != nil {
					return
				}
				select {
				case loaded <- t:
					continue
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
			ended = ctx.Err()
			return
		}
	}()
	var err, unread error
	for t := range loaded {
		if err == nil {
			if err = b.visit(ctx, t, each); err != nil {
				cancel()
			}
			if unread == nil {
				unread = t.err
			}
		}
		free <- t
	}
	if err == nil {
		err = ended
	}
	return errors.Join(err, unread)
}

// batch is some messages and their facts.
type batch struct {
	uids     []uint32
	at       []uint64 // where the cache has them; 0: it has not
	gone     []bool
	alone    []bool   // there is no room for its facts here: it is a batch of its own, when its turn comes
	facts    [][]byte // nil: not there
	order    []int    // of those in the cache, ascending
	octets   []byte
	held     atomic.Int64 // octets of facts, and what was read with them
	validity uint32
	err      error // why one of them could not be read
}

// visit calls each with the facts of a batch that was loaded.
func (b *Mailbox) visit(ctx context.Context, t *batch, each func(uint32, []byte) error) error {
	var one batch
	for i, facts := range t.facts {
		if t.alone[i] {
			if err := b.load(ctx, &one, t.validity, t.uids[i:i+1]); err != nil {
				return err
			}
			facts = one.facts[0]
			if t.err == nil {
				t.err = one.err
			}
		}
		if facts != nil {
			if err := each(t.uids[i], facts); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin looks where the facts of messages are.
func (t *batch) begin(x *index, uids []uint32) {
	n := len(uids)
	t.uids, t.err, t.validity = uids, nil, x.validity
	t.at, t.gone = append(t.at[:0], make([]uint64, n)...), append(t.gone[:0], make([]bool, n)...)
	t.alone = append(t.alone[:0], make([]bool, n)...)
	t.facts = append(t.facts[:0], make([][]byte, n)...)
	t.octets = t.octets[:0]
	t.held.Store(0)
	t.find(x)
}

func (t *batch) find(x *index) {
	at := -1
	t.order = t.order[:0]
	for i, uid := range t.uids {
		if at++; at >= len(x.messages) || x.messages[at].uid != uid {
			var ok bool
			if at, ok = x.find(uid); !ok {
				t.gone[i] = true
				continue
			}
		}
		t.at[i] = x.messages[at].facts
		if t.facts[i] == nil && !t.alone[i] && t.at[i] >= cacheHeader && t.at[i] < 1<<62 {
			t.order = append(t.order, i)
		}
	}
	slices.SortFunc(t.order, func(i, j int) int { return cmp.Compare(t.at[i], t.at[j]) })
}

// room is n octets that stay as they are until the next begin.
func (t *batch) room(n int) []byte {
	if len(t.octets)+n > cap(t.octets) {
		t.octets = make([]byte, 0, max(n, 2*cap(t.octets))) // those of before stay where they are
	}
	at := len(t.octets)
	t.octets = t.octets[:at+n]
	t.held.Add(int64(n))
	return t.octets[at : at+n : at+n]
}

// fits: there is room for n octets more.
func (t *batch) fits(n int) bool { return t.held.Load()+int64(n) <= batchOctets }

// read takes facts from the cache: records that are near each other with one pread. Those for which there is no room are to be read alone.
func (t *batch) read(c *cacheFile) {
	at := func(k int) int64 { return int64(t.at[t.order[k]]) }
	for k := 0; k < len(t.order); {
		begin, next := at(k), k+1
		for next < len(t.order) && at(next)-at(next-1) < readGap && at(next)-begin < readMost {
			next++
		}
		n := int(at(next-1)-begin) + readTail
		if !t.fits(n) {
			for ; k < len(t.order); k++ {
				t.alone[t.order[k]] = true
			}
			return
		}
		p := t.room(n)
		n, _ = c.f.ReadAt(p, begin)
		for p = p[:n]; k < next; k++ {
			i := t.order[k]
			record := p[min(at(k)-begin, int64(len(p))):]
			length := entryLength(record)
			if length < 0 {
				continue
			}
			if length += entrySize; length > len(record) {
				if !t.fits(length) {
					t.alone[i] = true
					continue
				}
				record = t.room(length)
				if _, err := c.f.ReadAt(record, at(k)); err != nil {
					continue
				}
				if entryLength(record)+entrySize != length {
					continue
				}
			}
			t.facts[i] = c.entry(record[:length], t.uids[i])
		}
	}
}

// missing: there are messages without facts.
func (t *batch) missing() bool {
	for i := range t.facts {
		if t.facts[i] == nil && !t.gone[i] && !t.alone[i] {
			return true
		}
	}
	return false
}

// load finds the facts of messages, in the cache or in their files.
func (b *Mailbox) load(ctx context.Context, t *batch, validity uint32, uids []uint32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	t.begin(b.index.x, uids)
	var c cacheFile
	if b.readable() {
		c = b.cache
	}
	b.mu.Unlock()
	if validity != 0 && t.validity != validity {
		return fmt.Errorf("mailbox: %w", ErrValidity)
	}
	if c.f != nil {
		t.read(&c) // which another may close meanwhile
	}
	if !t.missing() {
		return nil
	}
	b.describing.Lock() // of two who want the same the second finds it
	defer b.describing.Unlock()
	files, err := b.unread(t)
	if err != nil {
		return err
	}
	b.describeFiles(ctx, t, files)
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.learn(t, files)
}

// unread is a file that must be read, and what it said.
type unread struct {
	i     int // in the batch
	uid   uint32
	dir   *os.File
	name  string
	facts []byte
	size  uint64
	wire  uint64
	date  uint64
	err   error
}

// unread looks in the cache once more, with the index locked: what is not there now nobody has read.
func (b *Mailbox) unread(t *batch) ([]unread, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, unlock, err := b.begin()
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer e.flush()
	if e.x.validity != t.validity {
		return nil, fmt.Errorf("mailbox: %w", ErrValidity)
	}
	if err := e.writable(); err != nil {
		b.cacheFails(err)
	} else {
		t.find(e.x)
		t.read(&b.cache)
	}
	var files []unread
	for i, uid := range t.uids {
		if t.facts[i] != nil || t.gone[i] || t.alone[i] {
			continue
		}
		k, ok := e.x.find(uid)
		if !ok {
			t.gone[i] = true
			continue
		}
		m := &e.x.messages[k]
		name, err := e.name(m)
		files = append(files, unread{i: i, uid: uid, dir: b.place(m), name: name, err: err})
	}
	return files, nil
}

// describeFiles reads files, some at a time.
func (b *Mailbox) describeFiles(ctx context.Context, t *batch, files []unread) {
	together(len(files), func(k int) {
		if f := &files[k]; f.err == nil && ctx.Err() == nil {
			f.err = f.read(b.describe)
			t.hold(f)
		}
	})
}

// together calls do for each of n files, some at a time.
func together(n int, do func(k int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(readers, n) {
		wg.Go(func() {
			for k := int(next.Add(1)) - 1; k < n; k = int(next.Add(1)) - 1 {
				do(k)
			}
		})
	}
	wg.Wait()
}

// hold keeps what a file said of itself, if there is room. Else it is forgotten, and the file is read again when its turn comes: so a mailbox of the longest facts
// that there can be has some made twice, and nobody holds all of them.
func (t *batch) hold(u *unread) {
	n := int64(len(u.facts))
	if t.held.Add(n) > batchOctets && len(t.uids) > 1 {
		t.held.Add(-n)
		u.facts, t.alone[u.i] = nil, u.err == nil
	}
}

func (u *unread) read(describe func(io.Reader) ([]byte, int64, error)) error {
	fd, err := openMessage(u.dir, u.name)
	if err != nil {
		return &os.PathError{Op: "open", Path: u.dir.Name() + "/" + u.name, Err: err}
	}
	defer unix.Close(fd)
	return u.readFrom(fd, describe)
}

func (u *unread) readFrom(fd int, describe func(io.Reader) ([]byte, int64, error)) error {
	path := u.dir.Name() + "/" + u.name
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is no ordinary file", path)
	}
	facts, wire, err := describe(descriptor(fd))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if facts == nil {
		facts = []byte{}
	}
	u.facts, u.size, u.wire, u.date = facts, uint64(st.Size), uint64(wire), uint64(st.Mtim.Sec)
	return nil
}

// learn gives the batch what its files said, and notes it for good.
func (b *Mailbox) learn(t *batch, files []unread) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range files {
		u := &files[k]
		if u.err != nil && (errors.Is(u.err, unix.ENOENT) || errors.Is(u.err, unix.ESTALE)) { // renamed: looked for again
			var f *File
			if f, u.err = b.file(u.uid); u.err == nil {
				u.name, u.err = f.name, u.readFrom(int(f.fd), b.describe)
				f.Close()
				t.hold(u)
			}
		}
		switch t.facts[u.i] = u.facts; {
		case errors.Is(u.err, ErrExpunged):
			t.gone[u.i] = true
		case u.err != nil && t.err == nil:
			t.err = fmt.Errorf("mailbox: message %d: %w", u.uid, u.err)
		}
	}
	e, unlock, err := b.begin()
	if err != nil {
		return err
	}
	defer unlock()
	defer e.flush()
	if e.x.validity != t.validity {
		return fmt.Errorf("mailbox: %w", ErrValidity)
	}
	if err := e.writable(); err != nil {
		b.cacheFails(err)
	}
	return e.learn(t, files)
}

func (e *editing) learn(t *batch, files []unread) error {
	b := e.b
	kept := b.cache.f != nil && b.cache.generation == e.x.cache
	end := uint64(0)
	if kept {
		end = b.cache.end()
	}
	octets, count := 0, 0
	for k := range files {
		if n := len(files[k].facts); n <= maxFacts {
			octets += entrySize + n
		}
	}
	records := make([]byte, 0, octets)
	var learnt []message
	for k := range files {
		u := &files[k]
		i, ok := e.x.find(u.uid)
		if u.facts == nil || !ok {
			continue
		}
		m := e.x.messages[i]
		m.size, m.wire, m.date = u.size, u.wire, u.date
		if quicker := m.facts != 0 && m.facts != t.at[u.i]; kept && !quicker && len(u.facts) <= maxFacts {
			m.facts = end + uint64(len(records))
			records = b.cache.appendEntry(records, u.uid, u.name, u.wire, u.facts)
			count++
		}
		learnt = append(learnt, m)
	}
	if count > 0 {
		if err := b.cache.append(b.ops, records, count); err != nil {
			b.cacheFails(err)
			kept = false
		}
	}
	for _, m := range learnt {
		if !kept && m.facts >= end {
			m.facts = 0
		}
		e.frames = e.x.learn(e.frames, m)
	}
	if !kept || count == 0 {
		return nil
	}
	b.cache.failed = false
	e.flush()
	e.x = b.index.x
	if err := e.tidy(); err != nil {
		b.cacheFails(err)
	}
	return nil
}

// cacheFails reports the first of many, but for that of who may only read.
func (b *Mailbox) cacheFails(err error) {
	if !b.cache.failed && !errors.Is(err, fs.ErrPermission) {
		b.report(fmt.Errorf("mailbox: %s/%s: %w", b.index.dir.Name(), cacheName, err))
	}
	b.cache.failed = true
}

// manyCarried is up to how many messages, copied or moved at once, take their facts along: they are in memory meanwhile. More are read again when somebody asks.
const manyCarried = 1000

// known are the facts of messages that the cache has and another mailbox can use.
func (e *editing) known(uids []uint32, to *Mailbox) map[uint32][]byte {
	if e.b.describe == nil || to.describe == nil || e.b.form != to.form || len(uids) > manyCarried || !e.b.readable() {
		return nil
	}
	var t batch
	t.begin(e.x, uids)
	t.read(&e.b.cache)
	facts := make(map[uint32][]byte, len(uids))
	for i, uid := range uids {
		facts[uid] = t.facts[i]
	}
	return facts
}

// carry notes the facts that messages have brought with them.
func (e *editing) carry(came []arrival, uids []uint32) {
	var files []unread
	for i, a := range came {
		if a.facts != nil {
			files = append(files, unread{i: i, uid: uids[i], name: a.name, facts: a.facts, size: a.m.size, wire: a.m.wire, date: a.m.date})
		}
	}
	if len(files) == 0 {
		return
	}
	err := e.writable()
	if err == nil {
		err = e.learn(&batch{at: make([]uint64, len(came))}, files)
	}
	if err != nil {
		e.b.cacheFails(err)
	}
}

// Date is the internal date of a message, the time of its file. The first that is asked for of those that nobody has looked for has them all looked for: a file's
// time needs no file opened, and who asks for one asks for all.
func (b *Mailbox) Date(uid uint32) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for try := 0; ; try++ {
		i, ok := b.index.x.find(uid)
		if !ok {
			return time.Time{}, ErrExpunged
		}
		if d := b.index.x.messages[i].date; d != unknown {
			return time.Unix(int64(d), 0), nil
		}
		if try > 0 { // renamed a moment ago, or its file cannot be looked at
			f, err := b.file(uid)
			if err != nil {
				return time.Time{}, err
			}
			defer f.Close()
			return f.Date()
		}
		if err := b.dates(); err != nil {
			return time.Time{}, err
		}
	}
}

// dates notes those of all messages.
func (b *Mailbox) dates() error {
	e, unlock, err := b.begin()
	if err != nil {
		return err
	}
	defer unlock()
	names, err := e.x.allNames()
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	for i := range e.x.messages {
		m := e.x.messages[i]
		if m.date != unknown {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(int(b.place(&m).Fd()), names[i], &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			m.date, m.size = uint64(st.Mtim.Sec), uint64(st.Size)
			e.frames = e.x.learn(e.frames, m)
		}
	}
	e.flush()
	return nil
}
