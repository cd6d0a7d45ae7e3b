// Package queue keeps mail between acceptance and delivery, as queue(5) says. It
// knows no protocol.
//
// One message is one file, and every program that accepts mail creates it under
// its final name:
//
//	queue/active/S/ID    a message; S is the last character of its id
//	queue/hold/ID        not to be attempted; people move files in and out with mv
//	queue/corrupt/NAME   what failed its checks
//	queue/log/ID         what happened to a message that did not just work
//	queue/full/NAME      a mailbox into which something did not fit, see NoteFull
//	queue/bounce/ID      somebody wants the message to be given up, see GiveUp
//	queue/pause/NAME     a destination that is to wait, see Pause
//	queue/lock           locked by the queued that owns the queue
//
// The states of a file in active, and what a crash leaves:
//
//	mode            lock   content    means                     after a crash
//	0760            held   any        being written             the lock is gone: next rows
//	0760            free   unfinished nobody was told 250       Recover removes it
//	0760            free   good sum   somebody may have been    Recover adopts it: sync, 0660
//	0760            free   bad sum    the same, and damage      Recover moves it to corrupt
//	0660            -      good sum   accepted, to be attempted unchanged
//	0660            -      bad sum    damage                    Message moves it to corrupt
//	anything else   -      -          foreign                   Scan moves it to corrupt
//
// A file goes from the first row to the fifth in this order: openat with O_EXCL,
// flock, write, fsync, (fsync of the directory, see Options.Strict), fchmod. The
// last is not synced: it is a hint for scans, and losing it costs one check at
// the next start. The sum makes a file valid or not; nothing else in it needs an
// order. After acceptance only the state bytes change. A held message is not
// looked at until it is released.
//
// Two things here are not as DESIGN has them, because smtpd and queued are
// different users who share a group. A file being written is 0760, not 0600:
// queued must be able to open, lock and mark a file that smtpd left behind, and
// only the file's owner could open it up (the owner's x bit says "being
// written"). And only the owner may set a file's times, so that queued, where it
// is not the owner, keeps the time of the next attempt as the mtime of log/ID,
// which is its own; of the two mtimes the later one counts. Where one user does
// both, it is the mtime of the message alone.
//
// A process's umask should be 007: any other costs a second fchmod per message.
//
// Queue is safe for concurrent use, by any number of goroutines and processes.
package queue

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// Errors that callers tell apart, with errors.Is.
var (
	ErrExists   = fs.ErrExist                                // that id is in use
	ErrNotExist = fs.ErrNotExist                             // delivered, held or deleted
	ErrLocked   = errors.New("another queued has the queue") // of Lock
	ErrBusy     = errors.New("still being written")
	ErrVersion  = errors.New("written by a later version of postamt") // left as it is
	errBroken   = errors.New("an earlier sync failed")
	errDone     = errors.New("already committed or aborted")

	errUnfinished = errors.New("its writing was not finished")
	errLinked     = errors.New("it has another name, and the queue has not been read yet")
)

type versionError struct{ v int64 }

func (e *versionError) Error() string {
	return fmt.Sprintf("format %d: written by a later version of postamt", e.v)
}
func (e *versionError) Is(target error) bool { return target == ErrVersion }

// DamagedError says that a message failed its checks and was moved to corrupt,
// or why it could not be.
type DamagedError struct {
	ID   ID
	What string
	// Moved is its name in the queue directory, "corrupt/..."; "" when moving failed.
	Moved string

	// unfinished: the file ends before the header says, or has no whole header,
	// so that its writer cannot have come to the sync.
	unfinished bool
}

func (e *DamagedError) Error() string {
	return "queue: " + string(e.ID) + ": damaged: " + e.What
}

// Options of Open; the zero value is ready.
type Options struct {
	// Strict syncs the directory of each accepted message too. It is always done
	// on file systems other than ext4, XFS and btrfs.
	Strict bool
	// GID, if not 0, becomes the group of directories that Open makes. Otherwise
	// they get that of the queue directory.
	GID int
	// Foreign, if not nil, is told of each file that was moved to corrupt, or that
	// could not be and is told of once. It may be called from any goroutine.
	Foreign func(path, what string)
	// Ops, for tests: where to fail.
	Ops *durable.Ops
}

// Queue is a queue directory.
type Queue struct {
	path    string
	opt     Options
	ops     *durable.Ops
	dir     *os.File
	uid     uint32 // owner and group of the directory
	gid     uint32
	strict  bool
	scratch sync.Pool
	shards  [32]shard
	fsGroup durable.Group

	removals   sync.Mutex  // held by SyncRemovals
	asideDirty atomic.Bool // hold and corrupt have removals that are not synced

	mu    sync.Mutex
	lock  *os.File
	swept bool            // the first scan is over, and logs that a crash left were looked for
	told  map[string]bool // foreign files that could not be moved
}

type shard struct {
	group durable.Group
	dirty atomic.Bool // has removals that are not synced
}

// scratch is the memory that a message needs while it is written or checked.
type scratch struct {
	buf []byte
	sum hash.Hash
	header
}

const (
	writingBit  = 0o100
	writingMode = 0o760
	liveMode    = 0o660
	// small is what is kept in memory of a message, and the size of its reads and
	// writes on disk.
	small = 64 << 10
)

