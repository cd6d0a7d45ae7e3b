package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// youngLinks is how long a file with two names may be in the midst of being renamed, by a program that links and unlinks. Dovecot waits as long.
const youngLinks = 30 * time.Second

// twins are two files with one base.
type twins [2]found

// links tells whether both are names of one file, whose status that is.
func (b *Mailbox) links(p twins) (st unix.Stat_t, yes bool) {
	var other unix.Stat_t
	if p[0] == p[1] || unix.Fstatat(int(b.where(p[0]).Fd()), p[0].name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil ||
		unix.Fstatat(int(b.where(p[1]).Fd()), p[1].name, &other, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return st, false
	}
	return st, st.Ino == other.Ino && st.Dev == other.Dev && st.Nlink > 1
}

func (b *Mailbox) where(f found) *os.File {
	if f.new {
		return b.new
	}
	return b.cur
}

// unite gives a file that has two names one, with the flags of both: a program that links and unlinks was killed between, and nobody knows which flags are the
// newer ones. Dovecot removes one of the names too, under the lock of the list as we do, so that not both of us remove one. Files of different content stay. young:
// there is one that another may still be about to rename; united: how many there were.
func (b *Mailbox) unite(all []twins) (united int, young bool, err error) {
	var old []twins
	for _, p := range all {
		if st, yes := b.links(p); yes && time.Since(time.Unix(st.Ctim.Unix())) < b.young {
			young = true
		} else if yes {
			old = append(old, p)
		}
	}
	if len(old) == 0 {
		return 0, young, nil
	}
	tx, err := b.list.Lock(context.Background())
	if err != nil {
		return 0, young, fmt.Errorf("mailbox: %w", err)
	}
	defer tx.Unlock()
	for _, p := range old {
		if st, yes := b.links(p); !yes || time.Since(time.Unix(st.Ctim.Unix())) < b.young {
			continue // others were quicker
		}
		if err := b.uniteTwo(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return united, young, fmt.Errorf("mailbox: two names of one message: %w", err)
		}
		united++
	}
	return united, young, nil
}

func (b *Mailbox) uniteTwo(p twins) error {
	keep, other := p[0], p[1]
	if keep.new {
		keep, other = other, keep
	}
	_, f, k := parseName(keep.name)
	_, g, l := parseName(other.name)
	to := keep
	if f|g != f || k|l != k {
		to = found{name: rename(keep.name, f|g, k|l)}
	}
	if to == other {
		keep, other = other, keep
	}
	if to != keep {
		if err := b.moveName(b.where(keep), keep.name, to.name); err != nil {
			return err
		}
	}
	return b.ops.Unlink(b.where(other), other.name)
}

// unlinkOthers removes the other names of a file that is removed or moved under one: the message would come back under them. The directories are read for
// that once in a command, when a file has more than one link; copies are links too, under other bases, and stay.
func (e *editing) unlinkOthers(dir *os.File, name string, st *unix.Stat_t) error {
	if st.Nlink < 2 {
		return nil
	}
	if e.twice == nil {
		known, err := e.x.allNames()
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		files, err := e.b.files()
		if err != nil {
			return err
		}
		e.twice = make(map[string][]twins)
		for _, p := range compare(e.x.messages, func(i int) string { return known[i] }, files).twice {
			base := baseOf(p[0].name)
			e.twice[base] = append(e.twice[base], p)
		}
	}
	this := found{name, dir == e.b.new}
	for _, p := range e.twice[baseOf(name)] {
		for _, f := range p {
			if _, yes := e.b.links(twins{this, f}); !yes {
				continue
			}
			if err := e.b.ops.Unlink(e.b.where(f), f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("mailbox: another name of a message: %w", err)
			}
			e.touch(e.b.where(f))
		}
	}
	return nil
}
