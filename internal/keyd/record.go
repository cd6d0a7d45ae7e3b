// Package keyd keeps private keys of TLS in one process and lets others sign with them: the server, and the client that a
// program of ours uses in the place of a key.
//
// They speak over a Unix stream socket, in records of fixed size, one answer for each question, in order. Numbers are big endian.
//
//	question, 300 octets                            answer, 1,032 octets
//	 0  4  "PKY1"                                    0  4  "PKY1"
//	 4  1  operation: 1 has, 2 sign, 3 tickets       4  1  0 done, 1 no such key, 2 not understood, 3 failed
//	 5  1  0                                         5  1  0
//	 6  2  scheme, to sign                           6  2  length of what follows
//	 8  2  length of the input                       8 1024 the signature, or keys of tickets (32 each)
//	10  2  0
//	12 32  key: SHA-256 of its SubjectPublicKeyInfo
//	44 256 input: to sign the digest, or for Ed25519 the text; for tickets the name of the service
//
// Schemes are those of RFC 8446 section 4.2.3 that a server of TLS 1.2 or 1.3 signs with, less SHA-1 and what Go does not
// have. There is no operation that decrypts, makes or returns a private key.
//
// Who may ask is told by the kernel (SO_PEERCRED), not by a secret. A process that may ask can have anything signed as long
// as it may: a digest does not say of what. What it cannot do is take the key away.
//
// Promises: whatever arrives, the memory for one connection is a few KiB. An input that is not understood ends the connection.
// The key that a file had before its last change is kept, for programs that have the certificate of then. Keys of tickets
// differ by user and service, and nothing of them is kept on disk.
package keyd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512 of the schemes
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	magic        = "PKY1"
	maxInput     = 256  // a text of TLS for Ed25519 has up to 201 octets: two randoms, and the parameters with a point of P-521
	maxOutput    = 1024 // the signature of an RSA key of 8,192 bits
	questionSize = 44 + maxInput
	answerSize   = 8 + maxOutput
)

// Operations.
const (
	opHas     = 1
	opSign    = 2
	opTickets = 3
)

// Outcomes.
const (
	done          = 0
	noKey         = 1
	notUnderstood = 2
	failed        = 3
)

// keyID is the SHA-256 of a public key's SubjectPublicKeyInfo.
type keyID [sha256.Size]byte

func idOf(pub crypto.PublicKey) (keyID, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return keyID{}, fmt.Errorf("keyd: %w", err)
	}
	return sha256.Sum256(der), nil
}

// usable says whether TLS 1.2 and 1.3 have a scheme for the key, and our records room for its signature.
func usable(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.Size() > maxOutput {
			return fmt.Errorf("an RSA key of %d bits (at most %d)", k.N.BitLen(), 8*maxOutput)
		}
		return nil
	case *ecdsa.PublicKey:
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a key of a kind that TLS does not use (%T)", pub)
}

// scheme is a code of RFC 8446 section 4.2.3. TLS 1.2 has the same codes as pairs of hash and algorithm (RFC 5246 section
// 7.4.1.4.1), which do not name a curve: ours name only the hash for ECDSA too.
type scheme uint16

const (
	pkcs1SHA256 scheme = 0x0401
	pkcs1SHA384 scheme = 0x0501
	pkcs1SHA512 scheme = 0x0601
	ecdsaSHA256 scheme = 0x0403
	ecdsaSHA384 scheme = 0x0503
	ecdsaSHA512 scheme = 0x0603
	pssSHA256   scheme = 0x0804
	pssSHA384   scheme = 0x0805
	pssSHA512   scheme = 0x0806
	pureEd25519 scheme = 0x0807
)

// hash is the hash of a scheme, 0 for Ed25519.
func (s scheme) hash() crypto.Hash {
	switch s {
	case pkcs1SHA256, ecdsaSHA256, pssSHA256:
		return crypto.SHA256
	case pkcs1SHA384, ecdsaSHA384, pssSHA384:
		return crypto.SHA384
	case pkcs1SHA512, ecdsaSHA512, pssSHA512:
		return crypto.SHA512
	}
	return 0
}

