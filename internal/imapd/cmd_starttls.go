package imapd

import "postamt/internal/imap"

// RFC 9051 section 6.2.1: "STARTTLS". Nothing of the session was said that would have to be forgotten.
func (a *authorization) cmdStartTLS(cmd imap.Command, d *imap.Decoder) *imap.Status {
	err := d.End()
	switch {
	case err != nil:
		return a.wire(err)
	case a.TLS != "":
		return imap.Bad("TLS is on already")
	case !a.OffersTLS():
		return imap.Bad("TLS is not available")
	case a.c.Buffered() > 0:
		// CVE-2011-0411, CVE-2021-33515: what was sent in clear, by whomever, must not be taken for a command sent under TLS. A client
		// sends none before the response (RFC 9051), so no good one is hurt by the end of the session.
		a.respond(cmd.Tag, imap.Bad("nothing may follow STARTTLS in clear"))
		a.bye("protocol", "", "nothing may follow STARTTLS in clear")
		return nil
	}
	handshake, err := a.Handshake()
	if err != nil {
		a.srv.Log.TLS(a.id, "", "", "", err)
		return imap.No(imap.Unavailable, "TLS is not available now, try again later")
	}
	if a.c.WriteStatus(cmd.Tag, imap.OK("", "begin TLS now")) != nil || a.c.Flush() != nil {
		a.close("lost")
		return nil
	}
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
