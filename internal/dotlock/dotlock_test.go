package dotlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

func openDir(t testing.TB) *os.File {
	t.Helper()
	dir, err := durable.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func files(t testing.TB, dir *os.File) string {
	t.Helper()
	names, err := filepath.Glob(dir.Name() + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	return strings.Join(names, " ")
}

// forever is a time that no test lasts.
const forever = time.Hour

// deadPid is that of a process that has ended.
func deadPid(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Skip("true is not installed")
	}
	return cmd.Process.Pid
}

func TestOneAtATime(t *testing.T) {
	dir := openDir(t)
	if err := dir.Chmod(0o750); err != nil {
		t.Fatal(err)
	}
	const each, all = 25, 8
	var wg sync.WaitGroup
	for range all {
		wg.Go(func() {
			for range each {
				l, err := Acquire(t.Context(), dir, "n", Options{Stale: forever, Content: true})
				if err != nil {
					t.Error(err)
					return
				}
				p, _ := os.ReadFile(dir.Name() + "/n")
				n, _ := strconv.Atoi(string(p))
				if err := l.Replace([]byte(strconv.Itoa(n + 1))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	p, err := os.ReadFile(dir.Name() + "/n")
	if st, _ := os.Stat(dir.Name() + "/n"); string(p) != fmt.Sprint(each*all) || st.Mode() != 0o640 {
		t.Errorf("%s, %v, mode %v", p, err, st.Mode())
	}
	if got := files(t, dir); got != "n" {
		t.Errorf("files %s", got)
	}
}

func TestWhatIsBroken(t *testing.T) {
	host, _ := os.Hostname()
	for _, c := range []struct {
		name, content string
		stale         time.Duration
		broken        bool
	}{
		{"dead", fmt.Sprintf("%d:%s", deadPid(t), host), forever, true},
		{"dead, with a newline", fmt.Sprintf("%d:%s\n", deadPid(t), host), forever, true},
		{"alive", fmt.Sprintf("%d:%s", os.Getppid(), host), time.Nanosecond, false},
		{"alive, another user's", "1:" + host, time.Nanosecond, false},
		{"our own number, fresh", fmt.Sprintf("%d:%s", os.Getpid(), host), forever, false},
		{"our own number, old", fmt.Sprintf("%d:%s", os.Getpid(), host), time.Nanosecond, true},
		{"another host, fresh", fmt.Sprintf("%d:elsewhere", deadPid(t)), forever, false},
		{"another host, old", fmt.Sprintf("%d:elsewhere", os.Getppid()), time.Nanosecond, true},
		{"empty, fresh", "", forever, false},
		{"empty, old", "", time.Nanosecond, true},
		{"garbage, old", "\x00-1:" + host, time.Nanosecond, true},
		{"pid 0", "0:" + host, forever, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := openDir(t)
			if err := os.WriteFile(dir.Name()+"/f.lock", []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			o := Options{Stale: c.stale, Timeout: 50 * time.Millisecond}
			if c.broken {
				o.Timeout = time.Minute
			}
			l, err := Acquire(t.Context(), dir, "f", o)
			if c.broken != (err == nil) || err != nil && !errors.Is(err, ErrTimeout) {
				t.Fatalf("broken: %v, want %v; %v", err == nil, c.broken, err)
			}
			if c.broken {
				if p, _ := os.ReadFile(dir.Name() + "/f.lock"); string(p) != fmt.Sprintf("%d:%s", os.Getpid(), host) {
					t.Errorf("lock says %q", p)
				}
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
			if got := files(t, dir); got != "f.lock" && !c.broken || got != "" && c.broken {
				t.Errorf("files %q", got)
			}
		})
	}
}

// The protected file moves: its owner is alive, wherever it is.
func TestFileThatChangesKeepsItsLock(t *testing.T) {
	dir := openDir(t)
	os.WriteFile(dir.Name()+"/f.lock", nil, 0o600)
	future := time.Now().Add(forever)
	os.WriteFile(dir.Name()+"/f", nil, 0o600)
	os.Chtimes(dir.Name()+"/f", future, future)
	_, err := Acquire(t.Context(), dir, "f", Options{Stale: time.Nanosecond, Timeout: 20 * time.Millisecond})
	if !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

func TestTouchKeepsALock(t *testing.T) {
	dir := openDir(t)
	l, err := Acquire(t.Context(), dir, "f", Options{Stale: forever})
	if err != nil {
		t.Fatal(err)
	}
	var before, after unix.Stat_t
	past := time.Now().Add(-forever)
	os.Chtimes(dir.Name()+"/f.lock", past, past)
	unix.Stat(dir.Name()+"/f.lock", &before)
	if err := l.Touch(); err != nil {
		t.Fatal(err)
	}
	unix.Stat(dir.Name()+"/f.lock", &after)
	if after.Mtim.Sec <= before.Mtim.Sec {
		t.Error("not touched")
	}
}

// Two see the same dead lock. The slower one gets hold of the faster one's lock
// and gives it back.
func TestAFreshLockIsPutBack(t *testing.T) {
	host, _ := os.Hostname()
	dir := openDir(t)
	lock := dir.Name() + "/f.lock"
	os.WriteFile(lock, fmt.Appendf(nil, "%d:%s", deadPid(t), host), 0o600)
	swapped := false
	ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
		if op == durable.OpRename && !swapped {
			swapped = true
			os.Remove(lock)
			os.WriteFile(lock, fmt.Appendf(nil, "%d:%s", os.Getppid(), host), 0o600)
		}
		return nil
	}}
	_, err := Acquire(t.Context(), dir, "f", Options{Stale: forever, Timeout: 20 * time.Millisecond, Ops: ops})
	if !errors.Is(err, ErrTimeout) || !swapped {
		t.Errorf("%v, swapped %v", err, swapped)
	}
	if p, _ := os.ReadFile(lock); string(p) != fmt.Sprintf("%d:%s", os.Getppid(), host) || files(t, dir) != "f.lock" {
		t.Errorf("%q, files %s", p, files(t, dir))
	}
}

func TestOwnerHearsThatItsLockIsLost(t *testing.T) {
	dir := openDir(t)
	for _, replaced := range []bool{false, true} {
		l, err := Acquire(t.Context(), dir, "f", Options{Stale: forever, Content: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Held(); err != nil {
			t.Fatal(err)
		}
		os.Rename(dir.Name()+"/f.lock", dir.Name()+"/kept") // so that no new one has its inode
		if replaced {
			os.WriteFile(dir.Name()+"/f.lock", []byte("its"), 0o600)
		}
		for what, err := range map[string]error{"held": l.Held(), "touch": l.Touch(), "replace": l.Replace([]byte("x"))} {
			if !errors.Is(err, ErrLost) && !(what == "touch" && !replaced && errors.Is(err, unix.ENOENT)) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := os.Stat(dir.Name() + "/f"); err == nil {
			t.Error("the file was replaced")
		}
		if p, err := os.ReadFile(dir.Name() + "/f.lock"); replaced && string(p) != "its" {
			t.Errorf("the other's lock: %q, %v", p, err)
		}
		os.Remove(dir.Name() + "/f.lock")
		os.Remove(dir.Name() + "/kept")
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	dir := openDir(t)
	l, err := Acquire(t.Context(), dir, "f", Options{Stale: forever})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := Acquire(ctx, dir, "f", Options{Stale: forever})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Every step of taking, replacing and breaking fails once: the file has its old
// or its new content, and the next one is not kept out.
func TestEveryStepFails(t *testing.T) {
	host, _ := os.Hostname()
	pid := deadPid(t)
	for step := 0; ; step++ {
		dir := openDir(t)
		os.WriteFile(dir.Name()+"/f", []byte("old"), 0o600)
		os.WriteFile(dir.Name()+"/f.lock", fmt.Appendf(nil, "%d:%s", pid, host), 0o600)
		n := 0
		ops := &durable.Ops{Fault: func(durable.Op, string) error {
			n++
			if n == step+1 {
				return unix.EIO
			}
			return nil
		}}
		l, err := Acquire(t.Context(), dir, "f", Options{Stale: forever, Content: true, Ops: ops})
		if err == nil {
			err = l.Replace([]byte("new"))
		}
		p, _ := os.ReadFile(dir.Name() + "/f")
		if err == nil && string(p) != "new" || string(p) != "new" && string(p) != "old" {
			t.Errorf("step %d: %q, %v", step, p, err)
		}
		if n <= step {
			break
		}
		l, err = Acquire(t.Context(), dir, "f", Options{Stale: time.Nanosecond})
		if err != nil {
			t.Errorf("after step %d: %v", step, err)
			continue
		}
		l.Unlock()
	}
}
