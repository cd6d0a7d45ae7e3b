package maildir

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// What the modes of the directories do not let a process do is no right of its user.
func TestRightsByMode(t *testing.T) {
	r, path := newRoot(t)
	if err := r.Create("a"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		modes map[string]os.FileMode
		want  string
	}{
		{nil, "lrwstipekxa"},
		{map[string]os.FileMode{".a": 0o555}, "lrpkx"},
		{map[string]os.FileMode{".a/cur": 0o555}, "lrpkxa"},
		{map[string]os.FileMode{".a/new": 0o555}, "lrpkxa"},
		{map[string]os.FileMode{".a/cur": 0o333}, "lwstipekxa"},
		{map[string]os.FileMode{".": 0o555}, "lrwstipea"},
	} {
		for _, d := range []string{".", ".a", ".a/cur", ".a/new", ".a/tmp"} {
			mode := os.FileMode(0o777)
			if m, ok := c.modes[d]; ok {
				mode = m
			}
			if err := os.Chmod(path+"/"+d, mode); err != nil {
				t.Fatal(err)
			}
		}
		type result struct {
			rights Rights
			err    error
		}
		done := make(chan result)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and root's rights are not missed
			if os.Geteuid() == 0 {
				syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534)
			}
			rights, err := r.Rights("a", "alice")
			done <- result{rights, err}
		}()
		if got := <-done; got.err != nil || got.rights.String() != c.want {
			t.Errorf("%v: %s, %v", c.modes, got.rights, got.err)
		}
	}
	if err := os.Chmod(path+"/.a/cur", 0o700); err != nil {
		t.Fatal(err)
	}
}
