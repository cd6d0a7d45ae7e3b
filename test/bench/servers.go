package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postamt/test/peers"
	"postamt/test/proc"
	"postamt/test/suite"
)

const domain = "example.test"

// A bench is what all runs share.
type bench struct {
	ctx   context.Context
	base  string // directory below which servers are laid out
	bin   string // postamt's programs
	scale float64
	count int              // of servers so far, for their directories
	kept  map[int]*maildir // see letters
}

// n scales a number of messages.
func (b *bench) n(messages int) int { return max(int(float64(messages)*b.scale), 10) }

// A setup says what a server must be ready for.
type setup struct {
	sessions int
	users    []string // of example.test; empty: user
	relayTo  string   // everything goes there; empty: example.test is local
	tls      bool
	accept   bool // no delivery
}

// A server is one of the measured ones, running.
type server struct {
	kind    string
	addr    string
	roots   func() []int // its processes, but for their descendants
	maildir func(user string) string
	users   []string
	owner   [2]int // uid and gid of the maildirs
	startup time.Duration
	list    func() (*exec.Cmd, error) // prints the queue
	flush   func() error              // makes it try everything now
}

// with starts a server on an empty directory, calls f, and ends it.
func (b *bench) with(kind string, c setup, f func(s *server) error) (err error) {
	if len(c.users) == 0 && c.relayTo == "" {
		c.users = []string{"user"}
	}
	b.count++
	dir := filepath.Join(b.base, fmt.Sprintf("%s%d", kind[:2], b.count))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var s *server
	var stop func() error
	switch kind {
	case "postfix", "exim":
		s, stop, err = b.peer(kind, dir, c)
	case "postamt":
		s, stop, err = b.postamt(dir, c)
	default:
		return fmt.Errorf("no server %q", kind)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	s.kind, s.users = kind, c.users
	// Maildirs exist from the start, so that what is in new/ can be watched; the first message would have made them.
	for _, user := range c.users {
		for _, sub := range []string{"", "new", "cur", "tmp"} {
			if err := mkdirAs(filepath.Join(s.maildir(user), sub), s.owner); err != nil {
				return err
			}
		}
	}
	syscall.Sync() // what earlier runs left to write is not this one's
	return f(s)
}

// mkdirAs makes a directory and those above it that are missing, all for one owner.
func mkdirAs(path string, owner [2]int) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := mkdirAs(filepath.Dir(path), owner); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chown(path, owner[0], owner[1])
}

// peer starts Postfix or Exim.
func (b *bench) peer(kind, dir string, c setup) (*server, func() error, error) {
	start := peers.StartPostfix
	if kind == "exim" {
		start = peers.StartExim
	}
	p, err := start(peers.Config{
		Dir: dir, Domains: []string{domain}, Users: c.users, RelayTo: c.relayTo, TLS: c.tls, Accept: c.accept,
		Process: max(100, c.sessions) + 20,
	})
	if err != nil {
		return nil, nil, err
	}
	var owner syscall.Stat_t
	if err := syscall.Stat(p.Maildirs, &owner); err != nil {
		return nil, nil, errors.Join(err, p.Stop())
	}
	pid := p.Pid()
	return &server{
		addr:    p.Addr,
		roots:   func() []int { return append(proc.Group(pid), pid) },
		maildir: p.Maildir,
		owner:   [2]int{int(owner.Uid), int(owner.Gid)},
		startup: p.Startup,
		list:    func() (*exec.Cmd, error) { return p.Postqueue("-p") },
		flush: func() error {
			cmd, err := p.Postqueue("-f")
			if err != nil {
				return err
			}
			return cmd.Run()
		},
	}, p.Stop, nil
}

