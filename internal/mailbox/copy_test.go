package mailbox

import (
	"errors"
	"fmt"
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
	"postamt/internal/maildir"
	"postamt/internal/uidlist"
)

// folder opens a folder of the maildir, and makes it.
func (b *box) folder(name string) *Mailbox {
	b.t.Helper()
	root, err := durable.OpenDir(b.dir)
	must(b.t, err)
	defer root.Close()
	os.Mkdir(filepath.Join(b.dir, name), 0o700)
	m, err := Open(root, name, Options{Report: func(err error) { b.t.Log(err) }})
	must(b.t, err)
	b.t.Cleanup(func() {
		b.check(m)
		m.Close()
	})
	return m
}

func inode(t testing.TB, m *Mailbox, uid uint32) (ino uint64, base string, date time.Time) {
	t.Helper()
	f, err := m.File(uid)
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.fd), &st))
	return st.Ino, baseOf(filepath.Base(f.Name())), time.Unix(st.Mtim.Unix())
}

func withoutLinks(m *Mailbox) func() {
	m.ops = &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpLink {
			return unix.EPERM
		}
		return nil
	}}
	return func() { m.ops = nil }
}

func TestCopy(t *testing.T) {
	for _, links := range []bool{true, false} {
		b := newBox(t)
		m := b.open()
		to := b.folder(".To")
		if _, err := to.Append(t.Context(), strings.NewReader("x\n"), Seen, []string{"other", "two"}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		date := time.Date(2002, 3, 4, 5, 6, 7, 0, time.UTC)
		for i, k := range [][]string{{"one"}, {"two"}, nil} {
			if _, err := m.Append(t.Context(), strings.NewReader(fmt.Sprint("message ", i, "\n")), Flags(i)<<4, k, date); err != nil {
				t.Fatal(err)
			}
		}
		if !links {
			defer withoutLinks(to)()
		}
		// Letters without a name mean nothing there.
		got, err := m.Copy(t.Context(), 0, []uint32{3, 1, 77, 2}, to)
		if want := []Copied{{3, 2}, {1, 3}, {2, 4}}; err != nil || !slices.Equal(got, want) {
			t.Fatal(got, err)
		}
		k, err := to.Keywords()
		if err != nil || k != [26]string{"other", "two", "one"} {
			t.Error(k, err)
		}
		for _, c := range got {
			old, _ := m.Message(c.From)
			new, _ := to.Message(c.To)
			if want := []uint32{0, 4, 2, 0}[c.From]; new.Flags != old.Flags || new.Keywords != want {
				t.Errorf("%+v: %+v, %+v", c, old, new)
			}
			was, oldBase, _ := inode(t, m, c.From)
			is, base, d := inode(t, to, c.To)
			if (was == is) != links || base == oldBase || !d.Equal(date) {
				t.Errorf("%+v: links %v: inodes %d %d, %s, %s, %s", c, links, was, is, oldBase, base, d)
			}
			if !strings.HasSuffix(base, ",S=10,W=11") || text(t, to, c.To) != text(t, m, c.From) {
				t.Error(base, text(t, to, c.To))
			}
		}
		// Into itself.
		got, err = m.Copy(t.Context(), 0, []uint32{1}, m)
		if err != nil || !slices.Equal(got, []Copied{{1, 4}}) {
			t.Error(got, err)
		}
		to.ops = nil
	}
}

func TestMove(t *testing.T) {
	b := newBox(t)
	delivery := "1764000000.Q0h2mc9x4rvk3t7w1qz8eX6b1f0c3a9d42.mx.example.org,S=2,W=3"
	must(t, os.WriteFile(filepath.Join(b.dir, "new", delivery), []byte("x\n"), 0o600))
	m, to := b.open(), b.folder(".To")
	seconds, rest, _ := strings.Cut(delivery, ".")
	began := time.Now().Truncate(time.Second)
	// dated is the name that the message has now: of the delivery with another second in front, which is that of the move.
	dated := func(m *Mailbox, uid uint32) (base string) {
		t.Helper()
		_, base, _ = inode(t, m, uid)
		first, tail, _ := strings.Cut(base, ".")
		saved, ok, err := m.SaveDate(uid)
		if tail != rest || first <= seconds || err != nil || !ok || saved.Before(began) || saved.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s, saved at %v (%v, %v)", base, saved, ok, err)
		}
		seconds = first
		return base
	}
	if saved, ok, err := m.SaveDate(1); err != nil || !ok || saved.Unix() != 1764000000 {
		t.Error(saved, ok, err)
	}
	move := func(from, to *Mailbox, uid, want uint32) {
		t.Helper()
		if got, err := from.Move(t.Context(), 0, []uint32{uid, 99}, to); err != nil || !slices.Equal(got, []Copied{{uid, want}}) {
			t.Fatal(got, err)
		}
		if len(from.UIDs()) != 0 || len(to.UIDs()) != 1 {
			t.Error(from.UIDs(), to.UIDs())
		}
	}
	move(m, to, 1, 1)
	if _, err := os.Stat(filepath.Join(b.dir, ".To", "new", dated(to, 1))); err != nil {
		t.Error(err)
	}
	if _, err := to.SetFlags(0, []uint32{1}, Add, Seen, []string{"k"}); err != nil {
		t.Error(err)
	}
	// Back, and again: neither its old UID comes again nor a name that it has had, however soon it is.
	move(to, m, 1, 2)
	dated(m, 2)
	if got, _ := m.Message(2); got.Flags != Seen || got.Keywords != 1 {
		t.Errorf("%+v", got)
	}
	move(m, to, 2, 2)
	dated(to, 2)
	move(to, m, 2, 3)
	dated(m, 3)
	if left, err := filepath.Glob(filepath.Join(b.dir, "tmp", "*.gone*")); err != nil || len(left) > 0 {
		t.Error("a tombstone for what can be found: ", left, err)
	}
	// To itself: as a copy, and an expunge.
	if got, err := m.Move(t.Context(), 0, []uint32{3}, m); err != nil || !slices.Equal(got, []Copied{{3, 4}}) || !slices.Equal(m.UIDs(), []uint32{4}) {
		t.Error(got, err)
	}
}

