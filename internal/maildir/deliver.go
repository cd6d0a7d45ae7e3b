package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"postamt/internal/durable"
)

// batchMin is the number of copies from which syncing the whole file system
// twice is quicker than syncing each file and directory. It also flushes what
// others have written, so it is not for few.
const batchMin = 16

// Delivery is a message on its way into one or more maildirs: Begin, Write and
// Commit, or Abort. It is for one goroutine.
type Delivery struct {
	s      *Store
	msg    Message
	copies []copyState
	body   text
	blocks []*[blockSize]byte // all full but the last
	used   int                // bytes of the last

	spilled int      // index of the copy whose file takes the body as it comes; -1: none yet
	source  *os.File // that file again, for reading; nil when there is only one copy
	onDisk  int64    // bytes of the body in it
	lost    bool     // every copy failed: what still comes is thrown away
}

type copyState struct {
	Copy
	Result
	wire  int64 // the header's size with CRLF
	box   *box
	stem  string
	temp  string
	file  *os.File
	twin  int  // index of an earlier copy with the same stem, or -1
	final bool // nothing is left to do for it

	counted bool // the maildir has a quota
}

// Begin starts the delivery of a message. Nothing is done on disk yet.
func (s *Store) Begin(m Message, copies []Copy) *Delivery {
	d := &Delivery{s: s, msg: m, copies: make([]copyState, len(copies)), spilled: -1}
	d.body.binary = m.Binary
	d.body.last = '\n' // a header stands above it, or nothing
	for i := range copies {
		c := &d.copies[i]
		c.Copy = copies[i]
		c.twin = -1
		if m.Binary {
			c.Header = bytes.ReplaceAll(c.Header, []byte("\n"), []byte("\r\n"))
		}
		_, c.wire = measure(c.Header)
	}
	return d
}

// Write takes more of the message. It always takes all: what goes wrong is in
// the results, because a session must read a message to its end in any case.
func (d *Delivery) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !d.lost {
		room := d.room()
		w, took := d.body.convert(room, p)
		d.used += w
		p = p[took:]
	}
	return n, nil
}

// room returns free space in the last block, of at least one byte.
func (d *Delivery) room() []byte {
	if len(d.blocks) == 0 || d.used == blockSize {
		if len(d.blocks)*blockSize >= memoryLimit || d.spilled >= 0 && len(d.blocks) > 0 {
			d.spill()
			d.used = 0
		} else {
			d.blocks = append(d.blocks, d.s.blocks.get())
			d.used = 0
		}
	}
	return d.blocks[len(d.blocks)-1][d.used:]
}

// Size is the message's size so far, as it is stored, without the header fields above it.
func (d *Delivery) Size() int64 { return d.body.size }

// writeMemory writes h and then what is in memory.
func (d *Delivery) writeMemory(f *os.File, h []byte) error {
	var space [1 + memoryLimit/blockSize][]byte
	bufs := space[:0]
	if len(h) > 0 {
		bufs = append(bufs, h)
	}
	for i, block := range d.blocks {
		if i < len(d.blocks)-1 {
			bufs = append(bufs, block[:])
		} else if d.used > 0 {
			bufs = append(bufs, block[:d.used])
		}
	}
	return d.write(f, bufs...)
}

func (d *Delivery) write(f *os.File, bufs ...[]byte) error {
	if o := d.s.ops; o != nil && o.Fault != nil {
		if err := o.Fault(durable.OpWrite, f.Name()); err != nil {
			return err
		}
	}
	return writeAll(f, bufs)
}

