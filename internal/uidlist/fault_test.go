package uidlist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"postamt/internal/dotlock"
	"postamt/internal/durable"
)

// M17. What becomes of each kind of damage.
func TestM17_Damage(t *testing.T) {
	const h = "3 V7 N20 Zx G" + guid + "\n"
	for name, c := range map[string]struct {
		list string
		want string // entries
		next UID    // 0: the list is lost
	}{
		"garbage line":              {h + "1 :a\ngarbage\n3 :c\n", "1 a, 3 c", 20},
		"NULs in the middle":        {h + "1 :a\n\x00\x00\x00\x00\n3 :c\n", "1 a, 3 c", 20},
		"a line too long":           {h + "1 :a\n2 :" + strings.Repeat("x", 3*maxLine) + "\n3 :c\n", "1 a, 3 c", 20},
		"the next UID too low":      {"3 V7 N2 G" + guid + "\n1 :a\nx\n30 :c\n", "1 a, 30 c", 31},
		"one line out of order":     {h + "1 :a\n2 :b\n9 :z\n3 :c\n4 :d\n", "1 a, 2 b, 3 c, 4 d", 20},
		"a line too low":            {h + "11 :a\n12 :b\n3 :c\n14 :d\n", "11 a, 12 b, 14 d", 20},
		"a UID twice":               {h + "1 :a\n2 :b\n2 :c\n3 :d\n", "1 a, 3 d", 20},
		"a UID twice, apart":        {h + "1 :a\n2 :b\n3 :d\n2 :c\n4 :e\n", "1 a, 3 d, 4 e", 20},
		"a line twice":              {h + "1 :a\n2 :b\n2 :b\n3 :d\n", "1 a, 2 b, 3 d", 20},
		"half a line":               {"3 V7 N3 G" + guid + "\n1 :a\n2 :b\n3 :", "1 a, 2 b", 4},
		"garbage at the end":        {"3 V7 N3 G" + guid + "\n1 :a\n" + strings.Repeat("\x00", 50), "1 a", 14},
		"garbage lines at the end":  {"3 V7 N3 G" + guid + "\n1 :a\n" + strings.Repeat("garbage..\n", 5), "1 a", 14},
		"the highest UID":           {h + "1 :a\n4294967295 :b\n", "1 a", 23},
		"no UID left":               {h + "1 :a\n4294967294 :b\nx\n", "", 0},
		"no UID left in the header": {"3 V7 N4294967295\n1 :a\nx\n", "", 0},
		"empty":                     {"\n", "", 0},
		"no header":                 {"1 :a\n2 :b\n", "", 0},
		"half a header":             {"3 V7 N", "", 0},
		"no validity":               {"3 N20\n1 :a\n", "", 0},
		"a version to come":         {"4 V7 N20\n1 :a\n", "", 0},
		"NULs":                      {strings.Repeat("\x00", 10000), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, dir := folder(t, c.list)
			tx := lock(t, l)
			defer unlock(t, tx)
			if _, _, err := read(tx); !errors.Is(err, ErrDamaged) && name != "half a line" && name != "garbage at the end" {
				t.Fatalf("not noticed: %v", err)
			}
			r, err := tx.Repair(0)
			if err != nil || r.Lost != (c.next == 0) {
				t.Fatal(r, err)
			}
			_, got, err := read(tx)
			if got != c.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
			hdr := l.Header()
			if c.next == 0 {
				if hdr.Validity <= 7 || hdr.Next != 1 {
					t.Error(hdr)
				}
			} else if hdr.Validity != 7 || hdr.Next != c.next || hdr.GUID != guid {
				t.Errorf("%v, want next %d", hdr, c.next)
			}
			if err := tx.Append([]Entry{{Name: "new"}}); err != nil {
				t.Error(err)
			}
			if names, _ := filepath.Glob(dir.Name() + "/tmp/*"); names != nil {
				t.Error(names)
			}
		})
	}
}

