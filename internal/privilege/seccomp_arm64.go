//go:build linux

package privilege

import "golang.org/x/sys/unix"

const (
	machine  = unix.AUDIT_ARCH_AARCH64
	otherABI = 1 << 31 // has none
)
