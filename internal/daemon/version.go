package daemon

import "runtime/debug"

// release is VERSION of the Makefile, set by the linker.
var release string

// Version is what the program calls itself in its log.
func Version() string {
	if release != "" {
		return release
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		return b.Main.Version
	}
	return "unknown"
}
