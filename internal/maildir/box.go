package maildir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// ErrNoBase means that the directory under which the maildir belongs (a home)
// is not there. It is never made: it may be a file system that is not mounted,
// and mail put below the mount point would be hidden later.
var ErrNoBase = errors.New("home directory is missing")

// ErrUnsafe means that a symbolic link, or something that is not a directory,
// stands where a directory of the maildir should be.
var ErrUnsafe = errors.New("not a directory, or a symbolic link")

// young is the age below which a directory's own entry may not be on disk yet:
// another process may have made it and been killed before it synced. Every file
// system writes its metadata out in seconds; an hour allows for stopped clocks.
const young = time.Hour

// box is one folder of one maildir with its directories open. Everything below
// them is reached through these descriptors, so that no component can be
// swapped for a symbolic link between two steps of a delivery (M05).
type box struct {
	key    string
	path   string // of new/, only to see whether it still names the open directory
	folder string // the Maildir++ directory, "" for INBOX
	inbox  *box   // of a folder: the maildir it is in; of INBOX: itself
	root   *os.File
	tmp    *os.File
	new    *os.File
	dev    uint64
	ino    uint64
	shared bool // setgid: others of a group use it too
	group  durable.Group
	ops    *durable.Ops

	swept atomic.Int64 // when tmp/ was last swept, seconds since 1970

	mu    sync.Mutex
	fresh []*os.File // directories that must be synced before mail counts as stored

	// Guarded by Store.mu.
	refs       int
	gone       bool // no longer in the map; the last user closes it
	prev, next *box // the ring of boxes by last use
}

func openDir(parent *os.File, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EMLINK:
			// Linux says ENOTDIR of a symbolic link, the BSDs ELOOP or EMLINK.
			return nil, ErrUnsafe
		case err != nil:
			return nil, err
		}
		return os.NewFile(uintptr(fd), filepath.Join(parent.Name(), name)), nil
	}
}

// makeDir opens a directory and makes it when it is missing. made says so.
func makeDir(parent *os.File, name string) (dir *os.File, made bool, err error) {
	dir, err = openDir(parent, name)
	if err != unix.ENOENT {
		return dir, false, err
	}
	if err = unix.Mkdirat(int(parent.Fd()), name, 0o700); err != nil && err != unix.EEXIST {
		return nil, false, err
	}
	dir, err = openDir(parent, name)
	return dir, true, err
}

// openBox opens a maildir and makes what is missing of it below its base.
func (s *Store) openBox(t *Target) (*box, error) {
	rel, err := filepath.Rel(t.Base, t.Path)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("maildir: %s is not below %s", t.Path, t.Base)
	}
	base, err := os.OpenFile(t.Base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("maildir: %s: %w", t.Base, ErrNoBase)
		}
		return nil, fmt.Errorf("maildir: %w", err)
	}
	b := &box{key: t.Path, path: t.Path + "/new", ops: s.ops, root: base}
	b.group.Ops = s.ops
	b.inbox = b
	if rel != "." {
		for _, name := range strings.Split(rel, "/") {
			sub, made, err := makeDir(b.root, name)
			if err != nil {
				b.close()
				return nil, fmt.Errorf("maildir: open %s: %s: %w", t.Path, name, err)
			}
			// Whoever makes a directory syncs it and its parent; if it was
			// made a moment ago, whoever it was may have died in between.
			if made || s.isYoung(sub) {
				b.fresh = append(b.fresh, b.root)
			} else {
				b.root.Close()
			}
			b.root = sub
		}
	}
	if err := s.openSubs(b); err != nil {
		b.close()
		return nil, fmt.Errorf("maildir: open %s: %w", t.Path, err)
	}
	return b, nil
}

// openFolder opens a folder of a maildir; it must exist.
func (s *Store) openFolder(in *box, name, key string) (b *box, err error) {
	dir, err := openDir(in.root, name)
	if err != nil {
		return nil, err
	}
	b = &box{key: key, path: key + "/new", folder: name, inbox: in, root: dir, ops: s.ops}
	b.group.Ops = s.ops
	if err = s.openSubs(b); err == nil && len(b.fresh) > 0 {
		var parent *os.File
		if parent, err = openDir(in.root, "."); err == nil {
			b.fresh = append([]*os.File{parent}, b.fresh...)
		}
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("maildir: open %s: %w", key, err)
	}
	return b, nil
}

// openSubs opens tmp/ and new/ and sees that cur/ is there. It makes missing
// ones only in a directory that is our own: in another's the mail would be out
// of its owner's reach (M19).
func (s *Store) openSubs(b *box) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(b.root.Fd()), &st); err != nil {
		return err
	}
	ours := int(st.Uid) == os.Geteuid()
	b.shared = st.Mode&unix.S_ISGID != 0
	sub := func(name string) (*os.File, error) {
		dir, err := openDir(b.root, name)
		if err == unix.ENOENT && ours {
			dir, _, err = b.ops.OpenOrMake(b.root, name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return dir, nil
	}
	var err error
	if b.tmp, err = sub("tmp"); err != nil {
		return err
	}
	if b.new, err = sub("new"); err != nil {
		return err
	}
	cur, err := sub("cur")
	if err != nil {
		return err
	}
	cur.Close()
	if err := unix.Fstat(int(b.new.Fd()), &st); err != nil {
		return err
	}
	b.dev, b.ino = uint64(st.Dev), st.Ino
	// Asked last: making a subdirectory has just made the root young.
	if s.isYoung(b.root) {
		root, err := openDir(b.root, ".")
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.fresh = append(b.fresh, root)
		b.mu.Unlock()
	}
	return nil
}

func (s *Store) isYoung(dir *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return true
	}
	return s.now().Sub(time.Unix(st.Ctim.Unix())) < young
}

