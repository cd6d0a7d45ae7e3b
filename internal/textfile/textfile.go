// Package textfile is a table that lives in a text file: parsed, kept, and parsed again when the file has changed, which is
// noticed by stat at each use and needs no signal. Text that cannot be used leaves the last good value in force. A file that
// everyone may write is not used: whoever writes it would decide.
package textfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
)

// File is such a table. Set the fields before the first Get; it is safe for concurrent use.
type File[T any] struct {
	Path   string
	Max    int64 // octets
	Parse  func(path, text string) (T, error)
	Report func(error) // of a change that cannot be used, once for each

	mu    sync.Mutex
	seen  fs.FileInfo // of the last reading, good or bad; nil: there was nothing to read
	told  bool        // seen has been reported
	good  bool        // there is a value
	value T
}

// Get is the value of now. The error says that there never was a good one.
func (f *File[T]) Get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.Path)
	if err == nil && f.seen != nil && same(f.seen, info) {
		if !f.good {
			err = fmt.Errorf("%s cannot be used", f.Path)
		}
		return f.value, err
	}
	var text string
	if err == nil {
		text, info, err = readFile(f.Path, f.Max)
	}
	var v T
	if err == nil {
		v, err = f.Parse(f.Path, text)
	}
	if err != nil {
		if (f.seen != nil || f.good) && !(f.told && f.seen == nil && info == nil) {
			f.Report(err)
		}
		f.seen, f.told = info, true
		if f.good {
			return f.value, nil
		}
		return v, err
	}
	f.seen, f.told, f.value, f.good = info, false, v, true
	return v, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) &&
		a.Mode() == b.Mode() // chmod o-w is what was asked for, and leaves the time as it is
}

// readFile reads a regular file of at most max octets. It never waits, as a FIFO of that name would make it.
func readFile(path string, max int64) (string, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", nil, err
	case !info.Mode().IsRegular():
		return "", info, fmt.Errorf("%s: not a regular file", path)
	case info.Mode().Perm()&0o002 != 0:
		return "", info, fmt.Errorf("%s: everyone may write it; chmod o-w %s", path, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	switch {
	case err != nil:
		return "", info, err
	case int64(len(b)) > max:
		return "", info, fmt.Errorf("%s: more than %d octets", path, max)
	case len(b) == 0 && info.Size() > 0:
		return "", info, errors.New(path + ": it was cut while it was read")
	}
	// A byte order mark, which some editors put there, would be the beginning of the first name.
	return strings.TrimPrefix(string(b), "\ufeff"), info, nil
}
