package imapd

import (
	"bytes"
	"io"
	"sync"
)

// wireForm makes of a run of octets of a message's file what is sent of it: every line end is CRLF, a CR that is none of a line end is a space, and, as a literal
// has no NUL (RFC 9051 section 9, CHAR8), a NUL is octet 128. So it has as many octets as the sizes that are told for it.
type wireForm struct {
	w    io.Writer
	skip int64 // octets of the wire form that are not wanted, from here
	left int64 // and how many are wanted then
	cr   bool  // the last octet was a CR, which has not been sent
	more bool  // there were octets that were not wanted any more
	err  error // of w
}

// blocks are buffers to read files, wide for the wire form of a block, however many lines it has. They are this package's only state, and the garbage collector empties it.
var (
	blocks = sync.Pool{New: func() any { return new([block]byte) }}
	wide   = sync.Pool{New: func() any { return new([2 * block]byte) }}
)

const block = 64 << 10

// copySpan sends the wire form of octets of r, from skip on, at most count of them, and returns how many are missing of these; a negative number says that there
// were more in octets. The error is of reading or of w.
func copySpan(w io.Writer, r io.ReaderAt, offset, octets, skip, count int64) (missing int64, err error) {
	f := &wireForm{w: w, skip: skip, left: count}
	b := blocks.Get().(*[block]byte)
	defer blocks.Put(b)
	eof := false
	for octets > 0 && f.left > 0 && f.err == nil {
		n, err := r.ReadAt(b[:min(octets, int64(len(b)))], offset)
		f.write(b[:n])
		offset += int64(n)
		octets -= int64(n)
		if eof = err == io.EOF; eof {
			break
		}
		if err != nil {
			return f.left, err
		}
	}
	f.end()
	if f.left == 0 && f.err == nil && !f.more && octets > 0 && !eof {
		n, _ := r.ReadAt(b[:1], offset)
		f.more = n > 0
	}
	if f.more {
		return -1, f.err
	}
	return f.left, f.err
}

// end is the end of the octets.
func (f *wireForm) end() {
	if f.cr {
		f.cr = false
		f.emit([]byte{' '})
	}
}

var crlf = []byte("\r\n")

// write takes more octets of the file; it may change them.
func (f *wireForm) write(b []byte) {
	replace(b, 0, 0x80)
	if f.skip == 0 && !f.cr && len(b) <= block && int64(len(b)+bytes.Count(b, crlf[1:])) <= f.left && bytes.IndexByte(b, '\r') < 0 {
		f.whole(b)
		return
	}
	for len(b) > 0 {
		if f.left == 0 {
			f.more = true
			return
		}
		if f.cr {
			f.cr = false
			if b[0] == '\n' {
				f.emit(crlf)
				b = b[1:]
				continue
			}
			f.emit([]byte{' '})
		}
		i := bytes.IndexByte(b, '\n')
		line := b
		if i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
			f.cr = i < 0
		}
		replace(line, '\r', ' ')
		f.emit(line)
		if i >= 0 {
			f.emit(crlf)
		}
	}
}

// whole takes octets that are all wanted, and have no CR: what most blocks of most messages are.
func (f *wireForm) whole(b []byte) {
	out := wide.Get().(*[2 * block]byte)
	defer wide.Put(out)
	n := 0
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			n += copy(out[n:], b)
			break
		}
		n += copy(out[n:], b[:i])
		n += copy(out[n:], crlf)
		b = b[i+1:]
	}
	f.emit(out[:n])
}

func (f *wireForm) emit(b []byte) {
	if n := min(f.skip, int64(len(b))); n > 0 {
		f.skip -= n
		b = b[n:]
	}
	f.more = f.more || int64(len(b)) > f.left
	b = b[:min(f.left, int64(len(b)))]
	if len(b) > 0 && f.err == nil {
		_, f.err = f.w.Write(b)
		f.left -= int64(len(b))
	}
}

func replace(b []byte, old, new byte) {
	for i := bytes.IndexByte(b, old); i >= 0; i = bytes.IndexByte(b, old) {
		b[i] = new
		b = b[i+1:]
	}
}
