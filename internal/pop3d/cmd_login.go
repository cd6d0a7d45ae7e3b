package pop3d

import (
	"context"
	"encoding/hex"
	"errors"
	"unicode/utf8"

	"postamt/internal/login"
	"postamt/internal/pop3"
)

// RFC 1939 section 7: "USER" name. The answer says nothing about whether there is such a user.
func (a *authorization) cmdUser(cmd pop3.Command) *pop3.Response {
	a.named = false
	switch {
	case !a.MayLogIn():
		return needsTLS()
	case cmd.Args == "" || !utf8.ValidString(cmd.Args): // RFC 6856 section 2.2
		return a.fault("syntax: USER name, in UTF-8")
	}
	a.named, a.name = true, cmd.Args
	return pop3.OK("the password, please")
}

// RFC 1939 section 7: "PASS" string, right after a successful USER. Spaces are part of the password.
func (a *authorization) cmdPass(cmd pop3.Command) *pop3.Response {
	named := a.named
	a.named = false
	switch {
	case !named:
		return a.fault("say USER first")
	case cmd.Args == "" || !utf8.ValidString(cmd.Args): // RFC 6856 section 2.2
		return a.fault("syntax: PASS password, in UTF-8")
	}
	// A line has no NUL, so these are three fields.
	return a.sasl(plain, []byte("\x00"+a.name+"\x00"+cmd.Args), func([]byte) ([]byte, error) { return nil, login.ErrMalformed })
}

// RFC 1939 section 7: "APOP" name digest. RFC 6856 section 2.2: both in UTF-8.
func (a *authorization) cmdApop(cmd pop3.Command) *pop3.Response {
	a.named = false
	w := cmd.Words()
	switch {
	case a.timestamp == "":
		return a.fault("APOP is not offered")
	case !a.MayLogIn():
		return needsTLS()
	case len(w) != 2 || !utf8.ValidString(w[0]):
		return a.fault("syntax: APOP name digest")
	}
	digest, err := hex.DecodeString(w[1])
	if err != nil || len(digest) != 16 {
		return a.fault("syntax: APOP name digest")
	}
	return a.authenticate(a.Request(a.id, "APOP", nil), func(ctx context.Context, q login.Request) (login.User, error) {
		return a.conf.Auth.APOP(ctx, q, a.timestamp, w[0], [16]byte(digest))
	})
}

// RFC 5034 section 4: "AUTH" mechanism [initial-response]. Without an argument it is how clients of old ask for the mechanisms.
func (a *authorization) cmdAuth(cmd pop3.Command) *pop3.Response {
	a.named = false
	switch {
	case !a.MayLogIn():
		return needsTLS()
	case cmd.Args == "":
		a.c.WriteResponse(pop3.OK("mechanisms follow"))
		for _, m := range a.conf.Auth.Mechanisms(a.c.TLS()) {
			a.c.WriteLine(m)
		}
		a.c.End()
		return nil
	}
	mechanism, initial, err := login.ParseAuth(cmd.Args)
	if err != nil {
		return a.refusal(err)
	}
	return a.sasl(mechanism, initial, a.ask)
}

func (a *authorization) sasl(mechanism string, initial []byte, ask func([]byte) ([]byte, error)) *pop3.Response {
	return a.authenticate(a.Request(a.id, mechanism, initial), func(ctx context.Context, q login.Request) (login.User, error) {
		return a.conf.Auth.Authenticate(ctx, q, ask)
	})
}

// ask sends a challenge and waits for the response.
func (a *authorization) ask(challenge []byte) ([]byte, error) {
	if a.c.WriteChallenge(challenge) != nil {
		a.close("lost")
		return nil, errLost
	}
	a.idle.Set(true) // a login under way is nothing that a server which stops waits for
	line, err := a.c.ReadLine(login.MaxLine)
	a.idle.Set(false)
	switch {
	case errors.Is(err, pop3.ErrEndlessLine):
		a.close("limit")
		return nil, err
	case errors.Is(err, pop3.ErrLineTooLong):
		return nil, err
	case errors.Is(err, pop3.ErrBareNewline), errors.Is(err, pop3.ErrNUL):
		return nil, login.ErrBase64
	case err != nil:
		a.lost(err)
		return nil, errLost
	}
	return login.ParseResponse(line)
}

// needsTLS has no response code: AUTH would say that the credentials are wrong (RFC 3206 section 5).
func needsTLS() *pop3.Response { return pop3.Err("", "not without TLS: say STLS first") }
