package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"postamt/internal/authwire"
	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/lmtpd"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/monitor"
	"postamt/internal/privilege"
	"postamt/internal/privsep"
	"postamt/internal/userdb"
)

// As root a program is three kinds of processes (package monitor). The monitor collects logins at authd and says whose they are; the front
// speaks with strangers until they have logged in, and carries what is under TLS after that; a worker serves mailboxes, for one user id.

func (g *Program) split() privsep.Program {
	return privsep.Program{Name: g.Name, Lookup: g.lookup, Front: g.front, Worker: g.worker}
}

// check looks at what the program is about to trust.
func (g *Program) check(c *config.Config) error {
	var uses []privilege.Use
	if g.Shared {
		uses = append(uses, privilege.Use{Path: c.SharedMailboxes, Type: fs.ModeDir, Mode: 0o755})
	}
	var auth []uint32 // nil: of a server that is not ours nothing is known
	if a, err := privilege.Find(c.AuthUser); err == nil {
		auth = []uint32{a.UID}
	}
	for _, socket := range []string{c.AuthServer, c.AuthUsers} {
		uses = append(uses, privilege.Use{Path: socket, Type: fs.ModeSocket, Owners: auth, Mode: 0o777})
	}
	return privsep.Check(c, uses...)
}

// watch splits the program, and is its monitor from then on.
func (g *Program) watch(p *daemon.Process, c *config.Config, sockets *daemon.Sockets, log *maillog.Logger) int {
	defer sockets.Close()
	if err := g.check(c); err != nil {
		log.Problems("check", err)
		return exConfig
	}
	files, names, err := g.hand(sockets)
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	return g.split().Watch(p, c, sockets, monitor.Options{
		Listeners: files, Names: names, Tickets: &authwire.UserClient{Path: c.AuthUsers}, Dial: dial(c.AuthServer),
	}, log)
}

// hand makes copies of the listeners, or of the one connection, for the front.
func (g *Program) hand(sockets *daemon.Sockets) (files []*os.File, names []string, err error) {
	add := func(s any, kind string) error {
		err := errors.New("no socket")
		if x, ok := s.(interface{ File() (*os.File, error) }); ok {
			var f *os.File
			if f, err = x.File(); err == nil {
				files, names = append(files, f), append(names, kind)
				return nil
			}
		}
		return fmt.Errorf("a connection that cannot be passed on: as root %s is several processes; let the super-server run it as another user: %w", g.Name, err)
	}
	if sockets.Conn != nil {
		return files, names, add(sockets.Conn, sockets.Kind)
	}
	for _, l := range sockets.Listeners {
		if err := add(l.Listener, l.Kind); err != nil {
			return nil, nil, err
		}
	}
	return files, names, nil
}

// dial leads to where logins are judged.
func dial(path string) func() (*os.File, error) {
	return func() (*os.File, error) {
		c, err := net.Dial("unix", path)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.(*net.UnixConn).File()
	}
}

// lookup is what the monitor knows of who has logged in.
func (g *Program) lookup(c *config.Config, log *maillog.Logger) (privsep.Lookup, error) {
	p, err := newPeople(c, lmtpd.Anybody{}, log)
	if err != nil {
		return nil, c.Where(err)
	}
	p.accounts.MinUID = userdb.ID(c.MinUID)
	return func(name string) (monitor.Account, error) {
		box, err := p.mailbox(name)
		if err != nil {
			return monitor.Account{}, err
		}
		a, err := privsep.Account(c, box.User, box.UID, box.GID, box.Home, Place{box.Target.Path, box.Target.Quota}.encode())
		a.Member = g.Shared && c.SharedMailboxes != ""
		return a, err
	}, nil
}

// front can open nothing but certificates, and connect to nobody but keyd.
func (g *Program) front(p *daemon.Process, link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	p.PingBy(func() { link.Alive() })
	sockets, err := p.Open(g.want(c))
	if err == nil {
		err = privsep.Became(c.LoginUser)
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	s := &service{program: g, log: log, collect: true, dial: func(context.Context) (net.Conn, error) { return link.Dial() }}
	s.after = func(_ context.Context, l *Login) {
		client := monitor.Client{Conn: l.Conn.Net(), Ahead: l.Conn.Take(), Note: l.Note}
		if err := pass(link, l.Ticket.Encode(), client, sockets.Conn != nil); err != nil {
			l.Fail(err)
		}
	}
	if err = privilege.Undumpable(); err == nil { // passwords pass here
		err = s.start(c)
	}
	if err == nil {
		err = confine.Front(c, g.Limits(c).Sessions).Enter(log, sockets.Conn != nil)
	}
	if err != nil {
		log.Problems("start", err)
		return exConfig
	}
	go privsep.Follow(link, log, s.configure)
	if err := link.Ready(); err != nil {
		return exTempFail
	}
	s.serve(link.Context(), sockets, func() {})
	return exOK
}

// pass gives a client to the worker. The only client is carried, so that we are there as long as he is.
func pass(link *monitor.Link, ticket []byte, c monitor.Client, only bool) error {
	if !only {
		return link.Pass(ticket, c)
	}
	w, err := link.Connect(c.Note, ticket)
	if err == nil {
		monitor.Pump(c.Conn, w, c.Ahead)
	}
	return err
}

// worker serves mailboxes for one user id.
func (g *Program) worker(link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	err := privsep.BecameWorker()
	if err == nil {
		err = confineWorker(c)
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	s := g.New(log)
	s.Configure(c, login.Gate{}, nil)
	go privsep.Follow(link, log, func(c *config.Config) error {
		s.Configure(c, login.Gate{}, nil)
		return nil
	})
	link.Serve(c.WorkerIdle, c.DrainTimeout, func(ctx context.Context, n monitor.Session) {
		err := s.Serve(ctx, n.Conn, n.Name, n.Note, func(context.Context) (Place, error) {
			value, err := n.Value, error(nil)
			if value == "" {
				value, err = link.Mailbox(n.Name)
			}
			if err != nil {
				return Place{}, err
			}
			return parsePlace(value)
		})
		if err != nil {
			log.Problem("", "session", err)
		}
	})
	return exOK
}
