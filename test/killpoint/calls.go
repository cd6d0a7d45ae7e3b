//go:build linux && (amd64 || arm64)

package killpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// file says which arguments of a call name a file: a descriptor, or a path that begins at a descriptor. -1: there is none.
type file struct{ fd, path int }

var (
	none  = file{-1, -1}
	fd0   = file{0, -1}
	path0 = file{-1, 0} // from the working directory
	at01  = file{0, 1}
)

type kind int

const (
	change kind = iota + 1
	look
	open   // a change if the flags, in argument flags, say so
	open2  // the flags are at the beginning of what argument flags points to
	closes // a change if the descriptor was open for writing
)

type syscallShape struct {
	name     string
	kind     kind
	file, to file
	flags    int
}

// shapes are the calls that the filter hands to us.
var shapes = func() map[uint32]syscallShape {
	all := maps.Clone(commonShapes)
	maps.Copy(all, ownShapes)
	return all
}()

var commonShapes = map[uint32]syscallShape{
	unix.SYS_OPENAT:          {"openat", open, at01, none, 2},
	unix.SYS_OPENAT2:         {"openat2", open2, at01, none, 2},
	unix.SYS_CLOSE:           {"close", closes, fd0, none, 0},
	unix.SYS_WRITE:           {"write", change, fd0, none, 0},
	unix.SYS_PWRITE64:        {"pwrite64", change, fd0, none, 0},
	unix.SYS_WRITEV:          {"writev", change, fd0, none, 0},
	unix.SYS_PWRITEV:         {"pwritev", change, fd0, none, 0},
	unix.SYS_PWRITEV2:        {"pwritev2", change, fd0, none, 0},
	unix.SYS_SENDFILE:        {"sendfile", change, fd0, none, 0},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", change, file{2, -1}, none, 0},
	unix.SYS_SPLICE:          {"splice", change, file{2, -1}, none, 0},
	unix.SYS_FSYNC:           {"fsync", change, fd0, none, 0},
	unix.SYS_FDATASYNC:       {"fdatasync", change, fd0, none, 0},
	unix.SYS_SYNCFS:          {"syncfs", change, fd0, none, 0},
	unix.SYS_RENAMEAT2:       {"renameat2", change, at01, file{2, 3}, 0},
	unix.SYS_RENAMEAT:        {"renameat", change, at01, file{2, 3}, 0},
	unix.SYS_LINKAT:          {"linkat", change, at01, file{2, 3}, 0},
	unix.SYS_SYMLINKAT:       {"symlinkat", change, file{1, 2}, none, 0},
	unix.SYS_UNLINKAT:        {"unlinkat", change, at01, none, 0},
	unix.SYS_MKDIRAT:         {"mkdirat", change, at01, none, 0},
	unix.SYS_MKNODAT:         {"mknodat", change, at01, none, 0},
	unix.SYS_TRUNCATE:        {"truncate", change, path0, none, 0},
	unix.SYS_FTRUNCATE:       {"ftruncate", change, fd0, none, 0},
	unix.SYS_FALLOCATE:       {"fallocate", change, fd0, none, 0},
	unix.SYS_FCHMOD:          {"fchmod", change, fd0, none, 0},
	unix.SYS_FCHMODAT:        {"fchmodat", change, at01, none, 0},
	unix.SYS_FCHMODAT2:       {"fchmodat2", change, at01, none, 0},
	unix.SYS_FCHOWN:          {"fchown", change, fd0, none, 0},
	unix.SYS_FCHOWNAT:        {"fchownat", change, at01, none, 0},
	unix.SYS_UTIMENSAT:       {"utimensat", change, at01, none, 0},
	unix.SYS_FSETXATTR:       {"fsetxattr", change, fd0, none, 0},
	unix.SYS_READ:            {"read", look, fd0, none, 0},
	unix.SYS_PREAD64:         {"pread64", look, fd0, none, 0},
	unix.SYS_READV:           {"readv", look, fd0, none, 0},
	unix.SYS_PREADV:          {"preadv", look, fd0, none, 0},
	unix.SYS_GETDENTS64:      {"getdents64", look, fd0, none, 0},
	unix.SYS_FSTAT:           {"fstat", look, fd0, none, 0},
	unix.SYS_STATX:           {"statx", look, at01, none, 0},
	unix.SYS_READLINKAT:      {"readlinkat", look, at01, none, 0},
	unix.SYS_FACCESSAT:       {"faccessat", look, at01, none, 0},
	unix.SYS_FACCESSAT2:      {"faccessat2", look, at01, none, 0},
}

// describe finds out what a call is about. The caller waits meanwhile, so that its descriptors and its memory stay as they are,
// unless another of its threads changes them.
func describe(tid int, nr uint32, args [6]uint64) Call {
	s := shapes[nr]
	c := Call{Name: s.name, Path: s.file.resolve(tid, args), To: s.to.resolve(tid, args)}
	switch s.kind {
	case look:
		c.Looks = true
	case open:
		c.Looks = args[s.flags]&creates == 0
	case open2:
		var how [8]byte
		readMemory(tid, args[s.flags], how[:])
		c.Looks = binary.NativeEndian.Uint64(how[:])&creates == 0
	case closes:
		c.Looks = !writable(tid, int32(args[0]))
	}
	return c
}

const creates = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY

// resolve returns the absolute path, or what the kernel calls a descriptor without one, such as "socket:[4711]".
func (f file) resolve(tid int, args [6]uint64) string {
	if f == none {
		return ""
	}
	name := ""
	if f.path >= 0 {
		name = readString(tid, args[f.path])
		if filepath.IsAbs(name) {
			return filepath.Clean(name)
		}
	}
	dir := "cwd"
	if f.fd >= 0 && int32(args[f.fd]) != unix.AT_FDCWD {
		dir = "fd/" + strconv.Itoa(int(int32(args[f.fd])))
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", tid, dir))
	if err != nil {
		return ""
	}
	at = strings.TrimSuffix(at, " (deleted)")
	if name == "" {
		return at
	}
	return filepath.Join(at, name)
}

func writable(tid int, fd int32) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, fd))
	_, rest, _ := strings.Cut(string(text), "flags:")
	line, _, _ := strings.Cut(rest, "\n")
	flags, _ := strconv.ParseUint(strings.TrimSpace(line), 8, 64)
	return flags&unix.O_ACCMODE != unix.O_RDONLY
}

func readString(tid int, addr uint64) string {
	var text []byte
	// Page by page: what follows the string may not be mapped.
	for len(text) < unix.PathMax {
		page := make([]byte, 4096-addr%4096)
		n := readMemory(tid, addr, page)
		if i := bytes.IndexByte(page[:n], 0); i >= 0 {
			return string(append(text, page[:i]...))
		}
		if n < len(page) {
			break
		}
		text = append(text, page...)
		addr += uint64(n)
	}
	return ""
}

func readMemory(tid int, addr uint64, p []byte) int {
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
	if err != nil {
		return 0
	}
	return n
}