// An old list, or one cut at the end of a line, looks whole. The caller knows better.
func TestNextUIDThatTheCallerKnows(t *testing.T) {
	l, dir := folder(t, "3 V7 N3\n1 :a\n")
	tx := lock(t, l)
	read(tx)
	if _, err := tx.Repair(50); err != nil {
		t.Fatal(err)
	}
	unlock(t, tx)
	// This process knows too.
	write(t, dir.Name()+"/"+listFile, "3 V7 N3\n1 :a\nx\n")
	if e, err := add(l, t, "b"); err != nil || e[0].UID != 50 {
		t.Error(e, err)
	}
	// Without a repair.
	l, dir = folder(t, "3 V7 N3\n1 :a\n")
	tx = lock(t, l)
	read(tx)
	if l.AtLeast(2); l.Low() {
		t.Error("3 is low")
	}
	if l.AtLeast(50); !l.Low() {
		t.Error("3 is not low")
	}
	e := []Entry{{Name: "b"}}
	if err := tx.Append(e); err != nil || e[0].UID != 50 {
		t.Error(e, err)
	}
	unlock(t, tx)
	if _, got, err := read(New(dir, dir, nil)); got != "1 a, 50 b" || err != nil || l.Low() {
		t.Error(got, err, l.Low())
	}
	// An older copy, to who has read it before, is low until it is rewritten.
	old := New(dir, dir, nil)
	read(old)
	os.WriteFile(dir.Name()+"/"+listFile, []byte("3 V7 N3\n1 :a\n"), 0o600)
	if read(old); !old.Low() {
		t.Error("3 is not low")
	}
	tx = lock(t, old)
	read(tx)
	if err := tx.Rewrite(nil); err != nil || old.Low() {
		t.Error(err)
	}
	unlock(t, tx)
	l = New(dir, dir, nil)
	if read(l); l.Header().Next != 51 {
		t.Error(l.Header())
	}
}

func TestUsedUp(t *testing.T) {
	l, _ := folder(t, "3 V7 N4294967293\n1 :a\n")
	e, err := add(l, t, "b", "c", "d")
	if !errors.Is(err, ErrExhausted) || e[0].UID != 0 {
		t.Fatal(e, err)
	}
	if e, err = add(l, t, "b", "c"); err != nil || e[1].UID != MaxUID {
		t.Fatal(e, err)
	}
	if _, err = add(l, t, "d"); !errors.Is(err, ErrExhausted) {
		t.Error(err)
	}
	tx := lock(t, l)
	defer unlock(t, tx)
	read(tx)
	if r, err := tx.Repair(0); err != nil || !r.Lost {
		t.Error(r, err)
	}
}

// operations are what the tests below let fail at each step.
var operations = map[string]struct {
	list string
	do   func(*List, *Tx) error
}{
	"append":  {"3 V7 N3 G" + guid + "\n1 :a\n2 :b\n", func(_ *List, tx *Tx) error { return tx.Append([]Entry{{Name: "c"}, {Name: "d"}}) }},
	"rewrite": {"3 V7 N3 G" + guid + "\n1 :a\n2 :b\n", func(_ *List, tx *Tx) error { return tx.Rewrite(func(*Entry) bool { return true }) }},
	"repair":  {"3 V7 N3 G" + guid + "\n1 :a\n2 :b\nx\n", func(_ *List, tx *Tx) error { _, err := tx.Repair(0); return err }},
	"begin":   {"x", func(_ *List, tx *Tx) error { return tx.Begin() }},
	"create":  {"", func(_ *List, tx *Tx) error { return tx.Create() }},
	"keyword": {"3 V7 N3\n", func(_ *List, tx *Tx) error { _, err := tx.AddKeyword("new"); return err }},
}

