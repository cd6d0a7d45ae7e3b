package keyd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/certs"
	"postamt/internal/daemon"
)

// bench is a server on a socket, with files of keys.
type bench struct {
	t       testing.TB
	dir     string
	socket  string
	keys    *Keys
	allow   bool
	stop    func()
	mu      sync.Mutex
	reports []string
}

func newBench(t testing.TB, keys map[string]crypto.Signer) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd") // short: it is the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{t: t, dir: dir, socket: filepath.Join(dir, "keyd"), allow: true}
	var names []string
	for name, k := range keys {
		b.write(name, k)
		names = append(names, b.file(name))
	}
	if b.keys, err = LoadKeys(names, b.report); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) report(what string, err error) {
	b.mu.Lock()
	b.reports = append(b.reports, fmt.Sprintf("%s: %v", filepath.Base(what), err))
	b.mu.Unlock()
}

func (b *bench) took() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := strings.Join(b.reports, "\n")
	b.reports = nil
	return s
}

// write puts a key into a file in one step.
func (b *bench) write(name string, k crypto.Signer) {
	b.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		b.t.Fatal(err)
	}
	tmp := b.file(name + ".new")
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(tmp, b.file(name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) start() {
	b.t.Helper()
	l, err := daemon.ListenUnix(b.socket, 0o666)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := NewServer(b.keys, func(int) bool { return b.allow })
	srv := &daemon.Server{Handle: s.Serve}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ctx, daemon.Listener{Listener: l, Kind: "keyd"})
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if n := srv.Wait(5 * time.Second); n != 0 {
			b.t.Errorf("%d connections are left", n)
		}
	})
	b.t.Cleanup(func() { b.stop() })
}

func must[T any](k T, err error) T {
	if err != nil {
		panic(err)
	}
	return k
}

func ecKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }
func rsaKey(bits int) *rsa.PrivateKey          { return must(rsa.GenerateKey(rand.Reader, bits)) }

func edKey() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return must(k, err)
}

