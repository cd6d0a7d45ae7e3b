package sasl

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postamt/test/peers"

	"postamt/internal/channel"
)

// smtpServer answers one connection at a time with no more than EHLO, STARTTLS and AUTH (RFC 4954), so that other people's clients
// can log in, and says who did.
type smtpServer struct {
	addr     string
	offer    string // mechanisms
	options  Options
	tls      *tls.Config
	cert     *x509.Certificate
	between  bool        // the server sees another channel than the client
	loggedIn chan string // the canonical name, or the error
}

func startSMTP(t *testing.T, offer string) *smtpServer {
	t.Helper()
	certFile, keyFile, err := peers.WriteCert(t.TempDir(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{addr: l.Addr().String(), offer: offer, options: options(newWatch(t)), tls: &tls.Config{Certificates: []tls.Certificate{pair}}, cert: pair.Leaf, loggedIn: make(chan string, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			s.session(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return s
}

func (s *smtpServer) session(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	line := func() (string, bool) {
		l, err := r.ReadString('\n')
		return strings.TrimRight(l, "\r\n"), err == nil
	}
	o := s.options
	say("220 mx.example.org ESMTP")
	for {
		l, ok := line()
		if !ok {
			return
		}
		verb, args, _ := strings.Cut(l, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mx.example.org")
			if _, secure := c.(*tls.Conn); !secure {
				say("250-STARTTLS")
			}
			say("250 AUTH %s", s.offer)
		case "STARTTLS":
			say("220 go ahead")
			tc := tls.Server(c, s.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r = tc, bufio.NewReader(tc)
			state := tc.ConnectionState()
			exporter, err1 := channel.Exporter(state.ExportKeyingMaterial)
			endPoint, err2 := channel.EndPoint(s.cert)
			if err1 != nil || err2 != nil {
				s.loggedIn <- fmt.Sprint(err1, err2)
				return
			}
			o.Bindings = []channel.Binding{exporter, endPoint}
			if state.TLSUnique != nil {
				o.Bindings = append(o.Bindings, channel.Binding{Type: "tls-unique", Data: state.TLSUnique})
			}
			if s.between {
				for _, b := range o.Bindings {
					b.Data[0] ^= 1
				}
			}
		case "AUTH":
			who, err := s.auth(o, args, say, line)
			if err != nil {
				s.loggedIn <- err.Error()
				say("535 5.7.8 no")
				continue
			}
			s.loggedIn <- who
			say("235 2.7.0 welcome")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *smtpServer) auth(o Options, args string, say func(string, ...any), line func() (string, bool)) (string, error) {
	name, initial, given := strings.Cut(args, " ")
	o.PlusOffered = strings.Contains(s.offer, "-PLUS")
	x, err := New(strings.ToUpper(name), o)
	if err != nil {
		return "", err
	}
	var response []byte
	if given {
		if response, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(initial, "=")); err != nil {
			return "", err
		}
	}
	for {
		challenge, done, err := x.Next(context.Background(), response)
		if err != nil {
			return "", err
		}
		if !done || len(challenge) > 0 {
			say("334 %s", base64.StdEncoding.EncodeToString(challenge))
			l, ok := line()
			if !ok {
				return "", fmt.Errorf("the client is gone")
			}
			if response, err = base64.StdEncoding.DecodeString(l); err != nil {
				return "", fmt.Errorf("the client says %q", l)
			}
		}
		if done {
			return x.Identity().Authorized, nil
		}
	}
}

// result is what the last login came to.
func (s *smtpServer) result(t *testing.T) string {
	t.Helper()
	select {
	case who := <-s.loggedIn:
		return who
	case <-time.After(30 * time.Second):
		t.Fatal("no AUTH came")
		return ""
	}
}

// GNU SASL logs in with each mechanism; with a wrong password, with none. It checks the server's signature, too. It binds to tls-exporter in TLS 1.3, and to
// tls-unique below.
func TestGsasl(t *testing.T) {
	gsasl, err := exec.LookPath("gsasl")
	if err != nil {
		t.Skip("gsasl is not installed")
	}
	login := func(s *smtpServer, mechanism, user, password string, args ...string) (string, error) {
		args = append([]string{"--smtp", "--connect=" + s.addr, "-m", mechanism, "-a", user, "-p", password, "--x509-ca-file=", "--quiet"}, args...)
		cmd := exec.Command(gsasl, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		mechanism, user, password string
		args                      []string
	}{
		{"PLAIN", "alice", "tanstaaf", nil},
		{"LOGIN", "alice", "tanstaaf", nil},
		{"CRAM-MD5", "alice", "tanstaaf", nil},
		{"SCRAM-SHA-1", "alice", "tanstaaf", []string{"--no-starttls"}},
		{"SCRAM-SHA-256", "alice", "tanstaaf", []string{"--no-starttls"}},
		{"SCRAM-SHA-256", "bob", "hunter=2,", []string{"--no-starttls"}},
		{"SCRAM-SHA-256", "dora", "pencil", []string{"--no-starttls"}},
		{"SCRAM-SHA-256", "carol", "secret", []string{"--no-starttls", "fails"}}, // her hash says nothing to SCRAM
		{"SCRAM-SHA-1-PLUS", "alice", "tanstaaf", []string{"--starttls"}},
		{"SCRAM-SHA-256-PLUS", "alice", "tanstaaf", []string{"--starttls"}},
		{"SCRAM-SHA-256-PLUS", "dora", "pencil", []string{"--starttls"}},
		{"SCRAM-SHA-256-PLUS", "dora", "pencil", []string{"--starttls", "--priority=NORMAL:-VERS-TLS1.3"}},
	} {
		s := startSMTP(t, c.mechanism)
		want := c.user
		args := c.args
		if n := len(args); n > 0 && args[n-1] == "fails" {
			want, args = ErrCredentials.Error(), args[:n-1]
		}
		out, err := login(s, c.mechanism, c.user, c.password, args...)
		if got := s.result(t); got != want || (err == nil) != (want == c.user) {
			t.Errorf("%s %v as %s: %s, gsasl says %v: %s", c.mechanism, c.args, c.user, got, err, out)
		}
		out, err = login(s, c.mechanism, c.user, "wrong", args...)
		if got := s.result(t); got != ErrCredentials.Error() || err == nil {
			t.Errorf("%s %v with a wrong password: %s, gsasl says %v: %s", c.mechanism, c.args, got, err, out)
		}
	}

	// Somebody in between has a channel with each of the two, and they are not the same.
	s := startSMTP(t, "SCRAM-SHA-256-PLUS")
	s.between = true
	out, err := login(s, "SCRAM-SHA-256-PLUS", "alice", "tanstaaf", "--starttls")
	if got := s.result(t); err == nil || !strings.Contains(got, "the channel bindings differ") {
		t.Errorf("on another channel: %s, gsasl says %s", got, out)
	}
	// EXTERNAL says who it is by its certificate, and may name whom it acts for.
	s = startSMTP(t, "EXTERNAL")
	if out, err := login(s, "EXTERNAL", "", "", "-z", "alice"); err != nil || s.result(t) != "alice" {
		t.Errorf("EXTERNAL: %v: %s", err, out)
	}
}

// Python's smtplib: CRAM-MD5 with its hmac, LOGIN and PLAIN with and without an initial response.
func TestPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if exec.Command(python, "-c", "import smtplib").Run() != nil {
		t.Skip("python3 has no smtplib")
	}
	const script = `
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
for mechanism in sys.argv[2:]:
    for initial in (True, False):
        for password in ("tanstaaftanstaaf", "wrong"):
            s = smtplib.SMTP(host, int(port), timeout=30)
            s.ehlo()
            s.user, s.password = "Tim", password
            try:
                s.auth(mechanism, getattr(s, "auth_" + mechanism.lower().replace("-", "_")), initial_response_ok=initial)
                print(mechanism, "yes")
            except smtplib.SMTPAuthenticationError:
                print(mechanism, "no")
            s.close()
`
	s := startSMTP(t, "PLAIN LOGIN CRAM-MD5")
	out, err := exec.Command(python, "-c", script, s.addr, "PLAIN", "LOGIN", "CRAM-MD5").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, answer := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		want, wantAnswer := "tim", "yes"
		if i%2 == 1 {
			want, wantAnswer = ErrCredentials.Error(), "no"
		}
		if got := s.result(t); got != want || !strings.HasSuffix(answer, " "+wantAnswer) {
			t.Errorf("login %d: %s, python says %s", i, got, answer)
		}
	}
}
