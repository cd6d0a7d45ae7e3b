package mailbox

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"slices"
	"sort"

	"golang.org/x/sys/unix"
)

const (
	columnsName   = "postamt.columns"
	columnsTemp   = "postamt.columns.new" // of who has it locked
	columnsMagic  = "postamt.column1\n"
	columnsHeader = 64
	maxColumns    = 8
	blockRows     = 1024
	rowSize       = 12
	maxValue      = 1<<16 - 1 // octets; a message with more in a column has a row without values
	blockOctets   = 1 << 20   // a block ends when it has so many of text; with its last row it has maxColumns * maxValue more at most
)

// columnsFile is postamt.columns, open. Nobody changes one that has the name: another takes its place.
type columnsFile struct {
	f          *os.File
	generation uint64 // of the cache that it is of
	columns    int
	blocks     []columnsBlock
}

// columnsBlock is the head of a block.
type columnsBlock struct {
	at          int64
	rows        int
	first, last uint32             // UIDs
	octets      [maxColumns]uint32 // of each column
	sums        [maxColumns]uint32
}

func (b *columnsBlock) head(columns int) int64 { return int64(16 + 8*columns) }

// column is where a column begins; that of the number of columns is the end of the block.
func (b *columnsBlock) column(k, columns int) int64 {
	at := b.at + b.head(columns) + int64(b.rows)*rowSize
	for _, n := range b.octets[:k] {
		at += int64(n)
	}
	return at
}

// columnsHead is the header of a file.
func columnsHead(generation uint64, validity, form uint32, columns int) []byte {
	h := append(make([]byte, 0, columnsHeader), columnsMagic...)
	h = binary.LittleEndian.AppendUint64(h, generation)
	h = binary.LittleEndian.AppendUint32(h, validity)
	h = binary.LittleEndian.AppendUint32(h, form)
	h = binary.LittleEndian.AppendUint32(h, uint32(columns))
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli()))
	return h[:columnsHeader]
}

