package access

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/certs"
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/keyd"
	"postamt/internal/lmtpd"
	"postamt/internal/login"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// service is the half before the login behind the listeners, and what comes after it.
type service struct {
	program *Program
	log     *maillog.Logger
	server  Server
	limiter *daemon.Limiter
	prepare func(*config.Config) (use func(), err error) // what else depends on the configuration; nil: nothing
	dial    func(context.Context) (net.Conn, error)      // to where logins are judged; nil: to its socket
	collect bool                                         // logins are collected with their tickets
	after   func(context.Context, *Login)                // a client has logged in
	conf    atomic.Pointer[config.Config]
}

// start makes the first configuration of sessions.
func (s *service) start(c *config.Config) error {
	s.server = s.program.New(s.log)
	s.limiter = daemon.NewLimiter(s.program.Limits(c))
	return s.configure(c)
}

// configure is for sessions that begin from now on. If anything is wrong everything stays as it was.
func (s *service) configure(c *config.Config) error {
	gate, auth, err := s.entrance(c)
	use := func() {}
	if s.prepare != nil {
		var perr error
		use, perr = s.prepare(c)
		err = errors.Join(err, perr)
	}
	if err != nil {
		return c.Where(err)
	}
	use()
	s.server.Configure(c, gate, auth)
	s.limiter.SetLimits(s.program.Limits(c))
	s.conf.Store(c)
	return nil
}

func (s *service) reload() {
	old := s.conf.Load()
	c, err := config.Load(old.File)
	if err == nil {
		err = s.configure(c)
	}
	s.log.Reload(old.File, err)
}

// serve runs until ctx ends or the one connection does, and returns how many sessions did not end in time.
func (s *service) serve(ctx context.Context, sockets *daemon.Sockets, stopping func()) int {
	srv := &daemon.Server{Limiter: s.limiter, Log: s.log,
		Refuse: func(c net.Conn, _ string, _ daemon.Limit) { s.server.Refuse(c) },
		Handle: func(ctx context.Context, nc net.Conn, kind string) {
			if l := s.server.Authorize(ctx, nc, kind, peerOf(nc)); l != nil {
				s.after(ctx, l)
			}
		}}
	return srv.Run(ctx, sockets, stopping, s.drain)
}

func (s *service) drain() time.Duration { return s.conf.Load().DrainTimeout }

func peerOf(c net.Conn) login.Peer {
	p := login.Peer{IP: daemon.RemoteIP(c)}
	p.TLS, p.StartTLS = daemon.TLS(c)
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		p.Port = a.Port()
	}
	return p
}

// entrance is how clients may come in, and who judges them. Each kind of listener is a service of TLS with tickets of its own.
func (s *service) entrance(c *config.Config) (login.Gate, *login.Server, error) {
	gate := login.Gate{AuthInClear: c.AuthClear.Contains}
	pool, err := certs.Authorities(c.TLSClientCA)
	if len(c.TLSCert) > 0 {
		set, cerr := keyd.Certificates(c, s.log.Reload)
		if err = errors.Join(err, cerr); err != nil {
			return gate, nil, err
		}
		name := s.program.Service // which IANA has, for ALPN
		clear := set.Service(s.program.Name+"."+name, c.TLSMinVersion, name)
		implicit := set.Service(s.program.Name+"."+name+"s", c.TLSMinVersion, name)
		clear.Ask(pool)
		implicit.Ask(pool)
		gate.TLS = clear.Config()
		gate.BeginTLS = func(kind string) (*tls.Config, error) {
			if kind == name {
				return clear.Config(), clear.Begin()
			}
			return implicit.Config(), implicit.Begin()
		}
	}
	if c.AuthServer == "" {
		err = errors.Join(err, errors.New("auth_server is empty: nobody could log in"))
	}
	return gate, &login.Server{Client: &authwire.Client{Path: c.AuthServer, Dial: s.dial}, Service: s.program.Service, Collect: s.collect,
		Expected: c.AuthMechanisms, Shown: login.Shown(gate.TLS), Proven: certs.Proven(pool), Log: s.log}, err
}

// people is who has a mailbox here, and where.
type people struct {
	accounts *lmtpd.Accounts
	set      *tables.Set
}

// newPeople reads the users. As for deliver, aliases are none of its business.
func newPeople(c *config.Config, actor lmtpd.Actor, log *maillog.Logger) (*people, error) {
	t, errs := tables.Open(tables.Files{
		LocalDomains: tables.Domains(c.LocalDomains), VirtualDomains: tables.Domains(c.VirtualDomains), RelayDomains: tables.Domains(c.RelayDomains),
		Users: c.Users, Optional: []string{filepath.Join(filepath.Dir(c.File), "users")}, Delimiters: c.RecipientDelimiter, Postmaster: "none@invalid",
	}, func(err error) { log.Problem("", "tables", err) })
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &people{&lmtpd.Accounts{Lookup: func(name string) (userdb.User, bool, error) { return t.Users().Lookup(name) },
		MailboxDir: c.MailboxDir, Maildir: c.Maildir, Quota: maildir.Quota{Bytes: c.QuotaDefault}, Actor: actor}, t}, nil
}

func (p *people) mailbox(name string) (lmtpd.Mailbox, error) {
	return p.accounts.User(name, p.set.Current().LocalDomain)
}

// whole is all in one process, for its own user id.
func (g *Program) whole(c *config.Config, log *maillog.Logger) (*service, error) {
	s := &service{program: g, log: log}
	var users atomic.Pointer[people]
	s.prepare = func(c *config.Config) (func(), error) {
		p, err := newPeople(c, lmtpd.Self(os.Geteuid()), log)
		return func() { users.Store(p) }, err
	}
	s.after = func(ctx context.Context, l *Login) {
		for l != nil {
			l = l.Serve(ctx, func(context.Context) (Place, error) {
				box, err := users.Load().mailbox(l.User)
				return Place{box.Target.Path, box.Target.Quota}, err
			})
		}
	}
	return s, s.start(c)
}
