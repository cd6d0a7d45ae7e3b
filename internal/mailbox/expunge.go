package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/maildir"
)

// Expunge removes messages, for good when it returns nil. Those that cannot be removed stay and are returned: all of them, with ErrValidity,
// if validity is UIDVALIDITY no more, for the UIDs mean others then. A young delivery leaves a tombstone: who delivers it again, because he does not
// know how his last attempt ended, finds it.
func (b *Mailbox) Expunge(validity uint32, uids []uint32) (failed []uint32, err error) {
	failed = uids
	err = b.edit(validity, func(e *editing) (err error) {
		failed = nil
		// What is known is to be as young as can be: a name that is gone has all directories read, in the midst of what renamed it.
		if err := e.fresh(); err != nil {
			failed = uids
			return err
		}
		if len(uids) >= manyBuried {
			if err := e.buryAll(uids); err != nil {
				failed = uids
				return err
			}
		}
		octets, messages := int64(0), int64(0)
		for part := range slices.Chunk(uids, unlinkedTogether) {
			tried := e.unlinkTogether(part)
			for k, uid := range part {
				size, uerr := tried[k].size, tried[k].err
				if !tried[k].done {
					size, uerr = e.unlink(uid)
				}
				if uerr != nil && !errors.Is(uerr, ErrExpunged) {
					failed = append(failed, uid)
					if err == nil { // the others will have the same reason, and may be many
						err = uerr
					}
					continue
				}
				if uerr == nil {
					e.expunge(uid)
					octets, messages = octets+size, messages+1
				}
			}
		}
		e.count(-octets, -messages)
		return err
	})
	return failed, err
}

// unlinkedTogether is how many files are removed before it is written down which.
const unlinkedTogether = 256

// unlinked is what became of a file.
type unlinked struct {
	done bool // else it is for unlink, which knows what to do where it is not as simple
	size int64
	err  error
}

// unlinkTogether removes the files of many messages, some at a time.
// The directory is changed by one after the other all the same, but what frees the room of a file need not wait for that of another: with several at a time ext4 takes a third of the time where
// it discards blocks at once, 0.6 of it where it has a journal.
func (e *editing) unlinkTogether(uids []uint32) []unlinked {
	all := make([]unlinked, len(uids))
	if !e.buried || e.valid() != nil || unlinksAlone(e.b.cur) {
		return all
	}
	type file struct {
		k    int
		dir  *os.File
		name string
	}
	files := make([]file, 0, len(uids))
	for k, uid := range uids {
		i, ok := e.x.find(uid)
		if !ok || e.x.messages[i].dead() {
			continue
		}
		m := e.x.messages[i]
		if name, err := e.name(&m); err == nil {
			files = append(files, file{k, e.b.place(&m), name})
		}
	}
	together(len(files), func(i int) {
		var st unix.Stat_t
		f := files[i]
		if unix.Fstatat(int(f.dir.Fd()), f.name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || !e.isSingle(f.name, &st) {
			return
		}
		err := e.b.ops.Unlink(f.dir, f.name)
		if err != nil {
			err = fmt.Errorf("mailbox: expunge: %w", err)
		}
		all[f.k] = unlinked{!errors.Is(err, fs.ErrNotExist), st.Size, err}
	})
	for _, f := range files {
		if all[f.k].done && all[f.k].err == nil {
			e.touch(f.dir)
		}
	}
	return all
}

// isSingle tells whether a file is known to have no other name in this mailbox.
func (e *editing) isSingle(name string, st *unix.Stat_t) bool {
	return st.Nlink == 1 || e.twice != nil && len(e.twice[baseOf(name)]) == 0
}

// unlink removes the file of a message.
func (e *editing) unlink(uid uint32) (size int64, err error) {
	err = e.step(uid, func(m message, dir *os.File, name string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("mailbox: expunge: %w", &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err})
		}
		size = st.Size
		if err := e.bury(name, &st); err != nil {
			return err
		}
		if err := e.unlinkOthers(dir, name, &st); err != nil {
			return err
		}
		if err := e.b.ops.Unlink(dir, name); err != nil {
			return fmt.Errorf("mailbox: expunge: %w", err)
		}
		e.touch(dir)
		return nil
	})
	return size, err
}

// manyBuried is from how many messages on their tombstones are one file.
const manyBuried = 16

// buryAll leaves one tombstone for many, young or not. One that is not removed after all is there to be found: who delivers it again stores no second.
func (e *editing) buryAll(uids []uint32) error {
	names := make([]string, 0, len(uids))
	for _, uid := range uids {
		if i, ok := e.x.find(uid); ok {
			name, err := e.name(&e.x.messages[i])
			if err != nil {
				return fmt.Errorf("mailbox: %w", err)
			}
			names = append(names, name)
		}
	}
	tmp, err := e.b.openOrMake(e.b.root, "tmp")
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	if err := maildir.BuryMany(tmp, names, e.b.ops); err != nil {
		return fmt.Errorf("mailbox: tombstone: %w", err)
	}
	e.buried = true
	return nil
}

// bury leaves a tombstone for a file that may be delivered again.
func (e *editing) bury(name string, st *unix.Stat_t) error {
	if e.buried {
		return nil
	}
	if time.Since(time.Unix(st.Mtim.Unix())) >= maildir.TombstoneAge {
		return nil
	}
	tmp, err := e.b.openOrMake(e.b.root, "tmp")
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer tmp.Close()
	if err := maildir.Bury(tmp, name, e.b.ops); err != nil {
		return fmt.Errorf("mailbox: tombstone: %w", err)
	}
	return nil
}
