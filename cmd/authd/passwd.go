package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/durable"
	"postamt/internal/password"
	"postamt/internal/userdb"
)

// passwd sets the password of a user in the users file, or removes the user with -d.
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
	if err := edit(c.Users, func(text string) (string, error) { return setPassword(text, user, stored, *remove) }); err != nil {
		return fail(exCantCreate, err)
	}
	return 0
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

// edit changes a file as a whole, and keeps its owner and mode. Two edits at the same moment wait for each other. Of a symbolic link it
// is the file behind that is changed.
func edit(path string, change func(string) (string, error)) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	mode, uid, gid := fs.FileMode(0o600), -1, -1
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		mode = st.Mode().Perm()
		if s, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			uid, gid = int(s.Uid), int(s.Gid)
		}
	}
	changed, err := change(string(text))
	if err != nil {
		return err
	}
	return durable.WriteFileOwned(path, []byte(changed), mode, uid, gid)
}

// setPassword changes the line of a user, or adds one; or removes all of his lines, because the second would hold once the first is gone.
// Every other byte stays as it is.
func setPassword(text, user, stored string, remove bool) (string, error) {
	var b strings.Builder
	found := false
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		name, err := userdb.Canonical(name)
		if found && !remove || err != nil || name != user || strings.HasPrefix(line, "#") {
			b.WriteString(line)
			continue
		}
		found = true
		if remove {
			continue
		}
		_, rest, more := strings.Cut(rest, ":")
		b.WriteString(name + ":" + stored)
		if more {
			b.WriteString(":" + rest)
		}
		b.WriteString("\n")
	}
	if !found && remove {
		return "", fmt.Errorf("there is no user %s", user)
	}
	if !found {
		if text != "" && !strings.HasSuffix(text, "\n") {
			b.WriteString("\n")
		}
		b.WriteString(user + ":" + stored + "::::::\n")
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
	defer func() {
		unix.IoctlSetTermios(0, termiosSet, old)
		fmt.Fprintln(os.Stderr)
	}()
	fmt.Fprint(os.Stderr, prompt) // whoever types as soon as it is there must not be seen
	return readLine(in)
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
