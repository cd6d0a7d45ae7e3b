package privilege

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Those of package syscall act on all threads.

func setGID(id int) error { return syscall.Setresgid(id, id, id) }
func setUID(id int) error { return syscall.Setresuid(id, id, id) }

// areIDs reports whether real, effective and saved ids all are these.
func areIDs(uid, gid int) bool {
	r, e, s := unix.Getresuid()
	rg, eg, sg := unix.Getresgid()
	return r == uid && e == uid && s == uid && rg == gid && eg == gid && sg == gid
}
