package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/config"
	"postamt/internal/forward"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/mbox"
	"postamt/internal/privilege"
	"postamt/internal/route"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// deeds are the commands and files of the alias files. The files are read when the first mail for one comes: most hosts have none.
type deeds struct {
	c      *config.Config
	report func(error)

	mu  sync.Mutex
	set *tables.Set
}

func (d *deeds) tables() (*route.Tables, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.set == nil {
		files := tables.Configured(d.c)
		files.SRSKeys = "" // is queued's and smtpd's
		set, errs := tables.Open(files, d.report)
		if err := errors.Join(errs...); err != nil {
			return nil, d.c.Where(err)
		}
		d.set = set
	}
	return d.set.Current(), nil
}

// find finds the command or file of that name in the entry of an address, and whose it is.
func (d *deeds) find(to addr.Mailbox, name string) (lmtpd.Mailbox, error) {
	t, err := d.tables()
	if err != nil {
		return lmtpd.Mailbox{}, err
	}
	// List files have none, and are not ours to open: they may be anybody's, and on a file server that is down.
	own := *t
	own.Lists = nil
	x, err := own.Expand(to, route.Limits{Depth: d.c.AliasDepth, Count: d.c.AliasExpansion})
	if err != nil {
		return lmtpd.Mailbox{}, err
	}
	var list []alias.Target
	for i := range x.Finals {
		if f := &x.Finals[i]; (f.Kind == route.Command || f.Kind == route.File) && f.Addr.Key() == to.Key() {
			list = append(list, f.Target)
		}
	}
	target, err := lmtpd.FindTarget(list, name)
	if err != nil {
		return lmtpd.Mailbox{}, err
	}
	if err := lmtpd.Trusted(target.Pos.File); err != nil {
		d.report(fmt.Errorf("%v: %w", target.Pos, err))
		return lmtpd.Mailbox{}, lmtpd.UntrustedAlias()
	}
	box := lmtpd.Mailbox{User: d.c.AliasUser, UID: userdb.NoID, GID: userdb.NoID}
	if privilege.Root() {
		a, err := privilege.Find(d.c.AliasUser)
		if err != nil {
			return box, fmt.Errorf("alias_user: %w", err)
		}
		if d.c.LoginUser == "" {
			return box, errors.New("login_user is empty, and so there is nobody to run commands as")
		}
		box.UID, box.GID = userdb.ID(a.UID), userdb.ID(a.GID)
	}
	box.SetTarget(target)
	return box, nil
}

// forwards are the forward files that the configuration names.
func forwards(c *config.Config) *forward.Files {
	if len(c.ForwardFiles) == 0 {
		return nil
	}
	return &forward.Files{Names: c.ForwardFiles, Delimiters: c.RecipientDelimiter}
}

// appendFile is lmtpd.AppendFile.
func appendFile(path, from string, m maildir.Message, text *io.SectionReader) error {
	return mbox.Append(context.Background(), path, mbox.Entry{Sender: from, Date: m.Arrived, ID: m.ID, Suspect: m.Suspect, Message: text}, mbox.Options{})
}