// spill moves the body from memory to disk: into the temporary file of the
// first recipient, who needs it there anyway, so that a large message is
// written once. If that disk is full the next recipient's file takes over.
func (d *Delivery) spill() {
	if d.spilled < 0 {
		d.takeOver(0)
	} else {
		c := &d.copies[d.spilled]
		if err := d.writeMemory(c.file, nil); err != nil {
			c.fail("write", err)
			d.takeOver(d.spilled + 1)
			c.discard()
		}
	}
	if len(d.blocks) > 0 {
		d.onDisk += int64(len(d.blocks)-1)*blockSize + int64(d.used)
		for _, b := range d.blocks[1:] {
			d.s.blocks.put(b)
		}
		d.blocks = d.blocks[:1]
		d.used = 0
	}
}

// takeOver lets the first usable copy from number i on hold the body: what an
// earlier file has of it, then what is in memory.
func (d *Delivery) takeOver(i int) {
	for ; i < len(d.copies); i++ {
		c := &d.copies[i]
		if c.final || c.prepare(d) != nil || c.create() != nil {
			continue
		}
		err := d.write(c.file, c.Header)
		if err == nil && d.onDisk > 0 {
			err = copyRange(c.file, d.source, d.sourceStart(), d.onDisk)
		}
		if err == nil {
			err = d.writeMemory(c.file, nil)
		}
		var again *os.File
		if err == nil && len(d.copies) > 1 {
			again, err = openFile(c.box.tmp, c.temp)
		}
		if err != nil {
			c.fail("write", err)
			c.discard()
			continue
		}
		if d.source != nil {
			d.source.Close()
		}
		d.source, d.spilled = again, i
		return
	}
	d.lost = true
}

// sourceStart is where the body begins in the file that holds it.
func (d *Delivery) sourceStart() int64 { return int64(len(d.copies[d.spilled].Header)) }

// Abort forgets the message and removes what was written of it.
func (d *Delivery) Abort() {
	for i := range d.copies {
		d.copies[i].discard()
	}
	d.free()
}

func (d *Delivery) free() {
	for i := range d.copies {
		if b := d.copies[i].box; b != nil {
			d.s.release(b)
			d.copies[i].box = nil
		}
	}
	for _, b := range d.blocks {
		d.s.blocks.put(b)
	}
	d.blocks = nil
	if d.source != nil {
		d.source.Close()
		d.source = nil
	}
}

// Commit stores the message and says, for each copy in the order of Begin,
// whether it is there. Copies for the same mailbox and folder are one.
func (d *Delivery) Commit() []Result {
	defer d.free()
	if d.body.cr {
		d.used += d.body.finish(d.room())
	}
	if d.spilled >= 0 && !d.lost {
		d.spill()
	}
	seen := make(map[string]int)
	// So many at a time, because each holds a maildir open.
	for first := 0; first < len(d.copies); first += d.s.limit {
		d.wave(d.copies[first:min(first+d.s.limit, len(d.copies))], first, seen)
	}
	results := make([]Result, len(d.copies))
	for i := range d.copies {
		c := &d.copies[i]
		if c.twin >= 0 {
			c.Result = d.copies[c.twin].Result
		}
		results[i] = c.Result
	}
	return results
}

// wave delivers some of the copies, the first of which has the number first.
func (d *Delivery) wave(wave []copyState, first int, seen map[string]int) {
	workers := min(runtime.GOMAXPROCS(0), 4)
	each(len(wave), workers, func(i int) {
		if c := &wave[i]; !c.final {
			c.prepare(d)
		}
	})
	var todo []*copyState
	for i := range wave {
		c := &wave[i]
		if c.final {
			continue
		}
		if twin, ok := seen[c.stem]; ok {
			c.twin = twin
			c.final = true
			c.discard()
			continue
		}
		seen[c.stem] = first + i
		todo = append(todo, c)
	}
	todo = d.batches(todo)
	each(len(todo), 8, func(i int) { todo[i].deliver(d) })
	for i := range wave {
		c := &wave[i]
		if c.box == nil {
			continue
		}
		if c.Err == nil && c.twin < 0 {
			d.s.sweepSometimes(c.box)
		}
		d.s.release(c.box)
		c.box = nil
	}
}

