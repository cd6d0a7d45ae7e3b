package privilege

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allThreads makes a system call in every thread. false: this program has cgo, and it cannot be done.
func allThreads(trap, a, b, c uintptr) (bool, error) {
	_, _, e := syscall.AllThreadsSyscall6(trap, a, b, c, 0, 0, 0)
	switch e {
	case 0:
		return true, nil
	case unix.ENOTSUP:
		return false, nil
	}
	return false, e
}

// NoNew sets no_new_privs (prctl(2)): nothing that is executed from now on gains privileges by set-id bits or file capabilities.
func NoNew() error {
	if _, err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("privilege: no_new_privs: %w", err)
	}
	return nil
}

// Undumpable keeps other processes of our uid from reading our memory and tracing us; it ends with the next exec.
func Undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("privilege: undumpable: %w", err)
	}
	return nil
}

// What Landlock can deny, by the version of its ABI in which it came (landlock(7)).
const (
	fileRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	fileWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	dirRead   = fileRead | unix.LANDLOCK_ACCESS_FS_READ_DIR
	dirWrite  = dirRead | fileWrite | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REFER
	anyWrite = dirWrite | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	execute = unix.LANDLOCK_ACCESS_FS_EXECUTE

	fsABI1       = 1<<13 - 1
	fsABI2       = unix.LANDLOCK_ACCESS_FS_REFER
	fsABI3       = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	netABI4      = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	fsABI5       = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	scopeABI6    = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	fsABI9       = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	onFiles      = fileRead | fileWrite | execute | fsABI5 | fsABI9
	errataSignal = 1 << 1 // before it, threads of one process could not signal each other, which the Go runtime does
)

// Enter restricts the process for good, and says by what: "landlock 7, seccomp", one of them, or "none" where the kernel has or allows
// neither. NoNew must have been called.
func (s Sandbox) Enter() (string, error) {
	by := make([]string, 0, 2)
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e == 0 { // else ENOSYS, EOPNOTSUPP; EPERM by a filter
		switch err := s.enter(int(abi)); {
		case err == nil:
			by = append(by, fmt.Sprintf("landlock %d", abi))
		case !errors.Is(err, errNotAll):
			return "none", fmt.Errorf("privilege: landlock %d: %w", abi, err)
		}
	}
	switch ok, err := s.seccomp(); {
	case err != nil:
		return "none", err
	case ok:
		by = append(by, "seccomp")
	}
	if len(by) == 0 {
		return "none", nil
	}
	return strings.Join(by, ", "), nil
}

var errNotAll = errors.New("not for all threads")

func (s Sandbox) enter(abi int) error {
	attr, size := s.ruleset(abi)
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return e
	}
	defer unix.Close(int(fd))
	write := uint64(dirWrite)
	if s.Any {
		write = anyWrite
	}
	for _, r := range []struct {
		paths  []string
		access uint64
	}{{s.Read, dirRead}, {s.Write, write}, {s.Exec, dirRead | execute}, {s.Sockets, fsABI9}} {
		for _, p := range r.paths {
			if err := allow(int(fd), p, r.access&attr.Handled_access_fs); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	ok, err := allThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if err == nil && !ok {
		err = errNotAll
	}
	return err
}

// ruleset is what is denied unless a rule allows it.
func (s Sandbox) ruleset(abi int) (attr unix.LandlockRulesetAttr, size uintptr) {
	size = 8
	attr.Handled_access_fs = fsABI1
	if abi >= 2 {
		attr.Handled_access_fs |= fsABI2
	}
	if abi >= 3 {
		attr.Handled_access_fs |= fsABI3
	}
	if abi >= 4 {
		size = 16
		attr.Handled_access_net = netABI4
		if s.Connect {
			attr.Handled_access_net &^= unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
		if s.Bind {
			attr.Handled_access_net &^= unix.LANDLOCK_ACCESS_NET_BIND_TCP
		}
	}
	if abi >= 5 {
		attr.Handled_access_fs |= fsABI5
	}
	if abi >= 6 {
		size = 24
		attr.Scoped = scopeABI6
		errata, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
		if e != 0 || errata&errataSignal == 0 {
			attr.Scoped &^= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	if abi >= 9 {
		attr.Handled_access_fs |= fsABI9
	}
	return attr, size
}

// allow adds a rule.
func allow(ruleset int, path string, access uint64) error {
	if access == 0 {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.EACCES {
		return nil // what we cannot reach needs no permission
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= onFiles
	}
	if access == 0 {
		return nil
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if e != 0 {
		return e
	}
	return nil
}
