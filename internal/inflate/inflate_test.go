package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"
	"unsafe"
)

// inflateAll reads src in pieces of so many octets, into room for so many.
func inflateAll(src []byte, piece, room int) (out []byte, err error) {
	var z Reader
	dst := make([]byte, room)
	for {
		p := src[:min(piece, len(src))]
		made, used, err := z.Inflate(dst, p)
		out = append(out, dst[:made]...)
		src = src[used:]
		if err != nil || len(src) == 0 && made < room {
			return out, err
		}
	}
}

func deflate(t testing.TB, level int, texts ...string) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range texts {
		io.WriteString(w, s)
		w.Flush()
	}
	w.Close()
	return b.Bytes()
}

var texts = []string{"", "a", "a1 UID FETCH 1:* (FLAGS)\r\n", strings.Repeat("a NOOP\r\n", 20000), strings.Repeat("x", 100000), random(70000)}

func random(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// What compress/flate has written is read, in pieces of any size.
func TestInflate(t *testing.T) {
	for level := flate.HuffmanOnly; level <= 9; level++ {
		src := deflate(t, level, texts...)
		want := strings.Join(texts, "")
		for _, by := range [][2]int{{1 << 20, 1 << 20}, {1, 100}, {100, 1}, {3, 7}} {
			if got, err := inflateAll(src, by[0], by[1]); err != ErrEnd || string(got) != want {
				t.Errorf("level %d, %v: %d octets of %d, %v", level, by, len(got), len(want), err)
			}
		}
	}
}

// What has come is given: all of it behind a partial flush (an empty block with fixed codes: 10 bits, then the next block begins in the same octet) as behind a full one.
func TestFlushed(t *testing.T) {
	// zlib's deflate(Z_PARTIAL_FLUSH) of "a NOOP\r\n" and "b NOOP\r\n" with raw windows, in two writes.
	first, second := partial[0], partial[1]
	var z Reader
	dst := make([]byte, 100)
	if n, used, err := z.Inflate(dst, first); string(dst[:n]) != "a NOOP\r\n" || used != len(first) || err != nil {
		t.Errorf("%q, %d of %d, %v", dst[:n], used, len(first), err)
	}
	if n, _, err := z.Inflate(dst, second); string(dst[:n]) != "b NOOP\r\n" || err != nil {
		t.Errorf("%q, %v", dst[:n], err)
	}
	z = Reader{}
	flushed := deflate(t, 1, "a NOOP\r\n")
	if n, _, err := z.Inflate(dst, flushed[:len(flushed)-5]); string(dst[:n]) != "a NOOP\r\n" || err != nil {
		t.Errorf("%q, %v", dst[:n], err)
	}
}

// A Reader is as large as the package says.
func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(Reader{}); n > 34<<10+512 {
		t.Errorf("%d octets", n)
	}
}

func BenchmarkInflate(b *testing.B) {
	src := deflate(b, 6, strings.Repeat("It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.\r\n", 10000)+random(1<<20))
	b.SetBytes(10000*119 + 1<<20)
	for b.Loop() {
		if _, err := inflateAll(src, 4096, 4096); err != ErrEnd {
			b.Fatal(err)
		}
	}
}

// FuzzInflate: what compress/flate reads we read, and nothing else, in whatever pieces.
func FuzzInflate(f *testing.F) {
	for level := flate.HuffmanOnly; level <= 9; level++ {
		f.Add(deflate(f, level, texts[:3]...), uint8(1), uint8(1))
	}
	f.Add(append(bytes.Clone(partial[0]), partial[1]...), uint8(2), uint8(3))
	f.Add([]byte{0x05, 0xc0, 0x01, 0, 0, 0, 0, 0, 0x10, 0, 0, 0}, uint8(1), uint8(200))
	f.Fuzz(func(t *testing.T, src []byte, piece, room uint8) {
		want, werr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(src)), 1<<20))
		got, err := inflateAll(src, int(piece)+1, int(room)+1)
		corrupt := errors.As(werr, new(flate.CorruptInputError))
		if corrupt && err == nil { // that there is no such code is seen a few bits later
			_, err = inflateAll(append(src, make([]byte, 8)...), 4096, 4096)
		}
		switch {
		case len(want) == 1<<20:
			return
		case werr == nil && err != ErrEnd, corrupt != (err == ErrCorrupt), !bytes.HasPrefix(got, want):
			t.Fatalf("%x: %q, %v; compress/flate: %q, %v", src, got, err, want, werr)
		}
	})
}
