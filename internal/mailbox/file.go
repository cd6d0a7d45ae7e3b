package mailbox

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

const (
	indexName = "postamt.index"
	tempName  = "postamt.index.new" // of the writer, who has the lock
	// A snapshot is written anew when the changes behind it are this much of it, and at least this much.
	smallTail  = 64 << 10
	tailDivide = 4
)

// indexFile is the index in its directory, which is the maildir or one that the configuration names.
type indexFile struct {
	dir  *os.File
	f    *os.File // nil: it cannot be opened or made; then all is in memory only
	good bool     // f is an index, and x what it says; or there is no f, and x is all there is
	x    *index   // never nil
	back bool     // x may know less than it did: it was read anew
}

// refresh reads what others have written since. Errors of reading a cache are none: it is as if it were not there.
func (i *indexFile) refresh() {
	if i.f != nil && i.current() {
		size, ok := fileSize(i.f)
		if i.good && ok && size >= i.x.end && i.x.follow(i.f, size) == nil {
			return
		}
		i.x, i.good, i.back = &index{}, false, true
		if x, good := loadIndex(i.f, size); ok && good {
			i.x, i.good = x, true
		}
		return
	}
	if i.f != nil {
		i.close()
	}
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(int(i.dir.Fd()), indexName, unix.O_RDWR|flags, 0)
	missing := err == unix.ENOENT
	if missing {
		fd, err = unix.Openat(int(i.dir.Fd()), indexName, unix.O_RDWR|unix.O_CREAT|flags, 0o600)
	}
	if err != nil {
		return
	}
	i.f = os.NewFile(uintptr(fd), i.dir.Name()+"/"+indexName)
	if missing {
		(*durable.Ops)(nil).AdoptShared(i.f, i.dir) // in vain if another has made it
	}
	size, ok := fileSize(i.f)
	if !ok { // a FIFO, a device: whoever put it there knows why
		i.f.Close()
		i.f = nil
		return
	}
	x, good := loadIndex(i.f, size)
	if i.good = good; good {
		i.back = i.back || i.x.validity != 0 // it was in memory only
		i.x = x
	}
}

func (i *indexFile) close() {
	if i.f != nil {
		i.f.Close()
	}
	i.f, i.x, i.good, i.back = nil, &index{}, false, true
}

func (i *indexFile) current() bool { return sameName(i.f, i.dir, indexName) }

// sameName: the file that is open is the one with the name.
func sameName(f *os.File, dir *os.File, name string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Fstatat(int(dir.Fd()), name, &b, unix.AT_SYMLINK_NOFOLLOW) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

func fileSize(f *os.File) (int64, bool) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, false
	}
	return st.Size, true
}

// lock waits until no other process writes, and then reads what they wrote. unlock ends it.
func (i *indexFile) lock() (unlock func(), err error) {
	for {
		i.refresh()
		f := i.f
		if f == nil {
			return func() {}, nil
		}
		if err := flock(f, unix.LOCK_EX); err != nil {
			return nil, fmt.Errorf("mailbox: lock %s: %w", f.Name(), err)
		}
		if i.refresh(); i.f == f { // what was written while we waited
			return func() { flock(i.f, unix.LOCK_UN) }, nil // of the file of then: a rewrite hands the lock on
		}
		// Another file has the name now: closing this one has unlocked it.
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

// write appends changes that were applied to i.x already; the file is locked. When they cannot be written the file goes: it would say
// what is no longer so.
func (i *indexFile) write(ops *durable.Ops, frames []byte) error {
	if i.f == nil {
		i.good = true
		return nil
	}
	if !i.good || i.x.end-i.x.base+int64(len(frames)) > max(smallTail, i.x.base/tailDivide) {
		return i.rewrite(ops)
	}
	if err := ops.WriteAt(i.f, frames, i.x.end); err != nil {
		ops.Unlink(i.dir, indexName)
		i.good = false
		return fmt.Errorf("mailbox: %w", err)
	}
	i.x.end += int64(len(frames))
	return nil
}

// rewrite publishes a snapshot of i.x. The new file is locked before it has the name: a command writes more than once, and whoever waits for the old
// one goes on to wait for it. When it fails the old one stays, which knows less: nothing may be appended to it that would say otherwise.
func (i *indexFile) rewrite(ops *durable.Ops) (err error) {
	defer func() { i.good = err == nil }()
	var seed [8]byte
	rand.Read(seed[:])
	i.x.generation = binary.LittleEndian.Uint64(seed[:])
	b, err := i.x.snapshot()
	if err != nil {
		return fmt.Errorf("mailbox: %s: %w", indexName, err)
	}
	ops.Unlink(i.dir, tempName) // of a writer that died
	f, err := ops.Create(i.dir, tempName, 0o600)
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	if err = flock(f, unix.LOCK_EX); err == nil {
		err = ops.Write(f, b)
	}
	if err == nil {
		err = ops.AdoptShared(f, i.dir)
	}
	if err == nil {
		err = ops.Rename(i.dir, tempName, i.dir, indexName)
	}
	if err != nil {
		f.Close()
		ops.Unlink(i.dir, tempName)
		return fmt.Errorf("mailbox: %w", err)
	}
	x, ok := loadIndex(f, int64(len(b)))
	if !ok {
		f.Close()
		return errors.New("mailbox: the index that was just written is none")
	}
	x.gone, x.since = i.x.gone, i.x.since
	i.f.Close()
	i.f, i.x, i.good = f, x, true
	return nil
}
