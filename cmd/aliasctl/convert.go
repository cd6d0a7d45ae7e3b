package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"postamt/internal/alias"
)

// convert prints a table of another program as an alias file.
func convert(c *command) error {
	if len(c.args) < 1 || len(c.args) > 2 || c.out.json || c.out.end == 0 {
		return errUsage
	}
	path := "-"
	if len(c.args) == 2 {
		path = c.args[1]
	}
	// What main.cf and smtpd.conf name is a type and the file.
	if kind, name, ok := strings.Cut(path, ":"); ok && !strings.ContainsAny(kind, "/.") {
		if !slices.Contains([]string{"hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash", "file", "db"}, kind) {
			c.fail(exDataErr, "convert: a table of type %s has no equivalent", clean(kind))
			return nil
		}
		path = name
	}
	in := c.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			c.fail(exNoInput, "convert: %v", err)
			return nil
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, alias.MaxFile+1))
	if err != nil {
		c.fail(exNoInput, "convert: %v", err)
		return nil
	}
	out, found, err := alias.Convert(c.args[0], path, string(text))
	switch {
	case err == alias.ErrUnknownFormat:
		c.fail(exUsage, "convert: %v; there are %s", err, strings.Join(alias.Formats(), ", "))
		return nil
	case err != nil:
		c.fail(exDataErr, "convert: %v", err)
		return nil
	}
	for _, p := range found {
		fmt.Fprintln(os.Stderr, clean(p.Error()))
		if !p.Warning {
			c.code = exDataErr
		}
	}
	_, err = c.out.w.WriteString(out)
	return err
}
