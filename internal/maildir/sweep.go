package maildir

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tempAge is how old a file in tmp/ must be before it may be removed:
	// maildir(5) gives its writer 36 hours.
	tempAge = 36 * time.Hour
	// sweepEvery is how often the tmp/ of a maildir in use is swept.
	sweepEvery = 12 * time.Hour
	// sweepMost bounds the work of one sweep.
	sweepMost = 10_000
)

// sweepSometimes sweeps tmp/ when that was not done lately.
func (s *Store) sweepSometimes(b *box) {
	now := s.now()
	last := b.swept.Load()
	if now.Unix()-last < int64(sweepEvery/time.Second) && last <= now.Unix() {
		return
	}
	if b.swept.CompareAndSwap(last, now.Unix()) {
		sweep(b.tmp, now)
	}
}

// sweep removes ordinary files from tmp/ that were last written 36 hours ago
// or earlier: what attempts left that were killed, damaged files set aside, and
// tombstones. Errors wait for the next sweep.
func sweep(tmp *os.File, now time.Time) {
	dir, err := openDir(tmp, ".")
	if err != nil {
		return
	}
	defer dir.Close()
	for seen := 0; seen < sweepMost && err == nil; {
		var names []string
		names, err = dir.Readdirnames(256)
		if err != nil && err != io.EOF {
			return
		}
		for _, name := range names {
			seen++
			var st unix.Stat_t
			if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
				continue
			}
			if now.Sub(time.Unix(st.Mtim.Unix())) >= tempAge {
				unix.Unlinkat(int(dir.Fd()), name, 0)
			}
		}
	}
}
