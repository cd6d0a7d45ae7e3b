package oauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

var b64 = base64.RawURLEncoding.EncodeToString

// The issuer's keys, and those of somebody else.
var ours, strangers = sync.OnceValue(newRing), sync.OnceValue(newRing)

type ring struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newRing() ring {
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return ring{r, e, d}
}

// sign makes a token by hand.
func (r ring) sign(alg string, header, claims map[string]any) string {
	head := map[string]any{"alg": alg}
	for k, v := range header {
		head[k] = v
	}
	h, _ := json.Marshal(head)
	c, _ := json.Marshal(claims)
	text := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(text))
	var s []byte
	switch alg {
	case "RS256":
		s, _ = rsa.SignPKCS1v15(nil, r.rsa, crypto.SHA256, sum[:])
	case "ES256":
		a, b, _ := ecdsa.Sign(rand.Reader, r.ec, sum[:])
		s = append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		s = ed25519.Sign(r.ed, []byte(text))
	case "HS256":
		// The confusion: the public key, which everybody has, taken for a secret.
		m := hmac.New(sha256.New, []byte(r.pem()))
		m.Write([]byte(text))
		s = m.Sum(nil)
	}
	return text + "." + b64(s)
}

// pem is the public keys.
func (r ring) pem() string {
	var all []byte
	for _, public := range []any{&r.rsa.PublicKey, &r.ec.PublicKey, r.ed.Public()} {
		b, _ := x509.MarshalPKIXPublicKey(public)
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b})...)
	}
	return string(all)
}

