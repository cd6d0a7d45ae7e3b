// Package dotlock locks a file FILE of a maildir by the presence of FILE.lock,
// as Dovecot does, so that the two may write the same files in turn. It works
// on a network file system too: the lock is taken by O_EXCL.
//
// A lock whose owner died must be broken, one whose owner lives must not be.
// The lock says "pid:host", if its owner had the time to write it:
//
//	what the lock says              it is broken when
//	this host, a process that is    never
//	this host, one that is not      it is seen
//	another host, or nothing        it and FILE are unchanged for Options.Stale
//
// Our own pid counts as nothing: it may be that of a dead predecessor, as in a
// container, where a restarted program has the same one. How long a file is
// unchanged is measured by the clock of the file system, which a file made for
// the purpose tells: a host whose clock is ahead breaks no lock too early.
//
// Two may find the same lock dead, and the slower one must not remove what the
// faster one has put in its place. So a lock is moved aside first, looked at
// there, and put back when it is not the dead one. For that moment it is not
// held. An owner asks Held before it makes its work visible; what remains of
// the race is the time between that question and the rename or write.
//
// A crash leaves FILE.lock, which the next one breaks, or, between two steps of
// breaking one, a file FILE.lock.RANDOM of a few bytes and no effect.
package dotlock

import (
	"context"
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

// ErrTimeout means that the lock was held by another for longer than one waits.
var ErrTimeout = errors.New("lock is held by another")

// ErrLost means that another has broken the lock.
var ErrLost = errors.New("lock was broken by another")

// Options say how a lock is taken.
type Options struct {
	Stale   time.Duration // an unchanged lock of another host is broken after that time
	Timeout time.Duration // to wait at most; 0: only ctx ends the wait
	// Content keeps the lock's file empty, because it is to become the
	// new FILE (see Replace).
	Content bool
	Ops     *durable.Ops
}

// Lock is a lock that is held. Its file has group and mode of the directory, so that
// others who may write there may read whose it is, and, as the new FILE, write it.
type Lock struct {
	dir  *os.File
	file string // what it protects
	name string
	f    *os.File
	id   identity
	ops  *durable.Ops
}

// identity tells a lock from the next of the same name.
type identity struct {
	dev, ino uint64
	mtime    unix.Timespec
}

// Acquire takes the lock of file in dir. It waits while another holds it, until
// ctx ends or for o.Timeout.
func Acquire(ctx context.Context, dir *os.File, file string, o Options) (*Lock, error) {
	l := &Lock{dir: dir, file: file, name: file + ".lock", ops: o.Ops}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout, ErrTimeout)
		defer cancel()
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 16*time.Millisecond) {
		err := l.create(o)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("dotlock: %w", err)
		}
		broken, err := l.breakStale(o.Stale)
		if err != nil {
			return nil, fmt.Errorf("dotlock: break %s/%s: %w", dir.Name(), l.name, err)
		}
		if broken {
			continue
		}
		// Half of the wait is random, so that those who wait do not meet again.
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("dotlock: wait for %s/%s: %w", dir.Name(), l.name, context.Cause(ctx))
		}
	}
}

