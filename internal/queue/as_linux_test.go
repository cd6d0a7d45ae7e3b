package queue

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// as runs f with another user's rights, on a thread that is thrown away.
func as(t *testing.T, uid, gid int, f func(), groups ...int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		raw := func(trap uintptr, a ...uintptr) {
			for len(a) < 3 {
				a = append(a, 0)
			}
			if _, _, err := unix.RawSyscall(trap, a[0], a[1], a[2]); err != 0 {
				t.Error("become another user:", err)
			}
		}
		gids := make([]uint32, len(groups)+1)
		gids[0] = uint32(gid)
		for i, g := range groups {
			gids[i+1] = uint32(g)
		}
		raw(unix.SYS_SETGROUPS, uintptr(len(gids)), pointer(gids))
		raw(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
		raw(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		f()
	}()
	<-done
}
