package certs

import (
	"crypto/tls"
	"strings"
)

// table is the certificates in their order, and by the names in them. It is not changed once made.
type table struct {
	list  []*tls.Certificate
	names map[string][]*tls.Certificate // "mx.example.org", "*.example.org"; lower case
}

func newTable(list []*tls.Certificate) *table {
	t := &table{list: list, names: make(map[string][]*tls.Certificate)}
	for _, x := range list {
		for _, n := range x.Leaf.DNSNames {
			n = fold(n)
			t.names[n] = append(t.names[n], x)
		}
	}
	return t
}

// of is the certificates for a name. RFC 9525 section 6.3: "*" stands for exactly one whole label, the first.
func (t *table) of(name string) []*tls.Certificate {
	name = fold(name)
	_, parent, ok := strings.Cut(name, ".")
	if !ok {
		return t.names[name]
	}
	l := t.names[name]
	return append(l[:len(l):len(l)], t.names["*."+parent]...)
}

// fold is for names as clients and certificates have them: ASCII, RFC 6066 section 3.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// choose is the first certificate for the name whose algorithms the client has, else the first of any name, else the
// first of all, with which the handshake fails as it should.
func (t *table) choose(h *tls.ClientHelloInfo) *tls.Certificate {
	if len(t.list) == 1 {
		return t.list[0]
	}
	any := *h
	any.ServerName = "" // the name was looked at; what is asked of crypto/tls is the rest
	for _, l := range [][]*tls.Certificate{t.of(h.ServerName), t.list} {
		for _, x := range l {
			if any.SupportsCertificate(x) == nil {
				return x
			}
		}
	}
	return t.list[0]
}
