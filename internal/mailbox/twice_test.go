package mailbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// M08: one base in two files, as a crash between link and unlink or a race of two renames leaves it, is one message, the same in each reading of each
// process; a file of other content is never removed with it.
func TestM08_OneBaseTwice(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name string
		two  [2]string // files
		same bool      // they are links of one
		want string    // the one that is shown to who has not seen it before
	}{
		{"new and cur", [2]string{"new/1.a", "cur/1.a:2,S"}, true, "cur/1.a:2,S"},
		{"new and cur, no flags", [2]string{"new/1.a", "cur/1.a:2,"}, true, "cur/1.a:2,"},
		{"cur twice", [2]string{"cur/1.a:2,S", "cur/1.a:2,FS"}, true, "cur/1.a:2,FS"},
		{"without info", [2]string{"cur/1.a", "cur/1.a:2,R"}, true, "cur/1.a:2,R"},
		{"other content", [2]string{"new/1.a", "cur/1.a:2,S"}, false, "cur/1.a:2,S"},
		{"other content, cur twice", [2]string{"cur/1.a:2,", "cur/1.a:2,T"}, false, "cur/1.a:2,T"},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBox(t)
			b.odd = []string{filepath.Base(x.two[0]), filepath.Base(x.two[1]), indexName}
			b.deliver("before\n")
			must(t, os.WriteFile(filepath.Join(b.dir, x.two[0]), []byte("one\n"), 0o600))
			if x.same {
				must(t, os.Link(filepath.Join(b.dir, x.two[0]), filepath.Join(b.dir, x.two[1])))
			} else {
				must(t, os.WriteFile(filepath.Join(b.dir, x.two[1]), []byte("other\n"), 0o600))
			}
			b.deliver("after\n")
			m := b.open()
			uid := uint32(0)
			for range 4 { // in any order of readdir, by who knows and who does not
				for _, o := range []*Mailbox{m, b.open()} {
					must(t, o.Sync())
					if got := o.UIDs(); len(got) != 3 {
						t.Fatal(got)
					}
					got := view(t, o)["1.a"]
					if uid == 0 {
						uid = got.UID
					}
					f, err := o.File(uid)
					must(t, err)
					if is, _ := filepath.Rel(b.dir, f.Name()); is != x.want || got.UID != uid {
						t.Errorf("it is %s with UID %d, want %s with UID %d", is, got.UID, x.want, uid)
					}
					f.Close()
				}
				os.Chtimes(filepath.Join(b.dir, "cur"), time.Now(), time.Now())
			}
			// Flags are set on the one, and it stays one.
			if got, err := m.SetFlags(0, []uint32{uid}, Add, Draft, nil); len(got) != 1 || err != nil {
				t.Error(got, err)
			}
			must(t, m.Sync())
			if got := view(t, m)["1.a"]; got.UID != uid || got.Flags&Draft == 0 || len(m.UIDs()) != 3 {
				t.Errorf("%+v", got)
			}
			b.odd = append(b.odd, filepath.Base(b.find("1.a")))
			for _, f := range []string{"cur", "new"} {
				l, _ := filepath.Glob(filepath.Join(b.dir, f, "1.a*"))
				for _, name := range l {
					b.odd = append(b.odd, filepath.Base(name))
				}
			}
			// It is removed, under all its names; what had other content is a message now, with a UID that was nobody's.
			if failed, err := m.Expunge(0, []uint32{uid}); len(failed) > 0 || err != nil {
				t.Fatal(failed, err)
			}
			must(t, m.Sync())
			got, there := view(t, m)["1.a"]
			if x.same {
				if there || b.find("1.a") != "" {
					t.Errorf("it is there again: %+v, %s", got, b.find("1.a"))
				}
				return
			}
			f, err := m.File(got.UID)
			must(t, err)
			defer f.Close()
			if text, _ := io.ReadAll(f); string(text) != "one\n" || got.UID <= 3 {
				t.Errorf("UID %d has %q", got.UID, text)
			}
		})
	}
}

