package mailbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postamt/internal/durable"
)

// Of files without sizes in their names each has its own, however many are measured together, and some that are renamed or removed meanwhile; they are noted with few writes.
func TestSizesTogether(t *testing.T) {
	const n = 1500
	b := newBox(t)
	wire := make([]int64, n+1)
	for i := range n {
		text := fmt.Sprintf("Subject: %d\n\n", i) + strings.Repeat("line\n", i%7) + strings.Repeat("crlf\r\n", i%3)
		wire[i+1] = int64(len(text) + strings.Count(text, "\n") - strings.Count(text, "\r\n"))
		name := fmt.Sprintf("%d.M%dP1.host", 1700000000+i, i)
		if i%5 == 0 {
			name += fmt.Sprintf(",W=%d", wire[i+1])
		}
		must(t, os.WriteFile(filepath.Join(b.dir, "cur", name+":2,"), []byte(text), 0o600))
	}
	m := b.open()
	uids := m.UIDs()
	if len(uids) != n {
		t.Fatalf("%d messages", len(uids))
	}
	writes := 0
	m.ops = &durable.Ops{Fault: func(op durable.Op, _ string) error {
		if op == durable.OpWrite {
			writes++
		}
		return nil
	}}
	path := func(uid uint32) string {
		f, err := m.File(uid)
		must(t, err)
		defer f.Close()
		return f.Name()
	}
	const renamed, removed = 1203, 1302
	for _, uid := range uids {
		switch uid {
		case renamed - 100:
			old := path(renamed)
			must(t, os.Rename(old, old+"S"))
		case removed - 100:
			must(t, os.Remove(path(removed)))
		}
		got, err := m.Size(uid)
		if uid == removed && errors.Is(err, ErrExpunged) {
			continue
		}
		if err != nil || got != wire[uid] || uid == removed {
			t.Errorf("message %d: %d, %v, want %d", uid, got, err, wire[uid])
		}
	}
	if writes > 40 {
		t.Errorf("%d writes", writes)
	}
	m.ops = nil
	again := b.open()
	for _, uid := range again.UIDs() {
		if k, ok := again.Message(uid); !ok || k.Size != wire[uid] {
			t.Errorf("message %d: another process knows %d, want %d", uid, k.Size, wire[uid])
		}
	}
	// Here and there one is measured alone.
	for i := range 3 {
		must(t, os.WriteFile(filepath.Join(b.dir, "cur", fmt.Sprintf("1800000000.M%dP1.host:2,", i)), []byte("x\n"), 0o600))
	}
	must(t, m.Sync())
	for _, uid := range []uint32{n + 3, n + 1, n + 2} {
		if got, err := m.Size(uid); got != 3 || err != nil {
			t.Errorf("message %d: %d, %v", uid, got, err)
		}
	}
}
