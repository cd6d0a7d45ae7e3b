package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Stamp tells one version of a file from another; stamps are compared with ==. That of a file that is not there, or that
// cannot be looked at, is the zero value.
type Stamp struct {
	dev, ino   uint64
	size       int64
	mtime      int64
	accessible bool
}

// StampOf looks at a file.
func StampOf(name string) Stamp {
	st, err := os.Stat(name)
	if err != nil {
		return Stamp{}
	}
	x := Stamp{size: st.Size(), mtime: st.ModTime().UnixNano(), accessible: true}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		x.dev, x.ino = uint64(sys.Dev), uint64(sys.Ino)
	}
	return x
}

func (p *pair) stamps() [2]Stamp {
	s := [2]Stamp{StampOf(p.cert)}
	if p.key != "" {
		s[1] = StampOf(p.key)
	}
	return s
}

// load reads the pair. With a ring it does not ask whether the key is there.
func (p *pair) load(ring Keyring) (*tls.Certificate, error) {
	cert, err := ReadFile(p.cert)
	if err != nil {
		return nil, &fs.PathError{Op: "certs: certificate", Path: p.cert, Err: err}
	}
	if ring != nil {
		x, err := chain(cert)
		if err == nil {
			x.PrivateKey, err = ring.Signer(x.Leaf.PublicKey)
		}
		if err != nil {
			return nil, &fs.PathError{Op: "certs: certificate", Path: p.cert, Err: err}
		}
		return x, nil
	}
	key, err := ReadFile(p.key)
	if err != nil {
		return nil, &fs.PathError{Op: "certs: key", Path: p.key, Err: err}
	}
	x, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certs: certificate %s with key %s: %w", p.cert, p.key, err)
	}
	return &x, nil
}

// chain is the certificates of a PEM file, without a key. Blocks of other kinds are passed over: some keep the key there.
func chain(text []byte) (*tls.Certificate, error) {
	x := &tls.Certificate{}
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			x.Certificate = append(x.Certificate, b.Bytes)
		}
	}
	if len(x.Certificate) == 0 {
		return nil, errors.New("no certificate in it")
	}
	var err error
	x.Leaf, err = x509.ParseCertificate(x.Certificate[0])
	return x, err
}

// maxPEM bounds a file: a chain of twenty certificates is a tenth of it.
const maxPEM = 1 << 20

// ReadFile reads a regular file of bounded size; it never waits, as a FIFO of that name would make it.
func ReadFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("more than %d bytes", maxPEM)
	}
	return b, nil
}

// cause is the error of the system: the file is named by us.
func cause(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
