package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
)

// Authorities reads PEM files with the certificates of those who vouch for clients; nil: there are no files.
func Authorities(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, name := range files {
		text, err := ReadFile(name)
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		n := 0
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("certificate %d: %w", n+1, err)}
			}
			pool.AddCert(c)
			n++
		}
		if n == 0 {
			return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("no certificate in it")}
		}
	}
	return pool, nil
}

// Ask has the clients of a service asked for certificates, if there is an authority that could have issued them.
func (v *Service) Ask(pool *x509.CertPool) {
	if pool != nil {
		v.conf.ClientAuth, v.conf.ClientCAs = tls.RequestClientCert, pool
	}
}

// Proven tells whom a client's certificate proves, if one of the authorities vouches for it: an address of mail, else the common name. The
// handshake does not judge it: a client whose certificate is for something else may log in in another way.
func Proven(pool *x509.CertPool) func(*tls.ConnectionState) string {
	return func(t *tls.ConnectionState) string {
		if pool == nil || t == nil || len(t.PeerCertificates) == 0 {
			return ""
		}
		own, others := t.PeerCertificates[0], x509.NewCertPool()
		for _, c := range t.PeerCertificates[1:] {
			others.AddCert(c)
		}
		if _, err := own.Verify(x509.VerifyOptions{Roots: pool, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			return ""
		}
		if len(own.EmailAddresses) > 0 {
			return own.EmailAddresses[0]
		}
		return own.Subject.CommonName
	}
}