// Each step fails once, or everything fails from there on, as when the process
// was killed: the files can be read, nobody was told what is not there, and the
// next one carries on.
func TestEveryStepFails(t *testing.T) {
	for name, op := range operations {
		for _, dead := range []bool{false, true} {
			for step := 0; ; step++ {
				n := 0
				l, dir := folder(t, op.list)
				if name == "keyword" {
					write(t, dir.Name()+"/"+keywordsFile, "0 old\n")
				}
				told := map[string]UID{"a": 1, "b": 2}
				validity := uint32(7)
				armed := false
				l.ops = &durable.Ops{Fault: func(durable.Op, string) error {
					if !armed {
						return nil
					}
					n++
					if n == step+1 || dead && n > step {
						return syscall.ENOSPC
					}
					return nil
				}}
				tx := lock(t, l)
				read(tx)
				armed = true
				err := op.do(l, tx)
				armed = false
				if err == nil && n > step && !dead {
					t.Errorf("%s: step %d failed unnoticed", name, step)
				}
				tx.Unlock()
				what := fmt.Sprintf("%s, dead %v, step %d, %v", name, dead, step, err)

				// Another process.
				next := New(dir, dir, nil)
				e, aerr := add(next, t, "new1")
				if aerr != nil {
					t.Fatalf("%s: then %v", what, aerr)
				}
				var entries []Entry
				if _, rerr := New(dir, dir, nil).Read(func(e Entry) error { entries = append(entries, e); return nil }); rerr != nil {
					t.Fatalf("%s: then %v", what, rerr)
				}
				if op.list != "" && op.list != "x" {
					if next.Header().Validity != validity {
						t.Errorf("%s: validity %d", what, next.Header().Validity)
					}
					if op.list != "3 V7 N3\n" {
						for _, e := range entries {
							delete(told, e.Name)
						}
						if len(told) > 0 || e[0].UID < 3 {
							t.Errorf("%s: missing %v, new %v", what, told, e)
						}
					}
				}
				if k, kerr := next.Keywords(); name == "keyword" && (kerr != nil || k[0] != "old" || err == nil && k[1] != "new") {
					t.Errorf("%s: keywords %v, %v", what, k, kerr)
				}
				if left, _ := filepath.Glob(dir.Name() + "/tmp/*"); !dead && n > step && len(left) > 0 && err != nil && !strings.Contains(err.Error(), "unlink") {
					t.Errorf("%s: left %v", what, left)
				}
				if n <= step {
					if err != nil {
						t.Errorf("%s", what)
					}
					break
				}
			}
		}
	}
}