// Every scheme of a server of TLS 1.2 and 1.3 is signed as a key in the process would; what is none is not signed.
func TestSchemes(t *testing.T) {
	r, e, p, d := rsaKey(2048), ecKey(elliptic.P256()), ecKey(elliptic.P521()), edKey()
	b := newBench(t, map[string]crypto.Signer{"r": r, "e": e, "p": p, "d": d})
	c := NewClient(b.socket)
	defer c.Close()
	digest := func(h crypto.Hash) []byte {
		x := h.New()
		x.Write([]byte("text"))
		return x.Sum(nil)
	}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		s := must(c.Signer(r.Public()))
		if sig, err := s.Sign(nil, digest(h), h); err != nil || rsa.VerifyPKCS1v15(&r.PublicKey, h, digest(h), sig) != nil {
			t.Errorf("RSA PKCS #1 with %v: %v", h, err)
		}
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		if sig, err := s.Sign(nil, digest(h), pss); err != nil || rsa.VerifyPSS(&r.PublicKey, h, digest(h), sig, pss) != nil {
			t.Errorf("RSA PSS with %v: %v", h, err)
		}
		for _, k := range []*ecdsa.PrivateKey{e, p} {
			s := must(c.Signer(k.Public()))
			if sig, err := s.Sign(nil, digest(h), h); err != nil || !ecdsa.VerifyASN1(&k.PublicKey, digest(h), sig) {
				t.Errorf("ECDSA with %v: %v", h, err)
			}
		}
	}
	text := make([]byte, 201)
	if sig, err := must(c.Signer(d.Public())).Sign(nil, text, crypto.Hash(0)); err != nil || !ed25519.Verify(d.Public().(ed25519.PublicKey), text, sig) {
		t.Errorf("Ed25519: %v", err)
	}
	for what, f := range map[string]func() ([]byte, error){
		"SHA-1": func() ([]byte, error) { return must(c.Signer(r.Public())).Sign(nil, make([]byte, 20), crypto.SHA1) },
		"MD5 and SHA-1 of TLS 1.0": func() ([]byte, error) {
			return must(c.Signer(r.Public())).Sign(nil, make([]byte, 36), crypto.MD5SHA1)
		},
		"RSA without a hash": func() ([]byte, error) { return must(c.Signer(r.Public())).Sign(nil, make([]byte, 32), crypto.Hash(0)) },
		"PSS with a short salt": func() ([]byte, error) {
			return must(c.Signer(r.Public())).Sign(nil, make([]byte, 32), &rsa.PSSOptions{SaltLength: 8, Hash: crypto.SHA256})
		},
		"ECDSA without a hash": func() ([]byte, error) { return must(c.Signer(e.Public())).Sign(nil, make([]byte, 32), crypto.Hash(0)) },
		"a short digest":       func() ([]byte, error) { return must(c.Signer(e.Public())).Sign(nil, make([]byte, 31), crypto.SHA256) },
		"a text too long":      func() ([]byte, error) { return must(c.Signer(d.Public())).Sign(nil, make([]byte, 257), crypto.Hash(0)) },
		"a key that is not there": func() ([]byte, error) {
			return must(c.Signer(ecKey(elliptic.P256()).Public())).Sign(nil, make([]byte, 32), crypto.SHA256)
		},
	} {
		if sig, err := f(); err == nil {
			t.Errorf("%s: signed with %d octets", what, len(sig))
		}
	}
	// The checks are the server's own, not only the client's.
	for what, q := range map[string]question{
		"RSA key, ECDSA scheme": {op: opSign, scheme: ecdsaSHA256, key: must(idOf(r.Public())), input: make([]byte, 32)},
		"ECDSA key, RSA scheme": {op: opSign, scheme: pssSHA256, key: must(idOf(e.Public())), input: make([]byte, 32)},
		"ECDSA with SHA-1":      {op: opSign, scheme: 0x0203, key: must(idOf(e.Public())), input: make([]byte, 20)},
		"a digest too long":     {op: opSign, scheme: pssSHA256, key: must(idOf(r.Public())), input: make([]byte, 33)},
		"no operation":          {op: 9, key: must(idOf(r.Public()))},
	} {
		if out, err := c.ask(&q); err == nil || !strings.Contains(err.Error(), "understand") {
			t.Errorf("%s: %d octets, %v", what, len(out), err)
		}
	}
	if err := c.Has(r.Public()); err != nil {
		t.Error(err)
	}
	if err := c.Has(ecKey(elliptic.P256()).Public()); !errors.Is(err, certs.ErrNoKey) {
		t.Errorf("%v", err)
	}
}

// What is no record ends the connection, after an answer at most, and nothing else.
func TestGarbage(t *testing.T) {
	k := ecKey(elliptic.P256())
	b := newBench(t, map[string]crypto.Signer{"k": k})
	var good [questionSize]byte
	if err := (&question{op: opHas, key: must(idOf(k.Public()))}).encode(&good); err != nil {
		t.Fatal(err)
	}
	changed := func(at int, to byte) []byte {
		x := bytes.Clone(good[:])
		x[at] = to
		return x
	}
	for what, in := range map[string][]byte{
		"magic": changed(0, 'X'), "reserved": changed(5, 1), "length": changed(8, 2), "reserved too": changed(11, 1),
		"text behind the input": changed(questionSize-1, 1), "HTTP": []byte(strings.Repeat("GET / HTTP/1.1\r\n", 40)), "half": good[:100],
		"a megabyte": make([]byte, 1<<20),
	} {
		nc, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			nc.Write(in)
			nc.(*net.UnixConn).CloseWrite()
		}()
		out, err := io.ReadAll(nc)
		nc.Close()
		if len(out) > answerSize || len(out) > 0 && out[4] != notUnderstood {
			t.Errorf("%s: %d octets, %v", what, len(out), err)
		}
	}
	if err := NewClient(b.socket).Has(k.Public()); err != nil {
		t.Error(err)
	}
}

