package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// reader says of a message what it is, and counts how often it is asked.
type reader struct{ files atomic.Int64 }

func (r *reader) describe(from io.Reader) ([]byte, int64, error) {
	r.files.Add(1)
	text, err := io.ReadAll(from)
	if err != nil {
		return nil, 0, err
	}
	return []byte("of " + string(text)), int64(len(text) + strings.Count(string(text), "\n")), nil
}

// openFacts opens the maildir with a reader.
func (b *box) openFacts(form uint32) (*Mailbox, *reader) { return b.openFolder("", form) }

func (b *box) openFolder(name string, form uint32) (*Mailbox, *reader) {
	b.t.Helper()
	os.Mkdir(filepath.Join(b.dir, name), 0o700)
	root, err := durable.OpenDir(b.dir)
	must(b.t, err)
	defer root.Close()
	r := &reader{}
	m, err := Open(root, name, Options{Describe: r.describe, Form: form, Report: func(err error) { b.t.Log(err) }})
	must(b.t, err)
	b.t.Cleanup(func() { m.Close() })
	return m, r
}

// settle has the directories be as they are for an hour, so that they need not be read again.
func (b *box) settle() {
	old := time.Now().Add(-time.Hour)
	for _, d := range []string{"cur", "new"} {
		must(b.t, os.Chtimes(filepath.Join(b.dir, d), old, old))
	}
}

// factsOf is what is said of messages, in the order in which they came.
func factsOf(t testing.TB, m *Mailbox, uids []uint32) (came []uint32, said map[uint32]string) {
	t.Helper()
	said = map[uint32]string{}
	must(t, m.Facts(t.Context(), 0, uids, func(uid uint32, facts []byte) error {
		came, said[uid] = append(came, uid), string(facts)
		return nil
	}))
	return came, said
}

// texts delivers n messages and returns what is to be said of them, by UID.
func (b *box) texts(n int) map[uint32]string {
	want := map[uint32]string{}
	for range n {
		text := fmt.Sprintf("message %d\n%s\n", b.n, strings.Repeat("x", b.n*37%5000))
		b.deliver(text)
		want[uint32(b.n)] = "of " + text
	}
	return want
}

func TestFacts(t *testing.T) {
	b := newBox(t)
	want := b.texts(1000)
	m, r := b.openFacts(1)
	uids := m.UIDs()
	if came, said := factsOf(t, m, uids); !slices.Equal(came, uids) || !maps.Equal(said, want) || r.files.Load() != 1000 {
		t.Fatal(len(came), r.files.Load())
	}
	// In any order, from the cache, here and in another process, and what is gone is passed over.
	order := rand.New(rand.NewPCG(1, 2)).Perm(1000)
	shuffled := make([]uint32, 0, 1001)
	for _, i := range order {
		shuffled = append(shuffled, uids[i])
	}
	other, ro := b.openFacts(1)
	for _, box := range []*Mailbox{m, other} {
		if came, said := factsOf(t, box, append(shuffled, 5000)); !slices.Equal(came, shuffled) || !maps.Equal(said, want) {
			t.Fatal("another order")
		}
		if came, said := factsOf(t, box, []uint32{7, 7, 3}); !slices.Equal(came, []uint32{7, 7, 3}) || said[3] != want[3] {
			t.Fatal(came)
		}
	}
	if r.files.Load() != 1000 || ro.files.Load() != 0 {
		t.Error(r.files.Load(), ro.files.Load())
	}
	// What was read is known for good: sizes and dates too.
	if n, err := other.Size(10); n != int64(len(want[10])-3+2) || err != nil {
		t.Error(n, err)
	}
	// New ones.
	maps.Copy(want, b.texts(3))
	must(t, other.Sync())
	if _, said := factsOf(t, other, other.UIDs()); !maps.Equal(said, want) || ro.files.Load() != 3 {
		t.Error(len(said), ro.files.Load())
	}
	must(t, m.Sync())
	if _, said := factsOf(t, m, m.UIDs()); !maps.Equal(said, want) || r.files.Load() != 1000 {
		t.Error(len(said), r.files.Load())
	}
}

