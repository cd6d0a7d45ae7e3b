package login

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/suite"
)

// RFC 7628: programs log in with a signed token, and not with one of yesterday or of somebody else.
func TestTokensLogIn(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s, err := suite.New(suite.Config{Bin: bin, Auth: true, TLS: true,
		Settings: "auth_mechanisms PLAIN OAUTHBEARER XOAUTH2\noauth_jwt_keys keys\noauth_issuer https://issuer.test\noauth_audience mail\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(public)
	if err := os.WriteFile(filepath.Join(s.Dir, "keys"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(user string, end time.Duration) string {
		b64 := base64.RawURLEncoding.EncodeToString
		c, _ := json.Marshal(map[string]any{"iss": "https://issuer.test", "aud": "mail", "email": user, "exp": time.Now().Add(end).Unix()})
		text := b64([]byte(`{"alg":"EdDSA"}`)) + "." + b64(c)
		return text + "." + b64(ed25519.Sign(private, []byte(text)))
	}
	t.Cleanup(func() { s.End() })
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte("From: alice@example.test\nTo: bob@example.test\nSubject: a test\n\ntext\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bearer := func(t *testing.T, s *suite.System, message, token string) *exec.Cmd {
		return exec.Command(tool(t, "curl"), "-sS", "smtps://"+s.Secure+"/client.test", "--user", "alice@example.test", "--oauth2-bearer", token,
			"--cacert", s.Cert, "--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test", "--crlf", "--upload-file", message)
	}
	n := 0
	for _, p := range []program{
		{"curl OAUTHBEARER", bearer},
		{"curl XOAUTH2", func(t *testing.T, s *suite.System, message, token string) *exec.Cmd {
			cmd := bearer(t, s, message, token)
			cmd.Args = append(cmd.Args, "--login-options", "AUTH=XOAUTH2")
			return cmd
		}},
		{"msmtp OAUTHBEARER", func(t *testing.T, s *suite.System, message, token string) *exec.Cmd {
			cmd := msmtp(submit, "oauthbearer")(t, s, message, token)
			for i, a := range cmd.Args {
				cmd.Args[i] = strings.Replace(a, "--user=alice", "--user=alice@example.test", 1)
			}
			return cmd
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			if out, err := p.command(t, s, message, token("alice@example.test", time.Hour)).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, s.Log("authd"))
			}
			n++
			if _, err := s.AwaitDelivered("bob", n, limit); err != nil {
				t.Fatal(err)
			}
		})
	}
	for what, bad := range map[string]string{"of yesterday": token("alice@example.test", -24*time.Hour), "of bob": token("bob@example.test", time.Hour)} {
		if out, err := bearer(t, s, message, bad).CombinedOutput(); err == nil {
			t.Errorf("a token %s sends:\n%s", what, out)
		}
	}
	log := logged(t, s, "authd", 1, "expired") + logged(t, s, "authd", 1, "not authorized") + s.Log("smtpd")
	if strings.Contains(log, base64.RawURLEncoding.EncodeToString([]byte(`{"alg`))) {
		t.Errorf("the log says\n%s", log)
	}
}
