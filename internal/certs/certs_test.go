package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newPEM makes a self-signed certificate for name and its key, as PEM.
func newPEM(t *testing.T, name string, from, to time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, k, name, from, to)
}

// pemOf is newPEM for a key that is there.
func pemOf(t *testing.T, k crypto.Signer, name string, from, to time.Time) (cert, key []byte) {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: from, NotAfter: to,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd})
}

func put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// certs is a set of pairs whose clock the test holds.
type certs struct {
	*Set
	t       *testing.T
	ring    Keyring
	dir     string
	clock   time.Time
	mu      sync.Mutex
	reports []string
}

func (c *certs) file(name string) string { return filepath.Join(c.dir, name) }

func (c *certs) load(names ...string) error {
	var cert, key []string
	for _, n := range names {
		cert, key = append(cert, c.file(n+".crt")), append(key, c.file(n+".key"))
	}
	var err error
	c.Set, err = Load(cert, key, c.ring, func(what string, err error) {
		c.mu.Lock()
		c.reports = append(c.reports, fmt.Sprintf("%s: %v", filepath.Base(what), err))
		c.mu.Unlock()
	})
	if err == nil {
		c.now = func() time.Time { return c.clock }
	}
	return err
}

// took returns what was reported since the last call.
func (c *certs) took() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.reports, "\n")
	c.reports = nil
	return s
}