// batches delivers those copies that share a file system with many others, and
// returns the rest.
func (d *Delivery) batches(todo []*copyState) (rest []*copyState) {
	if len(todo) < batchMin {
		return todo
	}
	byDev := make(map[uint64][]*copyState)
	for _, c := range todo {
		byDev[c.box.dev] = append(byDev[c.box.dev], c)
	}
	for _, group := range byDev {
		if len(group) < batchMin || !durable.KeepsNames(group[0].box.new) {
			rest = append(rest, group...)
			continue
		}
		d.batch(group)
	}
	return rest
}

// batch delivers copies that are all on one file system: write all, sync it,
// rename all, sync it.
func (d *Delivery) batch(group []*copyState) {
	workers := min(runtime.GOMAXPROCS(0), 4)
	// syncfs reports each failed write once to each descriptor that was open
	// before it: so this is opened before the writes, and is ours alone, lest
	// another batch is told of our error and we are not.
	dir, err := openDir(group[0].box.new, ".")
	if err != nil {
		for _, c := range group {
			c.fail("open", err)
			c.discard()
		}
		return
	}
	defer dir.Close()
	step := func(f func(c *copyState)) {
		each(len(group), workers, func(i int) {
			if c := group[i]; !c.final {
				f(c)
			}
		})
	}
	flush := func() error {
		d.s.syncs <- struct{}{}
		defer func() { <-d.s.syncs }()
		return d.s.ops.Syncfs(dir)
	}
	step(func(c *copyState) {
		if c.look(d) {
			return
		}
		if c.write(d) == nil {
			c.closeFile()
		}
	})
	err = flush()
	if errors.Is(err, errors.ErrUnsupported) {
		// A kernel before Linux 5.8: the steps one by one, after all.
		step(func(c *copyState) {
			f, err := openFile(c.box.tmp, c.temp)
			if err != nil {
				c.fail("sync", err)
				c.discard()
				return
			}
			c.file = f
			c.store(d)
		})
		return
	}
	step(func(c *copyState) {
		if err != nil {
			c.fail("sync", err)
			c.discard()
			return
		}
		c.box.settled()
		c.publish()
	})
	err = flush()
	step(func(c *copyState) {
		if err != nil {
			c.fail("sync new", err)
			c.Unknown = true
			return
		}
		c.done()
	})
}

// deliver takes one copy through all steps.
func (c *copyState) deliver(d *Delivery) {
	if !c.look(d) && c.write(d) == nil {
		c.store(d)
	}
}

// store takes a written copy to its place.
func (c *copyState) store(d *Delivery) {
	d.s.syncs <- struct{}{}
	defer func() { <-d.s.syncs }()
	if err := c.box.settle(); err != nil {
		c.fail("", err)
		c.discard()
		return
	}
	if err := c.box.ops.Sync(c.file); err != nil {
		c.fail("sync", err)
		c.discard()
		return
	}
	if c.closeFile() != nil {
		return
	}
	if c.publish() != nil {
		return
	}
	if err := c.box.group.Sync(c.box.new); err != nil {
		c.fail("sync new", err)
		c.Unknown = true
		return
	}
	c.done()
}

// prepare opens the maildir and makes the stem of the name.
func (c *copyState) prepare(d *Delivery) error {
	if c.box != nil || c.final {
		return nil
	}
	b, err := d.s.open(&c.Target)
	if err != nil {
		c.fail("", err)
		return err
	}
	c.box = b
	c.Folder = b.folder
	c.stem, err = stem(d.msg.Arrived, d.msg.ID, c.Target.Owner, b.folder, d.s.host)
	if err != nil {
		c.fail("", err)
	}
	return err
}

