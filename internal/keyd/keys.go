package keyd

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"postamt/internal/certs"
)

// Keys is private keys in PEM files that are watched. It is safe for concurrent use.
//
// A file that has changed is read again when somebody asks for a key, at most once a second, or at once for a key that is
// not here. Programs read certificates at their own time: so the key before stays until there is a third. A file that
// cannot be read, or holds no key, leaves everything as it was.
type Keys struct {
	report func(what string, err error)
	now    func() time.Time

	mu    sync.Mutex
	next  time.Time // of the next look
	files []keyFile
	byID  map[keyID]crypto.Signer
}

type keyFile struct {
	name    string
	seen    certs.Stamp
	current crypto.Signer
	before  crypto.Signer // nil until the file changed
}

const lookEvery = time.Second

// LoadKeys reads the files. All must be right; the error names each that is not. report is told of later changes, and of
// files that more people can read than should.
func LoadKeys(names []string, report func(what string, err error)) (*Keys, error) {
	k := &Keys{report: report, now: time.Now}
	var errs []error
	for _, n := range names {
		f := keyFile{name: n, seen: certs.StampOf(n)}
		var err error
		if f.current, err = readKey(n); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := private(n); err != nil {
			report(n, err)
		}
		k.files = append(k.files, f)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	k.next = k.now().Add(lookEvery)
	k.index()
	return k, nil
}

// Len is how many keys can be signed with.
func (k *Keys) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.byID)
}

// find is the key, nil if it is not here.
func (k *Keys) find(id keyID) crypto.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	x := k.byID[id]
	// A clock that was put back must not keep us from looking.
	if x == nil || now.After(k.next) || k.next.Sub(now) > lookEvery {
		k.next = now.Add(lookEvery)
		k.look()
		x = k.byID[id]
	}
	return x
}

func (k *Keys) look() {
	changed := false
	for i := range k.files {
		f := &k.files[i]
		s := certs.StampOf(f.name)
		if s == f.seen {
			continue
		}
		f.seen = s
		x, err := readKey(f.name)
		if err == nil {
			err = private(f.name) // told, but used
			if a, b := x.Public().(interface{ Equal(crypto.PublicKey) bool }), f.current.Public(); !a.Equal(b) {
				f.before, f.current = f.current, x
				changed = true
			}
		}
		k.report(f.name, err)
	}
	if changed {
		k.index()
	}
}

func (k *Keys) index() {
	k.byID = make(map[keyID]crypto.Signer)
	for _, f := range k.files {
		for _, x := range []crypto.Signer{f.before, f.current} {
			if x == nil {
				continue
			}
			if id, err := idOf(x.Public()); err == nil {
				k.byID[id] = x
			}
		}
	}
}

// readKey reads the first private key of a PEM file: PKCS #8, PKCS #1 or SEC 1.
func readKey(name string) (crypto.Signer, error) {
	text, err := certs.ReadFile(name)
	if err == nil {
		var x crypto.Signer
		if x, err = parseKey(text); err == nil {
			if err = usable(x.Public()); err == nil {
				return x, nil
			}
		}
	}
	return nil, &fs.PathError{Op: "keyd: key", Path: name, Err: err}
}

func parseKey(text []byte) (crypto.Signer, error) {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return nil, errors.New("no private key in it")
		}
		var x any
		var err error
		switch {
		case b.Type == "RSA PRIVATE KEY":
			x, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case b.Type == "EC PRIVATE KEY":
			x, err = x509.ParseECPrivateKey(b.Bytes)
		case b.Type == "PRIVATE KEY":
			x, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			return nil, fmt.Errorf("%s: keys with a passphrase are not for servers that start by themselves", b.Type)
		default:
			continue // certificates, EC PARAMETERS
		}
		if err != nil {
			return nil, err
		}
		if s, ok := x.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("a key that cannot sign (%T)", x)
	}
}

// private says what to do about a key that everybody can read.
func private(name string) error {
	if st, err := os.Stat(name); err == nil && st.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("everybody can read it or more: chmod o= %s", name)
	}
	return nil
}
