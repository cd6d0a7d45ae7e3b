// Sendmail takes mail from programs of this machine, as they have called sendmail for forty years. See sendmail(1).
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"postamt/internal/config"
)

// Exit codes: sysexits(3).
const (
	exUsage       = 64
	exDataErr     = 65
	exNoUser      = 67
	exNoHost      = 68
	exUnavailable = 69
	exOSErr       = 71
	exOSFile      = 72
	exIOErr       = 74
	exTempFail    = 75
	exNoPerm      = 77
	exConfig      = 78
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	// That nobody reads what we print is an error of write then. Not Ignore, which the programs that we become would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	name := filepath.Base(args[0])
	o, err := parse(name, args[1:])
	if err != nil {
		return fail(exUsage, err)
	}
	if !enoughDescriptors() {
		return fail(exOSErr, fmt.Errorf("the limit of open files (RLIMIT_NOFILE) is too low"))
	}
	switch o.mode {
	case daemon:
		return fail(0, fmt.Errorf("smtpd and queued are started by the service manager; nothing is done"))
	case newaliases:
		return beside("aliasctl", o.conf, "build")
	case flush:
		return beside("queuectl", o.conf, "flush")
	case test:
		return beside("aliasctl", o.conf, append([]string{"expand"}, o.operands...)...) // behind its verb nothing is an option
	}
	c, err := config.Load(config.Path(o.conf))
	if err != nil {
		return fail(exConfig, err)
	}
	if o.mode == list {
		return mailq(c)
	}
	socket := ""
	for _, l := range c.SmtpdListen {
		if l.Kind == "local" && l.Network == "unix" {
			socket = l.Address
			break
		}
	}
	if socket == "" {
		return fail(exConfig, fmt.Errorf("%s: smtpd_listen has no unix socket of kind local", c.File))
	}
	x := &call{options: o, conf: c, socket: socket}
	switch o.mode {
	case session:
		return x.session()
	case verify:
		return x.verify()
	}
	return x.send()
}

// call is one that needs smtpd.
type call struct {
	*options
	conf   *config.Config
	socket string
}

func fail(code int, err error) int {
	fmt.Fprintln(os.Stderr, "sendmail:", err)
	return code
}

// enoughDescriptors: with fewer the runtime would end us with a stack in the place of a sentence.
func enoughDescriptors() bool {
	const few = 12
	var l syscall.Rlimit
	return syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil || l.Cur >= few
}

// beside becomes another program of the suite, which lies where this one does. Its name is ours, so that no octet of a command line chooses what is executed.
func beside(program, conf string, args ...string) int {
	self, err := os.Executable()
	if err != nil {
		return fail(exOSErr, err)
	}
	argv := []string{program}
	if conf != "" {
		argv = append(argv, "-C", conf)
	}
	err = syscall.Exec(filepath.Join(filepath.Dir(self), program), append(argv, args...), os.Environ())
	return fail(exOSFile, fmt.Errorf("execute %s: %w", filepath.Join(filepath.Dir(self), program), err))
}

// unreachable is what to say, and the exit code, when smtpd cannot be connected to.
func (x *call) unreachable(err error) (int, error) {
	code := exTempFail
	if errors.Is(err, fs.ErrPermission) {
		code = exNoPerm
	}
	if op, ok := err.(*net.OpError); ok {
		err = op.Err
	}
	return code, fmt.Errorf("smtpd does not answer on %s: %w", x.socket, err)
}
