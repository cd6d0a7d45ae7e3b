package lineio

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// reference is what a message under DATA means, written as plainly as possible. ok: its end is in raw; rest follows the end.
func reference(raw []byte) (body, rest []byte, bareCR, bareLF, ok bool) {
	// The stream before it ended in CRLF: the command or reply.
	s := "\r\n" + string(raw)
	end := strings.Index(s, "\r\n.\r\n")
	if end < 0 {
		return nil, nil, false, false, false
	}
	rest = []byte(s[end+5:])
	s = s[:end+2]
	s = strings.ReplaceAll(s, "\r\n.", "\r\n")[2:]
	odd := strings.ReplaceAll(string(raw[:end]), "\r\n", "")
	return []byte(s), rest, strings.Contains(odd, "\r"), strings.Contains(odd, "\n"), true
}

func checkDotReader(t *testing.T, raw, cuts []byte) {
	t.Helper()
	c := New(cut(raw, cuts))
	d := c.DotReader()
	var got bytes.Buffer
	_, err := d.WriteTo(&got)
	body, rest, bareCR, bareLF, ok := reference(raw)
	if !ok {
		if err != io.ErrUnexpectedEOF {
			t.Fatalf("%q has no end: %v", raw, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Fatalf("%q, cuts %v:\ngot  %q, %v\nwant %q", raw, cuts, got.Bytes(), err, body)
	}
	if _, err := d.Next(); err != io.EOF {
		t.Fatalf("after the end: %v", err)
	}
	err = d.Err()
	if (err != nil) != (bareCR || bareLF) || errors.Is(err, ErrBareCR) && !bareCR || errors.Is(err, ErrBareLF) && !bareLF {
		t.Fatalf("%q, cuts %v: %v, bare CR %v, bare LF %v", raw, cuts, err, bareCR, bareLF)
	}
	if d.NUL() != (bytes.IndexByte(body, 0) >= 0) {
		t.Fatalf("%q: NUL %v", raw, d.NUL())
	}
	after, err := io.ReadAll(c.Chunk(int64(len(rest))))
	if err != nil || !bytes.Equal(after, rest) {
		t.Fatalf("%q: after the end %q, %v, want %q", raw, after, err, rest)
	}
	var nl Newlines
	for s := cut(raw[:len(raw)-len(rest)-3], cuts); len(s.in) > 0; s.in = s.in[1:] {
		nl.Scan(s.in[0])
	}
	if (nl.Err() != nil) != (bareCR || bareLF) {
		t.Fatalf("%q: Newlines says %v", raw, nl.Err())
	}
}

// smuggled follows each false end; none of it may be read as a command.
const smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: evil\r\n"

// S01, S02: nothing but CRLF "." CRLF ends a message.
func TestS01S02_FalseEnds(t *testing.T) {
	for _, tt := range []struct {
		end  string
		kind error
	}{
		{"\n.\r\n", ErrBareLF}, {"\n.\n", ErrBareLF}, {"\r.\r", ErrBareCR}, {"\r\n.\r", ErrBareCR}, {"\r\n.\n", ErrBareLF}, {"\n.\r", ErrBareLF},
		{"\r.\r\n", ErrBareCR}, {"\r.\n", ErrBareCR}, {"\r\n.\r\r\n", ErrBareCR}, {"\r\n.\n\r\n", ErrBareLF}, {"\n\n.\r\n", ErrBareLF},
		{"\r\n\x00.\r\n", nil}, {"\r\n.\x00\r\n", nil}, {"\r\n. \r\n", nil}, {"\r\n..\r\n", nil}, {"\r\n .\r\n", nil}, {".\r\n", nil},
	} {
		raw := []byte("Subject: x\r\n\r\nbody" + tt.end + smuggled + ".\r\nQUIT\r\n")
		for _, cuts := range [][]byte{nil, {0}, {1}, {2}, {16, 4, 0}} {
			checkDotReader(t, raw, cuts)
			c := New(cut(raw, cuts))
			d := c.DotReader()
			body, err := io.ReadAll(d)
			if err != nil || !strings.HasSuffix(string(body), smuggled) {
				t.Fatalf("%q: the message ends early: %q, %v", tt.end, body, err)
			}
			if !errors.Is(d.Err(), tt.kind) || (tt.kind == nil) != (d.Err() == nil) {
				t.Errorf("%q: %v, want %v", tt.end, d.Err(), tt.kind)
			}
			if line, err := c.ReadLine(100); string(line) != "QUIT" {
				t.Errorf("%q: next command %q, %v", tt.end, line, err)
			}
		}
	}
	// These contain the true end.
	for _, end := range []string{"\r\r\n.\r\n", "\n\r\n.\r\n", "\r\n\r\n.\r\n"} {
		c := New(cut([]byte("body"+end+"QUIT\r\n"), nil))
		d := c.DotReader()
		io.Copy(io.Discard, d)
		if line, _ := c.ReadLine(100); string(line) != "QUIT" || (d.Err() == nil) != (end[:2] == "\r\n") {
			t.Errorf("%q: next %q, %v", end, line, d.Err())
		}
	}
}

func TestNewlineErrorNamesTheLine(t *testing.T) {
	c := New(cut([]byte("one\r\ntwo\r\nthr\nee\r\n\rfive\r\n.\r\n"), nil))
	d := c.DotReader()
	io.Copy(io.Discard, d)
	var ne *NewlineError
	if !errors.As(d.Err(), &ne) || ne.Line != 3 || ne.Kind != ErrBareLF || ne.Error() != "LF without CR in line 3" {
		t.Errorf("%v", d.Err())
	}
}

// S05: every way to cut the end in two, and in three, at every buffer position that matters; over a real socket too.
func TestS05_EveryCut(t *testing.T) {
	raw := []byte("a\r\n..b\r\n.\r\nNOOP\r\n")
	for i := range raw {
		for j := range raw {
			checkDotReader(t, raw, []byte{byte(i), byte(j), 100})
		}
	}
	// The end across the end of each size of buffer.
	for _, n := range []int{512, 16 << 10, 64 << 10, 16<<10 + 64<<10, 2 * (64 << 10)} {
		for off := -8; off <= 2; off++ {
			raw := []byte(strings.Repeat("x", n+off) + "\r\n.\r\nNOOP\r\n")
			checkDotReader(t, raw, nil)
			raw = []byte(strings.Repeat("x", n+off) + "\r\n..\r\n.\r\nNOOP\r\n")
			checkDotReader(t, raw, nil)
		}
	}
	eachTransport(t, func(t *testing.T, server, client net.Conn) {
		go func() {
			for range 50 {
				for i := range raw {
					client.Write(raw[i : i+1])
				}
			}
			client.Close()
		}()
		c := New(server)
		for range 50 {
			body, err := io.ReadAll(c.DotReader())
			if string(body) != "a\r\n.b\r\n" || err != nil {
				t.Fatalf("%q, %v", body, err)
			}
			if line, err := c.ReadLine(100); string(line) != "NOOP" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
}

// S09: a line of 50 MB is streamed.
func TestS09_LongLine(t *testing.T) {
	e := &endless{b: 'x'}
	c := New(e)
	d := c.DotReader()
	for n := 0; n < 50<<20; {
		b, err := d.Next()
		if err != nil {
			t.Fatal(err)
		}
		n += len(b)
	}
	if len(c.in.b) > MaxLine {
		t.Errorf("buffer of %d", len(c.in.b))
	}
}

// S11: byte-exact unstuffing.
func TestS11_Dots(t *testing.T) {
	for _, tt := range [][2]string{
		{".\r\n", ""},
		{"..\r\n.\r\n", ".\r\n"},
		{"...\r\n.\r\n", "..\r\n"},
		{".x\r\n.\r\n", "x\r\n"},
		{"\r\n.\r\n", "\r\n"},
		{"a..b\r\n.c.\r\n.\r\n", "a..b\r\nc.\r\n"},
		{strings.Repeat("..\r\n", 1<<18) + ".\r\n", strings.Repeat(".\r\n", 1<<18)},
		{strings.Repeat(".", 1<<20) + "\r\n.\r\n", strings.Repeat(".", 1<<20-1) + "\r\n"},
	} {
		for _, cuts := range [][]byte{nil, {0}, {6, 1}} {
			checkDotReader(t, []byte(tt[0]), cuts)
			got, err := io.ReadAll(New(cut([]byte(tt[0]), cuts)).DotReader())
			if string(got) != tt[1] || err != nil {
				t.Errorf("%.40q, cuts %v: %.40q, %v", tt[0], cuts, got, err)
			}
		}
	}
}

func TestS29_CutShort(t *testing.T) {
	raw := "a\r\n..b\r\n.\r\n"
	for n := range raw {
		if _, err := io.ReadAll(New(cut([]byte(raw[:n]), nil)).DotReader()); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: %v", raw[:n], err)
		}
	}
}

func FuzzDataReader(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nNOOP\r\n"), []byte{3, 0})
	for _, s := range []string{"\n.\r\n", "\n.\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\r\r\n.\r\n", "\r\n.\r\r\n", ".\r\n", "\x00.\r\n"} {
		f.Add([]byte("x"+s+"y\r\n.\r\n"), []byte{1})
	}
	f.Fuzz(checkDotReader2)
}

func checkDotReader2(t *testing.T, raw, cuts []byte) {
	checkDotReader(t, raw, cuts)
	// Bytes of little variety find more.
	few := bytes.Clone(raw)
	for i := range few {
		few[i] = "\r\n.x\r\n.y"[few[i]&7]
	}
	checkDotReader(t, few, cuts)
	checkDotReader(t, append(few, "\r\n.\r\nz"...), cuts)
}

// normal is the text with every line end as CRLF, and one at its end.
func normal(b []byte) []byte {
	s := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return []byte(strings.ReplaceAll(s, "\n", "\r\n"))
}

// laxEnd is the end of the message for a receiver that takes CR, LF and CRLF for line ends, or -1.
func laxEnd(b []byte) int {
	s := string(b)
	for i := range s {
		if s[i] != '.' || i > 0 && s[i-1] != '\n' && s[i-1] != '\r' {
			continue
		}
		if i+1 < len(s) && (s[i+1] == '\r' || s[i+1] == '\n') {
			return i
		}
	}
	return -1
}

func dotted(b, cuts []byte) []byte {
	var out bytes.Buffer
	w := NewDotWriter(&out)
	for s := cut(b, cuts); len(s.in) > 0; s.in = s.in[1:] {
		if n, err := w.Write(s.in[0]); n != len(s.in[0]) || err != nil {
			panic("write to memory")
		}
	}
	w.Close()
	return out.Bytes()
}

func checkDotRoundTrip(t *testing.T, msg, cuts []byte) {
	t.Helper()
	wire := dotted(msg, cuts)
	if again := dotted(msg, nil); !bytes.Equal(wire, again) {
		t.Fatalf("%q, cuts %v: %q, in one piece %q", msg, cuts, wire, again)
	}
	// A strict receiver.
	c := New(cut(wire, cuts))
	d := c.DotReader()
	got, err := io.ReadAll(d)
	if want := normal(msg); err != nil || d.Err() != nil || !bytes.Equal(got, want) {
		t.Fatalf("%q, cuts %v: strict receiver %q, %v, %v, want %q", msg, cuts, got, err, d.Err(), want)
	}
	if _, err := c.ReadLine(100); err != io.EOF {
		t.Fatalf("%q: something follows the message: %v", msg, err)
	}
	// A lax receiver sees one message, with the same end.
	if end := laxEnd(wire); end != len(wire)-3 {
		t.Fatalf("%q: a lax receiver sees the end at %d of %d in %q", msg, end, len(wire), wire)
	}
}

// R17: line ends of every kind go out as CRLF, and no message holds an end.
func TestR17_DotWriter(t *testing.T) {
	for _, tt := range [][2]string{
		{"", ".\r\n"},
		{"a", "a\r\n.\r\n"},
		{"a\r\n", "a\r\n.\r\n"},
		{"a\n", "a\r\n.\r\n"},
		{"a\r", "a\r\n.\r\n"},
		{"a\r\r\n", "a\r\n\r\n.\r\n"},
		{"a\n\r", "a\r\n\r\n.\r\n"},
		{"\n.\n", "\r\n..\r\n.\r\n"},
		{"\r.\r", "\r\n..\r\n.\r\n"},
		{"\r\n.\r", "\r\n..\r\n.\r\n"},
		{".\r\n", "..\r\n.\r\n"},
		{".", "..\r\n.\r\n"},
		{"\r\n.\r\nQUIT", "\r\n..\r\nQUIT\r\n.\r\n"},
		{"..\n.a\r.b", "...\r\n..a\r\n..b\r\n.\r\n"},
		{"a\x00\xff" + strings.Repeat("l", 2000), "a\x00\xff" + strings.Repeat("l", 2000) + "\r\n.\r\n"},
	} {
		for _, cuts := range [][]byte{nil, {0}, {1}, {2}} {
			if got := dotted([]byte(tt[0]), cuts); string(got) != tt[1] {
				t.Errorf("%q, cuts %v: %q, want %q", tt[0], cuts, got, tt[1])
			}
			checkDotRoundTrip(t, []byte(tt[0]), cuts)
		}
	}
}

func TestDotWriterReadFrom(t *testing.T) {
	msg := strings.Repeat("line\n.\n", 40000)
	var out bytes.Buffer
	w := NewDotWriter(&out)
	n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(msg)})
	if n != int64(len(msg)) || err != nil || !bytes.Equal(append(out.Bytes(), dotEnd...), dotted([]byte(msg), nil)) {
		t.Errorf("%d, %v", n, err)
	}
	failed := errors.New("disk")
	if _, err := w.ReadFrom(io.MultiReader(strings.NewReader("x"), iotestErr{failed})); err != failed {
		t.Error(err)
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

type full struct{}

func (full) Write(p []byte) (int, error) { return 0, io.ErrShortWrite }

func TestDotWriterError(t *testing.T) {
	w := NewDotWriter(full{})
	if _, err := w.Write([]byte("a\n")); err != io.ErrShortWrite {
		t.Error(err)
	}
	if err := w.Close(); err != io.ErrShortWrite {
		t.Error(err)
	}
}

func FuzzDotRoundTrip(f *testing.F) {
	f.Add([]byte("a\r\n.b\n.\rc"), []byte{1, 0})
	f.Fuzz(func(t *testing.T, msg, cuts []byte) {
		checkDotRoundTrip(t, msg, cuts)
		few := bytes.Clone(msg)
		for i := range few {
			few[i] = "\r\n.x\r\n.y"[few[i]&7]
		}
		checkDotRoundTrip(t, few, cuts)
	})
}

// message is n bytes of text as mail has it: base64 in lines of 76.
func message(n int, eol string) []byte {
	raw := make([]byte, 57)
	var b bytes.Buffer
	for b.Len() < n {
		rand.Read(raw)
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + eol)
	}
	return b.Bytes()
}

func BenchmarkDataReader(b *testing.B) {
	for _, bb := range []struct {
		name string
		n    int
	}{{"4KiB", 4 << 10}, {"10MiB", 10 << 20}} {
		b.Run(bb.name, func(b *testing.B) {
			raw := append(message(bb.n, "\r\n"), ".\r\n"...)
			c := New(&repeat{text: raw})
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.DotReader().WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// The scan alone: what the copy from the kernel costs is not ours.
	b.Run("scan", func(b *testing.B) {
		raw := message(64<<10, "\r\n")[:64<<10]
		c := New(&segments{})
		d := c.DotReader()
		c.in = &block{raw, large}
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			c.r, c.w, d.bol, d.nl = 0, len(raw), true, Newlines{}
			d.scan()
		}
	})
}

func BenchmarkDotWriter(b *testing.B) {
	for _, eol := range []string{"\r\n", "\n"} {
		b.Run(map[string]string{"\r\n": "CRLF", "\n": "LF"}[eol], func(b *testing.B) {
			raw := message(64<<10, eol)
			c := New(&sinkConn{})
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				w := c.DotWriter()
				w.Write(raw)
				w.Close()
			}
		})
	}
}

type sinkConn struct{ segments }

func (*sinkConn) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkDataOverTCP is the whole way of a message through a socket, both ends on this machine.
func BenchmarkDataOverTCP(b *testing.B) {
	raw := message(10<<20, "\r\n")
	server, client := tcp(b)
	b.SetBytes(int64(len(raw)))
	go func() {
		c := New(client)
		for {
			w := c.DotWriter()
			w.Write(raw)
			if w.Close() != nil || c.Flush() != nil {
				return
			}
		}
	}()
	c := New(server)
	for b.Loop() {
		d := c.DotReader()
		if _, err := d.WriteTo(io.Discard); err != nil || d.Err() != nil {
			b.Fatal(err, d.Err())
		}
	}
}
