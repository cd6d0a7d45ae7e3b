package mailbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postamt/internal/durable"
)

// box is a maildir of a test.
type box struct {
	t   testing.TB
	dir string
	n   int
	odd []string // files that are not as they should be
}

func newBox(t testing.TB) *box {
	b := &box{t: t, dir: t.TempDir()}
	if err := os.Chmod(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *box) open() *Mailbox {
	b.t.Helper()
	root, err := durable.OpenDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	defer root.Close()
	m, err := Open(root, "", Options{Report: func(err error) { b.t.Log(err) }})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.check(m)
		m.Close()
	})
	return m
}

// check ends every test: what m knows is what is there.
func (b *box) check(m *Mailbox) {
	b.t.Helper()
	if _, bench := b.t.(*testing.B); bench || b.t.Failed() {
		return
	}
	problems, err := m.Check()
	if err != nil {
		b.t.Error(err)
	}
	for _, p := range problems {
		if !slices.Contains(b.odd, filepath.Base(p.Path)) {
			b.t.Error(p)
		}
	}
}

// deliver puts a message into new/ and returns its base name.
func (b *box) deliver(text string) string {
	b.t.Helper()
	b.n++
	base := fmt.Sprintf("17640%05d.M%dP1.host", b.n, b.n)
	must(b.t, os.WriteFile(filepath.Join(b.dir, "tmp", base), []byte(text), 0o600))
	must(b.t, os.Rename(filepath.Join(b.dir, "tmp", base), filepath.Join(b.dir, "new", base)))
	return base
}

// find is the path of the file with a base; "" if there is none.
func (b *box) find(base string) string {
	for _, d := range []string{"new", "cur"} {
		if m, _ := filepath.Glob(filepath.Join(b.dir, d, base+"*")); len(m) > 0 {
			return m[0]
		}
	}
	return ""
}

// foreign gives a file other flags, as mutt does.
func (b *box) foreign(base, letters string) {
	b.t.Helper()
	if err := os.Rename(b.find(base), filepath.Join(b.dir, "cur", base+":2,"+letters)); err != nil {
		b.t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// view is what a mailbox says, by base name.
func view(t testing.TB, m *Mailbox) map[string]Message {
	t.Helper()
	got := map[string]Message{}
	for _, uid := range m.UIDs() {
		msg, ok := m.Message(uid)
		f, err := m.File(uid)
		if !ok || err != nil {
			t.Fatal(uid, ok, err)
		}
		got[baseOf(filepath.Base(f.Name()))] = msg
		f.Close()
	}
	return got
}

func TestUIDs(t *testing.T) {
	b := newBox(t)
	var bases []string
	for i := range 5 {
		bases = append(bases, b.deliver(fmt.Sprint("message ", i, "\n")))
	}
	b.foreign(bases[1], "FS")
	b.odd = []string{":2,S", "17.a\nb"}
	for _, odd := range append(b.odd, ".hidden") {
		os.WriteFile(filepath.Join(b.dir, "cur", odd), nil, 0o600)
	}
	m := b.open()
	validity, next, highest, n := m.Status()
	if n != 5 || next != 6 || validity == 0 || highest == 0 {
		t.Error(m.Status())
	}
	for i, base := range bases {
		got := view(t, m)[base]
		if got.UID != uint32(i+1) {
			t.Errorf("%s has UID %d", base, got.UID)
		}
	}
	if got := view(t, m)[bases[1]]; got.Flags != Flagged|Seen {
		t.Errorf("%+v", got)
	}
	if n, err := m.Size(1); n != 11 || err != nil { // "message 0\r\n"
		t.Error(n, err)
	}
	// Another process, with the index, without it, and with one that is damaged.
	for _, spoil := range []func(string){func(string) {}, func(p string) { os.Remove(p) }, func(p string) { os.Truncate(p, 200) }, func(p string) { os.WriteFile(p, []byte("x"), 0o600) }} {
		spoil(filepath.Join(b.dir, indexName))
		o := b.open()
		if v, n, _, k := o.Status(); v != validity || n != next || k != 5 {
			t.Error(o.Status())
		}
		for i, base := range bases {
			if got := view(t, o)[base]; got.UID != uint32(i+1) {
				t.Errorf("%s has UID %d", base, got.UID)
			}
		}
	}
	// The list is gone: other UIDs, of another validity.
	must(t, os.Remove(filepath.Join(b.dir, listName)))
	must(t, m.Sync())
	if v, _, _, n := m.Status(); v <= validity || n != 5 {
		t.Error(m.Status())
	}
}

// Who delivers a message again that was removed a moment ago finds its tombstone, be it one of few or one of many.
func TestTombstones(t *testing.T) {
	for _, many := range []int{1, manyBuried} {
		b := newBox(t)
		var uids []uint32
		for i := range many {
			must(t, os.WriteFile(filepath.Join(b.dir, "new", fmt.Sprintf("1764000000.Qid%dX1.host", i)), []byte("x\n"), 0o600))
			uids = append(uids, uint32(i+1))
		}
		m := b.open()
		validity, _, _, _ := m.Status()
		if failed, err := m.Expunge(validity, uids); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
		one, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "1764000000.Qid0X1.host.gone"))
		all, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "*.gones"))
		if many == 1 && (len(one) != 1 || len(all) != 0) || many > 1 && (len(one) != 0 || len(all) != 1) {
			t.Errorf("%d removed: %d and %d tombstones", many, len(one), len(all))
		}
		if many > 1 {
			if text, _ := os.ReadFile(all[0]); strings.Count(string(text), "\n") != many || !strings.Contains(string(text), "1764000000.Qid0X1.host\n") {
				t.Errorf("%q", text)
			}
		}
	}
}

