package lineio

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
)

func TestReadLine(t *testing.T) {
	type step struct {
		line string
		err  error
	}
	long := strings.Repeat("x", 98)
	for _, tt := range []struct {
		name, in string
		want     []step
	}{
		{"plain", "NOOP\r\nQUIT\r\n", []step{{"NOOP", nil}, {"QUIT", nil}, {"", io.EOF}}},
		{"empty line", "\r\n", []step{{"", nil}, {"", io.EOF}}},
		{"nothing", "", []step{{"", io.EOF}}},
		{"no end", "NOOP", []step{{"", io.ErrUnexpectedEOF}}},
		{"no LF", "NOOP\r", []step{{"", io.ErrUnexpectedEOF}}},
		{"S06 bare LF: one error, the second half is no command", "MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\nNOOP\r\n", []step{{"MAIL FROM:<a@b>\nRCPT TO:<c@d>", ErrBareLF}, {"NOOP", nil}}},
		{"LF at the end of input is no end", "NOOP\n", []step{{"", io.ErrUnexpectedEOF}}},
		{"LF first", "\nNOOP\r\nQUIT\r\n", []step{{"\nNOOP", ErrBareLF}, {"QUIT", nil}}},
		{"LF CR", "NOOP\n\r\nQUIT\r\n", []step{{"NOOP\n", ErrBareLF}, {"QUIT", nil}}},
		{"bare CR", "NOOP\rQUIT\r\nRSET\r\n", []step{{"NOOP\rQUIT", ErrBareCR}, {"RSET", nil}}},
		{"CR CR LF", "NOOP\r\r\nRSET\r\n", []step{{"NOOP\r", ErrBareCR}, {"RSET", nil}}},
		{"NUL", "NO\x00OP\r\nRSET\r\n", []step{{"NO\x00OP", ErrNUL}, {"RSET", nil}}},
		{"just fits", long + "\r\nRSET\r\n", []step{{long, nil}, {"RSET", nil}}},
		{"S08 one too long", long + "x\r\nRSET\r\n", []step{{"", ErrLineTooLong}, {"RSET", nil}}},
		{"S08 much too long", strings.Repeat("y", 60000) + "\r\nRSET\r\n", []step{{"", ErrLineTooLong}, {"RSET", nil}}},
		{"too long, with LF", long + "\n" + long + "\r\nRSET\r\n", []step{{"", ErrLineTooLong}, {"RSET", nil}}},
		{"too long, no end", strings.Repeat("y", 1000), []step{{"", io.ErrUnexpectedEOF}, {"", ErrEndlessLine}}},
		{"S08 endless", strings.Repeat("y", 200000) + "\r\nRSET\r\n", []step{{"", ErrEndlessLine}, {"", ErrEndlessLine}}},
	} {
		for _, cuts := range [][]byte{nil, {0}, {1, 2, 3}, {98}, {99}, {255}} {
			c := New(cut([]byte(tt.in), cuts))
			for i, w := range tt.want {
				line, err := c.ReadLine(100)
				if string(line) != w.line || !errors.Is(err, w.err) || (w.err == nil) != (err == nil) {
					t.Errorf("%s, cuts %v, line %d: %q, %v, want %q, %v", tt.name, cuts, i, line, err, w.line, w.err)
					break
				}
			}
		}
	}
	if !errors.Is(ErrEndlessLine, ErrLineTooLong) || !errors.Is(ErrBareCR, ErrBareNewline) || !errors.Is(ErrBareLF, ErrBareNewline) {
		t.Error("kinds of errors")
	}
}

// Lines at the limit of every buffer, read from where the buffer ends.
func TestReadLine_Sizes(t *testing.T) {
	for _, n := range []int{510, 511, 512, 513, 16382, 16383, 16384, 16385, MaxLine - 3, MaxLine - 2} {
		in := strings.Repeat("a", 300) + "\r\n" + strings.Repeat("b", n) + "\r\nRSET\r\n"
		for _, cuts := range [][]byte{nil, {200}} {
			c := New(cut([]byte(in), cuts))
			c.ReadLine(MaxLine)
			if line, err := c.ReadLine(MaxLine); len(line) != n || err != nil {
				t.Fatalf("%d: %d, %v", n, len(line), err)
			}
			if line, err := c.ReadLine(MaxLine); string(line) != "RSET" {
				t.Fatalf("%d: then %q, %v", n, line, err)
			}
		}
	}
	c := New(cut([]byte(strings.Repeat("b", MaxLine-1)+"\r\nRSET\r\n"), nil))
	if _, err := c.ReadLine(1 << 30); !errors.Is(err, ErrLineTooLong) {
		t.Fatal("beyond MaxLine:", err)
	}
}

// endless delivers one byte for ever.
type endless struct {
	segments
	b byte
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.b
	}
	return len(p), nil
}

// S08: "cat /dev/zero" costs no memory and ends.
func TestS08_EndlessLineIsBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		c := New(&endless{})
		if _, err := c.ReadLine(512); err != ErrEndlessLine {
			t.Fatal(err)
		}
		c.r = c.w
		c.dropIn()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
		t.Errorf("100 endless lines allocated %d bytes", n)
	}
}

// FuzzReadLine: against the obvious: split at CRLF, judge each part.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("MAIL FROM:<a@b>\nRCPT\r\nNOOP\r\r\n\x00\r\n"), []byte{1, 3})
	f.Add([]byte(strings.Repeat("x", 200)+"\r\nRSET\r\n"), []byte{70})
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		const max = 64
		c := New(cut(in, cuts))
		for rest := in; ; {
			line, err := c.ReadLine(max)
			i := bytes.Index(rest, crlf)
			if i < 0 {
				want := io.ErrUnexpectedEOF
				if len(rest) == 0 {
					want = io.EOF
				}
				if err != want && !(len(rest) > MaxLine && err == ErrEndlessLine) {
					t.Fatalf("at the end %q: %v", rest, err)
				}
				return
			}
			part := rest[:i]
			rest = rest[i+2:]
			var want error
			switch {
			case len(part)+2 > max+MaxLine:
				return
			case len(part)+2 > max:
				want = ErrLineTooLong
			case bytes.IndexByte(part, '\n') >= 0:
				want = ErrBareLF
			case bytes.IndexByte(part, '\r') >= 0:
				want = ErrBareCR
			case bytes.IndexByte(part, 0) >= 0:
				want = ErrNUL
			}
			if err != want || !bytes.Equal(line, part) && err != ErrLineTooLong || line != nil && err == ErrLineTooLong {
				t.Fatalf("line %q: %q, %v, want %v", part, line, err, want)
			}
		}
	})
}

func BenchmarkReadLine(b *testing.B) {
	in := []byte("MAIL FROM:<someone@example.org> SIZE=1000\r\nRCPT TO:<someone@example.net>\r\nDATA\r\n")
	e := &repeat{text: in}
	c := New(e)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadLine(512); err != nil {
			b.Fatal(err)
		}
	}
}

// repeat delivers a text again and again.
type repeat struct {
	segments
	text []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		n += k
		r.at = (r.at + k) % len(r.text)
	}
	return n, nil
}
