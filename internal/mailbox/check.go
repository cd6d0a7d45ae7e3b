package mailbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/uidlist"
)

// Problem is something of a folder that is not as it should be.
type Problem struct{ Path, What string }

func (p Problem) String() string { return p.Path + ": " + p.What }

// Check sets the names of the files against the list of UIDs, and both against what the mailbox knows of them. It reads no message. What others do meanwhile
// can look wrong for a moment: a problem is what two looks show.
func (b *Mailbox) Check() ([]Problem, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Problem
	for look := range 2 {
		found, err := b.check(look > 0)
		if err != nil {
			return nil, err
		}
		if look > 0 {
			found = slices.DeleteFunc(found, func(p Problem) bool { return !slices.Contains(all, p) })
		}
		if all = found; len(all) == 0 {
			break
		}
	}
	return all, nil
}

// checking is one look.
type checking struct {
	b        *Mailbox
	problems []Problem
	names    map[string]string // base to path
	keywords uidlist.Keywords
}

func (c *checking) say(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{filepath.Clean(path), fmt.Sprintf(format, args...)})
}

func (b *Mailbox) check(hard bool) ([]Problem, error) {
	if err := b.sync(hard); err != nil {
		return nil, err
	}
	c := &checking{b: b, names: make(map[string]string)}
	var err error
	if c.keywords, err = b.list.Keywords(); err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	for _, dir := range []*os.File{b.new, b.cur} {
		if err := c.directory(dir); err != nil {
			return nil, err
		}
	}
	if err := c.list(); err != nil {
		return nil, err
	}
	c.index()
	return c.problems, nil
}

// directory looks at the names in cur/ or new/.
func (c *checking) directory(dir *os.File) error {
	f, err := durable.OpenDirAt(dir, ".")
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	for _, name := range names {
		path := dir.Name() + "/" + name
		if name[0] == '.' {
			continue
		}
		base, _, k := parseName(name)
		if base == "" || strings.ContainsAny(name, "\r\n") {
			c.say(path, "cannot be the name of a message")
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // renamed
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			c.say(path, "is no ordinary file")
		} else if n := sizeIn(base, ",S="); n != unknown && n != uint64(st.Size) {
			c.say(path, "has %d octets, not what its name says", st.Size)
		}
		for i, keyword := range c.keywords {
			if k>>i&1 != 0 && keyword == "" {
				c.say(path, "has the letter %s, which stands for no keyword", uidlist.Letters(1<<i))
			}
		}
		if other := c.names[base]; other != "" {
			c.say(path, "is the same message as %s", filepath.Clean(other))
		}
		c.names[base] = path
	}
	return nil
}

// list reads the list of UIDs anew.
func (c *checking) list() error {
	b := c.b
	l := uidlist.New(b.root, b.dir, b.ops)
	path := b.dir.Name() + "/" + listName
	uids := make(map[string]uint32)
	_, err := l.Read(func(e uidlist.Entry) error {
		if c.names[e.Name] != "" {
			uids[e.Name] = uint32(e.UID)
		}
		return nil
	})
	if errors.Is(err, uidlist.ErrDamaged) {
		c.say(path, "%v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("mailbox: %w", err)
	}
	x := b.index.x
	if v := l.Header().Validity; v != x.validity {
		c.say(path, "has UIDVALIDITY %d, and %s %d", v, indexName, x.validity)
	}
	for base, name := range c.names {
		if uids[base] == 0 {
			c.say(name, "has no UID")
		}
	}
	for i := range x.messages {
		m := &x.messages[i]
		name, err := x.names.get(m)
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		if uid := uids[baseOf(name)]; uid != m.uid && c.names[baseOf(name)] != "" {
			c.say(path, "%s has UID %d, and %d in %s", baseOf(name), uid, m.uid, indexName)
		}
	}
	if x.next < uint32(l.Header().Next) {
		c.say(path, "the next UID is %d, and %d in %s", l.Header().Next, x.next, indexName)
	}
	return nil
}

// index sets what is known against the directories.
func (c *checking) index() {
	x := c.b.index.x
	path := c.b.index.dir.Name() + "/" + indexName
	known := make(map[string]bool, len(x.messages))
	for i := range x.messages {
		m := &x.messages[i]
		name, err := x.names.get(m)
		if err != nil {
			continue // list has said so
		}
		base, f, k := parseName(name)
		known[base] = true
		at := c.names[base]
		switch {
		case at == "":
			c.say(path, "message %d, %s, has no file", m.uid, name)
		case at != c.b.place(m).Name()+"/"+name:
			c.say(path, "message %d is thought to be %s, and is %s", m.uid, filepath.Clean(c.b.place(m).Name()+"/"+name), filepath.Clean(at))
		case f != m.flags() || k != m.keywords:
			c.say(path, "message %d has other flags than its file", m.uid)
		}
	}
	for base, name := range c.names {
		if !known[base] {
			c.say(path, "does not have %s", filepath.Clean(name))
		}
	}
}