// settle syncs the directories above new/ that may not be on disk. It must
// have succeeded before a message in new/ is called stored.
func (b *box) settle() error {
	if b.inbox != b {
		if err := b.inbox.settle(); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.fresh) > 0 {
		last := len(b.fresh) - 1 // from the leaf to the base
		if err := b.ops.SyncDir(b.fresh[last]); err != nil {
			return fmt.Errorf("maildir: sync directories above %s: %w", b.path, err)
		}
		b.fresh[last].Close()
		b.fresh = b.fresh[:last]
	}
	return nil
}

// settled is settle for one who has synced the whole file system since the
// box was opened.
func (b *box) settled() {
	b.closeFresh()
	b.inbox.closeFresh()
}

func (b *box) closeFresh() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.fresh {
		f.Close()
	}
	b.fresh = nil
}

func (b *box) close() {
	for _, f := range []*os.File{b.root, b.tmp, b.new} {
		if f != nil {
			f.Close()
		}
	}
	b.closeFresh()
}

// current reports whether the path still leads to the open directory. A
// directory that was removed refuses new entries by itself; one that was moved
// away would swallow mail.
func (b *box) current() bool {
	var st unix.Stat_t
	err := unix.Fstatat(unix.AT_FDCWD, b.path, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && uint64(st.Dev) == b.dev && st.Ino == b.ino
}

// folders are the directories that the tag may name, in the order in which they are looked for.
func (t *Target) folders() (names []string) {
	for _, tag := range []string{t.Tag, strings.ToLower(t.Tag)} {
		name, err := FolderDir(tag)
		if err != nil || t.Tag == "" {
			break
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Folder is the directory in the maildir where a message for the target would be stored now, "" for INBOX. It changes nothing.
func (t *Target) Folder() (string, error) {
	for _, name := range t.folders() {
		switch info, err := os.Lstat(t.Path + "/" + name); {
		case err == nil && info.IsDir():
			return name, nil
		case err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENAMETOOLONG):
			return "", err
		}
	}
	return "", nil
}

// open gives the box of a target, from the cache when it is there: INBOX, or
// the folder that the tag names if it exists. The caller releases it.
func (s *Store) open(t *Target) (*box, error) {
	in, err := s.acquire(t.Path, func() (*box, error) { return s.openBox(t) })
	if err != nil || t.Tag == "" {
		return in, err
	}
	for _, name := range t.folders() {
		key := t.Path + "/" + name
		b, err := s.acquire(key, func() (*box, error) {
			b, err := s.openFolder(in, name, key)
			if err == nil {
				s.mu.Lock()
				in.refs++ // held by the folder until it is closed
				s.mu.Unlock()
			}
			return b, err
		})
		if err == nil {
			s.release(in)
			return b, nil
		}
		// No such folder, a name too long for one, or something else of that
		// name: INBOX. Anything else may be over at the next attempt.
		if err != unix.ENOENT && err != unix.ENAMETOOLONG && err != ErrUnsafe {
			s.release(in)
			return nil, err
		}
	}
	return in, nil
}

// acquire returns the box of that key, held once more, opening it if need be.
func (s *Store) acquire(key string, open func() (*box, error)) (*box, error) {
	s.mu.Lock()
	b := s.boxes[key]
	if b != nil {
		b.refs++
		s.toFront(b)
	}
	s.mu.Unlock()
	if b != nil {
		if b.current() {
			return b, nil
		}
		s.drop(b)
		s.release(b)
	}
	b, err := open()
	if err != nil {
		return nil, err
	}
	b.refs = 1
	s.mu.Lock()
	old := s.boxes[key]
	if old == nil {
		s.boxes[key] = b
		s.toFront(b)
		s.evict()
		s.mu.Unlock()
		return b, nil
	}
	// Another has opened it meanwhile: with two, directory syncs would not be shared.
	old.refs++
	b.gone = true
	s.mu.Unlock()
	s.release(b)
	return old, nil
}

// drop takes a box out of the cache; its users keep it until they release it.
func (s *Store) drop(b *box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(b)
}

func (s *Store) release(b *box) {
	for b != nil {
		s.mu.Lock()
		b.refs--
		last := b.refs == 0 && b.gone
		s.mu.Unlock()
		if !last {
			return
		}
		b.close()
		if b.inbox == b {
			return
		}
		b = b.inbox // the folder's hold on its maildir
	}
}

// evict closes the boxes longest unused, beyond the limit. Those in use stay.
func (s *Store) evict() {
	for b := s.ring.prev; len(s.boxes) > s.limit && b != &s.ring; {
		prev := b.prev
		if b.refs == 0 {
			s.remove(b)
			b.close()
			if in := b.inbox; in != b {
				in.refs--
				if in.refs == 0 && in.gone {
					in.close()
				}
			}
		}
		b = prev
	}
}

// remove takes a box out of the map and the ring. Called with mu held.
func (s *Store) remove(b *box) {
	if b.gone {
		return
	}
	b.gone = true
	delete(s.boxes, b.key)
	b.prev.next, b.next.prev = b.next, b.prev
	b.prev, b.next = nil, nil
}

// toFront makes a box the last used. Called with mu held.
func (s *Store) toFront(b *box) {
	if b.prev != nil {
		b.prev.next, b.next.prev = b.next, b.prev
	}
	b.prev, b.next = &s.ring, s.ring.next
	b.prev.next, b.next.prev = b, b
}

// removed reports an error that means the open directory is gone from the file
// system, so that opening the maildir anew is worth a try.
func removed(err error) bool { return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESTALE) }