// name does a handshake and returns the name in the server's certificate.
func (c *certs) name(sni string) string {
	c.t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	srv := tls.Server(b, c.Service("test", tls.VersionTLS12).Config())
	go func() {
		srv.Handshake()
		b.Close()
	}()
	cl := tls.Client(a, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
	if err := cl.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return cl.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// later makes the files look again, and lets a test write files of one size in one moment.
func (c *certs) later() { c.clock = c.clock.Add(2 * time.Second) }

func newCerts(t *testing.T) *certs {
	return &certs{t: t, dir: t.TempDir(), clock: time.Now()}
}

func TestT07_Renewal(t *testing.T) {
	c := newCerts(t)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	cert1, key1 := newPEM(t, "one.example", from, to)
	cert2, key2 := newPEM(t, "two.example", from, to)
	put(t, c.file("a.crt"), cert1)
	put(t, c.file("a.key"), key1)
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	if n := c.name(""); n != "one.example" {
		t.Fatal(n)
	}
	steps := []struct {
		what   string
		do     func()
		name   string
		report string
	}{
		{"nothing changed", func() {}, "one.example", ""},
		{"half a certificate", func() { put(t, c.file("a.crt"), cert2[:len(cert2)/2]) }, "one.example", "a.crt: certs: certificate"},
		{"still half: said once", func() {}, "one.example", ""},
		{"the new certificate, the old key", func() { put(t, c.file("a.crt"), cert2) }, "one.example", "private key does not match"},
		{"the certificate is gone for a moment", func() { os.Remove(c.file("a.crt")) }, "one.example", "no such file"},
		{"and back", func() { put(t, c.file("a.crt"), cert2) }, "one.example", "private key does not match"},
		{"a FIFO", func() { os.Remove(c.file("a.key")); syscall.Mkfifo(c.file("a.key"), 0o600) }, "one.example", "not a regular file"},
		{"the new key", func() { os.Remove(c.file("a.key")); put(t, c.file("a.key"), key2) }, "two.example", "a.crt: <nil>"},
		{"garbage of a megabyte", func() { put(t, c.file("a.key"), make([]byte, 2<<20)) }, "two.example", "more than"},
		{"replaced by rename", func() {
			put(t, c.file("x"), key1)
			os.Rename(c.file("x"), c.file("a.key"))
			put(t, c.file("x"), cert1)
			os.Rename(c.file("x"), c.file("a.crt"))
		}, "one.example", "a.crt: <nil>"},
	}
	for _, s := range steps {
		s.do()
		c.later()
		if n := c.name("mx.example"); n != s.name {
			t.Errorf("%s: %s", s.what, n)
		}
		if r := c.took(); !strings.Contains(r, s.report) || s.report == "" && r != "" {
			t.Errorf("%s: reported %q", s.what, r)
		}
	}
	// At most one look a second.
	put(t, c.file("a.crt"), []byte("garbage"))
	c.name("")
	if r := c.took(); r != "" {
		t.Errorf("looked again within the second: %q", r)
	}
	// The clock was put back: it is looked at again all the same.
	c.clock = c.clock.Add(-time.Hour * 24 * 365)
	c.name("")
	if r := c.took(); r == "" {
		t.Error("not looked at after the clock went back")
	}
}

func TestT07_Start(t *testing.T) {
	c := newCerts(t)
	now := time.Now()
	cert, key := newPEM(t, "one.example", now.Add(-time.Hour), now.Add(time.Hour))
	_, other := newPEM(t, "two.example", now.Add(-time.Hour), now.Add(time.Hour))
	put(t, c.file("good.crt"), cert)
	put(t, c.file("good.key"), key)
	put(t, c.file("mismatched.crt"), cert)
	put(t, c.file("mismatched.key"), other)
	put(t, c.file("garbage.crt"), []byte("garbage"))
	put(t, c.file("garbage.key"), key)
	put(t, c.file("half.crt"), cert)
	put(t, c.file("half.key"), key[:len(key)/2])
	put(t, c.file("nokey.crt"), cert)
	os.Mkdir(c.file("dir.crt"), 0o755)
	put(t, c.file("dir.key"), key)
	for name, want := range map[string]string{
		"missing": "missing.crt: no such file", "nokey": "nokey.key: no such file", "mismatched": "does not match",
		"garbage": "garbage.crt with key", "half": "half.key", "dir": "dir.crt: not a regular file",
	} {
		if err := c.load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// All at once, and each with its file.
	err := c.load("missing", "good", "mismatched")
	if err == nil || !strings.Contains(err.Error(), "missing.crt") || !strings.Contains(err.Error(), "mismatched.key") {
		t.Errorf("%v", err)
	}
	if _, err := Load([]string{"a"}, nil, nil, nil); err == nil {
		t.Error("a certificate without a key")
	}
}

// Out of its time: told, but used; a good one is not given up for it.
func TestT07_Expired(t *testing.T) {
	c := newCerts(t)
	now := time.Now()
	oldCert, oldKey := newPEM(t, "old.example", now.Add(-2*time.Hour), now.Add(-time.Hour))
	put(t, c.file("a.crt"), oldCert)
	put(t, c.file("a.key"), oldKey)
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	if r := c.took(); !strings.Contains(r, "a.crt: certificate has expired") {
		t.Errorf("reported %q", r)
	}
	if n := c.name(""); n != "old.example" {
		t.Error(n)
	}
	cert, key := newPEM(t, "new.example", now.Add(-time.Hour), now.Add(time.Hour))
	put(t, c.file("a.crt"), cert)
	put(t, c.file("a.key"), key)
	c.later()
	if n := c.name(""); n != "new.example" {
		t.Error(n)
	}
	c.took()
	put(t, c.file("a.crt"), oldCert)
	put(t, c.file("a.key"), oldKey)
	c.later()
	if n := c.name(""); n != "new.example" {
		t.Error(n)
	}
	if r := c.took(); !strings.Contains(r, "expired") {
		t.Errorf("reported %q", r)
	}
}

// Handshakes and renewals at once.
func TestCertificatesConcurrent(t *testing.T) {
	c := newCerts(t)
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	cert, key := newPEM(t, "one.example", from, to)
	put(t, c.file("a.crt"), cert)
	put(t, c.file("a.key"), key)
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.now = func() time.Time { return start.Add(time.Since(start) * 1000) }
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				put(t, c.file("a.key"), key)
				c.name("one.example")
			}
		})
	}
	wg.Wait()
}
