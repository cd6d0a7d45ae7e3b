// Package cdb reads and writes constant databases in D. J. Bernstein's format (https://cr.yp.to/cdb/cdb.txt): a file that maps keys to
// values, is made once as a whole, and answers from two or three reads, however many records it has.
//
//	2048 octets    256 pairs (position, slots) of hash tables
//	records        key length, value length, key, value; in the order in which they were added
//	hash tables    pairs (hash, position of the record), twice as many slots as records, linear probing
//
// All numbers are 32 bits, little-endian, so a file has at most 4 GiB. The tables begin where the records end, which is how a reader knows that
// place. There is no sum in the format: whether a file is whole its maker sees to (write beside, sync, rename), and whether it is the right one
// its user.
//
// A Reader reads (pread) and does not map the file: that takes 3 µs a search where memory would take 1, and who cuts a file that is mapped kills
// those who read it. The pages are the system's, once for all, in both.
//
// A Reader believes nothing: what points out of the file, or beyond the part that it should be in, is ErrFormat, and no search does more
// steps than the file has slots.
package cdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
)

// MaxSize is the size of a file.
const MaxSize = math.MaxUint32

// ErrFormat is, wrapped, what is wrong with a file that is no whole cdb. Other errors are those of reading.
var ErrFormat = errors.New("not a whole cdb")

// errTooLarge is the limit of the format.
var errTooLarge = errors.New("cdb: more than 4 GiB")

const (
	headerSize = 256 * 8
	slotSize   = 8
	// look is how much is read where a record begins: most end there.
	look = 256
	// block is how much is read at once where many records, or slots, are read in turn.
	block = 64 << 10
)

// hash is the hash of the format.
func hash[T ~string | ~[]byte](key T) uint32 {
	h := uint32(5381)
	for i := range len(key) {
		h = h<<5 + h ^ uint32(key[i])
	}
	return h
}

// Writer makes a file. It needs 8 octets of memory for each record.
type Writer struct {
	w     io.WriteSeeker
	b     *bufio.Writer
	at    uint64
	err   error
	slots [256][]slot
}

type slot struct{ hash, at uint32 }

// NewWriter begins a file at the start of w, which is empty.
func NewWriter(w io.WriteSeeker) *Writer {
	c := &Writer{w: w, b: bufio.NewWriterSize(w, block), at: headerSize}
	_, c.err = c.b.Write(make([]byte, headerSize)) // the place of the header
	return c
}

// Add appends a record. Of records with the same key a reader finds the first.
func (c *Writer) Add(key, value string) error {
	size := 8 + uint64(len(key)) + uint64(len(value))
	if c.err == nil && c.at+size > MaxSize {
		c.err = errTooLarge
	}
	if c.err != nil {
		return c.err
	}
	h := hash(key)
	c.slots[h%256] = append(c.slots[h%256], slot{h, uint32(c.at)})
	c.pair(uint32(len(key)), uint32(len(value)))
	c.b.WriteString(key)
	_, c.err = c.b.WriteString(value)
	c.at += size
	return c.err
}

func (c *Writer) pair(a, b uint32) {
	var p [8]byte
	binary.LittleEndian.PutUint32(p[:], a)
	binary.LittleEndian.PutUint32(p[4:], b)
	c.b.Write(p[:]) // the error stays, and Flush returns it
}

// Close writes the hash tables and the header. It does not close the file, nor sync it.
func (c *Writer) Close() error {
	if c.err != nil {
		return c.err
	}
	var header [headerSize]byte
	for i, l := range c.slots {
		table := make([]slot, 2*len(l))
		for _, s := range l {
			j := int(s.hash>>8) % len(table)
			for table[j].at != 0 {
				j = (j + 1) % len(table)
			}
			table[j] = s
		}
		if c.at > MaxSize-uint64(len(table))*slotSize {
			return errTooLarge
		}
		binary.LittleEndian.PutUint32(header[8*i:], uint32(c.at))
		binary.LittleEndian.PutUint32(header[8*i+4:], uint32(len(table)))
		for _, s := range table {
			c.pair(s.hash, s.at)
		}
		c.at += uint64(len(table)) * slotSize
	}
	if err := c.b.Flush(); err != nil {
		return err
	}
	if _, err := c.w.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := c.w.Write(header[:])
	return err
}

// Reader finds records. It keeps the header and nothing else, and may be used by any number of goroutines.
type Reader struct {
	r      io.ReaderAt
	size   int64
	end    int64 // of the records
	tables [256]struct{ at, slots uint32 }
}

