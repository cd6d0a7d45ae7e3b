// Package oauth says whose an OAuth 2.0 access token is: a signed one by the issuer's keys, any other by asking the issuer.
//
//	token of three parts, and there are keys    JWT (RFC 7519, 9068), verified here
//	any other                                   token introspection (RFC 7662) over HTTPS
//
// Promises:
//   - Only what is known to be right has a user. ErrToken says that it is known to be wrong; any other error, that nobody can tell now.
//   - A signature is checked by the kind of key that the file has, never by what the token says of itself alone: "none" and the HMAC
//     algorithms do not exist here, RS256 needs an RSA key, ES256 one of P-256, EdDSA one of Ed25519.
//   - A token without an end is refused, and so is one for another audience or from another issuer, where these are configured.
//   - No error has a token, a secret, or a claim other than by its name in it.
//   - What the issuer says is bounded in size and time. Redirections are not followed: the credentials are for one host.
//   - A yes of the issuer is kept for a minute at most, and never beyond the token's end; a no is not kept.
//
// Divergences. Tokens may be used for clockSkew beyond their end, RFC 7519 section 4.1.4 allows for it. The header's typ is not looked at:
// few issuers follow RFC 9068 section 2.1, and it is the audience that keeps a token for others out.
package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postamt/internal/textfile"
)

// ErrToken: the token is not good.
var ErrToken = errors.New("token")

// clockSkew is by how much our clock and the issuer's may differ.
const clockSkew = time.Minute

// Options of a Verifier. At least one of Introspection and Keys is given.
type Options struct {
	Introspection string // URL, https; "" the issuer is not asked
	Credentials   string // file of two lines: our client id at the issuer, and the secret
	Keys          string // file: PEM (public keys, certificates) or a JWK set (RFC 7517); "" no token is verified here
	Issuer        string // what iss must be; "" anything
	Audience      string // what aud must be or contain; "" anything. With Keys it is needed: an issuer's keys sign for many
	Claim         string // that names the user
	Timeout       time.Duration

	Report    func(error)       // of files that have changed and cannot be used
	Transport http.RoundTripper // nil: one of our own
	Now       func() time.Time  // nil: the real one
}

// Verifier says whose a token is. It is safe for concurrent use.
type Verifier struct {
	o           Options
	client      *http.Client
	keys        *textfile.File[[]key]
	credentials *textfile.File[login]
	kept        kept
}

// New makes a Verifier. It reads the files, and asks nobody.
func New(o Options) (*Verifier, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{o: o}
	if o.Claim == "" {
		return nil, errors.New("oauth: which claim is the user?")
	}
	if o.Keys != "" {
		if o.Audience == "" || o.Issuer == "" {
			return nil, errors.New("oauth: with keys the issuer and the audience are needed: the same keys sign tokens for other services")
		}
		v.keys = &textfile.File[[]key]{Path: o.Keys, Max: maxKeys, Parse: parseKeys, Report: o.Report}
		if _, err := v.keys.Get(); err != nil {
			return nil, err
		}
	}
	if o.Introspection == "" {
		if o.Keys == "" {
			return nil, errors.New("oauth: neither keys nor an issuer to ask")
		}
		return v, nil
	}
	if u, err := url.Parse(o.Introspection); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("oauth: the issuer is asked at an https URL without a password in it")
	}
	if o.Credentials != "" {
		v.credentials = &textfile.File[login]{Path: o.Credentials, Max: 4096, Parse: parseLogin, Report: o.Report}
		if _, err := v.credentials.Get(); err != nil {
			return nil, err
		}
	}
	v.client = newClient(o)
	return v, nil
}

// User is the user of a token, as the claim says it; ErrToken, or an error that is temporary.
func (v *Verifier) User(ctx context.Context, token string) (string, error) {
	if v.keys != nil && strings.Count(token, ".") == 2 {
		c, err := v.verify(token)
		if err != nil {
			return "", err
		}
		return v.user(c)
	}
	if v.client == nil {
		return "", bad("it is not signed, and there is no issuer to ask")
	}
	return v.ask(ctx, token)
}

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrToken}, a...)...)
}

// claims are what a token or the issuer says. Names are compared as they are, which structs of encoding/json do not.
type claims map[string]json.RawMessage

// text is a claim that is a string.
func (c claims) text(name string) (string, bool) {
	var s *string
	if json.Unmarshal(c[name], &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// moment is a NumericDate (RFC 7519 section 2).
func (c claims) moment(name string) (at time.Time, given bool, err error) {
	raw, given := c[name]
	if !given {
		return at, false, nil
	}
	var f *float64
	if json.Unmarshal(raw, &f) != nil || f == nil || math.Abs(*f) > 1<<40 {
		return at, true, bad("%s is not a time", name)
	}
	return time.Unix(int64(*f), 0), true, nil
}

// check is of times, issuer and audience. ends: there must be an end.
func (v *Verifier) check(c claims, ends bool) (end time.Time, err error) {
	now := v.o.Now()
	end, given, err := c.moment("exp")
	switch {
	case err != nil:
		return end, err
	case !given && ends:
		return end, bad("no exp")
	case given && !now.Before(end.Add(clockSkew)):
		return end, bad("expired")
	}
	begin, given, err := c.moment("nbf")
	switch {
	case err != nil:
		return end, err
	case given && now.Before(begin.Add(-clockSkew)):
		return end, bad("not valid yet")
	}
	if v.o.Issuer != "" {
		if iss, _ := c.text("iss"); iss != v.o.Issuer {
			return end, bad("from another issuer")
		}
	}
	if v.o.Audience != "" && !c.isFor(v.o.Audience) {
		return end, bad("for another audience")
	}
	return end, nil
}

// isFor: aud is a string or a list of them (RFC 7519 section 4.1.3).
func (c claims) isFor(audience string) bool {
	if s, ok := c.text("aud"); ok {
		return s == audience
	}
	var list []string
	if json.Unmarshal(c["aud"], &list) != nil {
		return false
	}
	for _, s := range list {
		if s == audience {
			return true
		}
	}
	return false
}

// user is what the claim says. An address that the issuer has not verified may be anybody's.
func (v *Verifier) user(c claims) (string, error) {
	name, ok := c.text(v.o.Claim)
	if !ok || name == "" {
		return "", bad("no %s", v.o.Claim)
	}
	if v.o.Claim == "email" {
		if raw, given := c["email_verified"]; given && string(raw) != "true" && string(raw) != `"true"` {
			return "", bad("the address is not verified")
		}
	}
	return name, nil
}
