package sasl

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/subtle"
	"fmt"
	"unicode/utf8"
)

// APOP, RFC 1939 section 7. The response is the timestamp that was in the greeting, NUL, the name, NUL, and the 16 octets of the digest, of
// timestamp and password. That the timestamp was given to this client, whoever speaks to him sees to; that it belongs to their connection
// with us, Origin does. Another one is no sign of a wrong password: the connection may be a new one.
func (x *Exchange) apop(ctx context.Context, response []byte) ([]byte, state, error) {
	f := bytes.SplitN(response, []byte{0}, 3)
	if len(f) != 3 || len(f[2]) != md5.Size || !utf8.Valid(f[1]) {
		return nil, nil, malformed("not a timestamp, a name and a digest")
	}
	user, err := x.claim(string(f[1]))
	if err != nil {
		return nil, nil, err
	}
	if !bytes.HasPrefix(f[0], []byte(x.o.Origin)) {
		return nil, nil, fmt.Errorf("%w: the timestamp belongs to another connection", ErrUnavailable)
	}
	secret, real, err := x.o.Credentials.Secret(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	// As with CRAM-MD5, real is looked at last.
	sum := md5.Sum(append(f[0][:len(f[0]):len(f[0])], secret...))
	if subtle.ConstantTimeCompare(sum[:], f[2]) != 1 || !real || secret == "" {
		return nil, nil, ErrCredentials
	}
	return nil, nil, x.accept(ctx, user, "")
}
