package login

import (
	"context"
	"crypto/md5"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/authd"
	"postamt/internal/authwire"
	"postamt/internal/password"
)

// What is offered can be used: EXTERNAL is what a verified certificate proves, a channel binding needs a channel.
func TestMechanismsThatCanBeUsed(t *testing.T) {
	list := []authwire.Mechanism{{Name: "PLAIN", Flags: authwire.Plaintext}, {Name: "EXTERNAL"}, {Name: "SCRAM-SHA-256-PLUS", Flags: authwire.ChannelBinding},
		{Name: "ANONYMOUS", Flags: authwire.Anonymous}, {Name: "APOP", Flags: authwire.Private}}
	for _, c := range []struct {
		name           string
		secure, proven bool
		want           string
	}{
		{"in clear", false, false, "PLAIN"},
		{"without a certificate", true, false, "PLAIN SCRAM-SHA-256-PLUS"},
		{"with a good one", true, true, "PLAIN EXTERNAL SCRAM-SHA-256-PLUS"},
	} {
		if got := strings.Join(usable(list, c.secure, c.proven), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// judge answers as the password says; it keeps the last request.
type judge struct {
	mu   sync.Mutex
	last authwire.Request
}

func (j *judge) Begin(_ context.Context, r *authwire.Request) authwire.Exchange {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = *r
	return &judged{}
}

type judged struct{ asked bool }

func (x *judged) End() {}

func (x *judged) Next(_ context.Context, response []byte) authwire.Reply {
	if response == nil && !x.asked {
		x.asked = true
		return authwire.Reply{Status: authwire.Continue, Data: []byte("who?")}
	}
	switch s := string(response); s {
	case "alice":
		return authwire.Reply{Status: authwire.OK, User: "alice"}
	case "nobody":
		return authwire.Reply{}
	default:
		return authwire.Reply{Code: authwire.Code(s)}
	}
}

func serve(t *testing.T, collect bool) (*Server, *judge) {
	j := &judge{}
	s := serveWith(t, &authwire.Server{Authenticator: j, Mechanisms: []authwire.Mechanism{{Name: "TEST"}}, Tickets: &authwire.Tickets{}})
	s.Collect = collect
	return s, j
}

func serveWith(t *testing.T, srv *authwire.Server) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { srv.ServeConn(ctx, c) })
		}
	})
	s := &Server{Client: &authwire.Client{Path: path}, Service: "pop3"}
	t.Cleanup(func() { s.Client.Close(); cancel(); l.Close(); running.Wait() })
	return s
}

func never([]byte) ([]byte, error) { return nil, errors.New("asked") }

func TestAuthenticate(t *testing.T) {
	s, j := serve(t, true)
	q := Request{Mechanism: "TEST", Initial: []byte("alice"), Remote: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("192.0.2.1:110"), Session: "s1"}
	u, err := s.Authenticate(t.Context(), q, never)
	if err != nil || u.Name != "alice" || u.Ticket == nil || u.Ticket.Cookie == "" {
		t.Errorf("%+v, %v", u, err)
	}
	// What fail2ban reads in the end is said here: the address, and of which session it is.
	if r := &j.last; r.Service != "pop3" || r.RemoteIP != q.Remote.Addr() || r.RemotePort != 4711 || r.LocalPort != 110 || r.Session != "s1" || r.NoLogin || r.Security != authwire.Secured {
		t.Errorf("%+v", r)
	}
	q.Initial = nil
	for say, want := range map[string]error{
		"alice": nil, "nobody": ErrCredentials, "": ErrCredentials, "authz_fail": ErrCredentials, "user_disabled": ErrCredentials, "pass_expired": ErrExpired,
		"invalid_base64": ErrMalformed, "auth_mech_invalid": ErrMechanism, "temp_fail": authwire.ErrUnavailable,
	} {
		u, err := s.Authenticate(t.Context(), q, func(challenge []byte) ([]byte, error) {
			if string(challenge) != "who?" {
				t.Errorf("challenge %q", challenge)
			}
			if say == "" {
				return nil, nil
			}
			return []byte(say), nil
		})
		if !errors.Is(err, want) || want == nil && err != nil || (err == nil) != (u.Name == "alice") {
			t.Errorf("%q: %+v, %v", say, u, err)
		}
	}
	gone := errors.New("the client is gone")
	if _, err := s.Authenticate(t.Context(), q, func([]byte) ([]byte, error) { return nil, gone }); err != gone {
		t.Errorf("%v", err)
	}
	if !errors.Is(ErrExpired, ErrCredentials) {
		t.Error("an expired password is one that does not open anything")
	}
}

// Who does not collect logins has no tickets, and says so; a login that should be collected and cannot be is none.
func TestTickets(t *testing.T) {
	s, j := serve(t, false)
	q := Request{Mechanism: "TEST", Initial: []byte("alice")}
	if u, err := s.Authenticate(t.Context(), q, never); err != nil || u.Ticket != nil || !j.last.NoLogin {
		t.Errorf("%+v, %v", u, err)
	}
	s.Collect = true
	if u, err := s.user(authwire.Reply{Status: authwire.OK, User: "alice"}); !errors.Is(err, authwire.ErrUnavailable) || u.Name != "" {
		t.Errorf("%+v, %v", u, err)
	}
}

