package pop3d

import (
	"strings"

	"postamt/internal/pop3"
)

// RFC 2595 section 4: "STLS".
func (a *authorization) cmdStls(cmd pop3.Command) *pop3.Response {
	switch {
	case cmd.Args != "":
		return a.fault("no arguments")
	case a.TLS != "":
		return a.fault("TLS is on already")
	case !a.OffersTLS():
		return a.fault("TLS is not available")
	case a.utf8:
		return a.fault("not after UTF8") // RFC 6856 section 2.1
	case a.c.Buffered() > 0:
		// CVE-2011-0411: what was sent in clear, by whomever, must not be taken for a command sent under TLS. A client
		// may send none before the response (RFC 2595), so no good one is hurt by the end of the session.
		a.close("protocol")
		return pop3.Err("", "nothing may follow STLS in clear")
	}
	handshake, err := a.Handshake()
	if err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		return pop3.Err(pop3.SysTemp, "TLS is not available now, try again later")
	}
	if a.c.WriteResponse(pop3.OK("ready to start TLS")) != nil || a.c.Flush() != nil {
		a.close("lost")
		return nil
	}
	a.named, a.name = false, "" // T02: what was known before is discarded; the timestamp is ours
	a.startTLS(handshake)
	return nil
}

// startsWithTLS makes the handshake of a connection that begins with it.
func (a *authorization) startsWithTLS() bool {
	handshake, err := a.Handshake()
	if err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		a.close("tls")
		return false
	}
	return a.startTLS(handshake)
}

// startTLS makes a handshake, or ends the session.
func (a *authorization) startTLS(handshake func() error) bool {
	if err := handshake(); err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		a.close("tls")
		return false
	}
	a.underTLS()
	return true
}

func (a *authorization) underTLS() {
	a.client.Proto = "POP3S"
	version, cipher, _ := strings.Cut(a.TLS, " ")
	a.srv.Log.TLS(a.id, "", version, cipher, nil)
}
