package alias

import (
	"hash/maphash"
	"iter"
	"strings"

	"postamt/internal/addr"
)

// Table answers what a key stands for. The zero value and nil are empty tables.
type Table struct{ parts []*part }

// part is one file: its text, where the entries are in it, and a hash table over their keys.
type part struct {
	file    string
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
	i int
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
		if i := p.findBytes(key); i >= 0 {
			return Entry{p, i}, true
		}
	}
	return Entry{}, false
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
			for i := range later.entries {
				for _, earlier := range all.parts {
					if j := earlier.find(later.key(i)); j >= 0 {
						p.file = later.file
						p.add(int(later.entries[i].line), 1, show(later.key(i))+" is a key in "+Entry{earlier, j}.Pos().String()+" already; the first one holds")
						break
					}
				}
			}
		}
		all.parts = append(all.parts, t.parts...)
	}
	return all, p.all()
}

// Len is the number of entries.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	n := 0
	for _, p := range t.parts {
		n += len(p.entries)
	}
	return n
}

// Entries yields every entry, in the order of the files. A key may come twice if it stands in two of them.
func (t *Table) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if t == nil {
			return
		}
		for _, p := range t.parts {
			for i := range p.entries {
				if !yield(Entry{p, i}) {
					return
				}
			}
		}
	}
}

// Includes is the list files that entries name. Only entries with the word in them are parsed.
func (t *Table) Includes() []string {
	const word = ":include:"
	var paths []string
	for e := range t.Entries() {
		x := &e.p.entries[e.i]
		for s := e.p.text[x.value:x.end]; len(s) >= len(word); s = s[1:] {
			if i := strings.IndexByte(s, ':'); i < 0 || len(s)-i < len(word) {
				break
			} else if s = s[i:]; !strings.EqualFold(s[:len(word)], word) {
				continue
			}
			for _, to := range e.Targets() {
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
func (e Entry) Key() string { return e.p.key(e.i) }

// Pos is the line of the key.
func (e Entry) Pos() Pos { return Pos{File: e.p.file, Line: int32(e.p.entries[e.i].line)} }

// Targets parses what the entry stands for. It is never empty: an entry for nothing has one Bad target.
func (e Entry) Targets() []Target {
	x := &e.p.entries[e.i]
	var list []Target
	s := scanner{s: e.p.text[:x.end], i: int(x.value), line: int(x.line), bol: int(x.start), file: e.p.file}
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
