//go:build linux && (amd64 || arm64)

package killpoint

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launchEnv holds, in the process between us and the program, the descriptor of the socket that the listener goes through.
const launchEnv = "KILLPOINT_LAUNCH"

// filterFlags: a call that waits for our answer is not interrupted by Go's own signals; it would be made, and counted, again.
const filterFlags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

// available asks the kernel for the filter without a filter: it knows the flags if it misses the program.
func available() error {
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filterFlags, 0)
	if err == unix.EFAULT {
		return nil
	}
	return err
}

// launch starts this binary in place of the command's program, which it becomes, and takes the listener from it.
func (r *Run) launch(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	// execve comes too late to tell us.
	if err := unix.Access(cmd.Path, unix.X_OK); err != nil {
		return &os.PathError{Op: "exec", Path: cmd.Path, Err: err}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args...)
	cmd.Path = self
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%d", launchEnv, 3+len(cmd.ExtraFiles)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	r.main = cmd.Process.Pid
	if r.listener, err = receive(pair[0]); err == nil {
		r.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	runtime.KeepAlive(ours)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return err
}

// again repeats a system call that one of Go's own signals interrupted.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func receive(socket int) (int, error) {
	limit := unix.NsecToTimeval(int64(20 * time.Second))
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, err
	}
	text, rights := make([]byte, 1024), make([]byte, unix.CmsgSpace(4))
	var n, nr int
	err := again(func() (err error) {
		n, nr, _, _, err = unix.Recvmsg(socket, text, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("launch: %w", err)
	}
	if nr == 0 {
		return 0, fmt.Errorf("launch: it ended without a filter: %s (does TestMain call killpoint.Launch?)", text[:n])
	}
	messages, err := unix.ParseSocketControlMessage(rights[:nr])
	if err != nil {
		return 0, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// Launch does nothing in an ordinary process. In one that Start has started it does not return: it takes on the filter and becomes
// the program.
func Launch() {
	text, ok := os.LookupEnv(launchEnv)
	if !ok {
		return
	}
	socket, err := strconv.Atoi(text)
	if err == nil {
		err = become(socket, os.Args[1], os.Args[2:])
	}
	unix.Sendmsg(socket, []byte(err.Error()), nil, nil, 0)
	os.Exit(127)
}

func become(socket int, path string, args []string) error {
	env := os.Environ()
	for i, kv := range env {
		if strings.HasPrefix(kv, launchEnv+"=") {
			env = append(env[:i], env[i+1:]...)
			break
		}
	}
	// The filter is this thread's, and execve leaves no other.
	runtime.LockOSThread()
	unix.CloseOnExec(socket)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	filter := program()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filterFlags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	// From here on nothing may be done that the filter hands over, until the other side has the listener.
	if err := again(func() error {
		return unix.Sendmsg(socket, []byte("listener"), unix.UnixRights(int(listener)), nil, 0)
	}); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	unix.CloseOnExec(int(listener))
	return fmt.Errorf("execve %s: %w", path, unix.Exec(path, args, env))
}

// program is the filter: calls of shapes are handed over, all others carried out.
func program() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	result := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	var data seccompData
	p := []unix.SockFilter{
		load(uint32(unsafe.Offsetof(data.arch))),
		equal(auditArch, 1, 0),
		result(unix.SECCOMP_RET_ALLOW),
		load(uint32(unsafe.Offsetof(data.nr))),
	}
	for nr := range shapes {
		p = append(p, equal(nr, 0, 1), result(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(p, result(unix.SECCOMP_RET_ALLOW))
}