// What others have delivered or a client has stored gets a name of ours, with the time of the move, and its sizes.
func TestMoveForeignNames(t *testing.T) {
	b := newBox(t)
	names := []string{"1764000000.M1P2.mx.example.org,S=2,W=3:2,Sa", "odd:2,T", "1764000001.Q1R2.mx.example.org:2,"}
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(b.dir, "cur", name), []byte("x\n"), 0o600))
	}
	m, to := b.open(), b.folder(".To")
	dated := 0
	for _, uid := range m.UIDs() {
		if _, ok, err := m.SaveDate(uid); err != nil {
			t.Error(err)
		} else if ok {
			dated++
		}
	}
	if dated != 2 {
		t.Errorf("%d have a date", dated)
	}
	began := time.Now().Truncate(time.Second)
	moved, err := m.Move(t.Context(), 0, m.UIDs(), to)
	if err != nil || len(moved) != len(names) {
		t.Fatal(moved, err)
	}
	for _, c := range moved {
		_, base, _ := inode(t, to, c.To)
		saved, ok, err := to.SaveDate(c.To)
		if _, rest, _ := strings.Cut(base, "."); !strings.HasPrefix(rest, "R") || !ok || err != nil || saved.Before(began) || saved.After(time.Now()) {
			t.Errorf("%s: %v %v %v", base, saved, ok, err)
		}
	}
	if all, err := filepath.Glob(filepath.Join(b.dir, ".To", "cur", "*,S=2,W=3:2,S*")); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
}

// Whatever step of a move fails, the message is in one of the two, and both go on.
func TestMoveFailsAtEachStep(t *testing.T) {
	steps := 0
	for n := 1; ; n++ {
		b := newBox(t)
		b.foreign(b.deliver("x\n"), "S")
		b.foreign(b.deliver("y\n"), "F")
		m, to := b.open(), b.folder(".To")
		count := 0
		ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
			if strings.Contains(name, indexName) || op == durable.OpUnlink {
				return nil
			}
			if count++; count == n {
				return fmt.Errorf("step %d: %s", n, op)
			}
			return nil
		}}
		m.ops, to.ops = ops, ops
		_, err := m.Move(t.Context(), 0, []uint32{1, 2}, to)
		m.ops, to.ops = nil, nil
		must(t, m.Sync())
		must(t, to.Sync())
		if len(m.UIDs())+len(to.UIDs()) != 2 {
			t.Errorf("step %d, %v: %v, %v", n, err, m.UIDs(), to.UIDs())
		}
		if count < n {
			if err != nil || len(to.UIDs()) != 2 {
				t.Error(err, to.UIDs())
			}
			break
		}
		steps = n
	}
	if steps < 4 {
		t.Errorf("only %d steps were tried", steps)
	}
}

