package mailbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postamt/internal/maildir"
	"postamt/internal/watch"
)

// The ids of two users, and of a group of theirs.
const (
	firstID, secondID = 45001, 45002
	team              = 45100
)

// as runs f as a user who is in the team, as far as the kernel is concerned: it knows the ids of threads.
func as(t *testing.T, id uintptr, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	call := func(number, a, b, c uintptr) {
		if _, _, err := syscall.RawSyscall(number, a, b, c); err != 0 {
			panic(err) // the thread is nobody's any more
		}
	}
	groups := [1]uint32{team}
	call(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups)), 0)
	call(unix.SYS_SETRESGID, id, id, 0)
	call(unix.SYS_SETRESUID, id, id, 0)
	defer func() {
		call(unix.SYS_SETRESUID, 0, 0, 0)
		call(unix.SYS_SETRESGID, 0, 0, 0)
		call(unix.SYS_SETGROUPS, 0, 0, 0)
	}()
	f()
}

// member is a user's process, as good as.
type member struct {
	t  *testing.T
	id uintptr
	n  *Namespaces
}

func newMember(t *testing.T, id uintptr, shared string) (m *member) {
	home := t.TempDir()
	for _, dir := range []string{home, filepath.Dir(home)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, int(id), int(id)); err != nil {
		t.Fatal(err)
	}
	as(t, id, func() {
		w, err := watch.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		all := NewAccounts(w, Options{Report: func(err error) { t.Error(id, err) }, Describe: new(reader).describe, Form: 1})
		t.Cleanup(all.End)
		a, err := all.Open(home + "/Maildir")
		if err != nil {
			t.Fatal(err)
		}
		n, err := a.Namespaces("x", shared)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		m = &member{t, id, n}
	})
	return m
}

// do runs f with a mailbox, synced.
func (m *member) do(name string, f func(b *Mailbox)) {
	m.t.Helper()
	as(m.t, m.id, func() {
		p, err := m.n.At(name)
		if err != nil {
			m.t.Fatal(err)
		}
		b, err := p.Open()
		if err == nil {
			defer b.Close()
			err = b.Sync()
		}
		if err != nil {
			m.t.Fatalf("%d: %s: %v", m.id, name, err)
		}
		f(b)
	})
}

func (m *member) append(b *Mailbox, f Flags, keywords ...string) uint32 {
	m.t.Helper()
	uid, err := b.Append(m.t.Context(), strings.NewReader("Subject: x\n\nx\n"), f, keywords, time.Time{})
	if err != nil {
		m.t.Fatal(err)
	}
	return uid
}

