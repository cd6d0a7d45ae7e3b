// Package login has people logged in who speak to a mail server: it puts the session's part of a SASL exchange (RFC 4422), and the lines in which SMTP,
// POP3 and IMAP carry it (RFC 4954, 5034, 4959), on one side, and an authentication server (authwire) on the other. It sees passwords, and knows none.
//
// What it promises:
//   - A server that is away, slow or out of its mind is an error that says nothing about the user: never a yes, and never a no that makes
//     people change a good password.
//   - What is offered can be used: no channel binding without a channel, no EXTERNAL without a verified certificate.
package login

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/channel"
	"postamt/internal/maillog"
)

// What a login can end in that is the client's doing. Any other error says that nobody can tell now.
var (
	ErrCredentials = errors.New("wrong user name or password")
	ErrExpired     = fmt.Errorf("the password has expired (%w)", ErrCredentials)
	ErrMalformed   = errors.New("not an exchange of this mechanism")
	ErrMechanism   = errors.New("no such mechanism here")
)

// Request is the beginning of an exchange. Whether the client may log in without TLS was decided before.
type Request struct {
	Mechanism string // upper case
	Initial   []byte // the initial response; nil: there was none, which is not an empty one
	Remote    netip.AddrPort
	Local     netip.AddrPort
	TLS       *tls.ConnectionState // nil without TLS of ours
	Session   string               // for the log
}

// User is who has logged in.
type User struct {
	Name   string           // canonical
	Ticket *authwire.Ticket // collects the login; nil without Collect
}

// Server asks the authentication server. It is used by many sessions at once.
type Server struct {
	Client  *authwire.Client
	Service string // "smtp", "pop3", "imap"
	Collect bool   // logins are collected with their tickets
	// Expected is what the server is said to have (auth_mechanisms), to be offered until it has answered for the first time.
	Expected []string
	// Shown is the certificate that a client was shown; nil: not known, and then there is no tls-server-end-point.
	Shown func(*tls.ConnectionState) *x509.Certificate
	// Proven says whom a client's certificate proves, "" nobody; nil: nobody ever.
	Proven func(*tls.ConnectionState) string
	Log    *maillog.Logger
}

// askMechanisms bounds the wait for a server that does not answer, when a client asks what there is.
const askMechanisms = 5 * time.Second

// Mechanisms are those to offer to a client under TLS of ours, or without (nil). While the server is away it is what it had, or should have: whoever
// logs in then is told "later", and not "never". Where no AUTH is offered a mail program gives up, and a server that relays through us sends without it,
// and bounces what gets 530.
func (s *Server) Mechanisms(t *tls.ConnectionState) []string {
	return usable(s.list(), t != nil, s.proven(t) != "")
}

func (s *Server) list() []authwire.Mechanism {
	ctx, cancel := context.WithTimeout(context.Background(), askMechanisms)
	defer cancel()
	list, err := s.Client.Mechanisms(ctx)
	if err != nil {
		s.Log.Problem("", "ask for mechanisms", err)
		if list == nil {
			return expected(s.Expected)
		}
	}
	return list
}

// expected leaves APOP out: its timestamp is the server's.
func expected(names []string) []authwire.Mechanism {
	var list []authwire.Mechanism
	for _, name := range names {
		m := authwire.Mechanism{Name: name}
		if strings.HasSuffix(name, "-PLUS") {
			m.Flags = authwire.ChannelBinding
		}
		if name != apop {
			list = append(list, m)
		}
	}
	return list
}

func (s *Server) proven(t *tls.ConnectionState) string {
	if s.Proven == nil {
		return ""
	}
	return s.Proven(t)
}

// usable leaves out what a client cannot use now: channel bindings without a channel, and EXTERNAL without a certificate that was
// verified, which is what it proves (RFC 4422 appendix A).
func usable(list []authwire.Mechanism, secure, proven bool) []string {
	var names []string
	for _, m := range list {
		switch {
		case m.Flags&(authwire.Private|authwire.Anonymous) != 0:
		case m.Flags&authwire.ChannelBinding != 0 && !secure:
		case m.Name == "EXTERNAL" && !proven:
		default:
			names = append(names, m.Name)
		}
	}
	return names
}

// Timestamp is one for the greeting of a POP3 session, never the same again; "" where nobody can log in with APOP, or nobody can tell now.
func (s *Server) Timestamp(hostname string) string {
	for _, m := range s.list() {
		if m.Name != apop {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), askMechanisms)
		defer cancel()
		origin, err := s.Client.Origin(ctx)
		if err != nil {
			s.Log.Problem("", "ask for APOP", err)
			return ""
		}
		return fmt.Sprintf("%s%x.%s@%s>", origin, time.Now().Unix(), rand.Text(), hostname)
	}
	return ""
}

