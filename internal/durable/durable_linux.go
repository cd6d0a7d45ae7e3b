package durable

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const oPath = unix.O_PATH

func renameNoReplace(srcDir int, src string, dstDir int, dst string) error {
	return unix.Renameat2(srcDir, src, dstDir, dst, unix.RENAME_NOREPLACE)
}

func datasync(f *os.File) error {
	err := again(func() error { return unix.Fdatasync(int(f.Fd())) })
	runtime.KeepAlive(f)
	return pathError("sync", f.Name(), err)
}

func syncfs(f *os.File) error {
	if !syncfsReports() {
		return errors.ErrUnsupported
	}
	err := unix.Syncfs(int(f.Fd()))
	runtime.KeepAlive(f)
	return err
}

// syncfsReports tells whether syncfs returns the errors of the writes it waited
// for: since Linux 5.8. Asked anew each time; it is nothing beside the sync.
func syncfsReports() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(u.Release[:]), 5, 8)
}

// atLeast compares the first two numbers of a kernel release such as 6.1.0-13.
func atLeast(release string, major, minor int) bool {
	var v [2]int
	i := 0
	for _, c := range []byte(release) {
		switch {
		case c >= '0' && c <= '9' && v[i] < 1<<20:
			v[i] = v[i]*10 + int(c-'0')
			continue
		case c == '.' && i == 0:
			i = 1
			continue
		}
		break
	}
	return v[0] > major || v[0] == major && v[1] >= minor
}

// KeepsNames tells whether the file system that f is on is one of those (ext4,
// XFS, btrfs) that make the name of a new file permanent together with its
// content, so that Sync needs no SyncDir after it. It is false when in doubt.
func KeepsNames(f *os.File) bool {
	var st unix.Statfs_t
	err := again(func() error { return unix.Fstatfs(int(f.Fd()), &st) })
	runtime.KeepAlive(f)
	if err != nil {
		return false
	}
	switch int64(st.Type) & 0xffffffff { // the field is signed and 32 bits wide on some machines
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return true
	}
	return false
}