// NewReader reads the header of a file of this size.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	if size < headerSize || size > MaxSize {
		return nil, fmt.Errorf("%w: %d octets", ErrFormat, size)
	}
	c := &Reader{r: r, size: size, end: size}
	var header [headerSize]byte
	if err := c.read(header[:], 0); err != nil {
		return nil, err
	}
	for i := range c.tables {
		t := &c.tables[i]
		t.at, t.slots = binary.LittleEndian.Uint32(header[8*i:]), binary.LittleEndian.Uint32(header[8*i+4:])
		if int64(t.at) < headerSize || int64(t.at)+int64(t.slots)*slotSize > size {
			return nil, fmt.Errorf("%w: a table that is not in it", ErrFormat)
		}
		c.end = min(c.end, int64(t.at))
	}
	return c, nil
}

// read fills b from offset at. The end of the file is an error of the format.
func (c *Reader) read(b []byte, at int64) error {
	n, err := c.r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return fmt.Errorf("%w: it ends at %d", ErrFormat, at+int64(n))
	}
	return err
}

// Find is the value of the first record with this key.
func (c *Reader) Find(key []byte) (value string, ok bool, err error) {
	h := hash(key)
	t := c.tables[h%256]
	if t.slots == 0 {
		return "", false, nil
	}
	// Most searches end within a few slots.
	var few [8 * slotSize]byte
	buf := few[:]
	for i, n := h>>8%t.slots, uint32(0); n < t.slots; {
		b := buf[:slotSize*min(uint32(len(buf)/slotSize), t.slots-i, t.slots-n)]
		if err := c.read(b, int64(t.at)+int64(i)*slotSize); err != nil {
			return "", false, err
		}
		for ; len(b) > 0; b = b[slotSize:] {
			at := binary.LittleEndian.Uint32(b[4:])
			if at == 0 {
				return "", false, nil
			}
			if binary.LittleEndian.Uint32(b) == h {
				if value, ok, err = c.match(int64(at), key); ok || err != nil {
					return value, ok, err
				}
			}
			i++
			n++
		}
		if i == t.slots {
			i = 0
		}
		if len(buf) == len(few) {
			buf = make([]byte, 4096)
		}
	}
	return "", false, nil
}

// match is the value of the record at at, if it has this key.
func (c *Reader) match(at int64, key []byte) (value string, ok bool, err error) {
	var few [look]byte
	b := few[:min(look, max(c.end-at, 0))]
	if at < headerSize || len(b) < 8 {
		return "", false, fmt.Errorf("%w: a record at %d", ErrFormat, at)
	}
	if err := c.read(b, at); err != nil {
		return "", false, err
	}
	k, v := int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))
	if k+v > c.end-at-8 {
		return "", false, fmt.Errorf("%w: a record at %d of %d octets", ErrFormat, at, k+v)
	}
	if k != int64(len(key)) {
		return "", false, nil
	}
	if 8+k+v > int64(len(b)) {
		b = make([]byte, 8+k+v)
		if err := c.read(b, at); err != nil {
			return "", false, err
		}
	}
	if string(b[8:8+k]) != string(key) {
		return "", false, nil
	}
	return string(b[8+k : 8+k+v]), true, nil
}

// Record is one of a file.
type Record struct{ Key, Value string }

// All yields every record in the order of the file. An error is the last that it yields.
func (c *Reader) All() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r := bufio.NewReaderSize(io.NewSectionReader(c.r, headerSize, c.end-headerSize), block)
		for at := int64(headerSize); at < c.end; {
			record, err := c.next(r, at)
			if !yield(record, err) || err != nil {
				return
			}
			at += 8 + int64(len(record.Key)) + int64(len(record.Value))
		}
	}
}

// next reads the record at at, where r is.
func (c *Reader) next(r io.Reader, at int64) (Record, error) {
	var head [8]byte
	_, err := io.ReadFull(r, head[:])
	if err == nil {
		k, v := int64(binary.LittleEndian.Uint32(head[:])), int64(binary.LittleEndian.Uint32(head[4:]))
		if k+v > c.end-at-8 {
			return Record{}, fmt.Errorf("%w: a record at %d of %d octets", ErrFormat, at, k+v)
		}
		b := make([]byte, k+v)
		if _, err = io.ReadFull(r, b); err == nil {
			s := string(b)
			return Record{s[:k], s[k:]}, nil
		}
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it ends within the record at %d", ErrFormat, at)
	}
	return Record{}, err
}