// T07: renewal. A program signs with the key of the certificate that it has read, whichever of the two files came first.
func TestT07_RenewedKey(t *testing.T) {
	one, two, three := ecKey(elliptic.P256()), ecKey(elliptic.P256()), ecKey(elliptic.P256())
	b := newBench(t, map[string]crypto.Signer{"k": one})
	c := NewClient(b.socket)
	defer c.Close()
	has := func(when string, want ...bool) {
		t.Helper()
		b.keys.mu.Lock()
		b.keys.next = time.Time{} // a second has passed
		b.keys.mu.Unlock()
		clear(c.had)
		for i, k := range []*ecdsa.PrivateKey{one, two, three} {
			if err := c.Has(k.Public()); want[i] != (err == nil) {
				t.Errorf("%s, key %d: %v", when, i+1, err)
			}
		}
	}
	has("at first", true, false, false)
	b.write("k", two)
	has("renewed", true, true, false) // at once: somebody asked for it
	os.WriteFile(b.file("k"), []byte("-----BEGIN PRIVATE KEY-----\nhalf"), 0o600)
	has("half written", true, true, false)
	if r := b.took(); !strings.Contains(r, "k: <nil>") || !strings.Contains(r, "no private key in it") {
		t.Errorf("reported %q", r)
	}
	os.Remove(b.file("k"))
	has("gone", true, true, false)
	b.write("k", three)
	has("renewed again", false, true, true)
	b.write("k", three)
	has("written again with the same key", false, true, true)
	b.took()
	os.Chmod(b.file("k"), 0o644)
	b.write("k", one)
	os.Chmod(b.file("k"), 0o644)
	has("readable by all", true, false, true)
	if r := b.took(); !strings.Contains(r, "chmod o=") {
		t.Errorf("reported %q", r)
	}
}

func TestT07_KeyFiles(t *testing.T) {
	dir := t.TempDir()
	der := must(x509.MarshalPKCS8PrivateKey(ecKey(elliptic.P256())))
	put := func(name string, kind string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	x := must(x509.MarshalPKCS8PrivateKey(must(ecdh.X25519().GenerateKey(rand.Reader))))
	for want, name := range map[string]string{
		"no such file":         filepath.Join(dir, "none"),
		"no private key in it": put("cert", "CERTIFICATE", der),
		"passphrase":           put("locked", "ENCRYPTED PRIVATE KEY", der),
		"asn1":                 put("bad", "PRIVATE KEY", der[:20]),
		"cannot sign":          put("x25519", "PRIVATE KEY", x),
	} {
		if _, err := LoadKeys([]string{name}, func(string, error) {}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8200), E: 65537}
	if err := usable(big); err == nil {
		t.Error("an RSA key of 8,200 bits")
	}
	// Every form that openssl writes.
	r := rsaKey(2048)
	e := ecKey(elliptic.P256())
	for _, name := range []string{
		put("pkcs1", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), put("sec1", "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(e))), put("pkcs8", "PRIVATE KEY", der),
	} {
		if k, err := LoadKeys([]string{name}, func(string, error) {}); err != nil || k.Len() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The server is ended and started: the next question finds the new one, those between fail, and soon.
func TestServerRestart(t *testing.T) {
	k := ecKey(elliptic.P256())
	b := newBench(t, map[string]crypto.Signer{"k": k})
	c := NewClient(b.socket)
	defer c.Close()
	for range 3 {
		if err := c.Has(k.Public()); err != nil {
			t.Fatal(err)
		}
		b.stop()
		if err := c.Has(k.Public()); err == nil || errors.Is(err, certs.ErrNoKey) {
			t.Errorf("without a server: %v", err)
		}
		b.start()
	}
	if err := c.Has(k.Public()); err != nil {
		t.Error(err)
	}
}

// A client that nobody asks any more, because its program has read its configuration again, keeps nothing open; it can be used all the same.
func TestClientRests(t *testing.T) {
	k := ecKey(elliptic.P256())
	b := newBench(t, map[string]crypto.Signer{"a": k})
	c := NewClient(b.socket)
	c.linger = 50 * time.Millisecond
	idle := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.idle)
	}
	for range 2 {
		if err := c.Has(k.Public()); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); idle() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d connections are idle", idle())
			}
		}
	}
}

// One that accepts and says nothing, or half an answer, costs the time for an answer and no more.
func TestServerHangs(t *testing.T) {
	k := ecKey(elliptic.P256())
	for _, says := range []string{"", "PKY1", strings.Repeat("x", answerSize)} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				io.WriteString(nc, says)
			}
		}()
		c := NewClient(socket)
		c.timeout = 200 * time.Millisecond
		start := time.Now()
		var all sync.WaitGroup
		for range 3 * maxUnderWay {
			all.Go(func() {
				if err := c.Has(k.Public()); err == nil || errors.Is(err, certs.ErrNoKey) {
					t.Errorf("%q: %v", says, err)
				}
			})
		}
		all.Wait()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%q: it took %v", says, d)
		}
	}
}

