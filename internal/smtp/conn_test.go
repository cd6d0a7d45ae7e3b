package smtp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postamt/internal/lineio"
)

func certificate(tb testing.TB) (server, client *tls.Config) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.test"}, DNSNames: []string{"mx.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{ServerName: "mx.test", RootCAs: pool}
}

func TestStartTLS(t *testing.T) {
	sconf, cconf := certificate(t)
	s, nc := peer(t)
	c := NewConn(nc)
	done := make(chan error, 1)
	go func() {
		cmd, err := s.ReadCommand(512)
		if err == nil && cmd.Verb == "STARTTLS" {
			s.WriteReply(NewReply(220, "2.0.0", "go on")) // StartTLS flushes
			err = s.StartTLS(sconf, true)
		}
		if err == nil && s.TLS() == nil {
			err = errors.New("no TLS state")
		}
		if err == nil {
			if cmd, err = s.ReadCommand(512); cmd.Verb != "DATA" {
				err = fmt.Errorf("%v, %w", cmd, err)
			}
		}
		if err == nil {
			s.WriteReply(NewReply(354, "", "go on"))
			var b []byte
			if b, err = io.ReadAll(s.Data()); string(b) != strings.Repeat(".x\r\n", 50000) {
				err = errors.New("message changed")
			}
			s.WriteReply(NewReply(250, "2.0.0", "ok"))
		}
		if err == nil {
			_, err = s.ReadCommand(512)
		}
		done <- err
	}()
	if c.TLS() != nil {
		t.Error("TLS state before TLS")
	}
	expect := func(code int) {
		t.Helper()
		if r, err := c.ReadReply(); err != nil || r.Code != code {
			t.Fatal(r, err)
		}
	}
	c.WriteLine("STARTTLS")
	expect(220)
	if err := c.StartTLS(cconf, false); err != nil {
		t.Fatal(err)
	}
	if c.TLS() == nil || c.TLS().Version < tls.VersionTLS12 {
		t.Error(c.TLS())
	}
	c.WriteLine("DATA")
	expect(354)
	w := c.DataWriter()
	w.Write([]byte(strings.Repeat(".x\n", 50000)))
	w.Close()
	expect(250)
	c.Close()
	if err := <-done; err != io.EOF {
		t.Fatal(err)
	}
}

// T01: commands sent in one segment with STARTTLS are not run after it; T10: nor are replies read.
func TestT01_PlaintextBeforeTLS(t *testing.T) {
	sconf, cconf := certificate(t)
	s := send(t, "STARTTLS\r\nMAIL FROM:<evil@x>\r\n")
	s.ReadCommand(512)
	if s.Buffered() == 0 {
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.StartTLS(sconf, true); !errors.Is(err, lineio.ErrPlaintext) {
		t.Error(err)
	}
	c := send(t, "220 go on\r\n250 smuggled\r\n")
	c.ReadReply()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(cconf, false); !errors.Is(err, lineio.ErrPlaintext) {
		t.Error(err)
	}
	// What comes in clear afterwards is no handshake.
	s, nc := peer(t)
	io.WriteString(nc, "STARTTLS\r\n")
	s.ReadCommand(512)
	io.WriteString(nc, "MAIL FROM:<evil@x>\r\n")
	if err := s.StartTLS(sconf, true); err == nil || s.TLS() != nil {
		t.Error("plaintext was taken for a handshake")
	}
}

// T04: a handshake that is never finished ends at the deadline.
func TestT04_HandshakeDeadline(t *testing.T) {
	sconf, _ := certificate(t)
	s, nc := peer(t)
	nc.Write([]byte{22, 3, 1})
	s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if err := s.StartTLS(sconf, true); !os.IsTimeout(err) {
		t.Error(err)
	}
}

// A stranger's client sends to our server side: every pair of the wire format is then not ours alone.
func TestGoSMTPClient(t *testing.T) {
	s, nc := peer(t)
	var got []byte
	var seen []string
	done := make(chan error, 1)
	go func() {
		s.WriteReply(NewReply(220, "", "mx.test ESMTP"))
		for {
			cmd, err := s.ReadCommand(512)
			if err != nil {
				done <- err
				return
			}
			seen = append(seen, cmd.Verb)
			r := NewReply(250, "2.0.0", "ok")
			switch cmd.Verb {
			case "EHLO":
				_, err = ParseHelo(cmd.Args)
				r = Extensions{Size: true, EightBit: true, DSN: true, Enhanced: true}.EHLO("mx.test")
			case "MAIL":
				_, _, err = ParseMail(cmd.Args, everything)
			case "RCPT":
				_, _, err = ParseRcpt(cmd.Args, everything)
			case "DATA":
				s.WriteReply(NewReply(354, "", "go on"))
				d := s.Data()
				got, err = io.ReadAll(d)
				err = errors.Join(err, d.Err())
			case "QUIT":
				r = NewReply(221, "2.0.0", "bye")
			}
			if err != nil {
				r = NewReply(500, "", err.Error())
			}
			s.WriteReply(r)
			if cmd.Verb == "QUIT" {
				done <- s.Flush()
				return
			}
		}
	}()
	c := gosmtp.NewClient(nc)
	msg := "Subject: x\r\n\r\n.dot\r\n..\r\n.\r\nlast"
	if err := c.SendMail("a@b", []string{"c@d", `"e f"@g`}, strings.NewReader(msg)); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || string(got) != msg+"\r\n" {
		t.Errorf("%v, %q, %q", err, seen, got)
	}
}

// sink is a stranger's server.
type sink struct {
	mu   sync.Mutex
	mail []string
}

func (s *sink) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return s, nil }
func (s *sink) Reset()                                          {}
func (s *sink) Logout() error                                   { return nil }
func (s *sink) Mail(string, *gosmtp.MailOptions) error          { return nil }
func (s *sink) Rcpt(string, *gosmtp.RcptOptions) error          { return nil }
func (s *sink) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mail = append(s.mail, string(b))
	return err
}

