package facts

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"postamt/internal/message"
)

// Describer describes messages. It holds what it can use again; the zero value is ready, and safe for concurrent use.
type Describer struct {
	free  sync.Pool
	large sync.Mutex
}

// Describe reads a message to its end, once, and returns its Facts and the number of its octets in wire form. The error is of r. Memory is what message.Parse
// needs, and twice that of the Facts; of those with wide words one is made at a time. What an ordinary message needs is kept for the next one.
func (d *Describer) Describe(r io.Reader) (f []byte, wire int64, err error) {
	w, _ := d.free.Get().(*work)
	if w == nil {
		w = &work{sum: sha256.New()}
		w.r = bufio.NewReaderSize(w, message.Block)
	}
	defer d.free.Put(w)
	w.from, w.cr = r, false
	w.sum.Reset()
	w.r.Reset(w)
	defer w.forget()
	m, err := message.Parse(w.r, message.Limits{})
	if err != nil {
		return nil, 0, err
	}
	w.ids(w.build(m, &d.large))
	if cap(w.b) > 2*maxNarrow { // too much to keep, so it need not be copied
		f, w.b = w.b, nil
		return f, m.Wire, nil
	}
	return bytes.Clone(w.b), m.Wire, nil
}

// work is what one Describe needs.
type work struct {
	builder
	from io.Reader
	r    *bufio.Reader // of work, which reads from from
	sum  hash.Hash
	cr   bool // that was not added to the sum yet
	out  [sha256.Size]byte
}

// forget lets go of what it was about, and of the room that only few need.
func (w *work) forget() {
	w.from = nil
	if cap(w.kept) > 1000 {
		w.kept = nil
	}
	if cap(w.value) > maxNarrow {
		w.value = nil
	}
	clear(w.kept)
	clear(w.first[:])
}

// Read adds what it reads to the sum, with every CR LF an LF.
func (w *work) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.add(p[:n])
	return n, err
}

func (w *work) add(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.cr && p[0] != '\n' {
		w.sum.Write([]byte{'\r'})
	}
	if w.cr = p[len(p)-1] == '\r'; w.cr {
		p = p[:len(p)-1]
	}
	for {
		i := bytes.Index(p, []byte("\r\n"))
		if i < 0 {
			w.sum.Write(p)
			return
		}
		w.sum.Write(p[:i])
		p = p[i+1:]
	}
}

// ids adds the object ids.
func (w *work) ids(own string, refs []string) {
	if w.cr {
		w.sum.Write([]byte{'\r'})
	}
	copy(w.b[atEmailID:][:idSize], w.sum.Sum(w.out[:0]))
	if len(refs) > 0 {
		own = refs[0]
	}
	if own != "" {
		w.sum.Reset()
		io.WriteString(w.sum, own)
		w.sum.Sum(w.out[:0])
	}
	copy(w.b[atThreadID:][:idSize], w.out[:])
}
