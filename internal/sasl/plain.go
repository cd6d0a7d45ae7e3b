package sasl

import (
	"bytes"
	"context"
	"fmt"
	"unicode/utf8"
)

// PLAIN. RFC 4616 section 2: message = [authzid] NUL authcid NUL passwd.
func (x *Exchange) plain(ctx context.Context, response []byte) ([]byte, state, error) {
	f := bytes.Split(response, []byte{0})
	if len(f) != 3 || len(f[1]) == 0 || !utf8.Valid(f[0]) || !utf8.Valid(f[1]) {
		return nil, nil, malformed("not [authzid] NUL authcid NUL passwd")
	}
	authzid, err := x.authzid(string(f[0]))
	if err != nil {
		return nil, nil, err
	}
	user, err := x.claim(string(f[1]))
	if err != nil {
		return nil, nil, err
	}
	if err := x.verify(ctx, user, f[2]); err != nil {
		return nil, nil, err
	}
	return nil, nil, x.accept(ctx, user, authzid)
}

// verify refuses the empty password here: it is right for nobody, whatever a back end thinks of it.
func (x *Exchange) verify(ctx context.Context, user string, password []byte) error {
	if len(password) == 0 {
		return fmt.Errorf("%w: the password is empty", ErrCredentials)
	}
	return x.o.Credentials.Verify(ctx, user, string(password))
}

// LOGIN, draft-murchison-sasl-login-00: "Username:", "Password:". Not to be standardised, and what some devices know only. The name may
// come as an initial response.
func (x *Exchange) login(ctx context.Context, response []byte) ([]byte, state, error) {
	if response != nil {
		return x.loginName(ctx, response)
	}
	return []byte("Username:"), x.loginName, nil
}

func (x *Exchange) loginName(_ context.Context, response []byte) ([]byte, state, error) {
	if len(response) == 0 || !utf8.Valid(response) {
		return nil, nil, malformed("no name")
	}
	// A name that cannot be is refused with the password, so that the prompts are the same for all.
	user, bad := x.claim(string(response))
	return []byte("Password:"), func(ctx context.Context, response []byte) ([]byte, state, error) {
		switch {
		case bytes.IndexByte(response, 0) >= 0:
			return nil, nil, malformed("NUL in a password")
		case bad != nil:
			return nil, nil, bad
		}
		if err := x.verify(ctx, user, response); err != nil {
			return nil, nil, err
		}
		return nil, nil, x.accept(ctx, user, "")
	}, nil
}

// EXTERNAL. RFC 4422 appendix A: the response is the authorization identity, or empty.
func (x *Exchange) external(ctx context.Context, response []byte) ([]byte, state, error) {
	if !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return nil, nil, malformed("not an authorization identity")
	}
	authzid, err := x.authzid(string(response))
	if err != nil {
		return nil, nil, err
	}
	user, err := x.claim(x.o.External)
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, x.accept(ctx, user, authzid)
}
