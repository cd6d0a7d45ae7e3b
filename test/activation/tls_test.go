package activation

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// TLS by the UCSPI server, from the first octet and by STARTTLS: users log in, and Received tells of it. smtpd has no certificate here.
func TestTLSOfTheServer(t *testing.T) {
	const pkg = "s6-networking, which Debian 12 has not"
	for _, x := range []struct {
		name  string
		line  []string
		swaks string
	}{
		{"s6-tlsserver", []string{"s6-tlsserver", "-S", "HOST", "PORT", "smtpd"}, "--tls-on-connect"},
		{"s6-ucspitlsd", []string{"s6-tcpserver", "HOST", "PORT", "s6-ucspitlsd", "-S", "smtpd"}, "-tls"},
	} {
		t.Run(x.name, func(t *testing.T) {
			tool(t, x.name, pkg)
			s := lay(t, suite.Config{Auth: true, Settings: "auth_clear 192.0.2.1\n"})
			host, port, err := net.SplitHostPort(s.Submit)
			if err != nil {
				t.Fatal(err)
			}
			cert, key, err := peers.WriteCert(s.Dir, "mx.example.test")
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range x.line {
				x.line[i] = strings.NewReplacer("HOST", host, "PORT", port).Replace(a)
			}
			c := exec.Command(tool(t, x.line[0], pkg), x.line[1:]...)
			c.Env = append(os.Environ(), "CERTFILE="+cert, "KEYFILE="+key)
			supervise(t, s, c)
			if err := suite.Await(limit, "a listener", func() bool {
				c, err := net.Dial("tcp", s.Submit)
				if err == nil {
					c.Close()
				}
				return err == nil
			}); err != nil {
				t.Fatal(err)
			}
			swaks(t, s.Submit, "alice@example.test", x.swaks, "--auth", "PLAIN", "--auth-user", "bob", "--auth-password", "bob", "--protocol", "ESMTP")
			found, err := s.AwaitDelivered("alice", 1, limit)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			if text := string(b); !strings.Contains(text, "with ESMTPSA id") || !strings.Contains(text, "(using TLSv1.") {
				t.Errorf("%s:\n%s", filepath.Base(found[0]), text)
			}
			if x.name == "s6-ucspitlsd" {
				out, _ := exec.Command(tool(t, "swaks", "swaks"), "--server", s.Submit, "--quit-after", "EHLO").CombinedOutput()
				if text := string(out); !strings.Contains(text, "STARTTLS") || strings.Contains(text, "AUTH") {
					t.Errorf("before TLS: %s", text)
				}
			}
		})
	}
}
