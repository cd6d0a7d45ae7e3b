package mailbox

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// Staged is a message in tmp/, whole and on disk, of which Publish makes one of the mailbox.
type Staged struct {
	temp       string // in tmp/
	base       string // what it will be called
	flags      Flags
	keywords   []string
	size, wire uint64
	date       uint64
	facts      []byte // of what was copied
}

// Room says whether messages of so many octets together fit under the quota; maildir.ErrQuota: they do not. Publish asks again.
func (b *Mailbox) Room(octets, messages int64) error {
	_, err := b.room(octets, messages)
	return err
}

func (b *Mailbox) room(octets, messages int64) (counted bool, err error) {
	if !maildir.Counted(b.folder) {
		return false, nil
	}
	tmp, err := b.openOrMake(b.root, "tmp")
	if err != nil {
		return false, fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	quota := b.quota
	if b.account != nil {
		quota = *b.account.quota.Load()
	}
	counted, err = maildir.Room(b.root, tmp, quota, octets, messages, b.ops)
	if octets <= 0 && messages <= 0 && errors.Is(err, maildir.ErrQuota) {
		err = nil // what makes it less is welcome
	}
	return counted, err
}

// Append adds a message with that internal date (zero: now) and returns its UID; the message is on disk then. See Stage and Publish.
func (b *Mailbox) Append(ctx context.Context, r io.Reader, f Flags, keywords []string, date time.Time) (uid uint32, err error) {
	s, err := b.Stage(r, f, keywords, date)
	if err != nil {
		return 0, err
	}
	uids, err := b.Publish(ctx, s)
	if err != nil {
		return 0, err
	}
	return uids[0], nil
}

// Stage writes a message to tmp/. Its line ends become LF, as those of a delivery do. What was staged must be published or discarded.
//
//	step                                                     after a crash                            told
//	Stage   1 write tmp/NAME, give it its date, fsync        the sweeper removes it                   no
//	Publish 2 a letter for new keywords                      a keyword that no message has            no
//	        3 rename each to cur/ or new/, under the list's lock    some are there, without a UID     no
//	        4 sync cur/ and new/, once each                  all are there, the next Sync gives UIDs  no
//	        5 append the UIDs to the list                    all are there, with their UIDs           yes
//
// After an error, as opposed to a crash, none is there. A message without flags and keywords goes to new/, as Dovecot has it: to other
// programs it is as new as a delivery.
func (b *Mailbox) Stage(r io.Reader, f Flags, keywords []string, date time.Time) (*Staged, error) {
	return b.stageText(r, f, keywords, date, maildir.Text)
}

// StageBinary is Stage for a message that may have octets in it which are no lines. It is stored as it is, as a delivery of BINARYMIME is.
func (b *Mailbox) StageBinary(r io.Reader, f Flags, keywords []string, date time.Time) (*Staged, error) {
	return b.stageText(r, f, keywords, date, maildir.Binary)
}

func (b *Mailbox) stageText(r io.Reader, f Flags, keywords []string, date time.Time, put func(io.Writer, io.Reader) (size, wire int64, err error)) (*Staged, error) {
	if date.IsZero() {
		date = time.Now()
	}
	return b.stage(f, keywords, date, func(file *os.File) (size, wire int64, err error) {
		w := bufio.NewWriterSize(writer{b.ops, file}, 64<<10)
		if size, wire, err = put(w, r); err == nil {
			err = w.Flush()
		}
		return size, wire, err
	})
}

// stage makes a file in tmp/ with the content that write gives it.
func (b *Mailbox) stage(f Flags, keywords []string, date time.Time, write func(*os.File) (size, wire int64, err error)) (s *Staged, err error) {
	tmp, err := b.openTmp()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	stem := b.newStem()
	s = &Staged{temp: stem, flags: f, keywords: keywords, date: uint64(date.Unix())}
	file, err := b.ops.Create(tmp, s.temp, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	size, wire, err := write(file)
	if err == nil {
		err = b.ops.Adopt(file, b.dir) // who may enter a shared folder may read its messages
	}
	if err == nil {
		t := unix.NsecToTimespec(date.UnixNano())
		if err = unix.UtimesNanoAt(int(tmp.Fd()), s.temp, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			err = &os.PathError{Op: "set time", Path: file.Name(), Err: err}
		}
	}
	if err == nil {
		err = b.ops.Sync(file)
	}
	if cerr := b.ops.Close(file); err == nil {
		err = cerr
	}
	if err != nil {
		b.ops.Unlink(tmp, s.temp)
		return nil, fmt.Errorf("mailbox: append: %w", err)
	}
	s.size, s.wire = uint64(size), uint64(wire)
	s.base = stem + ",S=" + strconv.FormatInt(size, 10) + ",W=" + strconv.FormatInt(wire, 10)
	return s, nil
}

// writer writes through an Ops.
type writer struct {
	ops *durable.Ops
	f   *os.File
}

func (w writer) Write(p []byte) (int, error) {
	if err := w.ops.Write(w.f, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// openTmp opens the tmp/ of the folder: that of the maildir may be on another file system.
func (b *Mailbox) openTmp() (*os.File, error) { return b.openOrMake(b.dir, "tmp") }

// newStem is a name that no other message has: maildir(5)'s R, a random number.
func (b *Mailbox) newStem() string {
	var id [16]byte
	rand.Read(id[:])
	return strconv.FormatInt(time.Now().Unix(), 10) + ".R" + hex.EncodeToString(id[:]) + "." + b.host
}

// Discard removes messages that are not to be published.
func (b *Mailbox) Discard(staged ...*Staged) {
	tmp, err := b.openTmp()
	if err != nil {
		return // the sweeper finds them
	}
	defer tmp.Close()
	for _, s := range staged {
		b.ops.Unlink(tmp, s.temp)
	}
}

// Publish makes messages of what was staged, all of them or none, and gives them ascending UIDs. Calls that come while another is under way are published
// together when it ends: the directories and the list are synced once for all of them. So the ctx that ends the wait for the list's lock is that of one of them.
func (b *Mailbox) Publish(ctx context.Context, staged ...*Staged) (uids []uint32, err error) {
	return b.publishInstead(ctx, 0, 0, staged...)
}

// publishInstead is Publish where so much will be removed then.
func (b *Mailbox) publishInstead(ctx context.Context, freedOctets, freedMessages int64, staged ...*Staged) (uids []uint32, err error) {
	var octets int64
	for _, s := range staged {
		octets += int64(s.size)
	}
	counted, err := b.room(octets-freedOctets, int64(len(staged))-freedMessages)
	if err == nil {
		p := &publication{staged: staged}
		b.publications.do(p, func(all []*publication) { b.publish(ctx, all) })
		uids, err = p.uids, p.err
	}
	if err != nil {
		b.Discard(staged...)
		return nil, err
	}
	if counted {
		maildir.Count(b.root, octets, int64(len(staged)))
	}
	return uids, nil
}

// publication is one call of Publish.
type publication struct {
	staged []*Staged
	done   bool
	came   []arrival
	uids   []uint32
	err    error
}

// publications are those that wait.
type publications struct {
	turn sync.Mutex // of the one that is under way, before Mailbox.mu
	mu   sync.Mutex
	all  []*publication
}

// do returns when p is done, by publish here or in another call.
func (q *publications) do(p *publication, publish func([]*publication)) {
	q.mu.Lock()
	q.all = append(q.all, p)
	q.mu.Unlock()
	q.turn.Lock()
	defer q.turn.Unlock()
	if p.done {
		return
	}
	q.mu.Lock()
	all := q.all
	q.all = nil
	q.mu.Unlock()
	publish(all)
	for _, p := range all {
		p.done = true
	}
}

// publish runs publications, of which one may fail alone.
func (b *Mailbox) publish(ctx context.Context, all []*publication) {
	err := b.edit(0, func(e *editing) error { return e.publish(ctx, all) })
	for _, p := range all {
		if p.err == nil {
			p.err = err
		}
	}
}

// arrival is a file that has come to cur/ or new/ and has no UID yet.
type arrival struct {
	m     message
	name  string
	facts []byte // nil: not known
}

// placed: without flags and keywords it is in new/, and with some they are in its name.
func (a *arrival) placed() {
	if a.m.flags() == 0 && a.m.keywords == 0 {
		a.m.setPlace(placeNew)
	} else {
		a.name = rename(a.name, a.m.flags(), a.m.keywords)
	}
}

func (e *editing) publish(ctx context.Context, all []*publication) (err error) {
	b := e.b
	tmp, err := b.openTmp()
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	n := 0
	for _, p := range all {
		n += len(p.staged)
	}
	tx, err := e.lockList(ctx, n)
	if err != nil {
		return err
	}
	defer tx.Unlock()
	k, err := b.list.Keywords()
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer func() {
		for _, p := range all {
			if err != nil || p.err != nil {
				e.withdraw(p)
			}
		}
	}()
	var came []arrival
	for _, p := range all {
		if p.err = e.arrive(tx, &k, tmp, p); p.err == nil {
			came = append(came, p.came...)
		}
	}
	if len(came) == 0 {
		return nil
	}
	if err := e.sync(); err != nil {
		return err
	}
	uids, err := e.number(tx, came)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.err == nil {
			p.uids, uids = uids[:len(p.came):len(p.came)], uids[len(p.came):]
		}
	}
	return nil
}

// arrive gives what was staged its names.
func (e *editing) arrive(tx *uidlist.Tx, k *uidlist.Keywords, tmp *os.File, p *publication) error {
	b := e.b
	for _, s := range p.staged {
		bits, err := b.bitsOf(tx, k, s.keywords)
		if err != nil {
			return err
		}
		a := arrival{name: s.base, facts: s.facts, m: message{modseq: e.modseq, size: s.size, wire: s.wire, date: s.date, keywords: bits}}
		a.m.setFlags(s.flags)
		a.placed()
		dir := b.place(&a.m)
		if err := b.ops.Publish(tmp, s.temp, dir, a.name); err != nil {
			return fmt.Errorf("mailbox: append: %w", err)
		}
		p.came = append(p.came, a)
		e.touch(dir)
	}
	return nil
}

// withdraw removes what has come of a publication that failed.
func (e *editing) withdraw(p *publication) {
	for i := range p.came {
		e.b.ops.Unlink(e.b.place(&p.came[i].m), p.came[i].name)
	}
}

// number gives UIDs to files that are there for good.
func (e *editing) number(tx *uidlist.Tx, came []arrival) ([]uint32, error) {
	entries := make([]uidlist.Entry, len(came))
	for i, a := range came {
		entries[i].Name = baseOf(a.name)
	}
	if err := tx.Append(entries); err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	e.b.kept(entries)
	uids := make([]uint32, len(came))
	for i, a := range came {
		uids[i] = uint32(entries[i].UID)
		a.m.uid = uids[i]
		e.change('A', a.m, a.name)
	}
	e.carry(came, uids)
	return uids, nil
}

// lockList locks the list and reads what others have added, which is left for the next Sync. It is the list of which the index knows, and has UIDs for n
// messages more.
func (e *editing) lockList(ctx context.Context, n int) (*uidlist.Tx, error) {
	for try := 0; ; try++ {
		tx, err := e.b.list.Lock(ctx)
		if err != nil {
			return nil, fmt.Errorf("mailbox: %w", err)
		}
		var read []uidlist.Entry
		change, err := tx.Read(func(entry uidlist.Entry) error {
			read = append(read, entry)
			e.b.popKeys(entry)
			return nil
		})
		if err == nil && change != uidlist.Missing && e.b.list.Header().Validity == e.x.validity {
			e.b.list.AtLeast(uidlist.UID(e.x.next))
			if uint64(e.b.list.Header().Next)+uint64(n) <= uint64(uidlist.MaxUID)+1 {
				e.b.keep(change, read)
				return tx, nil
			}
			err = tx.Begin()
		}
		tx.Unlock()
		if err != nil && !errors.Is(err, uidlist.ErrDamaged) || try == maxTries {
			return nil, fmt.Errorf("mailbox: lock the list of UIDs: %w", errors.Join(err, errMoved))
		}
		// Damaged, gone, or begun anew by others or because it was used up: a Sync mends it.
		e.b.list, e.x.state.list = uidlist.New(e.b.root, e.b.dir, e.b.ops), stamp{}
		if err := e.again(); err != nil {
			return nil, err
		}
	}
}

// ID names the folder for good, also when it has another name: 32 hexadecimal digits, the GUID in dovecot-uidlist, which is the id that Dovecot knows
// it by. A list that has none, as Dovecot 1's and Courier's, gets one.
func (b *Mailbox) ID(ctx context.Context) (string, error) {
	id, err := uidlist.New(b.root, b.dir, b.ops).GUID()
	if err == nil && id == "" {
		err = b.edit(0, func(e *editing) error {
			tx, err := e.lockList(ctx, 0)
			if err != nil {
				return err
			}
			defer tx.Unlock()
			if b.list.Header().GUID == "" {
				err = tx.Rewrite(nil)
			}
			id = b.list.Header().GUID
			return err
		})
	}
	if err != nil {
		return "", fmt.Errorf("mailbox: %w", err)
	}
	return id, nil
}

// bitsOf gives the bits of keywords, and a letter to those that have none. One that cannot have a letter is left out, and reported: the message is
// worth more. k is what is known of the names.
func (b *Mailbox) bitsOf(tx *uidlist.Tx, k *uidlist.Keywords, names []string) (bits uint32, err error) {
	for _, name := range names {
		i := k.Index(name)
		if i < 0 {
			i, err = tx.AddKeyword(name)
			if errors.Is(err, uidlist.ErrKeywordsFull) || errors.Is(err, uidlist.ErrKeyword) {
				b.report(err)
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("mailbox: %w", err)
			}
			k[i] = name
		}
		bits |= 1 << i
	}
	return bits, nil
}
