// Aliasctl checks alias files, and shows where mail for an address goes. See aliasctl(8).
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"postamt/internal/alias"
	"postamt/internal/config"
	"postamt/internal/route"
	"postamt/internal/tables"
)

// Exit codes: sysexits(3), and grep(1)'s 1.
const (
	exNone     = 1
	exUsage    = 64
	exDataErr  = 65
	exNoUser   = 67
	exOSErr    = 71
	exTempFail = 75
	exConfig   = 78
)

const usage = `usage: aliasctl [-0 | --json] [-C file] verb
  check                  expand [address ...]
  who [target ...]       list
  get [key ...]`

// command is one call.
type command struct {
	conf   *config.Config
	tables *route.Tables
	wrong  []error // what is wrong in the files, as the programs would log it
	args   []string
	in     io.Reader
	out    *printer
	code   int
}

// verb does the work; what it finds wrong with single arguments is told by fail.
type verb struct {
	run  func(*command) error
	args bool // it takes some
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("aliasctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	null := flags.Bool("0", false, "end lines with NUL")
	asJSON := flags.Bool("json", false, "print JSON")
	err := flags.Parse(args)
	v, known := map[string]verb{"check": {check, false}, "expand": {expand, true}, "who": {who, true}, "list": {list, false}, "get": {get, true}}[flags.Arg(0)]
	if err != nil || !known || flags.NArg() > 1 && !v.args || *null && *asJSON {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	c := &command{args: flags.Args()[1:], in: os.Stdin, out: &printer{w: bufio.NewWriterSize(os.Stdout, 64<<10), json: *asJSON, end: '\n'}}
	if *null {
		c.out.end = 0
	}
	if c.conf, err = config.Load(config.Path(*file)); err != nil {
		fmt.Fprintln(os.Stderr, "aliasctl:", err)
		return exConfig
	}
	// Telling goes on while the verb runs: list files are read then.
	set, errs := tables.Open(tables.Configured(c.conf), func(err error) { c.wrong = append(c.wrong, err) })
	if len(errs) > 0 {
		for _, err := range append(c.wrong, errs...) {
			fmt.Fprintln(os.Stderr, "aliasctl:", err)
		}
		return exConfig
	}
	c.tables = set.Current()
	err = v.run(c)
	if werr := c.out.w.Flush(); err == nil && werr != nil {
		err = fmt.Errorf("write: %w", werr)
	}
	switch {
	case errors.Is(err, syscall.EPIPE): // head(1) has seen enough
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "aliasctl:", err)
		return exOSErr
	}
	return c.code
}

// fail tells what is wrong with one argument, and goes on.
func (c *command) fail(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "aliasctl: "+format+"\n", args...)
	c.code = max(c.code, code)
}

// each calls f for each argument, or each line of standard input that is not empty.
func (c *command) each(f func(arg string) error) error {
	for _, a := range c.args {
		if err := f(a); err != nil {
			return err
		}
	}
	if len(c.args) > 0 {
		return nil
	}
	lines := bufio.NewScanner(c.in)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			if err := f(line); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

func (c *command) limits() route.Limits {
	return route.Limits{Depth: c.conf.AliasDepth, Count: c.conf.AliasExpansion}
}

// entries calls f for every entry, virtual ones first, as they are looked up.
func (c *command) entries(f func(alias.Entry) error) error {
	for _, t := range []*alias.Table{c.tables.Virtual, c.tables.Aliases} {
		for e := range t.Entries() {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return nil
}
