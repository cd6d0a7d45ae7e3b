package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/dotlock"
	"postamt/internal/mutf7"
)

// The text files of a maildir: those that list folders, and those of a folder.
// Each is read as a whole and replaced as a whole, under a lock file that
// becomes the new one, as Dovecot does with those that it has too.
const (
	subscriptionsFile = "subscriptions"
	courierSubscribed = "courierimapsubscribed"
	specialUseFile    = "specialuse"

	listMax     = 1 << 20 // bytes of one of them
	listStale   = 30 * time.Second
	listTimeout = 2 * time.Minute
)

// subscriptionsV2 is the head of a subscriptions file of Dovecot 2.2.34 and
// later, in which the levels of a name are parted by tabs. Without it they are
// parted by the separator.
const subscriptionsV2 = "V\t2\n\n"

// readList reads a text file of a folder's directory, or the maildir's; there is
// nothing in a missing one.
func (r *Root) readList(dir *os.File, name string) (text []byte, found bool, err error) {
	f, err := openFile(dir, name)
	if err == unix.ENOENT {
		return nil, false, nil
	}
	if err == nil {
		defer f.Close()
		var st unix.Stat_t
		if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = errors.New("not an ordinary file")
		}
	}
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, listMax+1))
	}
	if err == nil && len(text) > listMax {
		err = fmt.Errorf("longer than %d bytes", listMax)
	}
	if err != nil {
		return nil, true, fmt.Errorf("maildir: %s: read %s: %w", dir.Name(), name, err)
	}
	return text, true, nil
}

// editList replaces a text file by what edit makes of it, and leaves it when
// that is the same.
func (r *Root) editList(ctx context.Context, dir *os.File, name string, edit func(old []byte, found bool) ([]byte, error)) error {
	lock, err := dotlock.Acquire(ctx, dir, name, dotlock.Options{Stale: listStale, Timeout: listTimeout, Content: true, Ops: r.ops})
	if err != nil {
		return fmt.Errorf("maildir: %w", err)
	}
	defer lock.Unlock()
	old, found, err := r.readList(dir, name)
	if err != nil {
		return err
	}
	new, err := edit(old, found)
	if err != nil {
		return err
	}
	if found && bytes.Equal(old, new) || !found && len(new) == 0 {
		return nil
	}
	if err := lock.Replace(new); err != nil {
		return fmt.Errorf("maildir: write %s/%s: %w", dir.Name(), name, err)
	}
	return nil
}

// subscription reads a line of a subscriptions file.
func subscription(line string, v2 bool) (name string, ok bool) {
	if v2 {
		if strings.Contains(line, ".") {
			return "", false // what Dovecot with another separator has written
		}
		line = strings.ReplaceAll(line, "\t", ".")
	}
	if isInbox(line) {
		return Inbox, true
	}
	return folderName("." + line)
}

func subscriptionLine(name string, v2 bool) string {
	if isInbox(name) {
		return Inbox
	}
	line := mutf7.Encode(name)
	if v2 {
		line = strings.ReplaceAll(line, ".", "\t")
	}
	return line
}

func subscriptionLines(text []byte) (lines []string, v2 bool) {
	s, v2 := strings.CutPrefix(string(text), subscriptionsV2)
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimSuffix(line, "\r"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, v2
}

// Subscriptions lists the names of the folders that are subscribed to, whether
// there are such folders or not: those of Dovecot's file, or, while there is
// none, of Courier's.
func (r *Root) Subscriptions() ([]string, error) {
	text, found, err := r.readList(r.dir, subscriptionsFile)
	if err == nil && !found {
		text, err = r.courierSubscriptions()
	}
	if err != nil {
		return nil, err
	}
	var names []string
	lines, v2 := subscriptionLines(text)
	for _, line := range lines {
		if name, ok := subscription(line, v2); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// courierSubscriptions is Courier's file in the form of ours: its names begin
// with INBOX.
func (r *Root) courierSubscriptions() ([]byte, error) {
	text, found, err := r.readList(r.dir, courierSubscribed)
	if err != nil || !found {
		return nil, err
	}
	out := []byte(subscriptionsV2)
	lines, _ := subscriptionLines(text)
	for _, line := range lines {
		// Others are of shared folders.
		name, ok := strings.CutPrefix(line, Inbox+".")
		if ok {
			name, ok = folderName("." + name)
		} else if isInbox(line) {
			name, ok = Inbox, true
		}
		if ok {
			out = append(append(out, subscriptionLine(name, true)...), '\n')
		}
	}
	return out, nil
}

// Subscribe adds a name to the subscriptions, or removes it. There need be no
// such folder. ErrFolder is the error for a name that no folder can have.
func (r *Root) Subscribe(ctx context.Context, name string, want bool) error {
	if isInbox(name) {
		name = Inbox
	} else if _, err := FolderDir(name); err != nil {
		return err
	}
	return r.editList(ctx, r.dir, subscriptionsFile, func(text []byte, found bool) ([]byte, error) {
		if !found {
			var err error
			if text, err = r.courierSubscriptions(); err != nil {
				return nil, err
			}
			if len(text) == 0 && !want {
				return nil, nil
			}
			if len(text) == 0 {
				text = []byte(subscriptionsV2)
			}
		}
		lines, v2 := subscriptionLines(text)
		var out []byte
		if v2 {
			out = append(out, subscriptionsV2...)
		}
		there := false
		for _, line := range lines {
			if n, ok := subscription(line, v2); ok && n == name {
				if !want || there {
					continue
				}
				there = true
			}
			out = append(append(out, line...), '\n')
		}
		if want && !there {
			out = append(append(out, subscriptionLine(name, v2)...), '\n')
		}
		return out, nil
	})
}
