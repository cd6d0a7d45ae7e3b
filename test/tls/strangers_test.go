package tls

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openssl runs s_client, says QUIT, and returns all that it prints.
func (s *system) openssl(arg ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-CAfile", s.ca.file}, arg...)...)
	c.Stdin = strings.NewReader("QUIT\r\n")
	out, _ := c.CombinedOutput()
	return string(out)
}

// T05: what OpenSSL's client gets to see, by STARTTLS and with TLS at once.
func TestT05_OpenSSL(t *testing.T) {
	need(t, "openssl")
	t.Parallel()
	s := start(t, true, "").readers()
	for _, listener := range []struct {
		mode           []string
		ours, anothers string // names in ALPN
	}{
		{[]string{"-starttls", "smtp", "-connect", s.Addr}, "smtp", "pop3"},
		{[]string{"-starttls", "smtp", "-connect", s.Submit}, "smtp", "pop3"},
		{[]string{"-connect", s.submissions}, "smtp", "pop3"},
		{[]string{"-starttls", "pop3", "-connect", s.pop3}, "pop3", "smtp"},
		{[]string{"-connect", s.pop3s}, "pop3", "smtp"},
		{[]string{"-starttls", "imap", "-connect", s.imap}, "imap", "pop3"},
		{[]string{"-connect", s.imaps}, "imap", "pop3"},
	} {
		mode := listener.mode
		for _, x := range []struct {
			what string
			arg  string
			want []string
		}{
			{"TLS 1.3", "-servername mx.example.test -verify_hostname mx.example.test", []string{"TLSv1.3", "Verify return code: 0 (ok)", "Server public key is 256 bit"}},
			{"RSA only", "-servername mx.example.test -sigalgs RSA-PSS+SHA256", []string{"Verify return code: 0 (ok)", "Server public key is 2048 bit", "Peer signature type: RSA-PSS"}},
			{"RSA PKCS #1 only", "-tls1_2 -servername mx.example.test -sigalgs RSA+SHA256", []string{"Peer signature type: RSA", "Server public key is 2048 bit"}},
			{"SHA-384", "-servername mx.example.test -sigalgs RSA-PSS+SHA384:RSA+SHA384", []string{"Peer signing digest: SHA384"}},
			{"an RSA cipher", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", []string{"Server public key is 2048 bit", "ECDHE-RSA-AES128-GCM-SHA256"}},
			{"an ECDSA cipher", "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", []string{"Server public key is 256 bit"}},
			{"a wildcard", "-servername a.wild.test -verify_hostname a.wild.test", []string{"Verify return code: 0 (ok)", "CN = *.wild.test"}},
			{"a wildcard is for one label", "-servername a.b.wild.test", []string{"CN = mx.example.test"}},
			{"an unknown name", "-servername nobody.test", []string{"CN = mx.example.test"}},
			{"a path as a name", "-servername ../../etc/passwd", []string{"CN = mx.example.test"}},
			{"no name", "-noservername", []string{"CN = mx.example.test"}},
			{"our ALPN", "-alpn " + listener.ours, []string{"ALPN protocol: " + listener.ours}},
			{"another ALPN", "-alpn h2,http/1.1", []string{"no application protocol"}},
			{"the ALPN of the service beside it", "-alpn " + listener.anothers, []string{"no application protocol"}},
			{"TLS 1.1", "-tls1_1 -cipher ALL:@SECLEVEL=0", []string{"alert protocol version"}},
			{"TLS 1.0", "-tls1 -cipher ALL:@SECLEVEL=0", []string{"alert protocol version"}},
			{"RSA key exchange", "-tls1_2 -cipher AES128-GCM-SHA256", []string{"handshake failure"}},
			{"no encryption", "-tls1_2 -cipher eNULL:@SECLEVEL=0", []string{"handshake failure"}},
			{"no certificate", "-tls1_2 -cipher aNULL:@SECLEVEL=0", []string{"handshake failure"}},
			{"finite field", "-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256", []string{"handshake failure"}},
			{"SHA-1", "-tls1_2 -sigalgs RSA+SHA1:ECDSA+SHA1 -cipher ALL:@SECLEVEL=0", []string{"handshake failure"}},
			{"compression", "-tls1_2 -comp", []string{"Compression: NONE"}},
		} {
			out := s.openssl(append(mode[:len(mode):len(mode)], strings.Fields(x.arg)...)...)
			for _, w := range x.want {
				if !strings.Contains(out, w) {
					t.Errorf("%v, %s: %q is not in\n%s", mode, x.what, w, out)
				}
			}
		}
	}
}

// T05: a client that asks to negotiate again is refused.
func TestT05_Renegotiation(t *testing.T) {
	need(t, "openssl")
	t.Parallel()
	s := start(t, false, "").readers()
	for _, x := range []struct{ addr, greeting string }{{s.submissions, "220 mx"}, {s.pop3s, "+OK mx"}, {s.imaps, "* OK [CAPABILITY "}} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c := exec.CommandContext(ctx, "openssl", "s_client", "-tls1_2", "-connect", x.addr)
		in, _ := c.StdinPipe()
		from, _ := c.StdoutPipe()
		c.Stderr = c.Stdout
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// R before the greeting has come would meet it in the middle of the handshake, which openssl ends itself.
		var text string
		for b := make([]byte, 4096); ; {
			n, err := from.Read(b)
			before := strings.Contains(text, x.greeting)
			text += string(b[:n])
			if !before && strings.Contains(text, x.greeting) {
				io.WriteString(in, "R\nQUIT\r\n")
			}
			if err != nil {
				break
			}
		}
		c.Wait()
		if !strings.Contains(text, "RENEGOTIATING") || !strings.Contains(text, "alert unexpected message") {
			t.Errorf("%s", text)
		}
	}
}

