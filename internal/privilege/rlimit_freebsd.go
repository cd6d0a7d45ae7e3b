package privilege

import "golang.org/x/sys/unix"

// lower sets a limit, soft and hard, to at most n.
func lower(resource int, n uint64) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(resource, &l); err != nil {
		return err
	}
	v := int64(min(n, 1<<62))
	if l.Max < 0 || v < l.Max {
		l.Max = v
	}
	l.Cur = l.Max
	return unix.Setrlimit(resource, &l)
}