func TestNotAllowed(t *testing.T) {
	k := ecKey(elliptic.P256())
	b := newBench(t, map[string]crypto.Signer{"k": k})
	c := NewClient(b.socket)
	defer c.Close()
	if err := c.Has(k.Public()); err != nil {
		t.Fatal(err)
	}
	b.allow = false // connections that are there are not an exception
	clear(c.had)
	if err := c.Has(k.Public()); err == nil || errors.Is(err, certs.ErrNoKey) {
		t.Errorf("%v", err)
	}
}

// Keys of tickets change with time, user and service, and the last ones stay good for a while.
func TestTickets(t *testing.T) {
	var x tickets
	now := time.Now()
	a := must(x.keys(1, "smtpd.mx", now))
	if len(a) != 32 || !bytes.Equal(a, must(x.keys(1, "smtpd.mx", now.Add(ticketPeriod/2)))) {
		t.Error("they do not stay")
	}
	if bytes.Equal(a, must(x.keys(2, "smtpd.mx", now))) || bytes.Equal(a, must(x.keys(1, "imapd", now))) {
		t.Error("two have the same")
	}
	for i := range 5 {
		b := must(x.keys(1, "smtpd.mx", now.Add(time.Duration(i+1)*ticketPeriod)))
		if want := 32 * min(i+2, ticketPeriods); len(b) != want {
			t.Errorf("%d octets, want %d", len(b), want)
		}
		if old := bytes.Contains(b[32:], a); old != (i+1 < ticketPeriods) || bytes.Equal(b[:32], a) {
			t.Errorf("after %d periods the first key is there: %v", i+1, old)
		}
	}
	if b := must(x.keys(1, "smtpd.mx", now.Add(100*ticketPeriod))); len(b) != 32 {
		t.Errorf("after a long silence %d octets", len(b))
	}
}

// certificate makes one for a key, in a file.
func certificate(t testing.TB, name string, k crypto.Signer) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example"}, DNSNames: []string{"mx.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
}

func handshake(v *certs.Service, conf *tls.Config) error {
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		err := tls.Server(b, v.Config()).Handshake()
		b.Close()
		done <- err
	}()
	conf.InsecureSkipVerify = true
	err := tls.Client(a, conf).Handshake()
	a.Close()
	return errors.Join(err, <-done)
}

// Real handshakes with each kind of key, in both versions.
func TestHandshakes(t *testing.T) {
	for name, k := range map[string]crypto.Signer{"rsa": rsaKey(2048), "p256": ecKey(elliptic.P256()), "p384": ecKey(elliptic.P384()), "ed25519": edKey()} {
		b := newBench(t, map[string]crypto.Signer{"k": k})
		certificate(t, b.file("c"), k)
		set, err := certs.Load([]string{b.file("c")}, nil, NewClient(b.socket), b.report)
		if err != nil {
			t.Fatal(err)
		}
		v := set.Service("test", tls.VersionTLS12)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if err := handshake(v, &tls.Config{MaxVersion: version, SessionTicketsDisabled: true}); err != nil && !strings.Contains(err.Error(), "closed pipe") {
				t.Errorf("%s, %s: %v", name, tls.VersionName(version), err)
			}
		}
	}
}

func FuzzQuestion(f *testing.F) {
	var b [questionSize]byte
	for _, q := range []question{{op: opHas}, {op: opSign, scheme: pssSHA256, input: make([]byte, 32)}, {op: opTickets, input: []byte("smtpd.mx")}} {
		q.encode(&b)
		f.Add(b[:])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var b, again [questionSize]byte
		if len(in) != questionSize {
			return
		}
		copy(b[:], in)
		var q question
		if q.decode(&b) != nil {
			return
		}
		if err := q.encode(&again); err != nil || again != b {
			t.Errorf("%x is not the record that it was read from (%v)", again, err)
		}
	})
}
