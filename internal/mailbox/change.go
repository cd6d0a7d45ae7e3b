package mailbox

import (
	"bytes"
	"io"
	"sync"
)

// change applies a change and appends it to frames.
func (x *index) change(frames []byte, kind byte, m message, name string) []byte {
	x.put(m, name)
	m.setName(0, len(name))
	return x.frame(frames, kind, append(m.append(nil), name...))
}

// learn replaces what is known of a message but for its name and flags.
func (x *index) learn(frames []byte, m message) []byte {
	if i, ok := x.find(m.uid); ok {
		k := &x.messages[i]
		k.size, k.wire, k.date, k.facts = m.size, m.wire, m.date, m.facts
	}
	return x.frame(frames, 'L', m.appendLearnt(nil))
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
