// Queuectl shows the queue and tells queued what to do with it. See queuectl(8).
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
	"path/filepath"
	"strings"
	"syscall"

	"postamt/internal/config"
	"postamt/internal/queue"
)

// Exit codes: sysexits(3), and 1 for what went wrong with mail.
const (
	exFailed      = 1
	exUsage       = 64
	exDataErr     = 65
	exNoUser      = 67
	exNoHost      = 68
	exUnavailable = 69
	exOSErr       = 71
	exTempFail    = 75
	exNoPerm      = 77
	exConfig      = 78
)

// verb is one of the words after "queuectl". run reads its own flags, with parse; an error of it ends the call.
type verb struct {
	name     string
	synopsis string
	run      func(*command) error
}

// verbs are in the order of the page.
func verbs() []verb {
	return []verb{
		{"list", "[filter ...] [--sort key [-r]] [--ids] [-0 | --json]", list},
		{"show", "[-0] [--json] id ...", show},
		{"cat", "[-0] [-H] id ...", cat},
		{"stats", "[filter ...] [--sender] [--json]", stats},
		{"top", "[-d seconds] [-n count]", top},
		{"hold", "[-0] id ...", hold},
		{"release", "[-0] id ...", release},
		{"requeue", "[-0] id ...", requeue},
		{"retry", "[-0] id ... | filter ... | --all", retry},
		{"flush", "", flush},
		{"delete", "[-0] id ...", remove},
		{"bounce", "[-0] [-m text] id ...", bounce},
		{"expire", "[-m text] filter ...", expire},
		{"pause", "[destination [text]]", pause},
		{"resume", "destination", resume},
		{"route", "[-n] [--outside] [-0 | --json] address ... [from sender]", routeVerb},
		{"why", "[--json] id | message-id [logfile ...]", why},
	}
}

var errUsage = errors.New("usage")

// command is one call.
type command struct {
	file string // -C
	args []string
	in   io.Reader
	out  *bufio.Writer
	code int // what single arguments have come to

	conf *config.Config
}

func main() {
	signal.Ignore(syscall.SIGPIPE) // head(1) has seen enough: an error of the write, not the end
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("queuectl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	if err := flags.Parse(args); err != nil || flags.NArg() < 1 {
		return usage()
	}
	for _, v := range verbs() {
		if v.name == flags.Arg(0) {
			c := &command{file: *file, args: flags.Args()[1:], in: os.Stdin, out: bufio.NewWriterSize(os.Stdout, 64<<10)}
			return c.end(v, v.run(c))
		}
	}
	return usage()
}

func usage() int {
	var b strings.Builder
	b.WriteString("usage: queuectl [-C file] verb\n")
	for _, v := range verbs() {
		fmt.Fprintln(&b, " ", strings.TrimSpace(v.name+" "+v.synopsis))
	}
	b.WriteString(filterUsage)
	io.WriteString(os.Stderr, b.String())
	return exUsage
}

// exit is an error that says with which code the program ends. Others end it with 71.
type exit struct {
	code int
	error
}

func (e exit) Unwrap() error { return e.error }

// end is the exit code.
func (c *command) end(v verb, err error) int {
	if werr := c.out.Flush(); werr != nil && err == nil {
		err = fmt.Errorf("%s: write: %w", v.name, werr)
	}
	var e exit
	switch {
	case err == errUsage:
		text := strings.TrimSpace("usage: queuectl [-C file] " + v.name + " " + v.synopsis)
		if strings.Contains(text, "filter") {
			text += "\n" + strings.TrimSpace(filterUsage)
		}
		fmt.Fprintln(os.Stderr, text)
		return exUsage
	case err == nil, errors.Is(err, syscall.EPIPE): // head(1) has seen enough
		return c.code
	case errors.As(err, &e):
		c.fail(e.code, err)
	default:
		c.failed(err)
	}
	return c.code
}

// failed is fail with the code of an error of the queue.
func (c *command) failed(err error) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		first, _, _ := strings.Cut(err.Error(), "\n") // it is the same for each directory
		c.fail(exNoPerm, errors.New(first+" (the owner of the queue and root may)"))
	default:
		c.fail(exOSErr, err)
	}
}

// fail tells of one thing that went wrong; the greatest of the codes is that of the program.
func (c *command) fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "queuectl:", err)
	c.code = max(c.code, code)
}

// parse reads the flags of a verb and leaves the other arguments, of which there are from least to most (-1: any number).
func (c *command) parse(flags *flag.FlagSet, least, most int) error {
	flags.SetOutput(io.Discard)
	if err := flags.Parse(c.args); err != nil {
		return errUsage
	}
	c.args = flags.Args()
	if len(c.args) < least || most >= 0 && len(c.args) > most {
		return errUsage
	}
	return nil
}

// flags are those of the verb, none yet.
func (c *command) flags() *flag.FlagSet { return flag.NewFlagSet("", flag.ContinueOnError) }

func (c *command) config() (*config.Config, error) {
	if c.conf == nil {
		conf, err := config.Load(config.Path(c.file))
		if err != nil {
			return nil, exit{exConfig, err}
		}
		c.conf = conf
	}
	return c.conf, nil
}

// queue opens the queue.
func (c *command) queue() (*queue.Queue, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	q, err := queue.Open(conf.QueueDir, queue.Options{})
	if err != nil {
		return nil, conf.Where(err)
	}
	return q, nil
}

// waker is how queued is told.
func (c *command) waker() (*queue.Waker, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	return queue.NewWaker(filepath.Join(conf.RunDir, "queued"))
}
