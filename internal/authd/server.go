package authd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/maillog"
	"postamt/internal/password"
	"postamt/internal/sasl"
	"postamt/internal/userdb"
)

// Options of a Server.
type Options struct {
	Sources    []Source // in the order in which they are asked
	Mechanisms []string // to offer, by name
	Hostname   string
	// Local says of a domain that bare names are users of it: alice and alice@example.org are then the same. nil: none.
	Local func(domain string) bool
	// Mailbox is the place of a user's maildir, and "" if it cannot be said.
	Mailbox func(u *userdb.User) string

	Hashes     int   // computed at once
	Memory     int64 // octets that those may need together; one that needs more runs alone
	Derivation password.Derivation
	Decoy      password.Stored // what is computed for users who do not exist

	// Token says whose an OAuth token is; nil: such logins are not offered.
	Token func(ctx context.Context, token string) (user string, err error)
	OAuth sasl.OAuth

	Log   *maillog.Logger
	Now   func() time.Time                           // nil: the real one
	Sleep func(ctx context.Context, d time.Duration) // nil: the real one
}

// Server judges logins and looks users up. It is an authwire.Authenticator and an authwire.Users, for any number of
// goroutines.
type Server struct {
	opt       Options
	penalties *penalties
	gate      *gate
}

// New makes a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &Server{opt: o, penalties: newPenalties(), gate: newGate(o.Hashes, o.Memory)}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Mechanisms are those to offer, with what there is to know of them, in the order of preference.
func (s *Server) Mechanisms() []authwire.Mechanism {
	var list []authwire.Mechanism
	for _, m := range sasl.Mechanisms() {
		if !s.offers(m.Name) {
			continue
		}
		f := authwire.Flag(0)
		for _, x := range []struct {
			on   bool
			flag authwire.Flag
		}{{m.Cleartext, authwire.Plaintext}, {m.Guessable, authwire.Dictionary}, {m.Mutual, authwire.MutualAuth}, {m.Binding, authwire.ChannelBinding}, {m.Private, authwire.Private | authwire.Active}} {
			if x.on {
				f |= x.flag
			}
		}
		list = append(list, authwire.Mechanism{Name: m.Name, Flags: f})
	}
	return list
}

func (s *Server) offers(mechanism string) bool {
	for _, m := range s.opt.Mechanisms {
		if strings.EqualFold(m, mechanism) {
			return s.opt.Token != nil || m != "OAUTHBEARER" && m != "XOAUTH2"
		}
	}
	return false
}

// find asks the sources about a canonical name: ErrUnknown when all have said so.
func (s *Server) find(ctx context.Context, name string) (*Account, error) {
	for _, name := range s.spellings(name) {
		for _, src := range s.opt.Sources {
			a, err := src.Find(ctx, name)
			if errors.Is(err, ErrUnknown) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", src, err)
			}
			return a, nil
		}
	}
	return nil, ErrUnknown
}

// spellings are the names under which a user may be found: as given, and without a domain that is local.
func (s *Server) spellings(name string) []string {
	if local, domain, ok := strings.Cut(name, "@"); ok && s.opt.Local != nil && s.opt.Local(domain) {
		return []string{name, local}
	}
	return []string{name}
}

// Lookup is authwire.Users'.
func (s *Server) Lookup(ctx context.Context, q *authwire.Query) (authwire.User, error) {
	a, err := s.lookup(ctx, q.User)
	if err != nil {
		return authwire.User{}, err
	}
	f := authwire.Fields{}
	add := func(name, value string) {
		if value != "" {
			f = append(f, authwire.Field{Name: name, Value: value})
		}
	}
	id := func(name string, n userdb.ID) {
		if n != userdb.NoID {
			add(name, strconv.FormatInt(n, 10))
		}
	}
	id("uid", a.UID)
	id("gid", a.GID)
	add("home", a.Home)
	if s.opt.Mailbox != nil {
		if path := s.opt.Mailbox(&a.User); path != "" {
			add("mail", "maildir:"+path)
		}
	}
	if q := a.Quota; q.Bytes > 0 || q.Messages > 0 {
		rule := "*"
		if q.Bytes > 0 {
			rule += ":bytes=" + strconv.FormatInt(q.Bytes, 10)
		}
		if q.Messages > 0 {
			rule += ":messages=" + strconv.FormatInt(q.Messages, 10)
		}
		add("quota_rule", rule)
	}
	return authwire.User{Name: a.Name, Fields: f}, nil
}

// Pass is authwire.Users': who exists could log in, and no more is said.
func (s *Server) Pass(ctx context.Context, q *authwire.Query) (authwire.User, error) {
	a, err := s.lookup(ctx, q.User)
	if err != nil {
		return authwire.User{}, err
	}
	u := authwire.User{Name: a.Name}
	if !a.mayLogIn(q.RemoteIP) || a.Disabled {
		u.Fields = authwire.Fields{{Name: "nologin"}}
	}
	return u, nil
}

// List is authwire.Users'.
func (s *Server) List(ctx context.Context, _ *authwire.Query, each func(string) error) error {
	for _, src := range s.opt.Sources {
		if err := src.List(ctx, each); err != nil {
			return fmt.Errorf("%s: %w", src, err)
		}
	}
	return nil
}

func (s *Server) lookup(ctx context.Context, user string) (*Account, error) {
	name, err := userdb.Canonical(user)
	if err != nil {
		return nil, authwire.ErrNotFound
	}
	a, err := s.find(ctx, name)
	if errors.Is(err, ErrUnknown) {
		return nil, authwire.ErrNotFound
	}
	return a, err
}

// client is the address that counts for a login.
func client(r *authwire.Request) netip.Addr { return r.RemoteIP }
