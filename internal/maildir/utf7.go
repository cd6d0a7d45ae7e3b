package maildir

import (
	"encoding/base64"
	"unicode/utf16"
)

// utf7Alphabet is base64 with "," for "/" and without padding: RFC 3501 section 5.1.3.
const utf7Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

// encodeUTF7 writes valid UTF-8 in modified UTF-7: printable ASCII stands for
// itself, "&" is "&-", all else is UTF-16 in modified base64 between & and -.
func encodeUTF7(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if s[i] == '&' || s[i] < 0x20 || s[i] > 0x7e {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	enc := base64.NewEncoding(utf7Alphabet).WithPadding(base64.NoPadding)
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
		case r >= 0x20 && r <= 0x7e:
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
