package textfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who edits at the same moment waits; nothing of any is lost.
func TestEditTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := Edit(path, Owner{0o640, -1, -1}, func(text string) (string, error) { return text + fmt.Sprintln(i), nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := strings.Count(read(t, path), "\n"); n != 20 {
		t.Errorf("%d lines", n)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Error(st.Mode(), err)
	}
}

// What an editor puts there meanwhile, by a rename or in place, is what is changed.
func TestEditBesideAnEditor(t *testing.T) {
	for _, rename := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("one\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		calls := 0
		err := Edit(path, Owner{}, func(text string) (string, error) {
			if calls++; calls == 1 {
				to := path
				if rename {
					to += ".new"
				}
				if err := os.WriteFile(to, []byte("one\ntwo\n"), 0o600); err != nil {
					t.Error(err)
				}
				if rename {
					os.Rename(to, path)
				}
			}
			return text + "mine\n", nil
		})
		if got := read(t, path); err != nil || got != "one\ntwo\nmine\n" || calls != 2 {
			t.Errorf("%q after %d calls, %v", got, calls, err)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	err := Edit(path, Owner{0o600, -1, -1}, func(text string) (string, error) {
		return text + "mine\n", os.WriteFile(path, []byte(text+"other\n"), 0o600)
	})
	if err == nil || strings.Contains(read(t, path), "mine") {
		t.Errorf("%v", err)
	}
}

// At whatever step it fails the old text is there, or, behind the rename, the new one.
func TestEditFails(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		step, failed := 0, durable.Op("")
		ops := &durable.Ops{Fault: func(op durable.Op, _ string) error {
			if step++; step == n {
				failed = op
				return unix.EIO
			}
			return nil
		}}
		err := edit(path, Owner{}, func(string) (string, error) { return "new\n", nil }, ops)
		if failed == "" {
			if err != nil || n < 5 {
				t.Fatal(n, err)
			}
			return
		}
		want := "old\n"
		if failed == durable.OpSyncDir {
			want = "new\n"
		}
		if got := read(t, path); !errors.Is(err, unix.EIO) || got != want {
			t.Errorf("%s fails: %q, %v", failed, got, err)
		}
	}
}

func TestEditLinkAndMode(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(real, []byte("a"), 0o600), os.Chmod(real, 0o664), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, Owner{}, func(text string) (string, error) { return text + "b", nil }); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(real)
	if to, _ := os.Readlink(link); to != "real" || read(t, real) != "ab" || err != nil || st.Mode().Perm() != 0o664 {
		t.Error(to, st.Mode(), err)
	}
	no := errors.New("no")
	if err := Edit(real, Owner{}, func(string) (string, error) { return "x", no }); err != no || read(t, real) != "ab" {
		t.Error(err)
	}
}
