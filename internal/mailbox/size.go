package mailbox

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Size is the number of octets of a message in wire form. It is in the name, or was counted before, or is counted now.
func (b *Mailbox) Size(uid uint32) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.index.x.find(uid)
	if !ok {
		return 0, ErrExpunged
	}
	if n := b.index.x.messages[i].wire; n != unknown {
		return int64(n), nil
	}
	return b.measureFrom(i)
}

// Measure counts the octets of a message, of which what was known turned out to be wrong: its facts are forgotten too. That happens where a program copies files
// to cur/, as none should, and they are read before they are whole.
func (b *Mailbox) Measure(uid uint32) (wire int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.measure(uid)
}

func (b *Mailbox) measure(uid uint32) (wire int64, err error) {
	f, err := b.file(uid)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, wire, err := measure(f)
	if err != nil {
		return 0, fmt.Errorf("mailbox: %w", err)
	}
	unlock, err := b.index.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if i, ok := b.index.x.find(uid); ok {
		m := b.index.x.messages[i]
		if m.size, m.wire = uint64(size), uint64(wire); m.wire != b.index.x.messages[i].wire {
			m.facts = 0
		}
		if err := b.index.write(b.ops, b.index.x.learn(nil, m)); err != nil {
			b.report(err)
		}
	}
	return wire, nil
}

// sizing says where the next of those messages stands that nobody has measured, and how many of them were measured together.
type sizing struct {
	of       *index
	next     int
	together int
}

// measureFrom measures the message that stands at i. Who asks for one after the other, of a mailbox that another program has filled, has some measured at a time, each time
// twice as many: their files are read together, and what they said is noted with one write.
func (b *Mailbox) measureFrom(i int) (wire int64, err error) {
	x, n := b.index.x, 1
	if s := &b.sizing; s.of == x && s.next == i {
		n = min(2*s.together, batchSize)
	}
	uid := x.messages[i].uid
	var files []unread
	next := i
	for ; next < len(x.messages) && (len(files) < n || x.messages[next].wire != unknown); next++ {
		m := &x.messages[next]
		if m.wire != unknown {
			continue
		}
		if name, err := b.reading.name(x, m); err == nil {
			files = append(files, unread{uid: m.uid, dir: b.place(m), name: name})
		}
	}
	known := false
	if n > 1 {
		if known, err = b.measureSome(files, uid); err != nil {
			return 0, err
		}
	}
	if !known { // alone, or it has another name by now
		wire, err = b.measure(uid)
	} else if i, ok := b.index.x.find(uid); ok {
		wire = int64(b.index.x.messages[i].wire)
	} else {
		err = ErrExpunged
	}
	b.sizing = sizing{b.index.x, next, n} // the index may be another now: then this is a guess
	return wire, err
}

// measureSome measures messages. known: the one with that uid was among those that could be.
func (b *Mailbox) measureSome(files []unread, uid uint32) (known bool, err error) {
	together(len(files), func(k int) { files[k].err = files[k].measure() })
	unlock, err := b.index.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	var frames []byte
	for k := range files {
		u := &files[k]
		i, ok := b.index.x.find(u.uid)
		if u.err != nil || !ok {
			continue
		}
		if m := b.index.x.messages[i]; m.wire == unknown { // another process may have been here
			m.size, m.wire, m.facts = u.size, u.wire, 0
			frames = b.index.x.learn(frames, m)
		}
		known = known || u.uid == uid
	}
	if len(frames) == 0 {
		return known, nil
	}
	if err := b.index.write(b.ops, frames); err != nil {
		b.report(err)
	}
	return known, nil
}

// measure reads the file of u.
func (u *unread) measure() error {
	fd, err := openMessage(u.dir, u.name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	size, wire, err := measure(descriptor(fd))
	u.size, u.wire = uint64(size), uint64(wire)
	return err
}

var measuring = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// measure counts the octets of a file, and those of its wire form: one more for each LF that has no CR before it.
func measure(f io.Reader) (size, wire int64, err error) {
	buffer := measuring.Get().(*[64 << 10]byte)
	defer measuring.Put(buffer)
	b := buffer[:]
	last := byte(0)
	for {
		n, err := f.Read(b)
		p := b[:n]
		if n > 0 {
			lines := bytes.Count(p, []byte{'\n'})
			pairs := bytes.Count(p, []byte("\r\n"))
			if p[0] == '\n' && last == '\r' {
				pairs++
			}
			last = p[n-1]
			size += int64(n)
			wire += int64(n + lines - pairs)
		}
		if err == io.EOF {
			return size, wire, nil
		}
		if err != nil {
			return size, wire, err
		}
	}
}
