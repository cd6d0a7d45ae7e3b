// Package pipe delivers a message to a command of an alias or forward file.
//
// The command line is the text of that file, whose owner may have anything executed as the user we are; it goes to /bin/sh -c as it is. What came with the
// message does not become part of it: addresses are in the environment, cleaned, and the message is on standard input.
//
//	exit code             means                                  reply
//	0                     delivered                              none
//	67 65 68 77 73 ...    never, by sysexits(3)                  550 and 5.1.1, 5.6.0, 5.1.2, 5.7.0, 5.2.0 ..., else 5.3.0
//	75, 71, 74            not now                                451 4.3.0
//	any other, a signal   nobody knows: not now                  451 4.3.0
//	no end in time        its process group is killed            451 4.3.0
//	any, but the message could not be read to its end            451 4.3.0
//	in a .qmail file      0 delivered, 99 delivered and that is all, 100 and the permanent ones of qmail-command(8) never, any other not now
//
// An enhanced status code (RFC 3463) at the start of what a command that fails writes takes the place of the exit code's, as with Postfix. Of its output the
// first octets are kept, and the rest is read and forgotten. It may leave its input unread, and children that keep its output open: its exit is its end.
//
// A command cannot be asked whether it has run already. If the machine, or the program that runs it, dies before its result is recorded, it is run again.
package pipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"postamt/internal/smtp"
)

// Command is one that is to be run.
type Command struct {
	Line    string        // for /bin/sh -c
	Dir     string        // where it runs
	Env     []string      // all of its environment
	Input   io.Reader     // the message
	QMail   bool          // its exit codes are those of qmail-command(8)
	Timeout time.Duration // for all of it
}

const (
	maxOutput = 4 << 10
	// lingering is how long after its exit output is waited for that children of its still hold open.
	lingering = 500 * time.Millisecond
)

// ErrStop: a command with the exit codes of qmail has taken the message, and wants that nothing is done with it after that.
var ErrStop = errors.New("pipe: nothing more is to be done")

// Run runs the command to its end. The error is nil when it has taken the message, else a *smtp.Reply or ErrStop.
func (c *Command) Run() error {
	var out output
	in := input{from: c.Input}
	cmd := exec.Cmd{
		Path: "/bin/sh", Args: []string{"sh", "-c", c.Line}, Dir: c.Dir, Env: c.Env, Stdin: &in, Stdout: &out, Stderr: &out,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, WaitDelay: lingering,
	}
	if err := cmd.Start(); err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("%s: %w", e.Op, e.Err) // the path is nobody's business
		}
		return smtp.NewReply(451, "4.3.0", "the command cannot be started: "+err.Error())
	}
	killed := make(chan struct{})
	timer := time.AfterFunc(c.Timeout, func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		close(killed)
	})
	err := cmd.Wait()
	if !timer.Stop() {
		<-killed
		return smtp.NewReply(451, "4.3.0", fmt.Sprintf("the command has not ended within %v", c.Timeout))
	}
	var exit *exec.ExitError
	switch {
	case cmd.ProcessState == nil:
		return smtp.NewReply(451, "4.3.0", "the command: "+err.Error())
	case in.failed.Load():
		return smtp.NewReply(451, "4.3.0", "the message cannot be read")
	case cmd.ProcessState.Success():
		// That input was left unread, or output held open, is no failure.
		return nil
	case errors.As(err, &exit) && !cmd.ProcessState.Exited():
		return smtp.NewReply(451, "4.3.0", withText("the command was ended by a signal: "+exit.String(), out.first()))
	}
	return c.result(cmd.ProcessState.ExitCode(), out.first())
}

// result is the reply for an exit code other than 0; text is the first line of the output.
func (c *Command) result(code int, text string) error {
	if c.QMail && code == 99 {
		return ErrStop
	}
	enhanced, ok := "", false
	if c.QMail {
		enhanced, ok = qmailCode(code)
	} else {
		enhanced, ok = sysexit(code)
	}
	if !ok {
		enhanced = "4.3.0"
	}
	if word, rest, _ := strings.Cut(text, " "); !c.QMail {
		if e, ok := smtp.ParseEnhanced(word); ok && (e[0] == 4 || e[0] == 5) {
			enhanced, text = word, strings.TrimSpace(rest)
		}
	}
	reply := 550
	if enhanced[0] == '4' {
		reply = 451
	}
	return smtp.NewReply(reply, enhanced, withText(fmt.Sprintf("the command has failed with exit code %d", code), text))
}

func withText(what, text string) string {
	if text == "" {
		return what
	}
	return what + ": " + text
}

// sysexit is the status code for an exit code of sysexits(3) that means never.
func sysexit(code int) (string, bool) {
	switch code {
	case 65:
		return "5.6.0", true
	case 67:
		return "5.1.1", true
	case 68:
		return "5.1.2", true
	case 73:
		return "5.2.0", true
	case 76:
		return "5.5.0", true
	case 77:
		return "5.7.0", true
	case 78:
		return "5.3.5", true
	case 64, 66, 69, 70, 72:
		return "5.3.0", true
	}
	return "", false
}

// qmailCode is that for one of qmail-command(8).
func qmailCode(code int) (string, bool) {
	switch code {
	case 100, 64, 65, 70, 76, 77, 78, 112:
		return "5.3.0", true
	}
	return "", false
}

// input knows whether the message could be read: what a command says of half of one counts for nothing.
type input struct {
	from   io.Reader
	failed atomic.Bool
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.from.Read(p)
	if err != nil && err != io.EOF {
		i.failed.Store(true)
	}
	return n, err
}

// output keeps the first octets of what is written to it.
type output struct{ kept []byte }

func (o *output) Write(p []byte) (int, error) {
	o.kept = append(o.kept, p[:min(len(p), maxOutput-len(o.kept))]...)
	return len(p), nil
}

// first is the first line that has something in it, fit for a reply.
func (o *output) first() string {
	line, _, _ := bytes.Cut(bytes.TrimLeft(o.kept, " \t\r\n"), []byte{'\n'})
	const most = 200
	b := make([]byte, 0, most)
	for _, c := range line[:min(len(line), most)] {
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return strings.TrimSpace(string(b))
}
