package authd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/channel"
	"postamt/internal/maillog"
	"postamt/internal/password"
	"postamt/internal/sasl"
	"postamt/internal/userdb"
)

// exchange is one login under way.
type exchange struct {
	s       *Server
	r       *authwire.Request
	x       *sasl.Exchange
	account *Account // who proved a password, as a Checker said
	last    *authwire.Reply
}

// Begin is authwire.Authenticator's.
func (s *Server) Begin(_ context.Context, r *authwire.Request) authwire.Exchange {
	return &exchange{s: s, r: r}
}

// End is authwire.Exchange's.
func (e *exchange) End() {}

// Next is authwire.Exchange's.
func (e *exchange) Next(ctx context.Context, response []byte) authwire.Reply {
	if e.last != nil { // additional data went with the success, and the client has taken it
		return *e.last
	}
	if e.x == nil {
		if err := e.begin(ctx); err != nil {
			if errors.Is(err, sasl.ErrMechanism) {
				return authwire.Reply{Code: authwire.MechInvalid}
			}
			return e.unavailable(err)
		}
	}
	challenge, done, err := e.x.Next(ctx, response)
	switch {
	case err != nil:
		return e.refuse(ctx, err)
	case !done:
		return authwire.Reply{Status: authwire.Continue, Data: challenge}
	}
	return e.accept(ctx, challenge)
}

func (e *exchange) begin(ctx context.Context) (err error) {
	s, r := e.s, e.r
	if !s.offers(r.Mechanism) {
		return sasl.ErrMechanism
	}
	o := sasl.Options{
		Credentials: credentials{e}, Canonical: userdb.Canonical, Hostname: s.opt.Hostname, Origin: r.Origin,
		PlusOffered: r.ChannelBinding != nil && s.offers(r.Mechanism+"-PLUS"),
		Token:       s.opt.Token, OAuth: s.opt.OAuth, Authorize: s.sameAccount,
	}
	if r.ValidClientCert {
		o.External = r.CertUsername
	}
	if strings.HasSuffix(r.Mechanism, "-PLUS") && r.ChannelBinding != nil {
		o.PlusOffered = true
		for _, kind := range []string{channel.TLSExporter, channel.TLSServerEndPoint} {
			// A connection has not each of them: TLS 1.2 may have no exporter, an Ed25519 certificate no end point.
			if data, err := r.ChannelBinding(ctx, kind); err == nil && len(data) > 0 {
				o.Bindings = append(o.Bindings, channel.Binding{Type: kind, Data: data})
			}
		}
	}
	e.x, err = sasl.New(r.Mechanism, o)
	return err
}

