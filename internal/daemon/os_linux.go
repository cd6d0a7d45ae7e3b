package daemon

import (
	"math"

	"golang.org/x/sys/unix"
)

// dup makes to a copy of from; it stays open in programs that we execute, as fd 0 to 2 do.
func dup(from, to int) error { return unix.Dup3(from, to, 0) }

// closeOnExec keeps what we have inherited beyond fd 2 from programs that we execute.
func closeOnExec() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil { // before Linux 5.11
		closeSomeOnExec()
	}
}

// monotonic is CLOCK_MONOTONIC in microseconds, for sd_notify(3).
func monotonic() (int64, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, false
	}
	return t.Nano() / 1000, true
}
