package mailbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"unsafe"
)

const (
	indexMagic = "postamt.index 4\n"
	headerSize = 140
	recordSize = 56
	learntSize = 40
	stateSize  = 72
	frameSize  = 9
	maxPayload = recordSize + 255
	maxRecords = 1 << 27
)

// unknown is a number that nobody has looked for yet.
const unknown = ^uint64(0)

// The flags of a file name, as bits.
const (
	Draft Flags = 1 << iota
	Flagged
	Passed
	Replied
	Seen
	Trashed
)

// Flags is a set of the system flags of a maildir.
type Flags uint8

// message is what is known of one message. 100,000 of them are in memory for each open mailbox: names are not, but where they stand.
type message struct {
	uid      uint32
	keywords uint32
	modseq   uint64
	size     uint64
	wire     uint64
	date     uint64
	facts    uint64
	name     uint64 // 40 bits where, 8 bits how long, Flags, place
}

func (m *message) flags() Flags     { return Flags(m.name >> 48) }
func (m *message) inNew() bool      { return m.name>>56 == placeNew }
func (m *message) dead() bool       { return m.name>>56 == placeNone }
func (m *message) nameAt() int64    { return int64(m.name & (1<<40 - 1)) }
func (m *message) nameLength() int  { return int(m.name >> 40 & 0xff) }
func (m *message) setFlags(f Flags) { m.name = m.name&^(0xff<<48) | uint64(f)<<48 }
func (m *message) setName(at int64, length int) {
	m.name = m.name&^(1<<48-1) | uint64(at)&(1<<40-1) | uint64(length)<<40
}
func (m *message) setPlace(p uint64) { m.name = m.name&(1<<56-1) | p<<56 }

// Where the file of a message is.
const (
	placeCur = iota
	placeNew
	placeNone // removed a moment ago, and taken out of the list with others
)

func (m *message) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, m.uid)
	b = binary.LittleEndian.AppendUint32(b, m.keywords)
	for _, n := range [...]uint64{m.modseq, m.size, m.wire, m.date, m.facts, m.name} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func (m *message) decode(b []byte) {
	m.uid = binary.LittleEndian.Uint32(b)
	m.keywords = binary.LittleEndian.Uint32(b[4:])
	m.modseq = binary.LittleEndian.Uint64(b[8:])
	m.size = binary.LittleEndian.Uint64(b[16:])
	m.wire = binary.LittleEndian.Uint64(b[24:])
	m.date = binary.LittleEndian.Uint64(b[32:])
	m.facts = binary.LittleEndian.Uint64(b[40:])
	m.name = binary.LittleEndian.Uint64(b[48:])
}

// appendLearnt and decodeLearnt are what reading its file shows of a message.
func (m *message) appendLearnt(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.uid))
	for _, n := range [...]uint64{m.size, m.wire, m.date, m.facts} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func (m *message) decodeLearnt(b []byte) {
	for i, n := range [...]*uint64{&m.size, &m.wire, &m.date, &m.facts} {
		*n = binary.LittleEndian.Uint64(b[8+8*i:])
	}
}

// stamp tells one version of a file or directory from another: nanoseconds since 1970, and when we looked.
type stamp struct{ modified, seen int64 }

// state is what was seen of the truth when the messages were what the index says.
type state struct {
	cur, new stamp
	list     stamp // dovecot-uidlist
	inode    uint64
	listSize int64
	plain    uint64 // 1: the whole list was read, and has no line with a unique-id or an order of another server
}

func (s *state) append(b []byte) []byte {
	for _, n := range [...]int64{s.cur.modified, s.cur.seen, s.new.modified, s.new.seen, s.list.modified, s.list.seen, int64(s.inode), s.listSize, int64(s.plain)} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func (s *state) decode(b []byte) {
	at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8*i:])) }
	*s = state{stamp{at(0), at(1)}, stamp{at(2), at(3)}, stamp{at(4), at(5)}, uint64(at(6)), at(7), uint64(at(8))}
}

// index is what the file says, up to the octet end.
type index struct {
	generation uint64
	validity   uint32
	next       uint32
	highest    uint64
	state      state
	cache      uint64    // generation of postamt.cache that message.facts are places in
	messages   []message // ascending by UID
	removed    bool      // some of them are dead
	gone       []expunged
	since      uint64 // the mod-sequence from which on gone has all
	names      names
	members    uint64 // counts messages that have come and gone
	changes    uint64 // and those that have changed, too
	near       int    // where the last UID that was looked for stands
	end        int64  // octets of the file that are valid
	base       int64  // of these, the snapshot
}

// expunged is a message that is no more. The newest are remembered, for clients that were away (QRESYNC).
type expunged struct {
	uid    uint32
	modseq uint64
}

func (e expunged) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, uint64(e.uid)), e.modseq)
}

const (
	maxGone  = 10000
	keptGone = 1000 // of these, in a new snapshot
)

// names finds file names: those of the snapshot in the file, those that came later in memory.
type names struct {
	file   io.ReaderAt
	start  int64 // of the names in the file
	length int64
	sum    uint32 // of these
	later  []byte // at 1<<39 and above
}

