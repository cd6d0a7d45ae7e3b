// Package sasl is the server's side of the SASL mechanisms (RFC 4422) by which people log in: each exchange is a state machine
// that takes responses and gives challenges. It knows no network, no files and no clock; who may log in, it asks Credentials.
//
//	PLAIN          RFC 4616
//	LOGIN          draft-murchison-sasl-login: two prompts
//	CRAM-MD5       RFC 2195; needs passwords stored in clear
//	SCRAM-SHA-256, SCRAM-SHA-1, and -PLUS of both    RFC 5802, 7677; channel bindings are RFC 5929 and 9266
//	EXTERNAL       RFC 4422 appendix A: a client certificate that the caller has verified
//	OAUTHBEARER    RFC 7628
//	XOAUTH2        its forerunner, as Google and Microsoft describe it
//	APOP           RFC 1939 section 7; no SASL mechanism, but Dovecot's way of passing one step of POP3 on
//
// There is no ANONYMOUS, and there will be none.
//
// What it promises:
//   - Who exists does not show: a name that nobody has, a password that is wrong, and a user whose password is not stored in a form that the mechanism
//     can use take the same steps, the same calls of Credentials, and the same error.
//   - A name is brought into its one form (Options.Canonical) exactly once, before anything is looked up with it; one that has none is
//     refused there. What Credentials is asked about and what Identity says are such names.
//   - To act for another user takes Options.Authorize. Without it nobody does.
//   - No error, challenge or result has a password, a token or a proof in it. Errors show names, quoted by Canonical.
//   - Responses are bounded by MaxResponse, and nothing is kept but what the next step needs.
//
// Divergences. RFC 5802 section 5.1 and RFC 4616 section 2 would have names prepared by SASLprep: Canonical stands in for it. PLAIN takes passwords
// that are not UTF-8, because some stored hashes are of such. The host and port that OAUTHBEARER's clients name are not compared
// with ours: a server behind other names is no error, and the token is bound to no host by them. RFC 5802 section 6.1 wants
// tls-unique of everybody; which bindings there are is the caller's, and TLS 1.3 has none of that name.
package sasl

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"postamt/internal/channel"
	"postamt/internal/password"
)

// MaxResponse bounds a response, in octets before base64: RFC 4954 section 4 has lines of 12,288 octets at most.
const MaxResponse = 12288

// What an exchange can end in. Errors wrap one of these, and say more for the log.
var (
	// ErrCredentials: there is no such user, or the password, the token or the proof is wrong. Nobody is told which.
	ErrCredentials = errors.New("wrong user name or password")
	// ErrNotAuthorized: the credentials are right, and not enough: to act for that user, or to log in from there.
	ErrNotAuthorized = errors.New("not authorized")
	// ErrMalformed: the response is not one of the mechanism.
	ErrMalformed = errors.New("malformed response")
	// ErrUnavailable: nobody can tell now. Every error that Credentials gives and that is none of the above becomes this one.
	ErrUnavailable = errors.New("authentication unavailable")
	// ErrMechanism, of New alone: there is no such mechanism, or the options do not have what it needs.
	ErrMechanism = errors.New("no such mechanism")
)

// Credentials say who may log in. Names are canonical. Errors: ErrCredentials, also for users who do not exist; ErrNotAuthorized, only if the
// password was right; any other is temporary. To keep secret who exists, the answer about a user must take as long whether he exists or not; Users does that.
type Credentials interface {
	// Verify checks a password. It is never empty.
	Verify(ctx context.Context, user, password string) error

	// SCRAM returns keys for any name. If the user has none, they are made up and real is false (password.Stored.SCRAM): the exchange goes
	// on and fails at its end. An error is one of ErrUnavailable's kind.
	SCRAM(ctx context.Context, user string, h password.SCRAMHash) (keys password.Keys, real bool, err error)

	// Secret returns the password itself, or anything and false.
	Secret(ctx context.Context, user string) (secret string, real bool, err error)
}

