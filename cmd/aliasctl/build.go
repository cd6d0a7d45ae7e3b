package main

import (
	"errors"

	"postamt/internal/tables"
)

// build compiles the files given, or those of the configuration.
func build(c *command) error {
	files := c.args
	if len(files) == 0 {
		if c.code = c.configure(); c.code != 0 {
			return nil
		}
		files = tables.AliasFiles(c.conf)
	}
	for _, path := range files {
		problems, err := tables.Compile(path)
		switch {
		case errors.Is(err, tables.ErrText):
			c.fail(exDataErr, "%v", err)
		case err != nil:
			c.fail(exCantCreate, "%v", err)
		}
		for _, p := range problems {
			if !p.Warning {
				c.code = max(c.code, exDataErr)
			}
			if err := c.problem(p); err != nil {
				return err
			}
		}
	}
	return nil
}
