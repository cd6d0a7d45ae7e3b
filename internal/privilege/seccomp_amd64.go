//go:build linux

package privilege

import "golang.org/x/sys/unix"

const (
	machine  = unix.AUDIT_ARCH_X86_64
	otherABI = 0x40000000 // x32
)
