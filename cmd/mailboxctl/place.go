package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"postamt/internal/durable"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
	"postamt/internal/privilege"
)

// place is a folder of a maildir.
type place struct {
	root string // absolute
	dir  string // of the folder in it, "." is INBOX
}

// find says what a path leads to: a folder, if its name has a dot and it is in a maildir or marked as a folder, else a maildir.
func find(path string) (*place, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if !isDir(abs + "/cur") {
		return nil, failure{exNoInput, fmt.Errorf("%s: there is no maildir", path)}
	}
	if base := filepath.Base(abs); strings.HasPrefix(base, ".") {
		_, err := os.Lstat(abs + "/maildirfolder")
		if parent := filepath.Dir(abs); err == nil || isDir(parent+"/cur") && isDir(parent+"/new") {
			return &place{parent, base}, nil
		}
	}
	return &place{abs, "."}, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// named is a folder of the same maildir.
func (p *place) named(folder string) (*place, error) {
	root, err := durable.OpenDir(p.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, is, err := maildir.OpenRoot(root, nil).Open(folder)
	if err != nil {
		return nil, missing(err)
	}
	f.Close()
	return &place{p.root, is.Dir}, nil
}

// folders are those of a command that was given a maildir; else it is the one.
func (c *command) folders(p *place) ([]maildir.Folder, error) {
	root, err := durable.OpenDir(p.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	list, err := maildir.OpenRoot(root, nil).Folders()
	if err != nil || p.dir == "." && c.folder == "" {
		return list, err
	}
	for _, f := range list {
		if f.Dir == p.dir {
			return []maildir.Folder{f}, nil
		}
	}
	return []maildir.Folder{{Name: p.dir[1:], Dir: p.dir}}, nil // its name is no folder's
}

// open opens the folder.
func (p *place) open() (*mailbox.Mailbox, error) {
	root, err := durable.OpenDir(p.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	host, _ := os.Hostname()
	dir := p.dir
	if dir == "." {
		dir = ""
	}
	return mailbox.Open(root, dir, mailbox.Options{Report: warn, Host: host})
}

// enter finds the place of a command and gives away what it does not need: root becomes the owner, and nobody has a network, other
// programs, or files but those of the places and those to read.
func (c *command) enter(others []*place, read ...string) (*place, error) {
	p, err := find(c.dir)
	if err != nil {
		return nil, err
	}
	if err := become(p.root, others...); err != nil {
		return nil, err
	}
	if c.folder != "" {
		if p.dir != "." {
			return nil, failure{exUsage, fmt.Errorf("%s is a folder already", c.dir)}
		}
		if p, err = p.named(c.folder); err != nil {
			return nil, err
		}
	}
	s := privilege.Sandbox{Write: []string{p.root}, Read: read}
	for _, o := range others {
		s.Write = append(s.Write, o.root)
	}
	err = errors.Join(privilege.Limits{}.Set(), privilege.NoNew())
	if err == nil {
		_, err = s.Enter()
	}
	return p, err
}

// become makes root the owner of a maildir. All places must be his.
func become(root string, others ...*place) error {
	if !privilege.Root() {
		return nil
	}
	owner := func(path string) (*syscall.Stat_t, error) {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, &fs.PathError{Op: "stat", Path: path, Err: errors.ErrUnsupported}
		}
		return sys, nil
	}
	own, err := owner(root)
	if err != nil {
		return err
	}
	for _, o := range others {
		st, err := owner(o.root)
		if err != nil {
			return err
		}
		if st.Uid != own.Uid {
			return failure{exNoPerm, fmt.Errorf("%s belongs to uid %d, %s to uid %d", root, own.Uid, o.root, st.Uid)}
		}
	}
	if own.Uid == 0 {
		return nil
	}
	if err := privilege.Drop(privilege.Account{Name: fmt.Sprint("uid ", own.Uid), UID: own.Uid, GID: own.Gid}); err != nil {
		return failure{exNoPerm, fmt.Errorf("%s: %w", root, err)}
	}
	return nil
}
