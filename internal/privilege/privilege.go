// Package privilege is how a program gives its power away, in the order in which its main does it:
//
//	Check      what it is about to use belongs to whom it should, and others cannot write it
//	Find       the account that it is to be, from /etc/passwd or as numbers
//	Drop       groups, group and user ids, for good; or Became, when whoever executed us has done that
//	Limits     no core files, so many descriptors, files of at most so many bytes
//	NoNew      no set-id program ever gives anything back (no_new_privs)
//	Undumpable nobody reads our memory, for programs that hold secrets
//	Sandbox    the paths that it needs and no others, no network that it does not use (Landlock, seccomp)
//
// Without root the same calls are made. Drop has nothing to give away then, and the program stays who it is: who acts for others has
// to ask for itself (lmtpd.Self). Limits, NoNew and Sandbox work the same for everyone.
//
// Promises: after Drop, the old ids are tried once more and it is an error if that works. What a kernel lacks is left out without an
// error, and Sandbox says what there was; what a kernel has and refuses is an error. Everything holds for all threads: that needs a
// program without cgo; with it (the race detector) NoNew does nothing, and a Sandbox is the filter of system calls alone.
//
// It has no state and must be used before the program starts goroutines that open files.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Root reports whether there is anything to drop.
func Root() bool { return os.Geteuid() == 0 }

// ErrRegained means that an id which was given away could be taken back.
var ErrRegained = errors.New("ids that were dropped can be had back")

// Drop makes the process a, for good: supplementary groups, group ids, user ids, in this order because each needs the power that the
// next one ends. Without root it does nothing. Root itself is not an account to drop to.
func Drop(a Account) error {
	if !Root() {
		return nil
	}
	if a.UID == 0 || a.GID == 0 {
		return fmt.Errorf("privilege: become %s: uid %d and gid %d: that is root", a.Name, a.UID, a.GID)
	}
	groups := make([]int, 0, len(a.Groups))
	for _, g := range a.Groups {
		groups = append(groups, int(g))
	}
	fail := func(what string, err error) error {
		return fmt.Errorf("privilege: become %s: %s: %w", a.Name, what, err)
	}
	// Of package syscall, which acts on all threads; that of x/sys/unix changes this one alone.
	if err := syscall.Setgroups(groups); err != nil {
		return fail("setgroups", err)
	}
	if err := setGID(int(a.GID)); err != nil {
		return fail("set group id", err)
	}
	if err := setUID(int(a.UID)); err != nil {
		return fail("set user id", err)
	}
	return Became(a)
}

// Became checks that the process is a and nobody else, and cannot become root: for a program that was executed as a.
func Became(a Account) error {
	if !areIDs(int(a.UID), int(a.GID)) {
		return fmt.Errorf("privilege: not wholly %s: uid %d, euid %d, gid %d, egid %d", a.Name, os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid())
	}
	if a.UID == 0 {
		return fmt.Errorf("privilege: %s: uid 0", a.Name)
	}
	if syscall.Setuid(0) == nil || syscall.Setgid(0) == nil && a.GID != 0 {
		return fmt.Errorf("privilege: %s: %w", a.Name, ErrRegained)
	}
	return nil
}

// Limits are set for the process and inherited by what it executes. The size of core files is always 0: a core has
// passwords and mail in it. Anybody may lower his limits; where it is forbidden a supervisor has a filter for system calls, and
// limits of its own.
type Limits struct {
	Files    uint64 // descriptors; 0 leaves the limit. It is never raised.
	FileSize uint64 // bytes of one file; 0 leaves the limit
}

// Set sets them.
func (l Limits) Set() error {
	for _, x := range []struct {
		resource int
		n        uint64
		what     string
	}{{unix.RLIMIT_CORE, 0, "core files"}, {unix.RLIMIT_NOFILE, l.Files, "descriptors"}, {unix.RLIMIT_FSIZE, l.FileSize, "file sizes"}} {
		if x.n == 0 && x.resource != unix.RLIMIT_CORE {
			continue
		}
		if err := lower(x.resource, x.n); err != nil && err != unix.EPERM {
			return fmt.Errorf("privilege: limit of %s: %w", x.what, err)
		}
	}
	return nil
}

// Sandbox is all that the process may still do with files and the network; files that are open already stay usable. Paths that do
// not exist are left out. With Landlock a rule holds for the directory that was there when it was made, not for its name. The filter of
// system calls (seccomp) denies sockets of families that it does not name, programs unless there is Exec, and what nobody needs:
// other namespaces, tracing, io_uring, kernel keys, BPF.
type Sandbox struct {
	Read    []string // files, and directories with everything below
	Write   []string // the same, to read, make, change, rename and remove
	Any     bool     // Write is also for FIFOs, sockets, devices and symbolic links: to rename one is to make one
	Exec    []string // the same, to read and execute
	Sockets []string // sockets in the file system to connect to, or directories with such (kernels that can tell)
	Connect bool     // TCP connections and UDP to others
	Bind    bool     // TCP listeners that are not open yet
}

// String lists the rules for people.
func (s Sandbox) String() string {
	var b strings.Builder
	list := func(what string, paths []string) {
		if len(paths) > 0 {
			fmt.Fprintf(&b, " %s %s", what, strings.Join(paths, " "))
		}
	}
	list("read", s.Read)
	list("write", s.Write)
	if s.Any {
		b.WriteString(" any")
	}
	list("exec", s.Exec)
	list("sockets", s.Sockets)
	if s.Connect {
		b.WriteString(" connect")
	}
	if s.Bind {
		b.WriteString(" bind")
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return b.String()[1:]
}