// R17: our client side against a stranger's server, with messages made to end early or to hold a second one.
func TestR17_GoSMTPServer(t *testing.T) {
	back := &sink{}
	srv := gosmtp.NewServer(back)
	srv.Domain = "mx.test"
	srv.EnableDSN, srv.EnableSMTPUTF8 = true, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(nc)
	defer c.Close()
	c.SetReadTimeout(10 * time.Second)
	expect := func(code int) *Reply {
		t.Helper()
		r, err := c.ReadReply()
		if err != nil || r.Code != code {
			t.Fatalf("%v, %v, want %d", r, err, code)
		}
		return r
	}
	expect(220)
	c.WriteLine("EHLO ", "client.test")
	name, ext := ParseEHLO(expect(250))
	if !ext.Pipelining || !ext.DSN || !ext.UTF8 || name == "" {
		t.Errorf("%q, %+v", name, ext)
	}
	var want []string
	for _, end := range []string{"\n.\n", "\r.\r", "\r\n.\r\n", "\n.\r\n", "\r\n.\r", "\r\n.\n", "\n\r.\r\n", "\r\r\n.\r\n"} {
		msg := "body" + end + "MAIL FROM:<evil@x>\r\nRCPT TO:<y@z>\r\nDATA\r\nevil" + end
		want = append(want, strings.ReplaceAll(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(msg), "\n", "\r\n"))
		// RFC 2920: in one group.
		c.WriteLine("MAIL FROM:<a@b>", string(MailParams{Size: int64(len(msg)), Body: "8BITMIME", Ret: "HDRS", EnvID: "x=y"}.Append(nil)))
		c.WriteLine("RCPT TO:<c@d>", string(RcptParams{Notify: "NEVER", ORcpt: "rfc822;c+d@e"}.Append(nil)))
		c.WriteLine("DATA")
		expect(250)
		expect(250)
		expect(354)
		w := c.DataWriter()
		io.WriteString(w, msg)
		w.Close()
		expect(250)
	}
	c.WriteLine("QUIT")
	expect(221)
	back.mu.Lock()
	defer back.mu.Unlock()
	if len(back.mail) != len(want) {
		t.Fatalf("%d messages, want %d", len(back.mail), len(want))
	}
	for i := range want {
		if !strings.HasPrefix(want[i], strings.TrimRight(back.mail[i], "\r\n")) || !strings.Contains(back.mail[i], "evil") {
			t.Errorf("got %q, want %q", back.mail[i], want[i])
		}
	}
}

