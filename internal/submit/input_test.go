package submit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(t *testing.T, r io.Reader, in Input) string {
	t.Helper()
	text, err := Read(r, in)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Body.Close()
	b, err := io.ReadAll(text.Body.Reader())
	if err != nil || int64(len(b)) != text.Body.Size() {
		t.Fatalf("%d octets, size %d, %v", len(b), text.Body.Size(), err)
	}
	return string(text.Header) + "|" + string(b)
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "|"},
		{"\n", "|"},
		{"A: b\n\nbody\n", "A: b\r\n|body\r\n"},
		{"A: b\r\n\r\nbody\r\n", "A: b\r\n|body\r\n"},
		{"A: b\r\r\n\r\r\nbody\r\r\n", "A: b\r\n|body\r\n"},
		{"A: b\r\n\nbody", "A: b\r\n|body\r\n"},
		{"A: b", "A: b\r\n|"},
		{"A: b\n", "A: b\r\n|"},
		{"A: b\n c\n\n", "A: b\r\n c\r\n|"},
		{"A: b\n\n\nx\n\n", "A: b\r\n|\r\nx\r\n\r\n"},
		{"no header\nA: b\n\nx\n", "|no header\r\nA: b\r\n\r\nx\r\n"},
		{"A: b\nno field\nBcc: x\n\ny\n", "A: b\r\n|no field\r\nBcc: x\r\n\r\ny\r\n"},
		{" A: b\n\n", "| A: b\r\n\r\n"},
		// A lone CR (C03: it makes no field).
		{"A: b\rBcc: x\n\nx\ry\r\rz\r", "A: b Bcc: x\r\n|x\r\ny\r\nz\r\n"},
		{"\n\r.\r\n.x\n", "|\r\n.\r\n.x\r\n"},
		// Octets that are not text.
		{"A: \x00\xff\n\n\x00\xff\x1a\n", "A: \x00\xff\r\n|\x00\xff\x1a\r\n"},
		// From lines of mbox files.
		{"From alice Thu Jan  1 00:00:00 1970\n>From x 10:00 remote from y\nA: b\n\nFrom bob Thu Jan  1 00:00:00 1970\n", "A: b\r\n|From bob Thu Jan  1 00:00:00 1970\r\n"},
		{"From now on\n", "|From now on\r\n"},
		{strings.Repeat("x", 200_000), "|" + strings.Repeat("x", 200_000) + "\r\n"},
		{"A: " + strings.Repeat("x", 200_000) + "\n\n", "A: " + strings.Repeat("x", 200_000) + "\r\n|"},
		{"\n" + strings.Repeat("y", 65_535) + "\r\n", "|" + strings.Repeat("y", 65_535) + "\r\n"}, // CR and LF in two blocks
		{"\n" + strings.Repeat("y", 65_535) + "\rz\n", "|" + strings.Repeat("y", 65_535) + "\r\nz\r\n"},
		{"\n" + strings.Repeat("y", 65_535) + "\r", "|" + strings.Repeat("y", 65_535) + "\r\n"},
	} {
		for name, r := range map[string]io.Reader{"": strings.NewReader(c.in), " octet by octet": iotest.OneByteReader(strings.NewReader(c.in))} {
			if got := readAll(t, r, Input{IgnoreDots: true}); got != c.want {
				t.Errorf("%.80q%s:\n got %.200q\nwant %.200q", c.in, name, got, c.want)
			}
		}
	}
}

