package authd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"postamt/internal/authwire"
	"postamt/internal/userdb"
)

// Remote is a Checker: another authentication server, Dovecot's or ours, on its two sockets. Passwords are judged there
// (with PLAIN: the socket is local), and users looked up; its password hashes stay where they are.
type Remote struct {
	Client *authwire.Client
	Users  *authwire.UserClient // nil: it is not asked who exists
}

func (r *Remote) String() string { return "server " + r.Client.Path }

// Find is Source's.
func (r *Remote) Find(ctx context.Context, name string) (*Account, error) {
	if r.Users == nil {
		return nil, ErrUnknown
	}
	u, err := r.Users.Lookup(ctx, &authwire.Query{User: name, Service: "smtp"})
	switch {
	case errors.Is(err, authwire.ErrNotFound):
		return nil, ErrUnknown
	case err != nil:
		return nil, err
	}
	return account(u.Name, u.Fields)
}

// List is Source's.
func (r *Remote) List(ctx context.Context, each func(string) error) error {
	if r.Users == nil {
		return nil
	}
	return r.Users.List(ctx, &authwire.Query{Service: "smtp"}, each)
}

// Check is Checker's. That server does not tell an unknown user from a wrong password, so the next source is asked.
func (r *Remote) Check(ctx context.Context, name, password string, from netip.Addr) (*Account, error) {
	x := r.Client.Begin(ctx, &authwire.Request{Mechanism: "PLAIN", Service: "smtp", RemoteIP: from, Security: authwire.Secured,
		NoLogin: true, NoPenalty: true}) // we delay guessers ourselves
	defer x.End()
	reply := x.Next(ctx, []byte("\x00"+name+"\x00"+password))
	switch {
	case reply.Status == authwire.OK && reply.User != "":
		return account(reply.User, reply.Fields)
	case reply.Status == authwire.Failed && !reply.Temporary():
		return nil, ErrUnknown
	}
	return nil, fmt.Errorf("%s: %w", r, cmp.Or(reply.Err, authwire.ErrUnavailable))
}

// account is what a server's fields say. The name is canonical there; here it must be, too.
func account(name string, f authwire.Fields) (*Account, error) {
	canonical, err := userdb.Canonical(name)
	if err != nil {
		return nil, err
	}
	a := &Account{User: userdb.User{Name: canonical, UID: userdb.NoID, GID: userdb.NoID}}
	for _, n := range []struct {
		field string
		id    *userdb.ID
	}{{"uid", &a.UID}, {"gid", &a.GID}} {
		if v, ok := f.Get(n.field); ok {
			id, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("user %s: %s is not a number", canonical, n.field)
			}
			*n.id = userdb.ID(id)
		}
	}
	a.Home, _ = f.Get("home")
	return a, nil
}
