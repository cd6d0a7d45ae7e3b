package smtpd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"time"

	"postamt/internal/login"
	"postamt/internal/smtp"
)

// Authenticator logs clients in (RFC 4422). It is used by many sessions at once.
type Authenticator interface {
	// Mechanisms are the SASL mechanisms to offer, with TLS of ours or without (nil); none when nobody can log in now.
	Mechanisms(*tls.ConnectionState) []string
	// Authenticate runs one exchange and returns who has logged in. ask sends a challenge and returns the client's
	// response; its error ends the exchange and is returned as it is. Other errors are login's; any other says that
	// nobody can tell now.
	Authenticate(ctx context.Context, q login.Request, ask func(challenge []byte) (response []byte, err error)) (login.User, error)
}

const (
	// authTime bounds the exchange, with the delays of a server that is being guessed at.
	authTime = 2 * time.Minute
	// maxAuthFailures: somebody who mistypes needs no more.
	maxAuthFailures = 5
)

// offersAuth: on listeners that are for people's mail programs, and not in clear over a network.
func (s *session) offersAuth() bool {
	return s.authKind() && !s.authed && (s.tls != "" || s.mayAuthInClear())
}

func (s *session) authKind() bool {
	return s.conf.Auth != nil && (s.kind == Submission || s.kind == Submissions)
}

func (s *session) mayAuthInClear() bool {
	return s.conf.AuthInClear != nil && s.peer.IP.IsValid() && s.conf.AuthInClear(s.peer.IP)
}

// authKeyword is the line of EHLO, "" without AUTH.
func (s *session) authKeyword() string {
	if !s.offersAuth() {
		return ""
	}
	if m := s.conf.Auth.Mechanisms(s.c.TLS()); len(m) > 0 {
		return "AUTH " + strings.Join(m, " ")
	}
	return ""
}

// RFC 4954 section 4: "AUTH" SP mechanism [SP initial-response].
func (s *session) cmdAuth(args string) *smtp.Reply {
	switch {
	case !s.authKind():
		return s.cmdNotHere(args)
	case !s.esmtp:
		return smtp.NewReply(503, "5.5.1", "say EHLO first")
	case s.authed:
		return smtp.NewReply(503, "5.5.1", "you are logged in already")
	case s.tx != nil:
		return smtp.NewReply(503, "5.5.1", "not within a transaction")
	case !s.offersAuth():
		return smtp.NewReply(538, "5.7.11", "say STARTTLS first") // RFC 4954 section 6
	}
	mechanism, initial, err := login.ParseAuth(args)
	if err != nil {
		return s.authRefusal(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, authTime)
	defer cancel()
	user, err := s.conf.Auth.Authenticate(ctx, login.Request{Mechanism: mechanism, Initial: initial,
		Remote: netip.AddrPortFrom(s.peer.IP, s.peer.Port), Local: s.local(), TLS: s.c.TLS(), Session: s.id}, s.ask)
	switch {
	case err == nil && user.Name != "":
		s.authed, s.peer.Login = true, user.Name
		s.srv.Log.Login(s.id, s.client(), mechanism)
		return smtp.NewReply(235, "2.7.0", "welcome")
	case errors.Is(err, errLost):
		return nil
	}
	if errors.Is(err, login.ErrCredentials) {
		s.authFailures++
	}
	r := s.authRefusal(err)
	if s.authFailures >= maxAuthFailures {
		s.close("limit")
	}
	return r
}

func (s *session) authRefusal(err error) *smtp.Reply {
	var r *smtp.Reply
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, login.ErrSyntax):
		return smtp.NewReply(501, "5.5.4", "syntax: AUTH mechanism [initial-response]")
	case errors.Is(err, login.ErrBase64):
		return notBase64()
	case errors.Is(err, login.ErrCancelled):
		return smtp.NewReply(501, "5.7.0", "cancelled") // RFC 4954 section 4
	case errors.Is(err, login.ErrMechanism):
		return smtp.NewReply(504, "5.5.4", "no such mechanism here") // RFC 4954 section 4
	case errors.Is(err, login.ErrExpired):
		return smtp.NewReply(535, "5.7.8", "the password has expired")
	case errors.Is(err, login.ErrCredentials):
		return smtp.NewReply(535, "5.7.8", "user name or password is wrong")
	case errors.Is(err, login.ErrMalformed):
		return smtp.NewReply(501, "5.5.2", "the response is malformed")
	}
	if err != nil && s.ctx.Err() == nil {
		s.srv.Log.Problem(s.id, "authenticate", err)
	}
	// Never "yes", and never a no that makes people change a good password.
	return smtp.NewReply(454, "4.7.0", "nobody can log in now, try again later")
}

// errLost: the client is gone in the middle of an exchange; the session has ended.
var errLost = errors.New("smtpd: the client is gone")

// ask sends a challenge and waits for the response.
func (s *session) ask(challenge []byte) ([]byte, error) {
	if s.c.WriteReply(smtp.NewReply(334, "", base64.StdEncoding.EncodeToString(challenge))) != nil {
		s.close("lost")
		return nil, errLost
	}
	s.deadline(s.conf.TimeoutCommand)
	s.c.SetReadTimeout(s.conf.TimeoutCommand)
	s.idle.Set(true) // a login under way is nothing that a server which stops waits for
	line, err := s.c.ReadLine(login.MaxLine)
	s.idle.Set(false)
	switch {
	case errors.Is(err, smtp.ErrEndlessLine):
		s.close("limit")
		return nil, smtp.NewReply(500, "5.5.6", "line too long")
	case errors.Is(err, smtp.ErrLineTooLong):
		return nil, smtp.NewReply(500, "5.5.6", "line too long") // RFC 4954 section 4
	case errors.Is(err, smtp.ErrBareNewline), errors.Is(err, smtp.ErrNUL):
		return nil, notBase64()
	case err != nil:
		s.lost(err)
		return nil, errLost
	}
	return login.ParseResponse(line)
}

func notBase64() *smtp.Reply { return smtp.NewReply(501, "5.5.2", "not base64") }

// local is our end of the connection, for those who keep a record of logins.
func (s *session) local() netip.AddrPort {
	if a, ok := s.nc.LocalAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
