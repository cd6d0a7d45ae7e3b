package daemon

import "golang.org/x/sys/unix"

// dup makes to a copy of from; it stays open in programs that we execute, as fd 0 to 2 do.
func dup(from, to int) error { return unix.Dup3(from, to, 0) }

// monotonic is CLOCK_MONOTONIC in microseconds, for sd_notify(3).
func monotonic() (int64, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, false
	}
	return t.Nano() / 1000, true
}
