package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"postamt/internal/addr"
	"postamt/internal/authwire"
	"postamt/internal/certs"
	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/keyd"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/route"
	"postamt/internal/smtpd"
	"postamt/internal/tables"
)

// service is the program put together: a session server between listeners and a queue.
type service struct {
	is      *confine.Program
	log     *maillog.Logger
	server  *smtpd.Server
	limiter *daemon.Limiter
	conf    atomic.Pointer[config.Config]
	lists   []string // files that aliases named at the start
}

// newService makes everything but the listeners; nil and an exit code if it cannot. What is wrong is in the log.
func newService(c *config.Config, log *maillog.Logger) (*service, int) {
	settings, err := settings(c, log)
	if err != nil {
		log.Problems("configuration", err)
		return nil, exConfig
	}
	q, err := queue.Open(c.QueueDir, queue.Options{})
	if err != nil {
		log.Problems("open queue", c.Where(err))
		return nil, exOSErr
	}
	waker, err := queue.NewWaker(filepath.Join(c.RunDir, "queued"))
	if err != nil {
		log.Problems("wake queued", err)
		return nil, exOSErr
	}
	s := &service{log: log, server: smtpd.NewServer(spool{q}, settings, c.SmtpdCommitLimit), limiter: daemon.NewLimiter(limits(c)),
		lists: settings.Recipients.(recipients).set.Lists()}
	s.server.Wake, s.server.Log, s.server.Stress, s.server.Room = waker.Wake, log, s.limiter.Stress, q.Room
	s.conf.Store(c)
	return s, 0
}

// serve runs until ctx ends or the one connection does, and returns how many sessions did not end in time.
func (s *service) serve(ctx context.Context, sockets *daemon.Sockets, stopping func()) int {
	srv := &daemon.Server{Limiter: s.limiter, Log: s.log,
		Handle: func(ctx context.Context, c net.Conn, kind string) { s.server.Serve(ctx, c, kind, peerOf(c, kind)) },
		Refuse: func(c net.Conn, _ string, _ daemon.Limit) { s.server.Refuse(c) },
	}
	if sockets.Conn != nil && sockets.How != "LISTEN_FDS" {
		if _, err := daemon.PeerCred(sockets.Conn); err == nil {
			sockets.Kind = smtpd.Local
		}
	}
	return srv.Run(ctx, sockets, stopping, s.drain)
}

func (s *service) drain() time.Duration { return s.conf.Load().DrainTimeout }

// reload reads everything again, for new sessions. If anything is wrong everything stays as it was.
func (s *service) reload() {
	old := s.conf.Load()
	c, err := config.Load(old.File)
	if err == nil {
		next := confine.Smtpd(c)
		if err = next.Keys(); err == nil {
			err = s.is.Covers(next)
		}
	}
	if err == nil {
		var n *smtpd.Config
		if n, err = settings(c, s.log); err == nil {
			s.server.SetConfig(n)
			s.limiter.SetLimits(limits(c))
			s.conf.Store(c)
		}
	}
	s.log.Reload(old.File, err)
}

// settings is what sessions need of the configuration, with its tables and certificates.
func settings(c *config.Config, log *maillog.Logger) (*smtpd.Config, error) {
	n := &smtpd.Config{
		Hostname: c.Hostname, SizeLimit: c.MessageSizeLimit, RcptLimit: c.RecipientLimit, MailLimit: c.MailLimit, Hops: c.SmtpdHops,
		TimeoutCommand: c.SmtpdTimeoutCommand, TimeoutData: c.SmtpdTimeoutData, TimeoutSession: c.SmtpdTimeoutSession, TimeoutCommit: c.SmtpdTimeoutCommit, MinRate: c.SmtpdMinRate,
		StressPercent: c.SmtpdStressPercent, StressTimeout: c.SmtpdStressTimeout,
		ErrorSoft: c.SmtpdErrorSoft, ErrorDelay: c.SmtpdErrorDelay, ErrorHard: c.SmtpdErrorHard, JunkLimit: c.SmtpdJunkLimit,
		MayRelay: c.RelayClients.Contains,
	}
	t, errs := tables.Open(tables.Configured(c), func(err error) { log.Problem("", "tables", err) })
	n.Recipients = recipients{t, route.Limits{Depth: c.AliasDepth, Count: c.AliasExpansion}}
	if len(errs) == 0 {
		n.Home = t.Current().LocalDomain
	}
	pool, err := certs.Authorities(c.TLSClientCA)
	if err != nil {
		errs = append(errs, err)
	}
	if err := withTLS(n, c, pool, log); err != nil {
		errs = append(errs, err)
	}
	if c.AuthServer != "" {
		n.Auth = &login.Server{Client: &authwire.Client{Path: c.AuthServer}, Service: "smtp", Expected: c.AuthMechanisms,
			Shown: login.Shown(n.TLS), Proven: certs.Proven(pool), Log: log}
		n.AuthInClear = c.AuthClear.Contains
	}
	if n.Senders, err = newSenders(c, t, log); err != nil {
		errs = append(errs, err)
	}
	if n.Usage, err = newMeter(c, log); err != nil {
		errs = append(errs, err)
	}
	return n, c.Where(errors.Join(errs...))
}