// The warm path opens no message: there is none that could be opened.
func TestFactsOpenNothing(t *testing.T) {
	b := newBox(t)
	want := b.texts(300)
	m, _ := b.openFacts(1)
	factsOf(t, m, m.UIDs())
	var dates []int64
	for _, uid := range m.UIDs() {
		d, err := m.Date(uid)
		must(t, err)
		dates = append(dates, d.Unix())
	}
	m.Close()
	files, _ := filepath.Glob(filepath.Join(b.dir, "new", "*"))
	for _, f := range files { // a directory in its place: no change of new/ that is noticed, and whoever opens it fails
		st, err := os.Stat(filepath.Dir(f))
		must(t, err)
		must(t, os.Remove(f))
		must(t, os.Mkdir(f, 0o700))
		must(t, os.Chtimes(filepath.Dir(f), st.ModTime(), st.ModTime()))
	}
	m, r := b.openFacts(1)
	if _, said := factsOf(t, m, m.UIDs()); !maps.Equal(said, want) || r.files.Load() != 0 {
		t.Error(len(said), r.files.Load())
	}
	for i, uid := range m.UIDs() {
		n, err := m.Size(uid)
		d, derr := m.Date(uid)
		if n != int64(len(want[uid])-3+2) || err != nil || derr != nil || d.Unix() != dates[i] {
			t.Fatal(n, err, d, derr)
		}
	}
}

// A cache that is cut or changed at any octet, gone, of another form or of another UIDVALIDITY is none, or none of some messages: all is said that is
// so, and then again from the cache. So it is when the index is gone, and as little as can be is read again then.
func TestFactsDamaged(t *testing.T) {
	b := newBox(t)
	want := map[uint32]string{}
	for i := range 3 {
		text := fmt.Sprint("message ", i, "\n")
		b.deliver(text)
		want[uint32(i+1)] = "of " + text
	}
	b.settle()
	m, _ := b.openFacts(1)
	uids := m.UIDs()
	factsOf(t, m, uids)
	m.Close()
	path, index := filepath.Join(b.dir, cacheName), filepath.Join(b.dir, indexName)
	whole, err := os.ReadFile(path)
	must(t, err)
	known, err := os.ReadFile(index)
	must(t, err)
	try := func(what string, cache []byte, withIndex bool, least, most int64) {
		t.Helper()
		os.Remove(path)
		os.Remove(index)
		if cache != nil {
			must(t, os.WriteFile(path, cache, 0o600))
		}
		if withIndex {
			must(t, os.WriteFile(index, known, 0o600))
		}
		for _, again := range []bool{false, true} {
			m, r := b.openFacts(1)
			if came, said := factsOf(t, m, uids); !slices.Equal(came, uids) || !maps.Equal(said, want) {
				t.Fatalf("%s: %v", what, said)
			}
			if n := r.files.Load(); again && n != 0 || !again && (n < least || n > most) {
				t.Fatalf("%s: %d files read", what, n)
			}
			m.Close()
		}
	}
	for _, withIndex := range []bool{true, false} {
		for at := range whole {
			most := int64(3)
			if at >= cacheHeader && withIndex {
				most = 1
			}
			b := slices.Clone(whole)
			b[at] ^= 1 << (at % 8)
			try(fmt.Sprint("octet ", at, withIndex), b, withIndex, 0, most)
			try(fmt.Sprint("cut at ", at, withIndex), whole[:at], withIndex, 1, 3)
		}
		try("whole", whole, withIndex, 0, 0)
		try("none", nil, withIndex, 3, 3)
		try("more", append(slices.Clone(whole), "rubbish that is longer than a header is"...), withIndex, 0, 0)
	}
	m, r := b.openFacts(2)
	if _, said := factsOf(t, m, uids); !maps.Equal(said, want) || r.files.Load() != 3 {
		t.Error("another form", r.files.Load())
	}
	m.Close()
	must(t, os.Remove(filepath.Join(b.dir, listName)))
	m, r = b.openFacts(2)
	if _, said := factsOf(t, m, uids); !maps.Equal(said, want) || r.files.Load() != 3 {
		t.Error("another UIDVALIDITY", r.files.Load())
	}
	// Under one who has it open.
	for _, size := range []int64{150, cacheHeader, 10, 0} {
		must(t, os.Truncate(path, size))
		if _, said := factsOf(t, m, uids); !maps.Equal(said, want) {
			t.Error("cut while it was open", said)
		}
		other, ro := b.openFacts(2)
		if _, said := factsOf(t, other, uids); !maps.Equal(said, want) || ro.files.Load() > 3 {
			t.Error("cut while another had it open", said)
		}
		other.Close()
	}
	// A FIFO with the name, and one who has the old file open.
	must(t, os.Remove(path))
	must(t, unix.Mkfifo(path, 0o600))
	b.deliver("new\n")
	must(t, m.Sync())
	if _, said := factsOf(t, m, []uint32{4}); said[4] != "of new\n" {
		t.Error(said)
	}
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		t.Error(st.Mode(), err)
	}
}

