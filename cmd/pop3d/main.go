// Pop3d serves maildrops by POP3. See pop3d(8).
package main

import (
	"context"
	"net"
	"os"

	"postamt/internal/access"
	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/login"
	"postamt/internal/maillog"
	"postamt/internal/pop3"
	"postamt/internal/pop3d"
)

func main() {
	p := &access.Program{Name: "pop3d", Service: pop3d.POP3,
		Listen: func(c *config.Config) []config.Listener { return c.Pop3dListen },
		Limits: func(c *config.Config) daemon.Limits {
			return daemon.Limits{Sessions: c.Pop3dSessionLimit, Client: c.Pop3dClientLimit}
		},
		New: func(log *maillog.Logger) access.Server {
			s := server{pop3d.NewServer(&pop3d.Config{})}
			s.Log = log
			return s
		}}
	os.Exit(p.Run(os.Args[1:]))
}

// server is an access.Server.
type server struct{ *pop3d.Server }

func (s server) Configure(c *config.Config, gate login.Gate, auth *login.Server) {
	n := &pop3d.Config{Hostname: c.Hostname, TimeoutLogin: c.Pop3dTimeoutLogin, TimeoutIdle: c.Pop3dTimeoutIdle, ErrorLimit: c.Pop3dErrorLimit,
		Expire: c.Pop3dExpire, LoginDelay: c.Pop3dLoginDelay, Gate: gate}
	if auth != nil {
		n.Auth = auth
	}
	s.SetConfig(n)
}

func (s server) Authorize(ctx context.Context, nc net.Conn, kind string, peer login.Peer) *access.Login {
	l := s.Server.Authorize(ctx, nc, kind, peer)
	if l == nil {
		return nil
	}
	return &access.Login{User: l.User, Ticket: l.Ticket, Conn: l.Conn.Conn, Note: l.Note.String(), Fail: l.Fail,
		Serve: func(ctx context.Context, maildir access.Maildir) *access.Login {
			s.serve(ctx, l.Conn, l.Note, maildir)
			return nil
		}}
}

func (s server) Serve(ctx context.Context, nc net.Conn, user, note string, maildir access.Maildir) error {
	n := pop3d.Note{Session: "-", Client: maillog.Client{Proto: "POP3", Login: user}}
	if note != "" {
		var err error
		if n, err = pop3d.ParseNote(note, user); err != nil {
			return err
		}
	}
	s.serve(ctx, pop3.NewConn(nc), n, maildir)
	return nil
}

func (s server) serve(ctx context.Context, c *pop3.Conn, n pop3d.Note, maildir access.Maildir) {
	s.Server.Serve(ctx, c, func(ctx context.Context) (pop3d.Maildrop, error) {
		place, err := maildir(ctx)
		if err != nil {
			return nil, err
		}
		d, err := openDrop(place.Path, s.Log)
		if err != nil {
			return nil, err // and not a nil *drop
		}
		return d, nil
	}, n)
}
