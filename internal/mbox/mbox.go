// Package mbox appends messages to a file in which mail programs read them one after another, as those below /var/mail: the targets "/file" of
// aliases and forward files. It reads none; mailboxctl(8) does.
//
// A message is, in Postfix's form,
//
//	From sender  Thu Nov 26 10:00:00 2026     local time; MAILER-DAEMON for the null sender
//	header and text                           lines "From ", ">From ", ">>From " ... get a ">" more (mboxrd)
//	(empty line)
//
// Fields in which readers of an mbox keep what they know of a message (Status, X-Status, X-Keywords, X-UID, X-IMAP, X-IMAPbase) are left out: the
// sender has nothing to say there. So is Content-Length, which some readers believe more than the lines "From ".
//
// What an Append does, and what a crash leaves behind:
//
//	step                                                  the file                         a repeated attempt, suspect
//	1 open, or make; fcntl lock, then FILE.lock           as it was, or empty              appends
//	2 of a file that is empty, fsync of its directory     the same                         appends
//	3 write the message, after an empty line if there     perhaps a part, at the end       takes the part away, appends
//	  is none at the end
//	4 fsync                                               perhaps the message              finds it
//	5 give the locks back                                 the message                      finds it
//
// An error in 3 or 4 cuts the file back to its old length, synced. When that fails too, the error is ErrUnknown. What a crash has left is a last message
// that ends somewhere; the empty line in front of the next one is all that other messages need.
//
// Both locks, since readers know one or the other. None is waited for while the other is held, so their order does not matter to who takes
// them the other way round. In a directory where we may make no file there is only fcntl's, as with Postfix.
//
// An attempt is suspect when an earlier one may have come to step 3 unnoticed. It looks for the message in the last 256 MiB: for a header that
// has Entry.ID, followed by the same text to the end. It is not found, and appended once more, when its reader has removed, moved or edited it. A
// part of it is taken away while nothing follows it; otherwise it stays, and the whole message comes after it.
//
// Who can read a file that is replaced, linked or swapped beneath us is its owner alone: it is opened only when it is a regular file of ours, with one
// name, and not by a symbolic link. Of the directories above only their owners' good will is asked.
package mbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/dotlock"
	"postamt/internal/durable"
)

// The errors that a caller may ask for. All others are of the system. What is wrong may be put right by the owner of the file, or by time: each
// is a temporary failure.
var (
	ErrLocked  = errors.New("mailbox is locked by another program")
	ErrUnsafe  = errors.New("mailbox is not safe to write to")
	ErrUnknown = errors.New("the message may be in the mailbox, whole or in part") // the next attempt is suspect
)

const (
	staleLock   = 5 * time.Minute // as liblockfile has it
	defaultWait = 30 * time.Second
	dotWait     = 20 * time.Millisecond
	searchBack  = 256 << 20
	bufferSize  = 64 << 10
)

// Entry is a message for an mbox.
type Entry struct {
	Sender string    // of the envelope, as addr prints it; "": null
	Date   time.Time // of arrival: the same at each attempt
	Header []byte    // fields that stand above those of Message, as deliveries add them; may be empty
	// Message has lines that end with LF. It is read from its beginning, more than once for a suspect attempt, and need not fit into memory.
	Message io.ReadSeeker
	// ID stands in a line of the header, Received for example, and in the header of no other message.
	ID      string
	Suspect bool // it may have been appended before
}

// Options say how messages are appended.
type Options struct {
	Wait time.Duration // for the locks, at most; 0: 30 seconds
	Ops  *durable.Ops  // nil but in tests
}

// Append puts a message at the end of the mbox path, which is made with mode 0600 if it is missing. When it returns nil the message is on disk. After
// an error the file is as it was, but for ErrUnknown. May be called from several goroutines and processes.
func Append(ctx context.Context, path string, e Entry, o Options) error {
	dir, err := durable.OpenDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("mbox: %w", err)
	}
	defer dir.Close()
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Wait, ErrLocked)
	defer cancel()
	f := file{dir: dir, name: filepath.Base(path), ops: o.Ops}
	if err := f.open(ctx); err != nil {
		return fmt.Errorf("mbox: %s: %w", path, err)
	}
	defer f.close()
	if err := f.append(e); err != nil {
		return fmt.Errorf("mbox: %s: %w", path, err)
	}
	return nil
}

// file is an mbox, open and locked.
type file struct {
	dir  *os.File
	name string
	ops  *durable.Ops
	*os.File
	dot  *dotlock.Lock // nil: we may make none
	size int64         // before
	read time.Time     // by others
}

