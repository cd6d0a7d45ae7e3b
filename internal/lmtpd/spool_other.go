//go:build !linux

package lmtpd

import "os"

// nameless is a file without a name.
func nameless(dir string) (*os.File, error) { return unlinked(dir) }