// The UIDs of an older list belong to other messages: what was said of those is not said of these.
func TestFactsOfAnother(t *testing.T) {
	b := newBox(t)
	b.texts(1)
	m, _ := b.openFacts(1)
	factsOf(t, m, []uint32{1})
	list, err := os.ReadFile(filepath.Join(b.dir, listName))
	must(t, err)
	b.deliver("old\n")
	must(t, m.Sync())
	factsOf(t, m, []uint32{2})
	m.Close()
	must(t, os.WriteFile(filepath.Join(b.dir, listName), list, 0o600))
	must(t, os.Remove(filepath.Join(b.dir, indexName)))
	must(t, os.Remove(b.find("1764000002.M2P1.host")))
	b.deliver("new\n")
	m, _ = b.openFacts(1)
	if _, said := factsOf(t, m, []uint32{2}); said[2] != "of new\n" {
		t.Error(said)
	}
}

// A file whose records are mostly of messages that are gone is written anew; who has the old one open goes on.
func TestFactsTidy(t *testing.T) {
	b := newBox(t)
	want := b.texts(1600)
	m, r := b.openFacts(1)
	factsOf(t, m, m.UIDs())
	other, ro := b.openFacts(1)
	before, err := os.Stat(filepath.Join(b.dir, cacheName))
	must(t, err)
	validity, _, _, _ := m.Status()
	_, err = m.Expunge(validity, m.UIDs()[:1400])
	must(t, err)
	for uid := range uint32(1400) {
		delete(want, uid+1)
	}
	maps.Copy(want, b.texts(1))
	must(t, m.Sync())
	if _, said := factsOf(t, m, m.UIDs()); !maps.Equal(said, want) {
		t.Error(len(said))
	}
	after, err := os.Stat(filepath.Join(b.dir, cacheName))
	must(t, err)
	if after.Size() > before.Size()/3 {
		t.Errorf("%d octets, and before %d", after.Size(), before.Size())
	}
	if _, said := factsOf(t, other, []uint32{1500}); said[1500] != want[1500] { // by the old file
		t.Error(said)
	}
	must(t, other.Sync())
	for _, box := range []*Mailbox{m, other} {
		if _, said := factsOf(t, box, box.UIDs()); !maps.Equal(said, want) {
			t.Error(len(said))
		}
	}
	if r.files.Load() != 1601 || ro.files.Load() != 0 {
		t.Error(r.files.Load(), ro.files.Load())
	}
	b.check(m)
	b.check(other)
}

