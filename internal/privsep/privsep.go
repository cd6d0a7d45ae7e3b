// Package privsep puts together what deliver, pop3d and imapd are when root starts them: a monitor, a front and workers (package monitor). What it does here
// is the same in each program; what is a program's own it brings along.
package privsep

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/maillog"
	"postamt/internal/monitor"
	"postamt/internal/privilege"
	"postamt/internal/userdb"
)

// Exit codes: sysexits(3).
const (
	exOK       = 0
	exOSErr    = 71
	exTempFail = 75
	exConfig   = 78
)

// Lookup is what the monitor knows of a name, see monitor.Options.
type Lookup func(name string) (monitor.Account, error)

// Program is one that is split.
type Program struct {
	Name   string
	Lookup func(*config.Config, *maillog.Logger) (Lookup, error) // reads what it needs anew

	// The parts, each in a process of its own; they return exit codes. The configuration was checked.
	Front  func(*daemon.Process, *monitor.Link, *config.Config, *maillog.Logger) int
	Worker func(*monitor.Link, *config.Config, *maillog.Logger) int
	Runner func(*monitor.Link, *config.Config, *maillog.Logger) int // nil: nothing is executed
}

// Check looks at what every one of these programs trusts before it becomes anybody, and at more that it names.
func Check(c *config.Config, more ...privilege.Use) error {
	return privilege.Check(slices.Concat(confine.Trusted(c), []privilege.Use{
		{Path: c.Users, Mode: 0o775},
		{Path: c.MailboxDir, Type: fs.ModeDir, Mode: 0o775},
	}, more)...)
}

// Watch splits the program, and is its monitor from then on. Of o, what a program has of its own is set: the listeners, which are closed, the tickets,
// where to dial. It returns an exit code. When there is one connection to serve its end is the end.
func (g Program) Watch(p *daemon.Process, c *config.Config, sockets *daemon.Sockets, o monitor.Options, log *maillog.Logger) int {
	front, err := privilege.Find(c.LoginUser)
	if err != nil {
		log.Problems("configuration", fmt.Errorf("login_user: %w (useradd --system --user-group %s makes it)", err, c.LoginUser))
		return exConfig
	}
	who, err := g.Lookup(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	// What the monitor, and so all its children, can do without.
	if err = (privilege.Limits{}).Set(); err == nil {
		err = privilege.NoNew()
	}
	if err != nil {
		log.Problems("sandbox", err)
		return exOSErr
	}
	file, text, err := config.Text(c.File)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	o.Program, o.Front, o.Lookup, o.Log = g.Name, front, who, log
	o.MinUID, o.Workers, o.Grace = uint32(c.MinUID), c.WorkerLimit, c.DrainTimeout
	o.Ready, o.Watchdog, o.Alive = p.Ready, p.Watchdog(), p.Alive
	m, err := monitor.Start(o, withFile(file, text))
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	for _, f := range o.Listeners {
		f.Close()
	}
	ctx := p.Signals(daemon.Hooks{Reload: func() { log.Reload(file, g.reload(m, file, log)) }})
	context.AfterFunc(ctx, p.Stopping)
	switch err := m.Run(ctx); {
	case sockets.Conn != nil:
		return exOK
	case err != nil:
		log.Problems("serve", err)
		return exOSErr
	}
	log.Stop("signal", 0)
	return exOK
}

// reload gives all parts a new configuration, or none.
func (g Program) reload(m *monitor.Monitor, file string, log *maillog.Logger) error {
	file, text, err := config.Text(file)
	if err != nil {
		return err
	}
	c, err := config.Parse(file, text)
	if err != nil {
		return err
	}
	who, err := g.Lookup(c, log)
	if err != nil {
		return err
	}
	return m.Reload(withFile(file, text), who)
}

// Part is a child of the monitor: link and err are what monitor.Inherited returned. It returns an exit code.
func (g Program) Part(link *monitor.Link, err error) int {
	p := daemon.Start(0)
	log := p.Log("auto", g.Name)
	defer func() { log.Close() }()
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	text, ok := link.Configuration()
	if !ok {
		return exTempFail
	}
	c, err := parse(text)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	if c.Log != "auto" {
		log.Close()
		log = p.Log(c.Log, g.Name)
	}
	if link.Role == monitor.Front {
		return g.Front(p, link, c, log)
	}
	if link.Role == monitor.Runner && g.Runner != nil {
		return g.Runner(link, c, log)
	}
	return g.Worker(link, c, log)
}

// Follow gives a part the configurations that come from the monitor, until there are no more. The monitor has checked what they say; what the front finds wrong
// with what they name (a certificate, a table) is logged, everything goes on as it was, and no worker hears of it.
func Follow(link *monitor.Link, log *maillog.Logger, configure func(*config.Config) error) {
	for {
		text, ok := link.Configuration()
		if !ok {
			return
		}
		c, err := parse(text)
		if err == nil {
			err = configure(c)
		}
		if err != nil {
			log.Problems("configuration", err)
		}
		if link.Role == monitor.Front {
			link.Taken(err == nil)
		}
	}
}

// Became checks that the monitor has executed us as it should: as the account of that name.
func Became(name string) error {
	a, err := privilege.Find(name)
	if err != nil {
		return err
	}
	return privilege.Became(a)
}

// BecameWorker is Became for a worker, which knows of its account what it is.
func BecameWorker() error { return Became(fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid())) }

// Account is who a user's worker runs as: mailbox_user when the user has no uid. Value is what the worker gets to know.
func Account(c *config.Config, user string, uid, gid userdb.ID, home, value string) (monitor.Account, error) {
	a := monitor.Account{UID: uint32(uid), GID: uint32(gid), Home: home, Value: value}
	switch {
	case uid == userdb.NoID:
		u, err := privilege.Find(c.MailboxUser)
		if err != nil {
			return a, fmt.Errorf("user %s has no uid; mailbox_user: %w", user, err)
		}
		a.UID, a.GID = u.UID, u.GID
	case gid == userdb.NoID:
		return a, fmt.Errorf("user %s has a uid and no gid", user)
	}
	if len(value) > monitor.MaxValue {
		return a, fmt.Errorf("user %s: what is to be known of the mailbox is too long", user)
	}
	return a, nil
}

// withFile puts the name of the configuration before its text: relative names in it are below its directory.
func withFile(file, text string) string { return file + "\n" + text }

func parse(text string) (*config.Config, error) {
	file, text, _ := strings.Cut(text, "\n")
	return config.Parse(file, text)
}
