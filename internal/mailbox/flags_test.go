package mailbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"postamt/internal/durable"
	"postamt/internal/uidlist"
)

// name is the file of a message, below the maildir.
func (b *box) name(base string) string {
	b.t.Helper()
	rel, err := filepath.Rel(b.dir, b.find(base))
	if err != nil {
		b.t.Fatal(err)
	}
	return rel
}

func TestSetFlags(t *testing.T) {
	for _, c := range []struct {
		have     string // letters; "new": in new/
		op       Op
		f        Flags
		keywords []string
		want     string
		changed  bool
	}{
		{"new", Add, Seen, nil, "cur/S", true},
		{"new", Remove, Seen, nil, "new", false},
		{"S", Add, Seen, nil, "cur/S", false},
		{"S", Add, Flagged | Trashed, nil, "cur/FST", true},
		{"FS", Remove, Seen | Draft, nil, "cur/F", true},
		{"FPRSTX9", Replace, Draft, nil, "cur/9DPX", true},
		{"Sa", Add, 0, []string{"two", "ONE"}, "cur/Sab", true},
		{"Sab", Remove, 0, []string{"one", "unheard-of"}, "cur/Sb", true},
		{"Sabz", Replace, Seen, []string{"two"}, "cur/Sbz", true}, // z has no name
		{"S,x", Add, Flagged, nil, "cur/FS,x", true},
	} {
		b := newBox(t)
		base := b.deliver("x\n")
		must(t, os.WriteFile(filepath.Join(b.dir, "dovecot-keywords"), []byte("0 one\n"), 0o600))
		if c.have != "new" {
			b.foreign(base, c.have)
		}
		m := b.open()
		if c.have == "Sab" || c.have == "Sabz" { // letters without a name
			b.odd = []string{base + ":2,Sb", base + ":2,Sbz"}
		}
		_, _, before, _ := m.Status()
		got, err := m.SetFlags(0, []uint32{1, 7}, c.op, c.f, c.keywords)
		if err != nil || (len(got) == 1) != c.changed {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
		dir, letters, _ := strings.Cut(c.want, "/")
		name := filepath.Join(dir, base)
		if dir == "cur" {
			name += ":2," + letters
		}
		if is := b.name(base); is != name {
			t.Errorf("%+v: %s, want %s", c, is, name)
		}
		if c.changed {
			_, f, k := parseName(name)
			now, _ := m.Message(1)
			now.Before = before // which is only told of what was changed
			if got[0] != now || now.Flags != f || now.Keywords != k || now.ModSeq <= before {
				t.Errorf("%+v: %+v, %+v", c, got, now)
			}
		}
		if other := b.open(); fmt.Sprint(view(t, other)) != fmt.Sprint(view(t, m)) {
			t.Errorf("%+v: another process sees %v", c, view(t, other))
		}
	}
}

func TestSetFlagsSyncsEachDirectoryOnce(t *testing.T) {
	b := newBox(t)
	var uids []uint32
	for i := range 10 {
		base := b.deliver("x\n")
		if i%2 == 0 {
			b.foreign(base, "")
		}
		uids = append(uids, uint32(i+1))
	}
	m := b.open()
	var syncs []string
	m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpSyncDir {
			syncs = append(syncs, filepath.Base(name))
		}
		return nil
	}}
	if _, err := m.SetFlags(0, uids, Add, Seen, nil); err != nil {
		t.Fatal(err)
	}
	slices.Sort(syncs)
	if !slices.Equal(syncs, []string{"cur", "new"}) {
		t.Error(syncs)
	}
	m.ops = &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpSyncDir {
			return errors.New("no")
		}
		return nil
	}}
	if _, err := m.SetFlags(0, uids, Add, Flagged, nil); err == nil {
		t.Error("a directory was not synced, and nobody hears of it")
	}
	m.ops = nil
}

