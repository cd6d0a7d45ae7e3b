package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Use is a file, directory or socket that a program is about to use, and how it has to be.
type Use struct {
	Path   string
	Type   fs.FileMode // fs.ModeDir, fs.ModeSocket; 0 for a regular file
	Owners []uint32    // one of these; nobody else's is trusted. Root and we ourselves always are. nil: anybody's
	Mode   fs.FileMode // permission bits it may have
	Make   string      // what to do when it is missing, for people; "" means that it may be
}

// Check looks at each and returns everything that is wrong, one error each, with the command that mends it. A symbolic link counts
// for what it leads to. In a directory with the sticky bit others may write: they can change only what is their own.
func Check(uses ...Use) error {
	var errs []error
	for _, u := range uses {
		errs = append(errs, u.check())
	}
	return errors.Join(errs...)
}

func (u Use) check() error {
	bad := func(what, mend string, args ...any) error {
		return fmt.Errorf("%s: %s; %s mends it", u.Path, what, fmt.Sprintf(mend, args...))
	}
	st, err := os.Stat(u.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if u.Make == "" {
			return nil
		}
		return bad("missing", "%s", u.Make)
	}
	if err != nil {
		return err
	}
	if got := st.Mode().Type(); got != u.Type {
		return fmt.Errorf("%s: is a %s, not a %s; remove it, or name another in the configuration", u.Path, kind(got), kind(u.Type))
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && u.Owners != nil {
		uid := sys.Uid
		if uid != 0 && int(uid) != os.Geteuid() && !slices.Contains(u.Owners, uid) {
			return bad(fmt.Sprintf("belongs to uid %d", uid), "chown %d %s", u.Owners[0], u.Path)
		}
	}
	forbidden := st.Mode().Perm() &^ u.Mode
	if u.Type == fs.ModeDir && st.Mode()&fs.ModeSticky != 0 {
		forbidden &^= 0o022
	}
	if forbidden != 0 {
		return bad(fmt.Sprintf("mode %04o", st.Mode().Perm()), "chmod %s %s", without(forbidden), u.Path)
	}
	return nil
}

func kind(m fs.FileMode) string {
	switch m {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeNamedPipe:
		return "FIFO"
	case fs.ModeSymlink:
		return "symbolic link"
	}
	return "device"
}

// without is the argument of chmod that takes the bits away: "g-w,o-rwx".
func without(bits fs.FileMode) string {
	s := ""
	for i, who := range "ugo" {
		what := ""
		for j, c := range "rwx" {
			if bits&(0o400>>(3*i+j)) != 0 {
				what += string(c)
			}
		}
		if what != "" {
			if s != "" {
				s += ","
			}
			s += string(who) + "-" + what
		}
	}
	return s
}
