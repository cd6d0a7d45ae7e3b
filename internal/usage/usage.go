// Package usage counts, on disk, what each login has sent in the last hour and the last day. It knows no protocol.
//
//	DIR/LOGIN    one file for each login, two lines of fixed width, changed in place under flock:
//
//	hour 0000498610 00000012 00000040 00000003 00000009
//	day  0000020775 00000100 00000400 00000090 00000300
//
// A line has the number of the hour (of the day) since 1970, messages and recipients in it, and messages and recipients in
// the one before. The last sixty minutes are this hour, and of the one before as much as they still cover: memory and
// work are constant, and the bound holds within the evenness of the hour before.
//
// Nothing is synced: a crash may forget the last counts, and a file that cannot be read begins anew. Any number of
// processes may count.
package usage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of one login; 0 is none.
type Limits struct {
	MessagesHour, MessagesDay, RecipientsHour, RecipientsDay int
}

// Any says that there is a limit.
func (l Limits) Any() bool { return l != Limits{} }

// Store is a directory of counts. It holds nothing open, so nobody has to know when it is used no more. It is safe for concurrent use.
type Store struct{ dir string }

// Open opens the directory, and makes it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	d, err := os.Open(path) // said at the start, not at the first message
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	d.Close()
	return &Store{path}, nil
}

// window is one line.
type window struct {
	number                               int64
	messages, rcpts, before, rcptsBefore int64
}

const (
	format = "%-4s %010d %08d %08d %08d %08d\n"
	width  = 52
	most   = 99_999_999
)

// Count adds a message to so many recipients at now, and says in words which limit that is beyond; "" is none. What is beyond
// a limit counts as well: who goes on sending stays beyond it.
func (s *Store) Count(login string, rcpts int, now time.Time, l Limits) (over string, err error) {
	if login == "" || login[0] == '.' || strings.ContainsAny(login, "/\x00") {
		return "", fmt.Errorf("usage: %q is no login", login)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, login), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", fmt.Errorf("usage: %w", err)
	}
	defer f.Close()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX) // held for microseconds, by processes of ours
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return "", fmt.Errorf("usage: lock %s: %w", login, err)
		}
	}
	b := make([]byte, 2*width)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return "", fmt.Errorf("usage: %s: %w", login, err)
	} else {
		b = b[:n]
	}
	first, rest, _ := strings.Cut(string(b), "\n")
	second, _, _ := strings.Cut(rest, "\n")
	hour, day := parse("hour", first), parse("day", second)
	hour.add(now, time.Hour, rcpts)
	day.add(now, 24*time.Hour, rcpts)
	text := hour.line("hour") + day.line("day")
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return "", fmt.Errorf("usage: %s: %w", login, err)
	}
	for _, x := range []struct {
		limit int
		sent  int64
		what  string
	}{
		{l.MessagesHour, hour.recent(now, time.Hour, hour.messages, hour.before), "messages an hour"},
		{l.RecipientsHour, hour.recent(now, time.Hour, hour.rcpts, hour.rcptsBefore), "recipients an hour"},
		{l.MessagesDay, day.recent(now, 24*time.Hour, day.messages, day.before), "messages a day"},
		{l.RecipientsDay, day.recent(now, 24*time.Hour, day.rcpts, day.rcptsBefore), "recipients a day"},
	} {
		if x.limit > 0 && x.sent > int64(x.limit) {
			return fmt.Sprintf("more than %d %s", x.limit, x.what), nil
		}
	}
	return "", nil
}

// parse reads a line; what is none is the zero window.
func parse(name, line string) window {
	var w window
	var got string
	n, err := fmt.Sscanf(line, "%s %d %d %d %d %d", &got, &w.number, &w.messages, &w.rcpts, &w.before, &w.rcptsBefore)
	if err != nil || n != 6 || got != name || min(w.number, w.messages, w.rcpts, w.before, w.rcptsBefore) < 0 {
		return window{}
	}
	return w
}

func (w window) line(name string) string {
	return fmt.Sprintf(format, name, w.number, min(w.messages, most), min(w.rcpts, most), min(w.before, most), min(w.rcptsBefore, most))
}

// add counts a message in the window of now. A clock that was set back a little goes on with the window that is there; one that
// went back further was wrong before, and what was counted in a future would stay until then.
func (w *window) add(now time.Time, length time.Duration, rcpts int) {
	switch n := now.Unix() / int64(length/time.Second); {
	case n == w.number+1:
		*w = window{number: n, before: w.messages, rcptsBefore: w.rcpts}
	case n > w.number, n < w.number-1:
		*w = window{number: n}
	}
	w.messages++
	w.rcpts += int64(rcpts)
}

// recent is how many there were within the length before now.
func (w *window) recent(now time.Time, length time.Duration, current, before int64) int64 {
	into := time.Duration(now.UnixNano() - w.number*int64(length))
	left := min(max(length-into, 0), length)
	return current + int64(float64(before)*float64(left)/float64(length))
}

// Forget removes the counts of logins that have sent nothing for two days.
func (s *Store) Forget(now time.Time) error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("usage: %w", err)
	}
	defer d.Close()
	var errs []error
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > 48*time.Hour {
				errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
			}
		}
		if err == io.EOF {
			return errors.Join(errs...)
		}
		if err != nil {
			return fmt.Errorf("usage: %w", errors.Join(append(errs, err)...))
		}
	}
}
