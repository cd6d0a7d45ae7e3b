// Package certs holds the certificates of a server: which there are, which one a client gets, and whether the files have
// changed.
//
// A certificate is a PEM file with its chain, its key another PEM file, or, with a Keyring, in another process. The names
// in the certificates decide which one a client gets (server_name, RFC 6066 section 3); what it names is looked up in a
// table and nothing else. Of several for one name the first whose algorithms the client has is taken, so ECDSA and RSA
// stand side by side.
//
// Promises: what cannot be used never replaces what can (T07): half a file, a certificate without its key, one that has
// expired. No signal is needed after a renewal: files are looked at, at most once a second, when a handshake begins.
// Session tickets (RFC 5077, RFC 8446 section 4.6.1) of one Service are not accepted by another.
//
// Divergence: a name that no certificate is for is answered with the first certificate, not with unrecognized_name. SMTP
// clients often name the domain of the mail, and look at the certificate themselves or not at all.
package certs

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// Keyring keeps the private keys for us: internal/keyd. It is used by many handshakes at once.
type Keyring interface {
	// Signer is the private key of pub, whether or not it is there now. The error says that TLS has no use for such a key.
	Signer(pub crypto.PublicKey) (crypto.Signer, error)
	// Has asks for the key of pub: ErrNoKey when it is not there, another error when that cannot be found out now.
	Has(pub crypto.PublicKey) error
	// Tickets are the keys of the service's session tickets: new ones are made with the first.
	Tickets(service string) ([][32]byte, error)
}

// ErrNoKey is of a Keyring: it has not the key asked for. That may change.
var ErrNoKey = errors.New("no key for this certificate")

// Set is certificates that are watched. Handshakes may run concurrently.
type Set struct {
	ring    Keyring // nil: keys are in files
	report  func(what string, err error)
	now     func() time.Time
	current atomic.Pointer[table]
	next    atomic.Int64 // unix nanoseconds of the next look

	mu    sync.Mutex // held while looking
	pairs []pair
}

// pair is one certificate with its key, as files.
type pair struct {
	cert, key string   // key is "" with a Keyring
	seen      [2]Stamp // of the files as last read, right or wrong
	open      bool     // the Keyring has not said yet that it has the key of what was read last
	said      string   // the last trouble reported
}

const lookEvery = time.Second

// Load reads the pairs: certs[i] (with its chain) and keys[i]; with a ring, keys is not used. All must be right; the
// error names each file that is not. A ring that cannot be asked now is no error: handshakes fail until it answers. The
// first is for clients that name no host or one that no other is for. report is told of every later change: what
// was read, and the error if the old one stays in use. It is also told of certificates out of their time, which
// are used nevertheless: peers that look refuse them, those that do not still get their mail encrypted, and a wrong
// clock must not keep a mail server down.
func Load(certs, keys []string, ring Keyring, report func(what string, err error)) (*Set, error) {
	if len(certs) == 0 || ring == nil && len(certs) != len(keys) {
		return nil, fmt.Errorf("certs: %d certificates and %d keys", len(certs), len(keys))
	}
	s := &Set{ring: ring, report: report, now: time.Now}
	list := make([]*tls.Certificate, len(certs))
	var errs []error
	for i := range certs {
		p := pair{cert: certs[i]}
		if ring == nil {
			p.key = keys[i]
		}
		p.seen = p.stamps()
		x, err := p.load(ring)
		if err == nil && ring != nil {
			err = ring.Has(x.Leaf.PublicKey)
			p.open = err != nil
			if err != nil {
				err = &fs.PathError{Op: "certs: certificate", Path: p.cert, Err: err}
			}
			if p.open && !errors.Is(err, ErrNoKey) {
				p.said = err.Error()
				report(p.cert, err)
				err = nil
			}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list[i] = x
		s.pairs = append(s.pairs, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s.current.Store(newTable(list))
	s.next.Store(s.now().Add(lookEvery).UnixNano())
	for i, x := range list {
		if err := s.timely(x); err != nil {
			s.report(certs[i], err)
		}
	}
	return s, nil
}

// Ready says why a handshake that began now would fail for the want of a key. Without a Keyring it never would.
func (s *Set) Ready() error {
	if s.ring == nil {
		return nil
	}
	s.look()
	return s.ring.Has(s.current.Load().list[0].Leaf.PublicKey)
}

// certificate chooses for one handshake.
func (s *Set) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.look()
	return s.current.Load().choose(h), nil
}

// look reads what has changed, unless somebody looked a moment ago or looks now.
func (s *Set) look() {
	now := s.now()
	next := s.next.Load()
	if d := next - now.UnixNano(); d > 0 && d <= int64(lookEvery) {
		return
	}
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.next.Store(now.Add(lookEvery).UnixNano())
	for i := range s.pairs {
		s.lookAt(i)
	}
}

func (s *Set) lookAt(i int) {
	p := &s.pairs[i]
	now := p.stamps()
	// A key that another process holds changes without a trace that we could see: the files of keys are not ours to
	// look at. What it had not yet is asked for again.
	if now == p.seen && !p.open {
		return
	}
	changed := now != p.seen
	p.seen = now
	x, err := p.load(s.ring)
	if err == nil && s.ring != nil {
		if err = s.ring.Has(x.Leaf.PublicKey); err != nil {
			err = &fs.PathError{Op: "certs: certificate", Path: p.cert, Err: err}
		}
		p.open = err != nil
	}
	if err != nil {
		if changed || err.Error() != p.said {
			s.report(p.cert, err)
		}
		p.said = err.Error()
		return
	}
	p.said = ""
	list := append([]*tls.Certificate(nil), s.current.Load().list...)
	if terr := s.timely(x); terr != nil && s.timely(list[i]) == nil {
		s.report(p.cert, terr)
		return // a good one is not given up for one that nobody accepts
	}
	list[i] = x
	s.current.Store(newTable(list))
	s.report(p.cert, nil)
}

// timely says whether x may be used at this time.
func (s *Set) timely(x *tls.Certificate) error {
	now := s.now()
	switch {
	case now.After(x.Leaf.NotAfter):
		return fmt.Errorf("certificate has expired on %s", x.Leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(x.Leaf.NotBefore):
		return fmt.Errorf("certificate is not valid before %s", x.Leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}