// postamt starts the suite, or of it smtpd alone when it shall only accept.
func (b *bench) postamt(dir string, c setup) (*server, func() error, error) {
	settings := []string{
		"relay_clients 127.0.0.0/8",
		"smtpd_client_limit 0",
		fmt.Sprintf("smtpd_session_limit %d", max(1000, 2*c.sessions)),
		"mail_limit 0",
		"recipient_limit 1000",
	}
	if c.relayTo != "" {
		settings = append(settings, "smarthost "+bracket(c.relayTo))
	}
	s, err := suite.New(suite.Config{
		Dir: dir, Bin: b.bin, Domain: domain, Users: c.users, TLS: c.tls,
		Settings: strings.Join(settings, "\n"),
	})
	if err != nil {
		return nil, nil, err
	}
	begin := time.Now()
	if c.accept {
		err = s.Launch("smtpd")
	} else {
		err = s.Run()
	}
	if err == nil {
		err = peers.Banner(s.Addr, time.Now().Add(10*time.Second))
	}
	startup := time.Since(begin)
	if err != nil {
		return nil, nil, errors.Join(err, s.End())
	}
	return &server{
		addr:    s.Addr,
		roots:   s.Pids,
		maildir: s.Maildir,
		owner:   [2]int{os.Getuid(), os.Getgid()},
		startup: startup,
		list: func() (*exec.Cmd, error) {
			return exec.Command(filepath.Join(b.bin, "queuectl"), "-C", s.Conf, "list"), nil
		},
		flush: s.Flush,
	}, s.End, nil
}

func bracket(hostport string) string {
	host, port, _ := strings.Cut(hostport, ":")
	return "[" + host + "]:" + port
}

// pss returns the memory of all of the server's processes, in bytes.
func (s *server) pss() (float64, error) {
	sum, err := proc.PSS(proc.Tree(s.roots()...)...)
	return float64(sum), err
}

// cpu returns the time that the server has used so far.
func (s *server) cpu() time.Duration { return proc.CPU(s.roots()...) }

// settle waits until the server has used less than a twentieth of a CPU for half a second.
func (s *server) settle(ctx context.Context) error {
	const step = 500 * time.Millisecond
	before := s.cpu()
	for range 600 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step):
		}
		now := s.cpu()
		if now-before < step/20 {
			return nil
		}
		before = now
	}
	return fmt.Errorf("%s is still busy after 300 s", s.kind)
}

// smtpSource runs Postfix's load generator and returns how long it took.
func (b *bench) smtpSource(s *server, to string, sessions, messages, size int, more ...string) (time.Duration, error) {
	args := append([]string{"-s", fmt.Sprint(sessions), "-m", fmt.Sprint(messages), "-l", fmt.Sprint(size),
		"-f", "sender@bench.test", "-t", to}, more...)
	cmd, err := peers.Command("smtp-source", append(args, s.addr)...)
	if err != nil {
		return 0, err
	}
	return b.timed(cmd)
}

// timed runs a command, and ends it when the bench is interrupted.
func (b *bench) timed(cmd *exec.Cmd) (time.Duration, error) {
	var output strings.Builder
	if cmd.Stdout == nil {
		cmd.Stdout = &output
	}
	cmd.Stderr = &output
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-b.ctx.Done():
		cmd.Process.Kill()
		<-done
		err = b.ctx.Err()
	}
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, output.String())
	}
	return took, nil
}

// A sink is Postfix's smtp-sink, which takes a number of messages and ends.
type sink struct {
	cmd  *exec.Cmd
	done chan error
}

// smtpSink listens on addr until it has taken the messages.
func smtpSink(addr string, messages int) (*sink, error) {
	cmd, err := peers.Command("smtp-sink", "-u", "nobody", "-M", fmt.Sprint(messages), addr, "1000")
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k := &sink{cmd, make(chan error, 1)}
	go func() { k.done <- cmd.Wait() }()
	return k, suite.Await(10*time.Second, "smtp-sink", func() bool {
		return peers.Banner(addr, time.Now().Add(time.Second)) == nil
	})
}

// wait returns when the sink has all its messages.
func (k *sink) wait(ctx context.Context) error {
	select {
	case err := <-k.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(300 * time.Second):
		return errors.New("smtp-sink did not get all messages within 300 s")
	}
}

func (k *sink) stop() { k.cmd.Process.Kill() }