const laterAt = 1 << 39

func (n *names) add(name string) int64 {
	n.later = append(n.later, name...)
	return laterAt + int64(len(n.later)-len(name))
}

// get returns the file name of a message. An error is one of reading; the file may have been cut.
func (n *names) get(m *message) (string, error) {
	at, length := m.nameAt(), m.nameLength()
	if at >= laterAt {
		at -= laterAt
		return string(n.later[at : at+int64(length)]), nil
	}
	b := make([]byte, length)
	if _, err := n.file.ReadAt(b, n.start+at); err != nil {
		return "", err
	}
	if !isName(string(b)) {
		return "", errNotNames
	}
	return string(b), nil
}

// errNotNames: who meets it reads the directories, and forgets the index.
var errNotNames = fmt.Errorf("the names in the index are not those that were written: %w", fs.ErrNotExist)

// castagnoli is made when it is first used: programs that are executed for each connection link this package.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// loadIndex reads an index of size octets. False: it is none, or none any more.
func loadIndex(f io.ReaderAt, size int64) (*index, bool) {
	var h [headerSize]byte
	if _, err := f.ReadAt(h[:], 0); err != nil || string(h[:16]) != indexMagic ||
		binary.LittleEndian.Uint32(h[136:]) != crc32.Checksum(h[:136], castagnoli()) {
		return nil, false
	}
	x := &index{generation: binary.LittleEndian.Uint64(h[16:]), validity: binary.LittleEndian.Uint32(h[24:]),
		next: binary.LittleEndian.Uint32(h[28:]), highest: binary.LittleEndian.Uint64(h[32:])}
	count, octets := int64(binary.LittleEndian.Uint32(h[40:])), int64(binary.LittleEndian.Uint32(h[44:]))
	x.since = x.highest
	x.state.decode(h[48:])
	x.cache = binary.LittleEndian.Uint64(h[120:])
	x.base = headerSize + count*recordSize + octets
	if count > maxRecords || octets > 255*count || x.base > size {
		return nil, false
	}
	x.names = names{file: f, start: headerSize + count*recordSize, length: octets, sum: binary.LittleEndian.Uint32(h[132:])}
	if !x.load(f, int(count), binary.LittleEndian.Uint32(h[128:])) {
		return nil, false
	}
	x.end = x.base
	x.follow(f, size)
	return x, true
}

// load reads the records of the snapshot to where they stay, some at a time, so that they are looked at while they are in the processor's cache: 100,000 are 5.6 MB. The names stay
// where they are.
func (x *index) load(f io.ReaderAt, count int, sum uint32) bool {
	const some = 1024
	x.messages = make([]message, count)
	if b := octetsOf(x.messages); len(b) >= 1<<20 {
		populate(b)
	}
	last, is := uint32(0), uint32(0)
	for i := 0; i < count; i += some {
		part := x.messages[i:min(i+some, count)]
		b := octetsOf(part)
		if _, err := f.ReadAt(b, headerSize+int64(i)*recordSize); err != nil {
			return false
		}
		is = crc32.Update(is, castagnoli(), b)
		for k := range part {
			m := &part[k]
			if !littleEndian {
				m.decode(b[k*recordSize:])
			}
			if m.uid <= last || m.nameLength() == 0 || m.nameAt()+int64(m.nameLength()) > x.names.length {
				return false
			}
			last = m.uid
		}
	}
	return is == sum
}

// A message lies in memory as its record does in the file, but for the order of octets, which decode sees to number by number, and so in place too.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

var _ [recordSize]byte = [unsafe.Sizeof(message{})]byte{}

func octetsOf(m []message) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(m))), len(m)*recordSize)
}

// follow applies the changes that were appended since, as far as they are whole.
func (x *index) follow(f io.ReaderAt, size int64) error {
	if size == x.end {
		return nil // what follows costs a pass over all messages
	}
	r := io.NewSectionReader(f, x.end, size-x.end)
	b := make([]byte, 0, 64<<10)
	for {
		n, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+n]
		used := 0
		for {
			k := x.apply(b[used:])
			if k == 0 {
				break
			}
			used += k
		}
		x.end += int64(used)
		b = b[:copy(b, b[used:])]
		switch {
		case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
			x.compact()
			return err
		case err != nil || used == 0:
			x.compact()
			return nil
		}
	}
}

// frame appends a change to b.
func (x *index) frame(b []byte, kind byte, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, x.sum(kind, payload))
	b = append(b, kind)
	return append(b, payload...)
}

// sum of a change: the generation in it keeps what is left of an older file from being taken for one of this.
func (x *index) sum(kind byte, payload []byte) uint32 {
	var g [9]byte
	binary.LittleEndian.PutUint64(g[:], x.generation)
	g[8] = kind
	return crc32.Update(crc32.Checksum(g[:], castagnoli()), castagnoli(), payload)
}

