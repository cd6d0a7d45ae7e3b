package auth

import (
	"crypto/md5"
	"errors"
	"testing"

	"postamt/internal/authwire"
	"postamt/internal/login"
	"postamt/test/peers"
)

// APOP as we pass it on is APOP as Debian's Dovecot judges it: with a timestamp that names its process and our connection, and no other.
func TestAPOPAsksDovecot(t *testing.T) {
	d := peers.Dovecot(t, peers.Config{})
	s := &login.Server{Client: &authwire.Client{Path: d.Auth}, Service: "pop3"}
	t.Cleanup(func() { s.Client.Close() })
	stamp := s.Timestamp("pop.example")
	if stamp == "" {
		t.Fatal("APOP is not offered")
	}
	for _, x := range []struct {
		stamp, secret string
		want          error
	}{{stamp, "secret", nil}, {stamp, "wrong", login.ErrCredentials}, {"<1.1.1@pop.example>", "secret", login.ErrCredentials}} {
		u, err := s.APOP(t.Context(), login.Request{}, x.stamp, "alice", md5.Sum([]byte(x.stamp+x.secret)))
		if !errors.Is(err, x.want) || (err == nil) != (u.Name == "alice") || x.want == nil && err != nil {
			t.Errorf("%+v: %+v, %v", x, u, err)
		}
	}
}
