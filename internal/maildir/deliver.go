package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

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

// Size is the message's size so far, as it is stored, without the header fields above it.
func (d *Delivery) Size() int64 { return d.body.size }

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
	if c.counted, err = c.box.inbox.fits(c.Target.Quota, c.Size, 1, d.s.now()); err != nil {
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
		if err == nil && c.box.shared {
			if err = c.box.ops.Adopt(f, c.box.root); err != nil {
				f.Close()
				c.box.ops.Unlink(c.box.tmp, c.temp)
				return c.fail("share", err)
			}
		}
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
		c.box.inbox.count(c.Size, 1)
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
