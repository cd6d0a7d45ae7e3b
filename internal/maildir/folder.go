package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/mutf7"
)

// ErrNoFolder means that there is no folder of that name.
var ErrNoFolder = errors.New("maildir: no such folder")

// Inbox is the name of the maildir itself, in any case (RFC 9051 section 5.1).
const Inbox = "INBOX"

func isInbox(name string) bool { return strings.EqualFold(name, Inbox) }

// Root is a maildir as the place of its folders, which are named as clients see
// them: UTF-8, with "." between the levels. No name leads out of it and no
// symbolic link is followed.
//
// A folder is a directory with cur/ in it. That is made last and stays to the
// last, so that there is no half folder:
//
//	step                                         after a crash
//	create 1 make .F, maildirfolder, tmp, new    no folder; Create completes it
//	       2 make cur                            the folder
//	delete 1 rename .F to ..gone.RANDOM          no folder
//	       2 remove what is in it                the rest goes with the next Delete
//	rename 1 rename .F.a, .F.b ... to .G.a ...   some below F, some below G; the same Rename completes it
//	       2 rename .F to .G                     all
//	INBOX  1 create .G                           an empty folder more
//	       2 rename each message                 each in one of the two
//
// Each is synced before the function returns. A subscription outlives its
// folder (RFC 9051 section 6.3.4).
type Root struct {
	dir    *os.File
	ops    *durable.Ops
	now    func() time.Time
	shared bool // nobody owns it
}

// OpenRoot returns the folders of the maildir dir, which must stay open as long
// as it is used. ops is nil but in tests.
func OpenRoot(dir *os.File, ops *durable.Ops) *Root {
	return &Root{dir: dir, ops: ops, now: time.Now}
}

// OpenShared is OpenRoot of a maildir that nobody owns: only its rights files
// say who may do what in its folders.
func OpenShared(dir *os.File, ops *durable.Ops) *Root {
	r := OpenRoot(dir, ops)
	r.shared = true
	return r
}

// Folder is a folder that is there.
type Folder struct {
	Name string // as clients see it
	Dir  string // in the maildir; "." of INBOX
}

// folderName gives the name of a folder's directory. It is in modified UTF-7 or,
// if it is not, as Courier 5 writes it, in UTF-8.
func folderName(dir string) (name string, ok bool) {
	if len(dir) < 2 || dir[0] != '.' {
		return "", false
	}
	name, ok = mutf7.Decode(dir[1:])
	if !ok || !validFolder(name) {
		name = dir[1:]
	}
	// A directory .INBOX is out of reach, and so is no folder.
	return name, validFolder(name) && !isInbox(name)
}

// openFolder opens the directory of a folder: ErrNoFolder if it is none.
func (r *Root) openFolder(dir string) (*os.File, error) {
	f, err := openDir(r.dir, dir)
	if err == nil {
		var st unix.Stat_t
		err = unix.Fstatat(int(f.Fd()), "cur", &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return f, nil
		}
		f.Close()
		if err == nil {
			err = ErrUnsafe
		}
	}
	if err == unix.ENOENT || err == unix.ENAMETOOLONG || err == ErrUnsafe {
		return nil, ErrNoFolder
	}
	return nil, err
}

// Open opens the directory of a folder: ErrNoFolder if there is none, ErrFolder
// if there can be none.
func (r *Root) Open(name string) (*os.File, Folder, error) {
	if isInbox(name) {
		f, err := r.openFolder(".")
		return f, Folder{Inbox, "."}, r.wrap("open", Inbox, err)
	}
	dir, err := FolderDir(name)
	if err != nil {
		return nil, Folder{}, err
	}
	f, err := r.openFolder(dir)
	if other := "." + name; err == ErrNoFolder && other != dir {
		// Only if that is what it means: as modified UTF-7 it may be another's.
		if n, ok := folderName(other); ok && n == name {
			dir = other
			f, err = r.openFolder(dir)
		}
	}
	return f, Folder{name, dir}, r.wrap("open", name, err)
}

func (r *Root) wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("maildir: %s: %s folder %q: %w", r.dir.Name(), op, name, err)
}

