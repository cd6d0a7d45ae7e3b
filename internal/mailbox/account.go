package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/watch"
)

// keep is how long a folder, or an account, stays open that no session uses: a client that comes back finds it as it was.
const keep = time.Minute

// maxIdle folders of an account stay open so: who looks at all of many in turn would keep six descriptors for each.
const maxIdle = 8

// Accounts are the maildirs that are in use in a process, each once for all sessions. It is safe for concurrent use.
type Accounts struct {
	o       Options
	watcher *watch.Watcher
	mu      sync.Mutex
	open    map[string]*Account // by path
}

// NewAccounts makes Accounts. Watcher may be nil: then changes by others are looked for every other second. The IndexDir of o is for all maildirs and all users, each of
// whom makes a directory in it, or "".
func NewAccounts(watcher *watch.Watcher, o Options) *Accounts {
	return &Accounts{o: o, watcher: watcher, open: make(map[string]*Account)}
}

// Account is the maildir of one user: its folders, and of those that are in use one Mailbox each, shared by all sessions. It is safe for
// concurrent use.
type Account struct {
	Folders *maildir.Root

	path  string
	dir   *os.File
	all   *Accounts
	quota atomic.Pointer[maildir.Quota]
	mu    sync.Mutex
	open  map[string]*Mailbox // by directory

	followers followers

	uses int // of the lock of all
	idle *time.Timer
}

// Open opens the maildir at a path, or shares the one that is open; Close ends the use. One that is missing is made in a directory that is
// there: who has got no mail yet has an empty one.
func (s *Accounts) Open(path string) (*Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.open[path]; a != nil {
		a.use()
		return a, nil
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mailbox: make the maildir: %w", err)
	}
	dir, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("mailbox: open the maildir: %w", err)
	}
	return s.add(path, dir), nil
}

// openDir is Open of a maildir whose directory was opened by that path, which may have been another's before. It closes dir.
func (s *Accounts) openDir(path string, dir *os.File) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.open[path]; a != nil {
		if sameFiles(a.dir, dir) {
			dir.Close()
			a.use()
			return a
		}
		delete(s.open, path)
		if a.uses == 0 {
			a.end()
		}
	}
	return s.add(path, dir)
}

func (s *Accounts) add(path string, dir *os.File) *Account {
	a := &Account{Folders: maildir.OpenRoot(dir, s.o.Ops), path: path, dir: dir, all: s, uses: 1, open: make(map[string]*Mailbox)}
	a.quota.Store(&s.o.Quota)
	s.open[path] = a
	return a
}

// use begins another use; all are locked.
func (a *Account) use() {
	if a.uses == 0 {
		a.idle.Stop()
	}
	a.uses++
}

// SetQuota says what the quota of the whole maildir is, for all its sessions from now on, in place of that of the Options; zero: what its maildirsize says.
func (a *Account) SetQuota(q maildir.Quota) { a.quota.Store(&q) }

// Usage is what is used of the quota, and its limits; zero limits: there is none.
func (a *Account) Usage() (used, limit maildir.Quota, err error) {
	return a.Folders.Usage(*a.quota.Load())
}

// Close ends one use of the account. What is open of it must have been closed before.
func (a *Account) Close() error {
	s := a.all
	s.mu.Lock()
	defer s.mu.Unlock()
	switch a.uses--; {
	case a.uses > 0:
	case s.open[a.path] != a: // another one is there by now
		a.end()
	default:
		a.idle = time.AfterFunc(keep, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if a.uses == 0 && s.open[a.path] == a {
				delete(s.open, a.path)
				a.end()
			}
		})
	}
	return nil
}

// End closes everything, used or not: of a process that ends.
func (s *Accounts) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.open {
		a.end()
	}
	clear(s.open)
}

// end closes what is open.
func (a *Account) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.open {
		b.close()
	}
	clear(a.open)
	a.dir.Close()
}

// Open opens a folder by its name, or shares the one that is open; Close ends the use. Errors: maildir.ErrNoFolder, maildir.ErrFolder, others.
func (a *Account) Open(name string) (*Mailbox, error) {
	f, folder, err := a.Folders.Open(name)
	if errors.Is(err, maildir.ErrNoFolder) && folder.Dir == "." {
		// INBOX always is.
		folder, err = maildir.Folder{Name: maildir.Inbox, Dir: "."}, nil
	}
	if f != nil {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	if folder.Dir == "." {
		folder.Dir = ""
	}
	b, err := a.share(folder.Dir)
	if err != nil {
		return nil, err
	}
	if err := b.begun(); err != nil { // without the lock: others open other folders meanwhile
		a.mu.Lock()
		defer a.mu.Unlock()
		b.uses--
		a.forget(b)
		return nil, err
	}
	return b, nil
}

// share opens the folder in a directory, or shares the one that is open.
func (a *Account) share(dir string) (*Mailbox, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.open[dir]
	if b != nil && !b.same() { // deleted or renamed, perhaps by another process, and another one made
		a.forget(b)
		b = nil
	}
	if b == nil {
		o := a.all.o
		var err error
		if o.IndexDir != "" {
			if o.IndexDir, err = indexDir(o.IndexDir, a.path, dir); err != nil {
				return nil, err
			}
		}
		if b, err = open(a.dir, dir, o); err != nil {
			return nil, err
		}
		b.account, b.watcher, b.begun = a, a.all.watcher, sync.OnceValue(b.Sync)
		a.open[dir] = b
	} else if b.uses == 0 {
		b.idle.Stop()
	}
	b.uses++
	return b, nil
}

// forget has the next Open open the folder anew: what is open is another one by now. The account is locked.
func (a *Account) forget(b *Mailbox) {
	if a.open[b.folder] == b {
		delete(a.open, b.folder)
	}
	if b.uses == 0 {
		b.close()
	}
}

// release ends one use.
func (a *Account) release(b *Mailbox) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.uses--; b.uses > 0 {
		return nil
	}
	idle := 0
	for _, other := range a.open {
		if other.uses == 0 {
			idle++
		}
	}
	if a.open[b.folder] != b || idle > maxIdle {
		a.forget(b)
		return nil
	}
	b.idle = time.AfterFunc(keep, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if b.uses == 0 && a.open[b.folder] == b {
			a.forget(b)
		}
	})
	return nil
}

// Gone reports whether the folder was deleted, or has another name now.
func (b *Mailbox) Gone() bool { return !b.same() }

// same reports whether the folder is still what its name opens, and has its cur/, which goes first when another program removes it.
func (b *Mailbox) same() bool {
	var now, then unix.Stat_t
	if unix.Fstat(int(b.cur.Fd()), &now) == nil && now.Nlink == 0 {
		return false
	}
	if b.folder == "" {
		return true
	}
	if err := unix.Fstatat(int(b.root.Fd()), b.folder, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err != unix.ENOENT
	}
	return unix.Fstat(int(b.dir.Fd()), &then) != nil || now.Dev == then.Dev && now.Ino == then.Ino
}
