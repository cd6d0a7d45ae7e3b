package maildir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// find looks for a message that an earlier attempt may have stored: by its
// name, then in new/ and cur/ of every folder of the maildir by its stem,
// because the owner may have read it or filed it away, then for a tombstone.
// It returns the name under which the message is (or was), and "" when it is
// nowhere. A copy that is found is made durable first: the earlier attempt may
// have died before its directory sync.
func (b *box) find(stem, name string) (string, error) {
	if size, err := sizeOf(b.new, name); err == nil && size == sizeInName(name) {
		if err := b.settle(); err != nil {
			return "", err
		}
		return name, b.group.Sync(b.new)
	}
	folders, err := b.inbox.folders()
	if err != nil {
		return "", err
	}
	for _, folder := range folders {
		found, err := b.findIn(folder, stem)
		if found != "" || err != nil {
			return found, err
		}
	}
	return "", nil
}

// folders lists the directories of the folders, INBOX (".") first.
func (b *box) folders() ([]string, error) {
	names := []string{"."}
	err := scan(b.root, ".", func(name string) error {
		if len(name) > 1 && name[0] == '.' && name != ".." {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

var errFound = errors.New("found") // ends a scan

func (b *box) findIn(folder, stem string) (found string, err error) {
	root, err := openDir(b.inbox.root, folder)
	if err != nil {
		// Removed this moment, or a file that only looks like a folder.
		if err == unix.ENOENT || err == ErrUnsafe {
			return "", nil
		}
		return "", fmt.Errorf("open %s: %w", folder, err)
	}
	defer root.Close()
	// In the order in which messages move, so that none passes us by.
	for _, sub := range []string{"new", "cur", "tmp"} {
		err := scan(root, sub, func(name string) error {
			if sub == "tmp" && strings.HasSuffix(name, goneMany) {
				n, err := buried(root, name, stem)
				if err == nil && n != "" {
					found, err = n, errFound
				}
				return err
			}
			if !hasStem(name, stem) {
				return nil
			}
			if sub == "tmp" {
				if n, ok := strings.CutSuffix(name, goneOne); ok {
					found = n
					return errFound
				}
				return nil
			}
			whole, err := b.confirm(root, sub, name)
			if err == nil && whole {
				found = name
				return errFound
			}
			return err
		})
		if err == errFound {
			return found, nil
		}
		if err != nil && err != unix.ENOENT && err != ErrUnsafe {
			return "", fmt.Errorf("scan %s/%s: %w", folder, sub, err)
		}
	}
	return "", nil
}

// buried looks for a message in a tombstone of many, and returns the name that it had.
func buried(root *os.File, tombstone, stem string) (name string, err error) {
	tmp, err := openDir(root, "tmp")
	if err != nil {
		return "", err
	}
	defer tmp.Close()
	f, err := openFile(tmp, tombstone)
	if err != nil {
		return "", ignoreMissing(err) // swept this moment
	}
	defer f.Close()
	lines := bufio.NewScanner(f) // a line that is too long for it is none of ours
	for lines.Scan() {
		if hasStem(lines.Text(), stem) {
			return lines.Text(), nil
		}
	}
	return "", nil
}

// confirm makes a found copy durable. One that a crash has cut short is set
// aside instead, and is not the message.
func (b *box) confirm(root *os.File, sub, name string) (whole bool, err error) {
	dir, err := openDir(root, sub)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	size, err := sizeOf(dir, name)
	if err == unix.ENOENT {
		// Renamed since: flags change at any time, the message is there all the same.
		return true, b.ops.SyncDir(dir)
	}
	if err != nil {
		return false, err
	}
	if want := sizeInName(name); want >= 0 && size != want {
		return false, b.setAside(dir, name)
	}
	return true, b.ops.SyncDir(dir)
}

// setAside moves a damaged file out of the reader's sight, for a day and a
// half, until the sweeper takes it.
func (b *box) setAside(dir *os.File, name string) error {
	aside := tempName(name) + ".damaged"
	if len(aside) > maxName {
		aside = aside[len(aside)-maxName:]
	}
	return b.ops.Rename(dir, name, b.tmp, aside)
}

// errRestless means that a directory changed during every reading of it. What was not seen may be there.
var errRestless = errors.New("it changes all the time")

// grain is how long after a change another one has another time, for certain: file systems take it from the kernel's tick.
const grain = 20 * time.Millisecond

// scan calls f with each name in a subdirectory. readdir can miss an entry that
// is renamed meanwhile, so a directory that changed is read again, f seeing
// names twice. One that never rests is errRestless: whoever takes "not seen" for
// "not there" delivers a message twice.
func scan(parent *os.File, sub string, f func(name string) error) error {
	for range 20 {
		dir, err := openDir(parent, sub)
		if err != nil {
			return err
		}
		before, err := changed(dir)
		// A change in the same tick would not show.
		if age := time.Since(before); err == nil && age >= 0 && age < grain {
			time.Sleep(grain - age)
			before, err = changed(dir)
		}
		for err == nil {
			var names []string
			names, err = dir.Readdirnames(512)
			for _, name := range names {
				if err := f(name); err != nil {
					dir.Close()
					return err
				}
			}
		}
		after, statErr := changed(dir)
		dir.Close()
		if err != io.EOF {
			return err
		}
		if statErr == nil && after.Equal(before) {
			return nil
		}
	}
	return errRestless
}

func changed(dir *os.File) (time.Time, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(dir.Fd()), &st)
	return time.Unix(st.Mtim.Unix()), err
}
