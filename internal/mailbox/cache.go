package mailbox

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

const (
	cacheName    = "postamt.cache"
	cacheTemp    = "postamt.cache.new" // of the writer, who has the index locked
	cacheMagic   = "postamt.cache 1\n"
	cacheHeader  = 64
	cacheCount   = 40 // where the number of records is
	entrySize    = 24
	maxFacts     = 1 << 20 // longer ones are not kept
	slackEntries = 1000    // so many records may be of no message, and as many as there are messages
)

// cacheFile is postamt.cache, open. Who has no lock reads records that are never changed; the rest is done with the index locked.
type cacheFile struct {
	f          *os.File // nil: none
	generation uint64
	failed     bool // what could not be written was reported
}

// cacheHead is the header of a file of a generation.
func cacheHead(generation uint64, validity, form uint32) []byte {
	h := append(make([]byte, 0, cacheHeader), cacheMagic...)
	h = binary.LittleEndian.AppendUint64(h, generation)
	h = binary.LittleEndian.AppendUint32(h, validity)
	h = binary.LittleEndian.AppendUint32(h, form)
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli()))
	return h[:cacheHeader]
}

// openCache opens the file with the name if it is one of ours, of this UIDVALIDITY and form.
func openCache(dir *os.File, validity, form uint32) (c cacheFile, ok bool) {
	fd, err := unix.Openat(int(dir.Fd()), cacheName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return c, false
	}
	c.f = os.NewFile(uintptr(fd), dir.Name()+"/"+cacheName)
	var h [cacheHeader]byte
	if _, ok = fileSize(c.f); ok {
		_, err = c.f.ReadAt(h[:], 0)
		c.generation = binary.LittleEndian.Uint64(h[16:])
		ok = err == nil && string(h[:cacheCount-4]) == string(cacheHead(c.generation, validity, form)[:cacheCount-4])
	}
	if !ok {
		c.f.Close()
		return cacheFile{}, false
	}
	return c, true
}

// createCache puts an empty file in the place of whatever there is.
func createCache(dir *os.File, ops *durable.Ops, validity, form uint32, fill func(*cacheFile) error) (c cacheFile, err error) {
	var seed [8]byte
	rand.Read(seed[:])
	c.generation = binary.LittleEndian.Uint64(seed[:]) | 1 // not 0
	ops.Unlink(dir, cacheTemp)                             // of a writer that died
	if c.f, err = ops.Create(dir, cacheTemp, 0o600); err != nil {
		return cacheFile{}, err
	}
	if err = ops.Write(c.f, cacheHead(c.generation, validity, form)); err == nil && fill != nil {
		err = fill(&c)
	}
	if err == nil {
		err = ops.AdoptShared(c.f, dir)
	}
	if err == nil {
		err = ops.Rename(dir, cacheTemp, dir, cacheName)
	}
	if err != nil {
		c.f.Close()
		ops.Unlink(dir, cacheTemp)
		return cacheFile{}, err
	}
	return c, nil
}

func (c *cacheFile) close() {
	if c.f != nil {
		c.f.Close()
	}
	c.f, c.generation = nil, 0
}

// appendEntry appends a record to b.
func (c *cacheFile) appendEntry(b []byte, uid uint32, name string, wire uint64, facts []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(facts)))
	b = binary.LittleEndian.AppendUint32(b, uid)
	b = binary.LittleEndian.AppendUint32(b, nameSum(name))
	b = binary.LittleEndian.AppendUint64(b, wire)
	b = append(b, facts...)
	binary.LittleEndian.PutUint32(b[at:], c.sum(b[at+4:]))
	return b
}

// nameSum is of the part of a file name that never changes. Who has lost the index, and with it what he knew of UIDs, sees by it that a record is
// of the message that has the UID now.
func nameSum(name string) uint32 { return crc32.Checksum([]byte(baseOf(name)), castagnoli()) }

// sum of a record without its sum.
func (c *cacheFile) sum(b []byte) uint32 {
	var g [8]byte
	binary.LittleEndian.PutUint64(g[:], c.generation)
	return crc32.Update(crc32.Checksum(g[:], castagnoli()), castagnoli(), b)
}

// entryLength is how long the facts are of the record that b begins with, -1: it is none.
func entryLength(b []byte) int {
	if len(b) < entrySize {
		return -1
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxFacts {
		return -1
	}
	return int(n)
}

// entry is the facts in a record, which must be whole and of that UID; nil: it is not. They are never nil themselves.
func (c *cacheFile) entry(b []byte, uid uint32) []byte {
	if binary.LittleEndian.Uint32(b[8:]) != uid || binary.LittleEndian.Uint32(b) != c.sum(b[4:]) {
		return nil
	}
	return b[entrySize:len(b):len(b)]
}

// scan calls f with every record that is whole, until there is none any more. One with a wrong sum is passed over, as long as it says where the next one is.
func (c *cacheFile) scan(f func(at int64, uid, name uint32, wire uint64)) {
	r := bufio.NewReaderSize(io.NewSectionReader(c.f, cacheHeader, 1<<62), entrySize+maxFacts)
	for at := int64(cacheHeader); ; {
		head, err := r.Peek(entrySize)
		n := entryLength(head)
		if err != nil || n < 0 {
			return
		}
		b, err := r.Peek(entrySize + n)
		if err != nil {
			return
		}
		if uid := binary.LittleEndian.Uint32(b[8:]); c.entry(b, uid) != nil {
			f(at, uid, binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]))
		}
		r.Discard(len(b))
		at += int64(len(b))
	}
}

