package imap

import (
	"math"
	"slices"
	"sort"
	"strconv"
)

// NumRange is the numbers from First to Last. In a set as it came First may be the larger one, and 0 stands for "*".
type NumRange struct{ First, Last uint32 }

// NumSet is a sequence-set (RFC 9051 section 9), of message sequence numbers or of UIDs, as ranges. Its size is that of its text, whatever the numbers.
type NumSet struct {
	Saved  bool // "$": the result of the last SEARCH with SAVE (RFC 5182)
	Ranges []NumRange
}

// NumSet reads sequence-set = (seq-number / seq-range) *("," ...) / "$".
func (d *Decoder) NumSet() NumSet {
	if d.Skip('$') {
		return NumSet{Saved: true}
	}
	s, ok := ParseNumSet(d.take(isSetChar))
	if !ok {
		d.Fail("wrong set of numbers")
	}
	return s
}

// UIDSet reads a set without "*" and "$" (RFC 7162: known-uids).
func (d *Decoder) UIDSet() NumSet {
	s := d.NumSet()
	if s.Saved || s.Dynamic() {
		d.Fail("wrong set of UIDs")
	}
	return s
}

// ParseNumSet reads a set of numbers, without "$". Time is linear; numbers that follow each other are one range from the start.
func ParseNumSet(b []byte) (NumSet, bool) {
	var s NumSet
	if len(b) == 0 {
		return s, false
	}
	for {
		first, n := seqNumber(b)
		if n == 0 {
			return NumSet{}, false
		}
		b = b[n:]
		last := first
		if len(b) > 0 && b[0] == ':' {
			if last, n = seqNumber(b[1:]); n == 0 {
				return NumSet{}, false
			}
			b = b[1+n:]
		}
		if k := len(s.Ranges) - 1; k >= 0 && first != 0 && last >= first && s.Ranges[k].First != 0 && s.Ranges[k].Last == first-1 && s.Ranges[k].First <= first-1 {
			s.Ranges[k].Last = last
		} else {
			s.Ranges = append(s.Ranges, NumRange{first, last})
		}
		if len(b) == 0 {
			return s, true
		}
		if b[0] != ',' {
			return NumSet{}, false
		}
		b = b[1:]
	}
}

// seqNumber reads nz-number / "*", which is 0; n is its length, 0 if there is none.
func seqNumber(b []byte) (v uint32, n int) {
	if len(b) > 0 && b[0] == '*' {
		return 0, 1
	}
	if len(b) == 0 || b[0] == '0' {
		return 0, 0
	}
	var x uint64
	for n < len(b) && isDigit(b[n]) {
		if x = x*10 + uint64(b[n]-'0'); x > math.MaxUint32 {
			return 0, 0
		}
		n++
	}
	return uint32(x), n
}

// SeqNumber reads seq-number = nz-number / "*", which is 0.
func (d *Decoder) SeqNumber() uint32 {
	if d.Skip('*') {
		return 0
	}
	return d.NZNumber()
}

// Dynamic reports whether "*" is in the set as it came.
func (s NumSet) Dynamic() bool {
	return slices.ContainsFunc(s.Ranges, func(r NumRange) bool { return r.First == 0 || r.Last == 0 })
}

// Within reports whether every number is at most last, "*" counting as last and nothing as within 0. RFC 9051 section 9, seq-number: a sequence number beyond the last
// message is BAD, "*" in an empty mailbox too. Of UIDs that is not asked.
func (s NumSet) Within(last uint32) bool {
	return last > 0 && !slices.ContainsFunc(s.Ranges, func(r NumRange) bool { return r.First > last || r.Last > last }) || len(s.Ranges) == 0
}

// Resolve makes the set plain, in place: "*" is last, ranges ascend, and have gaps between them. With last 0, an empty mailbox, ranges with "*" are empty.
func (s *NumSet) Resolve(last uint32) {
	out := s.Ranges[:0]
	for _, r := range s.Ranges {
		if last == 0 && (r.First == 0 || r.Last == 0) {
			continue
		}
		if r.First == 0 {
			r.First = last
		}
		if r.Last == 0 {
			r.Last = last
		}
		if r.First > r.Last {
			r.First, r.Last = r.Last, r.First
		}
		out = append(out, r)
	}
	before := func(a, b NumRange) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(out, before) {
		slices.SortFunc(out, before)
	}
	s.Ranges = out[:0]
	for _, r := range out {
		s.add(r)
	}
}

// add adds a range that begins where the last one does, or later.
func (s *NumSet) add(r NumRange) {
	if k := len(s.Ranges) - 1; k >= 0 && uint64(r.First) <= uint64(s.Ranges[k].Last)+1 {
		s.Ranges[k].Last = max(s.Ranges[k].Last, r.Last)
		return
	}
	s.Ranges = append(s.Ranges, r)
}