// A ticket is taken by the listener that gave it, by another process of the service (which only keyd makes possible), and
// by no other listener.
func TestTicketsOfOpenSSL(t *testing.T) {
	need(t, "openssl")
	t.Parallel()
	s := start(t, true, "")
	ticket := filepath.Join(s.dir, "ticket")
	get := func(version string) {
		t.Helper()
		os.Remove(ticket)
		// -ign_eof: in TLS 1.3 the ticket comes behind the handshake; QUIT gives it the time.
		out := s.openssl("-starttls", "smtp", "-connect", s.Submit, version, "-sess_out", ticket, "-ign_eof")
		if _, err := os.Stat(ticket); err != nil {
			t.Fatalf("no ticket: %s", out)
		}
	}
	reused := func(arg ...string) bool {
		t.Helper()
		out := s.openssl(append(arg, "-sess_in", ticket)...)
		yes, no := strings.Contains(out, "Reused, "), strings.Contains(out, "New, ")
		if yes == no {
			t.Fatalf("%s", out)
		}
		return yes
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		get(version)
		if !reused("-starttls", "smtp", "-connect", s.Submit, version) {
			t.Errorf("%s: the ticket is not taken", version)
		}
		get(version)
		if reused("-starttls", "smtp", "-connect", s.Addr, version) {
			t.Errorf("%s: the ticket of submission is taken on mx", version)
		}
		if reused("-connect", s.submissions, version) {
			t.Errorf("%s: the ticket of submission is taken on submissions", version)
		}
		if err := s.Terminate("smtpd"); err != nil {
			t.Fatal(err)
		}
		if err := s.Launch("smtpd"); err != nil {
			t.Fatal(err)
		}
		if !reused("-starttls", "smtp", "-connect", s.Submit, version) {
			t.Errorf("%s: the ticket is not taken by the next process", version)
		}
	}
}

// Mail programs send a message over TLS and check the certificate.
func TestStrangers(t *testing.T) {
	t.Parallel()
	s := start(t, true, "")
	host, port, _ := strings.Cut(s.Addr, ":")
	_, ports, _ := strings.Cut(s.submissions, ":")
	message := filepath.Join(s.dir, "message")
	if err := os.WriteFile(message, []byte("Subject: x\r\n\r\nbody\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, x := range []struct {
		name string
		arg  []string
		want string
	}{
		{"swaks", []string{"--server", host, "--port", port, "-tls", "--tls-verify", "--tls-ca-path", s.ca.file, "--tls-sni", "mx.example.test",
			"--from", "a@client.test", "--to", "alice@example.test"}, "queued as"},
		{"curl", []string{"-sv", "--ssl-reqd", "--cacert", s.ca.file, "--connect-to", "mx.example.test:25:" + s.Addr, "smtp://mx.example.test:25",
			"--mail-from", "a@client.test", "--mail-rcpt", "alice@example.test", "-T", message}, "queued as"},
		// Without a login nobody submits: this shows the handshake, the name and the greeting.
		{"curl", []string{"-sv", "--cacert", s.ca.file, "--connect-to", "mx.example.test:465:" + s.submissions, "smtps://mx.example.test:465"}, "220 mx.example.test"},
		{"gnutls-cli", []string{"--x509cafile", s.ca.file, "--sni-hostname", "mx.example.test", "--verify-hostname", "mx.example.test", "--alpn", "smtp",
			"--port", ports, host}, "220 mx.example.test"},
		{"gnutls-cli", []string{"--x509cafile", s.ca.file, "--sni-hostname", "mx.example.test", "--verify-hostname", "mx.example.test",
			"--starttls-proto", "smtp", "--port", port, host}, "- Handshake was completed"},
	} {
		t.Run(x.name, func(t *testing.T) {
			need(t, x.name)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			c := exec.CommandContext(ctx, x.name, x.arg...)
			c.Stdin = strings.NewReader("QUIT\r\n")
			out, err := c.CombinedOutput()
			if !strings.Contains(string(out), x.want) {
				t.Errorf("%v\n%s", err, out)
			}
			if x.want == "queued as" {
				sent++
			}
		})
	}
	if _, err := s.AwaitDelivered("alice", sent, 20*time.Second); err != nil {
		t.Error(err)
	}
}
