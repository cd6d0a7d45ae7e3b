// Package logintest is what the tests of servers with logins have in common: an authentication server with three users, and a certificate.
package logintest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"postamt/internal/login"
)

// Passwords are those of the users that Accounts knows.
var Passwords = map[string]string{"alice": "secret", "bob": " two  words ", "jürgen": "grün"}

// Accounts knows the users of Passwords, by PLAIN and LOGIN; the password of "expired" has expired, and of "down" nobody can tell.
type Accounts struct {
	mu   sync.Mutex
	last login.Request
}

func (*Accounts) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN", "LOGIN"} }

// Last is the last request.
func (a *Accounts) Last() login.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Authenticate is login.Server's.
func (a *Accounts) Authenticate(ctx context.Context, q login.Request, ask func([]byte) ([]byte, error)) (login.User, error) {
	a.mu.Lock()
	a.last = q
	a.mu.Unlock()
	var user, password string
	switch q.Mechanism {
	case "PLAIN":
		r := q.Initial
		if r == nil {
			var err error
			if r, err = ask(nil); err != nil {
				return login.User{}, err
			}
		}
		f := strings.Split(string(r), "\x00")
		if len(f) != 3 {
			return login.User{}, login.ErrMalformed
		}
		user, password = f[1], f[2]
	case "LOGIN":
		for i, challenge := range []string{"Username:", "Password:"} {
			r, err := ask([]byte(challenge))
			if err != nil {
				return login.User{}, err
			}
			*[]*string{&user, &password}[i] = string(r)
		}
	default:
		return login.User{}, login.ErrMechanism
	}
	switch p, ok := Passwords[strings.ToLower(user)]; {
	case user == "down":
		return login.User{}, errors.New("authd: connection refused")
	case user == "expired":
		return login.User{}, login.ErrExpired
	case ok && password == p:
		return login.User{Name: strings.ToLower(user)}, nil
	}
	return login.User{}, fmt.Errorf("%q: %w", user, login.ErrCredentials)
}

// Certificate is a configuration of TLS for a server of that name, with a certificate that nobody has signed.
func Certificate(name string) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
