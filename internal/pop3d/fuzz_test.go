package pop3d

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postamt/internal/transcript"
)

// account goes through what a client sent and what he was sent, as a strict client would: one response for each command, whole and in its form, and no
// other. It returns the messages of which QUIT has said that they are removed.
func account(in []byte, out string) (removed []int, err error) {
	line := func() (string, bool) {
		l, rest, ok := strings.Cut(out, "\r\n")
		out = rest
		return l, ok && !strings.ContainsAny(l, "\r\n")
	}
	if l, ok := line(); !ok || !strings.HasPrefix(l, "+OK pop.example ") {
		return nil, fmt.Errorf("greeting %q", l)
	}
	var marked []int
	failures, over := 0, false
	for out != "" {
		if over {
			return nil, fmt.Errorf("%q after the end", out)
		}
		command, rest, ok := bytes.Cut(in, []byte("\r\n"))
		if in = rest; !ok {
			return nil, fmt.Errorf("%q to no command", out)
		}
		r, ok := line()
		for ok && strings.HasPrefix(r, "+ ") {
			if _, in, ok = bytes.Cut(in, []byte("\r\n")); ok {
				r, ok = line()
			} else if out == "" {
				return nil, nil // he was asked, and left
			}
		}
		if !ok || !strings.HasPrefix(r, "+OK") && !strings.HasPrefix(r, "-ERR") || len(r) > 510 {
			return nil, fmt.Errorf("%q to %q", r, command)
		}
		if strings.HasPrefix(r, "-ERR") {
			if strings.HasPrefix(r, "-ERR [AUTH]") {
				failures++
			}
			over = strings.HasSuffix(r, "too many errors") || strings.Contains(r, "mail server") || failures == maxFailures
			continue
		}
		k, args, _ := strings.Cut(string(command), " ")
		k, args = strings.ToUpper(k), strings.Trim(args, " ")
		switch {
		case k == "CAPA", k == "RETR", k == "TOP", args == "" && hasWord("LIST UIDL LANG AUTH", k):
			for l := " "; l != "."; {
				if l, ok = line(); !ok || strings.HasPrefix(l, ".") && l != "." && l[1] != '.' {
					return nil, fmt.Errorf("%q in the response to %q", l, command)
				}
			}
		case k == "DELE":
			var n int
			fmt.Sscan(args, &n)
			marked = append(marked, n-1)
		case k == "RSET":
			marked = nil
		case k == "QUIT":
			over = true
			removed = marked
		}
	}
	if command, _, ok := bytes.Cut(in, []byte("\r\n")); ok && !over {
		return nil, fmt.Errorf("no response to %q", command)
	}
	return removed, nil
}

func checkSession(t *testing.T, in []byte, cut int) {
	t.Helper()
	pieces := []string{string(in)}
	if cut > 0 && cut < len(in) {
		pieces = []string{string(in[:cut]), string(in[cut:])}
	}
	b := &box{messages: []string{"Subject: x\n\n.\n..\n\r.\r\nend", "\n", "A: b\r\n\r\nc\r\n"}}
	out := talk(t, testConfig(), b, pieces...)
	removed, err := account(in, out)
	if err != nil {
		t.Fatalf("%v\n%q\n%q", err, in, out)
	}
	for i, m := range b.messages {
		if (m == "") != slices.Contains(removed, i) {
			t.Fatalf("message %d: %q, and %v was said to be removed\n%q\n%q", i+1, m, removed, in, out)
		}
	}
}

// seeds is what the clients of the transcripts send.
func seeds(t testing.TB) [][]byte {
	names, err := filepath.Glob("testdata/*.pop3")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts")
	}
	var all [][]byte
	for _, n := range names {
		s, err := transcript.Load(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range []string{"A", "B", "C", "D"} {
			if b := s.Input(session); len(b) > 0 && len(b) < 20_000 {
				all = append(all, b)
			}
		}
	}
	return all
}

// FuzzSession: any octets from a client. There is one response for each command, and what is removed is what QUIT has said.
func FuzzSession(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, i)
	}
	f.Add([]byte(enter+"DELE 2\r\nRSET\r\nDELE 1\r\nQUIT\r\n"), 5)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		if len(in) < 60_000 {
			checkSession(t, in, cut)
		}
	})
}

// TestMutatedTranscripts is what the fuzzer does, in small and always: pieces of transcripts joined at random.
func TestMutatedTranscripts(t *testing.T) {
	all := seeds(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var in []byte
		if r.IntN(3) > 0 {
			in = append(in, enter...)
		}
		for range 1 + r.IntN(3) {
			s := all[r.IntN(len(all))]
			lines := bytes.SplitAfter(s, []byte("\r\n"))
			i := r.IntN(len(lines))
			in = append(in, bytes.Join(lines[i:i+r.IntN(len(lines)-i+1)], nil)...)
		}
		for range r.IntN(4) {
			if len(in) > 0 {
				in[r.IntN(len(in))] = "\r\n. \x00x1"[r.IntN(7)]
			}
		}
		checkSession(t, in, r.IntN(len(in)+1))
	}
}

// crowd is a maildrop of so many messages that are all alike.
type crowd struct {
	n    int
	text string
}

func (d *crowd) Len() int                                     { return d.n }
func (d *crowd) Size(int) (int64, error)                      { return int64(len(d.text)), nil }
func (d *crowd) UIDL(int) string                              { return "0000000123456789" }
func (d *crowd) Open(int) (Message, error)                    { return io.NopCloser(strings.NewReader(d.text)), nil }
func (d *crowd) Mistaken(int)                                 {}
func (d *crowd) Close() error                                 { return nil }
func (d *crowd) Remove(context.Context, []int) ([]int, error) { return nil, nil }

// quiet keeps nothing of what is written to it.
type quiet struct{ input }

func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

func benchmark(b *testing.B, d Maildrop, in string) {
	s := NewServer(testConfig())
	b.ReportAllocs()
	for b.Loop() {
		c := &quiet{input{pieces: [][]byte{[]byte(enter + in)}}}
		l := s.Authorize(context.Background(), c, POP3, testPeer)
		s.Serve(context.Background(), l.Conn, func(context.Context) (Maildrop, error) { return d, nil }, l.Note)
	}
}

// BenchmarkListings is STAT, LIST and UIDL of 100,000 messages.
func BenchmarkListings(b *testing.B) {
	benchmark(b, &crowd{n: 100_000, text: "x"}, "STAT\r\nLIST\r\nUIDL\r\nQUIT\r\n")
}

// BenchmarkRetr is 1,000 messages of 4 KiB, pipelined.
func BenchmarkRetr(b *testing.B) {
	d := &crowd{1000, strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64)}
	var in strings.Builder
	for i := range d.n {
		fmt.Fprintf(&in, "RETR %d\r\nDELE %d\r\n", i+1, i+1)
	}
	b.SetBytes(int64(d.n * len(d.text)))
	benchmark(b, d, in.String()+"QUIT\r\n")
}
