//go:build !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// secretive keeps the memory of the process out of core files.
func secretive() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE: %w", err)
	}
	return nil
}
