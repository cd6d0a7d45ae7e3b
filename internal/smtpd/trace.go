package smtpd

import (
	"crypto/tls"
	"strings"
	"time"

	"postamt/internal/queue"
)

// timeFormat is RFC 5322 section 3.3. The time is UTC: it does not change with the machine's time zone, and two lines
// of a log can be compared.
const timeFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// protocol is the word after "with": RFC 3848, and for SMTPUTF8 RFC 6531 section 4.3.
func (s *session) protocol() string {
	switch {
	case s.helo == "":
		return ""
	case !s.esmtp && s.tls == "":
		return "SMTP"
	}
	p := "ESMTP"
	if s.tx != nil && s.tx.env.UTF8 {
		p = "UTF8SMTP"
	}
	if s.tls != "" {
		p += "S"
	}
	if s.authed {
		p += "A"
	}
	return p
}

// tlsNames are "TLSv1.3" and "TLS_AES_128_GCM_SHA256".
func tlsNames(t *tls.ConnectionState) (version, cipher string) {
	return strings.Replace(tls.VersionName(t.Version), "TLS ", "TLSv", 1), tls.CipherSuiteName(t.CipherSuite)
}

// trace is the Received field of the message. RFC 5321 section 4.4:
//
//	Received: from HELO (unknown [IP]) (using TLS) by HOST with PROTOCOL id ID for <ADDRESS>; DATE
//
// Whatever in it came from the client was parsed before: no octet below a space is in a name or an address.
func (s *session) trace() []byte {
	e := &s.tx.env
	b := make([]byte, 0, 400)
	b = append(b, "Received: from "...)
	b = append(b, s.helo...)
	switch ip := s.peer.IP; {
	case ip.Is6():
		b = append(b, " (unknown [IPv6:"...) // RFC 5321 section 4.1.3: the tag is part of the literal
		b = append(b, ip.WithZone("").String()...)
		b = append(b, "])"...)
	case ip.IsValid():
		b = append(b, " (unknown ["...)
		b = append(b, ip.String()...)
		b = append(b, "])"...)
	case s.peer.Login != "":
		b = append(b, " (login "...)
		b = appendComment(b, s.peer.Login)
		b = append(b, ')')
	default:
		b = append(b, " (unknown)"...)
	}
	if s.tls != "" {
		version, cipher, _ := strings.Cut(s.tls, " ")
		b = append(b, "\r\n\t(using "...)
		b = append(b, version...)
		if cipher != "" {
			b = append(b, " with cipher "...)
			b = append(b, cipher...)
		}
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	b = append(b, s.conf.Hostname...)
	b = append(b, " with "...)
	b = append(b, s.protocol()...)
	b = append(b, " id "...)
	b = append(b, e.ID...)
	// RFC 5321 section 7.2: more than one recipient would tell each of the others.
	if len(e.Rcpts) == 1 {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, e.Rcpts[0].Addr...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = appendDate(b, e.Arrived)
	return append(b, "\r\n"...)
}

func appendDate(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, timeFormat) }

// appendComment writes text of a comment: RFC 5322 section 3.2.2. Other octets than those of a login's name are "?".
func appendComment(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '(' || c == ')' || c == '\\' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// missingFields are those that a message of a user of ours must have and has not: RFC 6409 section 8.
func missingFields(e *queue.Envelope, hostname string, have fieldSet) []byte {
	var b []byte
	if !have.from {
		b = append(b, "From: <"...)
		if e.From == "" {
			b = append(b, "MAILER-DAEMON@"...)
			b = append(b, hostname...)
		}
		b = append(b, e.From...)
		b = append(b, ">\r\n"...)
	}
	if !have.date {
		b = append(b, "Date: "...)
		b = appendDate(b, e.Arrived)
		b = append(b, "\r\n"...)
	}
	if !have.messageID {
		b = append(b, "Message-ID: "...)
		b = append(b, messageID(e, hostname)...)
		b = append(b, "\r\n"...)
	}
	return b
}

func messageID(e *queue.Envelope, hostname string) string {
	return "<" + string(e.ID) + "@" + hostname + ">"
}
