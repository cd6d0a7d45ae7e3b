package mailbox

import (
	"os"

	"golang.org/x/sys/unix"
)

// isLocal tells whether a directory is on a file system whose times are of this host's clock. False when in doubt.
func isLocal(dir *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return false
	}
	switch int64(st.Type) & 0xffffffff { // the field is signed and 32 bits wide on some machines
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}
