package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// secretive keeps the memory of the process from other processes of the same user, who could else attach or read
// /proc/PID/mem, and out of core files: prctl(2), PR_SET_DUMPABLE.
func secretive() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	return nil
}
