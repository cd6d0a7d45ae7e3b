package password

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/openwall/yescrypt-go"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Costs beyond these are refused: who can write the file could, with one line, stop every login, his own in the first place.
const (
	maxBcrypt   = 16
	maxRounds   = 10_000_000
	maxMemory   = 1 << 30 // octets
	maxPasses   = 4       // of argon2 over maxMemory
	maxParallel = 64
)

// itoa64 is the alphabet of crypt(3).
const itoa64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// parseCrypt reads a string that begins with $.
func parseCrypt(text string) (*stored, error) {
	id, _, more := strings.Cut(text[1:], "$")
	if !more {
		id = ""
	}
	switch id {
	case "2a", "2b", "2y":
		return parseBcrypt(text)
	case "5", "6":
		return parseSHACrypt(text)
	case "y":
		return parseYescrypt(text)
	case "argon2i", "argon2id":
		return parseArgon2(text)
	case "1", "2", "2x", "3", "7", "gy", "md5", "sha1", "argon2d":
		return nil, fmt.Errorf("$%s$: not supported; make a new one, e.g. {%s}", id, DefaultScheme)
	}
	return nil, errors.New("stored password: begins with $, and is no hash that is known")
}

// parseBcrypt: $2b$cost$ and 53 characters, 22 of salt and 31 of hash.
func parseBcrypt(text string) (*stored, error) {
	name := text[:3]
	digits := text[min(4, len(text)):min(6, len(text))]
	cost, err := strconv.Atoi(digits)
	switch {
	case len(text) != 60 || text[6] != '$' || !only(text[7:], itoa64):
		return nil, fmt.Errorf("%s$: malformed", name)
	case err != nil || !only(digits, "0123456789") || cost < bcrypt.MinCost || cost > maxBcrypt:
		return nil, fmt.Errorf("%s$: the cost is not within %d and %d", name, bcrypt.MinCost, maxBcrypt)
	}
	hash := []byte(text)
	return &stored{scheme: "BLF-CRYPT", check: func(password string) bool {
		return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	}}, nil
}

// parseYescrypt: $y$, parameters, salt, hash. Only what libxcrypt makes: flags "j", then log2 N and r, a character each.
func parseYescrypt(text string) (*stored, error) {
	f := strings.Split(text, "$")
	if len(f) != 5 || len(f[4]) != 43 || !only(f[4], itoa64) || !only(f[3], itoa64) || len(f[3]) > 86 {
		return nil, errors.New("$y$: malformed")
	}
	if len(f[2]) != 3 || f[2][0] != 'j' {
		return nil, errors.New("$y$: parameters that are not supported")
	}
	logN, r := strings.IndexByte(itoa64, f[2][1])+1, strings.IndexByte(itoa64, f[2][2])+1
	if logN < 10 || logN > 18 || r < 1 || r > 32 {
		return nil, errors.New("$y$: the cost is not within what is supported (N from 2^10 to 2^18, r up to 32)")
	}
	if !salt64(f[3]) {
		return nil, errors.New("$y$: malformed salt")
	}
	hash := []byte(text)
	return &stored{scheme: "CRYPT", memory: 128 * int64(r) << logN, check: func(password string) bool {
		got, err := yescrypt.Hash([]byte(password), hash)
		return err == nil && subtle.ConstantTimeCompare(got, hash) == 1
	}}, nil
}

// salt64 says whether this is the encoding of whole octets, which is all that the library decodes: four characters for three octets,
// low bits first, and unused bits zero.
func salt64(s string) bool {
	tail := len(s) % 4
	if tail == 0 {
		return true
	}
	last := strings.IndexByte(itoa64, s[len(s)-1])
	return tail == 2 && last < 1<<2 || tail == 3 && last < 1<<4
}

// parseArgon2: $argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash, base64 without padding.
func parseArgon2(text string) (*stored, error) {
	f := strings.Split(text, "$")
	id := f[1]
	bad := func(what string) (*stored, error) { return nil, fmt.Errorf("$%s$: %s", id, what) }
	if len(f) != 6 {
		return bad("malformed")
	}
	if f[2] != "v=19" {
		return bad("the version is not 19")
	}
	var n [3]uint64
	p := strings.Split(f[3], ",")
	for i, key := range []string{"m=", "t=", "p="} {
		var ok bool
		if len(p) != 3 || !strings.HasPrefix(p[i], key) {
			return bad("parameters other than m, t and p")
		}
		if n[i], ok = number(p[i][2:]); !ok {
			return bad("malformed parameters")
		}
	}
	m, t, lanes := n[0], n[1], n[2]
	if lanes < 1 || lanes > maxParallel || m < 8*lanes || m > maxMemory>>10 || t < 1 || t > 1<<16 || m*t > maxPasses*maxMemory>>10 {
		return bad("the cost is not within what is supported (m from 8p to 1 GiB, p up to 64, m times t up to 4 GiB)")
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(f[4])
	want, err2 := base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(want) < 16 || len(want) > 64 {
		return bad("salt or hash is malformed, too short or too long")
	}
	key, scheme := argon2.IDKey, "ARGON2ID"
	if id == "argon2i" {
		key, scheme = argon2.Key, "ARGON2I"
	}
	return &stored{scheme: scheme, memory: int64(m) << 10, check: func(password string) bool {
		got := key([]byte(password), salt, uint32(t), uint32(m), uint8(lanes), uint32(len(want)))
		return subtle.ConstantTimeCompare(got, want) == 1
	}}, nil
}

// number reads a decimal number as those who write hashes do: no sign, no leading zero.
func number(s string) (uint64, bool) {
	if s == "" || len(s) > 10 || s[0] == '0' || !only(s, "0123456789") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && bits.Len64(n) <= 32
}

func only(s, set string) bool {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}
