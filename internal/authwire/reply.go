package authwire

import (
	"context"
	"fmt"
)

// An Authenticator judges credentials. Server asks one; Client is one.
type Authenticator interface {
	// Begin opens an exchange and does not wait for anything. It is called from many goroutines.
	Begin(ctx context.Context, r *Request) Exchange
}

// An Exchange is one authentication under way. It belongs to one goroutine.
type Exchange interface {
	// Next takes the response to the last challenge, at first the initial response: nil when there is none, not nil when there is an empty one. After a
	// Reply that is not Continue it is not called again. It returns when ctx is done, with what it likes.
	Next(ctx context.Context, response []byte) Reply

	// End is called once, after the last Next, whatever came out.
	End()
}

// Status is what a Reply amounts to. The zero value is a refusal.
type Status uint8

const (
	Failed   Status = iota
	Continue        // Data is the next challenge
	OK              // User is who it is
)

func (s Status) String() string {
	switch s {
	case Continue:
		return "continue"
	case OK:
		return "ok"
	}
	return "failed"
}

// Code says why an authentication failed, in the protocol's words.
type Code string

const (
	Mismatch      Code = ""                  // there is no such user, or the password is wrong, and nobody is told which
	TempFail      Code = "temp_fail"         // nothing is known: try later
	AuthzFail     Code = "authz_fail"        // the credentials are right, but not to act for that user
	UserDisabled  Code = "user_disabled"     // the account is closed
	PassExpired   Code = "pass_expired"      // the password is too old
	InvalidBase64 Code = "invalid_base64"    // the response cannot be read
	MechInvalid   Code = "auth_mech_invalid" // no such mechanism
)

// A Reply is what an Exchange says to a response.
type Reply struct {
	Status Status
	Data   []byte // Continue: the challenge. An Authenticator may give data with OK and Failed; a Client hands that on as one more challenge
	User   string // OK: who it is. Failed: who it was said to be, where known
	Code   Code   // Failed
	Reason string // Failed: for the person who logs in; Postfix and others print it in their reply
	Fields Fields // more about OK or Failed, as it stands on the wire

	Ticket *Ticket // OK from a Client, without NoLogin: collects the login on the user socket
	Err    error   // Failed with TempFail: the cause, for the log of whoever asked; never on the wire
}

// Temporary says that nothing was decided: try later.
func (r Reply) Temporary() bool { return r.Status == Failed && r.Code == TempFail }

// unavailable makes the Reply that stands for every kind of silence.
func unavailable(err error) Reply {
	return Reply{Code: TempFail, Err: fmt.Errorf("%w: %w", ErrUnavailable, err)}
}

// append writes OK or FAIL with its LF. finalOK: data may come along.
func (r Reply) append(id uint32, finalOK bool) []byte {
	var b []byte
	if r.Status == OK {
		b = command("OK", id)
	} else {
		b = command("FAIL", id)
	}
	b = appendText(b, "user", r.User) // first: Exim reads sixteen fields and no more
	if r.Status != OK {
		switch r.Code { // the words of versions 1.0 and 1.1, then the one that replaced them
		case TempFail:
			b = append(b, "\ttemp"...)
		case AuthzFail:
			b = append(b, "\tauthz"...)
		case UserDisabled:
			b = append(b, "\tuser_disabled"...)
		case PassExpired:
			b = append(b, "\tpass_expired"...)
		}
		b = appendText(b, "code", string(r.Code))
		b = appendText(b, "reason", r.Reason)
	}
	for _, f := range r.Fields {
		switch f.Name {
		case "user", "resp", "code", "reason":
			// These are said above, and a second one could contradict the first.
		default:
			b = appendField(b, f.Name, f.Value)
		}
	}
	if finalOK && len(r.Data) > 0 {
		b = appendBase64(append(b, "\tresp="...), r.Data)
	}
	return append(b, '\n')
}

// parseReply reads the words behind the id of OK or FAIL.
func parseReply(ok bool, w [][]byte) Reply {
	r := Reply{}
	if ok {
		r.Status = OK
	}
	for _, f := range parseFields(w) {
		switch {
		case f.Name == "user":
			r.User = f.Value
		case f.Name == "resp":
			data, err := decode([]byte(f.Value))
			if err != nil {
				return unavailable(fmt.Errorf("final data that is not base64: %w", errProtocol))
			}
			r.Data = data
		case !ok && f.Name == "code":
			r.Code = Code(f.Value)
		case !ok && f.Name == "reason":
			r.Reason = f.Value
		case !ok && r.Code == "" && f.Value == "" && oldCode(f.Name) != "":
			r.Code = oldCode(f.Name)
		default:
			r.Fields = append(r.Fields, f)
		}
	}
	if ok && r.User == "" {
		return unavailable(fmt.Errorf("OK without a user: %w", errProtocol))
	}
	if r.Temporary() {
		r.Err = fmt.Errorf("%w: the server says so", ErrUnavailable)
	}
	return r
}

// oldCode is the code of a parameter of FAIL from before code= existed, "" if it is none.
func oldCode(parameter string) Code {
	switch parameter {
	case "temp":
		return TempFail
	case "authz":
		return AuthzFail
	case "user_disabled":
		return UserDisabled
	case "pass_expired":
		return PassExpired
	}
	return ""
}
