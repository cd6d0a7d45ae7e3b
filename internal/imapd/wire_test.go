package imapd

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopySpan(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"", ""}, {"a", "a"}, {"a\n", "a\r\n"}, {"a\r\n", "a\r\n"}, {"\n\n", "\r\n\r\n"}, {"a\rb\n", "a b\r\n"}, {"\r\r\n", " \r\n"}, {"a\r", "a "},
		{"a\x00b\x00\n\x00", "a\x80b\x80\r\n\x80"}, {"x\r\ny\nz", "x\r\ny\r\nz"},
	} {
		for skip := 0; skip <= len(c.out); skip++ {
			for count := 0; count <= len(c.out)-skip; count++ {
				var b bytes.Buffer
				missing, err := copySpan(&b, strings.NewReader("--"+c.in+"--"), 2, int64(len(c.in)), int64(skip), int64(count))
				more := int64(0)
				if skip+count < len(c.out) {
					more = -1
				}
				if want := c.out[skip : skip+count]; b.String() != want || count > 0 && missing != more || err != nil {
					t.Errorf("%q from %d, %d: %q, not %q; %d missing, %v", c.in, skip, count, b.String(), want, missing, err)
				}
			}
		}
	}
	// M12: the file has become shorter.
	var b bytes.Buffer
	if missing, err := copySpan(&b, strings.NewReader("abc"), 0, 5, 0, 5); missing != 2 || err != nil {
		t.Error(missing, err)
	}
	// M07: it is longer than its name says.
	if missing, err := copySpan(&b, strings.NewReader(strings.Repeat("x", 64<<10)+"y"), 0, 1<<62, 0, 64<<10); missing != -1 || err != nil {
		t.Error(missing, err)
	}
	if _, err := copySpan(&b, failing{}, 0, 5, 0, 5); err != iotest.ErrTimeout {
		t.Error(err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

// However a file is cut into blocks the wire form is one.
func TestWireFormCuts(t *testing.T) {
	const text = "a\r\nb\nc\rd\r\r\n\ne\r"
	for i := range len(text) + 1 {
		for k := i; k <= len(text); k++ {
			var b bytes.Buffer
			f := &wireForm{w: &b, left: 1 << 20}
			for _, p := range []string{text[:i], text[i:k], text[k:]} {
				f.write([]byte(p))
			}
			if want := "a\r\nb\r\nc d \r\n\r\ne"; b.String() != want {
				t.Fatalf("cut at %d and %d: %q", i, k, b.String())
			}
		}
	}
}

func BenchmarkCopySpan(b *testing.B) {
	text := []byte(strings.Repeat(strings.Repeat("x", 60)+"\n", 1000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		copySpan(discard{}, bytes.NewReader(text), 0, int64(len(text)), 0, 1<<40)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
