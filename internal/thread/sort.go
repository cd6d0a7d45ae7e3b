package thread

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"postamt/internal/match"
)

// Key is what messages are sorted by.
type Key byte

// The keys of RFC 5256 and RFC 5957, with the value that Sorter is to be given.
const (
	Arrival     Key = iota // Number: INTERNALDATE
	Cc                     // Text: addr-mailbox of the first address
	Date                   // Number: sent date, or else INTERNALDATE
	From                   // Text, as of Cc
	Size                   // Number: octets in wire form
	Subject                // Text: base subject, decoded
	To                     // Text, as of Cc
	DisplayFrom            // Text: name of the first address, decoded, or else mailbox@host, also if the host is missing and ENVELOPE has something for it; of a group its name
	DisplayTo
)

// IsText reports whether the value of a message is a Text, and not a Number.
func (k Key) IsText() bool { return k != Arrival && k != Date && k != Size }

// Criterion is a key, perhaps with REVERSE.
type Criterion struct {
	Key     Key
	Reverse bool
}

// ParseKey knows a key by its name, in upper case.
func ParseKey(name string) (Key, bool) {
	i := slices.Index([]string{"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"}, name)
	return Key(max(i, 0)), i >= 0
}

// Sorter takes the messages of a SORT command in the order of their sequence numbers, which decides where all criteria leave it open. For each: Add, and then for each criterion
// in its order Number or Text. It is for one goroutine.
type Sorter struct {
	columns []column
	at      int // column that is next
	ids     []uint32
	rows    []row
	room    []row // for sortRows
}

// row is a message with a key of it.
type row struct {
	key uint64
	n   uint32
}

// column has the values of all messages by one criterion: numbers in the order in which they sort, or texts.
type column struct {
	Criterion
	numbers []uint64
	text    []byte
	ends    []int // in text
}

// NewSorter makes a Sorter for about n messages. A criterion whose key was there before says nothing and may be left out; none at all is the order of the mailbox.
func NewSorter(criteria []Criterion, n int) *Sorter {
	s := &Sorter{columns: make([]column, len(criteria)), ids: make([]uint32, 0, n)}
	for i, c := range criteria {
		s.columns[i].Criterion = c
		if c.Key.IsText() {
			s.columns[i].text, s.columns[i].ends = make([]byte, 0, 16*n), make([]int, 0, n)
		} else {
			s.columns[i].numbers = make([]uint64, 0, n)
		}
	}
	return s
}

// Add begins the next message.
func (s *Sorter) Add(id uint32) {
	s.ids = append(s.ids, id)
	s.at = 0
}

// Number is the next value.
func (s *Sorter) Number(v int64) {
	c := s.next()
	c.numbers = append(c.numbers, ordered(v))
}

// ordered is v as a number that sorts as v does.
func ordered(v int64) uint64 { return uint64(v) ^ 1<<63 }

// Text is the next value, in UTF-8. One that is absent is empty (RFC 5256, SORT).
func (s *Sorter) Text(v []byte) {
	c := s.next()
	c.text = match.AppendSort(c.text, v)
	c.ends = append(c.ends, len(c.text))
}

// Folded is Text of what match.AppendSort has made.
func (s *Sorter) Folded(v []byte) {
	c := s.next()
	c.text = append(c.text, v...)
	c.ends = append(c.ends, len(c.text))
}

func (s *Sorter) next() *column {
	s.at++
	return &s.columns[s.at-1]
}

// value is the text of a message.
func (c *column) value(n uint32) []byte {
	from := 0
	if n > 0 {
		from = c.ends[n-1]
	}
	return c.text[from:c.ends[n]]
}

// each is how many octets of a text are in a key; more says that there are more.
const (
	each = 7
	more = each + 1
)

// key orders messages as their values do that are the same up to an octet: a number, or the octets behind that and how many there are, so that "a" and "a\x00" are two.
func (c *column) key(n uint32, at int) (k uint64) {
	if c.ends == nil {
		k = c.numbers[n]
	} else {
		v := c.value(n)[at:]
		if len(v) >= 8 {
			k = binary.BigEndian.Uint64(v)&^0xff | more
		} else {
			for i, b := range v {
				k |= uint64(b) << (56 - 8*i)
			}
			k |= uint64(len(v))
		}
	}
	if c.Reverse {
		return ^k
	}
	return k
}

// goesOn reports whether messages with this key may differ in what is behind it.
func (c *column) goesOn(key uint64) bool {
	if c.Reverse {
		key = ^key
	}
	return c.ends != nil && key&0xff == more
}