// sameAccount is all that one user may act as: himself, by another of the names that he has here. A certificate says
// alice@example.org, her mail program alice.
func (s *Server) sameAccount(ctx context.Context, user, as string) error {
	var accounts [2]*Account
	for i, name := range [2]string{user, as} {
		var err error
		if accounts[i], err = s.find(ctx, name); err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	if accounts[0] == nil || accounts[1] == nil || accounts[0].Name != accounts[1].Name {
		return fmt.Errorf("%w: %s as another user", sasl.ErrNotAuthorized, user)
	}
	return nil
}

// accept looks once more at who has logged in: whether the account may.
func (e *exchange) accept(ctx context.Context, data []byte) authwire.Reply {
	s, id := e.s, e.x.Identity()
	a := e.account
	if a == nil {
		var err error
		if a, err = s.find(ctx, id.Authorized); err != nil {
			if errors.Is(err, ErrUnknown) { // a certificate or a token for somebody who is not here
				return e.refuse(ctx, fmt.Errorf("%w: no such user here", sasl.ErrCredentials))
			}
			return e.unavailable(err)
		}
	}
	switch {
	case a.Disabled:
		return e.failed(ctx, authwire.UserDisabled, "the account is closed")
	case a.Expired:
		return e.failed(ctx, authwire.PassExpired, "the password is too old")
	case a.NoLogin:
		return e.failed(ctx, authwire.UserDisabled, "nologin")
	case !a.mayLogIn(client(e.r)):
		return e.failed(ctx, authwire.Mismatch, "allow_nets")
	}
	wait := e.wait(ctx, a.Name)
	if !e.r.NoPenalty {
		s.penalties.succeeded(a.Name, client(e.r), s.opt.Now())
	}
	s.opt.Log.AuthOK(e.event(a.Name, "", wait))
	ok := authwire.Reply{Status: authwire.OK, User: a.Name}
	if len(data) > 0 {
		e.last = &ok
		return authwire.Reply{Status: authwire.Continue, Data: data}
	}
	return ok
}

// refuse answers an error of the exchange.
func (e *exchange) refuse(ctx context.Context, err error) authwire.Reply {
	switch {
	case errors.Is(err, sasl.ErrCredentials):
		return e.failed(ctx, authwire.Mismatch, err.Error())
	case errors.Is(err, sasl.ErrNotAuthorized):
		return e.failed(ctx, authwire.AuthzFail, err.Error())
	case errors.Is(err, sasl.ErrMalformed):
		e.s.opt.Log.AuthFailed(e.event(e.x.User(), err.Error(), 0))
		return authwire.Reply{Code: authwire.InvalidBase64, User: e.x.User()}
	}
	return e.unavailable(err)
}

// failed counts the failure at once, so that a hundred guesses at the same moment do not all find a clean sheet, and answers
// when the time has come.
func (e *exchange) failed(ctx context.Context, code authwire.Code, why string) authwire.Reply {
	s, user := e.s, e.x.User()
	wait := time.Duration(0)
	if !e.r.NoPenalty {
		now := s.opt.Now()
		wait = s.penalties.wait(user, client(e.r), now)
		s.penalties.failed(user, client(e.r), now)
	}
	s.opt.Log.AuthFailed(e.event(user, why, wait))
	if wait > 0 {
		s.opt.Sleep(ctx, wait)
	}
	return authwire.Reply{Code: code, User: user}
}

// wait lets a success wait as long as a failure would have: else the first quick answer would be the yes.
func (e *exchange) wait(ctx context.Context, user string) time.Duration {
	if e.r.NoPenalty {
		return 0
	}
	w := e.s.penalties.wait(user, client(e.r), e.s.opt.Now())
	if w > 0 {
		e.s.opt.Sleep(ctx, w)
	}
	return w
}

func (e *exchange) unavailable(err error) authwire.Reply {
	user := ""
	if e.x != nil {
		user = e.x.User()
	}
	e.s.opt.Log.Problem(e.r.Session, "authenticate", err)
	return authwire.Reply{Code: authwire.TempFail, User: user, Err: err}
}

func (e *exchange) event(user, reason string, wait time.Duration) maillog.Auth {
	return maillog.Auth{Session: e.r.Session, User: user, IP: client(e.r), Service: e.r.Service, Mechanism: e.r.Mechanism,
		Reason: reason, Wait: wait}
}

// credentials are what the mechanisms ask.
type credentials struct{ e *exchange }

// Verify asks the sources in their order. A Checker judges, of other sources the stored password does.
func (c credentials) Verify(ctx context.Context, user, given string) error {
	s := c.e.s
	for _, name := range s.spellings(user) {
		for _, src := range s.opt.Sources {
			if checker, ok := src.(Checker); ok {
				a, err := checker.Check(ctx, name, given, client(c.e.r))
				switch {
				case err == nil:
					c.e.account = a
					return nil
				case errors.Is(err, ErrWrong):
					return sasl.ErrCredentials
				case !errors.Is(err, ErrUnknown):
					return err
				}
				continue
			}
			a, err := src.Find(ctx, name)
			switch {
			case err == nil:
				err := s.stored(a).Verify(ctx, user, given)
				if err == nil {
					c.e.account = a
				}
				return err
			case !errors.Is(err, ErrUnknown):
				return fmt.Errorf("%s: %w", src, err)
			}
		}
	}
	return s.stored(nil).Verify(ctx, user, given)
}

// SCRAM is of the first source that has the user.
func (c credentials) SCRAM(ctx context.Context, user string, h password.SCRAMHash) (password.Keys, bool, error) {
	a, err := c.e.s.known(ctx, user)
	if err != nil {
		return password.Keys{}, false, err
	}
	return c.e.s.stored(a).SCRAM(ctx, user, h)
}

// Secret is of the first source that has the user.
func (c credentials) Secret(ctx context.Context, user string) (string, bool, error) {
	a, err := c.e.s.known(ctx, user)
	if err != nil {
		return "", false, err
	}
	return c.e.s.stored(a).Secret(ctx, user)
}

// known is find, with nil for somebody who does not exist.
func (s *Server) known(ctx context.Context, user string) (*Account, error) {
	a, err := s.find(ctx, user)
	if errors.Is(err, ErrUnknown) {
		return nil, nil
	}
	return a, err
}

// stored are the credentials of one account, or of nobody.
func (s *Server) stored(a *Account) *sasl.Users {
	u := &sasl.Users{Decoy: s.opt.Decoy, Derivation: s.opt.Derivation, Gate: s.gate.enter}
	u.Find = func(context.Context, string) (password.Stored, error) {
		if a == nil {
			return password.Stored{}, sasl.ErrCredentials
		}
		return a.Password, nil
	}
	return u
}
