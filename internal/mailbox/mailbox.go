package mailbox

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// Options are what a Mailbox needs to know besides where it is.
type Options struct {
	IndexDir string       // where postamt.index is; "": in the folder
	Report   func(error)  // what is wrong and was mended; nil: dropped
	Ops      *durable.Ops // nil but in tests, which make its steps fail
}

// Mailbox is one folder of a maildir, open. It is safe for concurrent use, by any number of sessions.
type Mailbox struct {
	root, dir, cur, new *os.File
	tmp                 *os.File // of root
	ops                 *durable.Ops
	report              func(error)
	list                *uidlist.List

	mu    sync.Mutex
	index indexFile
	// Lines of the list that have no file, of what was read of it: the UID by the hash of the name.
	orphans map[uint64]uint32
	seed    maphash.Seed
	pop     map[uint32]popLine
	popRead bool // the whole list was read for it
}

// Errors.
var (
	ErrExpunged = errors.New("the message is gone")
	ErrValidity = errors.New("all messages have got other UIDs")
)

// Message is what is known of a message.
type Message struct {
	UID      uint32
	ModSeq   uint64
	Flags    Flags
	Keywords uint32 // a bit for each letter
}

// Open opens the folder below the open directory root of a maildir: "" is INBOX, else a directory name such as ".Sent", which is no
// path. cur/, new/ and tmp/ that are missing are made.
func Open(root *os.File, folder string, o Options) (*Mailbox, error) {
	if strings.ContainsAny(folder, "/\x00") || folder == "." || folder == ".." {
		return nil, fmt.Errorf("mailbox: %q is no folder", folder)
	}
	b := &Mailbox{ops: o.Ops, report: o.Report, orphans: make(map[uint64]uint32), pop: make(map[uint32]popLine), seed: maphash.MakeSeed()}
	if b.report == nil {
		b.report = func(error) {}
	}
	ok := false
	defer func() {
		if !ok {
			b.Close()
		}
	}()
	name := folder
	if name == "" {
		name = "."
	}
	var err error
	if b.root, err = durable.OpenDirAt(root, "."); err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	if b.dir, err = durable.OpenDirAt(root, name); err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	for _, d := range []struct {
		to   **os.File
		name string
	}{{&b.cur, "cur"}, {&b.new, "new"}, {&b.tmp, "tmp"}} {
		at := b.dir
		if d.name == "tmp" {
			at = b.root
		}
		*d.to, err = durable.OpenDirAt(at, d.name)
		if errors.Is(err, fs.ErrNotExist) {
			if err = unix.Mkdirat(int(at.Fd()), d.name, 0o700); err == nil || err == unix.EEXIST {
				*d.to, err = durable.OpenDirAt(at, d.name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
	}
	where := b.dir
	if o.IndexDir != "" {
		if where, err = durable.OpenDir(o.IndexDir); err != nil {
			return nil, fmt.Errorf("mailbox: index: %w", err)
		}
	}
	b.index = indexFile{dir: where, x: &index{}}
	b.list = uidlist.New(b.root, b.dir, b.ops)
	ok = true
	return b, b.Sync()
}

// Close closes it.
func (b *Mailbox) Close() error {
	b.index.close()
	for _, f := range []*os.File{b.root, b.dir, b.cur, b.new, b.tmp} {
		if f != nil {
			f.Close()
		}
	}
	if b.index.dir != nil && b.index.dir != b.dir {
		b.index.dir.Close()
	}
	return nil
}

// Status is UIDVALIDITY, the next UID, the highest mod-sequence and the number of messages, as of the last Sync.
func (b *Mailbox) Status() (validity, next uint32, highest uint64, messages int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.index.x
	return x.validity, x.next, x.highest, len(x.messages)
}

// UIDs are those of all messages, ascending.
func (b *Mailbox) UIDs() []uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]uint32, len(b.index.x.messages))
	for i := range list {
		list[i] = b.index.x.messages[i].uid
	}
	return list
}

// Message tells of one; false: there is none (any more).
func (b *Mailbox) Message(uid uint32) (Message, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.index.x.find(uid)
	if !ok {
		return Message{}, false
	}
	m := &b.index.x.messages[i]
	return Message{UID: m.uid, ModSeq: m.modseq, Flags: m.flags(), Keywords: m.keywords}, true
}

// File opens the file of a message. ErrExpunged: it has none any more.
func (b *Mailbox) File(uid uint32) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, _, err := b.file(uid)
	return f, err
}

// file: a name that does not open is an old one, and is looked for again.
func (b *Mailbox) file(uid uint32) (f *os.File, name string, err error) {
	for tries := 0; ; tries++ {
		i, ok := b.index.x.find(uid)
		if !ok {
			return nil, "", ErrExpunged
		}
		m := &b.index.x.messages[i]
		if name, err = b.index.x.names.get(m); err != nil {
			return nil, "", fmt.Errorf("mailbox: %w", err)
		}
		dir := b.place(m)
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), dir.Name()+"/"+name), name, nil
		}
		if err != unix.ENOENT && err != unix.ESTALE && err != unix.EINTR || tries == 5 {
			return nil, "", fmt.Errorf("mailbox: %w", &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err})
		}
		if err := b.sync(true); err != nil {
			return nil, "", err
		}
	}
}

func (b *Mailbox) place(m *message) *os.File {
	if m.inNew() {
		return b.new
	}
	return b.cur
}