// Two processes, a mail program that renames, a delivery agent, and accidents: both always see what is there, under UIDs that never change and
// never come back.
func TestTogether(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBox(t)
		must(t, os.WriteFile(filepath.Join(b.dir, "dovecot-keywords"), []byte("0 a\n1 b\n"), 0o600))
		boxes := []*Mailbox{b.open(), b.open()}
		model := map[string]string{} // base to letters
		uids := map[string]uint32{}
		used := map[uint32]string{}
		pick := func() string {
			var l []string
			for base := range model {
				l = append(l, base)
			}
			slices.Sort(l)
			return l[r.IntN(len(l))]
		}
		highest := uint64(0)
		for step := range 400 {
			switch k := r.IntN(20); {
			case k < 6 || len(model) == 0:
				model[b.deliver("x\n")] = ""
			case k < 11:
				base := pick()
				letters := []string{"", "S", "FS", "RS", "T", "DPab"}[r.IntN(6)]
				b.foreign(base, letters)
				model[base] = letters
			case k < 13:
				base := pick()
				must(t, os.Remove(b.find(base)))
				delete(model, base)
			case k < 16:
				base := pick()
				if uid := uids[base]; uid != 0 {
					box := boxes[r.IntN(2)]
					validity, _, _, _ := box.Status()
					failed, err := box.Expunge(validity, []uint32{uid})
					if len(failed) > 0 || err != nil {
						t.Fatal(failed, err)
					}
					delete(model, base)
				}
			case k < 17:
				os.Remove(filepath.Join(b.dir, indexName))
			case k < 18:
				if st, err := os.Stat(filepath.Join(b.dir, indexName)); err == nil && st.Size() > 0 {
					os.Truncate(filepath.Join(b.dir, indexName), r.Int64N(st.Size()))
				}
			default:
				boxes[r.IntN(2)] = b.open()
			}
			if r.IntN(3) == 0 {
				continue
			}
			for _, m := range boxes {
				must(t, m.Sync())
				got := view(t, m)
				if len(got) != len(model) {
					t.Fatalf("seed %d, step %d: %d messages, want %d", seed, step, len(got), len(model))
				}
				for base, letters := range model {
					g, ok := got[base]
					_, f, kw := parseName("x:2," + letters)
					if !ok || g.Flags != f || g.Keywords != kw {
						t.Fatalf("seed %d, step %d: %s is %+v, want %s", seed, step, base, g, letters)
					}
					if uids[base] == 0 {
						uids[base] = g.UID
						if was := used[g.UID]; was != "" {
							t.Fatalf("UID %d was %s, is %s", g.UID, was, base)
						}
						used[g.UID] = base
					}
					if uids[base] != g.UID {
						text, _ := os.ReadFile(filepath.Join(b.dir, listName))
						t.Fatalf("seed %d, step %d: %s had UID %d, has %d\n%s", seed, step, base, uids[base], g.UID, text)
					}
				}
			}
			_, _, h, _ := boxes[0].Status()
			if h < highest {
				t.Fatalf("the highest mod-sequence was %d, is %d", highest, h)
			}
			highest = h
		}
		if names, _ := filepath.Glob(filepath.Join(b.dir, tempName+"*")); len(names) > 0 {
			t.Error(names)
		}
		if text, _ := os.ReadFile(filepath.Join(b.dir, listName)); strings.Count(string(text), "\n") < len(model) {
			t.Errorf("%s", text)
		}
	}
}

// The folder's id is in the list of UIDs, where Dovecot has it; one that is missing is made once.
func TestID(t *testing.T) {
	b := newBox(t)
	b.deliver("x\n")
	m := b.open()
	id, err := m.ID(t.Context())
	list, _ := os.ReadFile(filepath.Join(b.dir, listName))
	if len(id) != 32 || err != nil || !strings.Contains(string(list), " G"+id) {
		t.Error(id, err)
	}
	must(t, os.Remove(filepath.Join(b.dir, indexName)))
	if again, err := b.open().ID(t.Context()); again != id || err != nil {
		t.Error(again, err)
	}
	for _, header := range []string{"1 1764000000 8", "3 V1764000000 N8", "3 V1764000000 N8 Gwrong P%v"} {
		b := newBox(t)
		base := b.deliver("x\n")
		line := "7 :" + base
		if header[0] == '1' {
			line = "7 " + base
		}
		must(t, os.WriteFile(filepath.Join(b.dir, listName), []byte(header+"\n"+line+"\n"), 0o600))
		m, other := b.open(), b.open()
		id, err := m.ID(t.Context())
		again, aerr := other.ID(t.Context())
		if len(id) != 32 || id != again || err != nil || aerr != nil {
			t.Errorf("%s: %s %s %v %v", header, id, again, err, aerr)
		}
		for _, m := range []*Mailbox{m, other} {
			must(t, m.Sync())
			if v, _, _, _ := m.Status(); v != 1764000000 || !slices.Equal(m.UIDs(), []uint32{7}) {
				t.Errorf("%s: %d %d", header, v, m.UIDs())
			}
		}
		list, _ := os.ReadFile(filepath.Join(b.dir, listName))
		if strings.Contains(header, "P%v") && !strings.Contains(string(list), " P%v") {
			t.Errorf("%s", list)
		}
	}
}