// Whatever step of a copy fails, none is there or all are, and nothing is left in tmp/; both go on. A link that fails is a copy of the file.
func TestCopyFailsAtEachStep(t *testing.T) {
	for _, links := range []bool{true, false} {
		steps := 0
		for n := 1; ; n++ {
			b := newBox(t)
			b.foreign(b.deliver("x\n"), "S")
			b.foreign(b.deliver("y\n"), "F")
			b.deliver("z\n")
			m, to := b.open(), b.folder(".To")
			count, failed := 0, durable.Op("")
			ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
				switch {
				case strings.Contains(name, indexName) || op == durable.OpUnlink:
					return nil
				case op == durable.OpLink && !links:
					return unix.EMLINK
				}
				if count++; count == n {
					failed = op
					return fmt.Errorf("step %d: %s", n, op)
				}
				return nil
			}}
			m.ops, to.ops, to.list = ops, ops, uidlist.New(to.root, to.dir, ops)
			copied, err := m.Copy(t.Context(), 0, []uint32{1, 2, 3}, to)
			m.ops, to.ops, to.list, to.ahead = nil, nil, uidlist.New(to.root, to.dir, nil), nil
			want := 3
			if err != nil {
				want = 0
				if failed == "" || failed == durable.OpLink {
					t.Errorf("step %d: %v", n, err)
				}
			}
			for _, see := range []*Mailbox{to, b.folder(".To")} {
				must(t, see.Sync())
				if len(see.UIDs()) != want || len(copied) != want {
					t.Errorf("step %d, %v: %v, there are %v", n, err, copied, see.UIDs())
				}
			}
			must(t, m.Sync())
			if len(m.UIDs()) != 3 {
				t.Errorf("step %d: of the originals are left %v", n, m.UIDs())
			}
			if files, _ := filepath.Glob(filepath.Join(b.dir, ".To", "tmp", "*.R*")); len(files) > 0 {
				t.Errorf("step %d, %v: %v", n, err, files)
			}
			if again, err := m.Copy(t.Context(), 0, []uint32{1}, to); len(again) != 1 || err != nil {
				t.Errorf("step %d, then: %v, %v", n, again, err)
			}
			if failed == "" {
				break
			}
			steps = n
		}
		if steps < 5 {
			t.Errorf("only %d steps were tried", steps)
		}
	}
}

