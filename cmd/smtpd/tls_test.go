package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTLS makes a connection and goes as far as the handshake, which is up to the test.
func (s *system) startTLS() net.Conn {
	s.t.Helper()
	c, err := s.Dial("")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "STARTTLS\r\n")
	r := bufio.NewReader(c)
	for _, want := range []string{"220 ", "220 "} {
		if l, err := r.ReadString('\n'); !strings.HasPrefix(l, want) {
			s.t.Fatalf("%q %v", l, err)
		}
	}
	return c
}

// handshake is one of a client that is content with any certificate, and says a command under it.
func (s *system) handshake(conf *tls.Config) (*tls.ConnectionState, error) {
	s.t.Helper()
	conf.InsecureSkipVerify = true
	c := tls.Client(s.startTLS(), conf)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	io.WriteString(c, "EHLO c.example\r\nQUIT\r\n")
	b, err := io.ReadAll(c)
	if err == nil && !strings.HasSuffix(string(b), "bye\r\n") {
		err = fmt.Errorf("replies %q", b)
	}
	st := c.ConnectionState()
	return &st, err
}

func tlsSystem(t testing.TB) *system {
	s := newSystem(t, "tls_cert cert.pem\ntls_key key.pem\n")
	certificate(t, s.dir)
	return s
}

// T05: what TLS has left behind, and what a client may name. After each the next one is served.
func TestT05_OldAndStrange(t *testing.T) {
	s := tlsSystem(t)
	s.start("mx")
	for _, c := range []struct {
		name string
		conf *tls.Config
		want string // in the client's error; "": a session
	}{
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, ""},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "protocol version"},
		{"RC4", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}}, "handshake failure"},
		{"3DES", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}, "handshake failure"},
		{"unknown name", &tls.Config{ServerName: "other.example"}, ""},
		{"name is a path", &tls.Config{ServerName: "../../../etc/passwd"}, ""},
		{"name of 60,000 octets", &tls.Config{ServerName: strings.Repeat("a", 60_000)}, ""},
		{"protocol of a browser", &tls.Config{NextProtos: []string{"http/1.1"}}, "no application protocol"},
		{"protocols of a browser", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "no application protocol"},
		{"our protocol", &tls.Config{NextProtos: []string{"h2", "smtp"}}, ""},
	} {
		st, err := s.handshake(c.conf)
		switch {
		case c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err == nil && st.PeerCertificates[0].Subject.CommonName != "mx.example":
			t.Errorf("%s: another certificate", c.name)
		}
	}
	if _, err := s.handshake(&tls.Config{}); err != nil {
		t.Errorf("after all of them: %v", err)
	}
}

// T05: a client that asks to renegotiate gets no second handshake, and the session ends or goes on as it was.
func TestT05_Renegotiation(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is missing")
	}
	s := tlsSystem(t)
	s.start("mx")
	c := exec.Command(openssl, "s_client", "-connect", s.addr.String(), "-starttls", "smtp", "-tls1_2") // a line "R" is its command
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
	defer kill.Stop()
	io.WriteString(in, "R\n")
	b, _ := io.ReadAll(out)
	c.Wait()
	text := string(b)
	if !strings.Contains(text, "RENEGOTIATING") {
		t.Fatalf("it did not ask:\n%s", text)
	}
	if !strings.Contains(text, "no renegotiation") && !strings.Contains(text, "unexpected message") {
		t.Errorf("it was not refused:\n%s", text)
	}
	if _, err := s.handshake(&tls.Config{}); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// T07: the program does not start with a certificate that it cannot use; when it runs, a new pair is used from the next
// handshake on, half of one is not, and no reload takes the good one away.
func TestT07_Renewal(t *testing.T) {
	s := tlsSystem(t)
	pair := func() [2]string {
		dir := t.TempDir()
		certificate(t, dir)
		var p [2]string
		for i, n := range []string{"cert.pem", "key.pem"} {
			b, err := os.ReadFile(filepath.Join(dir, n))
			if err != nil {
				t.Fatal(err)
			}
			p[i] = string(b)
		}
		return p
	}
	first, second := pair(), pair()
	for name, p := range map[string][2]string{
		"key is of another": {first[0], second[1]},
		"half of the key":   {first[0], first[1][:len(first[1])/2]},
		"key is missing":    {first[0], ""},
	} {
		s.write("cert.pem", p[0])
		s.write("key.pem", p[1])
		if p[1] == "" {
			os.Remove(filepath.Join(s.dir, "key.pem"))
		}
		c := s.command()
		if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exConfig || !strings.Contains(s.log.String(), "key.pem") {
			t.Errorf("%s: %v\n%s", name, err, s.log.String())
		}
		s.log.Reset()
	}

	s.write("cert.pem", first[0])
	s.write("key.pem", first[1])
	s.start("mx")
	shown := func() string {
		st, err := s.handshake(&tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return string(st.PeerCertificates[0].RawSubjectPublicKeyInfo)
	}
	was := shown()
	s.write("cert.pem", second[0]) // and not yet its key
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// A look a second; it must see the pair that does not fit, and keep the one that does.
	s.logged("does not match")
	if shown() != was {
		t.Error("a certificate without its key is used")
	}
	s.write("key.pem", second[1])
	for end := time.Now().Add(10 * time.Second); shown() == was; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not used")
		}
	}
}
