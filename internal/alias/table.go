package alias

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"postamt/internal/addr"
)

// Table answers what a key stands for. The zero value and nil are empty tables.
type Table struct{ parts []*part }

// part is one file: its text, where the entries are in it, and a hash table over their keys; or what is compiled of it.
type part struct {
	file     string
	compiled *compiled // if not nil, there is nothing below

	text    string
	odd     string // keys that do not stand in the text as they are looked up
	entries []entry
	slots   []uint32 // index into entries plus 1, linear probing; a power of two, at most half full
	seed    maphash.Seed

	oddKeys []byte // while parsing
}

// entry is where things are in the text. 24 octets, so that a million of them can be kept.
type entry struct {
	key    uint32 // offset into text, or, with isOdd, into odd
	value  uint32
	end    uint32
	start  uint32 // where the line of the key begins
	line   uint32
	keyLen uint16
	isOdd  bool
}

// Entry is one alias. Entries are comparable: two are equal if they are the same lines of the same table.
type Entry struct {
	p *part
	i int // in a text; -1: it cannot be read

	key, value string // of a compiled file
}

// Lookup finds the entry of local@domain; of the local name if domain is ""; of @domain if local is "". Letters of either case are
// the same. Nothing that could stand in an address has a meaning here: it is found as a key or not at all.
func (t *Table) Lookup(local, domain string) (Entry, bool) {
	if t == nil || len(t.parts) == 0 {
		return Entry{}, false
	}
	if domain == "" && (local == "" || strings.IndexByte(local, '@') >= 0) {
		return Entry{}, false
	}
	var buf [addr.MaxLocal + 1 + addr.MaxDomain]byte
	key := appendKey(buf[:0], local, domain)
	for _, p := range t.parts {
		if e, ok := p.lookup(key); ok {
			return e, true
		}
	}
	return Entry{}, false
}

// lookup finds the entry with this canonical key.
func (p *part) lookup(key []byte) (Entry, bool) {
	if p.compiled != nil {
		return p.findCompiled(key)
	}
	i := p.findBytes(key)
	return Entry{p: p, i: i}, i >= 0
}

// appendKey writes the canonical key. ASCII, the common case, needs no memory.
func appendKey(b []byte, local, domain string) []byte {
	for i := range len(local) {
		c := local[i]
		if c >= 0x80 {
			b = append(b[:0], strings.ToLower(local)...)
			break
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	if domain != "" {
		b = append(b, '@')
		if a, err := addr.ASCIIDomain(domain); err == nil {
			domain = a
		}
		b = append(b, domain...)
	}
	return b
}

// Join is a table that looks into one after the other. The problems are the keys that an earlier one hides.
func Join(tables ...*Table) (*Table, []Problem) {
	all := &Table{}
	var p problems
	for _, t := range tables {
		if t == nil {
			continue
		}
		for _, later := range t.parts {
			type pair struct{ later, earlier Entry }
			var twice []pair
			for _, earlier := range all.parts {
				for x, y := range common(later, earlier) {
					twice = append(twice, pair{x, y})
				}
			}
			line := func(p pair) int32 { return p.later.Pos().Line }
			slices.SortStableFunc(twice, func(a, b pair) int { return cmp.Compare(line(a), line(b)) })
			twice = slices.CompactFunc(twice, func(a, b pair) bool { return line(a) == line(b) }) // the first that hides it
			p.file = later.file
			for _, x := range twice {
				p.add(int(line(x)), 1, show(x.later.Key())+" is a key in "+x.earlier.Pos().String()+" already; the first one holds")
			}
		}
		all.parts = append(all.parts, t.parts...)
	}
	return all, p.all()
}

// common is the entries with the same key in both. The shorter part is gone through, so that a small file beside a large one costs little.
func common(a, b *part) iter.Seq2[Entry, Entry] {
	return func(yield func(Entry, Entry) bool) {
		swap := a.len() > b.len()
		if swap {
			a, b = b, a
		}
		a.all(func(x Entry) bool {
			y, ok := b.lookup([]byte(x.Key()))
			switch {
			case !ok || x.i < 0 || y.i < 0:
				return true
			case swap:
				return yield(y, x)
			}
			return yield(x, y)
		})
	}
}

// Len is the number of entries.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	n := 0
	for _, p := range t.parts {
		n += p.len()
	}
	return n
}

func (p *part) len() int {
	if p.compiled != nil {
		return p.compiled.count
	}
	return len(p.entries)
}

// Entries yields every entry, in the order of the files. A key may come twice if it stands in two of them.
func (t *Table) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if t == nil {
			return
		}
		for _, p := range t.parts {
			if !p.all(yield) {
				return
			}
		}
	}
}

// all yields the entries until yield says no, and returns whether it did not.
func (p *part) all(yield func(Entry) bool) bool {
	if p.compiled != nil {
		return p.allCompiled(yield)
	}
	for i := range p.entries {
		if !yield(Entry{p: p, i: i}) {
			return false
		}
	}
	return true
}

