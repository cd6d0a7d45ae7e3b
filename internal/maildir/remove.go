package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// goneDir begins the name of a folder that is being removed. As a folder's name
// it would have an empty component, so nobody takes it for one.
const goneDir = "..gone."

// Delete removes a folder and its messages; those below it stay (RFC 9051
// section 6.3.5). INBOX cannot be removed.
func (r *Root) Delete(name string) error {
	if isInbox(name) {
		return ErrFolder
	}
	f, folder, err := r.Open(name)
	if err != nil {
		return err
	}
	f.Close()
	gone := goneDir + strconv.FormatUint(rand.Uint64(), 36)
	if err = r.ops.Rename(r.dir, folder.Dir, r.dir, gone); err == nil {
		err = r.ops.SyncDir(r.dir)
	}
	if err != nil {
		return r.wrap("delete", name, err)
	}
	// It is gone. That its files take room a while longer is not the client's concern.
	r.Purge()
	return nil
}

// Purge removes what is left of folders that were deleted.
func (r *Root) Purge() error {
	var first error
	err := scan(r.dir, ".", func(dir string) error {
		if strings.HasPrefix(dir, goneDir) {
			if err := r.purge(dir); err != nil && first == nil {
				first = err
			}
		}
		return nil
	})
	if err = errors.Join(err, first); err != nil {
		return fmt.Errorf("maildir: %s: remove deleted folders: %w", r.dir.Name(), err)
	}
	return nil
}

func (r *Root) purge(dir string) error {
	f, err := openDir(r.dir, dir)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	for _, sub := range []string{"new", "cur"} {
		if err := r.empty(f, sub, time.Unix(st.Ctim.Unix())); err != nil && err != unix.ENOENT && err != ErrUnsafe {
			return err
		}
	}
	return r.removeAll(r.dir, dir, 8)
}

// empty removes the messages of a folder that was renamed at the time gone, and
// then new/ or cur/. A delivery may have had new/ open and put a message into it
// since, which its sender believes to be safe: that goes to INBOX. Once the
// directory is removed a delivery fails, and looks for the folder anew.
func (r *Root) empty(folder *os.File, sub string, gone time.Time) error {
	dir, err := openDir(folder, sub)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Who came before is asked before anything is removed: a copy may be a link to the same file, and the end of one changes the time of the other.
	old := make(map[string]bool)
	if sub == "new" {
		err := scan(folder, sub, func(name string) error {
			var st unix.Stat_t
			err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
			old[name] = err == nil && time.Unix(st.Ctim.Unix()).Before(gone)
			return ignoreMissing(err)
		})
		if err != nil {
			return err
		}
	}
	for range 10 {
		err := scan(folder, sub, func(name string) error {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return ignoreMissing(err)
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				return nil // for removeAll
			}
			if sub == "new" && !old[name] && !time.Unix(st.Ctim.Unix()).Before(gone) {
				return r.rescue(dir, name)
			}
			if r.now().Sub(time.Unix(st.Mtim.Unix())) < tempAge {
				if err := r.bury(name); err != nil {
					return err
				}
			}
			return ignoreMissing(r.ops.Unlink(dir, name))
		})
		if err != nil {
			return err
		}
		err = unix.Unlinkat(int(folder.Fd()), sub, unix.AT_REMOVEDIR)
		runtime.KeepAlive(folder)
		if err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rescue moves a message to INBOX.
func (r *Root) rescue(from *os.File, name string) error {
	to, err := openDir(r.dir, "new")
	if err != nil {
		return err
	}
	defer to.Close()
	if err := r.ops.Publish(from, name, to, name); err != nil {
		return ignoreMissing(err)
	}
	return r.ops.SyncDir(to)
}

// bury leaves a tombstone for a message that may be delivered again.
func (r *Root) bury(name string) error {
	tmp, err := openDir(r.dir, "tmp")
	if err != nil {
		return err
	}
	defer tmp.Close()
	return Bury(tmp, name, r.ops)
}

// TombstoneAge is how old a delivery is when nobody delivers it again any more: it needs no tombstone then.
const TombstoneAge = tempAge

// Bury leaves a tombstone in tmp, which is that of the maildir (and not of a folder), for a file that is about to be removed, if its name says
// that it is a delivery of ours: whoever delivers it again finds it there. Nothing is synced: one journal keeps the order, and without one the
// worst is that the message comes back.
func Bury(tmp *os.File, name string, ops *durable.Ops) error {
	base, _, _ := strings.Cut(name, ":")
	if _, id, _ := strings.Cut(base, "."); !strings.HasPrefix(id, "Q") {
		return nil
	}
	f, err := ops.Create(tmp, base+goneOne, 0o600)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENAMETOOLONG) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(ops.Adopt(f, tmp), ops.Close(f))
}

// BuryMany is Bury for the files of a command that removes many: one tombstone with all their names.
func BuryMany(tmp *os.File, names []string, ops *durable.Ops) error {
	var b []byte
	for _, name := range names {
		base, _, _ := strings.Cut(name, ":")
		if _, id, _ := strings.Cut(base, "."); strings.HasPrefix(id, "Q") && !strings.Contains(base, "\n") {
			b = append(append(b, base...), '\n')
		}
	}
	if len(b) == 0 {
		return nil
	}
	f, err := ops.Create(tmp, strconv.FormatUint(rand.Uint64(), 36)+goneMany, 0o600)
	if err != nil {
		return err
	}
	if err := ops.Write(f, b); err != nil {
		f.Close()
		return err
	}
	return errors.Join(ops.Adopt(f, tmp), ops.Close(f))
}

// The ends of the names of tombstones: of one message, and of many, which are named in it line by line.
const (
	goneOne  = ".gone"
	goneMany = ".gones"
)

// removeAll removes a directory with what is in it, a few levels deep.
func (r *Root) removeAll(parent *os.File, name string, depth int) error {
	f, err := openDir(parent, name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(512)
		if len(names) == 0 {
			break
		}
		for _, n := range names {
			err := r.ops.Unlink(f, n)
			if (errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM)) && depth > 0 {
				err = r.removeAll(f, n, depth-1)
			}
			if ignoreMissing(err) != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	err = unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
	runtime.KeepAlive(parent)
	return ignoreMissing(err)
}
