package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postamt/internal/durable"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
	"postamt/internal/message"
	"postamt/internal/uidlist"
)

// group is how many messages are published at once: each time costs a few syncs.
const group = 100

// importer appends messages in groups.
type importer struct {
	m      *mailbox.Mailbox
	staged []*mailbox.Staged
	done   int
}

func (i *importer) add(r io.Reader, s status, date time.Time) error {
	one, err := i.m.Stage(r, s.flags, s.keywords, date)
	if err != nil {
		return err
	}
	if i.staged = append(i.staged, one); len(i.staged) == group {
		return i.publish()
	}
	return nil
}

func (i *importer) publish() error {
	staged := i.staged
	i.staged = nil
	_, err := i.m.Publish(context.Background(), staged...)
	if err == nil {
		i.done += len(staged)
	}
	return err
}

// imports appends the messages of an mbox or a maildir.
func imports(c *command) error {
	if len(c.args) > 1 {
		return errUsage
	}
	var from func(*importer) error
	var read []string
	if len(c.args) == 0 {
		from = func(i *importer) error { return importMbox(i, c.in) }
	} else if source := c.args[0]; isDir(source) {
		p, err := find(source)
		if err != nil {
			return err
		}
		read = []string{p.root}
		from = func(i *importer) error { return importMaildir(i, p) }
	} else {
		f, err := os.Open(source) // as who has called us: it may be in a directory of his
		if err != nil {
			return missing(err)
		}
		defer f.Close()
		from = func(i *importer) error { return importMbox(i, f) }
	}
	p, err := c.enter(nil, read...)
	if err != nil {
		return err
	}
	m, err := p.open()
	if err != nil {
		return err
	}
	defer m.Close()
	i := &importer{m: m}
	if err = from(i); err == nil {
		err = i.publish()
	}
	m.Discard(i.staged...)
	if err != nil {
		err = fmt.Errorf("import: %d messages were imported, then: %w", i.done, err)
		if errors.Is(err, errNoMbox) {
			return failure{exDataErr, err}
		}
	}
	return err
}

func importMbox(i *importer, r io.Reader) error {
	box := newMbox(r)
	for {
		date, s, err := box.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = i.add(box, s, date)
		}
		if err != nil {
			return err
		}
	}
}

// importMaildir reads a folder without opening it as a mailbox, which would write there.
func importMaildir(i *importer, p *place) error {
	root, err := durable.OpenDir(p.root)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := durable.OpenDirAt(root, p.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	keywords, err := uidlist.New(root, dir, nil).Keywords()
	if err != nil {
		return err
	}
	var files []string // sub/name
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(p.root, p.dir, sub))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				files = append(files, sub+"/"+e.Name())
			}
		}
	}
	slices.SortStableFunc(files, func(a, b string) int { return compareNames(filepath.Base(a), filepath.Base(b)) })
	for _, file := range files {
		name, ok := maildir.ParseFileName(filepath.Base(file))
		if !ok {
			continue
		}
		s := status{fresh: file[:3] == "new"}
		for _, f := range flagNames {
			if name.Has(f.letter) {
				s.flags |= f.flag
			}
		}
		for k, word := range keywords {
			if word != "" && name.Has(byte('a'+k)) {
				s.keywords = append(s.keywords, word)
			}
		}
		f, err := os.OpenInRoot(filepath.Join(p.root, p.dir), file)
		if errors.Is(err, os.ErrNotExist) {
			warn(fmt.Errorf("import: %s was renamed or removed meanwhile", clean(file)))
			continue
		}
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err == nil {
			err = i.add(f, s, st.ModTime())
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// compareNames orders by the seconds that names begin with, then by the rest.
func compareNames(a, b string) int {
	if n := digits(a) - digits(b); n != 0 {
		return n
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func digits(s string) (n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// export writes messages as an mbox, or to a maildir.
func export(c *command) error {
	if len(c.args) > 1 {
		return errUsage
	}
	if len(c.args) == 0 || c.args[0] == "--mbox" || c.args[0] == "-mbox" {
		return c.exportMbox()
	}
	to, err := c.target(c.args[0])
	if err != nil {
		return err
	}
	m, uids, err := c.open([]string{"1:*"}, to)
	if err != nil {
		return err
	}
	defer m.Close()
	other, err := to.open()
	if err != nil {
		return err
	}
	defer other.Close()
	validity, _, _, _ := m.Status()
	for part := range slices.Chunk(uids, group) {
		if _, err := m.Copy(context.Background(), validity, part, other); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}

// target is a maildir to export to, made if it is not there.
func (c *command) target(path string) (*place, error) {
	if _, err := os.Lstat(path); err == nil {
		return find(path)
	}
	from, err := find(c.dir)
	if err != nil {
		return nil, err
	}
	if err := become(from.root); err != nil {
		return nil, err
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := durable.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return find(path)
}

func (c *command) exportMbox() error {
	m, uids, err := c.open([]string{"1:*"})
	if err != nil {
		return err
	}
	defer m.Close()
	keywords, err := m.Keywords()
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(nil, message.Block)
	for _, uid := range uids {
		is, ok := m.Message(uid)
		f, err := m.File(uid)
		if errors.Is(err, mailbox.ErrExpunged) {
			continue
		}
		if err != nil {
			return err
		}
		if !ok {
			f.Close()
			continue
		}
		date, err := f.Date()
		if err == nil {
			s := status{flags: is.Flags, fresh: filepath.Base(filepath.Dir(f.Name())) == "new"}
			for i, word := range keywords {
				if is.Keywords>>i&1 != 0 && word != "" {
					s.keywords = append(s.keywords, word)
				}
			}
			r.Reset(f)
			err = writeMbox(c.out, r, date, s)
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}
