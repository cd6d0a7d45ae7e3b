package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
)

// Quota limits a maildir with its folders. A zero part is no limit.
type Quota struct {
	Bytes    int64
	Messages int64
}

// ErrQuota means that a message does not fit into a mailbox's quota.
var ErrQuota = errors.New("mailbox is over quota")

const (
	sizeFile    = "maildirsize"
	sizeFileMax = 5120             // Maildir++: a longer file is computed anew
	sizeFileOld = 15 * time.Minute // and an older one, before anybody is told that he is over quota
)

// usage is what maildirsize says.
type usage struct {
	limit    Quota
	bytes    int64
	messages int64
	lines    int // after the first
}

func (q Quota) admits(u usage, size, messages int64) bool {
	return (q.Bytes <= 0 || u.bytes+size <= q.Bytes) && (q.Messages <= 0 || u.messages+messages <= q.Messages)
}

// Counted reports whether messages in a folder, named by its directory, are part of the usage (Maildir++).
func Counted(folder string) bool { return folder != ".Trash" }

// Room says whether messages of size octets together fit into a maildir, for those who put messages there without a Store: nil, ErrQuota, or
// what keeps the usage from being known. tmp is the maildir's. counted: Count must follow when they are there.
func Room(root, tmp *os.File, q Quota, size, messages int64, ops *durable.Ops) (counted bool, err error) {
	b := &box{key: root.Name(), root: root, tmp: tmp, ops: ops}
	return b.fits(q, size, messages, time.Now())
}

// Count adds to the usage, or with negative numbers takes from it. Without maildirsize it does nothing.
func Count(root *os.File, size, messages int64) { (&box{root: root}).count(size, messages) }

// Room says whether a message of that size fits now: nil, ErrQuota, or what
// keeps the maildir from being opened. It is for answering before the message
// is sent; the delivery asks again.
func (s *Store) Room(t Target, size int64) error {
	b, err := s.open(&t)
	if err != nil {
		return err
	}
	defer s.release(b)
	_, err = b.inbox.fits(t.Quota, size, 1, s.now())
	return err
}

// Usage is what is used of a quota, and its limits: q, or, when that is zero, what maildirsize says. Zero limits: there is no quota, and nothing is counted.
func (r *Root) Usage(q Quota) (used, limit Quota, err error) {
	tmp, _, err := r.ops.OpenOrMake(r.dir, "tmp")
	if err != nil {
		return used, limit, fmt.Errorf("maildir: %s: tmp: %w", r.dir.Name(), err)
	}
	defer tmp.Close()
	b := &box{key: r.dir.Name(), root: r.dir, tmp: tmp, ops: r.ops}
	u, age, limited, err := b.usage(q, r.now())
	if err != nil || !limited {
		return used, limit, err
	}
	// Who asks wants to see what he has just removed, by whatever program.
	if age > sizeFileOld {
		if u, err = b.recount(u.limit); err != nil {
			return used, limit, fmt.Errorf("maildir: %s: count messages for %s: %w", b.key, sizeFile, err)
		}
	}
	return Quota{u.bytes, u.messages}, u.limit, nil
}

// Known is the usage and limits as maildirsize has them, for who changes nothing: no file is counted. A maildir without the file, or with one that has to be computed anew,
// is an error.
func Known(path string) (used, limit Quota, err error) {
	root, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return used, limit, err
	}
	defer root.Close()
	u, _, err := (&box{key: path, root: root}).readSizeFile(time.Now())
	return Quota{u.bytes, u.messages}, u.limit, err
}

// fits checks the quota, and reports whether there is one, so that the message
// must be counted when it is stored. A quota is kept voluntarily (Maildir++):
// two deliveries at once may both be the last that fits.
func (b *box) fits(q Quota, size, messages int64, now time.Time) (counted bool, err error) {
	u, age, counted, err := b.usage(q, now)
	if err != nil || !counted || u.limit.admits(u, size, messages) {
		return counted, err
	}
	if u.lines > 1 || age > sizeFileOld {
		if u, err = b.recount(u.limit); err != nil {
			return true, fmt.Errorf("maildir: %s: count messages for %s: %w", b.key, sizeFile, err)
		}
		if u.limit.admits(u, size, messages) {
			return true, nil
		}
	}
	return true, fmt.Errorf("maildir: %s: %w (%s)", b.key, ErrQuota, u.of())
}

// of says how much of each limit that there is was used.
func (u usage) of() string {
	var list []string
	if u.limit.Bytes > 0 {
		list = append(list, fmt.Sprintf("%d of %d bytes", u.bytes, u.limit.Bytes))
	}
	if u.limit.Messages > 0 {
		list = append(list, fmt.Sprintf("%d of %d messages", u.messages, u.limit.Messages))
	}
	return strings.Join(list, ", ")
}

// usage is what maildirsize says, which is computed anew when it must be, and how old that is. limited: there is a quota.
func (b *box) usage(q Quota, now time.Time) (u usage, age time.Duration, limited bool, err error) {
	u, age, err = b.readSizeFile(now)
	switch {
	case err == unix.ENOENT && q == Quota{}:
		return u, 0, false, nil
	case err == unix.ENOENT || err == errSizeFile || err == nil && q != Quota{} && u.limit != q:
		if (q == Quota{}) {
			q = u.limit
		}
		if (q == Quota{}) {
			return u, 0, false, nil // garbage that names no limit
		}
		if u, err = b.recount(q); err != nil {
			return u, 0, true, fmt.Errorf("maildir: %s: count messages for %s: %w", b.key, sizeFile, err)
		}
		return u, 0, true, nil
	case err != nil:
		return u, 0, true, fmt.Errorf("maildir: %s: read %s: %w", b.key, sizeFile, err)
	}
	return u, age, true, nil
}