// teamMaildir is a shared maildir with that mode, which belongs to the first user and the team.
func teamMaildir(t *testing.T, mode os.FileMode) (shared, path string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	shared = sharedDir(t, map[string]string{"sales": "anyone lrwstipekxa\n"})
	for _, dir := range []string{shared, filepath.Dir(shared), filepath.Dir(filepath.Dir(shared))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path = shared + "/sales"
	for _, name := range []string{"dovecot-acl", "cur", "new", "tmp", "."} {
		m := mode
		if name == "dovecot-acl" {
			m = mode & 0o664
		}
		if err := errors.Join(os.Chown(path+"/"+name, firstID, team), os.Chmod(path+"/"+name, m)); err != nil {
			t.Fatal(err)
		}
	}
	return shared, path
}

// Two users of a group have one maildir: what one makes the other may change.
func TestTeam(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	shared, path := teamMaildir(t, 0o770|fs.ModeSetgid)
	if err := os.WriteFile(path+"/maildirsize", []byte("100000S\nnone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(path+"/maildirsize", firstID, team), os.Chmod(path+"/maildirsize", 0o660)); err != nil {
		t.Fatal(err)
	}
	one, two := newMember(t, firstID, shared), newMember(t, secondID, shared)
	one.do("Shared.sales", func(b *Mailbox) { one.append(b, Flagged, "work") })
	two.do("Shared.sales", func(b *Mailbox) {
		if got := b.UIDs(); !slices.Equal(got, []uint32{1}) {
			t.Fatalf("the second sees %v", got)
		}
		two.append(b, 0, "play")
		if _, err := b.SetFlags(0, []uint32{1}, Add, Seen, []string{"play"}); err != nil {
			t.Error(err)
		}
		if used, _, err := b.account.Usage(); err != nil || used.Messages != 2 {
			t.Error("usage", used, err)
		}
	})
	one.do("Shared.sales", func(b *Mailbox) {
		if m, ok := b.Message(1); !ok || m.Flags != Flagged|Seen || m.Keywords != 3 {
			t.Errorf("%+v", m)
		}
		if _, err := b.Expunge(0, []uint32{2}); err != nil {
			t.Error(err)
		}
	})
	as(t, secondID, func() {
		p, _ := two.n.At("Shared.sales.2026")
		if err := errors.Join(p.Folders.Create("2026"), p.Folders.InheritACL(t.Context(), maildir.Inbox, "2026")); err != nil {
			t.Fatal(err)
		}
	})
	// From one's own to the shared one and back: neither is the other's file.
	two.do("INBOX", func(own *Mailbox) {
		two.append(own, Seen)
		p, _ := two.n.At("Shared.sales.2026")
		to, err := p.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if _, err := own.Copy(t.Context(), 0, []uint32{1}, to); err != nil {
			t.Error(err)
		}
		if _, err := own.Move(t.Context(), 0, []uint32{1}, to); err != nil {
			t.Error(err)
		}
		if back, err := to.Copy(t.Context(), 0, []uint32{1}, own); err != nil || len(back) != 1 {
			t.Error(back, err)
		}
	})
	one.do("Shared.sales.2026", func(b *Mailbox) {
		if got := b.UIDs(); !slices.Equal(got, []uint32{1, 2}) {
			t.Errorf("in the folder %v", got)
		}
		for _, uid := range b.UIDs() {
			if f, err := b.File(uid); err != nil {
				t.Error(err)
			} else {
				f.Close()
			}
		}
	})
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		info, ierr := d.Info()
		if err != nil || ierr != nil {
			t.Fatal(err, ierr)
		}
		want := fs.FileMode(0o660)
		if d.IsDir() {
			want = 0o770 | fs.ModeSetgid | fs.ModeDir
		}
		if strings.HasPrefix(d.Name(), "dovecot-uidvalidity.") {
			return nil // a name and nothing in it
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Gid != team || info.Mode() != want || st.Nlink > 1 && !d.IsDir() {
			t.Errorf("%s: %v, group %d, %d links", p, info.Mode(), st.Gid, st.Nlink)
		}
		return nil
	})
}

// Who may only read writes nothing, and sees what has a UID.
func TestReader(t *testing.T) {
	shared, path := teamMaildir(t, 0o750|fs.ModeSetgid)
	one, two := newMember(t, firstID, shared), newMember(t, secondID, shared)
	as(t, secondID, func() {
		p, err := two.n.At("Shared.sales")
		if err != nil {
			t.Fatal(err)
		}
		if r, err := p.Rights(); err != nil || r.String() != "lrp" {
			t.Error(r, err)
		}
		if _, err := p.Open(); !errors.Is(err, fs.ErrPermission) { // there are no UIDs yet
			t.Error(err)
		}
	})
	one.do("Shared.sales", func(b *Mailbox) { one.append(b, Seen) })
	late := path + "/new/1.x"
	if err := errors.Join(os.WriteFile(late, []byte("Subject: x\n\n"), 0o640), os.Chown(late, firstID, team)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, path, "")
	sees := func(want ...uint32) {
		t.Helper()
		two.do("Shared.sales", func(b *Mailbox) {
			if got := b.UIDs(); !slices.Equal(got, want) {
				t.Errorf("he sees %v, want %v", got, want)
			}
			if _, said := factsOf(t, b, want); len(said) != len(want) {
				t.Errorf("he is told of %v", said)
			}
			if _, err := b.Append(t.Context(), strings.NewReader("x\n"), 0, nil, time.Time{}); !errors.Is(err, fs.ErrPermission) {
				t.Error(err)
			}
		})
	}
	sees(1)
	sees(1)
	if after := tree(t, path, ""); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
	told := make(chan struct{}, 1)
	two.do("Shared.sales", func(b *Mailbox) {
		stop := b.Follow(func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
		t.Cleanup(stop)
	})
	one.do("Shared.sales", func(*Mailbox) {})
	for n := 1; n < 2; { // sooner than he would look by himself
		select {
		case <-told:
		case <-time.After(poll / 2):
			t.Fatal("he is not told of a UID")
		}
		two.do("Shared.sales", func(b *Mailbox) { n = len(b.UIDs()) })
	}
	sees(1, 2)
}
