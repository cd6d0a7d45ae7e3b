//go:build unix && !linux

package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const oPath = 0 // none

// Linux alone has a rename that does not replace, in a form that all its file
// systems answer to; elsewhere Publish makes a link.
func renameNoReplace(srcDir int, src string, dstDir int, dst string) error { return unix.ENOSYS }

func datasync(f *os.File) error { return f.Sync() }

func syncfs(f *os.File) error { return errors.ErrUnsupported }

// KeepsNames is false: not known for the file systems of this system.
func KeepsNames(f *os.File) bool { return false }
