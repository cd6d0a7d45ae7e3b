package channel

import (
	"crypto/x509"
	"errors"
	"testing"
)

// RFC 5929 section 4.1: the hash is that of the signature; the certificate's own bytes are hashed.
func TestBindings(t *testing.T) {
	for algorithm, size := range map[x509.SignatureAlgorithm]int{x509.SHA1WithRSA: 32, x509.ECDSAWithSHA256: 32, x509.SHA384WithRSAPSS: 48, x509.SHA512WithRSA: 64} {
		b, err := EndPoint(&x509.Certificate{SignatureAlgorithm: algorithm, Raw: []byte("der")})
		if err != nil || len(b.Data) != size || b.Type != "tls-server-end-point" {
			t.Errorf("%v: %d octets, %v", algorithm, len(b.Data), err)
		}
	}
	if _, err := EndPoint(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519}); err == nil {
		t.Error("Ed25519 has a binding")
	}
	b, err := Exporter(func(label string, context []byte, length int) ([]byte, error) {
		if label != "EXPORTER-Channel-Binding" || context == nil || len(context) != 0 || length != 32 {
			t.Errorf("%q, %v, %d", label, context, length)
		}
		return make([]byte, length), nil
	})
	if err != nil || b.Type != "tls-exporter" || len(b.Data) != 32 {
		t.Errorf("%v, %v", b, err)
	}
	if _, err := Exporter(func(string, []byte, int) ([]byte, error) { return nil, errors.New("no") }); err == nil {
		t.Error("a binding where none can be had")
	}
}