// openColumns opens the file with the name if it is of that generation of the cache; nil: it is not. What it says of its blocks is looked at when they are read.
func openColumns(dir *os.File, generation uint64, validity, form uint32, columns int) *columnsFile {
	fd, err := unix.Openat(int(dir.Fd()), columnsName, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	c := &columnsFile{f: os.NewFile(uintptr(fd), dir.Name()+"/"+columnsName), generation: generation, columns: columns}
	size, ok := fileSize(c.f)
	var h [columnsHeader]byte
	if ok {
		_, err = c.f.ReadAt(h[:], 0)
		ok = err == nil && string(h[:]) == string(columnsHead(generation, validity, form, columns))
	}
	if !ok {
		c.f.Close()
		return nil
	}
	for at, last := int64(columnsHeader), uint32(0); at < size; {
		b := columnsBlock{at: at}
		head := make([]byte, b.head(columns))
		if _, err := c.f.ReadAt(head, at); err != nil {
			break
		}
		b.rows = int(binary.LittleEndian.Uint32(head[4:]))
		b.first, b.last = binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
		octets := int64(0)
		for k := range columns {
			b.octets[k], b.sums[k] = binary.LittleEndian.Uint32(head[16+8*k:]), binary.LittleEndian.Uint32(head[20+8*k:])
			octets += int64(b.octets[k]) - 2*int64(b.rows)
		}
		if at = b.column(columns, columns); b.rows == 0 || b.rows > blockRows || octets > blockOctets+maxColumns*maxValue || at > size || b.first <= last || b.last < b.first {
			break
		}
		last = b.last
		c.blocks = append(c.blocks, b)
	}
	return c
}

// readRows reads what a block says of its rows. Nil: it is damaged.
func (c *columnsFile) readRows(b *columnsBlock, room []byte) []byte {
	p := grown(room, int(b.head(c.columns))+b.rows*rowSize)
	if _, err := c.f.ReadAt(p, b.at); err != nil || binary.LittleEndian.Uint32(p) != crc32.Checksum(p[4:], castagnoli()) ||
		binary.LittleEndian.Uint32(p[4:]) != uint32(b.rows) {
		return nil
	}
	return p[b.head(c.columns):]
}

// readColumn reads the lengths of a column's texts, and these. Nil: it is damaged.
func (c *columnsFile) readColumn(b *columnsBlock, k int, room []byte) []byte {
	p := grown(room, int(b.octets[k]))
	if _, err := c.f.ReadAt(p, b.column(k, c.columns)); err != nil || crc32.Checksum(p, castagnoli()) != b.sums[k] || len(p) < 2*b.rows {
		return nil
	}
	octets := 2 * b.rows
	for i := range b.rows {
		octets += int(binary.LittleEndian.Uint16(p[2*i:]))
	}
	if octets != len(p) {
		return nil
	}
	return p
}

func grown(b []byte, n int) []byte { return slices.Grow(b[:0], n)[:n] }

// tabled is what a mailbox has of its columns.
type tabled struct {
	file   *columnsFile
	stale  bool // many were asked for of which it says nothing
	failed bool // it could not be written
}

// Columns calls each with what Options.Column said of messages, in the order of the UIDs given, which ascend, with those values that are in set, a bit each, for the time of
// the call. It is Facts, but where many are asked for again and again, these few octets of each stand next to those of the next.
func (b *Mailbox) Columns(ctx context.Context, validity uint32, uids []uint32, set uint32, each func(uid uint32, values [][]byte) error) error {
	t := &tabling{b: b, ctx: ctx, validity: validity, set: set, each: each, values: make([][]byte, b.columns)}
	if len(uids) <= b.few {
		return t.facts(uids)
	}
	b.mu.Lock()
	c, build := b.table()
	b.mu.Unlock()
	if build {
		err := t.tabulate(uids)
		return errors.Join(err, t.unread)
	}
	if err := t.visit(c, uids); err != nil {
		return err
	}
	if t.missing > max(b.few, len(uids)/16) {
		b.mu.Lock()
		b.tabled.stale = true
		b.mu.Unlock()
	}
	return t.unread
}

// table is the file; build: a new one is to be made. The mailbox is locked.
func (b *Mailbox) table() (c *columnsFile, build bool) {
	x, t := b.index.x, &b.tabled
	if x.cache == 0 {
		return nil, false
	}
	if t.file != nil && t.file.generation == x.cache && !t.stale {
		return t.file, false
	}
	if t.file == nil || t.file.generation != x.cache || !sameName(t.file.f, b.index.dir, columnsName) { // another process may have made one
		if c := openColumns(b.index.dir, x.cache, x.validity, b.form, b.columns); c != nil {
			b.tabled.close()
			t.file, t.stale = c, false
			return c, false
		}
	}
	return t.file, t.stale && !t.failed
}

func (t *tabled) close() {
	if t.file != nil {
		t.file.f.Close()
	}
	t.file = nil
}

// tabling is one visit of columns.
type tabling struct {
	b        *Mailbox
	ctx      context.Context
	validity uint32
	set      uint32
	each     func(uid uint32, values [][]byte) error
	values   [][]byte
	text     []byte
	missing  int   // messages of which the file says nothing
	unread   error // why one could not be read
	ended    error // of each

	// Of the block that is visited.
	rows    []byte
	places  []uint64
	columns [maxColumns][]byte
	late    []uint32 // without a row, and not visited yet
}

// facts visits messages without the file.
func (t *tabling) facts(uids []uint32) error {
	err := t.b.Facts(t.ctx, t.validity, uids, func(uid uint32, facts []byte) error {
		t.make(facts, t.set)
		t.ended = t.each(uid, t.values)
		return t.ended
	})
	return t.failed(err)
}

// failed is what ends the visit of all; what keeps one message from being read does not.
func (t *tabling) failed(err error) error {
	if err == nil || t.ended != nil || t.ctx.Err() != nil || errors.Is(err, ErrValidity) {
		return err
	}
	if t.unread == nil {
		t.unread = err
	}
	return nil
}

// make makes values of facts.
func (t *tabling) make(facts []byte, set uint32) {
	t.text = t.text[:0]
	for k := range t.values {
		if set>>k&1 != 0 {
			at := len(t.text)
			t.text = t.b.column(t.text, facts, k)
			t.values[k] = t.text[at:]
		}
	}
}

// visit visits messages block by block.
func (t *tabling) visit(c *columnsFile, uids []uint32) error {
	var blocks []columnsBlock
	if c != nil {
		blocks = c.blocks
	}
	for len(uids) > 0 {
		for len(blocks) > 0 && blocks[0].last < uids[0] {
			blocks = blocks[1:]
		}
		if len(blocks) == 0 {
			t.missing += len(uids)
			return t.facts(uids)
		}
		n := sort.Search(len(uids), func(i int) bool { return uids[i] > blocks[0].last })
		if err := t.block(c, &blocks[0], uids[:n]); err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

// block visits messages in the range of a block.
func (t *tabling) block(c *columnsFile, b *columnsBlock, uids []uint32) error {
	if len(uids) < b.rows/32 { // less to read
		return t.facts(uids)
	}
	whole := t.find(c, uids)
	if whole {
		t.rows = c.readRows(b, t.rows)
		whole = t.rows != nil
	}
	for k := 0; k < c.columns && whole; k++ {
		if t.set>>k&1 != 0 {
			t.columns[k] = c.readColumn(b, k, t.columns[k])
			whole = t.columns[k] != nil
		}
	}
	if !whole {
		t.missing += len(uids)
		return t.facts(uids)
	}
	row := 0
	var at [maxColumns]int
	for k := range at {
		at[k] = 2 * b.rows
	}
	t.late = t.late[:0]
	for i, uid := range uids {
		for ; row < b.rows && binary.LittleEndian.Uint32(t.rows[row*rowSize:]) < uid; row++ {
			for k := range t.values {
				if t.set>>k&1 != 0 {
					at[k] += int(binary.LittleEndian.Uint16(t.columns[k][2*row:]))
				}
			}
		}
		place := gone
		if row < b.rows && binary.LittleEndian.Uint32(t.rows[row*rowSize:]) == uid {
			place = binary.LittleEndian.Uint64(t.rows[row*rowSize+4:])
		}
		if t.places[i] == gone {
			continue
		}
		if place != t.places[i] {
			if t.late = append(t.late, uid); place != noPlace {
				t.missing++
			}
			continue
		}
		if err := t.flush(); err != nil {
			return err
		}
		for k := range t.values {
			if t.set>>k&1 != 0 {
				n := int(binary.LittleEndian.Uint16(t.columns[k][2*row:]))
				t.values[k] = t.columns[k][at[k] : at[k]+n : at[k]+n]
			}
		}
		if t.ended = t.each(uid, t.values); t.ended != nil {
			return t.ended
		}
	}
	return t.flush()
}

func (t *tabling) flush() error {
	if len(t.late) == 0 {
		return nil
	}
	err := t.facts(t.late)
	t.late = t.late[:0]
	return err
}

const (
	gone    = ^uint64(0) // the place of the facts of a message that is gone
	noPlace = gone - 1   // of a row without values: they are too long, or the facts are not kept
)

// find finds the places of facts, by which a row is of the message that has the UID now. False: those of the file are of another cache.
func (t *tabling) find(c *columnsFile, uids []uint32) bool {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	x := t.b.index.x
	t.places = t.places[:0]
	for _, uid := range uids {
		place := gone
		if i, ok := x.find(uid); ok {
			place = x.messages[i].facts
		}
		t.places = append(t.places, place)
	}
	return (t.validity == 0 || x.validity == t.validity) && (c == nil || x.cache == c.generation)
}
