package watch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/privilege"
)

// What is given away is gone for the whole process: the tests do it in a child, which is this binary.
func TestMain(m *testing.M) {
	if what := os.Getenv("WATCH_CHILD"); what != "" {
		if err := children[what](os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var children = map[string]func(dir string) error{
	"proc":   func(d string) error { return confined(d, "hidepid=invisible,subset=pid") }, // ProtectProc, ProcSubset
	"none":   func(d string) error { return confined(d, "") },
	"limits": limited,
}

func child(t *testing.T, what string, attr *syscall.SysProcAttr) {
	t.Helper()
	dir, err := os.MkdirTemp("", "watch") // below /tmp, or the account could not reach it by name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o777)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, dir)
	c.Env = append(os.Environ(), "WATCH_CHILD="+what)
	c.SysProcAttr = attr
	out, err := c.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skip("no namespaces here: ", err)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", what, err, out)
	}
}

// A worker of pop3d or imapd watches: with the account, the rules and the filter that it has, and /proc as in the service units or without it. It is
// undumpable, which would make its /proc/self root's.
func TestSandbox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, what := range []string{"proc", "none"} {
		child(t, what, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
	}
}

func confined(path, proc string) error {
	if proc != "" {
		if err := unix.Mount("proc", "/proc", "proc", 0, proc); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	} else if err := unix.Mount("none", "/proc", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := privilege.Drop(privilege.Account{UID: 64321, GID: 64321}); err != nil {
		return err
	}
	if err := errors.Join(privilege.Undumpable(), privilege.NoNew()); err != nil {
		return err
	}
	if _, err := (privilege.Sandbox{Write: []string{"/"}}).Enter(); err != nil {
		return err
	}
	w, err := New()
	if err != nil {
		return err
	}
	defer w.Close()
	b := newBell()
	path = filepath.Join(path, "cur")
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat("/proc/self"); (err == nil) != (proc != "") {
		return fmt.Errorf("/proc is not as it should be: %v", err)
	}
	if _, err := w.Add(dir, b.ring); err != nil {
		return err
	}
	if err := touch(path + "/f")(); err != nil {
		return err
	}
	select {
	case <-b.rung:
	case <-time.After(patience):
		return errors.New("no call")
	}
	if proc != "" {
		return nil
	}
	// A name that leads elsewhere by now is not what is open.
	if err := errors.Join(os.Rename(path, path+"2"), os.Mkdir(path, 0o700)); err != nil {
		return err
	}
	if _, err := w.Add(dir, b.ring); !errors.Is(err, unix.ESTALE) {
		return fmt.Errorf("a name that leads elsewhere: %v", err)
	}
	return nil
}

// What the kernel limits is an error that says which limit, and what was watched before stays so.
func TestLimits(t *testing.T) {
	child(t, "limits", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}})
}

func limited(path string) error {
	for name, n := range map[string]string{"instances": "1", "watches": "2"} {
		if err := os.WriteFile("/proc/sys/user/max_inotify_"+name, []byte(n), 0); err != nil {
			return err
		}
	}
	w, err := New()
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := New(); err == nil || !strings.Contains(err.Error(), "max_user_instances") {
		return fmt.Errorf("a second instance: %v", err)
	}
	b := newBell()
	for i := range 4 {
		dir := filepath.Join(path, strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if _, err := w.Add(d, b.ring); (err != nil) != (i >= 2) || err != nil && !strings.Contains(err.Error(), "max_user_watches") {
			return fmt.Errorf("watch %d: %v", i, err)
		}
	}
	if err := touch(path + "/0/f")(); err != nil {
		return err
	}
	select {
	case <-b.rung:
		return nil
	case <-time.After(patience):
		return errors.New("no call")
	}
}

// When the kernel's queue has overflowed everybody is called, also those whose event was lost.
func TestOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	limit, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || limit > 1<<17 {
		t.Skip("a long queue: ", limit, err)
	}
	base := t.TempDir()
	for _, name := range []string{"/a", "/b", "/stop"} {
		os.Mkdir(base+name, 0o700)
	}
	names := [2]string{base + "/a/0", base + "/a/1"}
	touch(names[0])()
	w := newWatcher(t)
	stopped, proceed := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { // as it must not be
		close(stopped)
		<-proceed
	})
	if _, err := w.Add(openDir(t, base+"/stop"), once); err != nil {
		t.Fatal(err)
	}
	_, a := add(t, w, openDir(t, base+"/a"))
	_, b := add(t, w, openDir(t, base+"/b"))
	touch(base + "/stop/f")()
	<-stopped
	for i := range limit/2 + 1 { // each is two events, of which none is like the one before
		if err := os.Rename(names[i&1], names[1-i&1]); err != nil {
			t.Fatal(err)
		}
	}
	touch(base + "/b/f")()
	if a.calls.Load()+b.calls.Load() != 0 {
		t.Fatal("called by another goroutine")
	}
	close(proceed)
	a.until(t, "the one that changed", func() bool { return a.calls.Load() > 0 })
	b.until(t, "the one whose event was lost", func() bool { return b.calls.Load() > 0 })
	quiet(t, w)
	b.next(t, "after the overflow", touch(base+"/b/g"))
}

// The kernel keeps one watch for a directory, as long as somebody watches it.
func TestKernel(t *testing.T) {
	path := t.TempDir()
	w := newWatcher(t)
	kept := func(step string, want int) {
		t.Helper()
		var text []byte
		var err error
		w.source.conn.Control(func(fd uintptr) { text, err = os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd)) })
		if err != nil {
			t.Skip(err)
		}
		if n := bytes.Count(text, []byte("inotify wd:")); n != want {
			t.Errorf("%s: %d, want %d", step, n, want)
		}
	}
	c1, _ := add(t, w, openDir(t, path))
	c2, _ := add(t, w, openDir(t, path))
	kept("twice", 1)
	c1.Close()
	c1.Close()
	kept("one closed", 1)
	c2.Close()
	kept("both closed", 0)
	c3, b := add(t, w, openDir(t, path))
	b.next(t, "again", touch(path+"/f"))
	c3.Close()
	kept("again, and closed", 0)
}

// BenchmarkStorm is the processor time of renames one after the other in one directory, each two events, with and without somebody who watches it.
func BenchmarkStorm(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprint("watched=", watched), func(b *testing.B) {
			path := b.TempDir()
			bell := newBell()
			if watched {
				_, bell = add(b, newWatcher(b), openDir(b, path))
			}
			touch(path + "/0")()
			var before, after unix.Rusage
			unix.Getrusage(unix.RUSAGE_SELF, &before)
			n := 0
			for b.Loop() {
				if err := os.Rename(fmt.Sprint(path, "/", n&1), fmt.Sprint(path, "/", 1-n&1)); err != nil {
					b.Fatal(err)
				}
				n++
			}
			unix.Getrusage(unix.RUSAGE_SELF, &after)
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/1000/float64(n), "cpu-us/op")
			b.ReportMetric(float64(bell.calls.Load())/b.Elapsed().Seconds(), "calls/s")
		})
	}
}
