package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/authd"
	"postamt/internal/authwire"
	"postamt/internal/config"
	"postamt/internal/confine"
	"postamt/internal/daemon"
	"postamt/internal/durable"
	"postamt/internal/maillog"
	"postamt/internal/oauth"
	"postamt/internal/password"
	"postamt/internal/sasl"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// Kinds of listeners.
const (
	kindClient = "client" // passwords are judged
	kindUsers  = "users"  // who exists, and where
)

// checked is the argument that a checkpassword program executes us with.
const checked = "-checked"

// maxSessions bounds the connections; each belongs to a program of this machine.
const maxSessions = 2000

// service is the program put together.
type service struct {
	is      *confine.Program
	log     *maillog.Logger
	conf    atomic.Pointer[config.Config]
	current atomic.Pointer[authd.Server] // of the configuration of now
	tickets authwire.Tickets
	secret  []byte
}

func newService(c *config.Config, log *maillog.Logger) (*service, int) {
	s := &service{log: log}
	var err error
	if s.secret, err = secret(c.StateDir); err != nil {
		log.Problems("start", err)
		return nil, exOSErr
	}
	if err := s.configure(c); err != nil {
		log.Problems("configuration", c.Where(err))
		return nil, exConfig
	}
	return s, 0
}

// secret is what makes up salts for users who do not exist: the same after a restart and in each authd of a machine, or the difference
// would show.
func secret(dir string) ([]byte, error) {
	dir = filepath.Join(dir, "auth") // of its own: the other programs that remember something are other users
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil { // two may start for the first time at the same moment
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	path := filepath.Join(dir, "secret")
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) >= 32:
		return b, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	b = make([]byte, 32)
	rand.Read(b)
	return b, durable.WriteFile(path, b, 0o600)
}

// configure makes the server of a configuration. Failures counted so far are forgotten with the old one.
func (s *service) configure(c *config.Config) error {
	// Of the tables only the domains: aliases and routes are no business of the program that has the passwords.
	files := tables.Configured(c)
	files.Aliases, files.VirtualAliases, files.Users, files.Routes = nil, nil, "", ""
	files.SRSKeys = ""                                // is queued's and smtpd's
	files.Postmaster = "postmaster@elsewhere.invalid" // or it would be missed, as no alias is read
	set, errs := tables.Open(files, func(err error) { s.log.Problem("", "tables", err) })
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	o := authd.Options{
		Mechanisms: c.AuthMechanisms, Hostname: c.Hostname, Log: s.log,
		Hashes: c.AuthHashes, Memory: c.AuthMemory,
		Derivation: password.Derivation{Secret: s.secret},
		Local: func(domain string) bool {
			_, ok := set.Current().LocalDomains[domain]
			return ok
		},
		Mailbox: func(u *userdb.User) string {
			if u.Home == "" && u.Maildir == "" {
				return ""
			}
			path, err := u.Place(c.Maildir, c.Origin)
			if err != nil {
				return ""
			}
			return path
		},
	}
	if o.Hashes == 0 {
		o.Hashes = runtime.GOMAXPROCS(0)
	}
	if c.OAuthIntrospection != "" || c.OAuthJWTKeys != "" {
		v, err := oauth.New(oauth.Options{Introspection: c.OAuthIntrospection, Credentials: c.OAuthCredentials, Keys: c.OAuthJWTKeys,
			Issuer: c.OAuthIssuer, Audience: c.OAuthAudience, Claim: c.OAuthClaim, Timeout: c.AuthTimeout,
			Report: func(err error) { s.log.Problem("", "oauth", err) }})
		if err != nil {
			return err
		}
		o.Token = func(ctx context.Context, token string) (string, error) {
			user, err := v.User(ctx, token)
			if errors.Is(err, oauth.ErrToken) {
				err = fmt.Errorf("%w: %w", sasl.ErrCredentials, err)
			}
			return user, err
		}
	}
	var sample password.Stored
	for _, name := range c.AuthSources {
		src, stored, err := s.source(c, name)
		if err != nil {
			return fmt.Errorf("auth_sources: %w", err)
		}
		o.Sources = append(o.Sources, src)
		if stored.Costly() {
			sample = stored
		}
	}
	if !sample.Costly() {
		text, err := password.Make("", rand.Text())
		if err != nil {
			return err
		}
		if sample, err = password.Parse(text); err != nil {
			return err
		}
	}
	o.Decoy = sample.Decoy()
	s.conf.Store(c)
	s.current.Store(authd.New(o))
	return nil
}