// C04: a dot alone ends the message, unless -i was said.
func TestC04_Dot(t *testing.T) {
	for in, want := range map[string]string{
		"A: b\n\nx\n.\ny\n":     "A: b\r\n|x\r\n",
		"A: b\n\nx\r\n.\r\ny\n": "A: b\r\n|x\r\n",
		"A: b\n.\nC: d\n":       "A: b\r\n|",
		".\nx":                  "|",
		".":                     "|",
		"\nx\n.":                "|x\r\n",
		"\nx\n..\n. \n.x\n":     "|x\r\n..\r\n. \r\n.x\r\n",
		"\nx\r.\ny\n":           "|x\r\n.\r\ny\r\n", // the dot is not at the start of a line
	} {
		if got := readAll(t, strings.NewReader(in), Input{}); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	in := Input{IgnoreDots: true, Limit: 100}
	if _, err := Read(strings.NewReader("A: b\n\n"+strings.Repeat("x", 90)), in); err != nil {
		t.Errorf("100 octets: %v", err)
	}
	if _, err := Read(strings.NewReader("A: b\n\n"+strings.Repeat("x", 91)), in); err == nil {
		t.Error("101 octets are taken")
	}
	long := strings.Repeat("X: y\r\n", MaxHeader/6-1)
	if got := readAll(t, strings.NewReader(long+"\nbody"), Input{}); got != long+"|body\r\n" {
		t.Error("a long header is not what it was")
	}
	if _, err := Read(strings.NewReader(long+"X: "+strings.Repeat("y", 20)+"\n\nbody"), Input{}); err == nil || !strings.Contains(err.Error(), "header is longer") {
		t.Errorf("too long a header: %v", err)
	}
	// What has no header is none that is too long.
	text := strings.Repeat("no header\r\n", MaxHeader/10)
	if got := readAll(t, strings.NewReader(text), Input{}); got != "|"+text {
		t.Error("a long text is not what it was")
	}
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	_, err := Read(io.MultiReader(strings.NewReader("A: b\n\nx"), iotest.ErrReader(broken)), Input{})
	if !errors.Is(err, ErrInput) || !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	_, err = Read(io.LimitReader(zeros{}, maxMemory+MaxHeader+1), Input{})
	if !errors.Is(err, ErrSpool) {
		t.Errorf("%v", err)
	}
}

// zeros are lines of zeros without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	p[len(p)-1] = '\n'
	return len(p), nil
}

// C04: a gigabyte is in a file that nobody sees, and not in memory.
func TestC04_Memory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	text, err := Read(io.MultiReader(strings.NewReader("A: b\n\n"), io.LimitReader(zeros{}, size)), Input{IgnoreDots: true})
	if err != nil {
		t.Fatal(err)
	}
	defer text.Body.Close()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d octets are allocated in all", n)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("%s is there", names[0].Name())
	}
	for range 2 {
		n, err := io.Copy(io.Discard, text.Body.Reader())
		if n != text.Body.Size() || n < size || err != nil {
			t.Errorf("%d octets of %d, %v", n, text.Body.Size(), err)
		}
	}
}

// FuzzRead: whatever comes, it is lines that end in CR LF, with no other CR or LF, the same in one piece and in octets.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"A: b\n\nx\n.\ny", "A: b\r\r\n\r\nx\ry\n", "From a 10:00\nA: b\n c\n", "\r", ".", "x\n.\r\n"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, dots bool) {
		text, err := Read(strings.NewReader(s), Input{IgnoreDots: dots})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(iotest.OneByteReader(strings.NewReader(s)), Input{IgnoreDots: dots})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text.Header, again.Header) || !bytes.Equal(text.Body.mem, again.Body.mem) || text.From != again.From {
			t.Fatalf("%q: %q %q and %q %q", s, text.Header, text.Body.mem, again.Header, again.Body.mem)
		}
		for _, b := range [][]byte{text.Header, text.Body.mem} {
			rest := strings.ReplaceAll(string(b), "\r\n", "")
			if strings.ContainsAny(rest, "\r\n") || len(b) > 0 && !bytes.HasSuffix(b, crlf) {
				t.Fatalf("%q: %q", s, b)
			}
		}
	})
}

func TestReturned(t *testing.T) {
	before, after := Returned(alice(), "alice@o.example", "mx.example", []string{"<bob@o.example>", "    550 5.1.1 no such user"})
	want := `From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: <alice@o.example>
Date: Sun, 29 Nov 2026 10:00:00 +0100
Message-ID: <1@mx.example>
Subject: Returned mail: not sent
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_returned_1"
Content-Transfer-Encoding: 8bit

--=_returned_1
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

The message below was sent to nobody:

<bob@o.example>
    550 5.1.1 no such user

--=_returned_1
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

|
--=_returned_1--
`
	if got := fmt.Sprintf("%s|%s", before, after); got != strings.ReplaceAll(want, "\n", "\r\n") {
		t.Errorf("%s", got)
	}
}