// Options are what an exchange needs of its surroundings.
type Options struct {
	Credentials Credentials
	Canonical   func(name string) (string, error) // see the package comment; its error may show the name in quotes

	// Authorize says whether a user who has proved who he is may act as another: nil, ErrNotAuthorized, or a temporary error. A nil
	// function: never.
	Authorize func(ctx context.Context, authenticated, authorized string) error

	Bindings    []channel.Binding // of the TLS channel; none: no -PLUS
	PlusOffered bool              // the client was shown -PLUS mechanisms, so that one who believes there are none was deceived (RFC 5802 section 6)

	External string    // EXTERNAL: whom the client's certificate names. That he exists is for the caller to know
	Hostname string    // CRAM-MD5: ours
	Origin   string    // APOP: what the timestamp begins with; "": no APOP
	Random   io.Reader // nil: crypto/rand

	// Token says whose token this is, in any form that Canonical takes. Errors as of Credentials. nil: no OAUTHBEARER, no XOAUTH2.
	Token func(ctx context.Context, token string) (user string, err error)
	OAuth OAuth
}

// OAuth is what a client with a bad token is told (RFC 7628 section 3.2.2). Empty fields are left out.
type OAuth struct {
	Scope         string
	Configuration string // URL of the OpenID provider's configuration
}

// Identity is who has logged in. Both are canonical names.
type Identity struct {
	Authenticated string // whose credentials they were
	Authorized    string // for whom he acts; mostly himself
}

// Mechanism is what there is to know of a mechanism before it is offered.
type Mechanism struct {
	Name      string // as registered
	Cleartext bool   // the client sends the password or token itself: to be offered in TLS only
	Guessable bool   // who listens can try passwords on what he heard
	Mutual    bool   // the server proves itself, too
	Binding   bool   // needs Options.Bindings
	Plain     bool   // needs passwords stored in clear
	Private   bool   // not for AUTH: who could choose the timestamp could say again what he has heard
}

// Mechanisms are all there are, in the order in which a client should prefer them.
func Mechanisms() []Mechanism {
	return []Mechanism{
		{Name: "EXTERNAL"},
		{Name: "SCRAM-SHA-256-PLUS", Guessable: true, Mutual: true, Binding: true},
		{Name: "SCRAM-SHA-1-PLUS", Guessable: true, Mutual: true, Binding: true},
		{Name: "SCRAM-SHA-256", Guessable: true, Mutual: true},
		{Name: "SCRAM-SHA-1", Guessable: true, Mutual: true},
		{Name: "OAUTHBEARER", Cleartext: true},
		{Name: "XOAUTH2", Cleartext: true},
		{Name: "CRAM-MD5", Guessable: true, Plain: true},
		{Name: "PLAIN", Cleartext: true},
		{Name: "LOGIN", Cleartext: true},
		{Name: "APOP", Guessable: true, Plain: true, Private: true},
	}
}

// Exchange is one login under way. It belongs to one goroutine.
type Exchange struct {
	o       Options
	state   state
	claimed string
	id      Identity
}

// state takes the client's response and returns a challenge and the state that waits for the response to it; a nil state is success, with
// the challenge for additional data.
type state func(ctx context.Context, response []byte) (challenge []byte, next state, err error)

// New begins an exchange of the mechanism, whose name is in capitals.
func New(mechanism string, o Options) (*Exchange, error) {
	x := &Exchange{o: o}
	if x.o.Random == nil {
		x.o.Random = rand.Reader
	}
	start, needs := x.start(mechanism)
	if start == nil || !needs || o.Canonical == nil {
		return nil, ErrMechanism
	}
	x.state = start
	return x, nil
}