// apply takes the change that b begins with and returns its octets, 0 when there is no whole one.
func (x *index) apply(b []byte) int {
	if len(b) < frameSize {
		return 0
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxPayload || int(n) > len(b)-frameSize {
		return 0
	}
	kind, p := b[8], b[frameSize:frameSize+n]
	if binary.LittleEndian.Uint32(b[4:]) != x.sum(kind, p) {
		return 0
	}
	switch {
	case (kind == 'A' || kind == 'F') && n > recordSize:
		var m message
		name := string(p[recordSize:])
		if !isName(name) {
			return 0
		}
		m.decode(p)
		x.put(m, name)
	case kind == 'L' && n == learntSize:
		if i, ok := x.find(binary.LittleEndian.Uint32(p)); ok {
			x.messages[i].decodeLearnt(p)
		}
	case kind == 'X' && n == 16:
		x.remove(binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint64(p[8:]))
	case kind == 'S' && n == 8+stateSize:
		x.next, x.validity = binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
		x.state.decode(p[8:])
	default:
		return 0
	}
	return frameSize + int(n)
}

// find returns where a UID stands, or would. Most often it is the one that was looked for before, or the next.
func (x *index) find(uid uint32) (i int, ok bool) {
	for i := x.near; i < min(x.near+2, len(x.messages)); i++ {
		if x.messages[i].uid == uid {
			x.near = i
			return i, true
		}
	}
	lo, hi := 0, len(x.messages)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if x.messages[mid].uid < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	x.near = lo
	return lo, lo < len(x.messages) && x.messages[lo].uid == uid
}

// put adds a message or replaces what was known of it.
func (x *index) put(m message, name string) {
	m.setName(x.names.add(name), len(name))
	x.changes++
	i, ok := x.find(m.uid)
	if ok {
		x.messages[i] = m
	} else {
		x.members++
		x.messages = append(x.messages, message{})
		copy(x.messages[i+1:], x.messages[i:])
		x.messages[i] = m
	}
	x.highest = max(x.highest, m.modseq)
	x.next = max(x.next, m.uid+1)
}

// remove takes a message out; compact must follow before the list is looked at.
func (x *index) remove(uid uint32, modseq uint64) {
	x.highest = max(x.highest, modseq)
	if i, ok := x.find(uid); ok {
		x.messages[i].setPlace(placeNone)
		x.removed = true
	}
	if len(x.gone) == maxGone {
		x.since = x.gone[maxGone/2-1].modseq
		x.gone = append(x.gone[:0], x.gone[maxGone/2:]...)
	}
	x.gone = append(x.gone, expunged{uid, modseq})
}

// had: a message of that UID was expunged, as far as is remembered.
func (x *index) had(uid uint32) bool {
	return uid != 0 && uid < x.next && slices.ContainsFunc(x.gone, func(e expunged) bool { return e.uid == uid })
}

// compact: one pass for all that were removed, be it one or a hundred thousand.
func (x *index) compact() {
	if !x.removed {
		return
	}
	x.removed = false
	x.members++
	x.changes++
	x.messages = slices.DeleteFunc(x.messages, func(m message) bool { return m.dead() })
}

// snapshot is the whole index as a file; the newest of the expunged are changes behind it.
func (x *index) snapshot() ([]byte, error) {
	names, err := x.allNames()
	if err != nil {
		return nil, err
	}
	n, octets := len(x.messages), 0
	for i := range x.messages {
		octets += x.messages[i].nameLength()
	}
	b := make([]byte, headerSize+n*recordSize, headerSize+n*recordSize+octets+keptGone*(frameSize+16))
	for i := range x.messages {
		m, name := x.messages[i], names[i]
		m.setName(int64(len(b)-headerSize-n*recordSize), len(name))
		m.append(b[headerSize+i*recordSize : headerSize+i*recordSize])
		b = append(b, name...)
	}
	h := bytes.NewBuffer(b[:0])
	h.WriteString(indexMagic)
	p := h.Bytes()
	p = binary.LittleEndian.AppendUint64(p, x.generation)
	p = binary.LittleEndian.AppendUint32(p, x.validity)
	p = binary.LittleEndian.AppendUint32(p, x.next)
	p = binary.LittleEndian.AppendUint64(p, x.highest)
	p = binary.LittleEndian.AppendUint32(p, uint32(n))
	p = binary.LittleEndian.AppendUint32(p, uint32(len(b)-headerSize-n*recordSize))
	p = x.state.append(p)
	p = binary.LittleEndian.AppendUint64(p, x.cache)
	p = binary.LittleEndian.AppendUint32(p, crc32.Checksum(b[headerSize:headerSize+n*recordSize], castagnoli()))
	p = binary.LittleEndian.AppendUint32(p, crc32.Checksum(b[headerSize+n*recordSize:], castagnoli()))
	binary.LittleEndian.AppendUint32(p, crc32.Checksum(b[:136], castagnoli()))
	for _, e := range x.gone[max(0, len(x.gone)-keptGone):] {
		if _, again := x.find(e.uid); !again {
			b = x.frame(b, 'X', e.append(nil))
		}
	}
	return b, nil
}
