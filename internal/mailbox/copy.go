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
func (b *Mailbox) Copy(ctx context.Context, validity uint32, uids []uint32, to *Mailbox) ([]Copied, error) {
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
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("mailbox: copy: %w", &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("mailbox: copy: %s/%s is no file", dir.Name(), name)
	}
	tmp, err := b.openTmp()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	s := &Staged{temp: b.newStem(), flags: m.flags(), keywords: keywords, size: uint64(st.Size), wire: m.wire, date: uint64(st.Mtim.Sec)}
	s.base = fmt.Sprintf("%s,S=%d", s.temp, st.Size)
	if m.wire != unknown {
		s.base += fmt.Sprintf(",W=%d", m.wire)
	}
	if b.mayLink(from, &st) {
		err = b.ops.Link(dir, name, tmp, s.temp)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	// Another file system, one without links, too many of them, or another's file (protected_hardlinks). A real error comes again.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
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
	moved, err = b.rename(ctx, validity, uids, to, mine.before(other))
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
		f, _, err := b.file(uid)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil {
			octets += st.Size()
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

// rename is Move within a file system.
func (b *Mailbox) rename(ctx context.Context, validity uint32, uids []uint32, to *Mailbox, first bool) (moved []Copied, err error) {
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
		if e[i], unlock, err = lock(m); err != nil {
			return nil, err
		}
		defer unlock()
	}
	from, in := e[1], e[0]
	if first {
		from, in = e[0], e[1]
	}
	from.validity = validity
	moved, err = from.moveTo(ctx, uids, in)
	return moved, errors.Join(err, in.finish(), from.finish())
}

func (e *editing) moveTo(ctx context.Context, uids []uint32, in *editing) (moved []Copied, err error) {
	k, err := e.b.list.Keywords()
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	if err := e.valid(); err != nil {
		return nil, err
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
