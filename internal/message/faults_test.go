package message

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inTime allows some forty times the processor time that linear code takes: whatever else the machine does. By the square it would
// be more, even for the fastest of loops.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	start := processorTime(t)
	f()
	if d := processorTime(t) - start; d > 2*time.Second {
		t.Errorf("%s: %v", what, d)
	}
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

// deepest counts parts, and how many are in each other.
func deepest(p *Part) (parts, depth int) {
	inner := p.Children
	if p.Message != nil {
		inner = []*Part{p.Message}
	}
	for _, c := range inner {
		n, d := deepest(c)
		parts += n
		depth = max(depth, d)
	}
	return parts + 1, depth + 1
}

// I14: MIME bombs. checkMessage says that every multipart has a part and every message a message: BODYSTRUCTURE is well-formed.
func TestI14_MIMEBombs(t *testing.T) {
	var nested, close strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		fmt.Fprintf(&close, "--b%d--\n", 9_999-i)
	}
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, in     string
		parts, depth int // 0: any within the limits
	}{
		{"multipart nested", nested.String(), 101, 101},
		{"multipart nested and closed", nested.String() + "\nx\n" + close.String(), 101, 101},
		{"one boundary nested", strings.Repeat("Content-Type: multipart/mixed; boundary=b\n\n--b\n", 10_000), 0, 101},
		{"siblings", "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 100_000) + "--b--\n", 10_000, 2},
		{"siblings that are multiparts", "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Type: multipart/mixed; boundary=c\n\n", 100_000) + "--b--\n", 0, 3},
		{"siblings of digests", "Content-Type: multipart/digest; boundary=b\n\n" + strings.Repeat("--b\n\n\n", 100_000), 0, 3},
		{"messages nested", strings.Repeat("Content-Type: message/rfc822\n\n", 10_000), 101, 101},
		{"boundary of 1 MB", "Content-Type: multipart/mixed; boundary=" + long + "\n\n--" + long + "\n\nx\n--" + long + "--\n", 2, 2},
		{"lines like delimiters", nested.String() + strings.Repeat("--b\n", 500_000), 101, 101},
		{"boundaries that begin with each other", nested.String() + strings.Repeat("--b1\n--b11\n--b111\n", 1000), 0, 0},
		{"no end", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b", 3, 2},
		{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nx\n----\n", 2, 2},
	} {
		var m *Message
		inTime(t, c.name, func() { m = parse(t, c.in) })
		parts, depth := deepest(m.Root)
		if parts > 20_000 || depth > 101 || c.parts > 0 && parts != c.parts || c.depth > 0 && depth != c.depth {
			t.Errorf("%s: %d parts, %d deep, want %d, %d", c.name, parts, depth, c.parts, c.depth)
		}
		checkMessage(t, c.in, m)
	}
}

// I15: headers that are bombs.
func TestI15_HeaderBombs(t *testing.T) {
	address := "Somebody <somebody@host.example>, "
	for _, c := range []struct{ name, in string }{
		{"500,000 address fields", strings.Repeat("To: a@b.example\nFrom: c@d.example\n", 250_000)},
		{"100,000 addresses", "To: " + strings.Repeat(address, 100_000) + "\n"},
		{"100,000 addresses in lines", "To: " + strings.Repeat(address+"\n ", 100_000) + "\n"},
		{"groups in groups", "To: " + strings.Repeat("g: ", 100_000) + "\n"},
		{"one line of 16 MiB", "To: " + strings.Repeat("a", 16<<20) + "\n"},
	} {
		inTime(t, c.name, func() {
			m := parse(t, c.in+"Content-Type: text/html\n\nbody\n")
			if !m.Truncated || len(m.Root.Fields()) > 256<<10 {
				t.Errorf("%s: %d octets of the header are kept", c.name, len(m.Root.Fields()))
			}
			e := m.Root.Envelope()
			if len(e.To) == 0 || len(e.To) > MaxAddresses+1 {
				t.Errorf("%s: %d addresses", c.name, len(e.To))
			}
			if c.name != "500,000 address fields" && !m.Root.Is("text", "html") {
				t.Errorf("%s: what follows a field that is too long is lost", c.name)
			}
		})
	}
	if n := len(Addresses(strings.Repeat(address, 100_000), MaxAddresses)); n != MaxAddresses {
		t.Errorf("%d addresses", n)
	}
	// And every reader of values, with what its grammar nests, repeats or looks ahead for, a quarter of a mebibyte of each.
	for _, s := range []string{
		"a@b,", "<", ">", "a<", "<a@b>", "g:", "g:;", ":", ";", ",", "@", "@a,", "<@a,", "(", "()", ")", "((", "(\\", "\\", "\"", "\"\\", "\"a\" ", "[", "[]", "[a", "[a]", "[\\", "a ", "a.", " . ", "a@", " ", "\r\n ",
		"=?", "?=", "=?=", "=?a?q?", "=?utf-8?q?a?=", "=?utf-8?q?a?= ", "=?utf-8?b?YQ==?=", "=?utf-8?q?", "=?utf-8?q?x =?", "=?x?q?a?=", "=?utf-8?q?=", "=?utf-8?x?a?=", "?", "=", "=3",
		"re:", "re[a]:", "re[a", "re ", "[a]re:", "[fwd:", "[fwd: ", "(fwd)", "fwd", "[a] ",
		"<a@b", "<a@b <", "<\"", "<(", "<a\"b\"@c>",
		"a=b;", "a*0=b;", "a*=b;", "a*0*=x''%41;", "a*1=b;", ";", "a", "a=", "a=\"", "a=\"b\\\";", "a=(", " (", "a=b (", "x/", "/",
		"1", "1:", "1.", "1:1", "1:1:1.", "1 Nov ", "+", "1-", "2026-", "Nov ", "1 (",
	} {
		value := strings.Repeat(s, 1<<18/len(s)+1)
		inTime(t, s, func() {
			Addresses(value, 1<<30)
			Text(value)
			BaseSubject(value)
			BaseSubject(value + ":a]")
			MessageIDs(value)
			Date(value)
			Date("1 Nov 2026 1:1" + value)
			m := &MIME{}
			m.contentType("a/b;" + value)
			m.Params.Get("a")
			m.Params.Joined()
			io.Copy(io.Discard, Decode(strings.NewReader(value), "quoted-printable", "utf-8"))
			io.Copy(io.Discard, Decode(strings.NewReader(value), "base64", "iso-2022-jp"))
		})
	}
	// Looking for what is not there, or only at the end, is so fast that it takes more to tell.
	for _, s := range []string{"=?utf-8?q?x", "=?a?b?c"} {
		value := strings.Repeat(s, 2<<20/len(s))
		inTime(t, s, func() { Text(value) })
		inTime(t, s+" with an end", func() { Text(value + "?=") })
	}
	for _, s := range []string{"[", "a[", "<a@[1,"} {
		value := strings.Repeat(s, 2<<20/len(s))
		inTime(t, s, func() { Addresses(value, 1<<30) })
	}
	distinct := &strings.Builder{}
	for i := range 100_000 {
		fmt.Fprintf(distinct, ";p%d*0=a;p%d*1*=b", i, i)
	}
	inTime(t, "100,000 parameters in segments", func() {
		if n := len(params(distinct.String()).Joined()); n > maxParams {
			t.Errorf("%d parameters", n)
		}
	})
}

// repeated is n times s.
type repeated struct {
	s    string
	n, i int
}

func (r *repeated) Read(b []byte) (n int, err error) {
	for n < len(b) && r.n > 0 {
		k := copy(b[n:], r.s[r.i:])
		n, r.i = n+k, r.i+k
		if r.i == len(r.s) {
			r.i, r.n = 0, r.n-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Memory does not depend on the length of bodies, lines, or what stands between parts.
func TestMemoryIsBounded(t *testing.T) {
	const little = 128 << 10
	for _, c := range []struct {
		name, header, repeat string
		most                 uint64
	}{
		{"lines", "A: 1\n\n", strings.Repeat("x", 75) + "\r\n", little},
		{"a line", "A: 1\n\n", "x", little},
		{"line ends", "Content-Type: multipart/mixed; boundary=b\n\n", "\n", little},
		{"hyphens", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n", "--\n", little},
		{"epilogue", "Content-Type: multipart/mixed; boundary=b\n\n--b--\n", "--b\n\n--b--\n", little},
		{"fields", "Content-Type: multipart/mixed; boundary=b\n", "To: a@b.example\n", 4 << 20},
		{"delimiters", "Content-Type: multipart/mixed; boundary=b\n\n", "--b\nContent-Type: multipart/digest; boundary=\"c\"; x=\"yyy\"\n\n--c\n", 32 << 20},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := io.MultiReader(strings.NewReader(c.header), &repeated{s: c.repeat, n: 16 << 20 / len(c.repeat)})
		if _, err := Parse(r, Limits{}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// Of 16 MiB. What is kept grows by copying, so the sum is more than what is kept.
		if n := after.TotalAlloc - before.TotalAlloc; n > c.most {
			t.Errorf("%s: %d octets allocated, want at most %d", c.name, n, c.most)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	header := "Return-Path: <a@b.example>\r\n" + strings.Repeat("Received: from a.example ([192.0.2.1])\r\n\tby b.example with ESMTP id 1;\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n", 4) +
		"From: Jane Doe <a@b.example>\r\nTo: c@d.example, \"Doe, John\" <j@d.example>\r\nSubject: =?utf-8?q?J=C3=B6rg?= says hello\r\nDate: Mon, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@a.example>\r\nMIME-Version: 1.0\r\n"
	part := func(typ, line string, n int) string {
		return "--boundary-1\r\nContent-Type: " + typ + "\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(line+"\r\n", n)
	}
	text := "Some text of an ordinary length as people write it in their messages."
	for _, c := range []struct{ name, in string }{
		{"plain 4 KiB", header + "\r\n" + strings.Repeat(text+"\r\n", 40)},
		{"alternative 20 KiB", header + "Content-Type: multipart/alternative; boundary=\"boundary-1\"\r\n\r\n" + part("text/plain; charset=utf-8", text, 100) + part("text/html; charset=utf-8", text, 150) + "--boundary-1--\r\n"},
		{"attachment 10 MiB", header + "Content-Type: multipart/mixed; boundary=\"boundary-1\"\r\n\r\n" + part("text/plain; charset=utf-8", text, 10) + part("application/pdf; name=x.pdf", strings.Repeat("QUJD", 19), 10<<20/78) + "--boundary-1--\r\n"},
	} {
		for _, envelope := range []bool{false, true} {
			name := c.name
			if envelope {
				name += ", envelope"
			}
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(c.in)))
				b.ReportAllocs()
				r := bufio.NewReaderSize(nil, Block)
				for b.Loop() {
					r.Reset(strings.NewReader(c.in))
					m, err := Parse(r, Limits{})
					if err != nil {
						b.Fatal(err)
					}
					if envelope {
						m.Root.Envelope()
					}
				}
			})
		}
	}
}
