package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Certificates are pairs of PEM files that are watched. Handshakes may run concurrently.
//
// At most once a second a handshake looks whether a file has changed (name, size, time, inode) and reads the pair again. A
// pair that does not parse or match (half of it is written yet, the key is still the old one) leaves the one in use in
// use; it is tried again when a file changes again.
type Certificates struct {
	report  func(what string, err error)
	now     func() time.Time
	current atomic.Pointer[[]*tls.Certificate]
	next    atomic.Int64 // unix nanoseconds of the next look

	mu    sync.Mutex // held while looking
	pairs []pairFiles
}

type pairFiles struct {
	cert, key string
	seen      [2]stamp // of the files as last read, right or wrong
}

// stamp tells one version of a file from another.
type stamp struct {
	size int64
	time time.Time
	file os.FileInfo
}

func (a stamp) same(b stamp) bool {
	if a.file == nil || b.file == nil {
		return a.file == nil && b.file == nil
	}
	return a.size == b.size && a.time.Equal(b.time) && os.SameFile(a.file, b.file)
}

const lookEvery = time.Second

// LoadCertificates reads the pairs: certs[i] (with its chain) and keys[i]. All must be right; the error names each file
// that is not. The first is for clients that name no host or one that no other is for. report is told of every later change: what
// was read, and the error if the old one stays in use. It is also told of certificates out of their time, which
// are used nevertheless: peers that look refuse them, those that do not still get their mail encrypted, and a wrong
// clock must not keep a mail server down.
func LoadCertificates(certs, keys []string, report func(what string, err error)) (*Certificates, error) {
	if len(certs) == 0 || len(certs) != len(keys) {
		return nil, fmt.Errorf("daemon: %d certificates and %d keys", len(certs), len(keys))
	}
	c := &Certificates{report: report, now: time.Now}
	list := make([]*tls.Certificate, len(certs))
	var errs []error
	for i := range certs {
		p := pairFiles{cert: certs[i], key: keys[i]}
		p.seen = p.stamps()
		x, err := p.load()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list[i] = x
		c.pairs = append(c.pairs, p)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c.current.Store(&list)
	c.next.Store(c.now().Add(lookEvery).UnixNano())
	for i, x := range list {
		if err := c.timely(x); err != nil {
			c.report(certs[i], err)
		}
	}
	return c, nil
}

// ServerConfig is for servers; min is the lowest version of TLS (tls.VersionTLS12). Session tickets are Go's default:
// the keys are made at start and change daily. A client that names protocols (RFC 7301), and none of ours, is at the
// wrong door: somebody may have led a web browser here (ALPACA).
func (c *Certificates) ServerConfig(min uint16, protocols ...string) *tls.Config {
	return &tls.Config{MinVersion: min, GetCertificate: c.certificate, NextProtos: protocols}
}

// certificate chooses for one handshake.
func (c *Certificates) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.look()
	list := *c.current.Load()
	if len(list) > 1 {
		for _, x := range list {
			if h.SupportsCertificate(x) == nil {
				return x, nil
			}
		}
	}
	// SMTP clients often name a host that is not in the certificate (the domain, for one). They look at it themselves.
	return list[0], nil
}

// look reads what has changed, unless somebody looked a moment ago or looks now.
func (c *Certificates) look() {
	now := c.now()
	next := c.next.Load()
	if d := next - now.UnixNano(); d > 0 && d <= int64(lookEvery) {
		return
	}
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	c.next.Store(now.Add(lookEvery).UnixNano())
	for i := range c.pairs {
		p := &c.pairs[i]
		s := p.stamps()
		if s[0].same(p.seen[0]) && s[1].same(p.seen[1]) {
			continue
		}
		p.seen = s
		x, err := p.load()
		if err != nil {
			c.report(p.cert, err)
			continue
		}
		list := append([]*tls.Certificate(nil), *c.current.Load()...)
		if terr := c.timely(x); terr != nil && c.timely(list[i]) == nil {
			c.report(p.cert, terr)
			continue // a good one is not given up for one that nobody accepts
		}
		list[i] = x
		c.current.Store(&list)
		c.report(p.cert, nil)
	}
}

// timely says whether x may be used at this time.
func (c *Certificates) timely(x *tls.Certificate) error {
	now := c.now()
	switch {
	case now.After(x.Leaf.NotAfter):
		return fmt.Errorf("certificate has expired on %s", x.Leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(x.Leaf.NotBefore):
		return fmt.Errorf("certificate is not valid before %s", x.Leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}

func (p *pairFiles) stamps() [2]stamp {
	var s [2]stamp
	for i, name := range []string{p.cert, p.key} {
		if st, err := os.Stat(name); err == nil {
			s[i] = stamp{st.Size(), st.ModTime(), st}
		}
	}
	return s
}

// maxPEM bounds a file: a chain of twenty certificates is a tenth of it.
const maxPEM = 1 << 20

func (p *pairFiles) load() (*tls.Certificate, error) {
	cert, err := readPEM(p.cert)
	if err != nil {
		return nil, fmt.Errorf("daemon: certificate %s: %w", p.cert, err)
	}
	key, err := readPEM(p.key)
	if err != nil {
		return nil, fmt.Errorf("daemon: key %s: %w", p.key, err)
	}
	x, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("daemon: certificate %s with key %s: %w", p.cert, p.key, err)
	}
	return &x, nil
}

// readPEM reads a regular file of bounded size; it never waits, as a FIFO of that name would make it.
func readPEM(name string) ([]byte, error) {
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
