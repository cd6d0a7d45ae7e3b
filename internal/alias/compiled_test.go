package alias

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seeker is an io.WriteSeeker in memory.
type seeker struct {
	b  []byte
	at int
}

func (f *seeker) Write(p []byte) (int, error) {
	if n := f.at + len(p) - len(f.b); n > 0 {
		f.b = append(f.b, make([]byte, n)...)
	}
	f.at += copy(f.b[f.at:], p)
	return len(p), nil
}

func (f *seeker) Seek(at int64, _ int) (int64, error) {
	f.at = int(at)
	return at, nil
}

func compile(t testing.TB, table *Table, problems []Problem) []byte {
	t.Helper()
	f := &seeker{}
	if err := table.Compile(f, Origin{Sum: [32]byte{1}, State: State{1, 2, 3, 4}}, problems); err != nil {
		t.Fatal(err)
	}
	return f.b
}

func openBytes(t testing.TB, file string, b []byte) (*Table, []Problem) {
	t.Helper()
	c, from, problems, err := OpenCompiled(file, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if from != (Origin{Sum: [32]byte{1}, State: State{1, 2, 3, 4}}) {
		t.Errorf("made of %v", from)
	}
	return c, problems
}

// same: what is compiled says what the text says, in every respect.
func same(t *testing.T, text string) {
	t.Helper()
	want, problems, err := Parse("f", text)
	if err != nil {
		return
	}
	got, saved := openBytes(t, "f", compile(t, want, problems))
	if !slices.Equal(saved, problems) {
		t.Errorf("%q: problems\n%v\nwant\n%v", text, saved, problems)
	}
	if got.Len() != want.Len() || !slices.Equal(got.Includes(), want.Includes()) {
		t.Errorf("%q: %d, %q, not %d, %q", text, got.Len(), got.Includes(), want.Len(), want.Includes())
	}
	a, b := slices.Collect(got.Entries()), slices.Collect(want.Entries())
	if len(a) != len(b) {
		t.Fatalf("%q: %d entries, not %d", text, len(a), len(b))
	}
	for i, x := range a {
		if y := b[i]; x.Key() != y.Key() || x.Pos() != y.Pos() || !slices.Equal(x.Targets(), y.Targets()) {
			t.Errorf("%q: %s %v %v, not %s %v %v", text, x.Key(), x.Pos(), x.Targets(), y.Key(), y.Pos(), y.Targets())
		}
		local, domain := x.Key(), ""
		if i := strings.LastIndexByte(local, '@'); i >= 0 {
			local, domain = local[:i], local[i+1:]
		}
		if found, ok := got.Lookup(local, domain); !ok || found != x {
			t.Errorf("%q: %s is not found", text, x.Key())
		}
		if _, ok := got.Lookup(local+"x", domain); ok != func() bool { _, ok := want.Lookup(local+"x", domain); return ok }() {
			t.Errorf("%q: %sx", text, x.Key())
		}
	}
	if err := got.Err(); err != nil || !got.IsCompiled() || want.IsCompiled() {
		t.Error(err)
	}
}

const grammar = `# people
postmaster: root
"John Doe": jd, |"/bin/x, y", "|/bin/cmd a,b" # c
Bob: \bob,
   # between
   bob@elsewhere.example, :include:/lists/a
 :include: /lists/b
sales@Example.ORG  alice carol@far.example \
  dave
bob: twice
: nothing
  indented
@old.example @new.example
gone: :fail: moved, you see
bücher@bücher.example: x
bad: a b@@c "
empty:
`

func TestCompiledIsTheText(t *testing.T) {
	for _, text := range []string{"", "#\n", "a: b", grammar, strings.ReplaceAll(grammar, "\n", "\r\n"), strings.Repeat(grammar, 40), "\xff: x\na: b\n", "a: " + strings.Repeat("x, ", 100000)} {
		same(t, text)
	}
}

// Two files, of which either, or both, are compiled, tell the same of each other.
func TestJoinCompiled(t *testing.T) {
	texts := []string{"a: 1\nb: 2\nc: 3\nd: 4\n", "x: 5\nd: 6\nb: 7\n", "c: 8\nb: 9\ny: 10\nd: 11\na: 12\nz: 13\n"}
	var want string
	for mask := range 1 << len(texts) {
		var l []*Table
		for i, text := range texts {
			x, problems, err := Parse(fmt.Sprint("f", i), text)
			if err != nil {
				t.Fatal(err)
			}
			if mask>>i&1 != 0 {
				x, _ = openBytes(t, fmt.Sprint("f", i), compile(t, x, problems))
			}
			l = append(l, x)
		}
		all, problems := Join(l...)
		e, ok := all.Lookup("d", "")
		got := fmt.Sprint(problems, all.Len(), e.Pos(), ok, len(slices.Collect(all.Entries())))
		if want == "" {
			want = got
			t.Log(want)
		}
		if got != want {
			t.Errorf("%03b: %s", mask, got)
		}
	}
}

// What cannot be read is an entry that delays mail, never one that is not there.
func TestCompiledCannotBeRead(t *testing.T) {
	table, problems, err := Parse("f", grammar)
	if err != nil {
		t.Fatal(err)
	}
	b := compile(t, table, problems)
	r := &shrinking{b: b}
	c, _, _, err := OpenCompiled("f", r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		r.b = b[:n]
		e, ok := c.Lookup("bob", "")
		if to := e.Targets(); !ok || len(to) != 3 && to[0].Kind != Bad {
			t.Fatalf("%d octets: %t", n, ok)
		}
		bad, count := false, 0
		for e := range c.Entries() {
			bad = e.Targets()[0].Kind == Bad && e.Key() == ""
			count++
		}
		if !bad && count != table.Len() {
			t.Fatalf("%d octets: %d entries", n, count)
		}
	}
	if c.Err() == nil {
		t.Error("no error")
	}
}

type shrinking struct{ b []byte }

func (s *shrinking) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(s.b).ReadAt(p, at)
}

