//go:build !linux

package monitor

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const seqpacket = unix.SOCK_SEQPACKET

func self() string {
	p, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return p
}

// Without PDEATHSIG children notice the end of the monitor by their socket.
func attributes(uid, gid uint32, groups []uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential(uid, gid, groups), Setpgid: true}
}
