package privilege

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Account is who a process is to be.
type Account struct {
	Name     string
	UID, GID uint32
	Groups   []uint32 // supplementary ones, with GID
	Home     string
}

// ErrNoAccount means that there is no such name.
var ErrNoAccount = errors.New("no such account")

// Find looks an account up by name in /etc/passwd, and its groups in /etc/group; "uid:gid" names one by numbers, which needs no file.
// NSS (LDAP, systemd-userdbd) is not asked: that takes cgo, and a network before the sandbox.
func Find(name string) (Account, error) {
	if a, ok, err := numeric(name); ok || err != nil {
		return a, err
	}
	a, err := find(named(name))
	if err != nil {
		return a, fmt.Errorf("privilege: account %s: %w", name, err)
	}
	return a, nil
}

// GroupsOf are the groups of a user id, with gid: those of /etc/group for the first name that has it in /etc/passwd, but never group 0, whose files are root's.
func GroupsOf(uid, gid uint32) ([]uint32, error) {
	a, err := find(hasID(uid))
	switch {
	case errors.Is(err, ErrNoAccount):
		return []uint32{gid}, nil
	case err != nil:
		return []uint32{gid}, fmt.Errorf("privilege: groups of uid %d: %w", uid, err)
	}
	return a.groupsWith(gid), nil
}

func named(name string) func([]string) bool {
	return func(f []string) bool { return f[0] == name }
}

func hasID(uid uint32) func([]string) bool {
	return func(f []string) bool { n, err := id(f[2]); return err == nil && n == uid }
}

// groupsWith are the groups with gid for the first in the place of the account's own.
func (a *Account) groupsWith(gid uint32) []uint32 {
	return append([]uint32{gid}, slices.DeleteFunc(slices.Clone(a.Groups[1:]), func(g uint32) bool { return g == 0 || g == gid })...)
}

// find looks an account up in the files. A system without /etc/group has no further groups.
func find(is func(fields []string) bool) (Account, error) {
	passwd, err := os.Open("/etc/passwd")
	if err != nil {
		return Account{}, err
	}
	defer passwd.Close()
	a, err := findUser(passwd, is)
	if err != nil {
		return a, fmt.Errorf("/etc/passwd: %w", err)
	}
	if group, err := os.Open("/etc/group"); err == nil {
		defer group.Close()
		if err := a.addGroups(group); err != nil {
			return a, fmt.Errorf("/etc/group: %w", err)
		}
	}
	return a, nil
}

func numeric(name string) (Account, bool, error) {
	u, g, ok := strings.Cut(name, ":")
	if !ok {
		return Account{}, false, nil
	}
	uid, err1 := id(u)
	gid, err2 := id(g)
	if err := errors.Join(err1, err2); err != nil {
		return Account{}, false, fmt.Errorf("privilege: account %q: uid:gid is wanted: %w", name, err)
	}
	return Account{Name: name, UID: uid, GID: gid, Groups: []uint32{gid}}, true, nil
}

// id reads a user or group id. 2^32-1 is "no change" to the system calls that take one.
func id(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 || s[0] == '+' {
		return 0, fmt.Errorf("%.20q is no id", s)
	}
	return uint32(n), nil
}

// findUser reads passwd(5): name:x:uid:gid:gecos:home:shell. Of two lines the first holds, as in getpwnam(3).
func findUser(r io.Reader, is func(fields []string) bool) (a Account, err error) {
	err = lines(r, func(f []string) (bool, error) {
		if len(f) < 6 || !is(f) {
			return false, nil
		}
		a = Account{Name: f[0], Home: f[5]}
		if a.UID, err = id(f[2]); err != nil {
			return true, err
		}
		if a.GID, err = id(f[3]); err != nil {
			return true, err
		}
		a.Groups = []uint32{a.GID}
		return true, nil
	})
	if err == nil && a.Name == "" {
		err = ErrNoAccount
	}
	return a, err
}

// addGroups reads group(5): name:x:gid:member,member.
func (a *Account) addGroups(r io.Reader) error {
	return lines(r, func(f []string) (bool, error) {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), a.Name) {
			return false, nil
		}
		g, err := id(f[2])
		if err == nil && !slices.Contains(a.Groups, g) {
			a.Groups = append(a.Groups, g)
		}
		return false, err
	})
}

// lines gives each line's fields to f until that has what it wants.
func lines(r io.Reader, f func([]string) (bool, error)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20) // a group of very many members
	for s.Scan() {
		if s.Text() == "" || s.Text()[0] == '#' {
			continue
		}
		if done, err := f(strings.Split(s.Text(), ":")); done || err != nil {
			return err
		}
	}
	return s.Err()
}
