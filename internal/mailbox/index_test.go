package mailbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

func openIndex(t testing.TB, path string) *indexFile {
	t.Helper()
	dir, err := durable.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	i := &indexFile{dir: dir, x: &index{}}
	t.Cleanup(func() {
		i.close()
		dir.Close()
	})
	return i
}

// random makes frames of random changes, applied to x.
func random(x *index, r *rand.Rand, n int) (frames []byte) {
	for range n {
		var p []byte
		kind := byte('A')
		switch k := r.IntN(10); {
		case k < 5 || len(x.messages) == 0:
			m := message{uid: x.next + uint32(r.IntN(3)) + 1, modseq: x.highest + 1, size: unknown, wire: unknown, date: unknown}
			m.setFlags(Flags(r.IntN(64)))
			p = append(m.append(nil), fmt.Sprintf("17640000%02d.Qx%dX.host:2,", r.IntN(100), m.uid)...)
		case k < 8:
			kind = 'F'
			m := x.messages[r.IntN(len(x.messages))]
			name, _ := x.names.get(&m)
			m.modseq, m.keywords = x.highest+1, r.Uint32()&(1<<26-1)
			m.setPlace(uint64(r.IntN(2)))
			p = append(m.append(nil), rename(name, m.flags(), m.keywords)...)
		case k < 9 && r.IntN(2) == 0:
			kind = 'L'
			m := x.messages[r.IntN(len(x.messages))]
			m.size, m.wire, m.date, m.facts = r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()
			p = m.appendLearnt(nil)
		case k < 9:
			kind = 'X'
			m := x.messages[r.IntN(len(x.messages))]
			p = make([]byte, 16)
			p[0], p[1], p[2], p[3] = byte(m.uid), byte(m.uid>>8), byte(m.uid>>16), byte(m.uid>>24)
			for i := range 8 {
				p[8+i] = byte((x.highest + 1) >> (8 * i))
			}
		default:
			kind = 'S'
			p = make([]byte, 8, 8+stateSize)
			p[0], p[1], p[2] = byte(x.next), byte(x.next>>8), byte(x.next>>16)
			s := state{cur: stamp{r.Int64(), r.Int64()}, listSize: r.Int64()}
			p = s.append(p)
		}
		f := x.frame(nil, kind, p)
		if x.apply(f) != len(f) {
			panic("not applied")
		}
		x.compact()
		frames = append(frames, f...)
	}
	return frames
}

