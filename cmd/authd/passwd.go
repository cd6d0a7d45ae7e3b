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

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/password"
	"postamt/internal/privilege"
	"postamt/internal/textfile"
	"postamt/internal/userdb"
)

// passwd sets the password of a user, or removes the user with -d, in the users file; or where passwords have a file of their own, there
// and in the users file.
func passwd(conf string, args []string) int {
	flags := flag.NewFlagSet("authd passwd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	scheme := flags.String("s", "", "scheme")
	remove := flags.Bool("d", false, "remove the user")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *remove && *scheme != "" {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	fail := func(code int, err error) int {
		fmt.Fprintln(os.Stderr, "authd: passwd:", err)
		return code
	}
	user, err := userdb.Canonical(flags.Arg(0))
	if err != nil {
		return fail(exUsage, err)
	}
	c, err := config.Load(conf)
	if err != nil {
		return fail(exConfig, err)
	}
	stored := ""
	if !*remove {
		text, err := readPassword("password of " + user + ": ")
		if err != nil {
			return fail(exNoInput, err)
		}
		if stored, err = password.Make(*scheme, text); err != nil {
			return fail(exData, err)
		}
		if s, err := password.Parse(stored); err == nil && s.Scheme() == "PLAIN" {
			fmt.Fprintln(os.Stderr, "authd: passwd: warning: with {PLAIN} whoever reads the file has the password")
		}
	}
	switch {
	case c.Passwords == "":
		err = textfile.Edit(c.Users, textfile.Owner{Mode: 0o600, UID: -1, GID: -1}, change{user: user, stored: stored, remove: *remove, rest: userRest}.apply)
	case *remove:
		err = removeApart(c, user)
	default:
		err = setApart(c, user, stored)
	}
	if err != nil {
		return fail(exCantCreate, err)
	}
	return 0
}

// setApart writes the hash first: what a crash leaves behind is a hash that nobody has. In the users file the user gets a
// line if he has none, and an x in place of a hash, which nobody uses there any more.
func setApart(c *config.Config, user, stored string) error {
	if err := textfile.Edit(c.Passwords, secretFile(c.AuthUser), change{user: user, stored: stored}.apply); err != nil {
		return err
	}
	return textfile.Edit(c.Users, textfile.Owner{Mode: 0o644, UID: -1, GID: -1}, change{user: user, stored: "x", rest: userRest}.apply)
}

// removeApart removes the user first, for the same reason. Who is in one of the files only is removed from that.
func removeApart(c *config.Config, user string) error {
	none := 0
	for _, path := range []string{c.Users, c.Passwords} {
		err := textfile.Edit(path, textfile.Owner{}, change{user: user, remove: true}.apply)
		if errors.Is(err, errNoUser) {
			none++
		} else if err != nil {
			return err
		}
	}
	if none == 2 {
		return fmt.Errorf("%w %s", errNoUser, user)
	}
	return nil
}

// hash prints a stored password, for files that other programs write.
func hash(args []string) int {
	flags := flag.NewFlagSet("authd hash", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	scheme := flags.String("s", "", "scheme")
	if err := flags.Parse(args); err != nil || flags.NArg() != 0 {
		fmt.Fprintln(os.Stderr, usage)
		return exUsage
	}
	text, err := readPassword("password: ")
	if err != nil {
		fmt.Fprintln(os.Stderr, "authd: hash:", err)
		return exNoInput
	}
	stored, err := password.Make(*scheme, text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "authd: hash:", err)
		return exData
	}
	fmt.Println(stored)
	return 0
}

// secretFile is for a file with hashes: what root makes the account may read by its group, and never write.
func secretFile(account string) textfile.Owner {
	if os.Geteuid() == 0 {
		if a, err := privilege.Find(account); err == nil {
			return textfile.Owner{Mode: 0o640, UID: 0, GID: int(a.GID)}
		}
	}
	return textfile.Owner{Mode: 0o600, UID: -1, GID: -1}
}

// userRest is what a new line of users(5) has behind the password.
const userRest = "::::::"

var errNoUser = errors.New("there is no user")

// change is one of a user's password.
type change struct {
	user, stored string
	remove       bool   // the user
	rest         string // of a new line, behind the password
}

// apply changes the line of the user, or adds one; or removes all of his lines, because the second would hold once the first is
// gone. Every other byte stays as it is.
func (c change) apply(text string) (string, error) {
	var b strings.Builder
	found := false
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		name, err := userdb.Canonical(name)
		if found && !c.remove || err != nil || name != c.user || strings.HasPrefix(line, "#") {
			b.WriteString(line)
			continue
		}
		found = true
		old, rest, more := strings.Cut(rest, ":")
		switch {
		case c.remove:
		case c.stored == "x" && (old == "" || old == "x"): // nothing there is nothing to hide
			b.WriteString(line)
		default:
			b.WriteString(name + ":" + c.stored)
			if more {
				b.WriteString(":" + rest)
			}
			b.WriteString("\n")
		}
	}
	if !found && c.remove {
		return "", fmt.Errorf("%w %s", errNoUser, c.user)
	}
	if !found {
		if text != "" && !strings.HasSuffix(text, "\n") {
			b.WriteString("\n")
		}
		b.WriteString(c.user + ":" + c.stored + c.rest + "\n")
	}
	return b.String(), nil
}

// readPassword reads a line: from a terminal without showing it, and twice; else from standard input, once.
func readPassword(prompt string) (string, error) {
	in := bufio.NewReaderSize(os.Stdin, password.MaxPassword+2)
	if _, err := unix.IoctlGetTermios(0, termiosGet); err != nil {
		return readLine(in)
	}
	first, err := ask(in, prompt)
	if err != nil {
		return "", err
	}
	again, err := ask(in, "once more: ")
	if err == nil && first != again {
		err = errors.New("the two are not the same")
	}
	return first, err
}

func ask(in *bufio.Reader, prompt string) (string, error) {
	old, err := unix.IoctlGetTermios(0, termiosGet)
	if err != nil {
		return "", err
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(0, termiosSet, &quiet); err != nil {
		return "", err
	}
	loud := func() {
		unix.IoctlSetTermios(0, termiosSet, old)
		fmt.Fprintln(os.Stderr)
	}
	defer loud()
	defer onSignal(loud)()
	fmt.Fprint(os.Stderr, prompt) // whoever types as soon as it is there must not be seen
	return readLine(in)
}

// onSignal calls f before a signal ends the program, until stop is called: the terminal outlives us, and its echo.
func onSignal(f func()) (stop func()) {
	c, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		select {
		case sig := <-c:
			f()
			signal.Reset()
			unix.Kill(unix.Getpid(), sig.(syscall.Signal)) // a shell wants to see what ended us
		case <-done:
		}
	}()
	return func() {
		signal.Stop(c)
		close(done)
	}
}

func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return "", fmt.Errorf("a password has at most %d octets", password.MaxPassword)
	}
	if err != nil && err != io.EOF || len(line) == 0 {
		return "", errors.New("no password on standard input")
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}
