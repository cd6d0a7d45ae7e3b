package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/authd"
	"postamt/internal/authwire"
	"postamt/internal/password"
)

// people are alice, whose password is secret, and down, of whom nobody can tell.
type people struct{}

func (people) String() string                                 { return "people" }
func (people) List(context.Context, func(string) error) error { return nil }

func (people) Find(_ context.Context, name string) (*authd.Account, error) {
	a := &authd.Account{}
	a.Name = name
	var err error
	switch name {
	case "alice":
		a.Password, err = password.Parse("{PLAIN}secret")
	case "down":
		err = errors.New("no answer")
	default:
		err = authd.ErrUnknown
	}
	return a, err
}

// serveAuth is authd on the socket, until the test ends; it does not delay who guesses.
func serveAuth(t testing.TB, path string) {
	t.Helper()
	judge := authd.New(authd.Options{Sources: []authd.Source{people{}}, Mechanisms: []string{"PLAIN", "LOGIN"}, Hashes: 1,
		Sleep: func(context.Context, time.Duration) {}})
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
			running.Go(func() { (&authwire.Server{Authenticator: judge, Mechanisms: judge.Mechanisms()}).ServeConn(ctx, c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		running.Wait()
	})
}

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
