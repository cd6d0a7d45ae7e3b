package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postamt/internal/mailbox"
)

// setFlags sets and clears flags and keywords.
func setFlags(c *command) error {
	sets, words := splitUIDs(c.args)
	var flags [2]mailbox.Flags
	var keywords [2][]string
	for _, w := range words {
		if len(w) < 2 || w[0] != '+' && w[0] != '-' {
			return errUsage
		}
		op := mailbox.Add
		if w[0] == '-' {
			op = mailbox.Remove
		}
		if f := flagNamed(w[1:]); f != 0 {
			flags[op] |= f
		} else {
			keywords[op] = append(keywords[op], w[1:])
		}
	}
	if len(sets) == 0 || len(words) == 0 {
		return errUsage
	}
	m, uids, err := c.open(sets)
	if err != nil {
		return err
	}
	defer m.Close()
	validity, _, _, _ := m.Status()
	for _, op := range []mailbox.Op{mailbox.Add, mailbox.Remove} {
		if flags[op] == 0 && keywords[op] == nil {
			continue
		}
		if _, err := m.SetFlags(validity, uids, op, flags[op], keywords[op]); err != nil {
			return err
		}
	}
	return nil
}

func flagNamed(name string) mailbox.Flags {
	for _, f := range flagNames {
		if strings.EqualFold(f.name, name) {
			return f.flag
		}
	}
	return 0
}

// move moves messages to a folder: a path, or one of the same maildir.
func move(c *command) error {
	if len(c.args) < 2 {
		return errUsage
	}
	target := c.args[len(c.args)-1]
	sets, rest := splitUIDs(c.args[:len(c.args)-1])
	if len(sets) == 0 || len(rest) > 0 {
		return errUsage
	}
	var to *place
	var err error
	if strings.Contains(target, "/") {
		if to, err = find(target); err != nil {
			return err
		}
	} else {
		// By name, which is looked up in the maildir of dir when root has become its owner.
		if to, err = find(c.dir); err != nil {
			return err
		}
	}
	m, uids, err := c.open(sets, to)
	if err != nil {
		return err
	}
	defer m.Close()
	validity, _, _, _ := m.Status()
	if !strings.Contains(target, "/") {
		if to, err = to.named(target); err != nil {
			return err
		}
	}
	other, err := to.open()
	if err != nil {
		return err
	}
	defer other.Close()
	_, err = m.Move(context.Background(), validity, uids, other)
	return err
}

// expunge removes messages, by UID or by age.
func expunge(c *command) error {
	sets, rest := splitUIDs(c.args)
	byAge := len(rest) == 2 && (rest[0] == "--older" || rest[0] == "-older")
	if byAge == (len(sets) > 0) || !byAge && len(rest) > 0 {
		return errUsage
	}
	var age time.Duration
	if byAge {
		var err error
		if age, err = parseAge(rest[1]); err != nil {
			return failure{exUsage, err}
		}
		sets = []string{"1:*"}
	}
	m, uids, err := c.open(sets)
	if err != nil {
		return err
	}
	defer m.Close()
	validity, _, _, _ := m.Status()
	if byAge {
		if uids, err = older(m, uids, time.Now().Add(-age)); err != nil {
			return err
		}
	}
	_, err = m.Expunge(validity, uids)
	return err
}

// parseAge reads a number of hours, days or weeks.
func parseAge(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if s != "" {
		unit := units[s[len(s)-1]]
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
		if age := time.Duration(n) * unit; err == nil && unit != 0 && age/unit == time.Duration(n) {
			return age, nil
		}
	}
	return 0, fmt.Errorf("%q: an age is wanted, as 12h, 30d or 4w", s)
}

// older are the messages whose files are of a time before then.
func older(m *mailbox.Mailbox, uids []uint32, then time.Time) (old []uint32, err error) {
	for _, uid := range uids {
		f, err := m.File(uid)
		if errors.Is(err, mailbox.ErrExpunged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		date, err := f.Date()
		f.Close()
		if err != nil {
			return nil, err
		}
		if date.Before(then) {
			old = append(old, uid)
		}
	}
	return old, nil
}
