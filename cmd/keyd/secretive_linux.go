package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// secretive keeps the memory of the process out of core files, and from other processes of the same user: prctl(2),
// PR_SET_DUMPABLE forbids them to attach or to read /proc/PID/mem.
func secretive() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE: %w", err)
	}
	return nil
}
