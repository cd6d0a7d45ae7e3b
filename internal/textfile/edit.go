package textfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// Owner is whose a new file is, and its mode; a uid or gid of -1 is whoever makes it.
type Owner struct {
	Mode     fs.FileMode
	UID, GID int
}

// maxEdits is how often a file may change under an edit before that is given up.
const maxEdits = 10

// Edit changes a file as a whole: change gets its text, "" of one that is missing, and returns what it is to be. The file keeps its owner and mode; fresh is for a new one. What is there after
// a crash is the old text or the new one. Of a symbolic link it is the file behind that is changed.
//
// Two edits wait for each other, by a lock file beside it. An editor knows nothing of that: what it has written meanwhile is found, and change called again with it. (What it writes in the
// moment between that look and the rename is lost, as it is to any other editor.)
func Edit(path string, fresh Owner, change func(text string) (string, error)) error {
	return edit(path, fresh, change, nil)
}

func edit(path string, fresh Owner, change func(text string) (string, error), ops *durable.Ops) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	for range maxEdits {
		before, err := state(path)
		if err != nil {
			return err
		}
		text, is := "", fresh
		if before != nil {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text, is = string(b), Owner{before.Mode().Perm(), -1, -1}
			if s, ok := before.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
				is.UID, is.GID = int(s.Uid), int(s.Gid)
			}
		}
		changed, err := change(text)
		if err != nil || changed == text {
			return err
		}
		after, err := state(path)
		if err != nil {
			return err
		}
		if before == nil && after == nil || before != nil && after != nil && same(before, after) {
			return ops.WriteFileOwned(path, []byte(changed), is.Mode, is.UID, is.GID)
		}
	}
	return fmt.Errorf("%s: others change it all the time", path)
}

// state is nil for a file that is missing.
func state(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}
