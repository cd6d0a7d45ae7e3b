package remote

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postamt/internal/addr"
	"postamt/internal/remote/smtptest"
)

// backend is an independent server's side: go-smtp keeps what our client sends.
type backend struct {
	mu   sync.Mutex
	msgs []got
}

type got struct {
	from  string
	mail  gosmtp.MailOptions
	rcpts []string
	opts  []gosmtp.RcptOptions
	data  string
	tls   bool
}

type peerSession struct {
	b *backend
	g got
}

func (b *backend) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &peerSession{b: b, g: got{tls: secure}}, nil
}
func (s *peerSession) Reset()        { s.g = got{tls: s.g.tls} }
func (s *peerSession) Logout() error { return nil }
func (s *peerSession) Mail(from string, o *gosmtp.MailOptions) error {
	s.g.from, s.g.mail = from, *o
	return nil
}
func (s *peerSession) Rcpt(to string, o *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "no@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
	}
	s.g.rcpts = append(s.g.rcpts, to)
	s.g.opts = append(s.g.opts, *o)
	return nil
}
func (s *peerSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.g.data = string(b)
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.msgs = append(s.b.msgs, s.g)
	return nil
}
func (s *peerSession) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	if err := s.Data(r); err != nil {
		return err
	}
	for _, to := range s.g.rcpts {
		var err error
		if strings.HasPrefix(to, "full@") {
			err = &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 2, 2}, Message: "full"}
		}
		status.SetStatus(to, err)
	}
	return nil
}

// TestIndependentPeer sends to go-smtp's server by every way it knows.
func TestIndependentPeer(t *testing.T) {
	cert := certificate(t, "mx.test", time.Now().Add(time.Hour))
	for _, c := range []struct {
		name           string
		lmtp, tls, dot bool
		chunking       bool
		body           string
	}{
		{name: "DATA"}, {name: "BDAT", chunking: true}, {name: "TLS", tls: true}, {name: "TLS and BDAT", tls: true, chunking: true},
		{name: "LMTP", lmtp: true}, {name: "BINARYMIME", body: "BINARYMIME"}, {name: "8BITMIME", body: "8BITMIME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			be := &backend{}
			srv := gosmtp.NewServer(be)
			srv.Domain, srv.LMTP, srv.EnableSMTPUTF8, srv.EnableBINARYMIME, srv.EnableDSN = "mx.test", c.lmtp, true, true, true
			srv.ReadTimeout, srv.WriteTimeout = 10*time.Second, 10*time.Second
			srv.MaxLineLength, srv.MaxMessageBytes = 4000, 64<<20
			if c.tls {
				srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
			}
			network, address := "tcp", "127.0.0.1:0"
			if c.lmtp {
				network, address = "unix", filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			go srv.Serve(l)
			defer srv.Close()
			ep := Endpoint{Name: "mx.test", LMTP: c.lmtp}
			if c.lmtp {
				ep.Socket = address
			} else {
				ep.Addr = l.Addr().(*net.TCPAddr).AddrPort()
			}
			p := pool(t, func(o *Options) { o.PreferChunking = c.chunking })
			big := strings.Repeat(strings.Repeat("y", 76)+"\r\n", 3000)
			for i, msg := range []string{hello, "\r\nx\r\n.\r\n..\r\n", "Subject: ü\r\n\r\nü\r\n" + big, hello} {
				tr := text(msg, "a@x.test", "no@x.test", "b@x.test")
				tr.Body, tr.Ret, tr.EnvID = c.body, "HDRS", fmt.Sprint("id ", i)
				tr.Rcpts[0].Notify, tr.Rcpts[0].ORcpt = "FAILURE,DELAY", "rfc822;o@x.test"
				if i == 3 {
					tr.From = addr.Mailbox{}
				}
				out := deliver(t, p, tr, ep)
				if show(out) != "done/data/250 failed/rcpt/550 done/data/250" || !out[0].DSN || (out[0].TLS != "") != c.tls {
					t.Fatal(show(out), out[0].Reply, out[0].DSN, out[0].TLS)
				}
				g := be.msgs[i]
				// go-smtp gives message text from DATA with LF for CRLF undone or not, by version: compare with CRLF only.
				if data := strings.ReplaceAll(strings.ReplaceAll(g.data, "\r\n", "\n"), "\n", "\r\n"); data != msg {
					t.Errorf("message %d: %d bytes arrived of %d", i, len(data), len(msg))
				}
				if g.from != tr.From.String() || fmt.Sprint(g.rcpts) != "[a@x.test b@x.test]" || g.mail.EnvelopeID != tr.EnvID || string(g.mail.Return) != "HDRS" || g.tls != c.tls ||
					len(g.opts[0].Notify) != 2 || g.opts[0].OriginalRecipient != "o@x.test" || g.mail.Size != int64(len(msg)) {
					t.Errorf("message %d: envelope %+v", i, g)
				}
			}
			if c.lmtp {
				if out := deliver(t, p, text(hello, "a@x.test", "full@x.test", "b@x.test"), ep); show(out) != "done/data/250 deferred/data/452 done/data/250" {
					t.Error(show(out))
				}
			}
		})
	}
}

func BenchmarkSend(b *testing.B) {
	msg := "Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52)
	for _, c := range []struct {
		name string
		cfg  smtptest.Config
	}{
		{"SMTP", smtptest.Config{Discard: true}},
		{"LMTP", smtptest.Config{Discard: true, LMTP: true, Socket: "yes", Offer: append([]string{"XQID"}, full...)}},
	} {
		for _, reuse := range []bool{true, false} {
			b.Run(fmt.Sprint(c.name, "/reuse=", reuse), func(b *testing.B) {
				if c.cfg.Socket != "" {
					c.cfg.Socket = filepath.Join(b.TempDir(), "s")
				}
				s, err := smtptest.Start(c.cfg)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				p := pool(b, func(o *Options) {
					o.MaxMessages = 1 << 30
					if !reuse {
						o.MaxMessages = 1
					}
				})
				ep := endpoint(s, c.cfg)
				b.ReportAllocs()
				for b.Loop() {
					if out := p.Send(context.Background(), ep, text(msg, "a@x.test")); out[0].Kind != Done {
						b.Fatal(show(out))
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
