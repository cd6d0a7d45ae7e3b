package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// Copied is a message and what was made of it.
type Copied struct{ From, To uint32 }

// Copy puts messages into another mailbox, or the same one, all of them or none, as Publish does; those that are gone are passed over. A copy has a name
// of its own, and the flags, keywords and date of its original. Where the file system can, it is a link to the original's file, which nobody changes.
// ErrValidity: validity is UIDVALIDITY no more, and the UIDs mean others; 0 stands for whatever it is.
func (b *Mailbox) Copy(ctx context.Context, validity uint32, uids []uint32, to *Mailbox) (copied []Copied, err error) {
	if mine, err := identity(b.dir); err == nil && sameFiles(b.root, to.root) {
		if other, err := identity(to.dir); err == nil && mine != other {
			err := b.both(validity, to, mine.before(other), func(from, in *editing) (err error) {
				copied, err = from.linkTo(ctx, uids, in)
				return err
			})
			if !errors.Is(err, errNoLinks) {
				return copied, err
			}
		}
	}
	return b.copyStaged(ctx, validity, uids, to)
}

// copyStaged is Copy where both mailboxes are one, or files may have to be copied: that takes its time, in which only one of two is locked.
func (b *Mailbox) copyStaged(ctx context.Context, validity uint32, uids []uint32, to *Mailbox) ([]Copied, error) {
	var staged []*Staged
	var copied []Copied
	err := b.edit(validity, func(e *editing) error {
		k, err := b.list.Keywords()
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		facts := e.known(uids, to)
		for _, uid := range uids {
			var s *Staged
			err := e.step(uid, func(m message, dir *os.File, name string) (err error) {
				s, err = to.stageFile(b, dir, name, m, namesOf(&k, m.keywords))
				return err
			})
			if errors.Is(err, ErrExpunged) {
				continue
			}
			if err != nil {
				return err
			}
			s.facts = facts[uid]
			staged = append(staged, s)
			copied = append(copied, Copied{From: uid})
		}
		return nil
	})
	if err != nil {
		to.Discard(staged...)
		return nil, err
	}
	new, err := to.Publish(ctx, staged...)
	if err != nil {
		return nil, err
	}
	for i := range copied {
		copied[i].To = new[i]
	}
	return copied, nil
}

// errNoLinks: what keeps a file from having a link there may not keep it from being copied.
var errNoLinks = errors.New("mailbox: no link can be made")

// linkTo copies messages to another folder of the maildir, by links in the place where they stay.
//
//	step                                         after a crash
//	1 letters for keywords that are new there    keywords that no message has
//	2 link each file                             some are there, without a UID
//	3 sync the other's cur/ and new/             all are there; who syncs next gives them UIDs
//	4 append the UIDs to the other's list        all are there, with their UIDs
//
// After an error, as opposed to a crash, none is there.
func (e *editing) linkTo(ctx context.Context, uids []uint32, in *editing) (copied []Copied, err error) {
	k, err := e.b.list.Keywords()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	facts := e.known(uids, in.b)
	type original struct {
		uid        uint32
		size, date int64
	}
	var files []original
	octets := int64(0)
	for _, uid := range uids {
		st, err := e.look(uid)
		if errors.Is(err, ErrExpunged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, original{uid, st.Size, st.Mtim.Sec})
		octets += st.Size
	}
	counted, err := in.b.room(octets, int64(len(files)))
	if err != nil {
		return nil, err
	}
	tx, err := in.lockList(ctx, len(files))
	if err != nil {
		return nil, err
	}
	defer tx.Unlock()
	other, err := in.b.list.Keywords()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	p := &publication{}
	defer func() {
		if err != nil {
			copied = nil
			in.withdraw(p)
		}
	}()
	for _, f := range files {
		serr := e.step(f.uid, func(m message, dir *os.File, name string) (err error) {
			a := arrival{facts: facts[f.uid], m: message{modseq: in.modseq, size: uint64(f.size), wire: m.wire, date: uint64(f.date)}}
			a.m.setFlags(m.flags())
			if a.m.keywords, err = in.b.bitsOf(tx, &other, namesOf(&k, m.keywords)); err != nil {
				return err
			}
			a.name = copyName(in.b.newStem(), f.size, m.wire)
			a.placed()
			to := in.b.place(&a.m)
			if err := in.b.ops.Link(dir, name, to, a.name); errors.Is(err, fs.ErrNotExist) {
				return err
			} else if err != nil {
				return errNoLinks
			}
			in.touch(to)
			p.came = append(p.came, a)
			copied = append(copied, Copied{From: f.uid})
			return nil
		})
		if serr != nil && !errors.Is(serr, ErrExpunged) {
			return nil, serr
		}
	}
	if len(p.came) == 0 {
		return nil, nil
	}
	if err := in.sync(); err != nil {
		return nil, err
	}
	new, err := in.number(tx, p.came)
	if err != nil {
		return nil, err
	}
	for i := range copied {
		copied[i].To = new[i]
	}
	if counted {
		maildir.Count(in.b.root, octets, int64(len(p.came)))
	}
	return copied, nil
}

