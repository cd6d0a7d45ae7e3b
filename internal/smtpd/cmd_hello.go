package smtpd

import (
	"crypto/tls"
	"errors"
	"strings"

	"postamt/internal/smtp"
)

// RFC 5321 section 4.1.1.1: "EHLO" SP ( Domain / address-literal ). Both begin anew, as RSET does.
func (s *session) cmdEhlo(args string) *smtp.Reply {
	if r := s.hello(args); r != nil {
		return r
	}
	s.esmtp = true
	if auth := s.authKeyword(); auth != "" {
		return s.extensions().EHLO(s.conf.Hostname, auth, "HELP")
	}
	return s.extensions().EHLO(s.conf.Hostname, "HELP")
}

// RFC 5321 section 4.1.1.1: "HELO" SP Domain.
func (s *session) cmdHelo(args string) *smtp.Reply {
	if r := s.hello(args); r != nil {
		return r
	}
	s.esmtp = false
	return smtp.NewReply(250, "", s.conf.Hostname)
}

// hello takes the client's name. RFC 5321 section 4.1.4: that it is not the client's true name is no reason to refuse.
func (s *session) hello(args string) *smtp.Reply {
	name, err := smtp.ParseHelo(args)
	if err != nil {
		return asReply(err)
	}
	s.reset()
	s.helo = name
	return nil
}

// extensions are what this session is offered after EHLO.
func (s *session) extensions() smtp.Extensions {
	if !s.esmtp {
		return smtp.Extensions{}
	}
	return smtp.Extensions{
		Size: true, SizeMax: s.conf.SizeLimit,
		Pipelining: true, EightBit: true, BinaryMIME: true, Chunking: true, UTF8: true, DSN: true, Enhanced: true,
		StartTLS: (s.conf.TLS != nil || s.peer.StartTLS != nil) && s.tls == "",
		RcptMax:  s.rcptLimit(), MailMax: s.conf.MailLimit,
	}
}

// RFC 3207 section 4: "STARTTLS", without parameters.
func (s *session) cmdStartTLS(args string) *smtp.Reply {
	switch {
	case args != "":
		return smtp.NewReply(501, "5.5.4", "STARTTLS has no parameters")
	case s.tls != "":
		return smtp.NewReply(503, "5.5.1", "TLS is on already")
	case s.conf.TLS == nil && s.peer.StartTLS == nil:
		return smtp.NewReply(502, "5.5.1", "TLS is not available")
	case s.c.Buffered() > 0:
		// RFC 3207 section 4.2, and CVE-2011-0411: what was sent in clear, by whomever, must not be taken for a
		// command sent under TLS. A client may not pipeline here, so no good one is hurt by the end of the session.
		s.close("protocol")
		return smtp.NewReply(501, "5.5.4", "nothing may follow STARTTLS in clear")
	}
	start := s.theirTLS
	if s.conf.TLS != nil { // ours, which has channel bindings
		conf, err := s.tlsConfig()
		if err != nil {
			// RFC 3207 section 4: 454 while TLS is not available for a temporary reason. The client may go on in clear, or not.
			s.srv.Log.TLS(s.id, "", "", "", err)
			return smtp.NewReply(454, "4.7.0", "TLS is not available now, try again later")
		}
		start = s.ownTLS(conf)
	}
	if s.c.WriteReply(smtp.NewReply(220, "2.0.0", "ready to start TLS")) != nil || s.c.Flush() != nil {
		s.close("lost")
		return nil
	}
	if !s.handshake(start) {
		s.close("tls")
	}
	return nil
}

// tlsConfig is for a handshake that begins now; the error says why it would fail.
func (s *session) tlsConfig() (*tls.Config, error) {
	switch {
	case s.conf.TLS == nil:
		return nil, errNoTLS
	case s.conf.BeginTLS != nil:
		return s.conf.BeginTLS(s.kind)
	}
	return s.conf.TLS, nil
}

// startsWithTLS makes the handshake of a connection that begins with it.
func (s *session) startsWithTLS() bool {
	conf, err := s.tlsConfig()
	if err != nil {
		s.srv.Log.TLS(s.id, "", "", "", err)
		s.why = "tls"
		return false
	}
	return s.handshake(s.ownTLS(conf))
}

// ownTLS makes the handshake itself.
func (s *session) ownTLS(conf *tls.Config) func() (string, error) {
	return func() (string, error) {
		if err := s.c.StartTLS(conf, true); err != nil {
			return "", err
		}
		version, cipher := tlsNames(s.c.TLS())
		return version + " " + cipher, nil
	}
}

// theirTLS leaves the handshake to who passes the connection on.
func (s *session) theirTLS() (string, error) {
	names, err := s.peer.StartTLS()
	if err == nil {
		err = s.c.Replace(s.nc) // other descriptors lie below, without the deadlines that were set
	}
	return names, err
}

// handshake starts TLS. RFC 3207 section 4.2: what was known before is discarded.
func (s *session) handshake(start func() (string, error)) bool {
	s.reset()
	s.helo, s.esmtp = "", false
	if s.authed {
		s.authed, s.peer.Login = false, ""
	}
	s.deadline(smtp.HandshakeTimeout) // T04
	names, err := start()
	if err != nil {
		s.srv.Log.TLS(s.id, "", "", "", err)
		s.why = "tls"
		return false
	}
	s.underTLS(names)
	return true
}

// underTLS: version and cipher are these from here on.
func (s *session) underTLS(names string) {
	s.tls = names
	version, cipher, _ := strings.Cut(names, " ")
	s.srv.Log.TLS(s.id, "", version, cipher, nil)
}

var errNoTLS = errors.New("smtpd: no certificate")
