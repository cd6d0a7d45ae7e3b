package mailbox

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
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
	"postamt/internal/watch"
)

// Options are what a Mailbox needs to know besides where it is.
type Options struct {
	IndexDir string        // where postamt.index is; "": in the folder
	Report   func(error)   // what is wrong and was mended; nil: dropped
	Quota    maildir.Quota // of the whole maildir; zero: what its maildirsize says, if there is one
	Host     string        // stands in the names of new files; "": localhost
	Ops      *durable.Ops  // nil but in tests, which make its steps fail

	// Describe says what Facts is to give of a message, and the number of its octets in wire form. It may be called by several at a time. What is longer than 1 MiB
	// is not kept. Form is the number of the form of what it says: what another form has left is made anew.
	Describe func(io.Reader) (facts []byte, wire int64, err error)
	Form     uint32

	// Column appends to dst one of so many Columns of a message, at most 8: a few octets of its facts that are asked of many messages at a time, see Mailbox.Columns. It may be
	// called by several at a time. What changes them changes Form.
	Columns int
	Column  func(dst, facts []byte, column int) []byte
}

// Mailbox is one folder of a maildir, open. It is safe for concurrent use, by any number of sessions.
type Mailbox struct {
	root, dir, cur, new *os.File
	folder              string // the name of dir in root, "" is root
	local               bool   // on a file system of this host
	ops                 *durable.Ops
	report              func(error)
	quota               maildir.Quota
	host                string
	list                *uidlist.List
	ahead               []uidlist.Entry // read from the list, and not yet set against the directories
	aheadAll            bool            // all of the list

	describe   func(io.Reader) (facts []byte, wire int64, err error)
	form       uint32
	describing sync.Mutex // before mu
	columns    int
	column     func(dst, facts []byte, column int) []byte

	mu      sync.Mutex
	index   indexFile
	reading ahead // until the next Sync
	sizing  sizing
	cache   cacheFile
	tabled  tabled
	// Lines of the list that have no file, of what was read of it: the UID by the hash of the name.
	orphans map[uint64]uint32
	seed    maphash.Seed
	pop     map[uint32]popLine
	popRead bool          // the whole list was read for it
	spare   int           // spareLines, but in tests
	few     int           // batchSize, but in tests: of so many messages Columns asks the facts
	young   time.Duration // youngLinks, but in tests

	told told

	publications publications

	followers followers
	restless  time.Time      // when others last renamed so much that no reading showed who is gone
	announced uint64         // the highest mod-sequence that they know of
	watcher   *watch.Watcher // nil: nobody tells of changes by others
	claimed   uint32         // a session was told of all messages below this UID; 0: none was told of any

	begun   func() error // the first Sync, for all who open it; of an account
	account *Account     // whose it is, which counts its uses; nil: its opener's alone
	uses    int          // of the account's lock
	idle    *time.Timer  // closes it when it has not been used for a while
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
	Size     int64  // octets in wire form; -1: not counted yet, see Size
	Date     int64  // internal date, seconds since 1970; -1: not looked for yet, see Date
	New      bool   // in new/: no program that reads maildirs has shown it to anybody
	Before   uint64 // of one that SetFlags has changed: the mod-sequence that it had until then
}

// says is what is told of a message.
func (m *message) says() Message {
	return Message{UID: m.uid, ModSeq: m.modseq, Flags: m.flags(), Keywords: m.keywords, Size: int64(m.wire), Date: int64(m.date), New: m.inNew()}
}

