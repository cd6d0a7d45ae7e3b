// Package tls tests TLS of the real programs: with strangers as clients, with clients that mean no good, with keys in
// keyd, and how fast it is. It is named for its subject; nothing imports it.
package tls

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/suite"
)

// authority signs certificates as a public one would.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // PEM
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	a := &authority{key: ecKey(t), file: filepath.Join(dir, "ca.pem")}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority", Organization: []string{"test"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes name.crt and name.key below dir, each in one step, for the names.
func (a *authority) issue(t testing.TB, dir, file string, k crypto.Signer, names ...string) {
	t.Helper()
	a.certificate(t, dir, file, k, names...)
	key(t, dir, file, k)
}

func (a *authority) certificate(t testing.TB, dir, file string, k crypto.Signer, names ...string) {
	t.Helper()
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CRLDistributionPoints: []string{"http://ca.example.test/crl"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, file+".crt"), "CERTIFICATE", der, a.cert.Raw)
}

func key(t testing.TB, dir, file string, k crypto.Signer) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, file+".key"), "PRIVATE KEY", der)
}

// write puts PEM blocks into a file in one step.
func write(t testing.TB, name, kind string, blocks ...[]byte) {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// system is a suite with certificates of an authority: mx.example.test with ECDSA and RSA, *.wild.test with ECDSA.
type system struct {
	*suite.System
	t           testing.TB
	dir         string
	ca          *authority
	submissions string // host:port
	pop3, pop3s string // of pop3d, which readers starts
	imap, imaps string // of imapd, likewise
}

func start(t testing.TB, withKeyd bool, settings string) *system {
	t.Helper()
	dir, err := os.MkdirTemp("", "pa-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &system{t: t, dir: dir, ca: newAuthority(t, dir)}
	s.ca.issue(t, dir, "ec", ecKey(t), "mx.example.test")
	s.ca.issue(t, dir, "rsa", rsaKey(t), "mx.example.test")
	s.ca.issue(t, dir, "wild", ecKey(t), "*.wild.test")
	var addrs [7]string
	for i := range addrs {
		if addrs[i], err = peers.FreeAddr(); err != nil {
			t.Fatal(err)
		}
	}
	s.submissions, s.pop3, s.pop3s, s.imap, s.imaps = addrs[2], addrs[3], addrs[4], addrs[5], addrs[6]
	if !strings.Contains(settings, "tls_keys ") {
		settings += "tls_keys " + map[bool]string{false: "self", true: "keyd"}[withKeyd] + "\n"
	}
	conf := fmt.Sprintf("smtpd_listen %s=mx %s=submission %s=submissions unix:smtpd.sock=local\n", addrs[0], addrs[1], addrs[2]) +
		fmt.Sprintf("pop3d_listen %s=pop3 %s=pop3s\npop3d_client_limit 0\nimapd_listen %s=imap %s=imaps\nimapd_client_limit 0\nstate_dir state\n", s.pop3, s.pop3s, s.imap, s.imaps) +
		"tls_cert ec.crt rsa.crt wild.crt\ntls_key ec.key rsa.key wild.key\nsmtpd_client_limit 0\n" + settings
	s.System = suite.Start(t, suite.Config{Dir: dir, Keyd: withKeyd, Settings: conf})
	s.Addr, s.Submit = addrs[0], addrs[1]
	return s
}

// readers starts authd, pop3d and imapd too.
func (s *system) readers() *system {
	s.t.Helper()
	for _, name := range []string{"authd", "pop3d", "imapd"} {
		if err := s.Launch(name); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() {
			if err := s.Terminate(name); err != nil {
				s.t.Error(err)
			}
			if s.t.Failed() {
				log := s.Log(name)
				s.t.Logf("log of %s:\n%s", name, log[max(0, len(log)-8<<10):])
			}
		})
	}
	return s
}

// need skips the test without the program.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(program + " is missing")
	}
}

// hear connects in clear and reads the greeting.
func hear(addr string) (net.Conn, *bufio.Reader, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	r := bufio.NewReader(nc)
	if _, err := reply(r); err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, r, nil
}

// dial speaks in clear up to the reply to EHLO.
func dial(addr string) (net.Conn, *bufio.Reader, error) {
	nc, r, err := hear(addr)
	if err != nil {
		return nil, nil, err
	}
	io.WriteString(nc, "EHLO client.test\r\n")
	if _, err := reply(r); err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, r, nil
}

// reply is the last line of a reply, and a line of POP3 or IMAP.
func reply(r *bufio.Reader) (string, error) {
	for {
		l, err := r.ReadString('\n')
		if err != nil || len(l) > 3 && l[3] == ' ' || strings.HasPrefix(l, "* OK ") {
			return l, err
		}
	}
}

// startTLS says STARTTLS and makes the handshake. The error is the reply when that is not 220.
func startTLS(addr string, conf *tls.Config) (*tls.Conn, error) {
	nc, r, err := dial(addr)
	if err != nil {
		return nil, err
	}
	io.WriteString(nc, "STARTTLS\r\n")
	l, err := reply(r)
	if err == nil && !strings.HasPrefix(l, "220 ") {
		err = fmt.Errorf("%s", strings.TrimSpace(l))
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := tls.Client(nc, conf)
	if err := c.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// stls is startTLS of POP3, after further commands in clear. The error is the response when that is not +OK.
func stls(addr string, conf *tls.Config, before ...string) (*tls.Conn, error) {
	nc, r, err := hear(addr)
	if err != nil {
		return nil, err
	}
	for _, command := range append(before, "STLS") {
		io.WriteString(nc, command+"\r\n")
		l, err := r.ReadString('\n')
		if err == nil && !strings.HasPrefix(l, "+OK") {
			err = fmt.Errorf("%s", strings.TrimSpace(l))
		}
		if err != nil {
			nc.Close()
			return nil, err
		}
	}
	c := tls.Client(nc, conf)
	if err := c.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// imapTLS is startTLS of IMAP. The error is the response when that is not OK.
func imapTLS(addr string, conf *tls.Config) (*tls.Conn, error) {
	nc, r, err := hear(addr)
	if err != nil {
		return nil, err
	}
	io.WriteString(nc, "a STARTTLS\r\n")
	l, err := r.ReadString('\n')
	if err == nil && !strings.HasPrefix(l, "a OK ") {
		err = fmt.Errorf("%s", strings.TrimSpace(l))
	}
	c := tls.Client(nc, conf)
	if err == nil {
		err = c.Handshake()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// client trusts the authority.
func (s *system) client(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	return &tls.Config{ServerName: name, RootCAs: pool}
}

// handshake makes one at once and hears the greeting.
func handshake(nc net.Conn, conf *tls.Config) error {
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	c := tls.Client(nc, conf)
	l, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(l, "220 ") && !strings.HasPrefix(l, "+OK ") && !strings.HasPrefix(l, "* OK ") {
		err = fmt.Errorf("%q", l)
	}
	return err
}