func TestFactsErrors(t *testing.T) {
	b := newBox(t)
	b.texts(600)
	m, r := b.openFacts(1)
	uids := m.UIDs()
	validity, _, _, _ := m.Status()
	if err := m.Facts(t.Context(), validity+1, uids, nil); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if err := m.Facts(ctx, validity, uids, func(uint32, []byte) error { n++; cancel(); return nil }); !errors.Is(err, context.Canceled) || n == 600 {
		t.Error(n, err)
	}
	no := errors.New("no")
	if err := m.Facts(t.Context(), validity, uids, func(uid uint32, _ []byte) error {
		if uid == 300 {
			return no
		}
		return nil
	}); !errors.Is(err, no) {
		t.Error(err)
	}
	// One that cannot be read, and one that was renamed: the others are visited.
	bad := b.deliver("bad\n")
	renamed := b.deliver("renamed\n")
	gone := b.deliver("gone\n")
	must(t, m.Sync())
	must(t, os.Remove(b.find(bad)))
	must(t, os.Mkdir(filepath.Join(b.dir, "new", bad), 0o700))
	b.foreign(renamed, "S")
	must(t, os.Remove(b.find(gone)))
	said := map[uint32]string{}
	err := m.Facts(t.Context(), 0, []uint32{601, 602, 603, 1}, func(uid uint32, facts []byte) error { said[uid] = string(facts); return nil })
	if err == nil || !strings.Contains(err.Error(), "message 601") || len(said) != 2 || said[602] != "of renamed\n" {
		t.Error(err, said)
	}
	must(t, os.Remove(b.find(bad)))
	// A full disk costs time.
	must(t, m.Sync())
	b.deliver("full\n")
	must(t, m.Sync())
	r.files.Store(0)
	m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpWrite && strings.HasPrefix(filepath.Base(name), cacheName) {
			return unix.ENOSPC
		}
		return nil
	}}
	for range 2 {
		if _, said := factsOf(t, m, []uint32{604}); said[604] != "of full\n" {
			t.Error(said)
		}
	}
	m.ops = nil
	factsOf(t, m, []uint32{604})
	factsOf(t, m, []uint32{604})
	if n := r.files.Load(); n != 3 {
		t.Errorf("read %d times", n)
	}
}

// What is copied or moved takes its facts along, to a mailbox that knows them.
func TestFactsCarried(t *testing.T) {
	b := newBox(t)
	want := b.texts(5)
	m, _ := b.openFacts(1)
	factsOf(t, m, []uint32{1, 2, 3, 4})
	to, r := b.openFolder(".To", 1)
	old, ro := b.openFolder(".Old", 2)
	for _, c := range []struct {
		to     *Mailbox
		r      *reader
		opened int64
	}{{to, r, 1}, {old, ro, 3}} {
		copied, err := m.Copy(t.Context(), 0, []uint32{2, 3}, c.to)
		must(t, err)
		uid := uint32(1)
		if c.to == old {
			uid = 4
		}
		moved, err := m.Move(t.Context(), 0, []uint32{uid, 5}, c.to)
		must(t, err)
		for _, each := range append(copied, moved...) {
			if _, said := factsOf(t, c.to, []uint32{each.To}); said[each.To] != want[each.From] {
				t.Errorf("%+v: %q", each, said[each.To])
			}
			is, _ := c.to.Message(each.To)
			if n, err := c.to.Size(each.To); n != int64(len(want[each.From])-3+2) || err != nil || is.Size != n || is.Date <= 0 {
				t.Errorf("%+v: %d %+v %v", each, n, is, err)
			}
		}
		if n := c.r.files.Load(); n != c.opened {
			t.Errorf("%d files read, want %d", n, c.opened)
		}
		b.check(c.to)
	}
}

// What was read before it was whole is read again when somebody sees that it is not what it was.
func TestFactsMistaken(t *testing.T) {
	b := newBox(t)
	base := b.deliver("half")
	m, _ := b.openFacts(1)
	factsOf(t, m, []uint32{1})
	must(t, os.WriteFile(b.find(base), []byte("half and half\n"), 0o600))
	if n, err := m.Measure(1); n != 15 || err != nil {
		t.Error(n, err)
	}
	if _, said := factsOf(t, m, []uint32{1}); said[1] != "of half and half\n" {
		t.Error(said)
	}
}

