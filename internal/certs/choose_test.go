package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

// add writes a pair with a key of the kind for a name.
func (c *certs) add(file, kind, name string) {
	c.t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "rsa":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	cert, key := pemOf(c.t, k, name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	put(c.t, c.file(file+".crt"), cert)
	put(c.t, c.file(file+".key"), key)
}

// meet makes a handshake of conf with v, and reads a byte so that the client sees its ticket.
func meet(v *Service, conf *tls.Config) (tls.ConnectionState, error) {
	// Not net.Pipe: it holds nothing, and in a resumption both sides write at once.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		return tls.ConnectionState{}, err
	}
	go func() {
		srv := tls.Server(b, v.Config())
		if srv.Handshake() == nil {
			srv.Write([]byte("x"))
		}
		b.Close()
	}()
	conf.InsecureSkipVerify = true
	cl := tls.Client(a, conf)
	if err := cl.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = cl.Read(make([]byte, 1))
	return cl.ConnectionState(), err
}

// T05: the name that a client says chooses among the names in the certificates, and does nothing else.
func TestT05_Names(t *testing.T) {
	c := newCerts(t)
	c.add("one", "ecdsa", "one.example")
	c.add("wild", "ecdsa", "*.wild.example")
	c.add("exact", "ecdsa", "exact.wild.example")
	if err := c.load("one", "wild", "exact"); err != nil {
		t.Fatal(err)
	}
	for sni, want := range map[string]string{
		"": "one.example", "one.example": "one.example", "ONE.Example": "one.example",
		"a.wild.example": "*.wild.example", "exact.wild.example": "exact.wild.example", "wild.example": "one.example",
		"a.b.wild.example": "one.example", "three.example": "one.example", "*.wild.example": "*.wild.example",
		"../one.crt": "one.example", "../../../../etc/passwd": "one.example", "a\x00.wild.example": "*.wild.example",
		strings.Repeat("a.", 30000) + "example": "one.example", ".": "one.example", "..": "one.example", "[::1]": "one.example",
	} {
		got := c.current.Load().choose(&tls.ClientHelloInfo{ServerName: sni, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}).Leaf.DNSNames[0]
		if got != want {
			t.Errorf("for %.40q: %s, want %s", sni, got, want)
		}
	}
	for _, sni := range []string{"one.example", "a.wild.example", "../x", "three.example"} {
		if got, want := c.name(sni), c.current.Load().choose(&tls.ClientHelloInfo{ServerName: sni, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}).Leaf.DNSNames[0]; got != want {
			t.Errorf("for %q in a handshake: %s, want %s", sni, got, want)
		}
	}
}

// ECDSA and RSA at once: the client's algorithms decide, and for any name.
func TestAlgorithms(t *testing.T) {
	c := newCerts(t)
	c.add("ec", "ecdsa", "mx.example")
	c.add("rsa", "rsa", "mx.example")
	c.add("other", "ed25519", "other.example")
	if err := c.load("ec", "rsa", "other"); err != nil {
		t.Fatal(err)
	}
	v := c.Service("test", tls.VersionTLS12)
	for what, x := range map[string]struct {
		conf *tls.Config
		want any
	}{
		"TLS 1.3": {&tls.Config{ServerName: "mx.example"}, &ecdsa.PublicKey{}},
		"TLS 1.2, RSA only": {&tls.Config{ServerName: "mx.example", MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, &rsa.PublicKey{}},
		"TLS 1.2, RSA only, no name": {&tls.Config{MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, &rsa.PublicKey{}},
		"TLS 1.2, RSA only, unknown name": {&tls.Config{ServerName: "x.example", MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, &rsa.PublicKey{}},
		"Ed25519": {&tls.Config{ServerName: "other.example"}, ed25519.PublicKey{}},
	} {
		s, err := meet(v, x.conf)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		ok := false
		switch x.want.(type) {
		case *ecdsa.PublicKey:
			_, ok = s.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
		case *rsa.PublicKey:
			_, ok = s.PeerCertificates[0].PublicKey.(*rsa.PublicKey)
		case ed25519.PublicKey:
			_, ok = s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
		}
		if !ok {
			t.Errorf("%s: %T", what, s.PeerCertificates[0].PublicKey)
		}
	}
}

// T05: no_application_protocol for who speaks another protocol (ALPACA), service for who says nothing.
func TestT05_ALPN(t *testing.T) {
	c := newCerts(t)
	c.add("a", "ecdsa", "mx.example")
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	v := c.Service("smtpd.mx", tls.VersionTLS12, "smtp", "esmtp")
	for _, x := range []struct {
		offer []string
		got   string
		err   bool
	}{{nil, "", false}, {[]string{"smtp"}, "smtp", false}, {[]string{"h2", "esmtp"}, "esmtp", false}, {[]string{"http/1.1"}, "", true}, {[]string{"h2", "imap"}, "", true}} {
		for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s, err := meet(v, &tls.Config{NextProtos: x.offer, MaxVersion: max})
			if x.err != (err != nil) || s.NegotiatedProtocol != x.got || x.err && !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("%v: %q %v", x.offer, s.NegotiatedProtocol, err)
			}
		}
	}
	if _, err := meet(c.Service("x", tls.VersionTLS12), &tls.Config{NextProtos: []string{"http/1.1"}}); err != nil {
		t.Errorf("a service without a name: %v", err)
	}
}

// resumes says whether a ticket of one service is good at another.
func resumes(t *testing.T, from, to *Service) bool {
	t.Helper()
	for _, v := range []*Service{from, to} {
		if err := v.Begin(); err != nil {
			t.Fatal(err)
		}
	}
	var all []bool
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf := &tls.Config{ServerName: "mx.example", MaxVersion: max, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		if s, err := meet(from, conf); err != nil || s.DidResume {
			t.Fatal(s.DidResume, err)
		}
		s, err := meet(to, conf)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s.DidResume)
	}
	if all[0] != all[1] {
		t.Errorf("TLS 1.2: %v, TLS 1.3: %v", all[0], all[1])
	}
	return all[0]
}

// A ticket is good where it was made, and at no other service.
func TestTickets(t *testing.T) {
	c := newCerts(t)
	c.add("a", "ecdsa", "mx.example")
	if err := c.load("a"); err != nil {
		t.Fatal(err)
	}
	submission, imap := c.Service("smtpd.submission", tls.VersionTLS12), c.Service("imapd", tls.VersionTLS12)
	if !resumes(t, submission, submission) {
		t.Error("a ticket is not good where it was made")
	}
	if resumes(t, submission, imap) {
		t.Error("a ticket of submission is good at imapd")
	}
}
