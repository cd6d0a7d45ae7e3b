package imap

// The sets of RFC 9051 section 9 as bits: of the characters below 64, and of those from 64 to 127. CTL is part of all: 0 to 31 and 127.
const (
	ctlLo  uint64 = 1<<32 - 1
	ctlHi  uint64 = 1 << (127 - 64)
	listLo        = ctlLo | 1<<'(' | 1<<')' | 1<<' ' | 1<<'"' // not in list-char
	listHi        = ctlHi | 1<<('{'-64) | 1<<('\\'-64)
	wildLo        = listLo | 1<<'%' | 1<<'*' // not in ASTRING-CHAR
	atomHi        = listHi | 1<<(']'-64)     // not in ATOM-CHAR
)

func outside(c byte, lo, hi uint64) bool {
	if c < 64 {
		return lo>>c&1 == 0
	}
	return c < 128 && hi>>(c-64)&1 == 0
}

func isAtomChar(c byte) bool    { return outside(c, wildLo, atomHi) }
func isAstringChar(c byte) bool { return outside(c, wildLo, listHi) }
func isListChar(c byte) bool    { return outside(c, listLo, listHi) }
func isDigit(c byte) bool       { return '0' <= c && c <= '9' }
func isSetChar(c byte) bool     { return isDigit(c) || c == ':' || c == ',' || c == '*' || c == '$' }

// isWordChar: the keywords of the protocol are made of these (RFC 4466 tagged-label-char); "[" of BODY[ is not among them, which an atom could have.
func isWordChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '-' || c == '_' || c == '.'
}

func upper(dst, s []byte) []byte {
	for _, c := range s {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
