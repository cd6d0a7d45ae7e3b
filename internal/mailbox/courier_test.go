package mailbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/internal/durable"
)

// Courier's keywords are taken over with its UIDs, and not a second time; a failure at any step is made good by the next who opens the folder.
func TestCourierKeywords(t *testing.T) {
	steps := 0
	for n := 1; ; n++ {
		b := newBox(t)
		both, one, none, young := b.deliver("both\n"), b.deliver("one\n"), b.deliver("none\n"), b.deliver("young\n")
		b.foreign(both, "FS")
		b.foreign(one, "")
		b.foreign(none, "Sc") // a letter without a name, which another keyword gets
		words := filepath.Join(b.dir, "courierimapkeywords")
		must(t, os.Mkdir(words, 0o700))
		must(t, os.WriteFile(words+"/:list", fmt.Appendf(nil, "Work\n$Label1\nthird\n\n%s:0 1\n%s:1\n%s:2\n", both, one, young), 0o600))
		must(t, os.WriteFile(b.dir+"/courierimapuiddb", fmt.Appendf(nil, "1 1234567 9\n3 %s\n5 %s\n7 %s\n8 %s\n", one, both, none, young), 0o600))
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
		root, err := durable.OpenDir(b.dir)
		must(t, err)
		m, err := Open(root, "", Options{Ops: ops})
		root.Close()
		if err == nil {
			m.Close()
		} else if count < n {
			t.Fatal(err)
		}
		m = b.open()
		got := view(t, m)
		names, err := m.Keywords()
		must(t, err)
		for _, want := range []struct {
			base  string
			uid   uint32
			flags Flags
			words string
		}{{one, 3, 0, "$Label1"}, {both, 5, Flagged | Seen, "Work $Label1"}, {none, 7, Seen, ""}, {young, 8, 0, "third"}} {
			is := got[want.base]
			if words := strings.Join(namesOf(&names, is.Keywords), " "); is.UID != want.uid || is.Flags != want.flags || words != want.words {
				t.Errorf("step %d: %s: %v %s, want %v", n, want.base, is, words, want)
			}
		}
		// What Courier says later is not ours any more.
		if _, err := m.SetFlags(0, []uint32{5}, Remove, 0, []string{"Work"}); err != nil {
			t.Error(err)
		}
		if again := view(t, b.open())[both]; again.Keywords != got[both].Keywords&^1 {
			t.Errorf("step %d: %v, was %v", n, again, got[both])
		}
		if count < n {
			break
		}
		steps = n
	}
	if steps < 8 {
		t.Errorf("only %d steps were tried", steps)
	}
}
