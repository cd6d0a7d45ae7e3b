// Package password reads stored passwords, as users(5) and Dovecot's passwd-file have them, checks a password against them, and
// makes new ones.
//
//	{SCHEME}text          the scheme as Dovecot names it, in any case; {SCHEME.b64}, {SCHEME.base64} and {SCHEME.hex}: text is encoded
//	$2b$… $5$… $6$…       crypt(3) and argon2 strings say themselves what they are
//	$y$… $argon2id$…
//	* ! !… x              and an empty field: locked, no password matches
//
//	PLAIN, CLEARTEXT, CLEAR        the password itself
//	CRYPT                          any of the strings that say what they are
//	BLF-CRYPT                      $2a$ $2b$ $2y$, cost 4 to 16
//	SHA256-CRYPT, SHA512-CRYPT     $5$ $6$, 1,000 to 10,000,000 rounds
//	ARGON2ID, ARGON2I              $argon2id$ $argon2i$, version 19, up to 1 GiB
//	SCRAM-SHA-256, SCRAM-SHA-1     iterations,salt,StoredKey,ServerKey (RFC 5803 with commas), 4,096 to 10,000,000 iterations
//
// What it promises: comparisons take the same time whatever is wrong; no error and no %v shows a hash or a password; no state, so any
// number of goroutines may use one Stored. The cost of a check is processor time and Memory octets, and is bounded by what Parse
// accepts: a caller bounds how many run at once.
//
// What it does not do: schemes without a salt or without a cost ({MD5}, {SSHA}, $1$, DES, …) are refused by name, because what they
// hide is found in an hour. Nothing here is $7$, $gy$ or Argon2 with a key.
//
// Divergences. A password without a scheme is never taken for one in clear, nor for DES. Passwords are compared octet by octet and not prepared, RFC 4616
// section 2 leaves that open, because the hashes come from programs that do not; SCRAM is the exception, see Prepare. A password
// of more than 512 octets matches nothing: the cost of SHA-crypt grows with its square, and crypt(3) draws the same line.
package password

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// Limits, in octets.
const (
	MaxPassword = 512  // of a password; RFC 4616 section 2 wants 255 at least
	MaxStored   = 4096 // of the text that Parse takes
)

// Stored is a stored password. The zero value is locked: no password matches. It prints as its scheme.
type Stored struct {
	s *stored
}

type stored struct {
	scheme string
	check  func(password string) bool
	memory int64
	plain  func() string // PLAIN only; a function, because fmt can look into a string
	keys   *Keys         // SCRAM only
	never  bool          // see Decoy
}

// Parse reads a stored password. The error says what is wrong with it, and nothing of what is in it. Text that says "locked" is
// no error.
func Parse(text string) (Stored, error) {
	switch {
	case len(text) > MaxStored:
		return Stored{}, fmt.Errorf("stored password: longer than %d octets", MaxStored)
	case strings.ContainsAny(text, "\x00\r\n"):
		return Stored{}, errors.New("stored password: has a line end or NUL")
	}
	s, err := parse(text)
	if err != nil || s == nil {
		return Stored{}, err
	}
	return Stored{s}, nil
}

// parse returns nil for what is locked.
func parse(text string) (*stored, error) {
	if rest, ok := strings.CutPrefix(text, "{"); ok {
		name, value, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, errors.New("stored password: { without }")
		}
		return parseScheme(name, value)
	}
	if locked(text) {
		return nil, nil
	}
	if text[0] != '$' {
		return nil, errors.New("stored password: without a {SCHEME}; {PLAIN} goes before a password in clear")
	}
	return parseCrypt(text)
}

// locked: what passwd(5), shadow(5) and their editors write where there is no password.
func locked(text string) bool {
	return text == "" || text == "x" || text[0] == '*' || text[0] == '!'
}

// Verify says whether this is the password. It takes the time and the Memory that the scheme was made to take.
func (s Stored) Verify(password string) bool {
	if s.s == nil || !fits(password) {
		return false
	}
	return s.s.check(password) && !s.s.never
}

// fits: an empty password is nobody's, whatever was stored, and crypt(3) would end at a NUL.
func fits(password string) bool {
	return password != "" && len(password) <= MaxPassword && strings.IndexByte(password, 0) < 0
}

// Locked says that no password will ever match.
func (s Stored) Locked() bool { return s.s == nil || s.s.never }

// Scheme is the name of the scheme, in capitals; CRYPT only for what has no name of its own, yescrypt. "" if locked from the start.
func (s Stored) Scheme() string {
	if s.s == nil {
		return ""
	}
	return s.s.scheme
}

// Memory is what Verify needs beyond a few KiB, in octets.
func (s Stored) Memory() int64 {
	if s.s == nil {
		return 0
	}
	return s.s.memory
}

// Costly says whether Verify takes as long as it takes to make guessing hard. It does not for {PLAIN} and what is locked.
func (s Stored) Costly() bool { return s.s != nil && s.s.scheme != plainScheme }

// Plain is the password itself, where it is stored so. CRAM-MD5 and APOP need it.
func (s Stored) Plain() (string, bool) {
	if s.s == nil || s.s.scheme != plainScheme || s.s.never {
		return "", false
	}
	return s.s.plain(), true
}

// Decoy is a Stored whose Verify takes as long as that of s, and always says no. A server that runs it when there is no such
// user answers as late as when there is.
func (s Stored) Decoy() Stored {
	if s.s == nil {
		return s
	}
	return Stored{&stored{scheme: s.s.scheme, check: s.s.check, memory: s.s.memory, never: true}}
}

// String is the scheme in braces, and never the hash.
func (s Stored) String() string { return "{" + s.Scheme() + "}" }

// GoString is the same for %#v.
func (s Stored) GoString() string { return "password.Stored" + s.String() }

func parsePlain(value string) (*stored, error) {
	if value == "" {
		return nil, nil
	}
	// Sums, because a comparison of the passwords themselves would show by its time how long the right one is.
	want := sha256.Sum256([]byte(value))
	return &stored{scheme: plainScheme, plain: func() string { return value }, check: func(password string) bool {
		got := sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}}, nil
}
