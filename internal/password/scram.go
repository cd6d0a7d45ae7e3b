package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// SCRAMHash is the hash function of a SCRAM mechanism (RFC 5802 section 4).
type SCRAMHash uint8

const (
	SHA256 SCRAMHash = iota // RFC 7677
	SHA1                    // RFC 5802
)

// String is the name of the mechanism and of the scheme.
func (h SCRAMHash) String() string {
	if h == SHA1 {
		return "SCRAM-SHA-1"
	}
	return "SCRAM-SHA-256"
}

// Size is the length of a key, in octets.
func (h SCRAMHash) Size() int {
	if h == SHA1 {
		return sha1.Size
	}
	return sha256.Size
}

func (h SCRAMHash) new() hash.Hash {
	if h == SHA1 {
		return sha1.New()
	}
	return sha256.New()
}

const (
	// Iterations is how often the hash is taken where nothing else is said: RFC 7677 section 4 holds 15,000 against 4,096, the
	// least that a server should announce, of which phones of 2015 took half a second.
	Iterations    = 15000
	minIterations = 4096
	scramSalt     = 16 // octets of the salts that are made here
)

// Keys are what a server knows of a user for SCRAM (RFC 5802 section 2.1, "authentication information"). They print as their hash alone.
type Keys struct {
	Hash       SCRAMHash
	Iterations int
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// String is the scheme, and none of the keys.
func (k Keys) String() string { return "{" + k.Hash.String() + "}" }

// GoString is the same for %#v.
func (k Keys) GoString() string { return "password.Keys" + k.String() }

// Check says whether a ClientProof proves that the client knows the password (RFC 5802 section 3).
func (k Keys) Check(authMessage string, proof []byte) bool {
	if len(proof) != k.Hash.Size() || len(k.StoredKey) != k.Hash.Size() {
		return false
	}
	clientKey := k.Hash.mac(k.StoredKey, authMessage)
	subtle.XORBytes(clientKey, clientKey, proof)
	h := k.Hash.new()
	h.Write(clientKey)
	return subtle.ConstantTimeCompare(h.Sum(nil), k.StoredKey) == 1
}

// Sign is the ServerSignature, which proves to the client that the server knows the user.
func (k Keys) Sign(authMessage string) []byte { return k.Hash.mac(k.ServerKey, authMessage) }

func (h SCRAMHash) mac(key []byte, text string) []byte {
	m := hmac.New(h.new, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// derive makes keys from a password that has been prepared.
func (h SCRAMHash) derive(password string, salt []byte, iterations int) Keys {
	salted, err := pbkdf2.Key(h.new, password, salt, iterations, h.Size())
	if err != nil {
		panic("password: PBKDF2: " + err.Error()) // FIPS 140-only mode, which has no SCRAM-SHA-1 and no short salts
	}
	k := Keys{Hash: h, Iterations: iterations, Salt: salt, ServerKey: h.mac(salted, "Server Key")}
	client := h.new()
	client.Write(h.mac(salted, "Client Key"))
	k.StoredKey = client.Sum(nil)
	return k
}

// Derivation says how the keys come about that are not stored: those of users with {PLAIN}, and those that are made up for users
// without any.
type Derivation struct {
	// Secret makes a user's salt, the same each time. At least 16 octets, known to nobody, and the same after a restart: a salt
	// that changes with it is one that was not stored.
	Secret []byte
	// Iterations is the count to announce; 0 means the constant. Where the users file came from elsewhere, let it be the count that
	// most of its lines have: users who do not exist then look like most.
	Iterations int
}

func (d Derivation) iterations() int {
	if d.Iterations == 0 {
		return Iterations
	}
	return min(max(d.Iterations, minIterations), maxRounds)
}

// bytes are n octets that look random to who does not know the secret.
func (d Derivation) bytes(n int, purpose string, h SCRAMHash, user string) []byte {
	m := hmac.New(sha256.New, d.Secret)
	fmt.Fprintf(m, "postamt %s\x00%s\x00%s", purpose, h, user)
	return m.Sum(nil)[:n]
}

// SCRAM returns the keys for one exchange with user, and true if he can log in with them. false: they are made up, for a user
// who does not exist (the zero Stored), is locked, or whose password is stored in a form that says nothing to SCRAM. The exchange goes on
// with them, and fails at its end as if the password were wrong, so that nobody learns who exists.
//
// For that reason each call takes one derivation of d.Iterations, a few milliseconds, even if the keys are stored.
func (s Stored) SCRAM(h SCRAMHash, user string, d Derivation) (Keys, bool) {
	return s.scram(h, user, d, h.derive)
}

func (s Stored) scram(h SCRAMHash, user string, d Derivation, derive func(string, []byte, int) Keys) (Keys, bool) {
	salt := d.bytes(scramSalt, "salt", h, user)
	password, isPlain := s.Plain()
	isPlain = isPlain && fits(password)
	if !isPlain {
		password = "decoy"
	}
	k := derive(Prepare(password), salt, d.iterations())
	switch {
	case isPlain:
		return k, true
	case s.s != nil && s.s.keys != nil && s.s.keys.Hash == h && !s.s.never:
		return *s.s.keys, true
	}
	// Keys of a password that nobody knows, because they are keys of none.
	k.StoredKey = d.bytes(h.Size(), "StoredKey", h, user)
	k.ServerKey = d.bytes(h.Size(), "ServerKey", h, user)
	return k, false
}

// parseKeys: iterations,salt,StoredKey,ServerKey, as Dovecot and gsasl --mkpasswd write them.
func parseKeys(h SCRAMHash, value string) (*stored, error) {
	if locked(value) {
		return nil, nil
	}
	f := strings.Split(value, ",")
	if len(f) != 4 {
		return nil, errors.New("is not iterations,salt,StoredKey,ServerKey")
	}
	n, ok := number(f[0])
	if !ok || n < minIterations || n > maxRounds {
		return nil, fmt.Errorf("the iterations are not within %d and %d", minIterations, maxRounds)
	}
	var b [3][]byte
	for i, x := range f[1:] {
		var err error
		if b[i], err = base64.StdEncoding.Strict().DecodeString(x); err != nil {
			return nil, errors.New("salt or keys are not in base64")
		}
	}
	if len(b[0]) < 8 || len(b[0]) > 64 || len(b[1]) != h.Size() || len(b[2]) != h.Size() {
		return nil, errors.New("salt or keys are too short or too long")
	}
	k := &Keys{Hash: h, Iterations: int(n), Salt: b[0], StoredKey: b[1], ServerKey: b[2]}
	return &stored{scheme: h.String(), keys: k, check: k.verify}, nil
}

// verify checks a password that came in clear. Dovecot made keys of it as it was, others prepared it, so a password that the two
// see differently is tried in both ways.
func (k *Keys) verify(password string) bool {
	prepared := Prepare(password)
	ok := k.of(prepared)
	if prepared != password {
		ok = k.of(password) || ok
	}
	return ok
}

func (k *Keys) of(password string) bool {
	return subtle.ConstantTimeCompare(k.Hash.derive(password, k.Salt, k.Iterations).StoredKey, k.StoredKey) == 1
}