// alpn are the names that SMTP goes by where somebody names it. IANA has registered none (imap, pop3 and managesieve, yes);
// Exim takes these two. A client that offers others only speaks another protocol.
var alpn = []string{"smtp", "esmtp"}

// withTLS adds certificates to n, if there are any. Each kind of listener is a service with tickets of its own. Users, and not other
// servers, are asked for certificates.
func withTLS(n *smtpd.Config, c *config.Config, clients *x509.CertPool, log *maillog.Logger) error {
	if len(c.TLSCert) == 0 {
		for _, l := range c.SmtpdListen {
			if l.Kind == smtpd.Submissions {
				return errors.New("smtpd_listen: a listener of kind submissions needs tls_cert")
			}
		}
		return nil
	}
	set, err := keyd.Certificates(c, log.Reload)
	if err != nil {
		return err
	}
	services := make(map[string]*certs.Service)
	for _, kind := range []string{smtpd.MX, smtpd.Submission, smtpd.Submissions, smtpd.Local} {
		services[kind] = set.Service("smtpd."+kind, c.TLSMinVersion, alpn...)
		if kind == smtpd.Submission || kind == smtpd.Submissions {
			services[kind].Ask(clients)
		}
	}
	n.TLS = services[smtpd.MX].Config()
	n.BeginTLS = func(kind string) (*tls.Config, error) {
		v := services[kind]
		return v.Config(), v.Begin()
	}
	return nil
}

func limits(c *config.Config) daemon.Limits {
	l := daemon.Limits{Sessions: c.SmtpdSessionLimit, Client: c.SmtpdClientLimit, Rate: c.SmtpdClientRate}
	if c.SmtpdTrustedExempt {
		l.Exempt = c.RelayClients.Contains
	}
	return l
}

// spool is the queue as sessions see it.
type spool struct{ q *queue.Queue }

func (s spool) Create(e *queue.Envelope) (smtpd.Writer, error) {
	w, err := s.q.Create(e)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// recipients asks the tables that queued asks too.
type recipients struct {
	set    *tables.Set
	limits route.Limits
}

func (r recipients) Admit(from, to addr.Mailbox, relay bool) (addr.Mailbox, error) {
	limits := r.limits
	limits.Posting, limits.Sender = true, from
	v, refused := r.set.Current().Accept(to, limits, relay)
	switch {
	case refused != nil:
		return addr.Mailbox{}, refused
	case v.Kind == route.Mailbox:
		return v.Mailbox, nil
	}
	return addr.Mailbox{}, nil
}

// peerOf is who is at the other end: an address, or behind a local socket a user.
func peerOf(c net.Conn, kind string) smtpd.Peer {
	p := smtpd.Peer{IP: daemon.RemoteIP(c)}
	p.TLS, p.StartTLS = daemon.TLS(c)
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		p.Port = uint16(t.Port)
	}
	if kind != smtpd.Local {
		return p
	}
	if cred, err := daemon.PeerCred(c); err == nil {
		p.Login = strconv.Itoa(cred.UID)
		if u, err := user.LookupId(p.Login); err == nil {
			p.Login = u.Username
		}
	}
	return p
}
