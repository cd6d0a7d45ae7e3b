package main

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/keyd"
	"postamt/internal/maillog"
)

// service is the program put together.
type service struct {
	is     *confine.Program
	log    *maillog.Logger
	server *keyd.Server
	conf   *config.Config
}

func newService(c *config.Config, log *maillog.Logger) (*service, error) {
	keys, err := keyd.LoadKeys(c.TLSKey, log.Reload)
	if err != nil {
		return nil, c.Where(err)
	}
	s := &service{log: log, conf: c, server: keyd.NewServer(keys, allowed(c, log))}
	s.server.Log = log
	return s, nil
}

// serve runs until ctx ends.
func (s *service) serve(ctx context.Context, sockets *daemon.Sockets, stopping func()) int {
	srv := &daemon.Server{Handle: s.server.Serve, Log: s.log}
	return srv.Run(ctx, sockets, stopping, func() time.Duration { return 5 * time.Second }) // an answer takes milliseconds
}

// reload reads the configuration and every key again. If anything is wrong everything stays as it was.
func (s *service) reload() {
	c, err := config.Load(s.conf.File)
	if err == nil {
		err = s.is.Covers(confine.Keyd(c))
	}
	if err == nil {
		var keys *keyd.Keys
		if keys, err = keyd.LoadKeys(c.TLSKey, s.log.Reload); err == nil {
			s.server.Set(keys, allowed(c, s.log))
			s.conf = c
		} else {
			err = c.Where(err)
		}
	}
	s.log.Reload(s.conf.File, err)
}

// allowed is the users who may ask. A name that this machine does not know is told and left out: the default names users
// of programs that are not in use everywhere.
func allowed(c *config.Config, log *maillog.Logger) func(int) bool {
	uids := map[int]bool{0: true, unix.Geteuid(): true}
	for _, name := range c.KeydClients {
		uid, err := strconv.Atoi(name)
		if err != nil {
			u, err := user.Lookup(name)
			if err == nil {
				uid, err = strconv.Atoi(u.Uid)
			}
			if err != nil {
				log.Problem("", "keyd_clients", fmt.Errorf("%s: %w", name, err))
				continue
			}
		}
		uids[uid] = true
	}
	return func(uid int) bool { return uids[uid] }
}
