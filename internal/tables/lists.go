package tables

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postamt/internal/alias"
)

// MaxList is the size of a list file, in octets.
const MaxList = 16 << 20

// maxCached bounds the text whose targets are kept.
const maxCached = 64 << 20

// lists reads list files when an expansion reaches them, and keeps them while they do not change. It is route.Lists.
type lists struct {
	set *Set

	mu    sync.Mutex
	cache map[string]*list
	size  int64 // of the texts
}

// list is what one file said.
type list struct {
	info   fs.FileInfo // nil with a file that is not there
	is     *alias.List
	err    error
	looked time.Duration // since Set.start
}

var errRelative = errors.New("not an absolute path")

// List is what a list file says. The caller does not change it. An error is temporary: the file cannot be read, is too large,
// or others than its owner may write it.
func (l *lists) List(path string) (*alias.List, error) {
	if !filepath.IsAbs(path) {
		return nil, &fs.PathError{Op: "read list", Path: path, Err: errRelative}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := l.set.now().Sub(l.set.start)
	old := l.cache[path]
	if old != nil {
		if elapsed-old.looked < interval {
			return old.is, old.err
		}
		old.looked = elapsed
		// One that could not be read is tried anew: what was wrong need not be in its state.
		if info, err := os.Stat(path); err == nil && old.err == nil &&
			(sameState(old.info, info) || !rested(old.info, info, l.set.now())) {
			return old.is, nil
		}
	}
	x := &list{looked: elapsed}
	var text string
	var problems []alias.Problem
	text, x.info, x.err = read(path, MaxList, 0o022)
	if x.err == nil {
		x.is, problems, x.err = alias.ParseList(path, text)
	}
	if old != nil && old.err == nil {
		l.size -= old.info.Size()
	}
	if x.err == nil {
		l.size += x.info.Size()
	}
	if l.size > maxCached || len(l.cache) > 10000 {
		clear(l.cache)
		l.size = 0
		if x.err == nil {
			l.size = x.info.Size()
		}
	}
	l.cache[path] = x
	if x.err != nil && (old == nil || old.err == nil || old.err.Error() != x.err.Error()) {
		l.set.tell(x.err)
	}
	for _, p := range problems {
		l.set.tell(p)
	}
	return x.is, x.err
}