// opts is what a key's Sign wants to know, nil when the key is not of the scheme.
func (s scheme) opts(pub crypto.PublicKey) crypto.SignerOpts {
	switch pub.(type) {
	case *rsa.PublicKey:
		switch s {
		case pkcs1SHA256, pkcs1SHA384, pkcs1SHA512:
			return s.hash()
		case pssSHA256, pssSHA384, pssSHA512:
			// RFC 8446 section 4.2.3: the salt is as long as the digest.
			return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash()}
		}
	case *ecdsa.PublicKey:
		switch s {
		case ecdsaSHA256, ecdsaSHA384, ecdsaSHA512:
			return s.hash()
		}
	case ed25519.PublicKey:
		if s == pureEd25519 {
			return crypto.Hash(0)
		}
	}
	return nil
}

// schemeOf is the scheme that crypto/tls asks of a Signer by opts.
func schemeOf(pub crypto.PublicKey, opts crypto.SignerOpts) (scheme, error) {
	all := [...]scheme{ecdsaSHA256, ecdsaSHA384, ecdsaSHA512, pureEd25519, pkcs1SHA256, pkcs1SHA384, pkcs1SHA512}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		for _, s := range [...]scheme{pssSHA256, pssSHA384, pssSHA512} {
			full := pss.SaltLength == rsa.PSSSaltLengthEqualsHash || pss.SaltLength == s.hash().Size()
			if full && s.hash() == opts.HashFunc() && s.opts(pub) != nil {
				return s, nil
			}
		}
	} else {
		for _, s := range all {
			if s.hash() == opts.HashFunc() && s.opts(pub) != nil {
				return s, nil
			}
		}
	}
	return 0, fmt.Errorf("keyd: no scheme of TLS 1.2 or 1.3 signs %v with a %T", opts.HashFunc(), pub)
}

// question is one request.
type question struct {
	op     byte
	scheme scheme
	key    keyID
	input  []byte // at most maxInput
}

func (q *question) encode(b *[questionSize]byte) error {
	if len(q.input) > maxInput {
		return fmt.Errorf("keyd: %d octets of input (at most %d)", len(q.input), maxInput)
	}
	*b = [questionSize]byte{}
	copy(b[:], magic)
	b[4] = q.op
	binary.BigEndian.PutUint16(b[6:], uint16(q.scheme))
	binary.BigEndian.PutUint16(b[8:], uint16(len(q.input)))
	copy(b[12:], q.key[:])
	copy(b[44:], q.input)
	return nil
}

var errRecord = errors.New("not a record of keyd")

// decode keeps b.
func (q *question) decode(b *[questionSize]byte) error {
	n := int(binary.BigEndian.Uint16(b[8:]))
	if string(b[:4]) != magic || b[5] != 0 || b[10] != 0 || b[11] != 0 || n > maxInput {
		return errRecord
	}
	for _, c := range b[44+n:] {
		if c != 0 {
			return errRecord
		}
	}
	q.op = b[4]
	q.scheme = scheme(binary.BigEndian.Uint16(b[6:]))
	q.key = keyID(b[12:44])
	q.input = b[44 : 44+n]
	return nil
}

// answer is one reply.
type answer struct {
	outcome byte
	output  []byte // at most maxOutput
}

func (a *answer) encode(b *[answerSize]byte) {
	*b = [answerSize]byte{}
	copy(b[:], magic)
	b[4] = a.outcome
	binary.BigEndian.PutUint16(b[6:], uint16(copy(b[8:], a.output)))
}

// decode keeps b.
func (a *answer) decode(b *[answerSize]byte) error {
	n := int(binary.BigEndian.Uint16(b[6:]))
	if string(b[:4]) != magic || b[5] != 0 || n > maxOutput {
		return errRecord
	}
	a.outcome, a.output = b[4], b[8:8+n]
	return nil
}
