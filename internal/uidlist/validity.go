package uidlist

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// NextValidity gives out a UIDVALIDITY that no folder of the maildir root had
// before and that is above the number above. It is on disk as given out when
// NextValidity returns.
//
// The counter is the name of an empty file, dovecot-uidvalidity. and eight
// hexadecimal digits. Who renames it to a higher number has that number; of two
// that try, one fails and looks again. Dovecot does the same without a lock.
// Unlike Dovecot we also pass by the clock: when a maildir was restored from an
// old copy the counter has been set back, the clock has not.
func NextValidity(root *os.File, above uint32, ops *durable.Ops) (uint32, error) {
	for range 100 {
		last, stale, err := lastValidity(root)
		if err != nil {
			return 0, fmt.Errorf("uidlist: %s: %w", validityFile, err)
		}
		next := max(uint64(last)+1, uint64(above)+1, uint64(time.Now().Unix()))
		if next >= 1<<32 {
			return 0, fmt.Errorf("uidlist: %s: no number is left above %d", validityFile, next-1)
		}
		name := fmt.Sprintf("%s.%08x", validityFile, next)
		if stale == "" {
			var f *os.File
			if f, err = ops.Create(root, name, 0o444); err == nil {
				err = f.Close()
			}
		} else {
			err = ops.Rename(root, stale, root, name)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = ops.SyncDir(root)
		}
		if err != nil {
			return 0, fmt.Errorf("uidlist: %s: %w", validityFile, err)
		}
		writeHint(root, uint32(next))
		return uint32(next), nil
	}
	return 0, fmt.Errorf("uidlist: %s: others are always faster", validityFile)
}

// lastValidity is the highest number among the counter's names and the hint,
// and the name with the highest number.
func lastValidity(root *os.File) (last uint32, name string, err error) {
	dir, err := durable.OpenDirAt(root, ".")
	if err != nil {
		return 0, "", err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, "", err
	}
	for _, n := range names {
		digits, ok := strings.CutPrefix(n, validityFile+".")
		if v, err := strconv.ParseUint(digits, 16, 32); ok && len(digits) == 8 && err == nil && (name == "" || uint32(v) > last) {
			last, name = uint32(v), n
		}
	}
	if f, _, err := open(root, validityFile); err == nil && f != nil {
		p := make([]byte, 8)
		n, _ := f.Read(p)
		f.Close()
		if v, err := strconv.ParseUint(string(p[:max(n, 0)]), 16, 32); err == nil && n == 8 {
			last = max(last, uint32(v))
		}
	}
	return last, name, nil
}

// writeHint tells Dovecot, which reads the number here and looks at names only
// when there is no file of it. Lost or wrong it costs Dovecot a look.
func writeHint(root *os.File, value uint32) {
	fd, err := unix.Openat(int(root.Fd()), validityFile, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	f := os.NewFile(uintptr(fd), root.Name()+"/"+validityFile)
	if err == unix.ENOENT {
		if f, err = durable.Create(root, validityFile, 0o600); err == nil {
			durable.Adopt(f, root)
		}
	}
	if err != nil {
		return
	}
	f.WriteAt(fmt.Appendf(nil, "%08x", value), 0)
	f.Close()
}