// The order in which an append, a rewrite and a new validity become permanent.
func TestOrderOfSteps(t *testing.T) {
	for name, want := range map[string]string{
		"append":  "write datasync close",
		"rewrite": "create write chmod sync close rename syncdir",
		"begin":   "create syncdir create write chmod sync close rename syncdir",
		"keyword": "create write chmod sync close rename syncdir",
	} {
		op := operations[name]
		l, _ := folder(t, op.list)
		var steps []string
		tx := lock(t, l)
		read(tx)
		l.ops = &durable.Ops{Fault: func(op durable.Op, _ string) error { steps = append(steps, string(op)); return nil }}
		if err := op.do(l, tx); err != nil {
			t.Error(name, err)
		}
		l.ops = nil
		unlock(t, tx)
		if got := strings.Join(steps, " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A lock that was broken ends its owner's writing.
func TestLockIsLost(t *testing.T) {
	for name, op := range operations {
		l, dir := folder(t, op.list)
		tx := lock(t, l)
		read(tx)
		os.Rename(dir.Name()+"/"+listFile+".lock", dir.Name()+"/kept")
		write(t, dir.Name()+"/"+listFile+".lock", "")
		if err := op.do(l, tx); !errors.Is(err, dotlock.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
		if p, _ := os.ReadFile(dir.Name() + "/" + listFile); string(p) != op.list {
			t.Errorf("%s: %q", name, p)
		}
		if err := tx.Unlock(); !errors.Is(err, dotlock.ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir.Name() + "/" + listFile + ".lock"); err != nil {
			t.Error(name, err)
		}
	}
}

// What another process left unsynced is synced by who reads it.
func TestReadSyncs(t *testing.T) {
	l, dir := folder(t, "3 V7 N3\n1 :a\n")
	var steps []string
	l.ops = &durable.Ops{Fault: func(op durable.Op, _ string) error { steps = append(steps, string(op)); return nil }}
	read(l)
	f, _ := os.OpenFile(dir.Name()+"/"+listFile, os.O_APPEND|os.O_WRONLY, 0)
	f.WriteString("3 :b\n")
	f.Close()
	read(l)
	read(l)
	if got := strings.Join(steps, " "); got != "datasync syncdir datasync" {
		t.Error(got)
	}
}

// M17. Two processes append, rewrite, die at any step and meet damage; no UID
// ever stands for two names under one validity.
func TestM17_NoUIDTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		_, dir := folder(t, "")
		type key struct {
			validity uint32
			uid      UID
		}
		told := make(map[key]string)
		known := UID(0) // the next UID, as an index knows it
		var validity uint32
		note := func(h Header, e Entry) {
			k := key{h.Validity, e.UID}
			if name, ok := told[k]; ok && name != e.Name {
				rt.Fatalf("%v is %s and was %s", k, e.Name, name)
			}
			told[k] = e.Name
			if h.Validity != validity {
				validity, known = h.Validity, 0
			}
			known = max(known, e.UID+1)
		}
		lists := []*List{New(dir, dir, nil), New(dir, dir, nil)}
		path := dir.Name() + "/" + listFile
		names := 0
		for range rapid.IntRange(3, 14).Draw(rt, "steps") {
			i := rapid.IntRange(0, 1).Draw(rt, "process")
			l := lists[i]
			fail, n := rapid.IntRange(0, 30).Draw(rt, "dies at"), 0
			l.ops = &durable.Ops{Fault: func(durable.Op, string) error {
				if n++; n > fail && fail > 0 {
					return syscall.EIO
				}
				return nil
			}}
			p, _ := os.ReadFile(path)
			switch rapid.SampledFrom([]string{"append", "append", "append", "rewrite", "damage", "lose"}).Draw(rt, "what") {
			case "append":
				if tx, err := l.Lock(t.Context()); err == nil {
					if ready(tx, known) == nil {
						var entries []Entry
						for range rapid.IntRange(1, 4).Draw(rt, "messages") {
							names++
							entries = append(entries, Entry{Name: fmt.Sprint("m", names)})
						}
						if tx.Append(entries) == nil {
							for _, e := range entries {
								note(l.Header(), e)
							}
						}
					}
					tx.Unlock()
				}
			case "rewrite":
				if tx, err := l.Lock(t.Context()); err == nil {
					if ready(tx, known) == nil {
						odd := UID(rapid.IntRange(0, 1).Draw(rt, "drop"))
						tx.Rewrite(func(e *Entry) bool { return e.UID%2 == odd })
					}
					tx.Unlock()
				}
			case "damage":
				if len(p) > 0 {
					at := rapid.IntRange(0, len(p)-1).Draw(rt, "at")
					garbage := rapid.SampledFrom([]string{"\n", "x", "\x00\x00", "\n9 :z\n", "\nx\n", " :"}).Draw(rt, "garbage")
					os.WriteFile(path, append(append(p[:at:at], garbage...), p[at:]...), 0o600)
					// A line that the damage has forged is nobody's message.
					for k := range told {
						if k.uid == 9 {
							delete(told, k)
						}
					}
				}
			case "lose":
				if rapid.Bool().Draw(rt, "all") {
					os.Remove(path)
				} else if len(p) > 0 {
					os.WriteFile(path, p[:rapid.IntRange(0, len(p)-1).Draw(rt, "length")], 0o600)
				}
				// An index would notice that the list is shorter.
				if tx, err := New(dir, dir, nil).Lock(t.Context()); err == nil {
					tx.Repair(known)
					tx.Unlock()
				}
			}
			os.Remove(path + ".lock") // of who died; the tests of dotlock are elsewhere
			l.ops = nil
			if fail > 0 && n > fail {
				lists[i] = New(dir, dir, nil)
			}
		}
	})
}
