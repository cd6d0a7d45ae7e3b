// Package channel makes channel bindings (RFC 5056) of TLS connections: what binds a login to the connection it is made on. It is apart from
// package sasl for the programs that have the connection and check no password.
package channel

import (
	"crypto"
	_ "crypto/sha256" // the hashes of end points
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
)

// Binding is a channel binding (RFC 5056): what both ends of a TLS connection know of it and who is in between does not.
type Binding struct {
	Type string // as registered
	Data []byte
}

// The types that a TLS server of today can give.
const (
	TLSExporter       = "tls-exporter"         // RFC 9266
	TLSServerEndPoint = "tls-server-end-point" // RFC 5929 section 4
)

// Exporter is the binding tls-exporter. export is ExportKeyingMaterial of the connection's crypto/tls.ConnectionState; it fails below TLS 1.3 without
// extended master secrets, where RFC 9266 section 4.2 forbids the binding.
func Exporter(export func(label string, context []byte, length int) ([]byte, error)) (Binding, error) {
	b, err := export("EXPORTER-Channel-Binding", []byte{}, 32)
	if err != nil {
		return Binding{}, fmt.Errorf("%s: %w", TLSExporter, err)
	}
	return Binding{TLSExporter, b}, nil
}

// EndPoint is the binding tls-server-end-point for the certificate that the server showed: its hash, by the hash function of its
// signature, SHA-256 instead of MD5 and SHA-1. Signatures that have no hash function of their own (Ed25519) have no such binding.
func EndPoint(cert *x509.Certificate) (Binding, error) {
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return Binding{}, errors.New(TLSServerEndPoint + ": not defined for the signature of this certificate")
	}
	d := h.New()
	d.Write(cert.Raw)
	return Binding{TLSServerEndPoint, d.Sum(nil)}, nil
}
