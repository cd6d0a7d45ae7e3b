// Vacation answers mail while its recipient is away. See vacation(1).
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postamt/internal/pipe"
	"postamt/internal/vacation"
)

// Exit codes: sysexits(3). What is wrong with a file or a program is temporary: the owner puts it right, and meanwhile no mail is returned to people
// who have done nothing but write to him. What is wrong with the sender's address is not: nothing puts it right.
const (
	exUsage       = 64
	exDataErr     = 65
	exNoUser      = 67
	exNoHost      = 68
	exUnavailable = 69
	exTempFail    = 75
	exNoPerm      = 77
)

const usage = `usage: vacation [-jn] [-a alias] [-f database] [-m message] [-r interval] [-s sender] [-S sendmail] user
       vacation -i | -l | -x [-f database] [-r interval] [user]`

const sendTime = 2 * time.Minute

// defaultSendmail is set by the linker: make SBINDIR=...
var defaultSendmail = "/usr/sbin/sendmail"

// call is one call, as the command line and the environment say.
type call struct {
	verb               byte // i, l, x or, for mail, 0
	any, dry           bool
	aliases            []string
	database, text     string
	interval, sendmail string
	sender             *string
	user, home         string
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// That nobody reads what we print is an error of write then. Not Ignore, which sendmail would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := &call{database: ".vacation.answered", text: ".vacation.msg", sendmail: defaultSendmail}
	if err := c.parse(args); err != nil {
		fmt.Fprintf(os.Stderr, "vacation: %v\n%s\n", err, usage)
		return exUsage
	}
	if err := c.findHome(); err != nil {
		fmt.Fprintln(os.Stderr, "vacation:", err)
		return exNoUser
	}
	if err := c.do(); err != nil {
		fmt.Fprintln(os.Stderr, "vacation:", err)
		return exTempFail
	}
	return 0
}

// parse reads options as getopt(3) does: several behind one dash, values with or without a space. Flag packages read -r7 as another option.
func (c *call) parse(args []string) error {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		letters := args[0][1:]
		args = args[1:]
		if letters == "-" {
			break
		}
		for letters != "" {
			o := letters[0]
			letters = letters[1:]
			if strings.IndexByte("afmrstS", o) < 0 {
				switch o {
				case 'i', 'l', 'x':
					c.verb = o
				case 'I':
					c.verb = 'i'
				case 'j':
					c.any = true
				case 'n':
					c.dry = true
				case 'd', 'z', 'U': // of other vacations: what is always so here
				default:
					return fmt.Errorf("unknown option -%c", o)
				}
				continue
			}
			value := letters
			if letters = ""; value == "" {
				if len(args) == 0 {
					return fmt.Errorf("option -%c wants a value", o)
				}
				value, args = args[0], args[1:]
			}
			switch o {
			case 'a':
				c.aliases = append(c.aliases, value)
			case 'f':
				c.database = value
			case 'm':
				c.text = value
			case 'r', 't':
				if _, err := parseInterval(value); err != nil {
					return err
				}
				c.interval = value
			case 's':
				c.sender = &value
			case 'S':
				c.sendmail = value
			}
		}
	}
	if len(args) == 1 {
		c.user = args[0]
	} else if len(args) > 1 || c.verb == 0 {
		return errors.New("one user is wanted")
	}
	return nil
}

// findHome finds the home directory: the one that the environment gives to this user, as deliver does, who may be in no passwd file.
func (c *call) findHome() error {
	name := os.Getenv("USER")
	if c.user == "" {
		c.user = name
	}
	if home := os.Getenv("HOME"); home != "" && c.user != "" && (c.user == name || c.user == os.Getenv("LOGNAME")) {
		c.home = home
		return nil
	}
	u, err := user.Lookup(c.user)
	if err == nil {
		c.home = u.HomeDir
	}
	return err
}

// path: names are in the home directory, wherever we are started.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.home, name)
}

func (c *call) do() error {
	path := c.path(c.database)
	switch c.verb {
	case 'i':
		return create(path, c.interval)
	case 'l':
		return list(os.Stdout, path)
	case 'x':
		return exclude(os.Stdin, path)
	}
	in, err := readMail(os.Stdin)
	if err != nil {
		return err
	}
	own := append([]string{os.Getenv("RECIPIENT"), c.user}, c.aliases...)
	a, why := vacation.Decide(vacation.Mail{Sender: c.from(in), Header: in.header, Own: own, Any: c.any})
	if why != vacation.Due {
		return c.silent(string(why))
	}
	notice, err := c.compose(a)
	if err != nil {
		return err
	}
	// It is noted first: when it cannot be, no notice goes out, since each would be followed by the next.
	now := time.Now().UTC().Truncate(time.Second)
	due, err := claim(path, a.To.Key(), now, c.interval, c.dry)
	switch {
	case err != nil:
		return err
	case !due:
		return c.silent("the sender has been answered")
	case c.dry:
		fmt.Printf("answer to %s\n\n%s", a.To, notice)
		return nil
	}
	err = c.send(a.To.String(), notice)
	switch {
	case err == nil:
		return nil
	case refused(err):
		// The note stays: the next message with that sender, forged or not, does not ask again.
		fmt.Fprintf(os.Stderr, "vacation: no answer: %s is refused: %v\n", a.To, err)
		return nil
	}
	return errors.Join(err, release(path, a.To.Key(), now))
}

// refused: sendmail will never send to that address. To try again would keep the message in the queue, and then return it to whom it names, who may have
// written nothing.
func refused(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && slices.Contains([]int{exDataErr, exNoUser, exNoHost, exUnavailable, exNoPerm}, exit.ExitCode())
}

func (c *call) silent(why string) error {
	if c.dry {
		fmt.Println("no answer:", why)
	}
	return nil
}

// from is the envelope sender. The environment has it with harmless characters only: if the message has one that becomes this, it is the right one.
func (c *call) from(in *mail) string {
	if c.sender != nil {
		return *c.sender
	}
	env, ok := os.LookupEnv("SENDER")
	if !ok || env == pipe.Clean(in.sender) {
		return in.sender
	}
	return env
}

func (c *call) compose(a vacation.Answer) ([]byte, error) {
	path := c.path(c.text)
	b, err := readFile(path, vacation.MaxText+1)
	if err != nil {
		return nil, err
	}
	t, err := vacation.ParseText(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := vacation.Stamp{From: a.Own, Now: time.Now()}
	if s.From == "" {
		s.From = os.Getenv("RECIPIENT")
	}
	if s.From == "" {
		s.From = c.user
	}
	_, domain, ok := strings.Cut(s.From[max(strings.LastIndexByte(s.From, '@'), 0):], "@")
	if !ok {
		domain, _ = os.Hostname()
	}
	s.ID = strings.ToLower(rand.Text()) + "@" + domain
	return vacation.Compose(a, t, s)
}

// send gives the notice to sendmail, whose arguments are the same but for the address, and no shell's.
func (c *call) send(to string, notice []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), sendTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.sendmail, "-f", "", "-i", "--", to)
	cmd.Stdin = bytes.NewReader(notice)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", c.sendmail, err)
	}
	return nil
}

// readFile reads a regular file, up to a limit.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO is not waited for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
