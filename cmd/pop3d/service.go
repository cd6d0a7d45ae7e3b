package main

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
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/keyd"
	"postamt/internal/lmtpd"
	"postamt/internal/login"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/pop3"
	"postamt/internal/pop3d"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// service is the half before the login behind the listeners, and what comes after it.
type service struct {
	log     *maillog.Logger
	server  *pop3d.Server
	limiter *daemon.Limiter
	make    func(*config.Config) (*pop3d.Config, error)
	after   func(context.Context, *pop3d.Login) // a client has logged in
	conf    atomic.Pointer[config.Config]
}

// start makes the first configuration of sessions.
func (s *service) start(c *config.Config) error {
	n, err := s.make(c)
	if err != nil {
		return err
	}
	s.server = pop3d.NewServer(n)
	s.server.Log = s.log
	s.limiter = daemon.NewLimiter(limits(c))
	s.conf.Store(c)
	return nil
}

// configure is for sessions that begin from now on. If anything is wrong everything stays as it was.
func (s *service) configure(c *config.Config) error {
	n, err := s.make(c)
	if err == nil {
		s.server.SetConfig(n)
		s.limiter.SetLimits(limits(c))
		s.conf.Store(c)
	}
	return err
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

func peerOf(c net.Conn) pop3d.Peer {
	p := pop3d.Peer{IP: daemon.RemoteIP(c)}
	p.TLS, p.StartTLS = daemon.TLS(c)
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		p.Port = a.Port()
	}
	return p
}

func limits(c *config.Config) daemon.Limits {
	return daemon.Limits{Sessions: c.Pop3dSessionLimit, Client: c.Pop3dClientLimit}
}

// alpn is the name that IANA has for POP3.
var alpn = []string{"pop3"}

// settings is what sessions need of the configuration. dial leads to where logins are judged.
func settings(c *config.Config, log *maillog.Logger, collect bool, dial func(context.Context) (net.Conn, error)) (*pop3d.Config, error) {
	n := &pop3d.Config{Hostname: c.Hostname, TimeoutLogin: c.Pop3dTimeoutLogin, TimeoutIdle: c.Pop3dTimeoutIdle, ErrorLimit: c.Pop3dErrorLimit,
		Expire: c.Pop3dExpire, LoginDelay: c.Pop3dLoginDelay, AuthInClear: c.AuthClear.Contains}
	if len(c.TLSCert) > 0 {
		set, err := keyd.Certificates(c, log.Reload)
		if err != nil {
			return nil, c.Where(err)
		}
		clear, implicit := set.Service("pop3d.pop3", c.TLSMinVersion, alpn...), set.Service("pop3d.pop3s", c.TLSMinVersion, alpn...)
		n.TLS = clear.Config()
		n.BeginTLS = func(kind string) (*tls.Config, error) {
			if kind == pop3d.POP3S {
				return implicit.Config(), implicit.Begin()
			}
			return clear.Config(), clear.Begin()
		}
	}
	if c.AuthServer == "" {
		return nil, errors.New("auth_server is empty: nobody could log in")
	}
	n.Auth = &login.Server{Client: &authwire.Client{Path: c.AuthServer, Dial: dial}, Service: "pop3", Collect: collect, Shown: login.Shown(n.TLS), Log: log}
	return n, nil
}

// people is who has a maildrop here, and where.
type people struct {
	accounts *lmtpd.Accounts
	set      *tables.Set
}

// newPeople reads the users. As for deliver, aliases are none of its business.
func newPeople(c *config.Config, actor lmtpd.Actor, report func(error)) (*people, error) {
	t, errs := tables.Open(tables.Files{
		LocalDomains: tables.Domains(c.LocalDomains), VirtualDomains: tables.Domains(c.VirtualDomains), RelayDomains: tables.Domains(c.RelayDomains),
		Users: c.Users, Optional: []string{filepath.Join(filepath.Dir(c.File), "users")}, Delimiters: c.RecipientDelimiter, Postmaster: "none@invalid",
	}, report)
	if err := errors.Join(errs...); err != nil {
		return nil, c.Where(err)
	}
	return &people{&lmtpd.Accounts{Lookup: func(name string) (userdb.User, bool, error) { return t.Users().Lookup(name) },
		MailboxDir: c.MailboxDir, Maildir: c.Maildir, Quota: maildir.Quota{Bytes: c.QuotaDefault}, Actor: actor}, t}, nil
}

func (p *people) mailbox(name string) (lmtpd.Mailbox, error) {
	return p.accounts.User(name, p.set.Current().LocalDomain)
}

// newWhole is all in one process, for its own user id.
func newWhole(c *config.Config, log *maillog.Logger) (*service, error) {
	s := &service{log: log}
	var users atomic.Pointer[people]
	s.make = func(c *config.Config) (*pop3d.Config, error) {
		p, err := newPeople(c, lmtpd.Self(os.Geteuid()), func(err error) { log.Problem("", "tables", err) })
		if err != nil {
			return nil, err
		}
		n, err := settings(c, log, false, nil)
		if err == nil {
			users.Store(p)
		}
		return n, err
	}
	s.after = func(ctx context.Context, l *pop3d.Login) {
		s.server.Serve(ctx, l.Conn, func(context.Context) (pop3d.Maildrop, error) {
			box, err := users.Load().mailbox(l.Note.Client.Login)
			if err != nil {
				return nil, err
			}
			return dropOrError(openDrop(box.Target.Path, log))
		}, l.Note)
	}
	return s, s.start(c)
}

// dropOrError keeps a nil *drop from being a Maildrop.
func dropOrError(d *drop, err error) (pop3d.Maildrop, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// session serves the user who runs it, on standard input and output: he has logged in already, be it by ssh or at the end of a chain
// of checkpassword programs. path is his maildir, "" that of his home.
func session(c *config.Config, log *maillog.Logger, path string) int {
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
	n := &pop3d.Config{Hostname: c.Hostname, TimeoutIdle: c.Pop3dTimeoutIdle, ErrorLimit: c.Pop3dErrorLimit, Expire: c.Pop3dExpire}
	s := pop3d.NewServer(n)
	s.Log = log
	nc := daemon.Standard()
	defer nc.Close()
	s.Serve(context.Background(), pop3.NewConn(nc), func(context.Context) (pop3d.Maildrop, error) { return dropOrError(openDrop(path, log)) },
		pop3d.Note{Session: "-", Client: maillog.Client{Proto: "POP3", Login: os.Getenv("USER")}})
	return exOK
}
