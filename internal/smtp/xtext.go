package smtp

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrXtext: a string is not xtext.
var ErrXtext = errors.New("not xtext")

const hexDigits = "0123456789ABCDEF"

// isXchar: RFC 3461 section 4, any CHAR between "!" and "~" except "+" and "=".
func isXchar(c byte) bool { return '!' <= c && c <= '~' && c != '+' && c != '=' }

// AppendXtext appends s in xtext (RFC 3461 section 4): everything outside "!".."~", and "+" and "=", as +XX.
func AppendXtext(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if isXchar(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '+', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// ParseXtext decodes xtext. RFC 3461 section 4: the two digits after "+" are upper case. The error is ErrXtext.
func ParseXtext(s string) (string, error) {
	var b []byte // from the first "+" on
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if len(s)-i < 3 {
				return "", ErrXtext
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+1]), strings.IndexByte(hexDigits, s[i+2])
			if hi < 0 || lo < 0 {
				return "", ErrXtext
			}
			if b == nil {
				b = append(make([]byte, 0, len(s)), s[:i]...)
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		case !isXchar(c):
			return "", ErrXtext
		case b != nil:
			b = append(b, c)
		}
	}
	if b == nil {
		return s, nil
	}
	return string(b), nil
}

// appendUnitext appends an address in the form utf-8-addr-xtext of RFC 6533 section 3, which is ASCII: \x{XX}.
func appendUnitext(dst []byte, s string) []byte {
	for _, r := range s {
		if r < 0x7f && isXchar(byte(r)) && r != '\\' {
			dst = append(dst, byte(r))
			continue
		}
		dst = append(dst, `\x{`...)
		if r < 0x10 {
			dst = append(dst, '0') // HEXPOINT is of two digits at least
		}
		dst = append(dst, strings.ToUpper(strconv.FormatInt(int64(r), 16))...)
		dst = append(dst, '}')
	}
	return dst
}

// parseUnitext decodes utf-8-addr-xtext, and with utf8ok utf-8-addr-unitext and utf-8-address (RFC 6533 section 3). No control characters come of it.
func parseUnitext(s string, utf8ok bool) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\':
			hex, _, ok := strings.Cut(s[i:], "}")
			hex, start := strings.CutPrefix(hex, `\x{`)
			u, err := strconv.ParseUint(hex, 16, 32)
			if !ok || !start || err != nil || len(hex) < 2 || len(hex) > 6 || !utf8.ValidRune(rune(u)) {
				return "", ErrXtext
			}
			r, n = rune(u), len(`\x{}`)+len(hex)
		case r == utf8.RuneError && n == 1, r >= 0x80 && !utf8ok, r < 0x80 && !isXchar(byte(r)):
			return "", ErrXtext
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return "", ErrXtext
		}
		b = utf8.AppendRune(b, r)
		i += n
	}
	return string(b), nil
}
