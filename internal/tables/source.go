package tables

import (
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/alias"
	"postamt/internal/route"
	"postamt/internal/userdb"
)

// kind is what a source is for.
type kind int

const (
	localDomains kind = iota
	virtualDomains
	relayDomains
	localAliases
	virtualAliases
	usersFile
	routesFile
)

// source is one file and the last good value of it.
type source struct {
	kind     kind
	path     string
	optional bool

	seen    fs.FileInfo // of the last reading, good or bad; nil: it was not there
	version uint64      // of the text of the value; 0: never read
	trouble string      // what was reported last

	compiled fs.FileInfo // of the file beside that of aliases, when it was looked at; nil: there was none
	broken   fs.FileInfo // of the one that could not be read while it was in use
	brokenBy error
	said     string // what was reported of it last

	aliases *alias.Table
	users   *userdb.Table
	routes  *route.Routes
	domains []string
	lines   []int32 // of domains
}

func sources(f Files) []*source {
	var l []*source
	add := func(k kind, paths ...string) {
		for _, p := range paths {
			if p != "" {
				l = append(l, &source{kind: k, path: p, optional: slices.Contains(f.Optional, p)})
			}
		}
	}
	add(localDomains, f.LocalDomains.Files...)
	add(virtualDomains, f.VirtualDomains.Files...)
	add(relayDomains, f.RelayDomains.Files...)
	add(localAliases, f.Aliases...)
	add(virtualAliases, f.VirtualAliases...)
	add(usersFile, f.Users)
	add(routesFile, f.Routes)
	return l
}

func (src *source) at(i int) alias.Pos { return alias.Pos{File: src.path, Line: src.lines[i]} }

// fresh: there was never a value.
func (src *source) fresh() bool { return src.version == 0 }

// changed: the file is to be read again.
func (src *source) changed(now time.Time) bool {
	if src.kind == localAliases || src.kind == virtualAliases {
		info, err := os.Stat(src.path + alias.Compiled)
		if was := src.compiled; (was == nil) != (err != nil) || was != nil && !sameState(was, info) || src.aliases.Err() != nil {
			return true
		}
	}
	info, err := os.Stat(src.path)
	switch {
	case err != nil:
		return src.seen != nil // else it was not there before, and that has been said
	case src.seen == nil:
		return true
	case sameState(src.seen, info):
		return false
	}
	return rested(src.seen, info, now)
}

func sameState(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode() && ownerOf(a) == ownerOf(b)
}

// ownerOf is whose a file is: of who had it before, what he has compiled is not believed any more.
func ownerOf(i fs.FileInfo) uint32 {
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// rested: b, which is not in the state of a, is not being written. A time in the future says nothing, and is believed.
func rested(a, b fs.FileInfo, now time.Time) bool {
	age := now.Sub(b.ModTime())
	return !os.SameFile(a, b) || age < 0 || age >= interval
}

// load reads the file. A value that is no good leaves src as it was, but for what was seen.
func (s *Set) load(src *source) error {
	if src.kind == localAliases || src.kind == virtualAliases {
		return s.loadAliases(src)
	}
	text, info, err := read(src.path, src.limit(), 0o002)
	src.seen = info
	if err != nil {
		return err
	}
	version := maphash.String(s.seed, text) | 1
	if version == src.version {
		return nil
	}
	var problems []error
	switch src.kind {
	case usersFile:
		t, p, err := userdb.Parse(src.path, text)
		if err != nil {
			return err
		}
		src.users = t
		for _, x := range p {
			problems = append(problems, x)
		}
	case routesFile:
		t, p, err := route.ParseRoutes(src.path, text)
		if err != nil {
			return err
		}
		src.routes = t
		for _, x := range p {
			problems = append(problems, x)
		}
	default:
		names, lines, p := parseDomains(src.path, text)
		if len(names) == 0 && len(p) > 0 {
			return fmt.Errorf("%w (and there is no good line)", p[0])
		}
		src.domains, src.lines, problems = names, lines, p
	}
	src.version = version
	for _, p := range problems {
		s.tell(p)
	}
	return nil
}

// limit is how many octets the file may have.
func (src *source) limit() int64 {
	if src.kind == usersFile {
		return userdb.MaxFile
	}
	return route.MaxRoutes
}

// parseDomains reads a file of domains, one a line.
func parseDomains(file, text string) (names []string, lines []int32, problems []error) {
	n := int32(0)
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		d, err := domain(line)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %w", file, n, err))
			continue
		}
		names = append(names, d)
		lines = append(lines, n)
	}
	return names, lines, problems
}

// read is the text of a regular file of at most limit octets, whose mode has none of the bits in forbidden. info is its state before
// the reading. It comes with an error too when the error will stay as long as that state does.
func read(path string, limit int64, forbidden fs.FileMode) (string, fs.FileInfo, error) {
	// Before the open: to open a device may do something.
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	if err := safe(path, info, limit, forbidden); err != nil {
		return "", info, err
	}
	// What is there now may be something else; a FIFO must not make us wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return "", nil, err
	}
	if err := safe(path, info, limit, forbidden); err != nil {
		return "", info, err
	}
	var b strings.Builder
	b.Grow(int(info.Size()))
	n, err := io.Copy(&b, io.LimitReader(f, limit+1))
	if err != nil {
		return "", nil, err
	}
	if n > limit {
		return "", info, tooLarge(path, limit)
	}
	return b.String(), info, nil
}

func safe(path string, info fs.FileInfo, limit int64, forbidden fs.FileMode) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", path)
	case info.Mode().Perm()&forbidden&0o002 != 0:
		return fmt.Errorf("%s: writable by everyone (chmod o-w mends it)", path)
	case info.Mode().Perm()&forbidden&0o020 != 0:
		return fmt.Errorf("%s: writable by its group (chmod g-w mends it)", path)
	case info.Size() > limit:
		return tooLarge(path, limit)
	}
	return nil
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("%s: larger than %d MiB", path, limit>>20)
}

func sortErrors(l []error) {
	slices.SortFunc(l, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
}
