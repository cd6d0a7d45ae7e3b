package authd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"postamt/internal/userdb"
)

// Checkpassword is a Checker: a program of the checkpassword interface. It reads "login NUL password NUL timestamp NUL"
// on descriptor 3, exits 1 for a wrong password, 2 for misuse, 111 when it cannot tell; and when the password is right it
// becomes the user and executes the program that its arguments name. Here that is ourselves (see Checked), who only
// write down a word that the checker was given for this: a checker that exits 0 without executing anything, for
// whatever reason, has said nothing, and is never a yes.
type Checkpassword struct {
	Program []string // and its arguments
	Self    []string // executes Checked
	Timeout time.Duration
}

// The places of what Checkpassword and Checked say to each other.
const (
	checkedFD  = 4
	checkedVar = "POSTAMT_CHECKED"
	// maxCheckpassword: the interface has room for 512 octets.
	maxCheckpassword = 512
)

func (c *Checkpassword) String() string { return "checkpassword " + c.Program[0] }

// Find is Source's: the interface does not say who exists.
func (c *Checkpassword) Find(context.Context, string) (*Account, error) { return nil, ErrUnknown }

// List is Source's.
func (c *Checkpassword) List(context.Context, func(string) error) error { return nil }

// Check is Checker's. A wrong password and an unknown user are the same to it: ErrUnknown, so that the next source is asked.
func (c *Checkpassword) Check(ctx context.Context, name, password string, _ netip.Addr) (*Account, error) {
	text := name + "\x00" + password + "\x00" + "0\x00"
	if len(text) > maxCheckpassword || strings.IndexByte(name+password, 0) >= 0 {
		return nil, ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	in, inw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	defer inw.Close()
	out, outw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	defer outw.Close()
	word := rand.Text()
	cmd := exec.CommandContext(ctx, c.Program[0], append(append([]string(nil), c.Program[1:]...), c.Self...)...)
	cmd.ExtraFiles = []*os.File{in, outw} // 3 and 4
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "PROTO=TCP", checkedVar + "=" + word}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Whatever it started goes with it: what keeps our descriptors is no reason to wait.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	outw.Close()
	inw.WriteString(text) // less than a pipe holds, so it does not wait; whether anybody reads it is the checker's affair
	inw.Close()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: no answer within %v", c, c.Timeout)
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return nil, ErrUnknown
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	out.SetReadDeadline(time.Now().Add(time.Second))
	got := make([]byte, len(word))
	if n, _ := out.Read(got); string(got[:n]) != word {
		return nil, fmt.Errorf("%s: it ended with 0 and did not execute what it was told to", c)
	}
	return &Account{User: userdb.User{Name: name, UID: userdb.NoID, GID: userdb.NoID}}, nil
}

// Checked is what Self executes. It returns the exit code of the process.
func Checked() int {
	word, f := os.Getenv(checkedVar), os.NewFile(checkedFD, "checked")
	if word == "" || f == nil {
		return 64
	}
	if _, err := f.WriteString(word); err != nil {
		return 111
	}
	return 0
}
