package imap

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"postamt/internal/mutf7"
)

// Text is what strings come in: values of a message that was parsed, or octets of a record where they lie. Nothing is copied but to dst.
type Text interface{ ~string | ~[]byte }

// AppendString appends string: quoted if it can be, else a literal. 8-bit characters are quoted only with UTF8, and if they are UTF-8. A NUL, which neither may have, becomes "?".
func AppendString[T Text](dst []byte, s T, m Mode) []byte {
	b := []byte(s)
	if plain(b) {
		dst = append(dst, '"')
		dst = append(dst, b...)
		return append(dst, '"')
	}
	return appendOdd(dst, b, m)
}

// AppendNString appends nstring; nil is NIL.
func AppendNString(dst, s []byte, m Mode) []byte {
	if s == nil {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s, m)
}

// AppendOrNIL appends nstring; an empty one is NIL.
func AppendOrNIL[T Text](dst []byte, s T, m Mode) []byte {
	if len(s) == 0 {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s, m)
}

// plain reports whether s can be quoted as it is: ASCII without controls, quotes and backslashes. Eight octets at a time.
func plain(s []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := binary.LittleEndian.Uint64(s)
		// The high bit of an octet is set: in x beyond ASCII, in the differences below the space and at what is looked for. A borrow from a lower octet
		// sets one for nothing only when that octet's own is set.
		if (x|(x-' '*ones)|((x^'"'*ones)-ones)|((x^'\\'*ones)-ones))&highs != 0 {
			return false
		}
		s = s[8:]
	}
	for _, c := range s {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendOdd is AppendString for what is not plain.
func appendOdd(dst, s []byte, m Mode) []byte {
	high := false
	for _, c := range s {
		if c == '\r' || c == '\n' {
			return appendLiteral(dst, s)
		}
		high = high || c >= utf8.RuneSelf
	}
	if high && (m&UTF8 == 0 || !utf8.Valid(s)) {
		return appendLiteral(dst, s)
	}
	dst = append(dst, '"')
	for _, c := range s {
		switch c {
		case '"', '\\':
			dst = append(dst, '\\')
		case 0:
			c = '?'
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

func appendLiteral(dst, s []byte) []byte {
	dst = AppendLiteralSize(dst, int64(len(s)), false)
	start := len(dst)
	dst = append(dst, s...)
	for i, c := range dst[start:] {
		if c == 0 {
			dst[start+i] = '?'
		}
	}
	return dst
}

// AppendLiteralSize appends the head of a literal, "{n}" CRLF, or with binary of a literal8, which alone may contain a NUL. Exactly n octets are to follow.
func AppendLiteralSize(dst []byte, n int64, binary bool) []byte {
	if binary {
		dst = append(dst, '~')
	}
	return append(strconv.AppendInt(append(dst, '{'), n, 10), "}\r\n"...)
}

// AppendAString appends astring: an atom if it can be one. NIL is quoted, so that nobody takes it for nil.
func AppendAString[T Text](dst []byte, s T, m Mode) []byte {
	ok := len(s) > 0 && !(len(s) == 3 && s[0]|0x20 == 'n' && s[1]|0x20 == 'i' && s[2]|0x20 == 'l')
	for i := 0; ok && i < len(s); i++ {
		ok = isAstringChar(s[i])
	}
	if ok {
		return append(dst, s...)
	}
	return AppendString(dst, s, m)
}

// AppendMailbox appends a mailbox name, which is UTF-8: modified UTF-7 without UTF8.
func AppendMailbox(dst []byte, name string, m Mode) []byte {
	if m&UTF8 == 0 {
		name = mutf7.Encode(name)
	}
	return AppendAString(dst, name, m)
}

// AppendFlags appends flag-list. A flag that is not one is left out: the keywords of a maildir are a file that anybody can write to.
func AppendFlags(dst []byte, flags ...string) []byte {
	dst = append(dst, '(')
	begin := len(dst)
	for _, f := range flags {
		if !IsFlag(f) {
			continue
		}
		if len(dst) > begin {
			dst = append(dst, ' ')
		}
		dst = append(dst, f...)
	}
	return append(dst, ')')
}

// IsFlag says whether a flag, or keyword, is one: flag of RFC 9051 section 9, or \*.
func IsFlag(f string) bool {
	if f != "" && f[0] == '\\' {
		if f = f[1:]; f == "*" {
			return true
		}
	}
	for i := 0; i < len(f); i++ {
		if !isAtomChar(f[i]) {
			return false
		}
	}
	return f != ""
}

// EndList ends the list whose "(" is at the octet list of dst; of an empty one it makes NIL.
//
//	list := len(dst)
//	dst = append(dst, '(')
//	for … {
//		dst = AppendString(Space(dst, list), s, m)
//	}
//	dst = EndList(dst, list)
func EndList(dst []byte, list int) []byte {
	if len(dst) == list+1 {
		return append(dst[:list], "NIL"...)
	}
	return append(dst, ')')
}

// Space appends the space between elements: nothing before the first of the list.
func Space(dst []byte, list int) []byte {
	if len(dst) > list+1 {
		dst = append(dst, ' ')
	}
	return dst
}