// A server that is away says nothing about anybody.
func TestServerIsAway(t *testing.T) {
	s := &Server{Client: &authwire.Client{Path: filepath.Join(t.TempDir(), "none")}, Service: "pop3"}
	if _, err := s.Authenticate(t.Context(), Request{Mechanism: "TEST", Initial: []byte("alice")}, never); !errors.Is(err, authwire.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if m := s.Mechanisms(nil); m != nil {
		t.Errorf("%q", m)
	}
}

// A01: the lines of an exchange, of SMTP, POP3 and IMAP.
func TestA01_Lines(t *testing.T) {
	for _, x := range []struct {
		args, mechanism, initial string
		err                      error
	}{
		{"PLAIN", "PLAIN", "<nil>", nil},
		{"plain =", "PLAIN", "", nil},
		{"scram-sha-1 YQ==", "SCRAM-SHA-1", "a", nil},
		{"", "", "", ErrSyntax},
		{"PL/AIN", "", "", ErrSyntax},
		{strings.Repeat("X", 21), "", "", ErrSyntax},
		{"PLAIN ", "PLAIN", "", ErrBase64},
		{"PLAIN YQ", "PLAIN", "", ErrBase64},
		{"PLAIN YR==", "PLAIN", "", ErrBase64}, // bits beyond the last octet
		{"PLAIN =AAA", "PLAIN", "", ErrBase64},
		{"PLAIN AAA=BBBB", "PLAIN", "", ErrBase64},
		{"PLAIN YQ== ", "PLAIN", "", ErrBase64},
		{"PLAIN *", "PLAIN", "", ErrBase64},
	} {
		m, initial, err := ParseAuth(x.args)
		if m != x.mechanism || err != x.err || err == nil && (initial == nil) != (x.initial == "<nil>") || err == nil && initial != nil && string(initial) != x.initial {
			t.Errorf("%q: %q %q %v", x.args, m, initial, err)
		}
	}
	for line, want := range map[string]error{"": nil, "YQ==": nil, "*": ErrCancelled, "**": ErrBase64, "=": ErrBase64, "YQ": ErrBase64, "Y\nQ==": ErrBase64, "Y Q==": ErrBase64} {
		if _, err := ParseResponse([]byte(line)); err != want {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// APOP, from the greeting to the judgement of authd: the timestamp is good on the connection that it was made for, and a client cannot bring one of his own.
func TestAPOP(t *testing.T) {
	judge := authd.New(authd.Options{Sources: []authd.Source{mrose{}}, Mechanisms: []string{"PLAIN", "APOP"}, Hashes: 1, Sleep: func(context.Context, time.Duration) {}})
	s := serveWith(t, &authwire.Server{Authenticator: judge, Mechanisms: judge.Mechanisms()})
	stamp := s.Timestamp("pop.example")
	if stamp == s.Timestamp("pop.example") || !strings.HasPrefix(stamp, "<") || !strings.HasSuffix(stamp, "@pop.example>") {
		t.Errorf("%q", stamp)
	}
	if m := s.Mechanisms(nil); len(m) != 1 || m[0] != "PLAIN" {
		t.Errorf("%q are offered to AUTH", m)
	}
	log := func(stamp, name, secret string) error {
		u, err := s.APOP(t.Context(), Request{}, stamp, name, md5.Sum([]byte(stamp+secret)))
		if (err == nil) != (u.Name == "mrose") {
			t.Errorf("%+v, %v", u, err)
		}
		return err
	}
	if err := log(stamp, "MRose", "tanstaaf"); err != nil {
		t.Error(err)
	}
	for _, x := range []struct {
		stamp, name, secret string
		want                error
	}{
		{stamp, "mrose", "wrong", ErrCredentials},
		{stamp, "nobody", "tanstaaf", ErrCredentials},
		{stamp, "../x", "tanstaaf", ErrCredentials},
		{"<0.0.1@pop.example>", "mrose", "tanstaaf", authwire.ErrUnavailable},
	} {
		if err := log(x.stamp, x.name, x.secret); !errors.Is(err, x.want) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	digest := md5.Sum([]byte(stamp + "tanstaaf"))
	if _, err := s.Authenticate(t.Context(), Request{Mechanism: "APOP", Initial: append([]byte(stamp+"\x00mrose\x00"), digest[:]...)}, never); err != ErrMechanism {
		t.Errorf("AUTH APOP: %v", err)
	}
	without, _ := serve(t, false)
	if stamp := without.Timestamp("pop.example"); stamp != "" {
		t.Errorf("%q of a server without APOP", stamp)
	}
}

// mrose is the user of RFC 1939 section 7.
type mrose struct{}

func (mrose) String() string                                 { return "mrose" }
func (mrose) List(context.Context, func(string) error) error { return nil }

func (mrose) Find(_ context.Context, name string) (a *authd.Account, err error) {
	if name != "mrose" {
		return nil, authd.ErrUnknown
	}
	a = &authd.Account{}
	a.Name = name
	a.Password, err = password.Parse("{PLAIN}tanstaaf")
	return a, err
}
