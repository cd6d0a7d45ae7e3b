package sasl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// OAUTHBEARER. RFC 7628 section 3.1: gs2-header ^A *( key "=" value ^A ) ^A.
func (x *Exchange) oauthbearer(ctx context.Context, response []byte) ([]byte, state, error) {
	g, rest, err := parseGS2(string(response))
	if err != nil {
		return nil, nil, err
	}
	if g.flag == 'p' {
		return nil, nil, malformed("channel binding")
	}
	values, err := pairs(rest)
	if err != nil {
		return nil, nil, err
	}
	authorization, given := values["auth"]
	if !given {
		return nil, nil, malformed("no auth=")
	}
	status := map[string]string{"status": "invalid_token", "scope": x.o.OAuth.Scope, "openid-configuration": x.o.OAuth.Configuration}
	return x.bearer(ctx, g.authzid, authorization, status)
}

// XOAUTH2, https://developers.google.com/gmail/imap/xoauth2-protocol: "user=" name ^A "auth=Bearer " token ^A ^A. The user is whose mailbox it is about.
func (x *Exchange) xoauth2(ctx context.Context, response []byte) ([]byte, state, error) {
	values, err := pairs("\x01" + string(response))
	if err != nil {
		return nil, nil, err
	}
	if values["user"] == "" || values["auth"] == "" {
		return nil, nil, malformed("not user= and auth=")
	}
	status := map[string]string{"status": "401", "schemes": "bearer", "scope": x.o.OAuth.Scope}
	return x.bearer(ctx, values["user"], values["auth"], status)
}

// bearer asks whose token it is. A refusal is sent in a challenge first, because SASL has no room for it in a failure (RFC 7628 section 3.2.3).
func (x *Exchange) bearer(ctx context.Context, name, authorization string, status map[string]string) ([]byte, state, error) {
	authzid, err := x.authzid(name)
	if err != nil {
		return nil, nil, err
	}
	x.claimed = authzid // until the token says more
	err = x.token(ctx, authzid, authorization)
	switch {
	case err == nil:
		return nil, nil, nil
	case !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrNotAuthorized) || errors.Is(err, ErrUnavailable):
		return nil, nil, err
	}
	for key, value := range status {
		if value == "" {
			delete(status, key)
		}
	}
	challenge, jsonErr := json.Marshal(status)
	if jsonErr != nil {
		return nil, nil, jsonErr
	}
	refused := err
	return challenge, func(context.Context, []byte) ([]byte, state, error) {
		// ^A, or nothing, or whatever: it is over.
		return nil, nil, refused
	}, nil
}

func (x *Exchange) token(ctx context.Context, authzid, authorization string) error {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || !isToken(token) {
		// RFC 7628 section 4.3: an empty one asks what a token must be for.
		return fmt.Errorf("%w: no bearer token", ErrCredentials)
	}
	name, err := x.o.Token(ctx, token)
	if err != nil {
		return err
	}
	user, err := x.claim(name)
	if err != nil {
		return err
	}
	return x.accept(ctx, user, authzid)
}

// pairs reads ^A *( key "=" value ^A ) ^A. Unknown keys are for others; none may come twice.
func pairs(s string) (map[string]string, error) {
	s, begins := strings.CutPrefix(s, "\x01")
	s, ends := strings.CutSuffix(s, "\x01")
	if !begins || !ends || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return nil, malformed("not key=value ^A … ^A")
	}
	values := make(map[string]string)
	for s != "" {
		pair, rest, ok := strings.Cut(s, "\x01")
		key, value, ok2 := strings.Cut(pair, "=")
		if !ok || !ok2 || !letters(key) {
			return nil, malformed("not key=value ^A")
		}
		if _, twice := values[key]; twice {
			return nil, malformed("a key that comes twice")
		}
		values[key] = value
		s = rest
	}
	return values, nil
}

func letters(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}

// isToken: RFC 6750 section 2.1, b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
func isToken(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
