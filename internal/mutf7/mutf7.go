// Package mutf7 is modified UTF-7, in which IMAP4rev1 and Maildir++ write
// mailbox names (RFC 3501 section 5.1.3): printable ASCII stands for itself,
// "&" is "&-", all else is UTF-16 in base64 between "&" and "-".
//
// A text has one form, and Decode takes no other: if two spellings meant one
// name, a check of the one would not hold for the other.
package mutf7

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// alphabet is that of base64 with "," for "/".
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

func encoding() *base64.Encoding {
	return base64.NewEncoding(alphabet).WithPadding(base64.NoPadding)
}

func direct(c byte) bool { return c >= 0x20 && c <= 0x7e }

// Encode writes valid UTF-8 in modified UTF-7.
func Encode(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] == '&' || !direct(s[i]) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	enc := encoding()
	var out, run []byte
	flush := func() {
		if len(run) > 0 {
			out = append(out, '&')
			out = enc.AppendEncode(out, run)
			out = append(out, '-')
			run = run[:0]
		}
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			out = append(out, "&-"...)
		case r < utf8.RuneSelf && direct(byte(r)):
			flush()
			out = append(out, byte(r))
		default:
			for _, u := range utf16.AppendRune(nil, r) {
				run = append(run, byte(u>>8), byte(u))
			}
		}
	}
	flush()
	return string(out)
}

// Decode reads modified UTF-7. It is not ok when s is not what Encode writes:
// bytes that are not printable ASCII, a "&" without its "-", base64 that is
// broken, has bits left over or encodes what needs no encoding, half a
// surrogate pair, two encoded parts side by side.
func Decode(s string) (text string, ok bool) {
	if strings.IndexByte(s, '&') < 0 {
		for i := 0; i < len(s); i++ {
			if !direct(s[i]) {
				return "", false
			}
		}
		return s, true
	}
	enc := encoding()
	var out []byte
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "&")
		out = append(out, before...)
		if !found {
			break
		}
		part, after, found := strings.Cut(after, "-")
		if !found {
			return "", false
		}
		rest = after
		if part == "" {
			out = append(out, '&')
			continue
		}
		units, err := enc.DecodeString(part)
		if err != nil || len(units)%2 != 0 {
			return "", false
		}
		for len(units) > 0 {
			r := rune(units[0])<<8 | rune(units[1])
			units = units[2:]
			if utf16.IsSurrogate(r) {
				if len(units) == 0 {
					return "", false
				}
				r = utf16.DecodeRune(r, rune(units[0])<<8|rune(units[1]))
				units = units[2:]
			}
			out = utf8.AppendRune(out, r)
		}
	}
	// What has a second form differs from its first one here: a bad pair of
	// surrogates too, which was read as U+FFFD.
	text = string(out)
	return text, Encode(text) == s
}
