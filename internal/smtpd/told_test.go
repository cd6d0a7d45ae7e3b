package smtpd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"postamt/internal/login/logintest"
)

// limited notices a read without a deadline.
type limited struct {
	*input
	armed, endless bool
}

func (l *limited) SetDeadline(t time.Time) error     { return l.SetReadDeadline(t) }
func (l *limited) SetReadDeadline(t time.Time) error { l.armed = !t.IsZero(); return nil }
func (l *limited) Read(b []byte) (int, error) {
	l.endless = l.endless || !l.armed
	return l.input.Read(b)
}

// TLS that ends before us is TLS: no handshake, no STARTTLS, AUTH, ESMTPSA with the names that were told.
func TestTLSBeforeUs(t *testing.T) {
	for _, kind := range []string{Submission, Submissions} {
		conf := testConfig()
		conf.Auth = &logintest.Accounts{}
		peer := testPeer
		peer.TLS = "TLSv1.2 ECDHE-X"
		in := &input{pieces: [][]byte{[]byte("EHLO c.example\r\n"), []byte("STARTTLS\r\n" + authPlain + "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\nQUIT\r\n")}}
		m := &memory{}
		NewServer(m, conf, 1).Serve(context.Background(), in, kind, peer)
		out := in.out.String()
		wantCodes(t, out, "220 250 503 235 250 250 354 250 221")
		if strings.Contains(out, "STARTTLS") || !strings.Contains(out, "AUTH PLAIN") {
			t.Errorf("%s is offered %q", kind, out)
		}
		if m.count() != 1 || !strings.Contains(string(m.messages[0].body), "(using TLSv1.2 with cipher ECDHE-X)\r\n\tby mx.example with ESMTPSA ") {
			t.Errorf("%+v", m.messages)
		}
	}
}

// STARTTLS of who passes the connection on: what was said before is forgotten, and no AUTH before it.
func TestStartTLSOfAnother(t *testing.T) {
	conf := testConfig()
	conf.Auth = &logintest.Accounts{}
	peer := testPeer
	started := 0
	peer.StartTLS = func() (string, error) { started++; return "TLSv1.3", nil }
	in := &input{pieces: [][]byte{[]byte("EHLO c.example\r\n"), []byte(authPlain), []byte("STARTTLS\r\n"),
		[]byte("MAIL FROM:<a@b.example>\r\n"), []byte("EHLO c.example\r\n" + authPlain + "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\nSTARTTLS\r\nQUIT\r\n")}}
	m := &memory{}
	NewServer(m, conf, 1).Serve(context.Background(), in, Submission, peer)
	out := in.out.String()
	wantCodes(t, out, "220 250 538 220 503 250 235 250 250 354 250 503 221")
	if started != 1 || strings.Count(out, "STARTTLS\r\n") != 1 {
		t.Errorf("started %d times: %q", started, out)
	}
	if m.count() != 1 || !strings.Contains(string(m.messages[0].body), "(using TLSv1.3)\r\n\tby mx.example with ESMTPSA ") {
		t.Errorf("%+v", m.messages)
	}

	// What lies below then has the time limits of what lay below before.
	conf.TimeoutCommand = time.Minute
	below := &limited{input: &input{pieces: [][]byte{[]byte("EHLO c.example\r\n"), []byte("STARTTLS\r\n"), []byte("QUIT\r\n")}}}
	peer.StartTLS = func() (string, error) { below.armed = false; return "TLSv1.3", nil }
	NewServer(m, conf, 1).Serve(context.Background(), below, Submission, peer)
	wantCodes(t, below.out.String(), "220 250 220 221")
	if below.endless {
		t.Error("it reads without a time limit")
	}
	peer.StartTLS = func() (string, error) { started++; return "TLSv1.3", nil }

	// T01, here too: nothing may follow in clear.
	in = &input{pieces: [][]byte{[]byte("EHLO c.example\r\nSTARTTLS\r\nEHLO c.example\r\n")}}
	NewServer(m, conf, 1).Serve(context.Background(), in, Submission, peer)
	wantCodes(t, in.out.String(), "220 250 501")
	if started != 1 {
		t.Error("started over what was sent in clear")
	}

	// Without a handshake there is no session.
	peer.StartTLS = func() (string, error) { return "", errors.New("no") }
	in = &input{pieces: [][]byte{[]byte("EHLO c.example\r\n"), []byte("STARTTLS\r\n"), []byte("EHLO c.example\r\n")}}
	NewServer(m, conf, 1).Serve(context.Background(), in, Submission, peer)
	wantCodes(t, in.out.String(), "220 250 220")
}