// Folders lists the folders, INBOX first, then by name. One that is above
// others need not be there itself.
func (r *Root) Folders() ([]Folder, error) {
	dirs := make(map[string]string)
	err := scan(r.dir, ".", func(dir string) error {
		name, ok := folderName(dir)
		if !ok {
			return nil
		}
		f, err := r.openFolder(dir)
		if err == ErrNoFolder || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		f.Close()
		// Of two spellings the one that Open finds first.
		if proper, _ := FolderDir(name); dirs[name] == "" || dir == proper {
			dirs[name] = dir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("maildir: %s: list folders: %w", r.dir.Name(), err)
	}
	list := []Folder{{Inbox, "."}}
	for name, dir := range dirs {
		list = append(list, Folder{name, dir})
	}
	slices.SortFunc(list[1:], func(a, b Folder) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// taken reports whether a name is in use: an error with fs.ErrExist, or nil.
func (r *Root) taken(name string) error {
	if isInbox(name) {
		return fs.ErrExist
	}
	f, _, err := r.Open(name)
	if err == nil {
		f.Close()
		return fs.ErrExist
	}
	if errors.Is(err, ErrNoFolder) {
		return nil
	}
	return err
}

// Create makes a folder. Those above it are not made. The error is ErrFolder
// or has fs.ErrExist when the name is no folder's or another's.
func (r *Root) Create(name string) error {
	if err := r.taken(name); err != nil {
		if err == ErrFolder {
			return err
		}
		return r.wrap("create", name, err)
	}
	dir, err := FolderDir(name)
	if err != nil {
		return err
	}
	return r.wrap("create", name, r.create(dir))
}

// create makes the directory of a folder. All in it has the group and the mode of the
// maildir, so that who shares it shares all of it.
func (r *Root) create(dir string) error {
	if err := r.ops.MkdirLike(r.dir, dir); err != nil {
		return err
	}
	f, err := openDir(r.dir, dir)
	if err != nil {
		return err
	}
	defer f.Close()
	// Courier and others tell a folder from a maildir by it.
	mark, err := r.ops.Create(f, "maildirfolder", 0o600)
	if err == nil {
		err = errors.Join(r.ops.Adopt(mark, f), r.ops.Close(mark))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := r.ops.MkdirLike(f, sub); err != nil {
			return err
		}
	}
	return nil
}

// Rename gives a folder, and with it those below it, another name (RFC 9051
// section 6.3.6). A new name that is taken, also for one of those below, is an
// error with fs.ErrExist, and then nothing is renamed; one below the old name
// is ErrFolder. Of INBOX only the messages move, into a new folder.
func (r *Root) Rename(old, new string) error {
	if isInbox(old) {
		return r.renameInbox(new)
	}
	if strings.HasPrefix(new, old+".") {
		return ErrFolder
	}
	if _, err := FolderDir(old); err != nil {
		return err
	}
	folders, err := r.Folders()
	if err != nil {
		return err
	}
	type step struct{ from, to string }
	var steps []step
	var last []step // the folder itself, after those below it
	for _, f := range folders[1:] {
		below, ok := strings.CutPrefix(f.Name, old)
		if !ok || below != "" && below[0] != '.' {
			continue
		}
		if err := r.taken(new + below); err != nil {
			if err == ErrFolder {
				return err
			}
			return r.wrap("rename to", new+below, err)
		}
		to, err := FolderDir(new + below)
		if err != nil {
			return err
		}
		if below == "" {
			last = append(last, step{f.Dir, to})
		} else {
			steps = append(steps, step{f.Dir, to})
		}
	}
	if steps = append(steps, last...); len(steps) == 0 {
		return r.wrap("rename", old, ErrNoFolder)
	}
	for _, s := range steps {
		// A directory replaces only an empty one, which is no folder.
		if err = r.ops.Rename(r.dir, s.from, r.dir, s.to); err != nil {
			break
		}
	}
	return r.wrap("rename", old, errors.Join(err, r.ops.SyncDir(r.dir)))
}

// renameInbox moves all messages of INBOX to a new folder, with the names of
// their keywords, and copies its annotations (RFC 5464 section 4.1).
func (r *Root) renameInbox(new string) error {
	if err := r.Create(new); err != nil {
		return err
	}
	to, _, err := r.Open(new)
	if err != nil {
		return err
	}
	defer to.Close()
	err = errors.Join(r.copyFile(to, "dovecot-keywords"), r.copyFile(to, metadataFile))
	for _, sub := range []string{"new", "cur"} {
		if err == nil {
			err = r.moveAll(to, sub)
		}
	}
	return r.wrap("rename", Inbox, err)
}

func (r *Root) copyFile(to *os.File, name string) error {
	from, err := openFile(r.dir, name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	f, err := r.ops.Create(to, name, 0o600)
	if err != nil {
		return err
	}
	if err = r.ops.Adopt(f, to); err == nil {
		err = copyBytes(f, from, 0, st.Size)
	}
	if err == nil {
		err = r.ops.Sync(f)
	}
	return errors.Join(err, r.ops.Close(f), r.ops.SyncDir(to))
}

func (r *Root) moveAll(to *os.File, sub string) error {
	src, err := openDir(r.dir, sub)
	if err == unix.ENOENT { // nobody has looked into this maildir yet
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openDir(to, sub)
	if err != nil {
		return err
	}
	defer dst.Close()
	err = scan(r.dir, sub, func(name string) error {
		if name[0] == '.' {
			return nil
		}
		err := r.ops.Publish(src, name, dst, name)
		// Removed, or flagged: the directory has changed and is read again.
		return ignoreMissing(err)
	})
	// The new place first: in a crash between a message may be in both.
	return errors.Join(err, r.ops.SyncDir(dst), r.ops.SyncDir(src))
}
