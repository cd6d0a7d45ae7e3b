package password

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/openwall/yescrypt-go"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// DefaultScheme is what Make makes when it is not told. A stolen file of it costs most to search: SCRAM's keys, which also allow
// logins that never show the password, cost a guess four milliseconds of one core and no memory.
const DefaultScheme = "ARGON2ID"

// Costs of what Make makes. A mail server checks a password at each connection, so these are at the lower end of what is advised:
// argon2 is OWASP's first choice, 19 MiB and two passes.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	bcryptCost  = 10
	shaRounds   = 100_000

	yescryptCost = "j9T" // N 4096, r 32: 16 MiB, as Debian's passwd(1) has it
)

// Make returns the password as it is to be stored, scheme in braces and all, in a form that fits between two colons of a line. The
// scheme is a name of Parse's, in any case, without an encoding; "" is DefaultScheme; YESCRYPT is a {CRYPT} with $y$. It refuses
// passwords that some client or some other server could not give: empty, more than MaxPassword octets, control characters, not UTF-8.
func Make(scheme, password string) (string, error) {
	return makeAt(scheme, password, costs{argonMemory, argonPasses, bcryptCost, shaRounds, Iterations, yescryptCost})
}

type costs struct {
	argonMemory, argonPasses, bcrypt, sha, scram int
	yescrypt                                     string
}

func makeAt(scheme, password string, c costs) (string, error) {
	switch {
	case password == "":
		return "", errors.New("a password is wanted")
	case len(password) > MaxPassword:
		return "", fmt.Errorf("the password is longer than %d octets", MaxPassword)
	case !utf8.ValidString(password):
		return "", errors.New("the password is not UTF-8")
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("the password has a control character")
	}
	if scheme = strings.ToUpper(scheme); scheme == "" {
		scheme = DefaultScheme
	}
	text, err := makeText(scheme, password, c)
	if err != nil {
		return "", err
	}
	if scheme == "YESCRYPT" {
		scheme = "CRYPT"
	}
	return "{" + scheme + "}" + text, nil
}

func makeText(scheme, password string, c costs) (string, error) {
	switch scheme {
	case plainScheme, "CLEARTEXT", "CLEAR":
		if strings.ContainsAny(password, ": ") || !ascii(password) {
			return "", errors.New("the password does not fit into a line as it is; {" + plainScheme + ".b64} is for that")
		}
		return password, nil
	case plainScheme + ".B64", plainScheme + ".BASE64":
		return base64.StdEncoding.EncodeToString([]byte(password)), nil
	case "ARGON2ID":
		salt := random(16)
		b64 := base64.RawStdEncoding.EncodeToString
		key := argon2.IDKey([]byte(password), salt, uint32(c.argonPasses), uint32(c.argonMemory), 1, 32)
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", c.argonMemory, c.argonPasses, b64(salt), b64(key)), nil
	case "BLF-CRYPT":
		b, err := bcrypt.GenerateFromPassword([]byte(password), c.bcrypt)
		if err != nil {
			return "", fmt.Errorf("{%s}: no more than 72 octets fit: %w", scheme, err)
		}
		// "a" is what the library writes; by now everybody means the same by it, and writes "b".
		return "$2b$" + strings.TrimPrefix(string(b), "$2a$"), nil
	case "SHA256-CRYPT":
		return sha256Crypt.make(password, c.sha), nil
	case "SHA512-CRYPT", "CRYPT":
		return sha512Crypt.make(password, c.sha), nil
	case "YESCRYPT":
		b, err := yescrypt.Hash([]byte(password), []byte("$y$"+c.yescrypt+"$"+salt(22)))
		return string(b), err
	case "SCRAM-SHA-256":
		return makeKeys(SHA256, password, c.scram)
	case "SCRAM-SHA-1":
		return makeKeys(SHA1, password, c.scram)
	}
	return "", errors.New("this scheme cannot be made; " + strings.Join(MakeSchemes(), ", ") + " can")
}

// MakeSchemes are the names that Make knows, the default first.
func MakeSchemes() []string {
	return []string{DefaultScheme, "SCRAM-SHA-256", "SCRAM-SHA-1", "YESCRYPT", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", plainScheme, plainScheme + ".b64"}
}

func (c shaCrypt) make(password string, rounds int) string {
	s := salt(shaSalt)
	return fmt.Sprintf("$%s$rounds=%d$%s$%s", c.id, rounds, s, c.sum(password, s, rounds))
}

func makeKeys(h SCRAMHash, password string, iterations int) (string, error) {
	prepared, err := saslprep(password)
	if err != nil {
		return "", fmt.Errorf("the password %w", err)
	}
	k := h.derive(prepared, random(scramSalt), iterations)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%d,%s,%s,%s", k.Iterations, b64(k.Salt), b64(k.StoredKey), b64(k.ServerKey)), nil
}

// salt is n characters of crypt(3)'s alphabet; of 22 characters the last stays below 4, as the encoding of 16 octets has it.
func salt(n int) string {
	b := random(n)
	for i := range b {
		b[i] = itoa64[b[i]&0x3f]
	}
	if n%4 == 2 {
		b[n-1] = itoa64[strings.IndexByte(itoa64, b[n-1])&3]
	}
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