// count reads the number of records that were ever written. It is a hint: nothing is wrong when it is.
func (c *cacheFile) count() uint64 {
	var b [8]byte
	c.f.ReadAt(b[:], cacheCount)
	return binary.LittleEndian.Uint64(b[:])
}

// end is where the next record goes.
func (c *cacheFile) end() uint64 {
	n, _ := fileSize(c.f)
	return uint64(max(n, cacheHeader))
}

// append writes records, so many, at the end. When they cannot be written nothing is left of them.
func (c *cacheFile) append(ops *durable.Ops, b []byte, records int) error {
	end := int64(c.end())
	err := ops.WriteAt(c.f, b, end)
	if err == nil {
		err = ops.WriteAt(c.f, binary.LittleEndian.AppendUint64(nil, c.count()+uint64(records)), cacheCount)
	}
	if err != nil {
		unix.Ftruncate(int(c.f.Fd()), end)
	}
	return err
}

// readable makes b.cache the file that the index speaks of, if that has the name; the mailbox is locked.
func (b *Mailbox) readable() bool {
	x := b.index.x
	if b.cache.f != nil && b.cache.generation == x.cache {
		return true
	}
	if x.cache == 0 {
		return false
	}
	c, ok := openCache(b.index.dir, x.validity, b.form)
	if ok && c.generation != x.cache {
		c.close()
		ok = false
	}
	if ok {
		b.cache.close()
		c.failed = b.cache.failed
		b.cache = c
	}
	return ok
}

// writable makes b.cache a file that has the name, to which the index is made to agree; the index is locked, and good. A file that the index does not
// know is taken as far as it is of the messages that there are: the index was lost, or who wrote a new file died before he could say so there.
func (e *editing) writable() error {
	b, x := e.b, e.x
	if b.cache.f != nil && b.cache.generation == x.cache && sameName(b.cache.f, b.index.dir, cacheName) {
		return nil
	}
	c, ok := openCache(b.index.dir, x.validity, b.form)
	if !ok {
		var err error
		if c, err = createCache(b.index.dir, b.ops, x.validity, b.form, nil); err != nil {
			return err
		}
	}
	c.failed = b.cache.failed
	b.cache.close()
	b.cache = c
	if c.generation == x.cache {
		return nil
	}
	for i := range x.messages {
		x.messages[i].facts = 0
	}
	names, err := x.allNames()
	if err != nil {
		return err
	}
	b.cache.scan(func(at int64, uid, name uint32, wire uint64) {
		if i, ok := x.find(uid); ok && nameSum(names[i]) == name {
			x.messages[i].facts, x.messages[i].wire = uint64(at), wire
		}
	})
	x.cache = c.generation
	return e.snapshot()
}

// snapshot writes the index anew.
func (e *editing) snapshot() error {
	if e.b.index.f == nil {
		return nil
	}
	if err := e.b.index.rewrite(e.b.ops); err != nil {
		return err
	}
	e.x, e.frames = e.b.index.x, nil
	return nil
}

// tidy writes a new file with the records of the messages that there are, in their order, when most of the file is of others.
func (e *editing) tidy() error {
	b, x := e.b, e.x
	if b.cache.count() <= uint64(len(x.messages))+slackEntries {
		return nil // without a look at each
	}
	var uids []uint32
	for i := range x.messages {
		if x.messages[i].facts != 0 {
			uids = append(uids, x.messages[i].uid)
		}
	}
	if b.cache.count() <= 2*uint64(len(uids))+slackEntries {
		return nil
	}
	names, err := x.allNames()
	if err != nil {
		return err
	}
	places := make([]uint64, len(x.messages))
	c, err := createCache(b.index.dir, b.ops, x.validity, b.form, func(c *cacheFile) error {
		var t batch
		for part := range slices.Chunk(uids, batchSize) {
			t.begin(x, part)
			t.read(&b.cache)
			var out []byte
			end := c.end()
			for k, uid := range part {
				if i, ok := x.find(uid); ok && t.facts[k] != nil {
					places[i] = end + uint64(len(out))
					out = c.appendEntry(out, uid, names[i], x.messages[i].wire, t.facts[k])
				}
			}
			if err := c.append(b.ops, out, len(part)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	for i := range x.messages {
		x.messages[i].facts = places[i]
	}
	c.failed = b.cache.failed
	b.cache.close()
	b.cache, x.cache = c, c.generation
	return e.snapshot()
}