func (s *Sorter) compare(a, b row) int {
	if a.key != b.key {
		return cmp.Compare(a.key, b.key)
	}
	for i := range s.columns {
		c := &s.columns[i]
		d := 0
		if c.ends != nil {
			d = bytes.Compare(c.value(a.n), c.value(b.n))
			if c.Reverse {
				d = -d
			}
		} else {
			d = cmp.Compare(c.key(a.n, 0), c.key(b.n, 0))
		}
		if d != 0 {
			return d
		}
	}
	return cmp.Compare(a.n, b.n)
}

// Sorted returns the ids of all messages in their order.
func (s *Sorter) Sorted() []uint32 { return s.Range(0, len(s.ids)) }

// Range returns those that would be from the place from, the first is 0, up to before the place to, in their order. For few of many it does not sort the others.
func (s *Sorter) Range(from, to int) []uint32 {
	from, to = max(from, 0), min(to, len(s.ids))
	if from >= to {
		return nil
	}
	if s.rows == nil {
		s.rows, s.room = make([]row, len(s.ids)), make([]row, len(s.ids))
	}
	for i := range s.rows {
		s.rows[i] = row{n: uint32(i)}
		if len(s.columns) > 0 {
			s.rows[i].key = s.columns[0].key(uint32(i), 0)
		}
	}
	s.sort(s.rows, from, to)
	sorted := make([]uint32, to-from)
	for i, r := range s.rows[from:to] {
		sorted[i] = s.ids[r.n]
	}
	return sorted
}

// sort puts the rows from up to to into their places: quickselect, as long as it halves what it looks at, and then sorting.
func (s *Sorter) sort(rows []row, from, to int) {
	for deep := 2 * bits.Len(uint(len(rows))); deep > 0 && to-from < len(rows)/2; deep-- {
		i := s.partition(rows)
		switch {
		case to <= i:
			rows = rows[:i]
		case from > i:
			rows, from, to = rows[i+1:], from-i-1, to-i-1
		default:
			s.sort(rows[:i], min(from, i), i)
			s.sort(rows[i+1:], 0, max(to-i-1, 0))
			return
		}
	}
	if from < to {
		s.sortAll(rows)
	}
}

// sortAll sorts rows that have their first keys: by these, then those with one key by what comes next.
func (s *Sorter) sortAll(rows []row) {
	if len(s.columns) == 0 {
		slices.SortFunc(rows, row.compare)
		return
	}
	s.sortFrom(rows, 0, 0)
}

// sortFrom sorts rows that are the same up to an octet of a column, and have the keys of what comes next.
func (s *Sorter) sortFrom(rows []row, column, at int) {
	sortRows(rows, s.room)
	c := &s.columns[column]
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].key == rows[0].key {
			n++
		}
		same, column, at := rows[:n], column, at+each
		if rows = rows[n:]; n == 1 {
			continue
		}
		if !c.goesOn(same[0].key) {
			column, at = column+1, 0
		}
		if column == len(s.columns) {
			slices.SortFunc(same, row.compare)
			continue
		}
		for i := range same {
			same[i].key = s.columns[column].key(same[i].n, at)
		}
		s.sortFrom(same, column, at)
	}
}

func (a row) compare(b row) int {
	if a.key != b.key {
		return cmp.Compare(a.key, b.key)
	}
	return cmp.Compare(a.n, b.n)
}

// sortRows sorts by key. Many are sorted by one octet of it after the other, from the last, where there are different ones; so rows with one key stay in their order.
func sortRows(rows, room []row) {
	if len(rows) < 200 {
		slices.SortFunc(rows, row.compare)
		return
	}
	differ := uint64(0)
	for i := range rows {
		differ |= rows[i].key ^ rows[0].key
	}
	from, to := rows, room[:len(rows)]
	for shift := 0; shift < 64; shift += 8 {
		if differ>>shift&0xff == 0 {
			continue
		}
		var at [256]uint32
		for i := range from {
			at[from[i].key>>shift&0xff]++
		}
		sum := uint32(0)
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, r := range from {
			i := &at[r.key>>shift&0xff]
			to[*i] = r
			*i++
		}
		from, to = to, from
	}
	if &from[0] != &rows[0] {
		copy(rows, from)
	}
}

// partition puts a row into its place, those before it before, and those behind it behind, and returns the place.
func (s *Sorter) partition(rows []row) int {
	last := len(rows) - 1
	a, b, c := 0, len(rows)/2, last
	// The median of three is the last then.
	if s.compare(rows[a], rows[b]) > 0 {
		a, b = b, a
	}
	if s.compare(rows[b], rows[c]) > 0 {
		b = c
		if s.compare(rows[a], rows[b]) > 0 {
			b = a
		}
	}
	rows[b], rows[last] = rows[last], rows[b]
	pivot, i := rows[last], 0
	for j, r := range rows[:last] {
		if s.compare(r, pivot) < 0 {
			rows[i], rows[j] = r, rows[i]
			i++
		}
	}
	rows[i], rows[last] = pivot, rows[i]
	return i
}
