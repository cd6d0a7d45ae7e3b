// Package forward reads the forward files of users: forward(5). It runs as the user whose home it is.
//
// For user+tag the files are, each once, in the order of the names that are configured, and the first that is there counts:
//
//	.forward    .forward+tag, .forward
//	.qmail      .qmail-tag, for each "-" in the tag .qmail-...-default, .qmail-default, .qmail
//
// Those with the tag go before those without, whatever their names. A tag with a slash has no file of its own.
//
// Who can write a user's forward file can run programs as the user. So what is there must be safe, or mail waits, which is an error here:
//
//	the home is missing, or not a directory    it may be on a file server that is down
//	it has the sticky bit                      the user is at work on it (dot-qmail(5))
//	it, or the file, is another's than the user's or root's
//	it, or the file, can be written by its group or by everyone; of the home that is asked only if there is such a file
//	the file is a symbolic link, no ordinary file, larger than 64 KiB, or not text
//
// Homes "/" and "/nonexistent" are none.
package forward

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/alias"
)

// MaxFile is the size of a forward file, in octets, and MaxTargets how many targets it may have.
const (
	MaxFile    = 64 << 10
	MaxTargets = 100
)

// Files says which files are looked for. It may be used by any number of goroutines.
type Files struct {
	Names      []string // ".forward" and ".qmail", in the order in which they count
	Delimiters string   // the first of which stands in the names of .forward files for tags

	mu   sync.Mutex
	none map[string]state // homes without a file, by home and tag
}

// state is what a directory is known again by: a file in it that is made or removed changes it.
type state struct {
	dev, ino     uint64
	mode         uint32
	mtime, ctime unix.Timespec
}

const (
	maxNone = 10_000
	// grain is more than the grain of any file system's times: a directory that was changed less long ago may change again and bear the same.
	grain = 2 * time.Second
)

// isNone tells that a home had no file for a tag when it was looked at last, and has not changed since: one system call instead of five, for most mail.
func (f *Files) isNone(home, tag string) bool {
	var st unix.Stat_t
	f.mu.Lock()
	known, ok := f.none[home+"\x00"+tag]
	f.mu.Unlock()
	return ok && unix.Stat(home, &st) == nil && known == stateOf(&st)
}

func (f *Files) noteNone(home, tag string, st *unix.Stat_t) {
	if time.Since(time.Unix(st.Ctim.Unix())) < grain {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.none == nil || len(f.none) >= maxNone {
		f.none = make(map[string]state)
	}
	f.none[home+"\x00"+tag] = stateOf(st)
}

func stateOf(st *unix.Stat_t) state {
	return state{uint64(st.Dev), st.Ino, uint32(st.Mode), st.Mtim, st.Ctim}
}

// File is what a forward file says.
type File struct {
	Path    string
	Targets []alias.Target
	QMail   bool // it is a .qmail file
}

// Look finds what holds for a tag in a home of the user that we are; nil if no file does, or it says nothing. An error is for now.
func (f *Files) Look(home, tag string) (*File, error) { return f.LookFor(os.Geteuid(), home, tag) }

// LookFor is Look in the home of another user, for root who wants to see what the user would. What the user cannot read, root may.
func (f *Files) LookFor(uid int, home, tag string) (*File, error) {
	if len(f.Names) == 0 || home == "" || home == "/" || home == "/nonexistent" {
		return nil, nil
	}
	if f.isNone(home, tag) {
		return nil, nil
	}
	dir, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open home", Path: home, Err: err}
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: home, Err: err}
	}
	if st.Mode&unix.S_ISVTX != 0 {
		return nil, fmt.Errorf("%s has the sticky bit: its mail waits (chmod -t lets it in)", home)
	}
	for _, name := range f.names(tag) {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT || err == unix.ENAMETOOLONG {
			continue
		}
		path := filepath.Join(home, name)
		if err == unix.ELOOP {
			err = errors.New("a symbolic link")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		file := os.NewFile(uintptr(fd), path)
		defer file.Close()
		if err := safe(home, &st, uid); err != nil {
			return nil, err
		}
		return read(file, home, uid, strings.HasPrefix(name, ".qmail"))
	}
	f.noteNone(home, tag, &st)
	return nil, nil
}

func read(file *os.File, home string, uid int, qmail bool) (*File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: file.Name(), Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s: not a regular file", file.Name())
	case st.Size > MaxFile:
		return nil, fmt.Errorf("%s: larger than %d KiB", file.Name(), MaxFile>>10)
	}
	if err := safe(file.Name(), &st, uid); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d KiB", file.Name(), MaxFile>>10)
	}
	x := &File{Path: file.Name(), QMail: qmail}
	if qmail {
		x.Targets, err = alias.ParseQMail(file.Name(), string(text), home)
	} else {
		x.Targets, err = alias.ParseForward(file.Name(), string(text))
	}
	switch {
	case err != nil:
		return nil, err
	case len(x.Targets) > MaxTargets:
		return nil, fmt.Errorf("%s: more than %d targets", file.Name(), MaxTargets)
	case len(x.Targets) == 0:
		return nil, nil
	}
	return x, nil
}

// safe refuses what others than the user and root may have written.
func safe(path string, st *unix.Stat_t, uid int) error {
	switch {
	case st.Uid != 0 && int(st.Uid) != uid:
		return fmt.Errorf("%s belongs to uid %d, not to uid %d (chown mends it)", path, st.Uid, uid)
	case st.Mode&0o002 != 0:
		return fmt.Errorf("%s: writable by everyone (chmod o-w mends it)", path)
	case st.Mode&0o020 != 0:
		return fmt.Errorf("%s: writable by its group (chmod g-w mends it)", path)
	}
	return nil
}

// names are the files that may hold for a tag.
func (f *Files) names(tag string) []string {
	names := make([]string, 0, 8)
	if tag != "" && strings.IndexByte(tag, '/') < 0 {
		for _, n := range f.Names {
			if n == ".forward" && f.Delimiters != "" {
				names = append(names, n+f.Delimiters[:1]+tag)
				if lower := strings.ToLower(tag); lower != tag {
					names = append(names, n+f.Delimiters[:1]+lower)
				}
			}
			if n == ".qmail" {
				names = append(names, qmailNames(tag)...)
			}
		}
	}
	return append(names, f.Names...)
}

// qmailNames: lower case, dots are colons (dot-qmail(5)).
func qmailNames(tag string) []string {
	tag = strings.ReplaceAll(strings.ToLower(tag), ".", ":")
	names := []string{".qmail-" + tag}
	for i, c := range slices.Backward([]byte(tag)) {
		if c == '-' && len(names) < 20 {
			names = append(names, ".qmail-"+tag[:i+1]+"default")
		}
	}
	return append(names, ".qmail-default")
}
