package message

import (
	"bytes"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func fields(b []byte, whole bool) (f []Field, s Scanner) {
	s = Scan(b, whole)
	for {
		x, ok := s.Next()
		if !ok {
			return f, s
		}
		f = append(f, x)
	}
}

func TestScan(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     string // "Name=text" joined by "|"
		body     string
	}{
		{"plain", "A: 1\r\nB: 2\r\n\r\nbody", "A=1|B=2", "body"},
		{"LF only", "A: 1\nB: 2\n\nbody", "A=1|B=2", "body"},
		{"folded", "A: 1\r\n 2\r\n\t3\r\n\r\n", "A=1 2\t3", ""},
		{"folded at once", "A:\r\n 1\r\n\r\n", "A=1", ""},
		{"continuation of white space", "A: 1\r\n \r\n 2\r\n\r\nx", "A=1  2", "x"},
		{"space before the colon", "A : 1\r\nB\t:2\r\n\r\n", "A=1|B=2", ""},
		{"no body", "A: 1\r\n", "A=1", ""},
		{"no line end", "A: 1", "A=1", ""},
		{"empty value", "A:\r\n\r\n", "A=", ""},
		{"empty", "", "", ""},
		{"only the empty line", "\r\nbody", "", "body"},
		{"no header", "hello\r\nA: 1\r\n", "", "hello\r\nA: 1\r\n"},
		{"starts with space", " A: 1\r\n", "", " A: 1\r\n"},
		{"starts with a colon", ": 1\r\n", "", ": 1\r\n"},
		{"From_ line", "From a@b Mon\r\nA: 1\r\n", "", "From a@b Mon\r\nA: 1\r\n"},
		{"not a field in the middle", "A: 1\r\nhello\r\nB: 2\r\n", "A=1", "hello\r\nB: 2\r\n"},
		{"8-bit name", "A: 1\r\n\xc3\xa4: 2\r\n", "A=1", "\xc3\xa4: 2\r\n"},
		{"lone CR in a value", "A: 1\rB: 2\r\n\r\n", "A=1\rB: 2", ""},
		{"two colons", "A: b: c\r\n\r\n", "A=b: c", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, s := fields([]byte(c.in), true)
			var got []string
			for _, x := range f {
				got = append(got, string(x.Name())+"="+string(x.AppendText(nil)))
			}
			if g := strings.Join(got, "|"); g != c.want {
				t.Errorf("fields %q, want %q", g, c.want)
			}
			if g := c.in[s.Body():]; g != c.body {
				t.Errorf("body %q, want %q", g, c.body)
			}
		})
	}
}

// Every octet can be in a name or not as RFC 5322 section 3.6.8 says.
func TestNameOctets(t *testing.T) {
	for c := 0; c < 256; c++ {
		_, ok := (&Scanner{b: []byte{'X', byte(c), 'X', ':', '\n'}, whole: true}).Next()
		want := c >= 33 && c <= 126 // a colon ends the name early, which is a field too
		if ok != want {
			t.Errorf("octet %#x in a name: %v, want %v", c, ok, want)
		}
	}
}

func TestIs(t *testing.T) {
	f, _ := fields([]byte("reCEIVED \t: x\r\n"), true)
	if !f[0].Is("Received") || f[0].Is("Receive") || f[0].Is("Received:") {
		t.Errorf("Is is wrong for %q", f[0].Name())
	}
}

// What is told from the beginning of a message is what is told from all of it.
func TestBeginning(t *testing.T) {
	b := []byte("A: 1\r\nB: 2\r\n 3\r\nC : 4\r\n\r\nbody")
	all, _ := fields(b, true)
	for n := range b {
		part, s := fields(b[:n], false)
		if len(part) > len(all) {
			t.Fatalf("%d octets: %d fields", n, len(part))
		}
		for i := range part {
			if !bytes.Equal(part[i].Raw, all[i].Raw) || part[i].Offset != all[i].Offset {
				t.Errorf("%d octets: field %q, want %q", n, part[i].Raw, all[i].Raw)
			}
		}
		if s.Offset() > n {
			t.Errorf("%d octets: offset %d", n, s.Offset())
		}
	}
}

// S32: a flood of header lines, one huge line, one huge folded field: linear, no memory.
func TestS32_Linear(t *testing.T) {
	for _, in := range [][]byte{
		bytes.Repeat([]byte("X: y\r\n"), 200_000),
		append([]byte("X: "), bytes.Repeat([]byte("y"), 20<<20)...),
		append([]byte("X: y\r\n"), bytes.Repeat([]byte(" z\r\n"), 1<<18)...),
		bytes.Repeat([]byte("X"), 20<<20),
		append([]byte("X"), bytes.Repeat([]byte(" "), 20<<20)...),
	} {
		start := time.Now()
		s := Scan(in, true)
		n := testing.AllocsPerRun(1, func() {
			s = Scan(in, true)
			for {
				f, ok := s.Next()
				if !ok {
					break
				}
				f.Is("Received")
			}
		})
		if n > 0 {
			t.Errorf("%.20q...: %v allocations", in, n)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%.20q...: %v", in, d)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("A: 1\r\n b\r\n\r\nbody"))
	f.Add([]byte("From x\r\n"))
	f.Add([]byte("A : \rb\n\n"))
	if names, _ := filepath.Glob("testdata/*.eml"); names != nil {
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, s := fields(b, true)
		var all []byte
		for _, f := range x {
			if f.Offset != len(all) {
				t.Fatalf("field at %d, want %d", f.Offset, len(all))
			}
			all = append(all, f.Raw...)
			if bytes.ContainsAny(f.AppendText(nil), "\n") {
				t.Fatalf("unfolded %q has a line end", f.Raw)
			}
		}
		if s.Offset() != len(all) || !bytes.HasPrefix(b, all) || s.Body() < s.Offset() || s.Body() > len(b) {
			t.Fatalf("%d fields of %d octets, header ends at %d, body at %d", len(x), len(all), s.Offset(), s.Body())
		}
		// A second opinion: where net/mail accepts the header, it sees as many fields.
		if m, err := mail.ReadMessage(bytes.NewReader(b)); err == nil && s.Body() > s.Offset() {
			n := 0
			for _, v := range m.Header {
				n += len(v)
			}
			if n != len(x) {
				t.Fatalf("%d fields, net/mail sees %d in %q", len(x), n, b)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	h := []byte(strings.Repeat("Received: from a.example ([192.0.2.1])\r\n\tby b.example with ESMTP id 1;\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n", 4) +
		"From: a@b.example\r\nTo: c@d.example\r\nSubject: hello\r\nDate: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@a>\r\n\r\n")
	b.SetBytes(int64(len(h)))
	b.ReportAllocs()
	for b.Loop() {
		s := Scan(h, true)
		for {
			if _, ok := s.Next(); !ok {
				break
			}
		}
	}
}
