package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"postamt/internal/alias"
	"postamt/internal/tables"
	"postamt/internal/textfile"
)

// add, remove and rename change one entry of one file.

func add(c *command) error {
	if len(c.args) < 2 {
		return errUsage
	}
	return c.edit(c.args[0], func(file, text string) (string, bool, error) {
		return alias.Add(file, text, c.args[0], c.args[1:])
	})
}

func remove(c *command) error {
	if len(c.args) < 1 {
		return errUsage
	}
	return c.edit(c.args[0], func(file, text string) (string, bool, error) {
		return alias.Remove(file, text, c.args[0], c.args[1:])
	})
}

func rename(c *command) error {
	if len(c.args) != 2 {
		return errUsage
	}
	return c.edit(c.args[0], func(file, text string) (string, bool, error) {
		return alias.Rename(file, text, c.args[0], c.args[1])
	})
}

// edit changes the file that has the key, or is for such keys.
func (c *command) edit(key string, change func(file, text string) (string, bool, error)) error {
	path := c.file
	if path == "" {
		path = c.fileOf(key)
	}
	if path == "" {
		c.fail(exConfig, "no alias file is configured for %s", clean(key))
		return nil
	}
	var refusal error
	apply := func(text string) (out string, err error) {
		out, _, refusal = change(path, text)
		return out, refusal
	}
	write := textfile.Edit
	if c.dry {
		write = c.pretend
	}
	switch err := write(path, textfile.Owner{Mode: 0o644, UID: -1, GID: -1}, apply); {
	case err == nil:
		if _, err := os.Stat(path + alias.Compiled); err == nil && !c.dry { // or the programs would read the text from now on
			if _, err := tables.Compile(path); err != nil && !errors.Is(err, alias.ErrForeign) {
				c.fail(exCantCreate, "%v", err)
			}
		}
	case errors.Is(err, alias.ErrNoEntry), errors.Is(err, alias.ErrNoTarget):
		c.fail(exNone, "%v", err)
	case refusal != nil:
		c.fail(exDataErr, "%v", err)
	default:
		c.fail(exCantCreate, "%v", err)
	}
	return nil
}

// pretend is textfile.Edit that writes and locks nothing, and so is for those too who may only read.
func (c *command) pretend(path string, _ textfile.Owner, change func(string) (string, error)) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := change(string(text))
	if err == nil {
		c.difference(string(text), out)
	}
	return err
}

// fileOf is the file whose entry holds for a key, or the one that a new entry goes to.
func (c *command) fileOf(key string) string {
	if e, ok := c.lookup(key); ok {
		return e.Pos().File
	}
	files := c.conf.Aliases
	if strings.Contains(key, "@") && len(c.conf.VirtualAliases) > 0 {
		files = c.conf.VirtualAliases
	}
	if len(files) == 0 {
		return ""
	}
	return files[0]
}

// difference prints the lines that an edit would change, as diff(1) marks them.
func (c *command) difference(before, after string) {
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	for _, side := range []struct {
		mark  byte
		lines []string
	}{{'-', a}, {'+', b}} {
		for _, line := range side.lines {
			if line != "" {
				fmt.Fprintf(c.out.w, "%c%s\n", side.mark, strings.TrimRight(line, "\r\n"))
			}
		}
	}
}