// Open opens the folder below the open directory root of a maildir: "" is INBOX, else a directory name such as ".Sent", which is no
// path. cur/, new/ and tmp/ that are missing are made.
func Open(root *os.File, folder string, o Options) (*Mailbox, error) {
	b, err := open(root, folder, o)
	if err != nil {
		return nil, err
	}
	if err := b.Sync(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// open is Open but for the first Sync, which takes as long as the folder is large.
func open(root *os.File, folder string, o Options) (*Mailbox, error) {
	if strings.ContainsAny(folder, "/\x00") || folder == "." || folder == ".." {
		return nil, fmt.Errorf("mailbox: %q is no folder", folder)
	}
	b := &Mailbox{folder: folder, ops: o.Ops, report: o.Report, quota: o.Quota, host: maildir.EscapeHost(o.Host), spare: spareLines, few: batchSize, young: youngLinks,
		describe: o.Describe, form: o.Form, columns: o.Columns, column: o.Column, orphans: make(map[uint64]uint32), pop: make(map[uint32]popLine), seed: maphash.MakeSeed()}
	if b.report == nil {
		b.report = func(error) {}
	}
	ok := false
	defer func() {
		if !ok {
			b.close()
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
	}{{&b.cur, "cur"}, {&b.new, "new"}} {
		if *d.to, err = b.openOrMake(b.dir, d.name); err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
	}
	b.local = isLocal(b.cur) && isLocal(b.new)
	for _, of := range []*os.File{b.root, b.dir} {
		tmp, err := b.openOrMake(of, "tmp")
		if err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
		tmp.Close()
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
	return b, nil
}

// openOrMake opens cur/, new/ or tmp/ of the maildir or of a folder. Other programs think nothing of removing tmp/, so that nobody holds it open.
func (b *Mailbox) openOrMake(at *os.File, name string) (*os.File, error) {
	f, _, err := b.ops.OpenOrMake(at, name)
	return f, err
}

// Close ends the use of it, and closes it when that was the last.
func (b *Mailbox) Close() error {
	if b.account != nil {
		return b.account.release(b)
	}
	return b.close()
}

func (b *Mailbox) close() error {
	b.index.close()
	b.cache.close()
	b.tabled.close()
	for _, f := range []*os.File{b.root, b.dir, b.cur, b.new} {
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
	return b.index.x.messages[i].says(), true
}

// File opens the file of a message. ErrExpunged: it has none any more.
func (b *Mailbox) File(uid uint32) (*File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.file(uid)
}

// file: a name that does not open is an old one, and is looked for again.
func (b *Mailbox) file(uid uint32) (*File, error) {
	for tries := 0; ; tries++ {
		i, ok := b.index.x.find(uid)
		if !ok {
			return nil, ErrExpunged
		}
		m := &b.index.x.messages[i]
		name, err := b.reading.name(b.index.x, m)
		if err != nil {
			if err := b.sync(true); err != nil || tries == 5 {
				return nil, errors.Join(fmt.Errorf("mailbox: message %d: its name cannot be read", uid), err)
			}
			continue
		}
		dir := b.place(m)
		fd, err := openMessage(dir, name)
		if err == nil {
			return &File{fd: descriptor(fd), dir: dir.Name(), name: name}, nil
		}
		if err != unix.ENOENT && err != unix.ESTALE && err != unix.EINTR || tries == 5 {
			return nil, fmt.Errorf("mailbox: %w", &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err})
		}
		if err := b.sync(true); err != nil {
			return nil, err
		}
	}
}

func (b *Mailbox) place(m *message) *os.File {
	if m.inNew() {
		return b.new
	}
	return b.cur
}

// SaveDate is when a message came to this mailbox (RFC 8514): the second in front of its file's name. Not ok: the name does not say.
func (b *Mailbox) SaveDate(uid uint32) (t time.Time, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, there := b.index.x.find(uid)
	if !there {
		return t, false, ErrExpunged
	}
	name, err := b.index.x.names.get(&b.index.x.messages[i])
	if err != nil {
		return t, false, fmt.Errorf("mailbox: %w", err)
	}
	t, ok = maildir.SavedAt(name, time.Now())
	return t, ok, nil
}

// Maildrop is the mailbox as POP3 has it: the UIDs in the order in which messages are numbered, and their unique-ids. They are Dovecot's:
// what a line of the list says that was taken over from another server (keys O and P), else UID and UIDVALIDITY in hexadecimal.
func (b *Mailbox) Maildrop() (uids []uint32, ids []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.index.x
	if !b.popRead && x.state.plain == 0 {
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
	text := make([]byte, 0, popIDSize*len(uids))
	for _, uid := range uids {
		text = appendPopID(text, uid, x.validity)
	}
	own := string(text) // one for all
	for i, uid := range uids {
		id := said[uid].id
		if id == "" {
			id = own[i*popIDSize : (i+1)*popIDSize]
		}
		ids = append(ids, id)
	}
	return uids, ids, nil
}

const popIDSize = 16

// appendPopID appends a unique-id of ours.
func appendPopID(b []byte, uid, validity uint32) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[(uint64(uid)<<32|uint64(validity))>>shift&0xf])
	}
	return b
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

// count adds messages to the usage, or takes them from it.
func (e *editing) count(octets, messages int64) {
	if maildir.Counted(e.b.folder) && messages != 0 {
		maildir.Count(e.b.root, octets, messages)
	}
}
