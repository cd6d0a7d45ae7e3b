package pop3d

import (
	"crypto/tls"
	"errors"
	"strings"

	"postamt/internal/pop3"
)

// RFC 2595 section 4: "STLS".
func (a *authorization) cmdStls(cmd pop3.Command) *pop3.Response {
	switch {
	case cmd.Args != "":
		return a.fault("no arguments")
	case a.tls != "":
		return a.fault("TLS is on already")
	case !a.offersTLS():
		return a.fault("TLS is not available")
	case a.utf8:
		return a.fault("not after UTF8") // RFC 6856 section 2.1
	case a.c.Buffered() > 0:
		// CVE-2011-0411: what was sent in clear, by whomever, must not be taken for a command sent under TLS. A client
		// may send none before the response (RFC 2595), so no good one is hurt by the end of the session.
		a.close("protocol")
		return pop3.Err("", "nothing may follow STLS in clear")
	}
	start := a.theirTLS
	if a.conf.TLS != nil { // ours, which has channel bindings
		conf, err := a.tlsConfig()
		if err != nil {
			a.srv.Log.TLS(a.id, "", "", "", err)
			return pop3.Err(pop3.SysTemp, "TLS is not available now, try again later")
		}
		start = a.ownTLS(conf)
	}
	if a.c.WriteResponse(pop3.OK("ready to start TLS")) != nil || a.c.Flush() != nil {
		a.close("lost")
		return nil
	}
	if !a.handshake(start) {
		a.close("tls")
	}
	return nil
}

func (a *authorization) offersTLS() bool { return a.conf.TLS != nil || a.peer.StartTLS != nil }

var errNoTLS = errors.New("pop3d: no certificate")

// tlsConfig is for a handshake that begins now; the error says why it would fail.
func (a *authorization) tlsConfig() (*tls.Config, error) {
	switch {
	case a.conf.TLS == nil:
		return nil, errNoTLS
	case a.conf.BeginTLS != nil:
		return a.conf.BeginTLS(a.kind)
	}
	return a.conf.TLS, nil
}

// startsWithTLS makes the handshake of a connection that begins with it.
func (a *authorization) startsWithTLS() bool {
	conf, err := a.tlsConfig()
	if err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		a.why = "tls"
		return false
	}
	return a.handshake(a.ownTLS(conf))
}

// ownTLS makes the handshake itself.
func (a *authorization) ownTLS(conf *tls.Config) func() (string, error) {
	return func() (string, error) {
		if err := a.c.StartTLS(conf, true); err != nil {
			return "", err
		}
		version, cipher := tlsNames(a.c.TLS())
		return version + " " + cipher, nil
	}
}

// theirTLS leaves the handshake to who passes the connection on.
func (a *authorization) theirTLS() (string, error) {
	names, err := a.peer.StartTLS()
	if err == nil {
		err = a.c.Replace(a.nc) // other descriptors lie below, without the deadlines that were set
	}
	return names, err
}

// handshake starts TLS. What was known before is discarded (T02); the timestamp is ours.
func (a *authorization) handshake(start func() (string, error)) bool {
	a.named, a.name = false, ""
	names, err := start() // T04: in the time of StartTLS, within that of the state
	if err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		a.why = "tls"
		return false
	}
	a.underTLS(names)
	return true
}

// underTLS: version and cipher are these from here on.
func (a *authorization) underTLS(names string) {
	a.tls, a.client.Proto = names, "POP3S"
	version, cipher, _ := strings.Cut(names, " ")
	a.srv.Log.TLS(a.id, "", version, cipher, nil)
}
