package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

// CRAM-MD5. RFC 2195 section 2: the challenge looks like a msg-id, "<digits.digits@our.name>". Where it has a timestamp, there are more
// random digits here: what it is for is that no challenge comes twice, and 128 bits see to that without a clock.
func (x *Exchange) cram(_ context.Context, response []byte) ([]byte, state, error) {
	if response != nil {
		return nil, nil, malformed("an initial response, where the server speaks first")
	}
	var b [16]byte
	if _, err := io.ReadFull(x.o.Random, b[:]); err != nil {
		return nil, nil, fmt.Errorf("random numbers: %w", err)
	}
	challenge := fmt.Appendf(nil, "<%d.%d@%s>", binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), x.o.Hostname)
	return challenge, func(ctx context.Context, response []byte) ([]byte, state, error) {
		return nil, nil, x.cramResponse(ctx, challenge, response)
	}, nil
}

// The response is the user name, a space, and the digest in hexadecimal. The name may have spaces, the digest has none.
func (x *Exchange) cramResponse(ctx context.Context, challenge, response []byte) error {
	i := bytes.LastIndexByte(response, ' ')
	if i < 1 {
		return malformed("not a name and a digest")
	}
	digest, err := hex.DecodeString(string(response[i+1:]))
	if err != nil || len(digest) != md5.Size {
		return malformed("not a digest")
	}
	user, err := x.claim(string(response[:i]))
	if err != nil {
		return err
	}
	secret, real, err := x.o.Credentials.Secret(ctx, user)
	if err != nil {
		return err
	}
	// The digest is computed and compared for everybody, and real is looked at last.
	m := hmac.New(md5.New, []byte(secret))
	m.Write(challenge)
	if !hmac.Equal(m.Sum(nil), digest) || !real || secret == "" {
		return ErrCredentials
	}
	return x.accept(ctx, user, "")
}
