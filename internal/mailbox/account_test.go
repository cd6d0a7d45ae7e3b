package mailbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"postamt/internal/maildir"
	"postamt/internal/watch"
)

func newAccount(t *testing.T, b *box, w *watch.Watcher) *Account {
	t.Helper()
	all := NewAccounts(w, Options{Report: func(err error) { t.Log(err) }})
	t.Cleanup(all.End)
	a, err := all.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := all.Open(b.dir); err != nil || again != a {
		t.Error("another account", err)
	}
	a.Close()
	return a
}

// Sessions share what is open of a folder, and find it open for a while after the last has left.
func TestAccountShares(t *testing.T) {
	b := newBox(t)
	a := newAccount(t, b, nil)
	if err := a.Folders.Create("Sent"); err != nil {
		t.Fatal(err)
	}
	one, err := a.Open("Sent")
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.Open("Sent")
	if err != nil || one != two {
		t.Fatal(err, one == two)
	}
	inbox, err := a.Open("inbox")
	if err != nil || inbox == one {
		t.Fatal(err)
	}
	inbox.Close()
	one.Close()
	two.Close()
	if again, err := a.Open("Sent"); err != nil || again != one {
		t.Errorf("%v; it is another one: %v", err, again != one)
	} else {
		again.Close()
	}
	if _, err := a.Open("None"); !errors.Is(err, maildir.ErrNoFolder) {
		t.Error(err)
	}
}

// A folder that was deleted or renamed while it was open is another one when there is one of its name again.
func TestAccountFolderReplaced(t *testing.T) {
	b := newBox(t)
	a := newAccount(t, b, nil)
	a.Folders.Create("Sent")
	old, err := a.Open("Sent")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Folders.Rename("Sent", "Old"); err != nil {
		t.Fatal(err)
	}
	if !old.Gone() {
		t.Error("renamed, and not gone")
	}
	if _, err := a.Open("Sent"); !errors.Is(err, maildir.ErrNoFolder) {
		t.Error(err)
	}
	a.Folders.Create("Sent")
	new, err := a.Open("Sent")
	if err != nil || new == old || new.Gone() || !old.Gone() {
		t.Error(err, new == old)
	}
	new.Close()
	old.Close()
}

// Who follows is told of what others do, by the system or, without its help, by looking; and of what this process does.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name  string
		watch bool
	}{{"watched", true}, {"looked at", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			var w *watch.Watcher
			if c.watch {
				var err error
				if w, err = watch.New(); errors.Is(err, errors.ErrUnsupported) {
					t.Skip("no inotify and no kqueue on this system")
				} else if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
			}
			m, err := newAccount(t, b, w).Open("INBOX")
			if err != nil {
				t.Fatal(err)
			}
			told := make(chan struct{}, 100)
			stop := m.Follow(func() {
				select {
				case told <- struct{}{}:
				default:
				}
			})
			await := func(what string, until func() bool) {
				t.Helper()
				deadline := time.After(20 * time.Second)
				for !until() {
					select {
					case <-told:
						if err := m.Sync(); err != nil {
							t.Fatal(err)
						}
					case <-deadline:
						t.Fatal("nobody was told of " + what)
					}
				}
			}
			base := b.deliver("one\n")
			await("a delivery", func() bool { return len(m.UIDs()) == 1 })
			os.Rename(b.find(base), filepath.Join(b.dir, "cur", base+":2,S"))
			await("a flag", func() bool { x, _ := m.Message(1); return x.Flags == Seen })
			if _, err := m.SetFlags(0, []uint32{1}, Add, Flagged, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case <-told:
			default:
				t.Error("our own change was not told at once")
			}
			stop()
			for len(told) > 0 {
				<-told
			}
			m.SetFlags(0, []uint32{1}, Add, Replied, nil)
			if len(told) > 0 {
				t.Error("told after the end")
			}
			m.Close()
		})
	}
}

// Since tells what has come, changed and gone, and whether it remembers all that has gone.
func TestSince(t *testing.T) {
	b := newBox(t)
	for range 4 {
		b.deliver("x\n")
	}
	m := b.open()
	uids, validity, was := m.Snapshot()
	if len(uids) != 4 {
		t.Fatal(uids)
	}
	if c, ok := m.Since(validity, was); !ok || !c.Whole || len(c.Messages)+len(c.Gone) != 0 || c.Highest != was {
		t.Errorf("%+v", c)
	}
	b.deliver("y\n")
	m.SetFlags(0, []uint32{2}, Add, Seen, nil)
	m.Expunge(validity, []uint32{3})
	m.Sync()
	c, ok := m.Since(validity, was)
	if !ok || !c.Whole || len(c.Messages) != 2 || c.Messages[0].UID != 2 || c.Messages[1].UID != 5 || !c.Messages[1].New || len(c.Gone) != 1 || c.Gone[0] != 3 || c.Highest <= was {
		t.Errorf("%+v", c)
	}
	if c, ok = m.Since(validity, c.Highest); !ok || !c.Whole || len(c.Messages)+len(c.Gone) != 0 {
		t.Errorf("%+v", c)
	}
	if _, ok = m.Since(validity+1, was); ok {
		t.Error("another UIDVALIDITY")
	}
	if c, _ = m.Since(validity, was-1); c.Whole {
		t.Error("what was before it was opened is not remembered")
	}
	// Another process that reads the index knows as much from there as the index has.
	if c, _ := b.open().Since(validity, was); !c.Whole || len(c.Gone) != 1 {
		t.Errorf("from the index: %+v", c)
	}
}

