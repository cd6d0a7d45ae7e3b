package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// maxKeys bounds the file of keys, in octets.
const maxKeys = 1 << 20

// minRSA is the least length of an RSA key, in bits (RFC 7518 section 3.3).
const minRSA = 2048

// key is a key of the issuer's, and the one algorithm that it is for.
type key struct {
	id  string // "" if the file does not say
	alg string
	key crypto.PublicKey
}

// newKey says what a public key is for.
func newKey(id string, public crypto.PublicKey) (key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA || k.N.BitLen() > 16384 || k.E < 3 {
			return key{}, fmt.Errorf("an RSA key of %d bits", k.N.BitLen())
		}
		return key{id, "RS256", k}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return key{}, errors.New("an elliptic curve other than P-256")
		}
		return key{id, "ES256", k}, nil
	case ed25519.PublicKey:
		return key{id, "EdDSA", k}, nil
	}
	return key{}, errors.New("a kind of key that is not known here")
}

// signed says whether the signature is of this key.
func (k key) signed(text string, signature []byte) bool {
	switch p := k.key.(type) {
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(text))
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		if len(signature) != 64 { // RFC 7518 section 3.4: R and S, 32 octets each
			return false
		}
		sum := sha256.Sum256([]byte(text))
		return ecdsa.Verify(p, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case ed25519.PublicKey:
		return ed25519.Verify(p, []byte(text), signature)
	}
	return false
}

var strict = base64.RawURLEncoding.Strict()

// verify reads a JWT in compact form (RFC 7515 section 3.1).
func (v *Verifier) verify(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, bad("not of three parts")
	}
	header, err := object(parts[0])
	if err != nil {
		return nil, bad("header: %v", err)
	}
	signature, err := strict.DecodeString(parts[2])
	if err != nil {
		return nil, bad("the signature is not base64url")
	}
	if _, given := header["crit"]; given { // RFC 7515 section 4.1.11
		return nil, bad("it has extensions that must be understood")
	}
	alg, _ := header.text("alg")
	kid, _ := header.text("kid")
	keys, err := v.keys.Get()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.alg != alg || kid != "" && k.id != "" && k.id != kid || !k.signed(parts[0]+"."+parts[1], signature) {
			continue
		}
		c, err := object(parts[1])
		if err != nil {
			return nil, bad("claims: %v", err)
		}
		_, err = v.check(c, true)
		return c, err
	}
	return nil, bad("signed by none of the keys")
}

// object is a JSON object in base64url.
func object(part string) (claims, error) {
	b, err := strict.DecodeString(part)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	var c claims
	if json.Unmarshal(b, &c) != nil || c == nil { // its error would show what is there
		return nil, errors.New("not a JSON object")
	}
	return c, nil
}

// parseKeys reads PEM or a JWK set. Keys in a set that are not for us are left out, as RFC 7517 section 5 wants it.
func parseKeys(file, text string) ([]key, error) {
	var keys []key
	var err error
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		keys, err = parseSet(text)
	} else {
		keys, err = parsePEM(text)
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("no key in it that could verify a token")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

func parsePEM(text string) ([]key, error) {
	var keys []key
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return keys, nil
		}
		var public crypto.PublicKey
		var err error
		switch b.Type {
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(b.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(b.Bytes)
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(b.Bytes); err == nil {
				public = c.PublicKey
			}
		default:
			err = errors.New("neither a public key nor a certificate")
		}
		if err != nil {
			return nil, err
		}
		k, err := newKey("", public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
}

// jwk is a key of a set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
type jwk struct {
	Kty, Use, Alg, Kid, Crv, N, E, X, Y string
}

func parseSet(text string) ([]key, error) {
	var set struct{ Keys []jwk }
	if json.Unmarshal([]byte(text), &set) != nil {
		return nil, errors.New("not a JWK set")
	}
	var keys []key
	for _, j := range set.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		public := j.public()
		if public == nil {
			continue
		}
		if k, err := newKey(j.Kid, public); err == nil && (j.Alg == "" || j.Alg == k.alg) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// public is nil for a key that is not known here.
func (j *jwk) public() crypto.PublicKey {
	number := func(s string) *big.Int {
		b, _ := strict.DecodeString(s)
		return new(big.Int).SetBytes(b)
	}
	switch {
	case j.Kty == "RSA":
		if e := number(j.E); e.IsInt64() && e.Int64() < 1<<31 {
			return &rsa.PublicKey{N: number(j.N), E: int(e.Int64())}
		}
	case j.Kty == "EC" && j.Crv == "P-256":
		x, errX := strict.DecodeString(j.X)
		y, errY := strict.DecodeString(j.Y)
		if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
			return nil
		}
		if k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...)); err == nil {
			return k
		}
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		if x, err := strict.DecodeString(j.X); err == nil && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}
