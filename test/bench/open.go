package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"postamt/test/peers"
)

// opening is how long a folder takes to open.
type opening struct {
	first  time.Duration // by a process that has just come
	second time.Duration // by the same process
}

// openFolder measures one that has n messages. A server of others is asked by IMAP, from the OK of LOGIN, when the process for the session runs, to that of
// SELECT, and once more after UNSELECT or CLOSE. Of ours the first one has the start of the process in it, if started.
type openFolder func(n int, started bool) (opening, error)

func openMaildir() experiment {
	const messages = 100_000
	return experiment{name: "open100000", what: fmt.Sprintf("open a maildir, %d messages: LOGIN OK to SELECT OK; postamt: a program on internal/mailbox, a new process from its start", messages),
		kinds: withDovecot,
		figures: []figure{{name: "opening a maildir without any index (scan, uidlist)", unit: "ms", less: true},
			{name: "opening it with a warm index: new process", unit: "ms", less: true},
			{name: "opening it with a warm index: running worker", unit: "ms", less: true}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(messages)
			var cold, warm, running []float64
			measure := func(open openFolder, forget func() error) error {
				if _, err := open(n, false); err != nil { // the list of UIDs is made
					return err
				}
				for range 3 {
					if err := forget(); err != nil {
						return err
					}
					o, err := open(n, false)
					if err != nil {
						return err
					}
					cold = append(cold, ms(o.first))
				}
				for range 3 {
					o, err := open(n, true)
					if err != nil {
						return err
					}
					warm, running = append(warm, ms(o.first)), append(running, ms(o.second))
				}
				return nil
			}
			var err error
			if kind == "postamt" {
				err = b.withMaildir(n, 500, func(m *maildir) error {
					program, err := b.openProgram()
					if err != nil {
						return err
					}
					return measure(func(n int, started bool) (opening, error) { return openByProgram(program, m.path, n, started) }, m.remove("postamt.index"))
				})
			} else {
				err = b.withPOP3(kind, n, 500, func(s *pop3Server) error { return measure(s.open, s.forget) })
			}
			return []float64{median(cold), median(warm), median(running)}, err
		}}
}

// openProgram builds test/bench/open.
func (b *bench) openProgram() (string, error) {
	root, err := peers.ModuleRoot()
	if err != nil {
		return "", err
	}
	to := filepath.Join(b.base, "open")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, "./test/bench/open")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return to, nil
}

func openByProgram(program, maildir string, n int, started bool) (o opening, err error) {
	cmd := exec.Command(program, maildir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return o, err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return o, err
	}
	r := bufio.NewReader(out)
	for i, to := range []*time.Duration{&o.first, &o.second} {
		var messages, took int
		if _, serr := fmt.Fscanln(r, &messages, &took); serr != nil || messages != n {
			err = errors.Join(err, serr, fmt.Errorf("%s: %d messages, want %d", program, messages, n))
			break
		}
		if *to = time.Duration(took); i == 0 && started {
			*to = time.Since(begun)
		}
	}
	return o, errors.Join(err, cmd.Wait())
}

// open does it by IMAP.
func (s *pop3Server) open(n int, _ bool) (o opening, err error) {
	c, err := dialMail(s.imap)
	if err != nil {
		return o, err
	}
	defer c.Close()
	if err := c.tagged("LOGIN alice secret", ""); err != nil {
		return o, err
	}
	for _, to := range []*time.Duration{&o.first, &o.second} {
		begun := time.Now()
		if err := c.tagged("SELECT INBOX", fmt.Sprintf("* %d EXISTS", n)); err != nil {
			return o, err
		}
		*to = time.Since(begun)
		if err := c.tagged("CLOSE", ""); err != nil {
			return o, err
		}
	}
	return o, c.tagged("LOGOUT", "")
}

// tagged says an IMAP command and reads up to its OK; a line has to come.
func (c *popClient) tagged(command, want string) error {
	if _, err := c.Write([]byte("a " + command + "\r\n")); err != nil {
		return err
	}
	for seen := want == ""; ; {
		line, err := c.line()
		if err != nil {
			return err
		}
		seen = seen || strings.TrimSpace(line) == want
		if strings.HasPrefix(line, "a ") {
			if !strings.HasPrefix(line, "a OK") || !seen {
				return fmt.Errorf("%s: %q, and %q", command, line, want)
			}
			return nil
		}
	}
}
