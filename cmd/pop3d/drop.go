package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/mailbox"
	"postamt/internal/maillog"
	"postamt/internal/pop3d"
)

// lockFile is locked with flock(2) while a session has the maildrop: a process that dies leaves no lock behind.
const lockFile = "postamt.pop3.lock"

// drop is a pop3d.Maildrop: the INBOX of a maildir, as it was when it was opened.
type drop struct {
	box  *mailbox.Mailbox
	lock *os.File
	uids []uint32
	ids  []string

	validity uint32 // UIDVALIDITY of the uids
}

// openDrop opens the maildir at a path, and makes one that is missing in a directory that is there: who has got no mail yet has an empty maildrop.
func openDrop(path string, log *maillog.Logger) (*drop, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the maildir: %w", err)
	}
	root, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("open the maildir: %w", err)
	}
	defer root.Close()
	d := &drop{}
	fd, err := unix.Openat(int(root.Fd()), lockFile, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the maildrop: open %s/%s: %w", path, lockFile, err)
	}
	d.lock = os.NewFile(uintptr(fd), lockFile)
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		d.Close()
		return nil, pop3d.ErrInUse
	case err != nil:
		d.Close()
		return nil, fmt.Errorf("lock the maildrop: %s/%s: %w", path, lockFile, err)
	}
	if d.box, err = mailbox.Open(root, "", mailbox.Options{Report: func(err error) { log.Problem("", "mailbox", err) }}); err == nil {
		d.validity, _, _, _ = d.box.Status()
		d.uids, d.ids, err = d.box.Maildrop()
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *drop) Len() int { return len(d.uids) }

func (d *drop) Size(i int) (int64, error) {
	n, err := d.box.Size(d.uids[i])
	return n, missing(err)
}

func (d *drop) UIDL(i int) string { return d.ids[i] }

func (d *drop) Open(i int) (pop3d.Message, error) {
	f, err := d.box.File(d.uids[i])
	if err != nil {
		return nil, missing(err)
	}
	if now, _, _, _ := d.box.Status(); now != d.validity { // the name was looked for again, and the file may be another message's
		f.Close()
		return nil, mailbox.ErrValidity
	}
	return f, nil
}

// missing says in the session's words that a message is gone.
func missing(err error) error {
	if errors.Is(err, mailbox.ErrExpunged) {
		return fs.ErrNotExist
	}
	return err
}

func (d *drop) Mistaken(i int) { d.box.Measure(d.uids[i]) }

func (d *drop) Remove(_ context.Context, list []int) (failed []int, err error) {
	at := make(map[uint32]int, len(list))
	uids := make([]uint32, len(list))
	for k, i := range list {
		uids[k] = d.uids[i]
		at[d.uids[i]] = i
	}
	left, err := d.box.Expunge(d.validity, uids)
	for _, uid := range left {
		failed = append(failed, at[uid])
	}
	return failed, err
}

func (d *drop) Close() error {
	var err error
	if d.box != nil {
		err = d.box.Close()
	}
	return errors.Join(err, d.lock.Close())
}
