package maildir

import (
	"bytes"
	"io"
	"sync"
)

// blockSize is how much of a message one block of memory holds. One block is
// the whole of most messages.
const blockSize = 64 << 10

// memoryLimit is how much of a message is held in memory; what is longer goes
// to disk while it arrives, into the file that the first recipient gets.
const memoryLimit = 1 << 20

// blockPool keeps blocks between messages. It holds nothing of a message that
// anyone reads: each block is written before it is read.
type blockPool struct{ p sync.Pool }

func (b *blockPool) get() *[blockSize]byte {
	if v := b.p.Get(); v != nil {
		return v.(*[blockSize]byte)
	}
	return new([blockSize]byte)
}

func (b *blockPool) put(v *[blockSize]byte) { b.p.Put(v) }

// text turns a message as it travels, with CRLF line ends, into a message as
// it lies in a maildir, with LF, and measures both. Only the pair CRLF is
// changed; so where every line ended in CRLF, as in all accepted mail that is
// not BINARYMIME, reading turns each LF back and has the very bytes again.
// A BINARYMIME message may have a lone LF, so it is stored as it is.
type text struct {
	binary bool
	cr     bool // a CR came last and may be the first half of a line end
	last   byte // the last byte that went out
	size   int64
	wire   int64 // size once each LF without a CR before it has got one
}

// convert takes bytes of src into dst and says how many it has taken and how
// many it has written. It takes all of src unless dst is full.
func (t *text) convert(dst, src []byte) (n, took int) {
	if t.binary {
		n = copy(dst, src)
		t.count(dst[:n])
		return n, n
	}
	for took < len(src) && n < len(dst) {
		line := src[took:]
		lf := bytes.IndexByte(line, '\n')
		if lf >= 0 {
			line = line[:lf]
		}
		if t.cr {
			if lf == 0 {
				t.cr = false
				dst[n] = '\n'
				n++
				took++
				t.end(1)
				continue
			}
			if len(line) > 0 {
				// The CR was an ordinary byte after all.
				t.cr = false
				dst[n] = '\r'
				n++
				t.size++
				t.wire++
				t.last = '\r'
				continue
			}
		}
		end := len(line)
		if end > 0 && line[end-1] == '\r' {
			end-- // kept back until the byte after it is known
		}
		c := copy(dst[n:], line[:end])
		n += c
		took += c
		t.size += int64(c)
		t.wire += int64(c)
		if c > 0 {
			t.last = line[c-1]
		}
		if c < end {
			return n, took // dst is full
		}
		if end < len(line) {
			t.cr = true
			took++
			continue
		}
		if lf >= 0 && n < len(dst) {
			dst[n] = '\n'
			n++
			took++
			t.end(1)
		}
	}
	return n, took
}

// finish writes what was kept back, at the end of the message.
func (t *text) finish(dst []byte) int {
	if !t.cr {
		return 0
	}
	t.cr = false
	dst[0] = '\r'
	t.size++
	t.wire++
	t.last = '\r'
	return 1
}

// end counts an LF that went out.
func (t *text) end(n int64) {
	t.size += n
	t.wire += n
	if t.last != '\r' {
		t.wire++
	}
	t.last = '\n'
}

// count measures bytes that are written as they are.
func (t *text) count(p []byte) {
	t.size += int64(len(p))
	t.wire += int64(len(p))
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			t.last = p[len(p)-1]
			return
		}
		if i > 0 {
			t.last = p[i-1]
		}
		if t.last != '\r' {
			t.wire++
		}
		t.last = '\n'
		p = p[i+1:]
	}
}

// Text copies a message to w as it lies in a maildir, and tells its size there and in wire form. The error is of either side.
func Text(w io.Writer, r io.Reader) (size, wire int64, err error) {
	return copyText(w, r, text{last: '\n'})
}

// Binary copies a message to w as it is, and tells the same.
func Binary(w io.Writer, r io.Reader) (size, wire int64, err error) {
	return copyText(w, r, text{binary: true})
}

func copyText(w io.Writer, r io.Reader, t text) (size, wire int64, err error) {
	in, out := make([]byte, blockSize), make([]byte, blockSize)
	for {
		n, rerr := r.Read(in)
		for p := in[:n]; len(p) > 0; {
			m, took := t.convert(out, p)
			if p = p[took:]; m == 0 {
				continue
			}
			if _, err := w.Write(out[:m]); err != nil {
				return t.size, t.wire, err
			}
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return t.size, t.wire, rerr
		}
	}
	if n := t.finish(out); n > 0 {
		_, err = w.Write(out[:n])
	}
	return t.size, t.wire, err
}

// measure gives the two sizes of a text that is stored as it is.
func measure(p []byte) (size, wire int64) {
	var t text
	t.count(p)
	return t.size, t.wire
}
