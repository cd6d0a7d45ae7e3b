// Aliasctl checks alias files, and shows where mail for an address goes. See aliasctl(8).
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"postamt/internal/alias"
	"postamt/internal/config"
	"postamt/internal/route"
	"postamt/internal/tables"
)

// Exit codes: sysexits(3), and grep(1)'s 1.
const (
	exNone       = 1
	exUsage      = 64
	exDataErr    = 65
	exNoInput    = 66
	exNoUser     = 67
	exOSErr      = 71
	exCantCreate = 73
	exTempFail   = 75
	exConfig     = 78
)

const usage = `usage: aliasctl [-0 | --json] [-C file] verb
  check                  expand [address ...]
  who [target ...]       list
  get [key ...]          diff old new
  build [aliasfile ...]  convert format [file]
       aliasctl [-n] [-C file | -f aliasfile] verb
  add key target ...     remove key [target ...]
  rename key newkey      subscribe list address ...
  unsubscribe list [address ...]`

var errUsage = errors.New(usage)

// command is one call.
type command struct {
	path   string // of the configuration
	conf   *config.Config
	tables *route.Tables
	wrong  []error // what is wrong in the files, as the programs would log it
	args   []string
	in     io.Reader
	out    *printer
	code   int

	file string // to edit, "" the one that has the key
	dry  bool
}

// verb does the work; what it finds wrong with single arguments is told by fail.
type verb struct {
	run  func(*command) error
	args bool // it takes some
	edit bool // it changes a file
	bare bool // it does without the tables
}

func main() {
	signal.Ignore(syscall.SIGPIPE) // head(1) has seen enough: an error of the write, not the end
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("aliasctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	null := flags.Bool("0", false, "end lines with NUL")
	asJSON := flags.Bool("json", false, "print JSON")
	aliasFile := flags.String("f", "", "alias file to edit")
	dry := flags.Bool("n", false, "show what an edit would change")
	err := flags.Parse(args)
	verbs := map[string]verb{"check": {run: check}, "expand": {run: expand, args: true}, "who": {run: who, args: true}, "list": {run: list}, "get": {run: get, args: true}, "diff": {run: diff, args: true},
		"build": {run: build, args: true, bare: true}, "convert": {run: convert, args: true, bare: true},
		"add": {run: add, args: true, edit: true}, "remove": {run: remove, args: true, edit: true}, "rename": {run: rename, args: true, edit: true},
		"subscribe": {run: subscribe, args: true, edit: true, bare: true}, "unsubscribe": {run: unsubscribe, args: true, edit: true, bare: true}}
	v, known := verbs[flags.Arg(0)]
	if err != nil || !known || flags.NArg() > 1 && !v.args || *null && *asJSON || v.edit && (*null || *asJSON || *file != "" && *aliasFile != "") || !v.edit && (*dry || *aliasFile != "") {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	c := &command{args: flags.Args()[1:], file: *aliasFile, dry: *dry, in: os.Stdin, out: &printer{w: bufio.NewWriterSize(os.Stdout, 64<<10), json: *asJSON, end: '\n'}}
	if *null {
		c.out.end = 0
	}
	c.path = config.Path(*file)
	if c.file == "" && !v.bare {
		if code := c.load(); code != 0 {
			return code
		}
	}
	err = v.run(c)
	if werr := c.out.w.Flush(); err == nil && werr != nil {
		err = fmt.Errorf("write: %w", werr)
	}
	switch {
	case err == errUsage:
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	case errors.Is(err, syscall.EPIPE): // head(1) has seen enough
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "aliasctl:", err)
		return exOSErr
	}
	return c.code
}

// configure reads the configuration.
func (c *command) configure() (code int) {
	var err error
	if c.conf, err = config.Load(c.path); err != nil {
		fmt.Fprintln(os.Stderr, "aliasctl:", err)
		return exConfig
	}
	return 0
}

// load reads the configuration and what it names.
func (c *command) load() (code int) {
	if code := c.configure(); code != 0 {
		return code
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
	return 0
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
