package imapd

import (
	"encoding/base64"
	"errors"
	"unicode/utf8"

	"postamt/internal/imap"
	"postamt/internal/lineio"
	"postamt/internal/login"
)

// plain is what LOGIN is sent to the authentication server as.
const plain = "PLAIN"

// RFC 9051 section 6.2.3: "LOGIN" SP userid SP password, two astrings. In clear the literals are not even asked for.
func (a *authorization) cmdLogin(_ imap.Command, d *imap.Decoder) *imap.Status {
	if !a.MayLogIn() {
		return needsTLS()
	}
	name, password := d.SP().AString(), d.SP().AString()
	if err := d.End(); err != nil {
		return a.wire(err)
	}
	switch {
	case !utf8.ValidString(name), !utf8.ValidString(password):
		return imap.Bad("name and password are UTF-8")
	case name == "", password == "": // which no message of PLAIN can say (RFC 4616)
		return a.refuse(login.ErrCredentials)
	}
	// A string has no NUL, so these are three fields.
	return a.authenticate(plain, []byte("\x00"+name+"\x00"+password), func([]byte) ([]byte, error) { return nil, login.ErrMalformed })
}

// RFC 9051 section 6.2.2: "AUTHENTICATE" SP auth-type [SP initial-resp].
func (a *authorization) cmdAuthenticate(_ imap.Command, d *imap.Decoder) *imap.Status {
	if !a.MayLogIn() {
		return needsTLS()
	}
	mechanism, _, err := login.ParseAuth(d.SP().Keyword())
	initial, given := d.InitialResponse()
	if !given {
		initial = nil
	}
	if end := d.End(); end != nil {
		return a.wire(end)
	}
	if err != nil {
		return imap.Bad("not a mechanism")
	}
	return a.authenticate(mechanism, initial, a.ask)
}

// ask sends a challenge and waits for the response.
func (a *authorization) ask(challenge []byte) ([]byte, error) {
	if a.c.WriteContinuation(base64.StdEncoding.EncodeToString(challenge)) != nil {
		a.close("lost")
		return nil, errLost
	}
	a.idle.Set(true) // a login under way is nothing that a server which stops waits for
	response, err := a.c.ReadResponse(login.MaxLine)
	a.idle.Set(false)
	switch {
	case err == nil, errors.As(err, new(*imap.Status)), err == lineio.ErrLineTooLong: // the next line can be read
		return response, err
	}
	a.lost(err)
	return nil, errLost
}

// needsTLS is RFC 5530 section 3: PRIVACYREQUIRED.
func needsTLS() *imap.Status {
	return imap.No(imap.PrivacyRequired, "not without TLS: say STARTTLS first")
}
