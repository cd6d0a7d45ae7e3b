package crash

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/suite"
)

// readOnly changes a mounted directory. It is busy while somebody writes there, which has an end.
func readOnly(t *testing.T, dir string, ro bool) {
	t.Helper()
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
	if ro {
		flags |= unix.MS_RDONLY
	}
	var err error
	if e := suite.Await(patience, "a moment without writers", func() bool {
		err = unix.Mount("", dir, "", flags, "")
		return err != unix.EBUSY
	}); e != nil || err != nil {
		t.Fatalf("%s: %v, %v", dir, e, err)
	}
}

// bind mounts a directory on itself, so that it alone can be made read-only.
func bind(t *testing.T, dir string) {
	t.Helper()
	needRoot(t)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s: %v", dir, err)
	}
	d := &disk{mount: dir}
	t.Cleanup(func() { d.detach(t) })
}

// TestF05_ReadOnly: the file systems become read-only while all runs, first that of the mailboxes, then that of the queue,
// and writable again in the same order. What was accepted waits, new mail is put off, nothing is returned, what was
// stored while the queue could not record it is not stored again, and nobody has to help.
func TestF05_ReadOnly(t *testing.T) {
	needRoot(t)
	s, err := suite.New(suite.Config{Users: users, Aliases: aliases, Settings: quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	home := filepath.Join(s.Dir, "home")
	// The lock of the queue is open for writing as long as queued runs, so it stays outside of what becomes read-only.
	messages, attempts := filepath.Join(s.Queue, "active"), filepath.Join(s.Queue, "log")
	if err := errors.Join(s.Run(), s.End()); err != nil { // which makes the directories
		t.Fatal(err)
	}
	for _, dir := range []string{home, messages, attempts} {
		bind(t, dir)
	}
	t.Cleanup(func() {
		s.End()
		if t.Failed() {
			for _, name := range suite.Programs {
				log := s.Log(name)
				t.Logf("log of %s:\n%s", name, log[max(0, len(log)-4<<10):])
			}
		}
	})
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	pids := s.Pids()
	l := &load{t: t, addr: s.Addr, from: "sender@example.test", seed: chance(t), targets: targets()[:5]}
	send := func(n int, want fate) {
		t.Helper()
		before := l.count(want)
		l.most = int(l.next.Load()) + n
		l.start(2)
		l.wait(false)
		if got := l.count(want) - before; got != n {
			t.Errorf("of %d messages %d met fate %d, which is not that of all", n, got, want)
		}
	}
	send(20, acknowledged)
	if err := s.AwaitEmpty(patience); err != nil {
		t.Fatal(err)
	}

	readOnly(t, home, true)
	stored := s.Delivered("bob")
	send(20, acknowledged)
	if err := suite.Await(patience, "attempts that were deferred", func() bool {
		return strings.Count(s.Log("queued"), ": deferred ") >= 20
	}); err != nil {
		t.Error(err)
	}
	if n := len(s.Delivered("bob")); n != len(stored) {
		t.Errorf("%d messages more in a mailbox that cannot be written", n-len(stored))
	}

	readOnly(t, messages, true)
	readOnly(t, attempts, true)
	send(20, refused)
	l.mu.Lock()
	for i := range l.sent {
		if m := &l.sent[i]; m.fate == refused && !strings.HasPrefix(m.reply, "451 4.3.0 ") {
			t.Errorf("%s: refused with %q", m.id(), m.reply)
		}
	}
	l.mu.Unlock()

	// Mail can be stored, and the queue cannot be told.
	readOnly(t, home, false)
	if _, err := s.AwaitDelivered("bob", len(stored)+1, patience); err != nil {
		t.Error(err)
	}

	readOnly(t, messages, false)
	readOnly(t, attempts, false)
	start := time.Now()
	if err := s.AwaitEmpty(patience); err != nil {
		t.Fatal(err)
	}
	t.Logf("empty %v after all could be written again", time.Since(start).Round(time.Millisecond))
	send(20, acknowledged)
	if err := s.AwaitEmpty(patience); err != nil {
		t.Fatal(err)
	}
	for i, pid := range s.Pids() {
		if pid != pids[i] {
			t.Errorf("%s is another process", suite.Programs[i])
		}
	}
	if err := s.End(); err != nil {
		t.Error(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	queueEmpty(t, s)
	tempFiles(t, s, time.Time{})
	l.verify(s)
}
