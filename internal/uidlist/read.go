package uidlist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Change is what Read has found.
type Change int

// The changes.
const (
	Unchanged Change = iota
	Grown            // entries were appended; f was called with those
	Replaced         // f was called with all entries: forget the earlier ones
	Missing          // there is no list: Tx.Create makes one
)

// young is the age from which a file that a dead writer left unsynced has been
// written out by the system.
const young = time.Hour

// open opens a file of the folder for reading, no symbolic link and nothing
// but an ordinary file. Without one it returns nil.
func open(dir *os.File, name string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	path := dir.Name() + "/" + name
	for tries := 0; ; tries++ {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			return nil, st, nil
		}
		if err == nil {
			if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
				err = errors.New("not an ordinary file")
			}
			if err == nil {
				return os.NewFile(uintptr(fd), path), st, nil
			}
			unix.Close(fd)
		}
		// On NFS a name can lead for a moment to what another host has replaced.
		if err != unix.EINTR && (err != unix.ESTALE || tries >= 10) {
			return nil, st, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// Read calls f with the entries that are new since the last Read, in the order
// of their UIDs, and all that it was called with is on disk when Read returns.
// Without the lock it sees whole lines only, and perhaps a part of what is
// being appended. Two entries of one name: the later one holds.
//
// After an error, f's or another, the next Read begins anew. ErrDamaged: the
// entries up to the damage were passed.
func (l *List) Read(f func(Entry) error) (Change, error) {
	for tries := 0; ; tries++ {
		change, err := l.read(f)
		if err == nil {
			return change, nil
		}
		l.pos = position{}
		if !errors.Is(err, unix.ESTALE) || tries >= 10 {
			return change, fmt.Errorf("uidlist: read: %w", err)
		}
		if change == Grown {
			// f has seen a part, and must hear that it begins again.
			return change, fmt.Errorf("uidlist: read: %w", err)
		}
	}
}

func (l *List) read(f func(Entry) error) (Change, error) {
	file, st, err := open(l.dir, listFile)
	if err != nil {
		return Unchanged, err
	}
	if file == nil {
		l.pos, l.hdr = position{}, Header{}
		return Missing, nil
	}
	defer file.Close()
	if st.Ino == l.pos.ino && st.Size == l.pos.size && st.Mtim == l.pos.mtime {
		return Unchanged, nil
	}
	change := Grown
	if !l.resumes(file, &st) {
		change = Replaced
		l.pos = position{}
	}
	s := scanner{r: bufio.NewReaderSize(io.NewSectionReader(file, l.pos.offset, 1<<62), maxLine), at: l.pos.offset}
	if change == Grown {
		s.number = l.pos.entries + 1
	} else {
		line, _, err := s.line()
		if err != nil && err != io.EOF {
			return change, err
		}
		h, ok := parseHeader(line)
		if !ok || err != nil {
			return change, s.damaged("header")
		}
		l.pos.next = h.Next
		if h.Validity == l.hdr.Validity {
			// An older copy, or one that was cut: the UIDs that we have seen are taken.
			h.Next = max(h.Next, l.hdr.Next)
		}
		l.hdr = h
		l.pos.header = line
		l.pos.offset = s.at
	}
	for {
		at := s.at
		line, long, err := s.line()
		if err == io.EOF {
			break
		}
		if err != nil {
			return change, err
		}
		e, ok := parseEntry(line, l.hdr.Version)
		if long || !ok {
			return change, s.damaged("entry")
		}
		if e.UID <= l.pos.last {
			return change, s.damaged("order of UIDs")
		}
		if err := f(e); err != nil {
			return change, err
		}
		l.pos.last, l.pos.lastAt, l.pos.offset = e.UID, at, s.at
		l.pos.entries++
		l.pos.next = max(l.pos.next, e.UID+1)
		l.hdr.Next = max(l.hdr.Next, l.pos.next)
	}
	// Longer now than it was: the next Read looks again.
	l.pos.ino, l.pos.mtime, l.pos.size = st.Ino, st.Mtim, st.Size
	if age := time.Since(time.Unix(st.Mtim.Unix())); age < young {
		if err := l.ops.Datasync(file); err != nil {
			return change, err
		}
		if change == Replaced {
			if err := l.ops.SyncDir(l.dir); err != nil {
				return change, err
			}
		}
	}
	return change, nil
}

// GUID reads the first line alone. It is "" when there is no list, or none with a GUID in it: the next rewrite makes one.
func (l *List) GUID() (string, error) {
	file, _, err := open(l.dir, listFile)
	if file == nil || err != nil {
		return "", err
	}
	defer file.Close()
	s := scanner{r: bufio.NewReaderSize(file, maxLine)}
	line, _, err := s.line()
	if err != nil && err != io.EOF {
		return "", l.errorf("read: %w", err)
	}
	h, _ := parseHeader(line)
	return h.GUID, nil
}

// resumes reports whether the file is the one that was read, with nothing but
// lines added. An inode's number alone does not say so: the next file can have it.
func (l *List) resumes(file *os.File, st *unix.Stat_t) bool {
	p := &l.pos
	if p.ino == 0 || st.Ino != p.ino || st.Size < p.offset {
		return false
	}
	s := scanner{r: bufio.NewReaderSize(io.NewSectionReader(file, 0, p.offset), maxLine)}
	if line, _, err := s.line(); err != nil || line != p.header {
		return false
	}
	if p.last == 0 {
		return s.at == p.offset
	}
	s = scanner{r: bufio.NewReaderSize(io.NewSectionReader(file, p.lastAt, p.offset-p.lastAt), maxLine), at: p.lastAt}
	line, _, err := s.line()
	e, ok := parseEntry(line, l.hdr.Version)
	return err == nil && ok && e.UID == p.last && s.at == p.offset
}

// scanner reads lines of bounded length.
type scanner struct {
	r      *bufio.Reader
	at     int64 // where the next line begins
	number int   // of the line last read
}

// line returns the next whole line without its newline. long says that it was
// too long and is not all there. io.EOF comes with what follows the last
// newline.
func (s *scanner) line() (line string, long bool, err error) {
	s.number++
	p, err := s.r.ReadSlice('\n')
	n := int64(len(p))
	line = string(p)
	for err == bufio.ErrBufferFull {
		long = true
		p, err = s.r.ReadSlice('\n')
		n += int64(len(p))
	}
	if err != nil {
		return line, long, err
	}
	s.at += n
	if !long {
		line = line[:len(line)-1]
	}
	return line, long, nil
}

func (s *scanner) damaged(what string) error {
	return fmt.Errorf("%s: line %d: %s: %w", listFile, max(s.number, 1), what, ErrDamaged)
}
