package login

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/suite"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _ = a.issue("ca", c)
	return a
}

// issue writes a certificate and its key. The first is the authority's own.
func (a *authority) issue(name string, c *x509.Certificate) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, k
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		a.key = k
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	return cert, key
}

// A certificate of an authority that is trusted for it logs its owner in, with curl and msmtp, on both ports; no other does, and whoever
// has another may log in with a password.
func TestACertificateLogsIn(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "ours")
	s := start(t, suite.Config{TLS: true, Auth: true, Settings: "tls_client_ca " + ours.file + "\nauth_mechanisms PLAIN EXTERNAL\n"})
	forClients := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	alice := func(c x509.Certificate) *x509.Certificate {
		c.EmailAddresses = []string{"alice@example.test"}
		if c.ExtKeyUsage == nil {
			c.ExtKeyUsage = forClients
		}
		return &c
	}
	cert, key := ours.issue("alice", alice(x509.Certificate{}))
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte("From: alice@example.test\nTo: bob@example.test\nSubject: x\n\ntext\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, p := range []program{
		{"msmtp STARTTLS", msmtp(submit, "external", "--tls-cert-file="+cert, "--tls-key-file="+key)},
		{"msmtp implicit TLS", msmtp(secure, "external", "--tls-starttls=off", "--tls-cert-file="+cert, "--tls-key-file="+key)},
		{"curl STARTTLS", curl("smtp", submit, "--ssl-reqd", "--cert", cert, "--key", key, "--login-options", "AUTH=EXTERNAL")},
		{"curl implicit TLS", curl("smtps", secure, "--cert", cert, "--key", key, "--login-options", "AUTH=EXTERNAL")},
	} {
		t.Run(p.name, func(t *testing.T) {
			if out, err := p.command(t, s, message, "").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			sent++
			if _, err := s.AwaitDelivered("bob", sent, limit); err != nil {
				t.Error(err)
			}
		})
	}
	if n := strings.Count(s.Log("smtpd"), " login=alice "); n < sent {
		t.Errorf("%d messages are alice's, of %d", n, sent)
	}
	byOther, otherKey := other.issue("alice", alice(x509.Certificate{}))
	expired, expiredKey := ours.issue("expired", alice(x509.Certificate{NotAfter: time.Now().Add(-time.Hour)}))
	server, serverKey := ours.issue("server", alice(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	for _, c := range []struct{ name, cert, key string }{{"none", "", ""}, {"of another authority", byOther, otherKey}, {"expired", expired, expiredKey},
		{"for servers", server, serverKey}} {
		t.Run(c.name, func(t *testing.T) {
			conf := &tls.Config{InsecureSkipVerify: true}
			if c.cert != "" {
				// Shown whatever the server asks for.
				conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					pair, err := tls.LoadX509KeyPair(c.cert, c.key)
					return &pair, err
				}
			}
			conn, err := tls.Dial("tcp", s.Secure, conf)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			talk := newClient(t, conn)
			if _, err := talk.reply(); err != nil {
				t.Fatal(err)
			}
			if r, _ := talk.say("EHLO client.test"); strings.Contains(r, "EXTERNAL") || !strings.Contains(r, "AUTH PLAIN") {
				t.Errorf("%s", r)
			}
			talk.want("5", "AUTH EXTERNAL =")
			talk.want("5", "AUTH EXTERNAL YWxpY2U=")
			talk.want("235", plain("alice", "alice"))
		})
	}
}

// So it is where mail is read.
func TestACertificateLogsInReaders(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "ours")
	var addrs [2]string
	for i := range addrs {
		var err error
		if addrs[i], err = peers.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, suite.Config{TLS: true, Auth: true, Settings: "tls_client_ca " + ours.file + "\nauth_mechanisms PLAIN EXTERNAL\npop3d_listen " + addrs[0] + "=pop3s\nimapd_listen " + addrs[1] + "=imaps\n"})
	for i, x := range []struct{ program, url, command string }{{"pop3d", "pop3s://", "LIST"}, {"imapd", "imaps://", `LIST "" INBOX`}} {
		t.Run(x.program, func(t *testing.T) {
			if err := s.Launch(x.program); err != nil {
				t.Fatal(err)
			}
			defer s.Terminate(x.program)
			for _, a := range []*authority{ours, other} {
				cert, key := a.issue("alice", &x509.Certificate{EmailAddresses: []string{"alice@example.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
				out, err := exec.Command(tool(t, "curl"), "-sS", "-k", "-m", "60", "--cert", cert, "--key", key, "--sasl-ir", "--login-options", "AUTH=EXTERNAL", "-X", x.command, x.url+addrs[i]).CombinedOutput()
				if (err == nil) != (a == ours) {
					t.Errorf("certificate of ours: %v, and %v\n%s", a == ours, err, out)
				}
			}
			logged(t, s, x.program, 2, " login=alice ")
			if log := logged(t, s, x.program, 1, ": disconnect "); strings.Count(log, ": connect ") != 2 || strings.Count(log, " login=alice ") != 2 || strings.Count(log, " mech=EXTERNAL") != 1 { // login, and the end
				t.Error(log)
			}
		})
	}
}