// idle opens n plain connections whose servers have answered one EHLO and wait for the next command, and returns the memory of the process for each, heap and stack.
// The peers are bare descriptors, which cost the process nothing.
func idle(tb testing.TB, n int) (heap, stack uint64) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	to := &syscall.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	var before, after runtime.MemStats
	measure := func(m *runtime.MemStats) {
		// Twice: stacks shrink and pools empty over two collections.
		runtime.GC()
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(m)
	}
	var fds []int
	var wg sync.WaitGroup
	tb.Cleanup(func() {
		for _, fd := range fds {
			syscall.Close(fd)
		}
		wg.Wait()
	})
	measure(&before)
	reply := Extensions{Pipelining: true, Size: true}.EHLO("mx.test")
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		fds = append(fds, fd)
		if err := syscall.Connect(fd, to); err != nil {
			tb.Fatal(err)
		}
		nc, err := l.Accept()
		if err != nil {
			tb.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := NewConn(nc)
			defer c.Close()
			c.SetReadTimeout(5 * time.Minute)
			c.SetWriteTimeout(5 * time.Minute)
			c.SetDeadline(time.Now().Add(time.Hour))
			c.WriteReply(NewReply(220, "", "mx.test ESMTP"))
			for {
				if _, err := c.ReadCommand(512); err != nil {
					return
				}
				c.WriteReply(reply)
			}
		}()
	}
	buf := make([]byte, 512)
	for _, fd := range fds {
		for _, say := range []string{"EHLO client.test\r\n", "NOOP\r\n", ""} {
			if k, err := syscall.Read(fd, buf); err != nil || !bytes.HasPrefix(buf[:k], []byte("2")) {
				tb.Fatalf("%q, %v", buf[:max(k, 0)], err)
			}
			if say != "" {
				syscall.Write(fd, []byte(say))
			}
		}
	}
	measure(&after)
	return (after.HeapInuse - before.HeapInuse) / uint64(n), (after.StackInuse - before.StackInuse) / uint64(n)
}

// S23: 1,000 idle sessions cost at most 10 KiB each, everything of this process counted.
func TestS23_IdleMemory(t *testing.T) {
	const n = 1000
	heap, stack := idle(t, n)
	t.Logf("each of %d idle sessions: %d bytes of heap, %d of stack", n, heap, stack)
	if heap+stack > 10<<10 {
		t.Errorf("%d bytes an idle session", heap+stack)
	}
}

func BenchmarkIdleMemory(b *testing.B) {
	for b.Loop() {
		heap, stack := idle(b, 1000)
		b.ReportMetric(float64(heap+stack), "B/session")
	}
}

// BenchmarkTransaction is one pipelined message of 4 KiB over TCP, without anything done with it.
func BenchmarkTransaction(b *testing.B) {
	s, nc := peer(b)
	msg := []byte(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57))
	go func() {
		ok := NewReply(250, "2.0.0", "ok")
		goOn := NewReply(354, "", "go on")
		for {
			cmd, err := s.ReadCommand(512)
			if err != nil {
				return
			}
			switch cmd.Verb {
			case "MAIL":
				_, _, err = ParseMail(cmd.Args, everything)
			case "RCPT":
				_, _, err = ParseRcpt(cmd.Args, everything)
			case "DATA":
				s.WriteReply(goOn)
				d := s.Data()
				_, err = d.WriteTo(io.Discard)
			}
			if err != nil {
				panic(err)
			}
			s.WriteReply(ok)
		}
	}()
	c := NewConn(nc)
	b.ReportAllocs()
	for b.Loop() {
		c.WriteLine("MAIL FROM:<someone@example.org> SIZE=4096 BODY=8BITMIME")
		c.WriteLine("RCPT TO:<someone.else@example.net>")
		c.WriteLine("DATA")
		for range 3 {
			if _, err := c.ReadReply(); err != nil {
				b.Fatal(err)
			}
		}
		w := c.DataWriter()
		w.Write(msg)
		w.Close()
		if r, err := c.ReadReply(); err != nil || !r.Positive() {
			b.Fatal(r, err)
		}
	}
}