// Add adds a number to a plain set, larger than those in it.
func (s *NumSet) Add(n uint32) { s.add(NumRange{n, n}) }

// SetOf is the plain set of numbers that ascend.
func SetOf(nums []uint32) (s NumSet) {
	for _, n := range nums {
		s.Add(n)
	}
	return s
}

// Contains reports whether n is in a plain set.
func (s NumSet) Contains(n uint32) bool {
	i := sort.Search(len(s.Ranges), func(i int) bool { return s.Ranges[i].Last >= n })
	return i < len(s.Ranges) && s.Ranges[i].First <= n
}

// Count is how many numbers a plain set has.
func (s NumSet) Count() int {
	n := 0
	for _, r := range s.Ranges {
		n += int(r.Last-r.First) + 1
	}
	return n
}

// Places calls f for each range of places in uids, which ascend, whose UIDs are in a plain set: uids[from:to]. Its time is that of what it finds and the size of the set, not of the numbers in it.
func (s NumSet) Places(uids []uint32, f func(from, to int)) {
	at := 0
	for _, r := range s.Ranges {
		at += firstFrom(uids[at:], r.First)
		if at == len(uids) {
			return
		}
		to := at + firstFrom(uids[at:], r.Last)
		if to < len(uids) && uids[to] == r.Last {
			to++
		}
		if to > at {
			f(at, to)
			at = to
		}
	}
}

// firstFrom is the first place whose UID is at least n. It doubles its steps from the start, so that many small ranges are found in one pass.
func firstFrom(uids []uint32, n uint32) int {
	hi := 1
	for hi < len(uids) && uids[hi-1] < n {
		hi *= 2
	}
	lo := hi / 2
	hi = min(hi, len(uids))
	i, _ := slices.BinarySearch(uids[lo:hi], n)
	return lo + i
}

// Clip cuts a plain set at last: sequence numbers of messages that exist.
func (s NumSet) Clip(last uint32) NumSet {
	i := sort.Search(len(s.Ranges), func(i int) bool { return s.Ranges[i].Last > last })
	if i < len(s.Ranges) {
		r := s.Ranges[i]
		s.Ranges = s.Ranges[:i:i] // what is appended goes elsewhere
		if r.First <= last {
			s.Ranges = append(s.Ranges, NumRange{r.First, last})
		}
	}
	return s
}

// AppendNumSet appends a set: "1:3,5", "$" or, of one that is empty, nothing.
func AppendNumSet(dst []byte, s NumSet) []byte {
	if s.Saved {
		return append(dst, '$')
	}
	for i, r := range s.Ranges {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRange(dst, r)
	}
	return dst
}

func appendRange(dst []byte, r NumRange) []byte {
	dst = appendSeq(dst, r.First)
	if r.Last != r.First {
		dst = appendSeq(append(dst, ':'), r.Last)
	}
	return dst
}

func appendSeq(dst []byte, n uint32) []byte {
	if n == 0 {
		return append(dst, '*')
	}
	return strconv.AppendUint(dst, uint64(n), 10)
}

// AppendNumbers appends numbers as a set, in their order, those that count up by one as a range: of COPYUID, ESEARCH, VANISHED.
func AppendNumbers(dst []byte, nums []uint32) []byte {
	for i := 0; i < len(nums); {
		k := i + 1
		for k < len(nums) && nums[k] == nums[k-1]+1 {
			k++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRange(dst, NumRange{nums[i], nums[k-1]})
		i = k
	}
	return dst
}

// PartialRange is the places First to Last, counted from 1, of a result (RFC 9394, RFC 5267): from its end if FromEnd.
type PartialRange struct {
	First, Last uint32 // First is not the larger one
	FromEnd     bool
}

// PartialRange reads nz-number ":" nz-number, or both with "-" before them (RFC 9394 section 3).
func (d *Decoder) PartialRange() (p PartialRange) {
	p.FromEnd = d.Skip('-')
	p.First = d.NZNumber()
	if d.Expect(':'); p.FromEnd {
		d.Expect('-')
	}
	p.Last = d.NZNumber()
	if p.First > p.Last {
		p.First, p.Last = p.Last, p.First
	}
	return p
}

// AppendPartialRange appends the range.
func AppendPartialRange(dst []byte, p PartialRange) []byte {
	for i, n := range [...]uint32{p.First, p.Last} {
		if i > 0 {
			dst = append(dst, ':')
		}
		if p.FromEnd {
			dst = append(dst, '-')
		}
		dst = strconv.AppendUint(dst, uint64(n), 10)
	}
	return dst
}

// Of is the part of n results that the range means: results[from:to].
func (p PartialRange) Of(n int) (from, to int) {
	from, to = min(int(p.First)-1, n), min(int(p.Last), n)
	if p.FromEnd {
		from, to = n-to, n-from
	}
	return from, to
}
