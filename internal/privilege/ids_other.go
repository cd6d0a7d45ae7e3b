//go:build !linux

package privilege

import (
	"os"

	"golang.org/x/sys/unix"
)

// As root these set the real, the effective and the saved id.

func setGID(id int) error { return unix.Setgid(id) }
func setUID(id int) error { return unix.Setuid(id) }

func areIDs(uid, gid int) bool {
	return os.Getuid() == uid && os.Geteuid() == uid && os.Getgid() == gid && os.Getegid() == gid
}
