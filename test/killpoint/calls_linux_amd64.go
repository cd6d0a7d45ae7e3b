package killpoint

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

var path1 = file{-1, 1}

// ownShapes are the older calls. Go programs use few of them; their children may use any.
var ownShapes = map[uint32]syscallShape{
	unix.SYS_NEWFSTATAT: {"newfstatat", look, at01, none, 0},
	unix.SYS_OPEN:       {"open", open, path0, none, 1},
	unix.SYS_CREAT:      {"creat", change, path0, none, 0},
	unix.SYS_RENAME:     {"rename", change, path0, path1, 0},
	unix.SYS_LINK:       {"link", change, path0, path1, 0},
	unix.SYS_SYMLINK:    {"symlink", change, path1, none, 0},
	unix.SYS_UNLINK:     {"unlink", change, path0, none, 0},
	unix.SYS_MKDIR:      {"mkdir", change, path0, none, 0},
	unix.SYS_RMDIR:      {"rmdir", change, path0, none, 0},
	unix.SYS_MKNOD:      {"mknod", change, path0, none, 0},
	unix.SYS_CHMOD:      {"chmod", change, path0, none, 0},
	unix.SYS_CHOWN:      {"chown", change, path0, none, 0},
	unix.SYS_UTIME:      {"utime", change, path0, none, 0},
	unix.SYS_UTIMES:     {"utimes", change, path0, none, 0},
	unix.SYS_STAT:       {"stat", look, path0, none, 0},
	unix.SYS_LSTAT:      {"lstat", look, path0, none, 0},
	unix.SYS_ACCESS:     {"access", look, path0, none, 0},
	unix.SYS_READLINK:   {"readlink", look, path0, none, 0},
}
