package maildir

import (
	"os"

	"postamt/internal/durable"
)

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