// Includes is the list files that entries name.
func (t *Table) Includes() []string {
	if t == nil {
		return nil
	}
	var paths []string
	for _, p := range t.parts {
		if p.compiled != nil {
			paths = append(paths, p.compiled.includes...)
		} else {
			paths = p.includes(paths)
		}
	}
	return paths
}

// includes appends those of a text. Only entries with the word in them are parsed.
func (p *part) includes(paths []string) []string {
	const word = ":include:"
	for n := range p.entries {
		x := &p.entries[n]
		for s := p.text[x.value:x.end]; len(s) >= len(word); s = s[1:] {
			if i := strings.IndexByte(s, ':'); i < 0 || len(s)-i < len(word) {
				break
			} else if s = s[i:]; !strings.EqualFold(s[:len(word)], word) {
				continue
			}
			for _, to := range (Entry{p: p, i: n}).Targets() {
				if to.Kind == Include {
					paths = append(paths, to.Text)
				}
			}
			break
		}
	}
	return paths
}

// Key is the key as it is looked up: lower case, unquoted.
func (e Entry) Key() string {
	if e.p.compiled != nil {
		return e.key
	}
	return e.p.key(e.i)
}

// Pos is the line of the key.
func (e Entry) Pos() Pos {
	pos := Pos{File: e.p.file}
	switch {
	case e.i < 0:
	case e.p.compiled != nil:
		line, _, _, _ := e.stored()
		pos.Line = int32(line)
	default:
		pos.Line = int32(e.p.entries[e.i].line)
	}
	return pos
}

// Targets parses what the entry stands for. It is never empty: an entry for nothing has one Bad target.
func (e Entry) Targets() []Target {
	s := scanner{file: e.p.file}
	switch {
	case e.i < 0:
		return []Target{{Kind: Bad, Text: fmt.Sprintf("%s%s: %v", e.p.file, Compiled, *e.p.compiled.failed.Load()), Pos: e.Pos()}}
	case e.p.compiled != nil:
		s.line, s.i, s.s, _ = e.stored()
	default:
		x := &e.p.entries[e.i]
		s.s, s.i, s.line, s.bol = e.p.text[:x.end], int(x.value), int(x.line), int(x.start)
	}
	var list []Target
	s.emit = func(t Target) { list = append(list, t) }
	s.run()
	if list == nil {
		list = []Target{{Kind: Bad, Text: "stands for nothing", Pos: e.Pos()}}
	}
	return list
}

func (p *part) key(i int) string {
	e := &p.entries[i]
	if e.isOdd {
		if p.oddKeys != nil {
			return string(p.oddKeys[e.key : int(e.key)+int(e.keyLen)])
		}
		return p.odd[e.key : int(e.key)+int(e.keyLen)]
	}
	return p.text[e.key : int(e.key)+int(e.keyLen)]
}

// start makes room for about as many entries as the file has lines.
func (p *part) start(lines int) {
	p.seed = maphash.MakeSeed()
	p.grow(min(lines, 1<<16))
}

func (p *part) grow(entries int) {
	n := 16
	for n < 2*entries {
		n *= 2
	}
	p.slots = make([]uint32, n)
	for i := range p.entries {
		p.slots[p.free(p.key(i))] = uint32(i) + 1
	}
}

// free is the slot for a key that is not in the table.
func (p *part) free(key string) int {
	mask := len(p.slots) - 1
	i := int(maphash.String(p.seed, key)) & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

// add appends an entry whose key is not there yet. start, value and end are offsets, of line.
func (p *part) add(key string, start, value, end, line int) {
	if 2*(len(p.entries)+1) > len(p.slots) {
		p.grow(2 * (len(p.entries) + 1))
	}
	e := entry{value: uint32(value), end: uint32(end), start: uint32(start), line: uint32(line), keyLen: uint16(len(key))}
	if strings.HasPrefix(p.text[start:], key) {
		e.key = uint32(start)
	} else {
		e.isOdd = true
		e.key = uint32(len(p.oddKeys))
		p.oddKeys = append(p.oddKeys, key...)
	}
	p.slots[p.free(key)] = uint32(len(p.entries)) + 1
	p.entries = append(p.entries, e)
}

func (p *part) finish() {
	p.odd, p.oddKeys = string(p.oddKeys), nil
	if cap(p.entries) > len(p.entries)+len(p.entries)/8 {
		p.entries = append(make([]entry, 0, len(p.entries)), p.entries...)
	}
}

// find is the index of the entry with this canonical key, or -1.
func (p *part) find(key string) int {
	mask := len(p.slots) - 1
	for i := int(maphash.String(p.seed, key)) & mask; p.slots[i] != 0; i = (i + 1) & mask {
		if n := int(p.slots[i]) - 1; p.key(n) == key {
			return n
		}
	}
	return -1
}

// findBytes is find for a key that is not a string yet.
func (p *part) findBytes(key []byte) int {
	mask := len(p.slots) - 1
	for i := int(maphash.Bytes(p.seed, key)) & mask; p.slots[i] != 0; i = (i + 1) & mask {
		if n := int(p.slots[i]) - 1; p.key(n) == string(key) {
			return n
		}
	}
	return -1
}