// count adds stored messages to maildirsize. The file is not synced and an
// error not reported: it is an estimate, and is computed anew when it matters.
func (b *box) count(size, messages int64) {
	fd, err := unix.Openat(int(b.root.Fd()), sizeFile, unix.O_WRONLY|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Write(fd, fmt.Appendf(nil, "%d %d\n", size, messages))
	unix.Close(fd)
}

var errSizeFile = errors.New("maildirsize must be computed anew")

// readSizeFile reads maildirsize. errSizeFile: it is too long, or not in its
// form; what the first line says of the limit is returned all the same.
func (b *box) readSizeFile(now time.Time) (u usage, age time.Duration, err error) {
	f, err := openFile(b.root, sizeFile)
	if err != nil {
		return u, 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return u, 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return u, 0, errors.New("not an ordinary file")
	}
	p := make([]byte, sizeFileMax+1)
	n, err := io.ReadFull(f, p)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return u, 0, err
	}
	u, ok := parseSizeFile(p[:n])
	if !ok || n > sizeFileMax {
		return u, 0, errSizeFile
	}
	return u, now.Sub(time.Unix(st.Mtim.Unix())), nil
}

// parseSizeFile reads "1000000S,1000C" and then lines of two numbers, bytes and
// messages, which are added up.
func parseSizeFile(p []byte) (u usage, ok bool) {
	first, rest, ok := bytes.Cut(p, []byte("\n"))
	if !ok {
		return u, false
	}
	for part := range strings.SplitSeq(string(first), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		n, err := strconv.ParseInt(part[:len(part)-1], 10, 64)
		switch part[len(part)-1] {
		case 'S':
			u.limit.Bytes = n
		case 'C':
			u.limit.Messages = n
		default:
			continue // Maildir++: an unknown kind of quota is not for us
		}
		if err != nil || n < 0 {
			return usage{}, false
		}
	}
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		fields := strings.Fields(string(line))
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 {
			return u, false
		}
		size, err1 := strconv.ParseInt(fields[0], 10, 64)
		count, err2 := strconv.ParseInt(fields[1], 10, 64)
		// No sum of so few terms this small can overflow.
		const most = 1 << 52
		if err1 != nil || err2 != nil || size > most || size < -most || count > most || count < -most {
			return u, false
		}
		u.bytes += size
		u.messages += count
		u.lines++
	}
	return u, u.bytes >= 0 && u.messages >= 0
}

// recount reads all folders and writes maildirsize anew. Messages in Trash and
// those marked as trashed do not count (Maildir++).
func (b *box) recount(q Quota) (usage, error) {
	u := usage{limit: q, lines: 1}
	folders, err := b.folders()
	if err != nil {
		return u, err
	}
	seen := make(map[string]bool)
	for _, folder := range folders {
		if !Counted(folder) {
			continue
		}
		root, err := openDir(b.root, folder)
		if err != nil {
			continue // not a folder, or no longer
		}
		clear(seen)
		for _, sub := range []string{"new", "cur"} {
			err = scan(root, sub, func(name string) error {
				base, flags, _ := strings.Cut(name, ":2,")
				if name[0] == '.' || seen[base] || strings.Contains(flags, "T") {
					return nil
				}
				size := sizeInName(name)
				if size < 0 {
					var st unix.Stat_t
					if unix.Fstatat(int(root.Fd()), sub+"/"+name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
						return nil
					}
					size = st.Size
				}
				seen[base] = true
				u.bytes += size
				u.messages++
				return nil
			})
			if err != nil && err != unix.ENOENT && err != ErrUnsafe {
				root.Close()
				return u, err
			}
		}
		root.Close()
	}
	return u, b.writeSizeFile(u)
}

func (b *box) writeSizeFile(u usage) error {
	var first []byte
	if u.limit.Bytes > 0 {
		first = append(strconv.AppendInt(first, u.limit.Bytes, 10), 'S')
	}
	if u.limit.Messages > 0 {
		if len(first) > 0 {
			first = append(first, ',')
		}
		first = append(strconv.AppendInt(first, u.limit.Messages, 10), 'C')
	}
	text := fmt.Appendf(first, "\n%d %d\n", u.bytes, u.messages)
	name := tempName(sizeFile)
	f, err := b.ops.Create(b.tmp, name, 0o600)
	if err != nil {
		return err
	}
	if err = b.ops.Write(f, text); err == nil {
		err = b.ops.Adopt(f, b.root)
	}
	if cerr := b.ops.Close(f); err == nil {
		err = cerr
	}
	if err == nil {
		// Not synced: after a crash it is old, or missing, and so counted anew.
		err = b.ops.Rename(b.tmp, name, b.root, sizeFile)
	}
	if err != nil {
		unix.Unlinkat(int(b.tmp.Fd()), name, 0)
	}
	return err
}
