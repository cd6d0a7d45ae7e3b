package sasl

import (
	"context"
	"errors"

	"postamt/internal/password"
)

// Users are Credentials of stored passwords. They see to it that each answer takes the same work: one check of a password
// that was made to be slow for Verify, one derivation for SCRAM, none for Secret. Where users have hashes of different costs, the cost
// shows, and so does who is not of the decoy's; that is the limit.
type Users struct {
	// Find returns what is stored for a user; the zero Stored or ErrCredentials if there is no such user. Other errors are temporary.
	Find func(ctx context.Context, user string) (password.Stored, error)

	// Decoy is what the password is compared with where nothing slow is stored: password.Stored.Decoy of a hash such as most users have.
	Decoy password.Stored

	Derivation password.Derivation

	// Gate waits until a computation that needs so many octets may begin, and returns what ends it. nil: at once. An error is
	// temporary.
	Gate func(ctx context.Context, octets int64) (end func(), err error)
}

func (u *Users) find(ctx context.Context, user string) (password.Stored, error) {
	s, err := u.Find(ctx, user)
	if errors.Is(err, ErrCredentials) {
		return password.Stored{}, nil
	}
	return s, err
}

func (u *Users) compute(ctx context.Context, octets int64, f func()) error {
	if u.Gate != nil {
		end, err := u.Gate(ctx, octets)
		if err != nil {
			return err
		}
		defer end()
	}
	f()
	return nil
}

// Verify is Credentials'.
func (u *Users) Verify(ctx context.Context, user, given string) error {
	s, err := u.find(ctx, user)
	if err != nil {
		return err
	}
	slow := s
	if s.Locked() || !s.Costly() {
		slow = u.Decoy.Decoy()
	}
	var ok bool
	if err := u.compute(ctx, slow.Memory(), func() { ok = slow.Verify(given) }); err != nil {
		return err
	}
	if !s.Costly() {
		ok = s.Verify(given)
	}
	if !ok {
		return ErrCredentials
	}
	return nil
}

// SCRAM is Credentials'.
func (u *Users) SCRAM(ctx context.Context, user string, h password.SCRAMHash) (keys password.Keys, real bool, err error) {
	s, err := u.find(ctx, user)
	if err != nil {
		return password.Keys{}, false, err
	}
	err = u.compute(ctx, 0, func() { keys, real = s.SCRAM(h, user, u.Derivation) })
	return keys, real && err == nil, err
}

// Secret is Credentials'.
func (u *Users) Secret(ctx context.Context, user string) (string, bool, error) {
	s, err := u.find(ctx, user)
	if err != nil {
		return "", false, err
	}
	secret, ok := s.Plain()
	return secret, ok, nil
}
