package main

import (
	"context"
	"errors"
	"net"
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
