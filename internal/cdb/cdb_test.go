package cdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// file is an io.WriteSeeker in memory.
type file struct {
	b  []byte
	at int
}

func (f *file) Write(p []byte) (int, error) {
	if n := f.at + len(p) - len(f.b); n > 0 {
		f.b = append(f.b, make([]byte, n)...)
	}
	f.at += copy(f.b[f.at:], p)
	return len(p), nil
}

func (f *file) Seek(at int64, whence int) (int64, error) {
	f.at = int(at)
	return at, nil
}

func write(t testing.TB, records ...Record) []byte {
	t.Helper()
	f := &file{}
	w := NewWriter(f)
	for _, r := range records {
		if err := w.Add(r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f.b
}

func open(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// many are records of all sizes, some with the key of another.
func many() []Record {
	l := []Record{{"", "of the empty key"}, {"big", strings.Repeat("x", 3*block)}, {strings.Repeat("k", 300), "v"}, {"twice", "1"}, {"empty", ""}, {"twice", "2"}}
	for i := range 5000 {
		l = append(l, Record{fmt.Sprint("key", i), strings.Repeat("v", i%400)})
	}
	return l
}

func TestReadWhatWasWritten(t *testing.T) {
	for _, records := range [][]Record{nil, {{"one", "1"}}, many()} {
		r := open(t, write(t, records...))
		i := 0
		first := map[string]string{}
		for got, err := range r.All() {
			if err != nil || got != records[i] {
				t.Fatalf("record %d is %.40q, %v, not %.40q", i, got, err, records[i])
			}
			if _, ok := first[got.Key]; !ok {
				first[got.Key] = got.Value
			}
			i++
		}
		if i != len(records) {
			t.Errorf("%d records, not %d", i, len(records))
		}
		for k, want := range first {
			if got, ok, err := r.Find([]byte(k)); !ok || err != nil || got != want {
				t.Errorf("%.40q is %.40q, %t, %v", k, got, ok, err)
			}
		}
		for i := range 5000 {
			if got, ok, err := r.Find(fmt.Append(nil, "none", i)); ok || err != nil {
				t.Fatalf("none%d is %q, %v", i, got, err)
			}
		}
	}
}

// Keys of one hash are told apart, and a search goes around the end of its table.
func TestOneHash(t *testing.T) {
	keys, random := []string{""}, rand.New(rand.NewPCG(1, 2))
	for range 6 {
		// Two ends that make one hash of what there is, which has one.
		ends := map[uint32]string{}
		for {
			end := fmt.Sprintf("%x.", random.Uint64())
			h := hash(keys[0] + end)
			if other, ok := ends[h]; ok {
				n := len(keys)
				for _, k := range keys[:n:n] {
					keys = append(keys, k+other)
				}
				for i := range n {
					keys[i] += end
				}
				break
			}
			ends[h] = end
		}
	}
	var records []Record
	for i, k := range keys {
		records = append(records, Record{k, fmt.Sprint(i)})
		if hash(k) != hash(keys[0]) {
			t.Fatal("they differ")
		}
	}
	r := open(t, write(t, records...))
	for _, want := range records {
		if got, ok, err := r.Find([]byte(want.Key)); !ok || err != nil || got != want.Value {
			t.Errorf("%q is %q, %t, %v", want.Key, got, ok, err)
		}
	}
	if n := r.tables[hash(keys[0])%256].slots; n != 128 {
		t.Errorf("%d slots", n)
	}
}

// Debian's cdb reads what we write, and we what it writes.
func TestStranger(t *testing.T) {
	if _, err := exec.LookPath("cdb"); err != nil {
		if os.Getenv("SKIP_MISSING") == "1" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "ours")
	records := many()
	if err := os.WriteFile(ours, write(t, records...), 0o600); err != nil {
		t.Fatal(err)
	}
	dump, err := exec.Command("cdb", "-d", ours).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for _, r := range records {
		fmt.Fprintf(&want, "+%d,%d:%s->%s\n", len(r.Key), len(r.Value), r.Key, r.Value)
	}
	want.WriteByte('\n')
	if !bytes.Equal(dump, want.Bytes()) {
		t.Errorf("cdb -d printed %d octets, not %d", len(dump), want.Len())
	}
	for _, r := range []Record{records[1], records[3], records[4], records[4321]} {
		if got, err := exec.Command("cdb", "-q", "-n", "1", ours, r.Key).Output(); err != nil || string(got) != r.Value {
			t.Errorf("cdb -q %s: %.40q, %v", r.Key, got, err)
		}
	}
	if err := exec.Command("cdb", "-q", ours, "nobody").Run(); err == nil || err.(*exec.ExitError).ExitCode() != 100 {
		t.Errorf("cdb -q nobody: %v", err)
	}
	theirs := filepath.Join(t.TempDir(), "theirs")
	c := exec.Command("cdb", "-c", theirs)
	c.Stdin = &want
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("cdb -c: %v %s", err, out)
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, write(t, records...)) {
		t.Error("cdb -c makes another file of the same records")
	}
}

// A file that is cut anywhere, or has a wrong octet, answers what it did or says that it is no whole one, but for the octets of keys and values.
func TestCutAndChanged(t *testing.T) {
	records := []Record{{"alice", "1"}, {"bob", "2"}, {"carol", "3"}}
	whole := write(t, records...)
	for n := range whole {
		r, err := NewReader(bytes.NewReader(whole[:n]), int64(n))
		if err == nil {
			for range records {
				_, _, err = r.Find([]byte("alice"))
			}
		}
		if !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	// The size is right, but the file is shorter now.
	r := open(t, whole)
	for n := range whole {
		r.r = bytes.NewReader(whole[:n])
		for _, want := range records {
			if got, ok, err := r.Find([]byte(want.Key)); !errors.Is(err, ErrFormat) && got != want.Value {
				t.Errorf("ends at %d: %q, %t, %v", n, got, ok, err)
			}
		}
	}
}

// Every slot of a full table points to a record with the right hash and another key: as many steps as there are slots, and no more.
func TestNoWayOut(t *testing.T) {
	b := write(t, Record{"a", "x"}, Record{"a", "y"})
	h := hash("b")
	at := binary.LittleEndian.Uint32(b[8*(hash("a")%256):])
	copy(b[8*(h%256):][:8], b[8*(hash("a")%256):])
	for i := range uint32(4) {
		binary.LittleEndian.PutUint32(b[at+8*i:], h)
		binary.LittleEndian.PutUint32(b[at+8*i+4:], headerSize)
	}
	count := &counter{r: bytes.NewReader(b)}
	r, err := NewReader(count, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.Find([]byte("b")); ok || err != nil {
		t.Error(ok, err)
	}
	if count.n > 8 {
		t.Errorf("%d reads", count.n)
	}
}

type counter struct {
	r io.ReaderAt
	n int
}

func (c *counter) ReadAt(p []byte, at int64) (int, error) {
	c.n++
	return c.r.ReadAt(p, at)
}

func TestWriteFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	w := NewWriter(full)
	for range 100 {
		w.Add("key", strings.Repeat("v", 1000))
	}
	if err := w.Close(); err == nil {
		t.Error("a full disk is no error")
	}
	w = NewWriter(&file{})
	w.at = MaxSize - 10
	if err := w.Add("key", "value"); err != errTooLarge {
		t.Error(err)
	}
	if err := w.Close(); err != errTooLarge {
		t.Error(err)
	}
}

// FuzzReader: whatever stands in a file, reading it ends, within it.
func FuzzReader(f *testing.F) {
	f.Add(write(f), []byte("x"))
	f.Add(write(f, Record{"alice", "1"}, Record{"bob", "2"}), []byte("bob"))
	f.Fuzz(func(t *testing.T, b, key []byte) {
		count := &counter{r: bytes.NewReader(b)}
		r, err := NewReader(count, int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		octets := 0
		have := map[string]string{}
		for x, err := range r.All() {
			if err != nil {
				if !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				break
			}
			octets += len(x.Key) + len(x.Value) + 8
			have[x.Key] = x.Value
		}
		if octets > len(b) {
			t.Fatalf("%d octets of records in %d", octets, len(b))
		}
		for key := range maps.Keys(have) {
			r.Find([]byte(key))
		}
		count.n = 0
		value, ok, err := r.Find(key)
		if len(value) > len(b) || err != nil && !errors.Is(err, ErrFormat) || ok && err != nil {
			t.Fatal(len(value), ok, err)
		}
		if count.n > 3*len(b) {
			t.Fatalf("%d reads in %d octets", count.n, len(b))
		}
	})
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "cdb"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			w := NewWriter(f)
			for i := range n {
				w.Add(fmt.Sprint("key", i), "12 9\nkey: alice, bob\n")
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				b.Fatal(err)
			}
			r, err := NewReader(f, info.Size())
			if err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				if _, ok, err := r.Find(fmt.Append(nil, "key", i)); !ok || err != nil {
					b.Fatal(i, err)
				}
			}
		})
	}
}