// look fixes the name, now that the size is known, and says whether nothing is
// to be written: the message is there, or the mailbox is full.
func (c *copyState) look(d *Delivery) (end bool) {
	c.Size = int64(len(c.Header)) + d.body.size
	c.Name = fullName(c.stem, c.Size, c.wire+d.body.wire)
	if d.msg.Suspect {
		found, err := c.box.find(c.stem, c.Name)
		if err != nil {
			c.fail("look for "+c.stem, err)
			c.discard()
			return true
		}
		if found != "" {
			c.Name, c.Again, c.final = found, true, true
			c.discard()
			return true
		}
	}
	var err error
	if c.counted, err = c.box.inbox.fits(c.Target.Quota, c.Size, d.s.now()); err != nil {
		c.fail("", err)
		c.discard()
		return true
	}
	return false
}

// create makes the temporary file.
func (c *copyState) create() error {
	for range 8 {
		c.temp = tempName(c.stem)
		f, err := c.box.ops.Create(c.box.tmp, c.temp, 0o600)
		if err == nil {
			c.file = f
			return nil
		}
		// Whatever bears that name is somebody's: another name (M04).
		if !errors.Is(err, os.ErrExist) {
			return c.fail("create in tmp", err)
		}
	}
	return c.fail("create in tmp", os.ErrExist)
}

// write makes the temporary file and writes it, unless it has been written
// while the message came.
func (c *copyState) write(d *Delivery) error {
	if c.file != nil {
		return nil
	}
	err := c.create()
	if err != nil && removed(err) {
		// The maildir was removed since it was opened, and perhaps made anew.
		d.s.drop(c.box)
		d.s.release(c.box)
		c.box, c.Err, c.final = nil, nil, false
		if err = c.prepare(d); err == nil {
			c.Name = fullName(c.stem, c.Size, c.wire+d.body.wire)
			err = c.create()
		}
	}
	if err != nil {
		return err
	}
	if d.spilled < 0 {
		err = d.writeMemory(c.file, c.Header)
	} else if err = d.write(c.file, c.Header); err == nil {
		err = copyRange(c.file, d.source, d.sourceStart(), d.onDisk)
	}
	if err != nil {
		c.fail("write", err)
		c.discard()
	}
	return err
}

// closeFile closes the temporary file; some file systems report there that the
// data could not be written.
func (c *copyState) closeFile() error {
	err := c.box.ops.Close(c.file)
	c.file = nil
	if err != nil {
		c.fail("close", err)
		c.discard()
	}
	return err
}

// publish gives the file its final name. A file that bears it already is this
// message, from an earlier attempt, unless a crash has cut it short.
func (c *copyState) publish() error {
	for range 2 {
		err := c.box.ops.Publish(c.box.tmp, c.temp, c.box.new, c.Name)
		if err == nil {
			c.temp = ""
			return nil
		}
		if !errors.Is(err, os.ErrExist) {
			c.fail("publish", err)
			c.discard()
			return err
		}
		size, err := sizeOf(c.box.new, c.Name)
		if err == nil && size == c.Size {
			c.Again = true
			c.discard()
			return nil
		}
		if err == nil {
			err = c.box.setAside(c.box.new, c.Name)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.fail("publish", err)
			c.discard()
			return err
		}
	}
	err := c.fail("publish", os.ErrExist)
	c.discard()
	return err
}

// done is the end of a delivery that went well.
func (c *copyState) done() {
	c.final = true
	if c.counted && !c.Again {
		c.box.inbox.count(c.Size)
	}
}

// discard removes this attempt's own temporary file, and no other.
func (c *copyState) discard() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
	if c.temp != "" {
		// If it stays, the sweeper finds it.
		c.box.ops.Unlink(c.box.tmp, c.temp)
		c.temp = ""
	}
}

// fail ends the delivery of this copy.
func (c *copyState) fail(step string, err error) error {
	if step != "" {
		err = fmt.Errorf("maildir: deliver to %s: %s: %w", c.Target.Path, step, err)
	}
	c.Err, c.final = err, true
	c.Name = ""
	return err
}

// each calls f for 0 to n-1, from several goroutines at once.
func each(n, workers int, f func(i int)) {
	if n < 2 || workers < 2 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, workers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
