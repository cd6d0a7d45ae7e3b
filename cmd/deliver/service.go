package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/addr"
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/route"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// service is the LMTP service put together, whole or a part of it. What a reload
// exchanges is in lmtp; the maildirs that are open stay.
type service struct {
	log  *maillog.Logger
	make func(*config.Config) (*lmtpd.Server, error)
	lmtp atomic.Pointer[lmtpd.Server]
	conf atomic.Pointer[config.Config]
}

// newService is the whole in one process.
func newService(c *config.Config, log *maillog.Logger) (*service, error) {
	store := newStore(c)
	s := &service{log: log, make: func(c *config.Config) (*lmtpd.Server, error) {
		boxes, err := accounts(c, lmtpd.Self(os.Geteuid()), func(err error) { log.Problem("", "tables", err) }, usersByDefault(c))
		s := &lmtpd.Server{Mailboxes: boxes, Store: store}
		if os.Geteuid() != 0 { // who runs this as root in one process has nobody to run commands as
			s.Append, s.Forwards = appendFile, forwards(c)
		}
		return s, err
	}}
	if err := s.configure(c); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *service) configure(c *config.Config) error {
	v, err := s.make(c)
	if err != nil {
		return err
	}
	v.Config = lmtpd.Config{Hostname: c.Hostname, SizeLimit: c.MessageSizeLimit, Delimiters: c.RecipientDelimiter, CommandTime: c.CommandTimeout}
	v.Log = s.log
	s.lmtp.Store(v)
	s.conf.Store(c)
	return nil
}

// reload reads everything again, for new sessions. If anything is wrong everything stays as it was.
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
	srv := &daemon.Server{Log: s.log, Handle: func(ctx context.Context, c net.Conn, kind string) {
		// XQID is believed of who may write to our socket in the file system; the network is for other servers.
		s.lmtp.Load().Serve(ctx, c, c.LocalAddr().Network() == "unix")
	}}
	return srv.Run(ctx, sockets, stopping, s.drain)
}

func (s *service) drain() time.Duration { return s.conf.Load().DrainTimeout }

// want is what the service listens on.
func want(c *config.Config) daemon.Want {
	return daemon.Want{Own: c.DeliverListen, Kind: "lmtp", Kinds: []string{"lmtp"}, SocketMode: 0o660}
}

// newStore keeps as many maildirs open as descriptors allow, three each, with
// as many again for messages, connections, and directories that were just made.
func newStore(c *config.Config) *maildir.Store {
	open := 64
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		open = int(min(max(uint64(l.Cur)/12, 8), 1024))
	}
	return maildir.New(maildir.Options{Host: c.Hostname, MaxOpen: open})
}

// usersByDefault may be missing: the service reads it when it appears.
func usersByDefault(c *config.Config) string { return filepath.Join(filepath.Dir(c.File), "users") }

// accounts is who has a mailbox here, and where. The optional files may be missing.
func accounts(c *config.Config, actor lmtpd.Actor, report func(error), optional ...string) (*lmtpd.Accounts, error) {
	// Aliases are none of our business: who comes here is the end of an expansion. Nor is it whether there is a
	// postmaster, which smtpd and queued complain of: any address keeps the tables from it.
	t, errs := tables.Open(tables.Files{
		LocalDomains: tables.Domains(c.LocalDomains), VirtualDomains: tables.Domains(c.VirtualDomains), RelayDomains: tables.Domains(c.RelayDomains),
		Users: c.Users, Optional: optional, Delimiters: c.RecipientDelimiter, Postmaster: "none@invalid",
	}, report)
	if err := errors.Join(errs...); err != nil {
		return nil, c.Where(err)
	}
	return &lmtpd.Accounts{
		Resolve:    func(m addr.Mailbox) route.Verdict { return t.Current().ResolveFinal(m) },
		Lookup:     func(name string) (userdb.User, bool, error) { return t.Users().Lookup(name) },
		MailboxDir: c.MailboxDir, Maildir: c.Maildir, Quota: maildir.Quota{Bytes: c.QuotaDefault}, Actor: actor,
		Target: (&deeds{c: c, report: report}).find,
	}, nil
}