// open opens the file and locks it.
func (f *file) open(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 256*time.Millisecond) {
		if err := f.openFile(); err != nil {
			return err
		}
		locked, err := f.lock(ctx)
		if err == nil && locked {
			// Who had the lock may have put another file in its place.
			var there, is unix.Stat_t
			if there, err = f.look(); err == nil {
				err = unix.Fstat(int(f.Fd()), &is)
			}
			if err == nil && there.Dev == is.Dev && there.Ino == is.Ino {
				f.size, f.read = is.Size, time.Unix(is.Atim.Unix())
				return nil
			}
			if err == unix.ENOENT {
				err = nil
			}
		}
		f.close()
		if err != nil {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

func (f *file) close() {
	if f.dot != nil {
		f.dot.Unlock() // who has broken it holds it now, and what else can fail leaves a lock that others break
		f.dot = nil
	}
	f.File.Close() // with the other lock; what there was to report fsync has reported
}

// look says what is at the name, or why that is not to be written to.
func (f *file) look() (st unix.Stat_t, err error) {
	if err = unix.Fstatat(int(f.dir.Fd()), f.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, err
	}
	return st, safe(&st)
}

func safe(st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return fmt.Errorf("%w: it is a symbolic link", ErrUnsafe)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: it is no regular file", ErrUnsafe)
	case st.Nlink != 1:
		return fmt.Errorf("%w: it has %d names", ErrUnsafe, st.Nlink)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: it belongs to user %d, not %d", ErrUnsafe, st.Uid, os.Geteuid())
	}
	return nil
}

// openFile opens the file, or makes it.
func (f *file) openFile() error {
	for {
		// Before it is opened: to open a device can do something.
		_, err := f.look()
		if err == unix.ENOENT {
			f.File, err = f.ops.Create(f.dir, f.name, 0o600)
			if os.IsExist(err) {
				continue
			}
			if err == nil {
				f.File.Close()
				continue // to be opened as any other
			}
		}
		if err != nil {
			return err
		}
		fd, err := unix.Openat(int(f.dir.Fd()), f.name, unix.O_RDWR|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT || err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		f.File = os.NewFile(uintptr(fd), f.dir.Name()+"/"+f.name)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			f.File.Close()
			return err
		}
		if err := safe(&st); err != nil && st.Nlink != 0 { // 0: removed meanwhile
			f.File.Close()
			return err
		}
		return nil
	}
}

// lock takes both locks, or neither.
func (f *file) lock(ctx context.Context) (bool, error) {
	if locked, err := lockFile(f.File); !locked {
		return false, err
	}
	var err error
	f.dot, err = dotlock.Acquire(ctx, f.dir, f.name, dotlock.Options{Stale: staleLock, Timeout: dotWait, Ops: f.ops})
	switch {
	case err == nil, errors.Is(err, fs.ErrPermission):
		return true, nil
	case errors.Is(err, dotlock.ErrTimeout), ctx.Err() != nil:
		return false, nil
	}
	return false, err
}

// append does steps 2 to 4.
func (f *file) append(e Entry) error {
	if e.Suspect && f.size > 0 {
		found, err := f.search(e)
		if err != nil {
			return err
		}
		if found {
			// Whoever wrote it may not have come to that.
			return f.ops.Sync(f.File)
		}
	}
	if f.size == 0 {
		// Now and not after the message: of a file with something in it nobody asks whether its name is permanent.
		if err := f.ops.SyncDir(f.dir); err != nil {
			return err
		}
	}
	err := f.write(e)
	// Mail is new to shells and readers when the file was changed later than read, and we have read the end. It matters to nothing else.
	os.Chtimes(f.Name(), f.read, time.Time{})
	if err == nil {
		err = f.ops.Sync(f.File)
	}
	if err == nil {
		return nil
	}
	undo := f.Truncate(f.size)
	if undo == nil {
		undo = f.ops.Sync(f.File)
	}
	if undo != nil {
		return fmt.Errorf("%w: %w; cut it back: %w", ErrUnknown, err, undo)
	}
	return err
}

// write writes the message behind what is there.
func (f *file) write(e Entry) error {
	w := bufio.NewWriterSize(stepWriter{f}, bufferSize)
	if f.size > 0 {
		var end [2]byte
		n := min(f.size, 2)
		if _, err := f.ReadAt(end[2-n:], f.size-n); err != nil {
			return err
		}
		switch {
		case end[1] != '\n':
			w.WriteString("\n\n")
		case end[0] != '\n':
			w.WriteByte('\n')
		}
	}
	w.WriteString("From " + postmark(e) + "\n")
	if err := copyMessage(w, w, e); err != nil {
		return err
	}
	return w.Flush()
}

// postmark is what follows "From ". Readers divide it at spaces.
func postmark(e Entry) string {
	sender := e.Sender
	if sender == "" {
		sender = "MAILER-DAEMON"
	}
	sender = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, sender)
	return sender + "  " + e.Date.Local().Format(time.ANSIC)
}

type stepWriter struct{ f *file }

func (w stepWriter) Write(p []byte) (int, error) {
	if err := w.f.ops.Write(w.f.File, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
