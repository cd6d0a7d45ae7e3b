// Package authwire speaks the Dovecot authentication protocol, version 1.4 and below, on both of its sockets and on both sides of each. It
// knows the wire and nothing else: no files, no users, no mechanisms. postamt-auth(5) is the page of the format.
//
//	client socket   whoever talks to people (smtpd, Postfix, Exim) has passwords judged: AUTH, CONT, CANCEL; OK, CONT, FAIL
//	                Server answers, with an Authenticator behind it; Client asks
//	user socket     whoever acts for people asks who they are: USER, PASS, LIST, REQUEST; USER, PASS, NOTFOUND, FAIL, LIST, DONE
//	                UserServer answers, with Users behind it; UserClient asks
//
// Client is itself an Authenticator and UserClient is itself a Users, so one authentication server can stand behind another.
//
// What it promises:
//   - What is not known to be right is never OK. The zero Reply is a refusal; an OK without a user, a server that died, hangs, or babbles, and
//     a cancelled context are all Failed with TempFail, which SMTP calls 454, and for look-ups ErrUnavailable.
//   - A login that was allowed on the client socket can be collected once on the user socket (Ticket, Tickets), for a minute if the connection that
//     allowed it lives so long, and by nobody who does not know that connection's cookie.
//   - Lines, requests in flight, and times are bounded on both sides. One request that goes wrong costs the others nothing, unless it leaves
//     no way to tell where the next line begins.
//   - A value can hold any byte: what would end a field or a line is escaped. Errors quote nothing that a client sent.
//
// Divergences from Dovecot, all on the serving side: a line may have 64 KiB, not 16 (tokens of OAuth are large); an unknown mechanism and too many
// requests fail that request and do not end the connection; two connections may give the same process id; a client that says version
// 1.0 is cut off where others are told code=temp_fail, because Postfix and Exim, the two that say so, take every FAIL for a
// wrong password; mechanisms that need channel binding are listed to every client, but marked private for those that would not know what it means.
package authwire

import (
	"errors"
	"time"
)

// The version that both sides announce. A different major number ends the connection; the lower minor number says what may be used:
// from 2 on, resp= without a value is an empty initial response and not an absent one; from 3 on, channel binding; from 4 on, CANCEL is answered.
const (
	Major = 1
	Minor = 4
)

const (
	minorEmptyResponse  = 2
	minorChannelBinding = 3
	minorCancelled      = 4
)

// Limits. Zero in a configuration means these.
const (
	MaxLine     = 64 << 10          // octets of a line that Server and UserServer accept, and both clients accept from a server
	DovecotLine = 16 << 10          // octets of a line that Dovecot accepts on its client socket
	dovecotUser = 1 << 10           // and on its user socket
	MaxRequests = 1000              // in flight on one connection: being judged, waiting for a response, or waiting to be collected
	MaxUser     = 512               // octets of a user's name in a look-up
	Lifetime    = 150 * time.Second // of a request, from AUTH until it is decided
	Collectable = time.Minute       // of a login, from then until it is collected
	writeLimit  = 10 * time.Second  // for the peer to take one line
	helloLimit  = 30 * time.Second  // for a client to introduce itself
)

var (
	// ErrUnavailable is wrapped by every error that says nothing about the user: no server, a dead one, a slow one, or one that failed. Try later.
	ErrUnavailable = errors.New("authentication server unavailable")

	// ErrNotFound says that the server knows, and there is no such user.
	ErrNotFound = errors.New("no such user")

	errProtocol = errors.New("not the authentication protocol")
	errTooLong  = errors.New("line too long")
)
