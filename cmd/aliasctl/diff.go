package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postamt/internal/alias"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/tables"
)

// diff prints the keys that mean another thing with another file in the place of one of the configuration.
func diff(c *command) error {
	if len(c.args) != 2 {
		return errUsage
	}
	var sides [2]*route.Tables
	for i, path := range c.args {
		t, err := c.instead(path)
		if err != nil {
			c.fail(exDataErr, "diff: %v", err)
			return nil
		}
		sides[i] = t
	}
	// Every key of either, once; those of the new file that the old one lacks come last.
	seen := make(map[string]bool)
	for _, t := range sides {
		for _, tab := range []*alias.Table{t.Virtual, t.Aliases} {
			for e := range tab.Entries() {
				key := e.Key()
				if seen[key] {
					continue
				}
				seen[key] = true
				before, after := c.meaning(sides[0], key), c.meaning(sides[1], key)
				if before == after {
					continue
				}
				c.code = max(c.code, exNone)
				if err := c.out.record(0, field{"key", key}, field{"before", before}, field{"after", after}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// instead is the tables with a file in the place of the one that is edited: of that which OLD or NEW names, else of all of aliases.
func (c *command) instead(path string) (*route.Tables, error) {
	if path == "-" {
		temp, err := os.CreateTemp("", "aliasctl")
		if err != nil {
			return nil, err
		}
		defer os.Remove(temp.Name())
		_, err = io.Copy(temp, c.in)
		if err = errors.Join(err, temp.Close()); err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		path = temp.Name()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	files := tables.Configured(c.conf)
	place := func(list []string) ([]string, bool) {
		for i, p := range list {
			for _, arg := range c.args {
				if a, err := filepath.Abs(arg); err == nil && a == p {
					list = slices.Clone(list)
					list[i] = path
					return list, true
				}
			}
		}
		return list, false
	}
	var is bool
	if files.VirtualAliases, is = place(files.VirtualAliases); !is {
		if files.Aliases, is = place(files.Aliases); !is {
			files.Aliases = []string{path}
		}
	}
	files.Optional = slices.DeleteFunc(files.Optional, func(p string) bool { return p == path })
	set, errs := tables.Open(files, func(error) {}) // check tells of single lines
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set.Current(), nil
}

// meaning is where mail for a key goes: the ends, in order. "@domain" is asked for a local part that nobody has.
func (c *command) meaning(t *route.Tables, key string) string {
	var ends []string
	x, err := t.Explain(t.KeyAddress(key), c.limits(), func(s route.Step) bool {
		if s.Target.Kind == alias.Blackhole { // of which there is no final
			ends = append(ends, s.Target.String())
		}
		return true
	})
	var r *smtp.Reply
	if errors.As(err, &r) {
		return r.Error()
	}
	for i := range x.Finals {
		f := &x.Finals[i]
		switch f.Kind {
		case route.Refuse:
			ends = append(ends, f.Addr.String()+" ("+f.Reply.Error()+")")
		case route.Mailbox:
			ends = append(ends, f.User)
		default:
			ends = append(ends, f.Addr.String())
		}
		if !f.Owner.IsNull() {
			ends[len(ends)-1] += " owner " + f.Owner.String()
		}
	}
	slices.Sort(ends)
	return strings.Join(slices.Compact(ends), ", ")
}
