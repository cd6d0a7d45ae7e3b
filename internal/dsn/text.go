package dsn

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// How much of a value from outside is repeated, in bytes.
const (
	maxAddress    = 600
	maxDiagnostic = 600
	maxEnvID      = 100 // RFC 3461 section 4.4
	maxHost       = 255
)

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// date is RFC 5322 section 3.3, "" for the zero time.
func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("Mon, 02 Jan 2006 15:04:05 -0700")
}

// token keeps letters and digits: what may stand in a boundary and in the left part of a Message-ID.
func token(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s) && len(b) < 40; i++ {
		if c := s[i]; c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b = append(b, c)
		}
	}
	return string(b)
}

// plain is s as printable ASCII of bounded length; everything else becomes "?", and white space one space.
func plain(s string, max int) string {
	b := make([]byte, 0, min(len(s), max))
	for i := 0; i < len(s); i++ {
		if len(b) >= max-3 {
			return string(b) + "..."
		}
		switch c := s[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			if len(b) > 0 && b[len(b)-1] != ' ' {
				b = append(b, ' ')
			}
		case c < ' ' || c == 0x7f:
			b = append(b, '?')
		case c >= 0x80:
			// One mark for a character, not for each of its bytes.
			if utf8.RuneStart(c) || len(b) == 0 || b[len(b)-1] != '?' {
				b = append(b, '?')
			}
		default:
			b = append(b, c)
		}
	}
	return strings.TrimRight(string(b), " ")
}

// host is our name as it may stand in an address.
func (m *Message) host() string { return hostname(m.r.Hostname) }

// hostname keeps what a domain or an address literal is made of.
func hostname(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s) && len(b) < maxHost; i++ {
		if c := s[i]; c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;\"`, rune(c)) {
			b = append(b, c)
		}
	}
	if len(b) == 0 {
		return "localhost"
	}
	return string(b)
}

// address is an address for a field of this report: as it is if it may stand so, else with what may not as
// \x{HEX} (RFC 6533 section 3, EmbeddedUnicodeChar).
func (m *Message) address(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if len(b) > maxAddress {
			return string(b) + "..."
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, '?')
		case r < ' ' || r == 0x7f || r >= 0x80 && (!m.UTF8 || !strconv.IsPrint(r)):
			b = append(b, `\x{`...)
			if r < 0x10 {
				b = append(b, '0') // HEXPOINT has two digits at least
			}
			b = append(b, strings.ToUpper(strconv.FormatInt(int64(r), 16))...)
			b = append(b, '}')
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// typed is "type; address" for Original-Recipient and Final-Recipient.
func (m *Message) typed(typ, address string) string {
	switch {
	case strings.EqualFold(typ, "utf-8"):
		typ = "utf-8"
		if m.UTF8 {
			// RFC 6533 section 3: it should be converted to the form of plain UTF-8.
			address = unitext(address)
		}
	case !ascii(address):
		typ = "utf-8"
	}
	return plain(typ, 40) + "; " + m.address(address)
}

// unitext is s with every \x{HEX} that stands for a character that prints replaced by it.
func unitext(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, `\x{`)
		if i < 0 {
			break
		}
		hex, rest, ok := strings.Cut(s[i+3:], "}")
		n, err := strconv.ParseUint(hex, 16, 32)
		if !ok || err != nil || len(hex) < 2 || len(hex) > 6 || n < 0x80 || !utf8.ValidRune(rune(n)) || !strconv.IsPrint(rune(n)) {
			b.WriteString(s[:i+3])
			s = s[i+3:]
			continue
		}
		b.WriteString(s[:i])
		b.WriteRune(rune(n))
		s = rest
	}
	b.WriteString(s)
	return b.String()
}

// line writes "Name: value" folded at spaces, so that no line is longer than needed. Values have been made safe.
func line(b *bytes.Buffer, name, value string) {
	if value == "" {
		return
	}
	b.WriteString(name)
	b.WriteString(": ")
	wrap(b, value, len(name)+2, " ")
}

// wrap writes words in lines of about 76 characters with CRLF; the first begins at column, the others with indent.
func wrap(b *bytes.Buffer, text string, column int, indent string) {
	const width = 76
	first := true
	for w := range strings.SplitSeq(text, " ") {
		if w == "" {
			continue
		}
		if !first {
			if column+1+len(w) > width {
				b.WriteString("\r\n")
				b.WriteString(indent)
				column = len(indent)
			} else {
				b.WriteByte(' ')
				column++
			}
		}
		b.WriteString(w)
		column += len(w)
		first = false
	}
	b.WriteString("\r\n")
}
