package queue

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// queued does not own smtpd's files: it can mark and remove them, adopt them
// after a crash, and remember when to try again. Run as root with two other
// users, one of which has the group only.
func TestOtherUsersFiles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	const owner, writer, group = 23001, 23002, 23003
	dir := t.TempDir()
	// TempDir's parents are closed to others: the queue is used through descriptors
	// that root opened, names are relative to them.
	if err := os.Chown(dir, owner, group); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o710); err != nil {
		t.Fatal(err)
	}
	q := openTest(t, dir, Options{})
	if st, err := os.Stat(dir + "/active/k"); err != nil || st.Sys().(*syscall.Stat_t).Uid != owner || st.Sys().(*syscall.Stat_t).Gid != group {
		t.Fatal("directories made by root are not the owner's:", err)
	}

	accepted, left := envelope("a@example.com", "b@example.com"), envelope()
	half := envelope()
	as(t, writer, group, func() {
		put(t, q, accepted, "text")
		put(t, q, left, "text")
		f, err := durable.Create(q.dir, half.ID.path(), writingMode)
		if err != nil {
			t.Error(err)
			return
		}
		f.Close()
		d, err := durable.OpenDirAt(q.dir, "active/0")
		if err == nil {
			if names, err := d.Readdirnames(-1); err == nil {
				t.Error("smtpd can list the queue:", names)
			}
			d.Close()
		}
		// And strictly, without being able to sync the directory it may not list.
		q.strict = true
		e := envelope()
		put(t, q, e, "text")
		q.strict = false
		os.Remove(dir + "/" + e.ID.path())
		m, err := q.Message(e.ID)
		if err == nil {
			m.Remove(nil)
			m.Close()
		}
	})
	for _, e := range []*Envelope{accepted, left} {
		st, err := os.Stat(filepath.Join(dir, e.ID.path()))
		if err != nil || st.Mode() != liveMode || st.Sys().(*syscall.Stat_t).Gid != group || st.Sys().(*syscall.Stat_t).Uid != writer {
			t.Fatal(st.Mode(), st.Sys(), err)
		}
	}
	// Power cut: the mode was not synced.
	if err := os.Chmod(filepath.Join(dir, left.ID.path()), writingMode); err != nil {
		t.Fatal(err)
	}
	next := time.Now().Add(time.Hour).Truncate(time.Second)
	as(t, owner, owner, func() {
		if ok, err := q.Recover(half.ID); ok || err != nil {
			t.Error("half:", ok, err)
		}
	}, group)
	as(t, owner, owner, func() {
		for _, id := range []ID{accepted.ID, left.ID} {
			if ok, err := q.Recover(id); !ok || err != nil {
				t.Error("left:", ok, err)
			}
			m, err := q.Message(id)
			if err != nil {
				t.Error(err)
				continue
			}
			if text(t, m) != "text" {
				t.Error("text")
			}
			if err := m.Mark(map[int]byte{0: Done}, true); err != nil {
				t.Error(err)
			}
			if err := m.Defer(next); err != nil {
				t.Error(err)
			}
			if err := q.AppendLog(id, Note{Time: time.Now(), Event: "deferred"}); err != nil {
				t.Error(err)
			}
			m.Close()
			if m, err = q.Message(id); err != nil || !m.Next.Equal(next) || m.Envelope.Rcpts[0].State != Done {
				t.Errorf("%+v %v", m, err)
			} else {
				m.Close()
			}
		}
		if got := scan(t, q); len(got) != 2 || !got[accepted.ID].Next.Equal(next) || !got[left.ID].Next.Equal(next) {
			t.Errorf("%+v", got)
		}
		if err := q.Hold(accepted.ID); err != nil {
			t.Error(err)
		}
		if err := q.Release(accepted.ID); err != nil {
			t.Error(err)
		}
		for _, id := range []ID{accepted.ID, left.ID} {
			m, err := q.Message(id)
			if err != nil {
				t.Error(err)
				continue
			}
			if err := m.Remove(nil); err != nil {
				t.Error(err)
			}
			m.Close()
		}
	}, group)
}

// as runs f with another user's rights, on a thread that is thrown away.
func as(t *testing.T, uid, gid int, f func(), groups ...int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		gids := []uint32{uint32(gid)}
		for _, g := range groups {
			gids = append(gids, uint32(g))
		}
		_, _, e1 := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(gids)), uintptr(unsafe.Pointer(&gids[0])), 0)
		_, _, e2 := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
		_, _, e3 := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		if e1 != 0 || e2 != 0 || e3 != 0 {
			t.Error("become another user:", e1, e2, e3)
			return
		}
		f()
	}()
	<-done
}

// makeDevice makes a device that reads as empty.
func makeDevice(path string) error {
	return unix.Mknod(path, unix.S_IFCHR|0o660, int(unix.Mkdev(1, 3)))
}
