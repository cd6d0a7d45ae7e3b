package password

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Prepare is the form of a password that SCRAM takes keys of: SASLprep (RFC 4013). What SASLprep prohibits is left as it is,
// because clients that do not refuse it send it so; Make refuses it.
//
// Not OpaqueString of RFC 8265, though it replaced SASLprep elsewhere: RFC 5802 and 7677 still say SASLprep, clients do it, and the two differ (½ is three characters
// to one and a character to the other), so that with the newer one people could not log in.
func Prepare(password string) string {
	if p, err := saslprep(password); err == nil {
		return p
	}
	return password
}

var errProhibited = errors.New("has a character, or an order of characters, that SASLprep prohibits (RFC 4013)")

// saslprep is RFC 4013, with the normalisation of today's Unicode and not of 3.2, and without the prohibition of characters that 3.2
// did not know: it would keep out every newer script, and clients treat a password as a query, where they are allowed.
func saslprep(s string) (string, error) {
	if ascii(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errProhibited
	}
	s = strings.Map(func(r rune) rune { // section 2.1
		switch {
		case r != ' ' && unicode.Is(unicode.Zs, r), r == 0x200b: // table C.1.2 of RFC 3454
			return ' '
		case unicode.Is(nothing, r):
			return -1
		}
		return r
	}, s)
	s = norm.NFKC.String(s) // section 2.2
	if s == "" {
		return "", errProhibited
	}
	for _, r := range s { // section 2.3
		if unicode.Is(prohibited, r) || r&0xfffe == 0xfffe {
			return "", errProhibited
		}
	}
	if !oneDirection(s) {
		return "", errProhibited
	}
	return s, nil
}

// ascii: what can only stand for itself.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// oneDirection is section 6 of RFC 3454: text that runs from right to left does so from end to end.
func oneDirection(s string) bool {
	var left, right bool
	for _, r := range s {
		switch direction(r) {
		case bidi.L:
			left = true
		case bidi.R, bidi.AL:
			right = true
		}
	}
	if !right {
		return true
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return !left && rightToLeft(first) && rightToLeft(last)
}

func direction(r rune) bidi.Class {
	p, _ := bidi.LookupRune(r)
	return p.Class()
}

func rightToLeft(r rune) bool { c := direction(r); return c == bidi.R || c == bidi.AL }

// Tables of RFC 3454.
var (
	nothing = &unicode.RangeTable{R16: []unicode.Range16{ // B.1
		{0xad, 0xad, 1}, {0x34f, 0x34f, 1}, {0x1806, 0x1806, 1}, {0x180b, 0x180d, 1}, {0x200b, 0x200d, 1}, {0x2060, 0x2060, 1},
		{0xfe00, 0xfe0f, 1}, {0xfeff, 0xfeff, 1},
	}}
	prohibited = &unicode.RangeTable{ // C.1.2 and C.2.1 to C.9; the ends of planes, C.4, are seen to above
		R16: []unicode.Range16{
			{0x0, 0x1f, 1}, {0x7f, 0xa0, 1}, {0x340, 0x341, 1}, {0x6dd, 0x6dd, 1}, {0x70f, 0x70f, 1}, {0x1680, 0x1680, 1}, {0x180e, 0x180e, 1},
			{0x2000, 0x200f, 1}, {0x2028, 0x202f, 1}, {0x205f, 0x2063, 1}, {0x206a, 0x206f, 1}, {0x2ff0, 0x2ffb, 1}, {0x3000, 0x3000, 1},
			{0xd800, 0xf8ff, 1}, {0xfdd0, 0xfdef, 1}, {0xfeff, 0xfeff, 1}, {0xfff9, 0xfffd, 1},
		},
		R32: []unicode.Range32{
			{0x1d173, 0x1d17a, 1}, {0xe0001, 0xe0001, 1}, {0xe0020, 0xe007f, 1}, {0xf0000, 0x10ffff, 1},
		},
		LatinOffset: 2,
	}
)
