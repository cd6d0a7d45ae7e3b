package queue

import (
	"bytes"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Listed is a message as List shows it.
type Listed struct {
	Entry
	Held     bool     // in hold
	Corrupt  bool     // in corrupt; only Look tells of those
	Envelope Envelope // shared with nobody
	Err      error    // why there is no Envelope: it is damaged, or may not be read
}

// List calls f for each accepted message, those in hold last, until f returns false. It changes nothing, needs no lock,
// and may run beside programs that work: what comes or goes meanwhile may be seen or not. Of a file only the envelope is
// read, a few kilobytes at a time; its sum is not checked (Check does). The error says that a directory could not be
// read; List goes on after it.
func (q *Queue) List(f func(Listed) bool) error {
	s := q.getScratch()
	defer q.putScratch(s)
	var errs []error
	more := true
	directory := func(name string, held bool) {
		if !more {
			return
		}
		err := q.list(name, func(_ *unix.Stat_t, base string) bool {
			if validID(base) {
				if l, ok := q.listed(s, name+"/"+base, ID(base)); ok {
					l.Held = held
					more = f(l)
				}
			}
			return more
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	for i := range digits {
		directory("active/"+digits[i:i+1], false)
	}
	directory("hold", true)
	return errors.Join(errs...)
}

// listed reads one message's envelope. False: it is gone, or nobody was told yet that it is accepted.
func (q *Queue) listed(s *scratch, name string, id ID) (Listed, bool) {
	l := Listed{Entry: Entry{ID: id}}
	var st unix.Stat_t
	fd, err := q.openFD(name, unix.O_RDONLY, 0)
	switch {
	case errors.Is(err, ErrNotExist):
		return l, false
	case err != nil:
		l.Err = err
		return l, true
	}
	defer unix.Close(fd)
	if l.Err = unix.Fstat(fd, &st); l.Err != nil {
		return l, true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		l.Err = &DamagedError{ID: id, What: "not an ordinary file"}
		return l, true
	}
	if st.Mode&writingBit != 0 {
		return l, false
	}
	l.Next, l.Size = q.next(id, &st), st.Size
	p, err := readEnvelope(s, fd, st.Size)
	if err != nil {
		l.Err = err
		return l, true
	}
	l.Envelope = p.env
	return l, true
}

// readEnvelope reads as much of a file as it takes to see the end of the header.
func readEnvelope(s *scratch, fd int, size int64) (*parsed, error) {
	b := s.buf[:0]
	for int64(len(b)) < min(size, maxHeader) {
		from := len(b)
		b = slices.Grow(b, max(listStep, from)) // as much again, so that a long one is read in few steps
		n, err := readFD(fd, b[from:from+min(max(listStep, from), int(size)-from)], int64(from))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break // cut meanwhile
		}
		b = b[:from+n]
		s.buf = b
		seen := max(from-1, 0)
		if stop := bytes.Index(b[seen:], []byte("\n\n")); stop >= 0 {
			return parseHeader(b[:seen+stop+2])
		}
	}
	return nil, &DamagedError{What: "its header has no end"}
}

const listStep = 4 << 10
