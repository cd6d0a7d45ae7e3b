package resolver

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ToASCII gives the form of domain that goes into DNS, SMTP without SMTPUTF8, and TLS: lower case, A-labels for U-labels
// (RFC 5891 section 5, RFC 5895), no final dot. It admits letters, digits, hyphens and, as real domains have them, underscores;
// labels of 1 to 63 and names of 1 to 253 bytes (RFC 1035 section 2.3.4). The error is BadName.
func ToASCII(domain string) (string, error) {
	name := strings.TrimSuffix(domain, ".")
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(name)
			if err != nil || !utf8.ValidString(name) {
				return "", BadName
			}
			name = a
			break
		}
	}
	if len(name) == 0 || len(name) > 253 {
		return "", BadName
	}
	label, upper := 0, false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return "", BadName
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", BadName
		}
		if label++; label > 63 {
			return "", BadName
		}
	}
	if label == 0 {
		return "", BadName
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, nil
}
