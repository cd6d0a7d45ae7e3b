// Imapd serves mailboxes by IMAP. See imapd(8).
package main

import (
	"context"
	"net"
	"os"

	"postamt/internal/access"
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/imapd"
	"postamt/internal/login"
	"postamt/internal/mailbox"
	"postamt/internal/maillog"
	"postamt/internal/watch"
)

func main() {
	p := &access.Program{Name: "imapd", Service: imapd.IMAP, Shared: true,
		Listen: func(c *config.Config) []config.Listener { return c.ImapdListen },
		Limits: func(c *config.Config) daemon.Limits {
			return daemon.Limits{Sessions: c.ImapdSessionLimit, Client: c.ImapdClientLimit}
		},
		New: func(log *maillog.Logger) access.Server {
			s := &server{Server: imapd.NewServer(&imapd.Config{})}
			s.Log = log
			return s
		}}
	os.Exit(p.Run(os.Args[1:]))
}

// newAccounts: without a watcher, of which the system has only so many, changes are looked for from time to time.
func newAccounts(c *config.Config, log *maillog.Logger) *mailbox.Accounts {
	watcher, err := watch.New()
	if err != nil {
		log.Problem("", "watch", err)
	}
	var d facts.Describer
	return mailbox.NewAccounts(watcher, mailbox.Options{IndexDir: c.Index, Host: c.Hostname, Describe: d.Describe, Form: facts.Form, Columns: facts.Columns, Column: facts.AppendColumn, Report: func(err error) { log.Problem("", "mailbox", err) }})
}

// server is an access.Server.
type server struct {
	*imapd.Server
	accounts *mailbox.Accounts // that are open in this process
}

func (s *server) Configure(c *config.Config, gate login.Gate, auth *login.Server) {
	n := &imapd.Config{Hostname: c.Hostname, TimeoutLogin: c.ImapdTimeoutLogin, TimeoutIdle: c.ImapdTimeoutIdle, ErrorLimit: c.ImapdErrorLimit,
		MessageLimit: c.ImapdMessageLimit, UserLimit: c.ImapdUserLimit, CommandLimit: c.ImapdCommandLimit, Shared: c.SharedMailboxes, Gate: gate}
	if auth != nil {
		n.Auth = auth
	}
	if s.accounts == nil {
		s.accounts = newAccounts(c, s.Log)
	}
	s.SetConfig(n)
}

func (s *server) Authorize(ctx context.Context, nc net.Conn, kind string, peer login.Peer) *access.Login {
	return s.login(s.Server.Authorize(ctx, nc, kind, peer))
}

func (s *server) login(l *imapd.Login) *access.Login {
	if l == nil {
		return nil
	}
	return &access.Login{User: l.User, Ticket: l.Ticket, Conn: l.Conn.Conn, Note: l.Note.String(), Fail: l.Fail,
		Serve: func(ctx context.Context, maildir access.Maildir) *access.Login {
			if !s.serve(ctx, l.Conn, l.Note, maildir) {
				return nil
			}
			return s.login(l.Again(ctx))
		}}
}

func (s *server) Serve(ctx context.Context, nc net.Conn, user, note string, maildir access.Maildir) error {
	n := imapd.Note{Session: "-", Client: maillog.Client{Proto: "IMAP", Login: user}}
	if note != "" {
		var err error
		if n, err = imapd.ParseNote(note, user); err != nil {
			return err
		}
	}
	s.serve(ctx, imap.NewConn(nc), n, maildir)
	return nil
}

func (s *server) serve(ctx context.Context, c *imap.Conn, n imapd.Note, maildir access.Maildir) (again bool) {
	return s.Server.Serve(ctx, c, func(ctx context.Context) (*mailbox.Account, error) {
		place, err := maildir(ctx)
		if err != nil {
			return nil, err
		}
		a, err := s.accounts.Open(place.Path)
		if err == nil {
			a.SetQuota(place.Quota)
		}
		return a, err
	}, n)
}