// set is the public keys as a JWK set, with keys for other uses among them.
func (r ring) set() string {
	point, _ := r.ec.PublicKey.Bytes()
	b, _ := json.Marshal(map[string]any{"keys": []map[string]any{
		{"kty": "oct", "k": b64([]byte("a secret that has no business here")), "alg": "HS256", "kid": "0"},
		{"kty": "RSA", "use": "enc", "kid": "1", "n": b64(strangers().rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "RSA", "use": "sig", "kid": "1", "alg": "RS256", "n": b64(r.rsa.N.Bytes()), "e": "AQAB", "key_ops": []string{"verify"}},
		{"kty": "EC", "crv": "P-256", "kid": "2", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "crv": "Ed25519", "kid": "3", "x": b64(r.ed.Public().(ed25519.PublicKey))},
		{"kty": "future"},
	}})
	return string(b)
}

// good are the claims of a token that is right in all, with changes; nil takes one away.
func good(changes map[string]any) map[string]any {
	c := map[string]any{"iss": "https://issuer.test", "aud": "mail", "sub": "4711", "email": "alice@example.test",
		"exp": now.Add(time.Hour).Unix(), "nbf": now.Add(-time.Hour).Unix()}
	for k, v := range changes {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func put(t testing.TB, path, text string) {
	t.Helper()
	fileTime = fileTime.Add(time.Second)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, fileTime, fileTime)); err != nil {
		t.Fatal(err)
	}
}

var fileTime = time.Now().Add(-time.Hour)

func verifier(t testing.TB, keys string, change func(*Options)) (*Verifier, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	put(t, path, keys)
	o := Options{Keys: path, Issuer: "https://issuer.test", Audience: "mail", Claim: "email", Timeout: 10 * time.Second,
		Now: func() time.Time { return now }, Report: func(error) {}}
	if change != nil {
		change(&o)
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v, path
}

// outcome is a user, "no", or "later".
func outcome(v *Verifier, token string) string {
	user, err := v.User(context.Background(), token)
	switch {
	case err == nil:
		return user
	case errors.Is(err, ErrToken):
		return "no"
	}
	return "later"
}

func TestSignedTokens(t *testing.T) {
	r := ours()
	for kind, keys := range map[string]string{"PEM": r.pem(), "JWK": r.set()} {
		v, _ := verifier(t, keys, nil)
		for i, alg := range []string{"RS256", "ES256", "EdDSA"} {
			token := r.sign(alg, nil, good(nil))
			if got := outcome(v, token); got != "alice@example.test" {
				_, err := v.User(context.Background(), token)
				t.Errorf("%s %s: %v", kind, alg, err)
			}
			if got := outcome(v, r.sign(alg, map[string]any{"kid": fmt.Sprint(i + 1), "typ": "at+jwt"}, good(nil))); got != "alice@example.test" {
				t.Errorf("%s %s with kid: %s", kind, alg, got)
			}
			if got := outcome(v, r.sign(alg, map[string]any{"kid": "another"}, good(nil))); kind == "JWK" && got != "no" {
				t.Errorf("%s with an unknown kid: %s", alg, got)
			}
			if got := outcome(v, strangers().sign(alg, nil, good(nil))); got != "no" {
				t.Errorf("%s %s by a stranger: %s", kind, alg, got)
			}
			// Any octet that is changed, and a signature that is cut or gone.
			for i := range token {
				forged := []byte(token)
				forged[i] ^= 1
				if got := outcome(v, string(forged)); got != "no" && got != "later" {
					t.Fatalf("%s: changed at %d: %s", alg, i, got)
				}
			}
			text, _, _ := strings.Cut(token[strings.IndexByte(token, '.')+1:], ".")
			head, _, _ := strings.Cut(token, ".")
			for _, forged := range []string{head + "." + text + ".", head + "." + text, token[:len(token)-4], token + "." + text, token + "="} {
				if got := outcome(v, forged); got != "no" {
					t.Errorf("%s: %s", alg, got)
				}
			}
		}
	}
}

func TestTokensThatLie(t *testing.T) {
	r := ours()
	v, _ := verifier(t, r.pem(), nil)
	unsigned := func(alg string) string {
		h, _ := json.Marshal(map[string]any{"alg": alg})
		c, _ := json.Marshal(good(nil))
		return b64(h) + "." + b64(c) + "."
	}
	right := r.sign("RS256", nil, good(nil))
	for name, token := range map[string]string{
		"none": unsigned("none"), "None": unsigned("None"), "no alg": unsigned(""),
		"HMAC with the public key": r.sign("HS256", nil, good(nil)),
		"PS256 by name":            strings.Replace(right, b64([]byte(`{"alg":"RS256"}`)), b64([]byte(`{"alg":"PS256"}`)), 1),
		"rs256":                    strings.Replace(right, b64([]byte(`{"alg":"RS256"}`)), b64([]byte(`{"alg":"rs256"}`)), 1),
		"crit":                     r.sign("RS256", map[string]any{"crit": []string{"exp"}}, good(nil)),
		"its own key":              strangers().sign("RS256", map[string]any{"jwk": map[string]any{"kty": "RSA", "n": b64(strangers().rsa.N.Bytes()), "e": "AQAB"}}, good(nil)),
		"expired":                  r.sign("RS256", nil, good(map[string]any{"exp": now.Add(-2 * time.Minute).Unix()})),
		"no end":                   r.sign("RS256", nil, good(map[string]any{"exp": nil})),
		"an end that is no number": r.sign("RS256", nil, good(map[string]any{"exp": "2099"})),
		"an end beyond all time":   r.sign("RS256", nil, good(map[string]any{"exp": 1e300})),
		"Exp":                      r.sign("RS256", nil, good(map[string]any{"exp": nil, "Exp": now.Add(time.Hour).Unix()})),
		"not yet":                  r.sign("RS256", nil, good(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()})),
		"another issuer":           r.sign("RS256", nil, good(map[string]any{"iss": "https://issuer.test.evil"})),
		"no issuer":                r.sign("RS256", nil, good(map[string]any{"iss": nil})),
		"another audience":         r.sign("RS256", nil, good(map[string]any{"aud": []string{"shop", "mails"}})),
		"no audience":              r.sign("RS256", nil, good(map[string]any{"aud": nil})),
		"no user":                  r.sign("RS256", nil, good(map[string]any{"email": nil})),
		"an empty user":            r.sign("RS256", nil, good(map[string]any{"email": ""})),
		"a user that is a list":    r.sign("RS256", nil, good(map[string]any{"email": []string{"alice@example.test"}})),
		"an unverified address":    r.sign("RS256", nil, good(map[string]any{"email_verified": false})),
		"dots":                     "..", "opaque": "0123456789abcdef",
	} {
		if got := outcome(v, token); got != "no" {
			t.Errorf("%s: %s", name, got)
		}
		if _, err := v.User(context.Background(), token); err != nil && strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: the error shows a claim: %v", name, err)
		}
	}
	for name, claims := range map[string]map[string]any{
		"a list of audiences": good(map[string]any{"aud": []string{"shop", "mail"}}),
		"within the skew":     good(map[string]any{"exp": now.Add(-30 * time.Second).Unix(), "nbf": now.Add(30 * time.Second).Unix()}),
		"no nbf":              good(map[string]any{"nbf": nil}),
		"fractions":           good(map[string]any{"exp": float64(now.Unix()) + 100.5}),
		"verified":            good(map[string]any{"email_verified": true}),
	} {
		if got := outcome(v, r.sign("ES256", nil, claims)); got != "alice@example.test" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The file is read again when it changes; one that cannot be used leaves the old keys in force.
func TestKeysAreReplaced(t *testing.T) {
	v, path := verifier(t, ours().pem(), nil)
	old, fresh := ours().sign("ES256", nil, good(nil)), strangers().sign("ES256", nil, good(nil))
	put(t, path, "garbage")
	if outcome(v, old) != "alice@example.test" {
		t.Error("garbage took the old keys away")
	}
	put(t, path, strangers().set())
	if outcome(v, old) != "no" || outcome(v, fresh) != "alice@example.test" {
		t.Error("the new keys are not in force")
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	r := ours()
	private, _ := x509.MarshalPKCS8PrivateKey(r.ec)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err)
	}
	weak, _ := x509.MarshalPKIXPublicKey(&short.PublicKey)
	other, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384, _ := x509.MarshalPKIXPublicKey(&other.PublicKey)
	for name, text := range map[string]string{
		"nothing": "", "an empty set": `{"keys":[]}`, "no set": `{"keys":{}}`, "only oct": `{"keys":[{"kty":"oct","k":"AAAA"}]}`,
		"a private key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"RSA of 1024":   string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: weak})),
		"P-384":         string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p384})),
		"no point":      `{"keys":[{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}]}`,
	} {
		path := filepath.Join(t.TempDir(), "keys")
		put(t, path, text)
		if _, err := New(Options{Keys: path, Issuer: "i", Audience: "a", Claim: "sub"}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	put(t, keys, ours().pem())
	for _, o := range []Options{
		{Claim: "sub"},
		{Keys: keys, Claim: "sub", Issuer: "i"},
		{Keys: keys, Claim: "sub", Audience: "a"},
		{Keys: keys, Issuer: "i", Audience: "a"},
		{Introspection: "http://issuer.test/", Claim: "sub"},
		{Introspection: "https://user:secret@issuer.test/", Claim: "sub"},
		{Introspection: "issuer.test", Claim: "sub"},
		{Introspection: "https://issuer.test/", Claim: "sub", Credentials: "/nonexistent"},
	} {
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	v, _ := verifier(f, ours().set(), nil)
	for _, alg := range []string{"RS256", "ES256", "EdDSA", "HS256"} {
		f.Add(strangers().sign(alg, nil, good(nil)))
	}
	f.Fuzz(func(t *testing.T, token string) {
		if user, err := v.User(context.Background(), token); err == nil {
			t.Errorf("%s by %q", user, token)
		}
	})
}
