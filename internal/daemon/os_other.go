//go:build !linux

package daemon

import "golang.org/x/sys/unix"

// dup makes to a copy of from; it stays open in programs that we execute, as fd 0 to 2 do.
func dup(from, to int) error { return unix.Dup2(from, to) }

// closeOnExec keeps what we have inherited beyond fd 2 from programs that we execute.
func closeOnExec() { closeSomeOnExec() }

// monotonic is for sd_notify(3), which there is only with Linux.
func monotonic() (int64, bool) { return 0, false }
