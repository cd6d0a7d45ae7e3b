// Package authd says who exists and whether a password is right. It is the program that reads secrets, without its wire:
// authwire speaks for it.
//
//	AUTH -> penalty: how long the answer must wait -> mechanism (sasl) -> sources, in their order -> a place to compute -> reply
//	USER -> sources, in their order -> fields
//
// A source is a users file, the accounts of the system, a checkpassword program, or another server of the same protocol.
// The first that knows a user answers for it; one that cannot tell ends the search, because the next might know
// somebody else of that name.
//
// Promises:
//   - What is not known to be right is never a yes: an error of a source is "try later".
//   - An unknown user costs as much time as a wrong password: a decoy of the kind that the last user had is computed.
//   - So many hashes are computed at once as Options.Hashes says, others wait in line; requests that need none do not.
//   - Who guesses waits longer and longer, by address (IPv6: /64) and by user; a user who logged in from an address
//     lately is not kept waiting there by what strangers do elsewhere, and nobody is ever locked out.
//   - A user's name is made canonical once, before anything is looked up; names that could leave a directory or a line
//     are unknown users.
//   - No secret is in a log line or an error.
package authd

import (
	"context"
	"errors"
	"net/netip"

	"postamt/internal/password"
	"postamt/internal/userdb"
)

// The errors of sources that are certain; any other error says that nobody can tell now.
var (
	ErrUnknown = errors.New("no such user")
	ErrWrong   = errors.New("wrong password")
)

// Account is what a source knows about a user.
type Account struct {
	userdb.User
	Password password.Stored // the zero value is locked
	Disabled bool            // the account is closed
	Expired  bool            // the password is too old to be used
}

// mayLogIn from that address; an address that is not valid is a local socket.
func (a *Account) mayLogIn(from netip.Addr) bool {
	if a.NoLogin {
		return false
	}
	if a.AllowNets == nil || !from.IsValid() {
		return true
	}
	from = from.Unmap().WithZone("")
	for _, n := range a.AllowNets {
		if n.Contains(from) {
			return true
		}
	}
	return false
}

// Source is one place where users are kept. It is used by many goroutines at once.
type Source interface {
	// Find looks a user up by canonical name, or returns ErrUnknown.
	Find(ctx context.Context, name string) (*Account, error)
	// List calls each for every user until it returns an error, which is returned.
	List(ctx context.Context, each func(name string) error) error
	// String names the source for the log.
	String() string
}

// Checker is a Source that does not give its passwords away, but judges them: ErrUnknown, ErrWrong, or nil. It knows
// nothing that a mechanism other than PLAIN and LOGIN could use.
type Checker interface {
	Source
	Check(ctx context.Context, name, password string, from netip.Addr) (*Account, error)
}
