//go:build linux && (amd64 || arm64)

package privilege

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock has holes that matter: it knows TCP and not the other ways to a network (a Multipath TCP socket binds and connects as it
// likes), nor programs in memory (memfd_create, then execveat), nor the rest of the kernel. A filter for system calls closes them.
// What it lists is what our programs never do; all else is allowed, so that a new Go or C library breaks nothing.

// never is what no sandbox allows: reading other processes, and the parts of the kernel that strangers break out through.
var never = [...]uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_OPEN_TREE,
	unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_IO_URING_SETUP, // it makes sockets, and opens files, behind the back of a filter
}

const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// struct seccomp_data, of which a word is loaded at a time; the machines here are little-endian.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
	sizeArg  = 8
)

// seccomp installs the filter, and no_new_privs with it, in all threads, with or without cgo, and says whether the kernel has it.
func (s Sandbox) seccomp() (bool, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("privilege: no_new_privs: %w", err)
	}
	f := s.filter()
	p := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	n, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(f)
	switch {
	case e == unix.ENOSYS || e == unix.EINVAL || e == unix.EPERM: // a kernel without it, or a filter that a supervisor has made
		return false, nil
	case e != 0:
		return false, fmt.Errorf("privilege: seccomp: %w", e)
	case n != 0:
		return false, errors.New("privilege: seccomp: a thread has a filter of its own")
	}
	return true, nil
}

// filter is the program, for struct seccomp_data (seccomp(2)).
func (s Sandbox) filter() []unix.SockFilter {
	var f []unix.SockFilter
	load := func(offset uint32) {
		f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
	}
	// when makes a block of instructions that are skipped unless the test of what was loaded holds.
	when := func(test uint16, k uint32, block func()) {
		at := len(f)
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k})
		block()
		f[at].Jf = uint8(len(f) - at - 1)
	}
	result := func(k uint32) func() {
		return func() { f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}) }
	}
	fail := func(e unix.Errno) func() { return result(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	allow := result(unix.SECCOMP_RET_ALLOW)

	load(dataArch)
	f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: machine, Jt: 1})
	fail(unix.EPERM)() // another machine's calls have other numbers
	load(dataNr)
	when(unix.BPF_JGE, otherABI, fail(unix.EPERM))
	for _, nr := range never {
		when(unix.BPF_JEQ, nr, fail(unix.EPERM))
	}
	when(unix.BPF_JEQ, unix.SYS_CLONE3, fail(unix.ENOSYS)) // its flags are in memory, where a filter cannot look; clone does the same
	when(unix.BPF_JEQ, unix.SYS_CLONE, func() {
		load(dataArgs)
		when(unix.BPF_JSET, namespaces, fail(unix.EPERM))
		allow()
	})
	if len(s.Exec) == 0 {
		when(unix.BPF_JEQ, unix.SYS_EXECVE, fail(unix.EACCES))
		when(unix.BPF_JEQ, unix.SYS_EXECVEAT, fail(unix.EACCES))
	}
	when(unix.BPF_JEQ, unix.SYS_SOCKET, func() {
		load(dataArgs)
		when(unix.BPF_JEQ, unix.AF_UNIX, allow)
		if s.Connect || s.Bind {
			for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
				when(unix.BPF_JEQ, family, func() {
					load(dataArgs + 2*sizeArg)
					for _, protocol := range []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
						when(unix.BPF_JEQ, protocol, allow)
					}
					fail(unix.EACCES)()
				})
			}
		}
		fail(unix.EACCES)()
	})
	allow()
	return f
}