// Size is the number of octets of a message in wire form. It is in the name, or was counted before, or is counted now.
func (b *Mailbox) Size(uid uint32) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.index.x.find(uid)
	if !ok {
		return 0, ErrExpunged
	}
	if n := b.index.x.messages[i].wire; n != unknown {
		return int64(n), nil
	}
	return b.measure(uid)
}

// Measure counts the octets of a message, of which what was known turned out to be wrong.
func (b *Mailbox) Measure(uid uint32) (wire int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.measure(uid)
}

func (b *Mailbox) measure(uid uint32) (wire int64, err error) {
	f, _, err := b.file(uid)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, wire, err := measure(f)
	if err != nil {
		return 0, fmt.Errorf("mailbox: %w", err)
	}
	unlock, err := b.index.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if i, ok := b.index.x.find(uid); ok {
		m := b.index.x.messages[i]
		m.size, m.wire = uint64(size), uint64(wire)
		if name, err := b.index.x.names.get(&m); err == nil {
			b.index.write(b.ops, b.index.x.change(nil, 'F', m, name))
		}
	}
	return wire, nil
}

// Maildrop is the mailbox as POP3 has it: the UIDs in the order in which messages are numbered, and their unique-ids. They are Dovecot's:
// what a line of the list says that was taken over from another server (keys O and P), else UID and UIDVALIDITY in hexadecimal.
func (b *Mailbox) Maildrop() (uids []uint32, ids []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.index.x
	if !b.popRead {
		// Apart from what Sync reads: it keeps what it was told of.
		if _, err := uidlist.New(b.root, b.dir, b.ops).Read(func(e uidlist.Entry) error {
			b.popKeys(e)
			return nil
		}); err != nil {
			return nil, nil, fmt.Errorf("mailbox: %w", err)
		}
		b.popRead = true
	}
	said := b.pop
	uids, ids = make([]uint32, 0, len(x.messages)), make([]string, 0, len(x.messages))
	for i := range x.messages {
		uids = append(uids, x.messages[i].uid)
	}
	if len(said) > 0 { // messages without an order come after those that have one, in the order of their UIDs
		slices.SortStableFunc(uids, func(a, b uint32) int { return cmp.Compare(said[a].order-1, said[b].order-1) })
	}
	validity := fmt.Sprintf("%08x", x.validity)
	for _, uid := range uids {
		id := said[uid].id
		if id == "" {
			id = fmt.Sprintf("%08x", uid) + validity
		}
		ids = append(ids, id)
	}
	return uids, ids, nil
}

// popLine is what a line of the list says of a message that was taken over from another server.
type popLine struct {
	order uint64 // 0: nothing
	id    string
}

func (b *Mailbox) popKeys(e uidlist.Entry) {
	if e.Keys == "" {
		return
	}
	id, _ := e.Key('P')
	o, _ := e.Key('O')
	if id != "" || o != "" {
		n, err := strconv.ParseUint(o, 10, 32)
		if err != nil {
			n = 0
		}
		b.pop[uint32(e.UID)] = popLine{n, id}
	}
}

// Expunge removes messages, for good when it returns nil. Those that cannot be removed stay and are returned: all of them, with ErrValidity,
// if validity is UIDVALIDITY no more, for the UIDs mean others then. A young delivery leaves a tombstone: who delivers it again, because he does not
// know how his last attempt ended, finds it.
func (b *Mailbox) Expunge(validity uint32, uids []uint32) (failed []uint32, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	unlock, err := b.index.lock()
	if err != nil {
		return uids, err
	}
	defer unlock()
	if err := b.syncLocked(false); err != nil {
		return uids, err
	}
	touched := map[*os.File]bool{}
	removed := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		switch dir, uerr := b.unlink(validity, uid); {
		case uerr != nil:
			failed = append(failed, uid)
			if err == nil { // the others will have the same reason, and may be many
				err = uerr
			}
		case dir != nil:
			touched[dir] = true
			removed = append(removed, uid)
		}
	}
	t := &syncing{b: b, x: b.index.x}
	t.modseq = max(t.x.highest+1, uint64(time.Now().UnixMicro()))
	for _, uid := range removed {
		t.expunge(uid)
	}
	t.x.compact()
	for dir := range touched {
		if serr := b.ops.SyncDir(dir); serr != nil {
			err = errors.Join(err, fmt.Errorf("mailbox: %w", serr))
		}
	}
	if werr := b.index.write(b.ops, t.frames); werr != nil {
		b.report(werr)
	}
	return failed, err
}

// unlink removes the file of a message, and returns its directory; nil: it was gone. A name that is gone may be an old one: who renames a message at
// this moment must not bring it back under another UID.
func (b *Mailbox) unlink(validity, uid uint32) (*os.File, error) {
	for tries := 0; ; tries++ {
		if b.index.x.validity != validity {
			return nil, fmt.Errorf("mailbox: expunge: %w", ErrValidity)
		}
		i, ok := b.index.x.find(uid)
		if !ok {
			return nil, nil
		}
		m := &b.index.x.messages[i]
		name, err := b.index.x.names.get(m)
		if err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
		dir := b.place(m)
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && time.Since(time.Unix(st.Mtim.Unix())) < maildir.TombstoneAge {
			if err := maildir.Bury(b.tmp, name, b.ops); err != nil {
				return nil, fmt.Errorf("mailbox: tombstone: %w", err)
			}
		}
		err = b.ops.Unlink(dir, name)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == 5 {
			return nil, fmt.Errorf("mailbox: expunge: %w", err)
		}
		if err := b.syncLocked(true); err != nil {
			return nil, err
		}
	}
}
