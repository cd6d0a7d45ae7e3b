package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"postamt/internal/mailbox"
	"postamt/internal/message"
	"postamt/internal/uidlist"
)

// flagNames are the flags as people write them.
var flagNames = [...]struct {
	name   string
	flag   mailbox.Flags
	letter byte // in file names
}{{"seen", mailbox.Seen, 'S'}, {"answered", mailbox.Replied, 'R'}, {"flagged", mailbox.Flagged, 'F'}, {"deleted", mailbox.Trashed, 'T'},
	{"draft", mailbox.Draft, 'D'}, {"passed", mailbox.Passed, 'P'}}

func printable(r rune) bool { return strconv.IsPrint(r) && r != '\ufffd' }

// list prints a line for each message.
func list(c *command) error {
	if len(c.args) > 0 {
		return errUsage
	}
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
		line, err := describe(m, uid, &keywords, r)
		if errors.Is(err, mailbox.ErrExpunged) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := c.out.WriteString(line); err != nil {
			return fmt.Errorf("list: %w", err)
		}
	}
	return nil
}

// headerLimit is how much of a message is read to find its sender and subject.
const headerLimit = 128 << 10

// describe makes the line of a message, its fields in this order for ever; new ones come last.
func describe(m *mailbox.Mailbox, uid uint32, keywords *uidlist.Keywords, r *bufio.Reader) (string, error) {
	size, err := m.Size(uid)
	if err != nil {
		return "", err
	}
	f, err := m.File(uid)
	if err != nil {
		return "", err
	}
	defer f.Close()
	date, err := f.Date()
	if err != nil {
		return "", err
	}
	r.Reset(io.LimitReader(f, headerLimit))
	parsed, err := message.Parse(r, message.Limits{Parts: 1})
	if err != nil {
		return "", err
	}
	e := parsed.Root.Envelope()
	is, ok := m.Message(uid)
	if !ok {
		return "", mailbox.ErrExpunged
	}
	return fmt.Sprintf("%d\t%s\t%d\t%s\t%s\t%s\t%s\n", uid, clean(strings.Join(names(is, keywords), ",")), size, date.UTC().Format(time.RFC3339),
		field(sender(e.From)), field(message.Text(string(e.Subject))), clean(filepath.Clean(f.Name()))), nil
}

// names are the flags and keywords of a message; "-" is none.
func names(m mailbox.Message, keywords *uidlist.Keywords) (list []string) {
	for _, f := range flagNames {
		if m.Flags&f.flag != 0 {
			list = append(list, f.name)
		}
	}
	for i, name := range keywords {
		if m.Keywords>>i&1 != 0 && name != "" {
			list = append(list, name)
		}
	}
	if list == nil {
		return []string{"-"}
	}
	return list
}

// sender is the first mailbox, with its name.
func sender(from []message.Address) string {
	for _, a := range from {
		if a.Kind != message.OneMailbox {
			continue
		}
		address := a.Mailbox
		if a.Host != "" {
			address += "@" + a.Host
		}
		if a.Name != "" {
			return message.Text(a.Name) + " <" + address + ">"
		}
		return address
	}
	return ""
}

func field(s string) string {
	if s = strings.TrimSpace(clean(s)); s != "" {
		return s
	}
	return "-"
}

// du prints what the files of folders take.
func du(c *command) error {
	if len(c.args) > 0 {
		return errUsage
	}
	p, err := c.enter(nil)
	if err != nil {
		return err
	}
	folders, err := c.folders(p)
	if err != nil {
		return err
	}
	for _, f := range folders {
		octets, messages := int64(0), 0
		for _, sub := range []string{"new", "cur"} {
			entries, err := os.ReadDir(filepath.Join(p.root, f.Dir, sub))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			for _, e := range entries {
				if st, err := e.Info(); err == nil && st.Mode().IsRegular() && e.Name()[0] != '.' {
					octets += st.Size()
					messages++
				}
			}
		}
		fmt.Fprintf(c.out, "%d\t%d\t%s\n", octets, messages, clean(f.Name))
	}
	return nil
}
