// Package access is what the programs have in common by which users reach their mailboxes, pop3d and imapd: the command line, one process or several (package
// privsep), listeners, logins, whose mailbox is where. A program brings along its protocol, and opens what is served.
//
// Three ways lead to a session of somebody's:
//
//	one process    Authorize -> Login.Serve, where users looks his maildir up
//	several        front: Authorize -> pass; worker: Serve, where the monitor says what the maildir is
//	-session       Serve, for the user who runs it
package access

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"postamt/internal/authwire"
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/lineio"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/monitor"
	"postamt/internal/privilege"
)

// Exit codes: sysexits(3).
const (
	exOK       = 0
	exUsage    = 64
	exOSErr    = 71
	exTempFail = 75
	exConfig   = 78
)

// Program is one of them.
type Program struct {
	Name    string // "pop3d"
	Service string // "pop3": of logins, in ALPN, and the kind of a listener that begins in clear; with an "s" of one that begins with TLS
	Listen  func(*config.Config) []config.Listener
	Limits  func(*config.Config) daemon.Limits
	Shared  bool // it serves shared_mailboxes, which may be for groups
	New     func(*maillog.Logger) Server
}

// Server speaks the protocol. It is used by many sessions at once.
type Server interface {
	// Configure is for sessions that begin later; it comes before the first. Without auth nobody logs in here: the sessions are of users already.
	Configure(c *config.Config, gate login.Gate, auth *login.Server)
	// Refuse says to a connection that it may not become a session. It does not wait.
	Refuse(net.Conn)
	// Authorize takes a client until he has logged in, and nil if he does not. The caller closes nc, in that case too.
	Authorize(ctx context.Context, nc net.Conn, kind string, peer login.Peer) *Login
	// Serve serves a user. note is what the half before the login said of him, "" if he has logged in elsewhere. An error says that it is no note.
	Serve(ctx context.Context, nc net.Conn, user, note string, maildir Maildir) error
}

// Maildir tells where the mailbox of a session's user is. It may take time.
type Maildir func(context.Context) (Place, error)

// Login is a client who has logged in, and has not been told. One of Serve and Fail is called, or what is of the session is given away.
type Login struct {
	User   string
	Ticket *authwire.Ticket // collects the login; nil in one process
	Conn   *lineio.Conn
	Note   string
	Serve  func(context.Context, Maildir) *Login // returns him when he has logged in once more, on the same connection
	Fail   func(error)                           // his mailbox cannot be opened now; the error is for the log
}

// Run is main; it returns an exit code.
func (g *Program) Run(args []string) int {
	if link, err := monitor.Inherited(); link != nil || err != nil {
		return g.split().Part(link, err)
	}
	flags := flag.NewFlagSet(g.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("C", "", "configuration file")
	notify := flags.Int("notify", 0, "descriptor to tell readiness on")
	alone := flags.Bool("session", false, "serve who has logged in already, on standard input and output")
	err := flags.Parse(args)
	if err != nil || flags.NArg() > 1 || flags.NArg() == 1 && !*alone {
		fmt.Fprintf(os.Stderr, "usage: %s [-C file] [-notify fd]\n       %[1]s [-C file] -session [maildir]\n", g.Name)
		return exUsage
	}
	p := daemon.Start(*notify)
	log := p.Log("auto", g.Name)
	defer func() { log.Close() }()
	c, err := config.Load(config.Path(*file))
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, g.Name)
	}
	if *alone {
		return g.session(c, log, flags.Arg(0))
	}
	sockets, err := p.Open(g.want(c))
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	if privilege.Root() && c.LoginUser != "" {
		return g.watch(p, c, sockets, log)
	}
	s, err := g.whole(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if err := confineWorker(c); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	ctx := p.Signals(daemon.Hooks{Reload: s.reload})
	p.Ready()
	left := s.serve(ctx, sockets, p.Stopping)
	log.Stop("signal", left)
	return exOK
}

func (g *Program) want(c *config.Config) daemon.Want {
	return daemon.Want{Own: g.Listen(c), Kind: g.Service, Kinds: []string{g.Service, g.Service + "s"}, SocketMode: 0o666}
}

// session serves the user who runs it, on standard input and output: he has logged in already, be it by ssh or at the end of a chain
// of checkpassword programs. path is his maildir, "" that of his home.
func (g *Program) session(c *config.Config, log *maillog.Logger, path string) int {
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			log.Problems("session", err)
			return exConfig
		}
		path = filepath.Join(home, "Maildir")
	}
	if err := confineWorker(c); err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	s := g.New(log)
	s.Configure(c, login.Gate{}, nil)
	nc := daemon.Standard()
	defer nc.Close()
	s.Serve(context.Background(), nc, os.Getenv("USER"), "", func(context.Context) (Place, error) { return Place{Path: path}, nil })
	return exOK
}

// confineWorker: the owner's files, no network, no programs. What is made has the mode that it is made with, which in a shared maildir is that of the directory.
func confineWorker(c *config.Config) error {
	unix.Umask(0)
	s := privilege.Sandbox{Write: []string{"/"}}
	if c.Log != "stderr" {
		s.Sockets = append(s.Sockets, "/dev/log", "/run/systemd/journal")
	}
	if c.LoginUser == "" || !privilege.Root() { // one process asks for itself
		s.Sockets = append(s.Sockets, c.RunDir)
	}
	err := (privilege.Limits{}).Set()
	if err == nil {
		err = privilege.NoNew()
	}
	if err == nil {
		_, err = s.Enter()
	}
	return err
}
