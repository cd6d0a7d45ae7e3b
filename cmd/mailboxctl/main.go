// Mailboxctl lists, marks, moves, removes, imports and exports the messages of a maildir. See mailboxctl(8).
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// Exit codes: sysexits(3).
const (
	exUsage       = 64
	exDataErr     = 65
	exNoInput     = 66
	exUnavailable = 69
	exOSErr       = 71
	exCantCreate  = 73
	exNoPerm      = 77
)

// failure is an error with its exit code.
type failure struct {
	code int
	error
}

func (f failure) Unwrap() error { return f.error }

var errUsage = errors.New(`usage: mailboxctl [-f folder] verb dir ...
  check dir                          list dir
  cat dir uid ...                    flags dir uid ... +flag|-flag ...
  move dir uid ... to                expunge dir uid ... | --older age
  import dir [source]                export dir [--mbox | maildir]
  du dir`)

// command is one call.
type command struct {
	dir, folder string   // as they were given
	args        []string // behind dir
	in          io.Reader
	out         *bufio.Writer
}

func main() {
	signal.Ignore(syscall.SIGPIPE) // head(1) has seen enough: an error of the write, not the end
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("mailboxctl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	folder := flags.String("f", "", "folder")
	err := flags.Parse(args)
	if err != nil || flags.NArg() < 2 {
		fmt.Fprintln(os.Stderr, errUsage)
		return exUsage
	}
	c := &command{dir: flags.Arg(1), folder: *folder, args: flags.Args()[2:], in: os.Stdin, out: bufio.NewWriterSize(os.Stdout, 64<<10)}
	verbs := map[string]func(*command) error{"check": check, "list": list, "cat": cat, "flags": setFlags, "move": move, "expunge": expunge,
		"import": imports, "export": export, "du": du}
	verb := verbs[flags.Arg(0)]
	if verb == nil {
		fmt.Fprintln(os.Stderr, errUsage)
		return exUsage
	}
	err = verb(c)
	if werr := c.out.Flush(); err == nil && werr != nil {
		err = fmt.Errorf("write: %w", werr)
	}
	return exit(err)
}

// exit tells of an error and gives its code.
func exit(err error) int {
	var f failure
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE): // head(1) has seen enough
		return 0
	case err == errUsage:
		fmt.Fprintln(os.Stderr, err)
		return exUsage
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "mailboxctl:", text)
	}
	switch {
	case errors.As(err, &f):
		return f.code
	case errors.Is(err, maildir.ErrQuota):
		return exCantCreate
	}
	return exOSErr
}

// warn tells of what is no error.
func warn(err error) { fmt.Fprintln(os.Stderr, "mailboxctl:", err) }

// check prints what is wrong with a folder, or with all of a maildir.
func check(c *command) error {
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
	wrong := false
	for _, f := range folders {
		q := place{p.root, f.Dir}
		m, err := q.open()
		if err != nil {
			return err
		}
		problems, err := m.Check()
		m.Close()
		if err != nil {
			return err
		}
		for _, p := range problems {
			wrong = true
			fmt.Fprintf(c.out, "%s: %s\n", clean(p.Path), clean(p.What))
		}
	}
	if wrong {
		return failure{exDataErr, errors.New("")}
	}
	return nil
}

// cat prints files.
func cat(c *command) error {
	sets, rest := splitUIDs(c.args)
	if len(sets) == 0 || len(rest) > 0 {
		return errUsage
	}
	m, uids, err := c.open(sets)
	if err != nil {
		return err
	}
	defer m.Close()
	printed := false
	for _, uid := range uids {
		f, err := m.File(uid)
		if errors.Is(err, mailbox.ErrExpunged) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(c.out, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("cat: %w", err)
		}
		printed = true
	}
	if !printed {
		return failure{exUnavailable, fmt.Errorf("cat: no such message in %s", c.dir)}
	}
	return nil
}

// open opens the folder of a command, and looks up UIDs there.
func (c *command) open(sets []string, others ...*place) (*mailbox.Mailbox, []uint32, error) {
	p, err := c.enter(others)
	if err != nil {
		return nil, nil, err
	}
	m, err := p.open()
	if err != nil {
		return nil, nil, err
	}
	uids, err := c.uids(m, sets)
	if err != nil {
		m.Close()
	}
	return m, uids, err
}

// missing makes an error of what is not there one of the arguments.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, maildir.ErrNoFolder) || errors.Is(err, maildir.ErrFolder) {
		return failure{exNoInput, err}
	}
	return err
}

// clean shows what does not print as "?".
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !printable(r) {
			return '?'
		}
		return r
	}, s)
}