func TestKeywordsFull(t *testing.T) {
	b := newBox(t)
	b.deliver("x\n")
	m := b.open()
	for i := range uidlist.MaxKeywords {
		if _, err := m.SetFlags(0, []uint32{1}, Add, 0, []string{fmt.Sprint("k", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.SetFlags(0, []uint32{1}, Add, Flagged, []string{"more"}); !errors.Is(err, uidlist.ErrKeywordsFull) {
		t.Error(err)
	}
	if got, _ := m.Message(1); got.Keywords != 1<<26-1 || got.Flags != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := m.SetFlags(0, []uint32{1}, Add, 0, []string{"two words"}); !errors.Is(err, uidlist.ErrKeyword) {
		t.Error(err)
	}
}

// A file that has the new name already stays, unless it is the same.
func TestSetFlagsReplacesNothing(t *testing.T) {
	b := newBox(t)
	base := b.deliver("x\n")
	b.foreign(base, "")
	m := b.open()
	to := filepath.Join(b.dir, "cur", base+":2,S")
	must(t, os.Link(b.find(base), to))
	if got, err := m.SetFlags(0, []uint32{1}, Add, Seen, nil); len(got) != 1 || err != nil {
		t.Error(got, err)
	}
	if files, _ := filepath.Glob(filepath.Join(b.dir, "cur", "*")); !slices.Equal(files, []string{to}) {
		t.Error(files)
	}
	other := filepath.Join(b.dir, "cur", base+":2,FS")
	must(t, os.WriteFile(other, []byte("other\n"), 0o600))
	if _, err := m.SetFlags(0, []uint32{1}, Add, Flagged, nil); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	if text, _ := os.ReadFile(other); string(text) != "other\n" {
		t.Errorf("%q", text)
	}
	must(t, os.Remove(other))
}

// M21: two processes of ours and a mail program change flags of the same messages, each one of its own. None is lost.
func TestM21_FlagStorm(t *testing.T) {
	b := newBox(t)
	const messages, rounds = 8, 40
	var bases []string
	var uids []uint32
	for i := range messages {
		bases = append(bases, b.deliver("x\n"))
		b.foreign(bases[i], "")
		uids = append(uids, uint32(i+1))
	}
	var wg sync.WaitGroup
	ours := func(m *Mailbox, f Flags, keywords []string) {
		wg.Go(func() {
			for round := range rounds {
				if _, err := m.SetFlags(0, uids[round%3:], Op((round+1)%2), f, keywords); err != nil {
					t.Error(err)
					return
				}
			}
			if _, err := m.SetFlags(0, uids, Add, f, keywords); err != nil {
				t.Error(err)
			}
		})
	}
	ours(b.open(), Flagged, []string{"a"})
	ours(b.open(), Seen, []string{"b"})
	wg.Go(func() { // as mutt does: it knows a name, and looks again when there is no such file any more
		for round := range 2*rounds + 1 {
			for _, base := range bases {
				for {
					was, _ := filepath.Glob(filepath.Join(b.dir, "cur", base+":*"))
					if len(was) != 1 {
						continue // between two names
					}
					letters := was[0][strings.LastIndexByte(was[0], ',')+1:]
					letters = strings.ReplaceAll(letters, "T", "")
					if round%2 == 0 {
						letters = "T" + letters
					}
					if os.Rename(was[0], filepath.Join(b.dir, "cur", base+":2,"+letters)) == nil {
						break
					}
				}
			}
		}
	})
	wg.Wait()
	m := b.open()
	if got := m.UIDs(); !slices.Equal(got, uids) {
		t.Error(got)
	}
	for base, got := range view(t, m) {
		if got.Flags != Flagged|Seen|Trashed || got.Keywords != 3 {
			t.Errorf("%s: %+v", base, got)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(b.dir, "*", "1764*")); len(files) != messages {
		t.Error(files)
	}
}

// What was told to be removed is removed under the name that it has now.
func TestExpungeOfWhatWasRenamed(t *testing.T) {
	b := newBox(t)
	base := b.deliver("x\n")
	m := b.open()
	b.foreign(base, "F")
	if failed, err := m.Expunge(0, []uint32{1}); len(failed) > 0 || err != nil {
		t.Error(failed, err)
	}
	if is := b.find(base); is != "" {
		t.Error(is)
	}
}