// same compares all that two indices say.
func same(t *testing.T, a, b *index) {
	t.Helper()
	names := func(x *index) (list []string) {
		for i := range x.messages {
			n, err := x.names.get(&x.messages[i])
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
		return list
	}
	bare := func(x *index) []message {
		l := slices.Clone(x.messages)
		for i := range l {
			l[i].setName(0, 0)
		}
		return l
	}
	if !slices.Equal(bare(a), bare(b)) || !slices.Equal(names(a), names(b)) || a.next != b.next || a.validity != b.validity || a.highest != b.highest || a.cache != b.cache || a.state != b.state {
		t.Fatalf("two that should agree:\n%+v\n%+v", a, b)
	}
}

// What one process writes, by changes and by snapshots, another reads.
func TestIndexFollows(t *testing.T) {
	dir := t.TempDir()
	a, b := openIndex(t, dir), openIndex(t, dir)
	r := rand.New(rand.NewPCG(1, 2))
	generations := map[uint64]bool{}
	for range 500 {
		unlock, err := a.lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.write(nil, random(a.x, r, 1+r.IntN(20))); err != nil {
			t.Fatal(err)
		}
		unlock()
		b.refresh()
		same(t, a.x, b.x)
		generations[a.x.generation] = true
		if r.IntN(2) == 0 {
			a, b = b, a
		}
	}
	if len(generations) < 3 || len(generations) > 100 {
		t.Errorf("%d snapshots", len(generations))
	}
}

// An index that is cut or changed at any octet is no index, or the beginning of one; and what is written after that is read.
func TestIndexDamaged(t *testing.T) {
	dir := t.TempDir()
	a := openIndex(t, dir)
	r := rand.New(rand.NewPCG(3, 4))
	unlock, _ := a.lock()
	a.write(nil, random(a.x, r, 10))
	states := []*index{}
	ends := []int64{a.x.base}
	for range 10 {
		a.write(nil, random(a.x, r, 1))
		ends = append(ends, a.x.end)
	}
	unlock()
	whole, err := os.ReadFile(dir + "/" + indexName)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range ends {
		x, ok := loadIndex(bytes.NewReader(whole[:end]), end)
		if !ok || x.end != end {
			t.Fatal("not read at", end)
		}
		states = append(states, x)
	}
	check := func(b []byte, at int) {
		t.Helper()
		x, ok := loadIndex(bytes.NewReader(b), int64(len(b)))
		if at < int(ends[0]) {
			if ok {
				_, err := x.allNames()
				ok = err == nil
			}
			if ok {
				t.Fatalf("octet %d: taken", at)
			}
			return
		}
		k := 0
		for k+1 < len(ends) && ends[k+1] <= int64(at) {
			k++
		}
		if !ok {
			t.Fatalf("octet %d: not taken", at)
		}
		same(t, x, states[k])
	}
	for at := range whole {
		b := slices.Clone(whole)
		b[at] ^= 1 << (at % 8)
		check(b, at)
		check(whole[:at], at)
	}
	// The next writer goes on where it is whole.
	os.WriteFile(dir+"/"+indexName, whole[:len(whole)-3], 0o600)
	b, c := openIndex(t, dir), openIndex(t, dir)
	unlock, _ = b.lock()
	b.write(nil, random(b.x, r, 3))
	unlock()
	c.refresh()
	same(t, b.x, c.x)
	if !c.good || c.x.base != ends[0] {
		t.Error("a new snapshot for a change that was cut")
	}
}

// Names that are damaged are not noticed by who opens the mailbox, but by who wants a file: nothing is gone, and nothing has another UID.
func TestIndexNamesDamaged(t *testing.T) {
	b := newBox(t)
	for range 3 {
		b.deliver("x\n")
	}
	m := b.open()
	before := view(t, m)
	path := filepath.Join(b.dir, indexName)
	whole, err := os.ReadFile(path)
	must(t, err)
	for at := headerSize + 3*recordSize; at < len(whole); at += 7 {
		damaged := slices.Clone(whole)
		damaged[at] ^= 1
		must(t, os.WriteFile(path, damaged, 0o600))
		m := b.open()
		for _, uid := range m.UIDs() {
			f, err := m.File(uid)
			if err != nil {
				t.Fatalf("octet %d: %v", at, err)
			}
			f.Close()
		}
		if after := view(t, m); len(after) != len(before) {
			t.Errorf("octet %d: %v, before %v", at, after, before)
		}
		for name, x := range view(t, m) {
			if x.UID != before[name].UID {
				t.Errorf("octet %d: %q has UID %d, had %d", at, name, x.UID, before[name].UID)
			}
		}
	}
}

// A command writes more than once, and its first write may make a new file: another process waits until the last one.
func TestIndexLockOutlivesRewrite(t *testing.T) {
	dir := t.TempDir()
	a, b := openIndex(t, dir), openIndex(t, dir)
	r := rand.New(rand.NewPCG(7, 8))
	unlock, err := a.lock()
	must(t, err)
	b.refresh() // the same file, which is empty yet
	must(t, a.write(nil, random(a.x, r, 10)))
	if b.current() {
		t.Fatal("no new file was made: this shows nothing")
	}
	others := openIndex(t, dir)
	others.refresh()
	if err := unix.Flock(int(others.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Fatalf("the file that has the name now can be locked: %v", err)
	}
	came := make(chan error)
	go func() {
		unlock, err := b.lock()
		if err == nil {
			err = b.write(nil, random(b.x, rand.New(rand.NewPCG(9, 10)), 5))
			unlock()
		}
		came <- err
	}()
	must(t, a.write(nil, random(a.x, r, 10)))
	last := a.x.highest
	unlock()
	must(t, <-came)
	if b.x.highest < last {
		t.Errorf("the other wrote on %d, and this one had come to %d", b.x.highest, last)
	}
	others.refresh()
	same(t, b.x, others.x)
	if err := unix.Flock(int(others.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("still locked: %v", err)
	}
}

// A file that is gone, or another's, is taken note of.
func TestIndexReplaced(t *testing.T) {
	dir := t.TempDir()
	a, b := openIndex(t, dir), openIndex(t, dir)
	r := rand.New(rand.NewPCG(5, 6))
	unlock, _ := a.lock()
	a.write(nil, random(a.x, r, 10))
	unlock()
	b.refresh()
	same(t, a.x, b.x)
	os.Remove(dir + "/" + indexName)
	b.refresh()
	if b.good || len(b.x.messages) != 0 {
		t.Error("an index that is gone")
	}
	os.Remove(dir + "/" + indexName)
	unix.Mkfifo(dir+"/"+indexName, 0o600)
	b.refresh()
	if b.f != nil {
		t.Error("a FIFO")
	}
	if unlock, err := b.lock(); err != nil {
		t.Error(err)
	} else {
		unlock()
	}
}

// Who may write in a maildir may write its index, too: a name in it that leads elsewhere is none, though the sums are right.
func TestNamesLeadNowhereElse(t *testing.T) {
	for _, evil := range []string{"../secret", "/tmp/abcd", ".././abcd", "a\x00.secret", "..secret1", "\r\n.secret"} {
		b := newBox(t)
		must(t, os.WriteFile(filepath.Join(b.dir, "secret"), []byte("secret"), 0o600))
		must(t, os.WriteFile(filepath.Join(b.dir, "cur", "aa.secret"), []byte("message"), 0o600))
		b.settle()
		m := b.open()
		if len(evil) != len("aa.secret") || len(m.UIDs()) != 1 {
			t.Fatal(evil, m.UIDs())
		}
		path := filepath.Join(b.dir, indexName)
		good, err := os.ReadFile(path)
		must(t, err)
		bad := bytes.Replace(slices.Clone(good), []byte("aa.secret"), []byte(evil), 1)
		names := bad[headerSize+recordSize:][:len(evil)]
		binary.LittleEndian.PutUint32(bad[124:], crc32.Checksum(names, castagnoli()))
		binary.LittleEndian.PutUint32(bad[128:], crc32.Checksum(bad[:128], castagnoli()))
		m.index.x.generation = binary.LittleEndian.Uint64(good[16:])
		later := m.index.x.frame(slices.Clone(good), 'A', append(good[headerSize:][:recordSize:recordSize], evil...))
		for _, index := range [][]byte{bad, later} {
			must(t, os.WriteFile(path, index, 0o600))
			m := b.open()
			if f, err := m.File(1); err != nil {
				t.Errorf("%q: %v", evil, err)
			} else {
				if text, _ := io.ReadAll(f); string(text) != "message" {
					t.Errorf("%q: %q", evil, text)
				}
				f.Close()
			}
			must(t, os.WriteFile(path, index, 0o600))
		}
		m = b.open()
		validity, _, _, _ := m.Status()
		if failed, err := m.Expunge(validity, []uint32{1}); len(failed) > 0 || err != nil {
			t.Errorf("%q: %v, %v", evil, failed, err)
		}
		if _, err := os.Stat(filepath.Join(b.dir, "secret")); err != nil {
			t.Errorf("%q: %v", evil, err)
		}
		if b.find("aa.secret") != "" {
			t.Errorf("%q: the message is still there", evil)
		}
	}
}

func TestCompare(t *testing.T) {
	known := []string{"1.a:2,", "2.b:2,S", "3.c", "4.d:2,", "5.e"}
	messages := make([]message, len(known))
	messages[2].setPlace(placeNew)
	messages[4].setPlace(placeNew)
	r := compare(messages, func(i int) string { return known[i] }, []found{
		{"1.a:2,", false}, {"1.a:2,F", false}, {"2.b:2,RS", false}, {"3.c:2,", false}, {"5.e", true}, {"6.f", true}, {"6.f:2,S", false}, {":2,S", false}})
	for i, f := range r.fresh {
		if r.bases.find(baseOf(f.name)) != i {
			t.Errorf("%s is not found", f.name)
		}
	}
	r.bases = nil
	if want := (reading{changed: []change{{1, found{"2.b:2,RS", false}}, {2, found{"3.c:2,", false}}}, missing: []int{3}, fresh: []found{{"6.f:2,S", false}},
		twice: []twins{{{"1.a:2,", false}, {"1.a:2,F", false}}, {{"6.f", true}, {"6.f:2,S", false}}}}); !reflect.DeepEqual(*r, want) {
		t.Errorf("%+v", r)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name     string
		base     string
		f        Flags
		keywords uint32
		to       string // with Seen and keyword b alone
	}{
		{"1.a", "1.a", 0, 0, "1.a:2,Sb"},
		{"1.a:2,", "1.a", 0, 0, "1.a:2,Sb"},
		{"1.a:2,FSac", "1.a", Flagged | Seen, 5, "1.a:2,Sb"},
		{"1.a:2,SSFX9", "1.a", Flagged | Seen, 0, "1.a:2,9SXb"},
		{"1.a:1,x", "1.a", 0, 0, "1.a:1,x:2,Sb"},
		{"1.a:2,S:2,F", "1.a", Seen, 0, "1.a:2,2:Sb,F"},
		{"1.a:2,FS,x", "1.a", Flagged | Seen, 0, "1.a:2,Sb,x"},
		{"1.a:", "1.a", 0, 0, "1.a::2,Sb"},
	} {
		base, f, k := parseName(c.name)
		if base != c.base || f != c.f || k != c.keywords {
			t.Errorf("%s: %q %b %b", c.name, base, f, k)
		}
		if got := rename(c.name, Seen, 2); got != c.to {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	for s, want := range map[string]uint64{"1.a,S=12,W=15": 12, "1.a,S=12": 12, "1.a": unknown, "a,S=": unknown, "a,S=1x": unknown, "a,S=99999999999999999999": unknown} {
		if got := sizeIn(s, ",S="); got != want {
			t.Errorf("%s: %d", s, got)
		}
	}
}

// F01: on a full disk there is mail to be read, by who has it open and by who comes, and what was not written is nowhere taken for written.
func TestIndexFullDisk(t *testing.T) {
	b := newBox(t)
	bases := []string{b.deliver("x\n"), b.deliver("y\n"), b.deliver("z\n")}
	m := b.open()
	must(t, m.Sync())
	for _, gone := range []bool{false, true} {
		if gone {
			must(t, os.Remove(filepath.Join(b.dir, indexName)))
		}
		m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
			if (op == durable.OpWrite || op == durable.OpCreate) && strings.Contains(name, indexName) {
				return unix.ENOSPC
			}
			return nil
		}}
		letters := "S"
		if gone {
			letters = "F"
		}
		b.foreign(bases[0], letters)
		must(t, os.Remove(b.find(bases[len(bases)-1])))
		bases = bases[:len(bases)-1]
		for range 2 {
			must(t, m.Sync())
			if got := view(t, m); len(got) != len(bases) || got[bases[0]].Flags != parsed(letters) {
				t.Errorf("%v: %v", gone, got)
			}
		}
		if _, err := m.SetFlags(0, []uint32{1}, Add, Draft, nil); err != nil {
			t.Error(err)
		}
		m.ops = nil
		if got := view(t, b.open()); len(got) != len(bases) || got[bases[0]].Flags != parsed(letters)|Draft {
			t.Errorf("%v, another process: %v", gone, got)
		}
		must(t, m.Sync())
	}
}

// A folder that the index cannot be kept in, one that may only be read, has it in memory: what was told is not told again, and changes are found.
func TestIndexInMemory(t *testing.T) {
	b := newBox(t)
	bases := []string{b.deliver("x\n"), b.deliver("y\n")}
	file := filepath.Join(b.dir, indexName)
	must(t, os.Mkdir(file, 0o700))
	m := b.open()
	_, validity, seen := m.Snapshot()
	since := func(messages, gone int) {
		t.Helper()
		for range 3 {
			must(t, m.Sync())
		}
		c, ok := m.Since(validity, seen)
		if !ok || len(c.Messages) != messages || len(c.Gone) != gone || !c.Whole {
			t.Errorf("%+v, %v", c, ok)
		}
		seen = c.Highest
	}
	since(0, 0)
	b.foreign(bases[0], "S")
	since(1, 0)
	b.deliver("z\n")
	since(1, 0)
	must(t, os.Remove(b.find(bases[1])))
	since(0, 1)
	if _, err := m.SetFlags(validity, []uint32{1}, Add, Draft, nil); err != nil {
		t.Error(err)
	}
	since(1, 0)
	must(t, os.Remove(file)) // and then it can be: once all is new
	must(t, m.Sync())
	_, _, seen = m.Snapshot()
	since(0, 0)
	b.foreign(bases[0], "F")
	since(1, 0)
	if got := view(t, b.open()); len(got) != 2 || got[bases[0]].Flags != parsed("F") {
		t.Errorf("another process: %v", got)
	}
	if i, err := os.Stat(file); err != nil || i.Size() == 0 {
		t.Errorf("no index: %v", err)
	}
}

func parsed(letters string) Flags {
	_, f, _ := parseName("x:2," + letters)
	return f
}