// look stats the file of a message.
func (e *editing) look(uid uint32) (st unix.Stat_t, err error) {
	err = e.step(uid, func(_ message, dir *os.File, name string) error { return statFile(dir, name, &st) })
	return st, err
}

func statFile(dir *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("mailbox: copy: %w", &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("mailbox: copy: %s/%s is no file", dir.Name(), name)
	}
	return nil
}

// copyName is the name of a copy without flags.
func copyName(stem string, size int64, wire uint64) string {
	name := fmt.Sprintf("%s,S=%d", stem, size)
	if wire != unknown {
		name += fmt.Sprintf(",W=%d", wire)
	}
	return name
}

// namesOf are the names of keywords; a letter without one means nothing elsewhere.
func namesOf(k *uidlist.Keywords, bits uint32) (names []string) {
	for i, name := range k {
		if bits>>i&1 != 0 && name != "" {
			names = append(names, name)
		}
	}
	return names
}

// stageFile stages the file of a message of another mailbox.
func (b *Mailbox) stageFile(from *Mailbox, dir *os.File, name string, m message, keywords []string) (*Staged, error) {
	var st unix.Stat_t
	if err := statFile(dir, name, &st); err != nil {
		return nil, err
	}
	tmp, err := b.openTmp()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	s := &Staged{temp: b.newStem(), flags: m.flags(), keywords: keywords, size: uint64(st.Size), wire: m.wire, date: uint64(st.Mtim.Sec)}
	s.base = copyName(s.temp, st.Size, m.wire)
	if b.mayLink(from, &st) {
		err = b.ops.Link(dir, name, tmp, s.temp)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	// Another file system, one without links, too many of them, or another's file (protected_hardlinks). A real error comes again.
	fd, err := openMessage(dir, name)
	if err != nil {
		return nil, fmt.Errorf("mailbox: copy: %w", &os.PathError{Op: "open", Path: dir.Name() + "/" + name, Err: err})
	}
	source := os.NewFile(uintptr(fd), dir.Name()+"/"+name)
	defer source.Close()
	return b.stage(m.flags(), keywords, time.Unix(st.Mtim.Unix()), func(file *os.File) (size, wire int64, err error) {
		if _, err = io.Copy(writer{b.ops, file}, source); err == nil {
			if _, err = source.Seek(0, io.SeekStart); err == nil {
				return measure(source)
			}
		}
		return 0, 0, err
	})
}

// mayLink: a file is for the same people here as there, where it comes from. Within a maildir it is; a link of one that is shared would let others write what is one's own, and
// one of one's own would be nobody else's in a shared one. Whose it is may change it, whatever its mode.
func (b *Mailbox) mayLink(from *Mailbox, file *unix.Stat_t) bool {
	if sameFiles(from.root, b.root) {
		return true
	}
	var dir unix.Stat_t
	if unix.Fstat(int(b.dir.Fd()), &dir) != nil {
		return false
	}
	return int(file.Uid) == os.Geteuid() && file.Mode&0o077 == dir.Mode&0o066 && (dir.Mode&0o077 == 0 || file.Gid == dir.Gid)
}

// Move moves messages to another mailbox, each or not; those that are gone are passed over. A file gets a new name, which says when it came there
// (SaveDate) and has not been there before: one that a delivery has made keeps what a repeated delivery finds it by (maildir.MovedName).
//
//	step                                         after a crash
//	1 rename each file                           each message in one of both, whole; those in the other have no UID yet
//	2 sync the other's cur/ and new/             the same; who syncs next gives them UIDs
//	3 sync ours                                  the same
//	4 append the UIDs to the other's list        all moved
//
// To another file system, or another maildir, where a delivery that is repeated does not look, it is a Copy and, when that is done, an Expunge: a crash between leaves both.
// What cannot be removed here is removed there again.
// ErrValidity: as for Copy.
func (b *Mailbox) Move(ctx context.Context, validity uint32, uids []uint32, to *Mailbox) (moved []Copied, err error) {
	mine, err1 := identity(b.dir)
	other, err2 := identity(to.dir)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if mine == other || !sameFiles(to.root, b.root) {
		return b.moveByCopy(ctx, validity, uids, to)
	}
	if maildir.Counted(to.folder) && !maildir.Counted(b.folder) {
		octets, messages := b.octets(uids)
		if err := to.Room(octets, messages); err != nil {
			return nil, err
		}
	}
	err = b.both(validity, to, mine.before(other), func(from, in *editing) (err error) {
		moved, err = from.moveTo(ctx, uids, in)
		return err
	})
	if errors.Is(err, unix.EXDEV) {
		return b.moveByCopy(ctx, validity, uids, to)
	}
	return moved, err
}

// octets are those of the files of messages.
func (b *Mailbox) octets(uids []uint32) (octets, messages int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, uid := range uids {
		f, err := b.file(uid)
		if err != nil {
			continue
		}
		if st, err := f.stat(); err == nil {
			octets += st.Size
			messages++
		}
		f.Close()
	}
	return octets, messages
}

func (b *Mailbox) moveByCopy(ctx context.Context, validity uint32, uids []uint32, to *Mailbox) (moved []Copied, err error) {
	if validity == 0 {
		validity, _, _, _ = b.Status()
	}
	there, _, _, _ := to.Status() // before: if it is another one later, the UIDs of the copies may not be removed by it
	copied, err := b.Copy(ctx, validity, uids, to)
	if err != nil {
		return nil, err
	}
	uids = uids[:0:0]
	for _, c := range copied {
		uids = append(uids, c.From)
	}
	stayed, err := b.Expunge(validity, uids)
	if len(stayed) == 0 {
		return copied, err
	}
	var twice []uint32
	for _, c := range copied {
		if slices.Contains(stayed, c.From) {
			twice = append(twice, c.To)
		} else {
			moved = append(moved, c)
		}
	}
	_, terr := to.Expunge(there, twice)
	return moved, errors.Join(err, terr)
}

// folderID tells folders apart, and gives them an order for locks.
type folderID struct{ dev, ino uint64 }

func identity(dir *os.File) (folderID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return folderID{}, fmt.Errorf("mailbox: %w", &os.PathError{Op: "stat", Path: dir.Name(), Err: err})
	}
	return folderID{uint64(st.Dev), st.Ino}, nil
}

