package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/uidlist"
)

// Op says what SetFlags does with the flags that it is given.
type Op int

// The operations.
const (
	Add Op = iota
	Remove
	Replace // all flags but Passed, which IMAP does not know, and all keywords that have a name
)

// Keywords are the names of the folder's keywords, by bit.
func (b *Mailbox) Keywords() (uidlist.Keywords, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, err := b.list.Keywords()
	if err != nil {
		err = fmt.Errorf("mailbox: %w", err)
	}
	return k, err
}

// SetFlags changes flags and keywords of messages and tells those that are not as they were. They are on disk when it returns nil. What was changed by
// others meanwhile stays, but for what it was told to change; messages that are gone are passed over. A keyword without a letter gets one, and the error is
// uidlist.ErrKeywordsFull, before anything is changed, when there is none left. Letters in a file name that nobody has given a name stay.
//
//	step                                       after a crash
//	1 a letter for a new keyword, synced       a keyword that no message has
//	2 rename each file, from new/ to cur/ too  some have the new flags, each has all or none of the change
//	3 sync cur/ (and new/), once               all
//
// A file of another message that has the new name already is an error and stays. ErrValidity: as for Copy.
func (b *Mailbox) SetFlags(validity uint32, uids []uint32, op Op, f Flags, keywords []string) (changed []Message, err error) {
	changed, _, err = b.SetFlagsUnchanged(validity, uids, math.MaxUint64, op, f, keywords)
	return changed, err
}

// SetFlagsUnchanged is SetFlags for messages whose mod-sequence is not above since; the others are refused (RFC 7162 section 3.1.3).
func (b *Mailbox) SetFlagsUnchanged(validity uint32, uids []uint32, since uint64, op Op, f Flags, keywords []string) (changed []Message, refused []uint32, err error) {
	err = b.edit(validity, func(e *editing) error {
		bits, named, err := b.letters(keywords, op != Remove)
		if err != nil {
			return err
		}
		if since < math.MaxUint64 { // what others have done so far counts
			if err := e.fresh(); err != nil {
				return err
			}
		}
		for _, uid := range uids {
			if i, ok := e.x.find(uid); ok && e.x.messages[i].modseq > since {
				refused = append(refused, uid)
				continue
			}
			m, err := e.setFlags(uid, func(old Flags, k uint32) (Flags, uint32) {
				switch op {
				case Add:
					return old | f, k | bits
				case Remove:
					return old &^ f, k &^ bits
				}
				return old&Passed | f, k&^named | bits
			})
			switch {
			case err == nil && m != nil:
				changed = append(changed, *m)
			case err != nil && !errors.Is(err, ErrExpunged):
				return err
			}
		}
		return nil
	})
	return changed, refused, err
}

// setFlags renames one file. nil: it is as it should be.
func (e *editing) setFlags(uid uint32, change func(Flags, uint32) (Flags, uint32)) (changed *Message, err error) {
	err = e.step(uid, func(m message, dir *os.File, name string) error {
		f, k := change(m.flags(), m.keywords)
		if f == m.flags() && k == m.keywords {
			return nil
		}
		to := rename(name, f, k)
		if err := e.b.moveName(dir, name, to); err != nil {
			return fmt.Errorf("mailbox: flags: %w", err)
		}
		e.touch(e.b.cur, dir)
		before := m.modseq
		m.setFlags(f)
		m.keywords, m.modseq = k, e.modseq
		m.setPlace(placeCur)
		e.change('F', m, to)
		told := m.says()
		told.Before = before
		changed = &told
		return nil
	})
	return changed, err
}

// moveName gives a file another name, in cur/. It replaces no file.
func (b *Mailbox) moveName(dir *os.File, name, to string) error {
	err := b.ops.Publish(dir, name, b.cur, to)
	if errors.Is(err, fs.ErrExist) && sameFile(dir, name, b.cur, to) { // who links and unlinks was stopped between
		err = b.ops.Unlink(dir, name)
	}
	return err
}

func sameFile(aDir *os.File, a string, bDir *os.File, b string) bool {
	var x, y unix.Stat_t
	return unix.Fstatat(int(aDir.Fd()), a, &x, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		unix.Fstatat(int(bDir.Fd()), b, &y, unix.AT_SYMLINK_NOFOLLOW) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// letters gives the bits of keywords, and those of all that have a name. Make gives a letter to those that have none.
func (b *Mailbox) letters(keywords []string, make bool) (bits, named uint32, err error) {
	k, err := b.list.Keywords()
	if err != nil {
		return 0, 0, fmt.Errorf("mailbox: %w", err)
	}
	var missing []string
	for _, name := range keywords {
		if i := k.Index(name); i >= 0 {
			bits |= 1 << i
		} else {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 && make {
		tx, err := b.list.Lock(context.Background())
		if err != nil {
			return 0, 0, fmt.Errorf("mailbox: %w", err)
		}
		defer tx.Unlock()
		for _, name := range missing {
			i, err := tx.AddKeyword(name)
			if err != nil {
				return 0, 0, fmt.Errorf("mailbox: %w", err)
			}
			bits |= 1 << i
		}
	}
	for i, name := range k {
		if name != "" {
			named |= 1 << i
		}
	}
	return bits, named | bits, nil
}