// Open opens an existing queue directory, and makes what is missing in it,
// durably; only its owner can. Any number of processes may have it open.
func Open(path string, o Options) (*Queue, error) {
	dir, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	q := &Queue{path: path, opt: o, ops: o.Ops, dir: dir}
	q.scratch.New = func() any { return &scratch{sum: sha256.New(), buf: make([]byte, 0, 8<<10)} }
	for i := range q.shards {
		q.shards[i].group.Ops = o.Ops
	}
	q.fsGroup.Ops = o.Ops
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		dir.Close()
		return nil, fmt.Errorf("queue: %s: %w", path, err)
	}
	q.uid, q.gid = st.Uid, st.Gid
	if o.GID > 0 {
		q.gid = uint32(o.GID)
	}
	q.strict = o.Strict || !durable.KeepsNames(dir)
	if err := q.layout(); err != nil {
		dir.Close()
		return nil, err
	}
	return q, nil
}

// Path is the queue directory as it was given to Open.
func (q *Queue) Path() string { return q.path }

// Close closes the queue and gives up the lock. Messages and writers that are
// still open stay usable but for what needs a name.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lock != nil {
		q.lock.Close()
		q.lock = nil
	}
	return q.dir.Close()
}

// layout makes the directories that are missing. Each is synced before any
// message can be in it: the fsync of a message does not keep the name of the
// directory it is in.
func (q *Queue) layout() error {
	if err := q.mkdir("active", 0o710); err != nil {
		return err
	}
	for _, c := range digits {
		// Sticky and setgid: whoever is in the group may create files, which get
		// this group, and neither list them nor remove another's.
		if err := q.mkdir("active/"+string(c), 0o730|os.ModeSticky|os.ModeSetgid); err != nil {
			return err
		}
	}
	// Whoever is in the group may ask for a name in it.
	if err := q.mkdir("full", 0o710); err != nil {
		return err
	}
	for _, name := range []string{"hold", "corrupt", "log"} {
		if err := q.mkdir(name, 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"bounce", "pause"} {
		// They came later: who may not make them, on a system that is just being updated, needs none.
		if err := q.mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

func (q *Queue) mkdir(name string, perm os.FileMode) error {
	var st unix.Stat_t
	err := q.lstat(name, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("queue: %s/%s is not a directory", q.path, name)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("queue: %w", err)
	}
	uid, gid := -1, int(q.gid)
	if os.Geteuid() == 0 {
		uid = int(q.uid)
	}
	dir, base := q.dir, name
	if parent, child, ok := strings.Cut(name, "/"); ok {
		if dir, err = durable.OpenDirAt(q.dir, parent); err != nil {
			return fmt.Errorf("queue: %w", err)
		}
		defer dir.Close()
		base = child
	}
	if err := q.ops.MkdirOwned(dir, base, perm, uid, gid); err != nil {
		return fmt.Errorf("queue: make %s: %w", name, err)
	}
	return nil
}

func (q *Queue) lstat(name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(int(q.dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(q.dir)
		if err != nil {
			return &os.PathError{Op: "stat", Path: q.path + "/" + name, Err: err}
		}
		return nil
	}
}

// open opens a file of the queue, never through a symbolic link and never
// waiting on what is no ordinary file. Ordinary it may still not be.
func (q *Queue) open(name string, flags int, perm uint32) (*os.File, error) {
	fd, err := q.openFD(name, flags, perm)
	if err != nil {
		return nil, err
	}
	// NewFile would hand a non-blocking descriptor to the poller, which has no
	// use for files.
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&unix.O_APPEND)
	return os.NewFile(uintptr(fd), q.path+"/"+name), nil
}

// openFD is open without what an os.File costs, for lists of many files.
func (q *Queue) openFD(name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(int(q.dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, perm)
		if err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(q.dir)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: q.path + "/" + name, Err: err}
		}
		return fd, nil
	}
}

// syncDir syncs the directory name of the queue.
func (q *Queue) syncDir(name string) error {
	d, err := durable.OpenDirAt(q.dir, name)
	if err != nil {
		return err
	}
	defer d.Close()
	return q.ops.SyncDir(d)
}

// syncShard syncs the directory of id's shard, together with whoever else waits
// for it. The directory is opened each time: one that was kept open could be one
// that somebody has removed and made anew.
func (q *Queue) syncShard(i int) error {
	d, err := durable.OpenDirAt(q.dir, "active/"+digits[i:i+1])
	if err != nil {
		return err
	}
	defer d.Close()
	return q.shards[i].group.Sync(d)
}

func (id ID) shard() int { return shardIndex(id[idLen-1]) }

// Lock takes the queue for this process, until Close or its end: flock on
// queue/lock. It does not wait: ErrLocked.
func (q *Queue) Lock() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lock != nil {
		return nil
	}
	f, err := q.open("lock", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return fmt.Errorf("queue: lock: %w", err)
	}
	if err := flock(f); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			err = ErrLocked
		}
		return fmt.Errorf("queue: lock %s: %w", q.path, err)
	}
	q.lock = f
	return nil
}

// flock takes the lock of an open file or fails with EWOULDBLOCK.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(f)
		return err
	}
}

func fstat(f *os.File, st *unix.Stat_t) error {
	err := unix.Fstat(int(f.Fd()), st)
	runtime.KeepAlive(f)
	if err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return nil
}

func (q *Queue) getScratch() *scratch { return q.scratch.Get().(*scratch) }

func (q *Queue) putScratch(s *scratch) {
	// One huge envelope must not cost memory for ever.
	if cap(s.buf) > 2*small || cap(s.states) > small {
		return
	}
	s.buf, s.states = s.buf[:0], s.states[:0]
	s.sum.Reset()
	q.scratch.Put(s)
}