// M08, M22: a file that comes back after its message was expunged, for it is delivered again or put back from a copy, has another UID, for whoever sees it first;
// a line that has had no file yet still holds for one.
func TestM08_ComesBack(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	var bases []string
	for range 4 {
		bases = append(bases, b.deliver("x\n"))
	}
	m := b.open()
	last := uint32(4)
	for round, how := range []string{"who expunged it", "who opens it later", "who opens it after a new snapshot", "who reads the whole list under its lock", "who saw it go", "who has the list alone"} {
		if how == "who saw it go" {
			must(t, os.Remove(b.find(bases[1])))
			must(t, m.Sync())
		} else if failed, err := m.Expunge(0, []uint32{view(t, m)[bases[1]].UID}); len(failed) > 0 || err != nil {
			t.Fatal(failed, err)
		}
		o := m
		switch how {
		case "who opens it later":
			o = b.open()
		case "who opens it after a new snapshot":
			m.index.good = false
			unlock, err := m.index.lock()
			must(t, err)
			must(t, m.index.rewrite(nil))
			unlock()
			o = b.open()
		case "who reads the whole list under its lock":
			m.forgetList()
		}
		must(t, os.WriteFile(filepath.Join(b.dir, "new", bases[1]), []byte("x\n"), 0o600))
		must(t, o.Sync())
		last++
		if how == "who has the list alone" {
			must(t, os.Remove(filepath.Join(b.dir, indexName)))
		}
		for _, o := range []*Mailbox{o, m, b.open()} {
			must(t, o.Sync())
			if got := view(t, o); got[bases[1]].UID != last || len(got) != 4 {
				t.Errorf("%s, round %d: UID %d, want %d; %d messages", how, round, got[bases[1]].UID, last, len(got))
			}
		}
	}
	// Dovecot writes the line first.
	list := filepath.Join(b.dir, listName)
	text, err := os.ReadFile(list)
	must(t, err)
	must(t, os.WriteFile(list, fmt.Appendf(text, "%d :1764099999.M9P9.host\n", last+1), 0o600))
	must(t, m.Sync())
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1764099999.M9P9.host"), []byte("x\n"), 0o600))
	for _, o := range []*Mailbox{b.open(), m} {
		must(t, o.Sync())
		if got := view(t, o)["1764099999.M9P9.host"].UID; got != last+1 {
			t.Errorf("UID %d, want %d", got, last+1)
		}
	}
}

// M08: half a minute later one name is left of two that a file has, with the flags of both, whoever looks first; a file of other content stays, and so does a copy
// under a name of its own.
func TestM08_OneNameIsLeft(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		two  [2]string
		want string
	}{
		{[2]string{"new/1.a", "cur/1.a:2,S"}, "cur/1.a:2,S"},
		{[2]string{"new/1.a", "cur/1.a:2,"}, "cur/1.a:2,"},
		{[2]string{"cur/1.a:2,RS", "cur/1.a:2,Fb"}, "cur/1.a:2,FRSb"},
		{[2]string{"cur/1.a:2,FS", "cur/1.a:2,S"}, "cur/1.a:2,FS"},
		{[2]string{"cur/1.a", "cur/1.a:2,R"}, "cur/1.a:2,R"},
		{[2]string{"new/1.a", "new/1.a:2,S"}, ""},
	} {
		for _, known := range []bool{false, true} {
			b := newBox(t)
			b.odd = []string{filepath.Base(x.want)} // b stands for no keyword
			one, two := filepath.Join(b.dir, x.two[0]), filepath.Join(b.dir, x.two[1])
			must(t, os.WriteFile(one, []byte("one\n"), 0o600))
			must(t, os.Link(one, filepath.Join(b.dir, "cur/2.copy:2,")))
			m := b.open()
			if known {
				must(t, m.Sync())
			} else {
				must(t, os.Remove(filepath.Join(b.dir, indexName)))
			}
			must(t, os.Link(one, two))
			must(t, m.Sync())
			if _, err := os.Stat(one); err != nil {
				t.Error("a name that was young:", err)
			}
			m.young = 0
			must(t, m.Sync())
			l, _ := filepath.Glob(filepath.Join(b.dir, "*/1.a*"))
			if len(l) != 1 || x.want != "" && l[0] != filepath.Join(b.dir, x.want) {
				t.Errorf("%q: %q are left", x.two, l)
			}
			_, f, k := parseName(filepath.Base(l[0]))
			for _, o := range []*Mailbox{m, b.open()} {
				if got := view(t, o)["1.a"]; got.UID != 1 || len(o.UIDs()) != 2 || got.Flags != f || got.Keywords != k {
					t.Errorf("%q: %+v", x.two, got)
				}
			}
		}
	}
	b := newBox(t)
	b.odd = []string{"1.a", "1.a:2,S"}
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1.a"), []byte("one\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(b.dir, "cur/1.a:2,S"), []byte("two\n"), 0o600))
	m := b.open()
	m.young = 0
	must(t, m.sync(true))
	if l, _ := filepath.Glob(filepath.Join(b.dir, "*/1.a*")); len(l) != 2 {
		t.Errorf("of two contents %q are left", l)
	}
}

// M08: a message that is moved takes its second name with it.
func TestM08_Moved(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	must(t, os.WriteFile(filepath.Join(b.dir, "new/1.a"), []byte("one\n"), 0o600))
	must(t, os.Link(filepath.Join(b.dir, "new/1.a"), filepath.Join(b.dir, "cur/1.a:2,S")))
	m, to := b.open(), b.folder(".To")
	if moved, err := m.Move(t.Context(), 0, m.UIDs(), to); len(moved) != 1 || err != nil {
		t.Fatal(moved, err)
	}
	must(t, m.Sync())
	if got := m.UIDs(); len(got) > 0 || len(to.UIDs()) != 1 {
		t.Errorf("%d stayed, %d went", got, to.UIDs())
	}
}