func (l *Lock) create(o Options) error {
	f, err := l.ops.CreateLike(l.dir, l.name)
	if err != nil {
		return err
	}
	if !o.Content {
		host, _ := os.Hostname()
		err = l.ops.Write(f, fmt.Appendf(nil, "%d:%s", os.Getpid(), host))
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil {
		f.Close()
		l.ops.Unlink(l.dir, l.name)
		return err
	}
	l.f, l.id = f, identify(&st)
	return nil
}

func identify(st *unix.Stat_t) identity { return identity{uint64(st.Dev), st.Ino, st.Mtim} }

func stat(dir *os.File, name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	runtime.KeepAlive(dir)
	return st, err
}

// Held says whether the lock is still ours: nil or ErrLost.
func (l *Lock) Held() error {
	st, err := stat(l.dir, l.name)
	if err == nil && uint64(st.Dev) == l.id.dev && st.Ino == l.id.ino {
		return nil
	}
	if err == nil || err == unix.ENOENT {
		err = ErrLost
	}
	return fmt.Errorf("dotlock: %s/%s: %w", l.dir.Name(), l.name, err)
}

// Touch tells other hosts that the owner is alive. It is for work that may take
// more than a part of Options.Stale.
func (l *Lock) Touch() error {
	// By our own clock; the file's ctime is set by the right one meanwhile.
	now := unix.NsecToTimespec(time.Now().UnixNano())
	err := unix.UtimesNanoAt(int(l.dir.Fd()), l.name, []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW)
	runtime.KeepAlive(l.dir)
	if err != nil {
		return fmt.Errorf("dotlock: touch %s/%s: %w", l.dir.Name(), l.name, err)
	}
	return l.Held()
}

// Unlock gives the lock back. What another holds by now is left alone.
func (l *Lock) Unlock() error {
	if l.f == nil {
		return nil
	}
	defer l.f.Close()
	l.f = nil
	if err := l.Held(); err != nil {
		return err
	}
	return l.ops.Unlink(l.dir, l.name)
}

// Replace gives the file the new content text, on disk when it returns nil, and
// gives the lock back: the lock's file becomes the file, in one rename. After
// an error the old content is there, or the new one if only the last sync
// failed.
func (l *Lock) Replace(text []byte) error {
	err := l.ops.Write(l.f, text)
	if err == nil {
		err = l.ops.Sync(l.f)
	}
	if err == nil {
		err = l.Held()
	}
	if err != nil {
		l.Unlock()
		return err
	}
	err = l.ops.Rename(l.dir, l.name, l.dir, l.file)
	if err != nil {
		l.Unlock()
		return err
	}
	err = l.ops.Close(l.f)
	l.f = nil
	if err != nil {
		return err
	}
	return l.ops.SyncDir(l.dir)
}

// breakStale removes the lock if its owner is dead; broken also says that it
// went away by itself.
func (l *Lock) breakStale(stale time.Duration) (broken bool, err error) {
	st, err := stat(l.dir, l.name)
	if err == unix.ENOENT || err == unix.ESTALE {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch l.owner() {
	case alive:
		return false, nil
	case unknown:
		changed := lastChange(&st)
		if st, err := stat(l.dir, l.file); err == nil {
			changed = later(changed, lastChange(&st))
		}
		if time.Since(changed) <= stale {
			return false, nil
		}
		now, err := l.fileTime()
		if err != nil || now.Sub(changed) <= stale {
			return false, err
		}
	}
	aside := l.asideName()
	if err := l.ops.Rename(l.dir, l.name, l.dir, aside); err != nil {
		return errors.Is(err, fs.ErrNotExist), ignore(err, fs.ErrNotExist)
	}
	moved, err := stat(l.dir, aside)
	if err == nil && identify(&moved) != identify(&st) {
		err = l.ops.Publish(l.dir, aside, l.dir, l.name)
		if !errors.Is(err, fs.ErrExist) {
			return false, err
		}
		// A third has the lock already. Who had this one is told by Held.
	}
	return true, ignore(l.ops.Unlink(l.dir, aside), fs.ErrNotExist)
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

type state int

const (
	unknown state = iota
	alive
	dead
)

// owner asks after the process that the lock names.
func (l *Lock) owner() state {
	fd, err := unix.Openat(int(l.dir.Fd()), l.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return unknown
	}
	p := make([]byte, 512)
	n, _ := unix.Read(fd, p)
	unix.Close(fd)
	number, host, ok := strings.Cut(strings.TrimSuffix(string(p[:max(n, 0)]), "\n"), ":")
	pid, err := strconv.ParseInt(number, 10, 32)
	if here, _ := os.Hostname(); !ok || err != nil || pid <= 0 || host != here || int(pid) == os.Getpid() {
		return unknown
	}
	if unix.Kill(int(pid), 0) == unix.ESRCH {
		return dead
	}
	return alive
}

func lastChange(st *unix.Stat_t) time.Time {
	return later(time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix()))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// fileTime is the present time by the clock that stamps files here.
func (l *Lock) fileTime() (time.Time, error) {
	name := l.asideName()
	f, err := l.ops.Create(l.dir, name, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	defer l.ops.Unlink(l.dir, name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return st.ModTime(), nil
}

func (l *Lock) asideName() string {
	return l.name + "." + strconv.FormatUint(rand.Uint64(), 36)
}
