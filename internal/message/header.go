// Package message reads Internet messages (RFC 5322, MIME) as they are, not as they should be: leniently, in one pass, and in
// bounded memory. Octets go in and values come out; what IMAP or POP3 makes of them is theirs to say.
//
// A header is a run of fields. A field is a name, a colon, and everything up to the next line that does not begin with
// a space or a tab. The header ends before the first empty line, or before the first line that cannot begin a field:
// what follows such a line is body to us, as it is to most readers, so nothing in it can be mistaken for a field.
// A line ends in LF, with or without a CR before it: messages come from maildirs of other programs too. The wire form of a message, which
// readers are sent, is the file with a CR put before every LF that has none; sizes are told in both.
//
//	Scan        the fields of a header, where they lie; no octet is copied
//	Parse       header, body and parts of a message, as places in its file
//	Envelope    what a mail program shows in a list, by Addresses, which makes something of everything
//	Mailboxes   the addresses on which a decision is made, or false
//	Date, Text, BaseSubject, MessageIDs, Params.Get     values for people, in UTF-8
//	Decode      the text of a body
//
// Promises: nobody sees another field first than the others do; the fields, one after the other, are the header, header and
// body are the message; every sequence of octets is a message; time is linear in the octets looked at, and memory
// what the limits say, whatever they are.
//
// Divergences: no limit on the length of a line or a name; white space before the colon is allowed (RFC 5322 section 4.5.8, obsolete
// syntax), so is a continuation line of white space only (section 4.2). A delimiter must be the whole line (RFC 2046
// section 5.1.1 asks only how it begins). Encoded words and parameters are read where and how programs write them, and RFC 2047 and 2231
// do not allow. Charsets are those of x/text: no UTF-7. Uuencode is text.
package message

import "bytes"

// Field is one header field. It is part of the octets that were scanned and lives as long as they do.
type Field struct {
	Offset int    // of its first octet
	Raw    []byte // the whole field, with its line ends
	colon  int    // in Raw
}

// Name is the name as written, without the white space that may stand before the colon.
func (f Field) Name() []byte {
	n := f.colon
	for n > 0 && (f.Raw[n-1] == ' ' || f.Raw[n-1] == '\t') {
		n--
	}
	return f.Raw[:n]
}

// Is reports whether the field has this name; upper and lower case are the same (RFC 5322 section 1.2.2).
func (f Field) Is(name string) bool {
	n := f.Name()
	if len(n) != len(name) {
		return false
	}
	for i := range n {
		if lower(n[i]) != lower(name[i]) {
			return false
		}
	}
	return true
}

// Value is what follows the colon, folded as it came, without the last line end.
func (f Field) Value() []byte {
	return trimEOL(f.Raw[f.colon+1:])
}

// AppendText appends the unfolded value to dst: line ends taken out (RFC 5322 section 2.2.3), white space around the
// whole trimmed. Lone CRs and all other octets stay.
func (f Field) AppendText(dst []byte) []byte {
	v := bytes.Trim(f.Value(), " \t\r\n")
	for {
		i := bytes.IndexByte(v, '\n')
		if i < 0 {
			return append(dst, v...)
		}
		dst = append(dst, trimEOL(v[:i+1])...)
		v = v[i+1:]
	}
}

// Scanner walks over the fields of a header.
type Scanner struct {
	b     []byte
	off   int
	whole bool
}

// Scan begins at the first octet of a message. Whole says that b is all of it; otherwise b is its beginning, and a
// field that might go on behind b is not returned.
func Scan(b []byte, whole bool) Scanner { return Scanner{b: b, whole: whole} }

// Next returns the next field, and false at the end of the header or, when b is only the beginning, of what can be
// told from it.
func (s *Scanner) Next() (Field, bool) {
	rest := s.b[s.off:]
	colon := fieldColon(rest)
	if colon < 0 {
		return Field{}, false
	}
	end := colon
	for {
		i := bytes.IndexByte(rest[end:], '\n')
		if i < 0 {
			if !s.whole {
				return Field{}, false
			}
			end = len(rest)
			break
		}
		end += i + 1
		if end == len(rest) {
			if !s.whole {
				return Field{}, false
			}
			break
		}
		if rest[end] != ' ' && rest[end] != '\t' {
			break
		}
	}
	f := Field{Offset: s.off, Raw: rest[:end:end], colon: colon}
	s.off += end
	return f, true
}

// Offset is where the scanner stands: after Next returned false, the end of the header.
func (s *Scanner) Offset() int { return s.off }

// Body is where the body begins, once Next returned false: behind the empty line if there is one, else where the
// header ends.
func (s *Scanner) Body() int {
	rest := s.b[s.off:]
	switch {
	case len(rest) >= 1 && rest[0] == '\n':
		return s.off + 1
	case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
		return s.off + 2
	}
	return s.off
}

// fieldColon returns where the colon of the field is that begins with b, or -1 when no field does.
// RFC 5322 section 3.6.8: a name is printable US-ASCII without the colon.
func fieldColon(b []byte) int {
	i := 0
	for i < len(b) && b[i] > ' ' && b[i] < 0x7f && b[i] != ':' {
		i++
	}
	if i == 0 {
		return -1
	}
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	if i < len(b) && b[i] == ':' {
		return i
	}
	return -1
}

func trimEOL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
