package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"postamt/internal/addr"
	"postamt/internal/authwire"
	"postamt/internal/channel"
	"postamt/internal/config"
	"postamt/internal/maillog"
	"postamt/internal/policy"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/smtpd"
	"postamt/internal/tables"
	"postamt/internal/textfile"
	"postamt/internal/usage"
)

// authenticator asks authd, or any server of its protocol.
type authenticator struct {
	client *authwire.Client
	shown  func(*tls.ConnectionState) *x509.Certificate // what we showed of ourselves
	proven func(*tls.ConnectionState) string            // whom the client's certificate proves; "": nobody
	log    *maillog.Logger
}

// askMechanisms bounds the wait for a server that does not answer, at EHLO.
const askMechanisms = 5 * time.Second

// Mechanisms is smtpd.Authenticator's. While the server is away it is what the server had: whoever logs in then is told "later",
// and not "never".
func (a authenticator) Mechanisms(t *tls.ConnectionState) []string {
	ctx, cancel := context.WithTimeout(context.Background(), askMechanisms)
	defer cancel()
	list, err := a.client.Mechanisms(ctx)
	if err != nil {
		a.log.Problem("", "ask for mechanisms", err)
	}
	return usable(list, t != nil, a.proven(t) != "")
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

// Authenticate is smtpd.Authenticator's. What a client in clear may do was decided before: it is on loopback, or somebody has said
// that it may.
func (a authenticator) Authenticate(ctx context.Context, q smtpd.AuthRequest, ask func([]byte) ([]byte, error)) (string, error) {
	r := &authwire.Request{Mechanism: q.Mechanism, Service: "smtp", RemoteIP: q.Peer.IP, RemotePort: q.Peer.Port,
		LocalIP: q.Local.Addr(), LocalPort: q.Local.Port(), Session: q.Session, NoLogin: true, Security: authwire.Secured}
	if q.TLS != nil {
		r.Security, r.LocalName = authwire.TLS, q.TLS.ServerName
		r.CertUsername = a.proven(q.TLS)
		r.ValidClientCert = r.CertUsername != ""
		r.ChannelBinding = func(_ context.Context, kind string) ([]byte, error) { return binding(q.TLS, kind, a.shown(q.TLS)) }
	}
	x := a.client.Begin(ctx, r)
	defer x.End()
	response := q.Initial
	for {
		reply := x.Next(ctx, response)
		switch reply.Status {
		case authwire.OK:
			return reply.User, nil
		case authwire.Failed:
			return "", refusal(reply)
		}
		var err error
		if response, err = ask(reply.Data); err != nil {
			return "", err
		}
		if response == nil {
			response = []byte{}
		}
	}
}

// refusal is what a reply of the server means to the session.
func refusal(r authwire.Reply) error {
	switch {
	case r.Temporary():
		if r.Err != nil {
			return r.Err
		}
		return authwire.ErrUnavailable
	case r.Code == authwire.InvalidBase64:
		return smtpd.ErrMalformed
	case r.Code == authwire.MechInvalid:
		return smtp.NewReply(504, "5.5.4", "no such mechanism here") // RFC 4954 section 4
	case r.Code == authwire.PassExpired:
		return fmt.Errorf("%w (%w)", smtp.NewReply(535, "5.7.8", "the password has expired"), smtpd.ErrCredentials)
	}
	return smtpd.ErrCredentials
}

// binding is the channel binding of that kind.
func binding(t *tls.ConnectionState, kind string, own *x509.Certificate) ([]byte, error) {
	switch kind {
	case channel.TLSExporter:
		b, err := channel.Exporter(t.ExportKeyingMaterial)
		return b.Data, err
	case channel.TLSServerEndPoint:
		if own == nil {
			return nil, errors.New("the certificate that was shown is not known")
		}
		b, err := channel.EndPoint(own)
		return b.Data, err
	}
	return nil, fmt.Errorf("no channel binding %q", kind)
}

// senders judges the addresses of users of ours by the tables and the senders file of now.
type senders struct {
	set    *tables.Set
	limits route.Limits
	rules  *textfile.File[policy.Rules] // nil: no file
	header bool                         // From too
}

func newSenders(c *config.Config, set *tables.Set, log *maillog.Logger) (smtpd.Senders, error) {
	if c.SenderCheck == "no" {
		return nil, nil
	}
	s := &senders{set: set, limits: route.Limits{Depth: c.AliasDepth, Count: c.AliasExpansion}, header: c.SenderCheck == "yes"}
	if c.Senders != "" {
		s.rules = &textfile.File[policy.Rules]{Path: c.Senders, Max: policy.MaxRules, Parse: policy.ParseRules,
			Report: func(err error) { log.Problem("", "senders", err) }}
		if _, err := s.rules.Get(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Envelope is smtpd.Senders'.
func (s *senders) Envelope(login string, from addr.Mailbox) error {
	p := policy.Senders{Tables: s.set.Current(), Limits: s.limits}
	if s.rules != nil {
		var err error
		if p.Rules, err = s.rules.Get(); err != nil {
			return err
		}
	}
	if r := p.May(login, from); r != nil {
		return r
	}
	return nil
}

// Header is smtpd.Senders'. The reply is that to the end of the message.
func (s *senders) Header(login string, from []string) error {
	if !s.header {
		return nil
	}
	for _, f := range from {
		m, err := addr.Parse(f, true)
		if err != nil {
			return smtp.NewReply(550, "5.7.1", "From has an address that cannot be read")
		}
		if err := s.Envelope(login, m); err != nil {
			var r *smtp.Reply
			if errors.As(err, &r) && r.Permanent() {
				return smtp.NewReply(550, "5.7.1", "From: "+r.Lines[0])
			}
			return err
		}
	}
	return nil
}

// meter counts what logins send.
type meter struct {
	store  *usage.Store
	limits usage.Limits
}

func newMeter(c *config.Config, log *maillog.Logger) (smtpd.Usage, error) {
	l := usage.Limits{MessagesHour: c.LoginMessagesHour, MessagesDay: c.LoginMessagesDay,
		RecipientsHour: c.LoginRecipientsHour, RecipientsDay: c.LoginRecipientsDay}
	if !l.Any() {
		return nil, nil
	}
	s, err := usage.Open(filepath.Join(c.StateDir, "usage"))
	if err != nil {
		return nil, err
	}
	go func() {
		if err := s.Forget(time.Now()); err != nil {
			log.Problem("", "usage", err)
		}
	}()
	return &meter{s, l}, nil
}

// Count is smtpd.Usage's.
func (m *meter) Count(login string, rcpts int, now time.Time) (string, error) {
	return m.store.Count(login, rcpts, now, m.limits)
}

// certificateShown tells which certificate a client was shown: the one that is chosen for the name it asked for. Two kinds of key for one
// name leave that open, and then there is no tls-server-end-point; clients of TLS 1.3 use tls-exporter.
func certificateShown(conf *tls.Config) func(*tls.ConnectionState) *x509.Certificate {
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
