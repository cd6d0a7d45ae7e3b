package mailbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whether there is anything to be read in the list stands in the index: who edits the list, in whatever way, is heard all the same.
func TestMaildropReadsTheListOnce(t *testing.T) {
	b := newBox(t)
	for range 3 {
		b.deliver("x\n")
	}
	list := filepath.Join(b.dir, listName)
	drop := func(m *Mailbox) []string {
		t.Helper()
		_, ids, err := m.Maildrop()
		must(t, err)
		return ids
	}
	m := b.open()
	own := drop(m)
	drop(b.open()) // reads what the first one wrote
	text, err := os.ReadFile(list)
	must(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	// Its octets are not looked at while its time and length are those that were seen.
	st, err := os.Stat(list)
	must(t, err)
	damaged := strings.Repeat("?", len(text))
	must(t, os.WriteFile(list, []byte(damaged), 0o600))
	must(t, os.Chtimes(list, st.ModTime(), st.ModTime()))
	if got := drop(b.open()); !slices.Equal(got, own) {
		t.Error(got, own)
	}

	edit := func(second string, when time.Time) {
		t.Helper()
		changed := slices.Clone(lines)
		uid, rest, _ := strings.Cut(changed[2], " ")
		changed[2] = uid + " " + second + rest
		must(t, os.WriteFile(list, []byte(strings.Join(changed, "")), 0o600))
		must(t, os.Chtimes(list, when, when))
	}
	taken := []string{own[0], "taken-over", own[2]}
	edit("Ptaken-over ", st.ModTime().Add(time.Minute))
	for _, who := range []string{"who had it open", "who opens it then", "who opens it again"} {
		at := m
		if who != "who had it open" {
			at = b.open()
		}
		must(t, at.Sync())
		if got := drop(at); !slices.Equal(got, taken) {
			t.Errorf("%s: %q, not %q", who, got, taken)
		}
	}
	edit("", st.ModTime().Add(2*time.Minute))
	for range 2 {
		if got := drop(b.open()); !slices.Equal(got, own) {
			t.Error(got, own)
		}
	}

	// What another adds.
	b.deliver("y\n")
	f, err := os.OpenFile(list, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	fmt.Fprintf(f, "9 Padded :17640%05d.M%dP1.host\n", b.n, b.n)
	f.Close()
	for range 2 {
		if got := drop(b.open()); !slices.Equal(got, append(slices.Clone(own), "added")) {
			t.Error(got, own)
		}
	}
}
