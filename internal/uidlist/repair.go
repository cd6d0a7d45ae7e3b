package uidlist

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// minLine is the length of the shortest line, "1 :a" and its newline: so many
// bytes of garbage were one entry at most.
const minLine = 5

// Repair says what Tx.Repair did.
type Repair struct {
	Lost          bool // the list was begun anew, with a new validity
	Kept, Dropped int  // lines
	Next          UID
}

func (r Repair) String() string {
	if r.Lost {
		return "lost: begun anew with another UIDVALIDITY"
	}
	return fmt.Sprintf("repaired: %d lines kept, %d dropped, next UID %d", r.Kept, r.Dropped, r.Next)
}

// Repair mends a list that Read finds damaged, or of which the caller knows
// that its next UID is too low, because it was cut off at the end of a line;
// next is what the caller knows of it, or 0. Read it then.
//
//	damage                                   what becomes of it
//	a line that is none, or too long         dropped
//	UIDs not ascending                       the longest ascending row of lines stays
//	one UID on lines of different names      all of these dropped
//	half a last line                         dropped
//	no header, not a list, of another version    lost
//	no UID left below 2^32-1                 lost
//
// A message whose line was dropped gets a new UID. The next UID is above all that
// were seen, on dropped lines too, and above what garbage at the end can have
// held. A lost list gets a validity above its old one and the clock.
func (t *Tx) Repair(next UID) (r Repair, err error) {
	l := t.l
	t.read = false
	f, _, err := open(l.dir, listFile)
	if err != nil {
		return r, l.errorf("repair: %w", err)
	}
	if f == nil {
		return r, l.errorf("repair: %w", os.ErrNotExist)
	}
	defer f.Close()
	s, err := salvage(f)
	if err != nil {
		return r, l.errorf("repair: %w", err)
	}
	if s.ok {
		if s.hdr.Validity == l.hdr.Validity {
			next = max(next, l.hdr.Next)
		}
		l.hdr = s.hdr
	}
	if !s.ok || uint64(s.next) > uint64(MaxUID) || next > MaxUID {
		l.hdr.Validity = max(l.hdr.Validity, s.hdr.Validity)
		return Repair{Lost: true, Next: 1}, t.Begin()
	}
	hdr := s.hdr
	hdr.Next = max(UID(s.next), next)
	err = t.replaceList(hdr, func(emit func(Entry) error) error { return s.each(f, emit) })
	if err == nil {
		l.pos, t.read = position{}, false
	}
	return Repair{Kept: len(s.kept), Dropped: s.dropped, Next: hdr.Next}, err
}

// salvaged is what can be told of a list in any state.
type salvaged struct {
	ok      bool // there is a header
	hdr     Header
	kept    []span
	dropped int
	next    uint64
}

// span is where a line stands in the file.
type span struct {
	uid    UID
	length int32
	at     int64
}

func salvage(f *os.File) (s salvaged, err error) {
	r := scanner{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), maxLine)}
	line, _, err := r.line()
	if err != nil && err != io.EOF {
		return s, err
	}
	if s.hdr, s.ok = parseHeader(line); !s.ok || err != nil {
		s.ok = false
		return s, nil
	}
	var all []span
	var highest UID
	garbage := int64(0) // bytes at the end that are no lines
	for {
		at := r.at
		line, long, err := r.line()
		if err == io.EOF {
			end, serr := f.Seek(0, io.SeekEnd)
			if serr != nil {
				return s, serr
			}
			if end > r.at {
				garbage += end - r.at
				s.dropped++
			}
			break
		}
		if err != nil {
			return s, err
		}
		e, ok := parseEntry(line, s.hdr.Version)
		if long || !ok {
			garbage += r.at - at
			s.dropped++
			continue
		}
		garbage = 0
		highest = max(highest, e.UID)
		all = append(all, span{e.UID, int32(r.at - at), at})
	}
	if s.kept, err = ascending(f, all, s.hdr.Version); err != nil {
		return s, err
	}
	s.dropped += len(all) - len(s.kept)
	s.next = max(uint64(s.hdr.Next), uint64(highest)+1)
	if garbage > 0 {
		s.next += uint64(garbage/minLine) + 1
	}
	return s, nil
}

// ascending gives the longest row of lines whose UIDs ascend, without those
// whose UID another line claims for another name.
func ascending(f *os.File, all []span, version int) ([]span, error) {
	sorted := true
	for i := 1; i < len(all) && sorted; i++ {
		sorted = all[i-1].uid < all[i].uid
	}
	if sorted {
		return all, nil
	}
	// ends[n] is the line at which a row of n+1 lines ends lowest, before[i]
	// the line before i in its row.
	var ends []int
	before := make([]int, len(all))
	for i, line := range all {
		low, high := 0, len(ends)
		for low < high {
			if mid := (low + high) / 2; all[ends[mid]].uid < line.uid {
				low = mid + 1
			} else {
				high = mid
			}
		}
		before[i] = -1
		if low > 0 {
			before[i] = ends[low-1]
		}
		if low == len(ends) {
			ends = append(ends, i)
		} else {
			ends[low] = i
		}
	}
	in := make([]bool, len(all))
	claims := make(map[UID]int) // of UIDs of lines that are not in the row: the line in it
	for i := ends[len(ends)-1]; i >= 0; i = before[i] {
		in[i] = true
	}
	for i, line := range all {
		if !in[i] {
			claims[line.uid] = -1
		}
	}
	for i, line := range all {
		if _, claimed := claims[line.uid]; in[i] && claimed {
			claims[line.uid] = i
		}
	}
	for i, line := range all {
		if j := claims[line.uid]; !in[i] && j >= 0 && in[j] {
			a, err := entryAt(f, line, version)
			if err != nil {
				return nil, err
			}
			b, err := entryAt(f, all[j], version)
			if err != nil {
				return nil, err
			}
			if a.Name != b.Name {
				in[j] = false
			}
		}
	}
	kept := all[:0]
	for i, line := range all {
		if in[i] {
			kept = append(kept, line)
		}
	}
	return kept, nil
}

func entryAt(f *os.File, line span, version int) (Entry, error) {
	p := make([]byte, line.length)
	if _, err := f.ReadAt(p, line.at); err != nil {
		return Entry{}, err
	}
	e, ok := parseEntry(string(p[:len(p)-1]), version)
	if !ok || e.UID != line.uid {
		return e, fmt.Errorf("changed while it was read: %w", ErrDamaged)
	}
	return e, nil
}

// each emits the entries that are kept.
func (s *salvaged) each(f *os.File, emit func(Entry) error) error {
	for _, line := range s.kept {
		e, err := entryAt(f, line, s.hdr.Version)
		if err == nil {
			err = emit(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