// A message is recent for one session only.
func TestRecent(t *testing.T) {
	b := newBox(t)
	b.deliver("one\n")
	m := b.open()
	if r := m.Recent(0); len(r) != 1 || r[0] != 1 {
		t.Error(r)
	}
	if r := m.Recent(2); len(r) != 1 {
		t.Error(r)
	}
	b.deliver("two\n")
	m.Sync()
	if r := m.Recent(2); len(r) != 1 || r[0] != 2 { // the session does not know it yet
		t.Error(r)
	}
	if r := m.Recent(3); len(r) != 1 || r[0] != 2 {
		t.Error(r)
	}
	if r := m.Recent(3); len(r) != 0 {
		t.Error(r)
	}
}

// Who follows a folder, or the account, is told when folders come and go, and when one is subscribed to; and not for ever after.
func TestFollowFolders(t *testing.T) {
	t.Parallel()
	for _, watched := range []bool{true, false} {
		b := newBox(t)
		var w *watch.Watcher
		if watched {
			var err error
			if w, err = watch.New(); errors.Is(err, errors.ErrUnsupported) {
				t.Log("no inotify and no kqueue on this system")
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
		}
		a := newAccount(t, b, w)
		a.Folders.Create("Sent")
		m, err := a.Open("Sent")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		var told [2]chan struct{}
		for i, follow := range []func(func()) func(){a.Follow, m.Follow} {
			c := make(chan struct{}, 1)
			told[i] = c
			defer follow(func() {
				select {
				case c <- struct{}{}:
				default:
				}
			})()
		}
		seen := int64(0)
		for a.FoldersChanged(&seen) {
			time.Sleep(time.Millisecond) // until a change would have another time
		}
		id := a.Identity(".Sent")
		for _, change := range []func() error{
			func() error { return a.Folders.Subscribe(t.Context(), "Sent", true) },
			func() error { return a.Folders.Create("Other") },
			func() error { return a.Folders.Rename("Sent", "Old") },
		} {
			for _, c := range told {
				select {
				case <-c:
				default:
				}
			}
			if err := change(); err != nil {
				t.Fatal(err)
			}
			for i, c := range told {
				select {
				case <-c:
				case <-time.After(20 * time.Second):
					t.Fatalf("%d was not told, watched %v", i, watched)
				}
			}
			if !a.FoldersChanged(&seen) {
				t.Error("nothing has changed")
			}
		}
		if !m.Gone() || id == 0 || a.Identity(".Old") != id || a.Identity(".Sent") != 0 {
			t.Errorf("gone %v, %d is %d", m.Gone(), id, a.Identity(".Old"))
		}
	}
}

// Of many folders that were looked at few stay open.
func TestAccountIdle(t *testing.T) {
	a := newAccount(t, newBox(t), nil)
	for i := range 3 * maxIdle {
		name := fmt.Sprintf("f%d", i)
		if err := a.Folders.Create(name); err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) > maxIdle {
		t.Errorf("%d are open", len(a.open))
	}
}

// The index may be elsewhere, in directories that nobody else could have made.
func TestIndexElsewhere(t *testing.T) {
	b := newBox(t)
	b.deliver("x\n")
	root := t.TempDir()
	all := NewAccounts(nil, Options{IndexDir: root, Report: func(err error) { t.Log(err) }})
	t.Cleanup(all.End)
	a, err := all.Open(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	a.Folders.Create("Sent")
	for _, name := range []string{"INBOX", "Sent"} {
		m, err := a.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	if l, _ := filepath.Glob(root + "/*/*/*/postamt.index"); len(l) != 2 {
		t.Error(l)
	}
	if l, _ := filepath.Glob(b.dir + "/postamt.*"); len(l) != 0 {
		t.Error(l)
	}
	for what, spoil := range map[string]func(dir string) error{
		"a link":           func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"others may write": func(dir string) error { os.Mkdir(dir, 0o700); return os.Chmod(dir, 0o777) },
		"a file":           func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		root := t.TempDir()
		if err := spoil(filepath.Join(root, strconv.Itoa(os.Geteuid()))); err != nil {
			t.Fatal(err)
		}
		if dir, err := indexDir(root, b.dir, ""); err == nil {
			t.Errorf("%s: %s", what, dir)
		}
	}
}
