//go:build unix && !linux

package mailbox

import "os"

// isLocal is false: not known for the file systems of this system.
func isLocal(dir *os.File) bool { return false }

// unlinksAlone is true where nothing else was measured.
func unlinksAlone(dir *os.File) bool { return true }