func FuzzCompile(f *testing.F) {
	f.Add(grammar)
	f.Add("a: b\n")
	f.Fuzz(same)
}

// FuzzOpenCompiled: whatever the file has, nothing panics, and what cannot be read is bad.
func FuzzOpenCompiled(f *testing.F) {
	table, problems, err := Parse("f", grammar)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(compile(f, table, problems), "bob")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		c, _, _, err := OpenCompiled("f", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if e, ok := c.Lookup(key, ""); ok && len(e.Targets()) == 0 {
			t.Error("no target")
		}
		for e := range c.Entries() {
			e.Pos()
			if len(e.Targets()) == 0 {
				t.Error("no target")
			}
		}
		Join(c, table)
	})
}

// compiledMillion is an alias file of that many entries, and what is compiled of it.
func compiledMillion(b *testing.B) (text string, compiled *os.File) {
	var s strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&s, "user%d@example.org: box%d@mail%d.example.net\n", i, i, i%16)
	}
	table, problems, err := Parse("f", s.String())
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "cdb"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if err := table.Compile(f, Origin{Sum: [32]byte{1}}, problems); err != nil {
		b.Fatal(err)
	}
	return s.String(), f
}

func BenchmarkMillion(b *testing.B) {
	text, f := compiledMillion(b)
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("text %d octets, compiled %d", len(text), info.Size())
	openFile := func(b *testing.B) *Table {
		t, _, _, err := OpenCompiled("f", f, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		return t
	}
	parse := func(b *testing.B) *Table {
		t, _, err := Parse("f", text)
		if err != nil {
			b.Fatal(err)
		}
		return t
	}
	for name, open := range map[string]func(*testing.B) *Table{"text": parse, "cdb": openFile} {
		b.Run("open/"+name, func(b *testing.B) {
			for b.Loop() {
				open(b)
			}
		})
		t := open(b)
		b.Run("lookup/"+name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i = (i + 7919) % 1_000_000
				e, ok := t.Lookup(fmt.Sprint("user", i), "example.org")
				if !ok || len(e.Targets()) != 1 {
					b.Fatal(i)
				}
			}
		})
		b.Run("absent/"+name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				if _, ok := t.Lookup(fmt.Sprint("nobody", i), "example.org"); ok {
					b.Fatal(i)
				}
			}
		})
		b.Run("entries/"+name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				for e := range t.Entries() {
					n += len(e.Targets())
				}
				if n != 1_000_000 {
					b.Fatal(n)
				}
			}
		})
	}
}
