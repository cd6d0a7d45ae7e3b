package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/maillog"
	"postamt/internal/post"
	"postamt/internal/queue"
	"postamt/internal/queued"
	"postamt/internal/remote"
	"postamt/internal/retry"
	"postamt/internal/route"
	"postamt/internal/tables"
)

// service is the program put together: the session over a locked queue, the tables, the network.
type service struct {
	is     *confine.Program
	log    *maillog.Logger
	queue  *queue.Queue
	wake   *queue.Wakeups
	server *queued.Server
	post   atomic.Pointer[queued.Post]
	own    []netip.Addr // of this host, at the start: the sandbox has no netlink
	tables atomic.Pointer[tables.Set]
	conf   atomic.Pointer[config.Config]
}

// newService makes everything but what wakes it; nil and an exit code if it cannot. What is wrong is in the log.
func newService(c *config.Config, wake *queue.Wakeups, log *maillog.Logger) (*service, int) {
	s := &service{log: log, wake: wake}
	s.conf.Store(c)
	if err := s.openTables(c); err != nil {
		log.Problems("configuration", err)
		return nil, exConfig
	}
	q, err := queue.Open(c.QueueDir, queue.Options{Foreign: func(path, what string) {
		log.Damaged(path, errors.New(what))
	}})
	if err != nil {
		log.Problems("open queue", c.Where(err))
		return nil, exOSErr
	}
	if err := q.Lock(); err != nil {
		log.Problems("lock queue", err)
		if errors.Is(err, queue.ErrLocked) {
			return nil, exTempFail
		}
		return nil, exOSErr
	}
	s.queue = q
	var p *queued.Post
	if s.own, err = remote.OwnAddrs(); err == nil {
		p, err = post.New(c, s.own)
	}
	if err != nil {
		log.Problems("start", err)
		return nil, exOSErr
	}
	s.post.Store(p)
	s.server = queued.New(options(c), q, func() *route.Tables { return s.tables.Load().Current() }, p, log)
	return s, 0
}

func (s *service) openTables(c *config.Config) error {
	t, errs := tables.Open(tables.Configured(c), func(err error) { s.log.Problem("", "tables", err) })
	if len(errs) > 0 {
		return c.Where(errors.Join(errs...))
	}
	s.tables.Store(t)
	return nil
}

func options(c *config.Config) queued.Options {
	return queued.Options{
		Hostname:       c.Hostname,
		LocalTransport: post.Local(c),
		Active:         c.QueueActiveLimit,
		Scan:           c.QueueScanInterval,
		Retry:          retry.Policy{Min: c.RetryMin, Max: c.RetryMax, Warn: c.WarnAfter, Expire: c.ExpireAfter},
		ReportExpire:   c.BounceExpireAfter,
		Limits: queued.Limits{
			Attempts: c.DeliveryConcurrency, Window: c.DestinationConcurrency, WindowStart: c.DestinationConcurrencyStart,
			Local: c.DeliverConnections, Recipients: c.DestinationRecipients, LocalRecipients: c.RecipientLimit,
		},
		Expansion: route.Limits{Depth: c.AliasDepth, Count: c.AliasExpansion},
	}
}

// serve runs until ctx ends.
func (s *service) serve(ctx context.Context, stopping func()) {
	go s.receive()
	context.AfterFunc(ctx, stopping)
	s.server.Run(ctx, s.conf.Load().DrainTimeout)
	s.wake.Close()
	s.post.Load().Close()
	s.queue.Close()
}

// receive passes the wakeups on; it ends when the socket is closed.
func (s *service) receive() {
	for {
		w, err := s.wake.Receive()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.log.Problem("", "wakeups", err)
			return // the scans go on
		case w.Flush:
			s.server.Flush()
		case w.Revive:
			s.server.Revive()
		case w.Scan:
			s.server.Rescan()
		default:
			s.server.Wake(w.ID)
		}
	}
}

// reload has the configuration as it is now hold, or, if there is anything wrong with it, nothing of it. Of attempts under way it changes
// nothing.
func (s *service) reload() {
	old := s.conf.Load()
	c, p, err := s.reread(old.File)
	if err == nil {
		s.conf.Store(c)
		s.server.Change(options(c), p)
		go s.post.Swap(p).Close() // a host may be slow to say goodbye
	}
	s.log.Reload(old.File, err)
}

// reread puts the tables of a good configuration into use last of all that can fail.
func (s *service) reread(file string) (*config.Config, *queued.Post, error) {
	c, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	if err := s.is.Covers(confine.Queued(c)); err != nil {
		return nil, nil, err
	}
	p, err := post.New(c, s.own)
	if err != nil {
		return nil, nil, err
	}
	return c, p, s.openTables(c)
}

func (s *service) dump() { s.log.Event("", "state", s.server.Stats()...) }
