package remote

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
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
)

// certificate makes a self-signed one.
func certificate(t testing.TB, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// R14, R16: STARTTLS in every condition, and what each policy makes of it. T10: what a server sends before TLS is not read after it.
func TestR14_STARTTLS(t *testing.T) {
	good := certificate(t, "mx.test", time.Now().Add(time.Hour))
	conf := func(c tls.Certificate, more ...func(*tls.Config)) *tls.Config {
		conf := &tls.Config{Certificates: []tls.Certificate{c}}
		for _, f := range more {
			f(conf)
		}
		return conf
	}
	starttls := func(reply string) func(int, string, string) string {
		return func(_ int, verb, _ string) string {
			if verb == "STARTTLS" {
				return reply
			}
			return ""
		}
	}
	offer := []string{"PIPELINING", "STARTTLS"}
	for _, c := range []struct {
		name  string
		c     smtptest.Config
		may   string // "tls", "clear"
		conns int    // with mode may
		code  string // with mode encrypt; "" is success
	}{
		{"good", smtptest.Config{Offer: offer, TLS: conf(good)}, "tls", 1, ""},
		{"expired", smtptest.Config{Offer: offer, TLS: conf(certificate(t, "mx.test", time.Now().Add(-time.Hour)))}, "tls", 1, ""},
		{"wrong name", smtptest.Config{Offer: offer, TLS: conf(certificate(t, "other.test", time.Now().Add(time.Hour)))}, "tls", 1, ""},
		{"TLS 1.2", smtptest.Config{Offer: offer, TLS: conf(good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })}, "tls", 1, ""},
		{"TLS 1.0 only", smtptest.Config{Offer: offer, TLS: conf(good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 })}, "clear", 2, "4.7.5"},
		{"wants a certificate", smtptest.Config{Offer: offer, TLS: conf(good, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })}, "clear", 2, "4.4.2"},
		{"454", smtptest.Config{Offer: offer, Reply: starttls("454 4.7.0 not now")}, "clear", 2, "4.7.4"},
		{"502", smtptest.Config{Offer: offer}, "clear", 2, "4.7.4"},
		{"junk reply", smtptest.Config{Offer: offer, Reply: starttls("what")}, "clear", 2, "4.5.0"},
		{"closes", smtptest.Config{Offer: offer, Reply: starttls(smtptest.Close)}, "clear", 2, "4.4.2"},
		{"injection", smtptest.Config{Offer: offer, TLS: conf(good), Reply: starttls("220 go on\r\n250 injected\r\n")}, "clear", 2, "4.7.5"},
		{"garbage", smtptest.Config{Offer: offer, TLSRaw: func(nc net.Conn) { io.WriteString(nc, "garbage garbage garbage\r\n") }}, "clear", 2, "4.7.5"},
		{"silence", smtptest.Config{Offer: offer, TLSRaw: func(nc net.Conn) { io.Copy(io.Discard, nc) }}, "clear", 2, "4.7.5"},
		{"not offered", smtptest.Config{Offer: []string{"PIPELINING"}, TLS: conf(good)}, "clear", 1, "4.7.4"}, // R16
	} {
		for _, mode := range []TLSMode{TLSMay, TLSNo, TLSEncrypt} {
			t.Run(fmt.Sprint(c.name, mode), func(t *testing.T) {
				o := options(func(o *Options) { o.TLS = mode; o.Timeouts.TLS = 200 * time.Millisecond })
				s := smtptest.New(t, c.c)
				conn, err := Dial(context.Background(), endpoint(s, c.c), o)
				if mode == TLSEncrypt && c.code != "" {
					e, ok := errors.AsType[*Error](err)
					if !ok || !e.Reply.Temporary() || e.Reply.Enhanced.String() != c.code || s.Conns() != 1 {
						t.Fatal(err, s.Conns())
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				out, err := conn.Send(context.Background(), text(hello, "a@x.test"))
				if err != nil || show(out) != "done/data/250" {
					t.Fatal(show(out), err)
				}
				want, conns := c.may, c.conns
				if mode == TLSNo {
					want, conns = "clear", 1
				}
				if s.Messages()[0].TLS != (want == "tls") || s.Conns() != conns {
					t.Errorf("TLS %v, %d connections", s.Messages()[0].TLS, s.Conns())
				}
				if (want == "tls") != strings.HasSuffix(conn.TLS(), ":unverified") || out[0].TLS != conn.TLS() || (conn.TLSError() != nil) != (conns == 2) {
					t.Errorf("TLS %q, error %v", conn.TLS(), conn.TLSError())
				}
				if conns == 2 && strings.Contains(strings.Join(s.Commands(), "|"), "2 STARTTLS") {
					t.Error("STARTTLS on the connection in clear")
				}
			})
		}
	}
}

// What was offered in clear is forgotten (T02).
func TestTLSForgets(t *testing.T) {
	cert := certificate(t, "mx.test", time.Now().Add(time.Hour))
	n := 0
	cfg := smtptest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Reply: func(_ int, verb, _ string) string {
		if verb == "EHLO" {
			if n++; n == 1 {
				return "250-x\r\n250-STARTTLS\r\n250-DSN\r\n250 SIZE 5\r\n"
			}
			return "250-x\r\n250 8BITMIME\r\n"
		}
		return ""
	}}
	out, s, err := once(t, cfg, options(), text(hello, "a@x.test"))
	if err != nil || show(out) != "done/data/250" || out[0].DSN || !s.Messages()[0].TLS {
		t.Fatal(show(out), err)
	}
}