const apop = "APOP"

// APOP logs a client in who was greeted with the timestamp (RFC 1939 section 7). q has no mechanism.
func (s *Server) APOP(ctx context.Context, q Request, timestamp, name string, digest [16]byte) (User, error) {
	q.Mechanism = apop
	q.Initial = append([]byte(timestamp+"\x00"+name+"\x00"), digest[:]...)
	return s.exchange(ctx, q, func([]byte) ([]byte, error) { return nil, ErrMalformed })
}

// Authenticate runs one exchange. ask sends a challenge and returns the client's response; its error ends the exchange and is returned as it is.
func (s *Server) Authenticate(ctx context.Context, q Request, ask func(challenge []byte) (response []byte, err error)) (User, error) {
	if q.Mechanism == apop {
		return User{}, ErrMechanism // who can choose the timestamp can say again what he has heard
	}
	return s.exchange(ctx, q, ask)
}

func (s *Server) exchange(ctx context.Context, q Request, ask func(challenge []byte) (response []byte, err error)) (User, error) {
	x := s.Client.Begin(ctx, s.request(q))
	defer x.End()
	response := q.Initial
	for {
		reply := x.Next(ctx, response)
		switch reply.Status {
		case authwire.OK:
			return s.user(reply)
		case authwire.Failed:
			return User{}, refusal(reply)
		}
		var err error
		if response, err = ask(reply.Data); err != nil {
			return User{}, err
		}
		if response == nil {
			response = []byte{}
		}
	}
}

func (s *Server) request(q Request) *authwire.Request {
	r := &authwire.Request{Mechanism: q.Mechanism, Service: s.Service, RemoteIP: q.Remote.Addr(), RemotePort: q.Remote.Port(),
		LocalIP: q.Local.Addr(), LocalPort: q.Local.Port(), Session: q.Session, NoLogin: !s.Collect, Security: authwire.Secured}
	if q.TLS != nil {
		r.Security, r.LocalName = authwire.TLS, q.TLS.ServerName
		r.CertUsername = s.proven(q.TLS)
		r.ValidClientCert = r.CertUsername != ""
		r.ChannelBinding = func(_ context.Context, kind string) ([]byte, error) { return s.binding(q.TLS, kind) }
	}
	return r
}

func (s *Server) user(r authwire.Reply) (User, error) {
	u := User{Name: r.User}
	if s.Collect {
		if r.Ticket == nil {
			return User{}, fmt.Errorf("%w: %s has logged in, and nobody can collect it", authwire.ErrUnavailable, r.User)
		}
		u.Ticket = r.Ticket
	}
	return u, nil
}

// refusal is what a reply of the server means.
func refusal(r authwire.Reply) error {
	switch {
	case r.Temporary() && r.Err != nil:
		return r.Err
	case r.Temporary():
		return authwire.ErrUnavailable
	case r.Code == authwire.InvalidBase64:
		return ErrMalformed
	case r.Code == authwire.MechInvalid:
		return ErrMechanism
	case r.Code == authwire.PassExpired:
		return ErrExpired
	}
	return ErrCredentials
}

// binding is the channel binding of that kind.
func (s *Server) binding(t *tls.ConnectionState, kind string) ([]byte, error) {
	switch kind {
	case channel.TLSExporter:
		b, err := channel.Exporter(t.ExportKeyingMaterial)
		return b.Data, err
	case channel.TLSServerEndPoint:
		var own *x509.Certificate
		if s.Shown != nil {
			own = s.Shown(t)
		}
		if own == nil {
			return nil, errors.New("the certificate that was shown is not known")
		}
		b, err := channel.EndPoint(own)
		return b.Data, err
	}
	return nil, fmt.Errorf("no channel binding %q", kind)
}

// Shown tells which certificate a client was shown: the one that is chosen for the name it asked for. Two kinds of key for one
// name leave that open, and then there is no tls-server-end-point; clients of TLS 1.3 use tls-exporter.
func Shown(conf *tls.Config) func(*tls.ConnectionState) *x509.Certificate {
	return func(t *tls.ConnectionState) *x509.Certificate {
		if conf == nil || conf.GetCertificate == nil {
			return nil
		}
		c, err := conf.GetCertificate(&tls.ClientHelloInfo{ServerName: t.ServerName, SupportedVersions: []uint16{t.Version}})
		if err != nil {
			return nil
		}
		return c.Leaf
	}
}
