//go:build unix && !linux

package mailbox

import "os"

// isLocal is false: not known for the file systems of this system.
func isLocal(dir *os.File) bool { return false }