// Processes and sessions ask for all while messages come and go and a mail program renames, and files are lost: a message's facts are its own.
func TestFactsTogether(t *testing.T) {
	b := newBox(t)
	b.texts(400)
	var wg sync.WaitGroup
	boxes := make([]*Mailbox, 3)
	for i := range boxes {
		boxes[i], _ = b.openFacts(1)
	}
	var mu sync.Mutex
	said := map[uint32]string{} // by whom it was said first
	ask := func(m *Mailbox) {
		if err := m.Sync(); err != nil {
			t.Error(err)
			return
		}
		err := m.Facts(t.Context(), 0, m.UIDs(), func(uid uint32, facts []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if was, ok := said[uid]; ok && was != string(facts) {
				return fmt.Errorf("message %d: %.20q, and before %.20q", uid, facts, was)
			}
			said[uid] = string(facts)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, m := range append(boxes, boxes[0]) {
		wg.Go(func() {
			for range 15 {
				ask(m)
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(3, 4))
		for round := range 60 {
			b.texts(1 + r.IntN(20))
			files, _ := filepath.Glob(filepath.Join(b.dir, "*", "1764*"))
			for range 10 {
				f := files[r.IntN(len(files))]
				os.Rename(f, filepath.Join(b.dir, "cur", baseOf(filepath.Base(f))+":2,"+[]string{"", "S", "F", "FS"}[r.IntN(4)]))
			}
			if round%10 == 9 {
				validity, _, _, _ := boxes[2].Status()
				uids := boxes[2].UIDs()
				if _, err := boxes[2].Expunge(validity, uids[:len(uids)/2]); err != nil {
					t.Error(err)
				}
			}
			if round%20 == 7 {
				os.Remove(filepath.Join(b.dir, []string{cacheName, indexName}[round/20%2]))
			}
		}
	})
	wg.Wait()
	for _, m := range boxes {
		ask(m)
		b.check(m)
	}
	for _, uid := range boxes[0].UIDs() {
		f, err := boxes[0].File(uid)
		must(t, err)
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil || said[uid] != "of "+string(text) {
			t.Errorf("message %d is %.20q, and said to be %.20q", uid, text, said[uid])
		}
	}
}

// Facts may be long: a visit holds some of them, in the order asked for, and those that are too long to be kept are made each time.
func TestFactsLong(t *testing.T) {
	b := newBox(t)
	var files atomic.Int64
	describe := func(from io.Reader) ([]byte, int64, error) {
		files.Add(1)
		var uid, octets int
		_, err := fmt.Fscan(from, &uid, &octets)
		return bytes.Repeat([]byte{byte(uid)}, octets), 1, err
	}
	uids, sizes := []uint32{}, []int{}
	for i := range 2*batchSize + 60 {
		n := 100
		switch i % 20 {
		case 7:
			n = 700 << 10
		case 13:
			n = maxFacts
		}
		if i == 50 || i == 300 {
			n = []int{maxFacts + 1, batchOctets + 1}[i/300]
		}
		uids, sizes = append(uids, uint32(i+1)), append(sizes, n)
		b.deliver(fmt.Sprintln(i+1, n))
	}
	b.settle()
	open := func() *Mailbox {
		root, err := durable.OpenDir(b.dir)
		must(t, err)
		defer root.Close()
		m, err := Open(root, "", Options{Describe: describe, Form: 1, Report: func(err error) { t.Log(err) }})
		must(t, err)
		t.Cleanup(func() { m.Close() })
		return m
	}
	visit := func(m *Mailbox, uids []uint32) {
		t.Helper()
		i := 0
		must(t, m.Facts(t.Context(), 0, uids, func(uid uint32, facts []byte) error {
			if uid != uids[i] || len(facts) != sizes[uid-1] || bytes.Count(facts, []byte{byte(uid)}) != len(facts) {
				t.Fatalf("message %d, want %d: %d octets, want %d", uid, uids[i], len(facts), sizes[uid-1])
			}
			i++
			return nil
		}))
		if i != len(uids) {
			t.Fatal(i, "of", len(uids))
		}
	}
	m := open()
	visit(m, uids)
	if n := int(files.Load()); n <= len(uids) || n > len(uids)+len(uids)/10 {
		t.Error(n, "files read: those for which there is no room twice, the others once")
	}
	again := func(what string, m *Mailbox, uids []uint32, want int64) {
		t.Helper()
		files.Store(0)
		visit(m, uids)
		if n := files.Load(); n != want {
			t.Error(what, n, "files read, want", want)
		}
	}
	again("again, the two that are not kept among others:", m, uids, 4)
	again("one that is not kept:", m, uids[300:301], 1)
	again("one that is kept:", m, uids[7:8], 0)
	for from := 0; from < len(uids); from += batchSize {
		var held batch
		must(t, m.load(t.Context(), &held, 0, uids[from:min(from+batchSize, len(uids))]))
		octets, alone := 0, 0
		for i, facts := range held.facts {
			octets += len(facts)
			if held.alone[i] {
				alone++
			}
		}
		if octets+alone*maxFacts > batchOctets && alone == 0 || octets > batchOctets || cap(held.octets) > 2*batchOctets {
			t.Errorf("%d octets in one batch, room for %d, %d of its messages alone", octets, cap(held.octets), alone)
		}
	}
	must(t, os.Remove(filepath.Join(b.dir, indexName)))
	again("without the index:", open(), uids, 4)
}

// A date is that of the file; the first that is asked for has all looked for, and none is looked for again.
func TestDate(t *testing.T) {
	b := newBox(t)
	old := time.Date(2002, 3, 4, 5, 6, 7, 0, time.UTC)
	var bases []string
	for i := range 4 {
		bases = append(bases, b.deliver("x\n"))
		must(t, os.Chtimes(b.find(bases[i]), old, old.Add(time.Duration(i)*time.Second)))
	}
	m := b.open()
	b.foreign(bases[1], "S")
	b.foreign(bases[3], "S")
	must(t, os.Remove(b.find(bases[3])))
	for i := range 3 {
		if d, err := m.Date(uint32(i + 1)); err != nil || !d.Equal(old.Add(time.Duration(i)*time.Second)) {
			t.Error(i, d, err)
		}
	}
	if _, err := m.Date(4); !errors.Is(err, ErrExpunged) {
		t.Error(err)
	}
	now := time.Now()
	must(t, os.Chtimes(b.find(bases[2]), now, now))
	if is, _ := b.open().Message(3); is.Date != old.Unix()+2 {
		t.Error(is)
	}
}

// Whatever step of writing fails, or is the last of a process, what is said is right, here and in the next process; and once nothing fails all is in the cache.
func TestFactsAnyStepFails(t *testing.T) {
	for _, torn := range []bool{false, true} { // all that follows too
		for n := 1; ; n++ {
			b := newBox(t)
			want := b.texts(3)
			m, _ := b.openFacts(1)
			factsOf(t, m, m.UIDs())
			// So many were of messages that are gone: the next one has the file written anew.
			f, err := os.OpenFile(filepath.Join(b.dir, cacheName), os.O_RDWR, 0)
			must(t, err)
			f.WriteAt([]byte{0, 0, 1}, cacheCount)
			f.Close()
			maps.Copy(want, b.texts(1))
			must(t, m.Sync())
			steps, failed := 0, false
			m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
				if !strings.Contains(name, "postamt.") {
					return nil
				}
				if steps++; steps == n || torn && failed {
					failed = true
					return fmt.Errorf("step %d: %s %s", n, op, name)
				}
				return nil
			}}
			for range 2 {
				if _, said := factsOf(t, m, m.UIDs()); !maps.Equal(said, want) {
					t.Fatalf("step %d: %v", n, said)
				}
			}
			if !torn {
				m.ops = nil
			}
			for range 2 {
				other, r := b.openFacts(1)
				if _, said := factsOf(t, other, other.UIDs()); !maps.Equal(said, want) {
					t.Fatalf("step %d, another process: %v", n, said)
				}
				r.files.Store(0)
				if factsOf(t, other, other.UIDs()); r.files.Load() != 0 {
					t.Errorf("step %d: read again", n)
				}
				if other.cache.count() > 10 {
					must(t, os.WriteFile(filepath.Join(b.dir, "new", "1764100000.M1P1.host"), []byte("last\n"), 0o600))
					must(t, other.Sync())
					uids := other.UIDs()
					if _, said := factsOf(t, other, uids); said[uids[len(uids)-1]] != "of last\n" || other.cache.count() > 10 {
						t.Errorf("step %d: %d records", n, other.cache.count())
					}
					want[uids[len(uids)-1]] = "of last\n"
				}
			}
			m.ops = nil
			if steps < n {
				if n < 5 {
					t.Errorf("only %d steps: this shows nothing", steps)
				}
				break
			}
		}
	}
}
