package mailbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lines of the list, without its first.
func (b *box) lines() []string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, listName))
	must(b.t, err)
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")[1:]
}

// quiet waits until what changed a moment ago can be told from what changes next.
func (b *box) quiet(m *Mailbox) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		now, err := m.look()
		must(b.t, err)
		if now.quiet(m.local) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("never quiet")
		}
	}
}

// A mailbox that is emptied again and again keeps a list of a bounded length; who stays keeps his UID and the keys of his line, and no UID is used twice.
func TestListIsTidied(t *testing.T) {
	b := newBox(t)
	stays := b.deliver("stays\n")
	m := b.open()
	text, err := os.ReadFile(filepath.Join(b.dir, listName))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(b.dir, listName), []byte(strings.Replace(string(text), "1 :", "1 Pold Xours :", 1)), 0o600))
	var validity uint32
	most := 0
	for round := range uint32(12) {
		for range 30 {
			b.deliver("goes\n")
		}
		b.quiet(m)
		m = b.open()
		v, next, _, n := m.Status()
		if validity == 0 {
			validity = v
		}
		if v != validity || n != 31 || next != 2+30*(round+1) {
			t.Fatalf("round %d: %d %d, %d messages", round, v, next, n)
		}
		if uid := view(t, m)[stays].UID; uid != 1 {
			t.Fatalf("UID 1 is %d", uid)
		}
		if failed, err := m.Expunge(v, m.UIDs()[1:]); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
		most = max(most, len(b.lines()))
	}
	if most > 31+31/3+spareLines+30 {
		t.Errorf("the list had %d lines", most)
	}
	if l := b.lines()[0]; !strings.HasPrefix(l, "1 Pold Xours :"+stays) {
		t.Errorf("%q", l)
	}
}

// Two sessions tidy while files come and go, and are renamed: nobody's UID changes.
func TestTidiedTogether(t *testing.T) {
	b := newBox(t)
	boxes := []*Mailbox{b.open(), b.open()}
	for _, m := range boxes {
		m.spare = 0
	}
	uids, used := map[string]uint32{}, map[uint32]string{}
	var here []string
	shrunk, before := 0, 0
	for step := range 120 {
		for range 1 + step%3 {
			here = append(here, b.deliver("x\n"))
		}
		if step%4 == 0 {
			b.foreign(here[len(here)/2], "S")
		}
		m := boxes[step%2]
		if step%5 == 0 {
			b.quiet(m)
		}
		must(t, m.Sync())
		if step%7 == 0 { // and the other adds one of its own
			o := boxes[1-step%2]
			uid, err := o.Append(t.Context(), strings.NewReader("a\r\n"), 0, nil, time.Time{})
			must(t, err)
			f, err := o.File(uid)
			must(t, err)
			base := baseOf(filepath.Base(f.Name()))
			f.Close()
			here, uids[base], used[uid] = append(here, base), uid, base
		}
		for _, m := range boxes {
			must(t, m.Sync())
			got := view(t, m)
			if len(got) != len(here) {
				t.Fatalf("step %d: %d messages, want %d", step, len(got), len(here))
			}
			for base, g := range got {
				if uids[base] == 0 && used[g.UID] == "" {
					uids[base], used[g.UID] = g.UID, base
				}
				if uids[base] != g.UID {
					t.Fatalf("step %d: %s had UID %d, has %d, which was of %q", step, base, uids[base], g.UID, used[g.UID])
				}
			}
		}
		n := len(b.lines())
		if n < before {
			shrunk++
		}
		before = n
		for len(here) > 10 {
			v, _, _, _ := m.Status()
			if failed, err := m.Expunge(v, []uint32{uids[here[0]]}); len(failed) > 0 || err != nil {
				t.Fatal(failed, err)
			}
			here = here[1:]
		}
	}
	if shrunk < 3 {
		t.Errorf("the list was tidied %d times", shrunk)
	}
}
