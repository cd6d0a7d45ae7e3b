package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"postamt/internal/authwire"
	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/lmtpd"
	"postamt/internal/maillog"
	"postamt/internal/monitor"
	"postamt/internal/pop3"
	"postamt/internal/pop3d"
	"postamt/internal/privilege"
	"postamt/internal/userdb"
)

// Pop3d as root is three kinds of processes (package monitor). The monitor collects logins at authd and says whose they are; the front
// speaks with strangers until they have logged in, and carries what is under TLS after that; a worker serves maildrops, for one user id.

// check looks at what the program is about to trust.
func check(c *config.Config) error {
	uses := []privilege.Use{
		{Path: c.File, Owners: []uint32{0}, Mode: 0o755},
		{Path: c.Users, Mode: 0o775},
		{Path: c.MailboxDir, Type: fs.ModeDir, Mode: 0o775},
	}
	var auth []uint32 // nil: of a server that is not ours nothing is known
	if a, err := privilege.Find(c.AuthUser); err == nil {
		auth = []uint32{a.UID}
	}
	for _, socket := range []string{c.AuthServer, c.AuthUsers} {
		uses = append(uses, privilege.Use{Path: socket, Type: fs.ModeSocket, Owners: auth, Mode: 0o777})
	}
	return privilege.Check(uses...)
}

