package mailbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

func TestExpunge(t *testing.T) {
	b := newBox(t)
	for range 10 {
		b.deliver("x\n")
	}
	m, other := b.open(), b.open()
	validity, _, _, _ := m.Status()
	if failed, err := m.Expunge(validity+1, []uint32{2, 3}); len(failed) != 2 || !errors.Is(err, ErrValidity) {
		t.Error(failed, err)
	}
	failed, err := m.Expunge(validity, []uint32{2, 3, 99})
	if len(failed) != 0 || err != nil {
		t.Error(failed, err)
	}
	must(t, other.Sync())
	if got := other.UIDs(); !slices.Equal(got, []uint32{1, 4, 5, 6, 7, 8, 9, 10}) {
		t.Error(got)
	}
	if _, err := other.File(2); !errors.Is(err, ErrExpunged) {
		t.Error(err)
	}
	b.deliver("y\n")
	must(t, other.Sync())
	must(t, m.Sync())
	if got := m.UIDs(); got[len(got)-1] != 11 {
		t.Error(got)
	}
	f, err := m.File(11)
	must(t, err)
	defer f.Close()
	if text, _ := io.ReadAll(f); string(text) != "y\n" {
		t.Errorf("%q", text)
	}
}

// Of many that are removed together some have another name by then, some have two, some cannot be removed, and some are gone.
func TestExpungeMany(t *testing.T) {
	b := newBox(t)
	for range 700 {
		b.deliver("x\n")
	}
	m := b.open()
	copies := b.folder(".Copies")
	if _, err := m.Copy(t.Context(), 0, []uint32{100, 400}, copies); err != nil {
		t.Fatal(err)
	}
	named := make(map[string]uint32)
	for _, uid := range m.UIDs() {
		f, err := m.File(uid)
		must(t, err)
		named[filepath.Base(f.Name())] = uid
		f.Close()
	}
	var mu sync.Mutex
	tried := make(map[uint32]int)
	m.ops = &durable.Ops{Fault: func(op durable.Op, path string) error {
		uid, ok := named[filepath.Base(path)]
		if op != durable.OpUnlink || !ok {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		tried[uid]++
		switch uid {
		case 50, 500: // somebody is quicker
			if err := os.Rename(path, path+":2,S"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		case 51, 501:
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		case 52, 699:
			return unix.EPERM
		}
		return nil
	}}
	for name, uid := range named {
		if uid == 90 || uid == 300 { // in the midst of being renamed
			must(t, os.Link(filepath.Join(b.dir, "new", name), filepath.Join(b.dir, "cur", name+":2,F")))
		}
	}
	failed, err := m.Expunge(0, m.UIDs()[:699])
	m.ops = nil
	slices.Sort(failed)
	if !slices.Equal(failed, []uint32{52, 699}) || !errors.Is(err, unix.EPERM) || strings.Count(err.Error(), "unlink") != 1 {
		t.Error(failed, err)
	}
	if got := m.UIDs(); !slices.Equal(got, []uint32{52, 699, 700}) {
		t.Error(got)
	}
	if n := len(copies.UIDs()); n != 2 {
		t.Errorf("%d copies", n)
	}
	for _, uid := range copies.UIDs() {
		f, err := copies.File(uid)
		must(t, err)
		if text, _ := io.ReadAll(f); string(text) != "x\n" {
			t.Errorf("copy %d: %q", uid, text)
		}
		f.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "[nc]*", "*")); len(left) != 3 {
		t.Errorf("%d files are left: %.200q", len(left), left)
	}
	if tried[1] != 1 || tried[52] != 1 {
		t.Errorf("message 1 was unlinked %d times, message 52 %d times", tried[1], tried[52])
	}
}
