package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// keyring is a Keyring whose answers a test holds.
type keyring struct {
	keys map[string]crypto.Signer // by public key
	down error
	salt string // of the keys of tickets
}

func (k *keyring) Signer(pub crypto.PublicKey) (crypto.Signer, error) { return &elsewhere{k, pub}, nil }

func (k *keyring) Has(pub crypto.PublicKey) error {
	switch {
	case k.down != nil:
		return k.down
	case k.keys[bytesOf(pub)] == nil:
		return ErrNoKey
	}
	return nil
}

func (k *keyring) Tickets(service string) ([][32]byte, error) {
	return [][32]byte{sha256.Sum256([]byte(k.salt + service))}, k.down
}

func bytesOf(pub crypto.PublicKey) string {
	b, _ := pub.(*ecdsa.PublicKey).Bytes()
	return string(b)
}

// hold takes over the key of a file, which is then gone.
func (k *keyring) hold(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(text)
	x, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s := x.(crypto.Signer)
	k.keys[bytesOf(s.Public())] = s
	os.Remove(name)
}

type elsewhere struct {
	ring *keyring
	pub  crypto.PublicKey
}

func (e *elsewhere) Public() crypto.PublicKey { return e.pub }

func (e *elsewhere) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := e.ring.Has(e.pub); err != nil {
		return nil, err
	}
	return e.ring.keys[bytesOf(e.pub)].Sign(r, digest, opts)
}

// T07: the key is in another process, which learns of a renewal before or after we do.
func TestT07_KeysElsewhere(t *testing.T) {
	c := newCerts(t)
	ring := &keyring{keys: map[string]crypto.Signer{}}
	c.ring = ring
	c.add("a", "ecdsa", "one.example")
	if err := c.load("a"); err == nil || !strings.Contains(err.Error(), "a.crt: no key") {
		t.Fatalf("a certificate whose key nobody has: %v", err)
	}
	ring.hold(t, c.file("a.key"))
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	c.took()
	if n := c.name(""); n != "one.example" {
		t.Fatal(n)
	}
	// The certificate first, the key later.
	c.add("a", "ecdsa", "two.example")
	for i, want := range []string{"a.crt: certs: certificate", "", ""} {
		c.later()
		if n := c.name(""); n != "one.example" {
			t.Errorf("without its key: %s", n)
		}
		if r := c.took(); !strings.Contains(r, want) || want == "" && r != "" {
			t.Errorf("look %d: reported %q", i, r)
		}
	}
	ring.hold(t, c.file("a.key"))
	c.later()
	if n := c.name(""); n != "two.example" {
		t.Errorf("with its key: %s", n)
	}
	if r := c.took(); r != "a.crt: <nil>" {
		t.Errorf("reported %q", r)
	}
	// The keys cannot be had: the handshake fails, the certificates stay as they are.
	ring.down = errors.New("keyd is gone")
	c.add("a", "ecdsa", "three.example")
	c.later()
	v := c.Service("test", tls.VersionTLS12)
	if err := v.Begin(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("%v", err)
	}
	if _, err := meet(v, &tls.Config{}); err == nil {
		t.Error("a handshake without a key")
	}
	if r := c.took(); !strings.Contains(r, "gone") {
		t.Errorf("reported %q", r)
	}
	ring.down = nil
	if n := c.name(""); n != "two.example" {
		t.Errorf("back again: %s", n)
	}
	ring.hold(t, c.file("a.key"))
	c.later()
	if n := c.name(""); n != "three.example" {
		t.Errorf("back again, later: %s", n)
	}
}

// A start while keys cannot be had is a start; as soon as they can be had, all is well.
func TestStartWithoutKeyring(t *testing.T) {
	c := newCerts(t)
	ring := &keyring{keys: map[string]crypto.Signer{}, down: errors.New("keyd is gone")}
	c.ring = ring
	c.add("a", "ecdsa", "one.example")
	ring.hold(t, c.file("a.key"))
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	if r := c.took(); !strings.Contains(r, "gone") {
		t.Errorf("reported %q", r)
	}
	v := c.Service("test", tls.VersionTLS12)
	if v.Begin() == nil {
		t.Error("ready without a key")
	}
	ring.down = nil
	c.later()
	if err := v.Begin(); err != nil {
		t.Error(err)
	}
	if n := c.name(""); n != "one.example" {
		t.Error(n)
	}
}

// With a Keyring tickets are good in every process of a service, and in no other service.
func TestTicketsElsewhere(t *testing.T) {
	ring := &keyring{keys: map[string]crypto.Signer{}, salt: "1"}
	a, b := newCerts(t), newCerts(t)
	a.add("a", "ecdsa", "mx.example")
	cert, err := os.ReadFile(a.file("a.crt"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, b.file("a.crt"), cert)
	ring.hold(t, a.file("a.key"))
	a.ring, b.ring = ring, ring
	for _, c := range []*certs{a, b} {
		if err := c.load("a"); err != nil {
			t.Fatal(err)
		}
	}
	mine, other, imap := a.Service("smtpd.mx", tls.VersionTLS12), b.Service("smtpd.mx", tls.VersionTLS12), b.Service("imapd", tls.VersionTLS12)
	if !resumes(t, mine, other) {
		t.Error("a ticket is not good in another process of the service")
	}
	if resumes(t, mine, imap) {
		t.Error("a ticket of smtpd.mx is good at imapd")
	}
	// Keys are asked for again after a time.
	ring.salt = "2"
	b.clock = b.clock.Add(ticketsEvery / 2)
	if !resumes(t, mine, other) {
		t.Error("asked again too early")
	}
	b.clock = b.clock.Add(ticketsEvery)
	if resumes(t, mine, other) {
		t.Error("new keys are not taken")
	}
}