// watch splits the program, and is its monitor from then on.
func watch(p *daemon.Process, c *config.Config, sockets *daemon.Sockets, log *maillog.Logger) int {
	defer sockets.Close()
	if err := check(c); err != nil {
		log.Problems("check", err)
		return exConfig
	}
	account, err := privilege.Find(c.LoginUser)
	if err != nil {
		log.Problems("configuration", fmt.Errorf("login_user: %w (useradd --system --user-group %s makes it)", err, c.LoginUser))
		return exConfig
	}
	who, err := lookup(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	files, names, err := hand(sockets)
	if err == nil {
		if err = (privilege.Limits{}).Set(); err == nil {
			err = privilege.NoNew()
		}
	}
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	_, text, err := config.Text(c.File)
	if err != nil {
		log.Problems("configuration", err)
		return exConfig
	}
	m, err := monitor.Start(monitor.Options{
		Program: "pop3d", Front: account, MinUID: uint32(c.MinUID), Workers: c.WorkerLimit, Grace: c.DrainTimeout,
		Listeners: files, Names: names, Lookup: who, Tickets: &authwire.UserClient{Path: c.AuthUsers}, Dial: dial(c.AuthServer),
		Log: log, Ready: p.Ready, Watchdog: p.Watchdog(), Alive: p.Alive,
	}, withFile(c.File, text))
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	for _, f := range files {
		f.Close()
	}
	ctx := p.Signals(daemon.Hooks{Reload: func() { reloadAll(m, c.File, log) }})
	context.AfterFunc(ctx, p.Stopping)
	switch err := m.Run(ctx); {
	case sockets.Conn != nil:
		return exOK // its end is the session's
	case err != nil:
		log.Problems("serve", err)
		return exOSErr
	}
	log.Stop("signal", 0)
	return exOK
}

// reloadAll gives all parts a new configuration, if it is one.
func reloadAll(m *monitor.Monitor, file string, log *maillog.Logger) {
	err := func() error {
		file, text, err := config.Text(file)
		if err != nil {
			return err
		}
		c, err := config.Parse(file, text)
		if err != nil {
			return err
		}
		who, err := lookup(c, log)
		if err == nil {
			m.Reload(withFile(file, text), who)
		}
		return err
	}()
	log.Reload(file, err)
}

// hand makes copies of the listeners, or of the one connection, for the front.
func hand(sockets *daemon.Sockets) (files []*os.File, names []string, err error) {
	add := func(s any, kind string) error {
		err := errors.New("no socket")
		if x, ok := s.(interface{ File() (*os.File, error) }); ok {
			var f *os.File
			if f, err = x.File(); err == nil {
				files, names = append(files, f), append(names, kind)
				return nil
			}
		}
		return fmt.Errorf("a connection that cannot be passed on: as root pop3d is several processes; let the super-server run it as another user: %w", err)
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
func lookup(c *config.Config, log *maillog.Logger) (func(string) (monitor.Account, error), error) {
	p, err := newPeople(c, lmtpd.Anybody{}, func(err error) { log.Problem("", "tables", err) })
	if err != nil {
		return nil, err
	}
	p.accounts.MinUID = userdb.ID(c.MinUID)
	return func(name string) (monitor.Account, error) {
		box, err := p.mailbox(name)
		if err != nil {
			return monitor.Account{}, err
		}
		a := monitor.Account{UID: uint32(box.UID), GID: uint32(box.GID), Home: box.Home, Value: box.Target.Path}
		switch {
		case box.UID == userdb.NoID:
			u, err := privilege.Find(c.MailboxUser)
			if err != nil {
				return a, fmt.Errorf("user %s has no uid; mailbox_user: %w", box.User, err)
			}
			a.UID, a.GID = u.UID, u.GID
		case box.GID == userdb.NoID:
			return a, fmt.Errorf("user %s has a uid and no gid", box.User)
		}
		if len(a.Value) > monitor.MaxValue {
			return a, fmt.Errorf("user %s: the path of the maildir is too long", box.User)
		}
		return a, nil
	}, nil
}

// part is a child of the monitor.
func part(link *monitor.Link, err error) int {
	p := daemon.Start(0)
	log := p.Log("auto", "pop3d")
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
		log = p.Log(c.Log, "pop3d")
	}
	if link.Role == monitor.Front {
		return front(p, link, c, log)
	}
	return worker(link, c, log)
}

// front can open nothing but certificates, and connect to nobody but keyd.
func front(p *daemon.Process, link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	p.PingBy(func() { link.Alive() })
	sockets, err := p.Open(want(c))
	if err == nil {
		err = became(c.LoginUser)
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	s := &service{log: log}
	s.make = func(c *config.Config) (*pop3d.Config, error) {
		return settings(c, log, true, func(context.Context) (net.Conn, error) { return link.Dial() })
	}
	s.after = func(_ context.Context, l *pop3d.Login) {
		client := monitor.Client{Conn: l.Conn.Net(), Ahead: l.Conn.Take(), Note: l.Note.String()}
		if err := pass(link, l.Ticket.Encode(), client, sockets.Conn != nil); err != nil {
			l.Fail(err)
		}
	}
	if err = privilege.Undumpable(); err == nil { // passwords pass here
		err = s.start(c)
	}
	if err == nil {
		err = confine.Front(c).Enter(log, sockets.Conn != nil)
	}
	if err != nil {
		log.Problems("start", err)
		return exConfig
	}
	go follow(link, s.configure)
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

// worker serves maildrops for one user id.
func worker(link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	err := became(fmt.Sprintf("%d:%d", os.Geteuid(), os.Getegid()))
	if err == nil {
		err = confineWorker(c)
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	make := func(c *config.Config) *pop3d.Config {
		return &pop3d.Config{Hostname: c.Hostname, TimeoutIdle: c.Pop3dTimeoutIdle, ErrorLimit: c.Pop3dErrorLimit, Expire: c.Pop3dExpire, LoginDelay: c.Pop3dLoginDelay}
	}
	s := pop3d.NewServer(make(c))
	s.Log = log
	go follow(link, func(c *config.Config) error {
		s.SetConfig(make(c))
		return nil
	})
	link.Serve(c.WorkerIdle, c.DrainTimeout, func(ctx context.Context, n monitor.Session) {
		note, err := pop3d.ParseNote(n.Note, n.Name)
		if err != nil {
			log.Problem("", "session", err)
			return
		}
		s.Serve(ctx, pop3.NewConn(n.Conn), func(context.Context) (pop3d.Maildrop, error) {
			path, err := link.Mailbox(n.Name)
			if err != nil {
				return nil, err
			}
			return dropOrError(openDrop(path, log))
		}, note)
	})
	return exOK
}

// follow takes new configurations from the monitor, which has checked them.
func follow(link *monitor.Link, configure func(*config.Config) error) {
	for {
		text, ok := link.Configuration()
		if !ok {
			return
		}
		if c, err := parse(text); err == nil {
			configure(c)
		}
	}
}

// became checks that the monitor has executed us as it should.
func became(account string) error {
	a, err := privilege.Find(account)
	if err != nil {
		return err
	}
	return privilege.Became(a)
}

// confineWorker: the owner's files, no network, no programs.
func confineWorker(c *config.Config) error {
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

// withFile puts the name of the configuration before its text: relative names in it are below its directory.
func withFile(file, text string) string { return file + "\n" + text }

func parse(text string) (*config.Config, error) {
	file, text, _ := strings.Cut(text, "\n")
	return config.Parse(file, text)
}