func (f folderID) before(g folderID) bool { return f.dev < g.dev || f.dev == g.dev && f.ino < g.ino }

// both runs one command on two mailboxes, of which ours is locked first or second.
func (b *Mailbox) both(validity uint32, to *Mailbox, first bool, do func(from, in *editing) error) error {
	lock := func(m *Mailbox) (*editing, func(), error) {
		m.mu.Lock()
		e, unlock, err := m.begin()
		if err != nil {
			m.mu.Unlock()
			return nil, nil, err
		}
		return e, func() { unlock(); m.mu.Unlock() }, nil
	}
	order := [2]*Mailbox{to, b}
	if first {
		order = [2]*Mailbox{b, to}
	}
	var e [2]*editing
	for i, m := range order {
		var unlock func()
		var err error
		if e[i], unlock, err = lock(m); err != nil {
			return err
		}
		defer unlock()
	}
	from, in := e[1], e[0]
	if first {
		from, in = e[0], e[1]
	}
	from.validity = validity
	err := from.valid()
	if err == nil {
		err = do(from, in)
	}
	return errors.Join(err, in.finish(), from.finish())
}

func (e *editing) moveTo(ctx context.Context, uids []uint32, in *editing) (moved []Copied, err error) {
	k, err := e.b.list.Keywords()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	facts := e.known(uids, in.b)
	tx, err := in.lockList(ctx, len(uids))
	if err != nil {
		return nil, err
	}
	defer tx.Unlock()
	other, err := in.b.list.Keywords()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	now := time.Now()
	var came []arrival
	octets := int64(0)
	for _, uid := range uids {
		var a arrival
		var size int64
		serr := e.step(uid, func(m message, dir *os.File, name string) (err error) {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return fmt.Errorf("mailbox: move: %w", &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err})
			}
			size = st.Size
			a = arrival{m: m, name: name, facts: facts[uid]}
			a.m.modseq, a.m.facts = in.modseq, 0
			if a.m.keywords, err = in.b.bitsOf(tx, &other, namesOf(&k, m.keywords)); err != nil {
				return err
			}
			if moved, ok := maildir.MovedName(name, now); ok {
				a.name = moved
			} else {
				a.name = in.b.newStem()
				if _, sizes, ok := strings.Cut(baseOf(name), ","); ok {
					a.name += "," + sizes
				}
				a.name += name[len(baseOf(name)):]
			}
			if !m.inNew() || a.m.flags() != 0 {
				a.m.setPlace(placeCur)
				a.name = rename(a.name, a.m.flags(), a.m.keywords)
			}
			if err := e.unlinkOthers(dir, name, &st); err != nil {
				return err
			}
			if err := in.b.ops.Publish(dir, name, in.b.place(&a.m), a.name); err != nil {
				return fmt.Errorf("mailbox: move: %w", err)
			}
			e.touch(dir)
			in.touch(in.b.place(&a.m))
			return nil
		})
		if errors.Is(serr, ErrExpunged) {
			continue
		}
		if serr != nil {
			err = serr // what was moved stays so
			break
		}
		e.expunge(uid)
		octets += size
		came = append(came, a)
		moved = append(moved, Copied{From: uid})
	}
	if len(came) == 0 {
		return nil, err
	}
	e.count(-octets, -int64(len(came)))
	in.count(octets, int64(len(came)))
	if serr := errors.Join(in.sync(), e.sync()); serr != nil {
		return nil, errors.Join(err, serr)
	}
	new, nerr := in.number(tx, came)
	if nerr != nil {
		return nil, errors.Join(err, nerr)
	}
	for i := range moved {
		moved[i].To = new[i]
	}
	return moved, err
}
