package login

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Errors of the lines of an exchange.
var (
	ErrSyntax    = errors.New("not a mechanism and an initial response")
	ErrBase64    = errors.New("not base64")
	ErrCancelled = errors.New("cancelled by the client")
)

// MaxLine bounds a line of an exchange with its CRLF. RFC 4954 section 4: 12,288 octets are enough for the mechanisms in use.
const MaxLine = 12288 + 2

// ParseAuth reads what follows AUTH, or AUTHENTICATE: mechanism [SP initial-response]. "=" is an initial response that is empty; initial is nil when there is
// none. Errors: ErrSyntax, ErrBase64.
func ParseAuth(args string) (mechanism string, initial []byte, err error) {
	mechanism, text, more := strings.Cut(args, " ")
	mechanism = strings.ToUpper(mechanism)
	if !isMechanism(mechanism) {
		return "", nil, ErrSyntax
	}
	switch {
	case !more:
		return mechanism, nil, nil
	case text == "=":
		return mechanism, []byte{}, nil
	}
	initial, err = decode(text)
	if err == nil && len(initial) == 0 {
		err = ErrBase64
	}
	return mechanism, initial, err
}

// isMechanism: RFC 4422 section 3.1, 1 to 20 of A-Z, 0-9, hyphen and underscore.
func isMechanism(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 20
}

// ParseResponse reads the line that answers a challenge. Errors: ErrCancelled ("*"), ErrBase64.
func ParseResponse(line []byte) ([]byte, error) {
	if string(line) == "*" {
		return nil, ErrCancelled
	}
	return decode(string(line))
}

// decode reads base64 as RFC 5034 section 4 wants it read: nothing that is not of the alphabet is ignored, line ends included.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrBase64
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrBase64
	}
	return b, nil
}