// source makes the one of that name, and returns a stored password of it if it has any.
func (s *service) source(c *config.Config, name string) (authd.Source, password.Stored, error) {
	report := func(err error) { s.log.Problem("", "users", err) }
	kind, where, _ := strings.Cut(name, ":")
	switch kind {
	case "users":
		u := authd.NewUsersFile(c.Users, c.Passwords, report)
		err := u.Open()
		var gone *fs.PathError
		if errors.As(err, &gone) && errors.Is(err, fs.ErrNotExist) && gone.Path == c.Users && c.Users == filepath.Join(filepath.Dir(c.File), "users") {
			report(err) // users(5): the default may be missing; until it is there logins wait
			err = nil
		}
		return u, u.Sample(), err
	case "system":
		return authd.NewSystem("/etc/passwd", "/etc/shadow", userdb.ID(c.MinUID), report), password.Stored{}, nil
	case "checkpassword":
		self, err := os.Executable()
		if err == nil {
			_, err = os.Stat(where)
		}
		return &authd.Checkpassword{Program: []string{where}, Self: []string{self, checked}, Timeout: c.AuthTimeout}, password.Stored{}, err
	}
	client, users, both := strings.Cut(where, ",")
	r := &authd.Remote{Client: &authwire.Client{Path: client, Limit: c.AuthTimeout}}
	if both {
		r.Users = &authwire.UserClient{Path: users, Limit: c.AuthTimeout}
	}
	return r, password.Stored{}, nil
}

// serve runs until ctx ends, and returns how many connections did not.
func (s *service) serve(ctx context.Context, sockets *daemon.Sockets, stopping func()) int {
	srv := &daemon.Server{Log: s.log, Handle: s.handle, Limiter: daemon.NewLimiter(daemon.Limits{Sessions: maxSessions})}
	return srv.Run(ctx, sockets, stopping, s.drain)
}

func (s *service) drain() time.Duration { return s.conf.Load().DrainTimeout }

func (s *service) handle(ctx context.Context, c net.Conn, kind string) {
	var err error
	switch judge := (now{s}); kind {
	case kindUsers:
		err = (&authwire.UserServer{Users: judge, Tickets: &s.tickets}).ServeConn(ctx, c)
	default:
		err = (&authwire.Server{Authenticator: judge, Mechanisms: s.current.Load().Mechanisms(), Tickets: &s.tickets}).ServeConn(ctx, c)
	}
	if err != nil {
		s.log.Problem("", "connection", err)
	}
}

// now is the server of the configuration of now: a connection outlives a reload.
type now struct{ s *service }

func (n now) Begin(ctx context.Context, r *authwire.Request) authwire.Exchange {
	return n.s.current.Load().Begin(ctx, r)
}

func (n now) Lookup(ctx context.Context, q *authwire.Query) (authwire.User, error) {
	return n.s.current.Load().Lookup(ctx, q)
}

func (n now) Pass(ctx context.Context, q *authwire.Query) (authwire.User, error) {
	return n.s.current.Load().Pass(ctx, q)
}

func (n now) List(ctx context.Context, q *authwire.Query, each func(string) error) error {
	return n.s.current.Load().List(ctx, q, each)
}

// reload reads the configuration again. If anything is wrong everything stays as it was.
func (s *service) reload() {
	old := s.conf.Load()
	c, err := config.Load(old.File)
	if err == nil {
		err = s.is.Covers(confine.Authd(c))
	}
	if err == nil {
		err = c.Where(s.configure(c))
	}
	s.log.Reload(old.File, err)
}
