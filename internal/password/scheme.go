package password

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const plainScheme = "PLAIN"

// schemes are the names that may stand in braces, and what reads what follows. Readers return nil for what is locked.
var schemes = map[string]func(value string) (*stored, error){
	plainScheme:     parsePlain,
	"CLEARTEXT":     parsePlain,
	"CLEAR":         parsePlain,
	"CRYPT":         cryptOf("CRYPT", "$"),
	"BLF-CRYPT":     cryptOf("BLF-CRYPT", "$2"),
	"SHA256-CRYPT":  cryptOf("SHA256-CRYPT", "$5$"),
	"SHA512-CRYPT":  cryptOf("SHA512-CRYPT", "$6$"),
	"ARGON2I":       cryptOf("ARGON2I", "$argon2"), // Dovecot, too, goes by the string and not by the name
	"ARGON2ID":      cryptOf("ARGON2ID", "$argon2"),
	"SCRAM-SHA-1":   func(v string) (*stored, error) { return parseKeys(SHA1, v) },
	"SCRAM-SHA-256": func(v string) (*stored, error) { return parseKeys(SHA256, v) },
}

// refused are names of Dovecot's that are known, to say more than that they are not.
const refused = " MD5-CRYPT MD5 LDAP-MD5 PLAIN-MD5 PLAIN-MD4 SMD5 SHA SHA1 SHA256 SHA512 SSHA SSHA256 SSHA512 CRAM-MD5 HMAC-MD5 " +
	"DIGEST-MD5 NTLM LM LANMAN OTP SKEY RPA DES-CRYPT PBKDF2 PLAIN-TRUNC "

func parseScheme(name, value string) (*stored, error) {
	name, encoding, encoded := strings.Cut(strings.ToUpper(name), ".")
	reader, ok := schemes[name]
	switch {
	case ok:
	case name != "" && strings.Contains(refused, " "+name+" "):
		return nil, fmt.Errorf("{%s}: not supported; make a new one, e.g. {%s}", name, DefaultScheme)
	default:
		// The name is not shown: somebody may have a password in clear that begins with a brace.
		return nil, errors.New("stored password: unknown scheme in braces")
	}
	if encoded {
		var b []byte
		var err error
		switch encoding {
		case "B64", "BASE64":
			b, err = base64.StdEncoding.DecodeString(value)
		case "HEX":
			b, err = hex.DecodeString(value)
		default:
			return nil, fmt.Errorf("{%s.…}: the encoding is neither b64 nor hex", name)
		}
		if err != nil || strings.IndexByte(string(b), 0) >= 0 {
			return nil, fmt.Errorf("{%s.%s}: what follows is not in this encoding", name, encoding)
		}
		value = string(b)
	}
	s, err := reader(value)
	if err != nil {
		return nil, fmt.Errorf("{%s}: %w", name, err)
	}
	return s, nil
}

// cryptOf reads a string that says itself what it is, and must begin with prefix.
func cryptOf(scheme, prefix string) func(string) (*stored, error) {
	return func(value string) (*stored, error) {
		switch {
		case locked(value):
			return nil, nil
		case value[0] != '$':
			return nil, errors.New("does not begin with $: DES is not supported")
		case !strings.HasPrefix(value, prefix):
			return nil, fmt.Errorf("does not begin with %s", prefix)
		}
		return parseCrypt(value)
	}
}