func (x *Exchange) start(mechanism string) (start state, needs bool) {
	c := x.o.Credentials != nil
	plus := c && len(x.o.Bindings) > 0
	switch mechanism {
	case "PLAIN":
		return clientFirst(x.plain), c
	case "LOGIN":
		return x.login, c
	case "CRAM-MD5":
		return x.cram, c && x.o.Hostname != ""
	case "APOP":
		return x.apop, c && x.o.Origin != ""
	case "SCRAM-SHA-256":
		return clientFirst(x.scram(password.SHA256, false)), c
	case "SCRAM-SHA-1":
		return clientFirst(x.scram(password.SHA1, false)), c
	case "SCRAM-SHA-256-PLUS":
		return clientFirst(x.scram(password.SHA256, true)), plus
	case "SCRAM-SHA-1-PLUS":
		return clientFirst(x.scram(password.SHA1, true)), plus
	case "EXTERNAL":
		return clientFirst(x.external), x.o.External != ""
	case "OAUTHBEARER":
		return clientFirst(x.oauthbearer), x.o.Token != nil
	case "XOAUTH2":
		return clientFirst(x.xoauth2), x.o.Token != nil
	}
	return nil, false
}

// Next takes the client's response and returns the next challenge. The first response is the initial one: nil if the client sent none, not nil if it sent an
// empty one. done says that the client has logged in, see Identity; a challenge that is not empty is then additional data with success,
// which a protocol that has no place for it sends as one more challenge, to be answered by an empty response (RFC 4422 section 3.6).
// After done or an error the exchange is over.
func (x *Exchange) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	state := x.state
	x.state = nil
	if state == nil {
		return nil, false, fmt.Errorf("%w: the exchange is over", ErrMalformed)
	}
	if len(response) > MaxResponse {
		return nil, false, fmt.Errorf("%w: longer than %d octets", ErrMalformed, MaxResponse)
	}
	challenge, x.state, err = state(ctx, response)
	done = err == nil && x.state == nil
	if done && x.id.Authorized == "" {
		err = errors.New("nobody is logged in")
	}
	if err != nil {
		x.state, x.id = nil, Identity{}
		return nil, false, classed(err)
	}
	return challenge, done, nil
}

// classed makes what is none of ours temporary: when nothing is known, nobody must be told that his password is wrong.
func classed(err error) error {
	for _, known := range []error{ErrUnavailable, ErrCredentials, ErrNotAuthorized, ErrMalformed} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// User is the name that the client claims to be, canonical; "" as long as it has said none, or said what cannot be one. It is not proof of anything.
func (x *Exchange) User() string { return x.claimed }

// Identity is who has logged in, after Next said done; zero before.
func (x *Exchange) Identity() Identity { return x.id }

// clientFirst is the beginning of the mechanisms in which the client speaks first (RFC 4422 section 5, 2a): without an
// initial response it is asked by an empty challenge.
func clientFirst(first state) state {
	return func(ctx context.Context, response []byte) ([]byte, state, error) {
		if response == nil {
			return []byte{}, first, nil
		}
		return first(ctx, response)
	}
}

// claim brings the user's name into its form.
func (x *Exchange) claim(name string) (user string, err error) {
	user, err = x.name(name)
	x.claimed = user
	return user, err
}

// name is refused as wrong, and not as malformed: it is what somebody typed.
func (x *Exchange) name(name string) (string, error) {
	user, err := x.o.Canonical(name)
	if err == nil && user == "" {
		err = errors.New("no name")
	}
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrCredentials, err)
	}
	return user, nil
}

// authzid is the canonical form of an authorization identity, "" for none.
func (x *Exchange) authzid(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	return x.name(name)
}

// accept ends an exchange in which user has proved who he is, and asked to act as authzid, "" for himself.
func (x *Exchange) accept(ctx context.Context, user, authzid string) error {
	if authzid == "" {
		authzid = user
	}
	if authzid != user {
		if x.o.Authorize == nil {
			return fmt.Errorf("%w: %s as another user", ErrNotAuthorized, user)
		}
		if err := x.o.Authorize(ctx, user, authzid); err != nil {
			return err
		}
	}
	x.id = Identity{Authenticated: user, Authorized: authzid}
	return nil
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
