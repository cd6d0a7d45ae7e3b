package message

import "strings"

// specials end a token: RFC 2045 section 5.1, tspecials.
const specials = "()<>@,;:\\\"/[]?="

// cutToken divides v behind the token that it begins with.
func cutToken(v string) (token, rest string) {
	i := strings.IndexAny(v, specials+" \t\r\n")
	if i < 0 {
		return v, ""
	}
	return v[:i], v[i:]
}

// token is the token in v, which may have white space and comments around it.
func token(v string) string {
	t, _ := cutToken(skipSpace(v))
	return t
}

// skipSpace returns v from behind the white space and comments at its beginning. A comment that does not end is all of it.
func skipSpace(v string) string {
	for {
		v = strings.TrimLeft(v, " \t\r\n")
		if v == "" || v[0] != '(' {
			return v
		}
		v = v[commentEnd(v):]
	}
}

// commentEnd is the length of the comment that v begins with.
func commentEnd(v string) int {
	depth := 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(v)
}

// unquote returns the content of the quoted string that v begins with, without the backslashes of quoted pairs, and its
// length. One that does not end goes to the end of v.
func unquote(v string) (content string, n int) { return unquotePairs(v, "") }

// unquotePairs is unquote, but a backslash counts only before one of these, if there are any.
func unquotePairs(v, pairs string) (content string, n int) {
	end := strings.IndexAny(v[1:], "\"\\")
	if end >= 0 && v[1+end] == '"' {
		return v[1 : 1+end], end + 2
	}
	var b strings.Builder
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '"':
			return b.String(), i + 1
		case '\\':
			if i+1 == len(v) {
				return b.String(), len(v)
			}
			if pairs == "" || strings.IndexByte(pairs, v[i+1]) >= 0 {
				i++
			}
		}
		b.WriteByte(v[i])
	}
	return b.String(), len(v)
}