// Two copy against each other, and each other's messages are renamed and expunged meanwhile: each copy is whole, and nobody waits for ever.
func TestCopyBothWays(t *testing.T) {
	b := newBox(t)
	const n = 12
	for i := range n {
		b.deliver(fmt.Sprintf("%d\n", i))
	}
	b.open()
	b.folder(".To")
	var wg sync.WaitGroup
	var came atomic.Int64
	for seed := range uint64(4) {
		from, to := b.open(), b.folder(".To")
		if seed%2 == 1 {
			from, to = to, from
		}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 11))
			for range 30 {
				uids := someOf(t, from, r)
				var err error
				if seed < 2 {
					var copied []Copied
					copied, err = from.Copy(t.Context(), 0, uids, to)
					came.Add(int64(len(copied)))
				} else if _, err = from.SetFlags(0, uids, Op(r.IntN(2)), Seen, []string{"k"}); err == nil && len(uids) > 0 {
					_, err = from.Expunge(0, uids[:1]) // nobody else does in that folder
					came.Add(-1)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	is := 0
	for _, m := range []*Mailbox{b.open(), b.folder(".To")} {
		for _, uid := range m.UIDs() {
			is++
			if body := text(t, m, uid); !strings.HasSuffix(body, "\n") || len(body) < 2 {
				t.Errorf("message %d is %q", uid, body)
			}
		}
	}
	if want := n + int(came.Load()); is != want {
		t.Errorf("%d messages, want %d", is, want)
	}
}

// someOf are up to three of the messages.
func someOf(t *testing.T, m *Mailbox, r *rand.Rand) []uint32 {
	must(t, m.Sync())
	uids := m.UIDs()
	r.Shuffle(len(uids), func(i, j int) { uids[i], uids[j] = uids[j], uids[i] })
	return uids[:min(len(uids), 3)]
}

// Two move against each other, and one between their processes changes flags: nothing is lost, nothing doubled, nobody waits for ever.
func TestMoveBothWays(t *testing.T) {
	b := newBox(t)
	const n = 12
	for range n {
		b.deliver("x\n")
	}
	b.open()
	b.folder(".To")
	var wg sync.WaitGroup
	for seed := range uint64(3) {
		from, to := b.open(), b.folder(".To")
		if seed == 1 {
			from, to = to, from
		}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 7))
			for range 40 {
				uids := someOf(t, from, r)
				var err error
				if seed < 2 {
					_, err = from.Move(t.Context(), 0, uids, to)
				} else {
					_, err = from.SetFlags(0, uids, Op(r.IntN(2)), Seen, []string{"k"})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := len(b.open().UIDs()) + len(b.folder(".To").UIDs()); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
}

// What goes to Trash does not count any more.
func TestMoveCounts(t *testing.T) {
	b := newBox(t)
	must(t, os.WriteFile(filepath.Join(b.dir, "maildirsize"), []byte("3S\n2 1\n"), 0o600))
	b.deliver("x\n")
	m, trash := b.open(), b.folder(".Trash")
	if _, err := m.Move(t.Context(), 0, []uint32{1}, trash); err != nil {
		t.Fatal(err)
	}
	if err := m.Room(3, 1); err != nil {
		t.Error(err)
	}
	if _, err := m.Append(t.Context(), strings.NewReader("y\n"), 0, nil, time.Time{}); err != nil {
		t.Error(err)
	}
	if _, err := trash.Move(t.Context(), 0, []uint32{1}, m); err == nil || !strings.Contains(err.Error(), maildir.ErrQuota.Error()) {
		t.Error(err)
	}
}

// UIDs of another UIDVALIDITY mean other messages: nothing is done to those.
func TestAnotherValidity(t *testing.T) {
	b := newBox(t)
	base := b.deliver("x\n")
	m, to := b.open(), b.folder(".To")
	old, _, _, _ := m.Status()
	must(t, m.Sync())
	must(t, os.Remove(filepath.Join(b.dir, listName)))
	must(t, m.Sync())
	uids := []uint32{1}
	if _, err := m.SetFlags(old, uids, Add, Seen, []string{"new"}); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	if _, err := m.Copy(t.Context(), old, uids, to); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	if _, err := m.Move(t.Context(), old, uids, to); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	if _, err := m.Move(t.Context(), old, uids, m); !errors.Is(err, ErrValidity) {
		t.Error(err)
	}
	if failed, err := m.Expunge(old, uids); !errors.Is(err, ErrValidity) || !slices.Equal(failed, uids) {
		t.Error(failed, err)
	}
	if k, err := m.Keywords(); err != nil || k[0] != "" {
		t.Error(k, err)
	}
	if b.name(base) != "new/"+base || len(to.UIDs()) != 0 {
		t.Error(b.name(base), to.UIDs())
	}
	now, _, _, _ := m.Status()
	if got, err := m.Move(t.Context(), now, uids, to); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
}

// RFC 6851 section 3.3: a message that could not be moved is where it was, and nowhere else.
func TestMoveByCopyLeavesOne(t *testing.T) {
	b := newBox(t)
	for range 2 {
		b.foreign(b.deliver("x\n"), "")
	}
	m := b.open()
	m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpUnlink && strings.Contains(name, "/cur/") && strings.Contains(name, ".M1P1.") {
			return unix.EPERM
		}
		return nil
	}}
	got, err := m.Move(t.Context(), 0, []uint32{1, 2}, m)
	m.ops = nil
	if !errors.Is(err, unix.EPERM) || !slices.Equal(got, []Copied{{2, 4}}) || !slices.Equal(m.UIDs(), []uint32{1, 4}) {
		t.Error(got, err, m.UIDs())
	}
}
