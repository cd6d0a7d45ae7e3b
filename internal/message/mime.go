package message

import (
	"slices"
	"strings"
)

// MIME is what the Content fields of a part say (RFC 2045 to 2049, 2183, 3282, 2557, 1864), unfolded, otherwise as
// written, or the defaults.
type MIME struct {
	Type, Subtype string // text/plain when there is no Content-Type or it has no type and subtype (RFC 2045 section 5.2)
	Params        Params
	Encoding      string // 7bit when there is none
	ID            string
	Description   string
	MD5           string
	Disposition   string
	DispParams    Params
	Language      []string
	Location      string
}

// Is reports whether the media type is this one; "" as the subtype stands for any.
func (m *MIME) Is(typ, subtype string) bool {
	return strings.EqualFold(m.Type, typ) && (subtype == "" || strings.EqualFold(m.Subtype, subtype))
}

// IsMultipart: it has Children.
func (m *MIME) IsMultipart() bool { return m.Is("multipart", "") }

// IsMessage: it has a Message. RFC 6532 section 3.7: message/global is message/rfc822 with UTF-8 in its header.
func (m *MIME) IsMessage() bool { return m.Is("message", "rfc822") || m.Is("message", "global") }

// isIdentity: the octets of the body are the content (RFC 2045 section 6.2). So are those whose encoding nobody knows.
func (m *MIME) isIdentity() bool {
	return !strings.EqualFold(m.Encoding, "base64") && !strings.EqualFold(m.Encoding, "quoted-printable")
}

// read takes the Content fields of a header, the first of each; it returns text, enlarged.
func (m *MIME) read(header, text []byte) []byte {
	var seen [8]bool
	first := func(i int) bool {
		was := seen[i]
		seen[i] = true
		return !was
	}
	for s := Scan(header, true); ; {
		f, ok := s.Next()
		if !ok {
			return text
		}
		name := f.Name()
		if len(name) < 10 || lower(name[0]) != 'c' || name[7] != '-' {
			continue
		}
		text = f.AppendText(text[:0])
		switch {
		case f.Is("Content-Type") && first(0):
			m.contentType(string(text))
		case f.Is("Content-Transfer-Encoding") && first(1):
			if e := token(string(text)); e != "" {
				m.Encoding = e
			}
		case f.Is("Content-ID") && first(2):
			m.ID = string(text)
		case f.Is("Content-Description") && first(3):
			m.Description = string(text)
		case f.Is("Content-MD5") && first(4):
			m.MD5 = string(text)
		case f.Is("Content-Disposition") && first(5):
			v := skipSpace(string(text))
			m.Disposition, v = cutToken(v)
			m.DispParams = params(v)
		case f.Is("Content-Language") && first(6):
			for tag := range strings.SplitSeq(string(text), ",") {
				if t := token(tag); t != "" {
					m.Language = append(m.Language, t)
				}
			}
		case f.Is("Content-Location") && first(7):
			m.Location = string(text)
		}
	}
}

// contentType reads the value of Content-Type. Mail from before MIME has "text" or "TEXT/"; with parameters, which count.
func (m *MIME) contentType(v string) {
	m.Type, m.Subtype = "text", "plain"
	typ, v := cutToken(skipSpace(v))
	v = skipSpace(v)
	if after, ok := strings.CutPrefix(v, "/"); ok {
		var subtype string
		subtype, v = cutToken(skipSpace(after))
		if typ != "" && subtype != "" {
			m.Type, m.Subtype = typ, subtype
		}
	}
	m.Params = params(v)
}

// Param is a parameter as written, without its quotes.
type Param struct{ Name, Value string }

// Params are the parameters of a field, in their order.
type Params []Param

// maxParams is how many parameters of a field count. Looking for each among all is then no work to speak of.
const maxParams = 200

// params reads what follows a type: *(";" attribute "=" value), and what programs make of it: no semicolon, a value with
// spaces and no quotes, a quoted string without an end.
func params(v string) (ps Params) {
	for len(ps) < maxParams {
		v = skipSpace(strings.TrimLeft(v, "; \t\r\n"))
		i := strings.IndexAny(v, "=;")
		if i < 0 {
			return ps
		}
		name := strings.TrimRight(v[:i], " \t\r\n")
		semicolon := v[i] == ';'
		v = v[i+1:]
		if semicolon {
			continue
		}
		var value string
		v = skipSpace(v)
		if strings.HasPrefix(v, `"`) {
			var n int
			value, n = unquotePairs(v, `"\`) // or a Windows path has none left: "C:\temp\x.txt"
			v = v[n:]
		} else {
			n := unquotedValue(v)
			value, v = strings.TrimRight(v[:n], " \t\r\n"), v[n:]
			// A comment behind it: us-ascii (Plain text). Not so in: report (1).pdf
			if j := strings.LastIndex(value, " ("); j >= 0 && strings.HasSuffix(value, ")") {
				value = strings.TrimRight(value[:j], " \t\r\n")
			}
		}
		if name != "" && strings.IndexAny(name, " \t\"(),/<>@[]") < 0 {
			ps = append(ps, Param{name, value})
		}
	}
	return ps
}

// unquotedValue is the length of a value without quotes: up to a semicolon, or to white space before what must be another
// parameter, a token and an equals sign. An example in RFC 2046 section 5.2.3.7 forgets the semicolon.
func unquotedValue(v string) int {
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case ';':
			return i
		case ' ', '\t':
			if name, rest := cutToken(v[i+1:]); name != "" && strings.HasPrefix(rest, "=") {
				return i
			}
		}
	}
	return len(v)
}

// Get is the value of a parameter for people, in UTF-8: its parts joined and its charset decoded as RFC 2231 says, or RFC
// 2047, which does not allow it here, and which most programs have written. Of several forms the one of RFC 2231 counts,
// of several of one form the first.
func (ps Params) Get(name string) (string, bool) {
	plain, segments := ps.find(name)
	switch {
	case segments != nil:
		value, charset, _ := join(segments)
		if charset != "" {
			return toUTF8(value, charset), true
		}
		return Text(string(value)), true
	case plain != nil:
		return Text(plain.Value), true
	}
	return "", false
}

// segment is one of the parameters name*0, name*1* ..., or name*, which is the only one then.
type segment struct {
	value    string
	extended bool // charset and language come first, if it is the first, and octets are written %XX
	there    bool
}

// find returns the parameter of that name, or the segments of it that follow each other from the first on.
func (ps Params) find(name string) (plain *Param, segments []segment) {
	var all []segment
	for i := range ps {
		base, number, extended := section(ps[i].Name)
		switch {
		case !strings.EqualFold(base, name):
		case number < 0 && !extended:
			if plain == nil {
				plain = &ps[i]
			}
		case number < 0 && segments == nil:
			segments = []segment{{ps[i].Value, true, true}}
		case 0 <= number && number < len(ps): // a larger one has a gap before it
			if all == nil {
				all = make([]segment, len(ps))
			}
			if !all[number].there {
				all[number] = segment{ps[i].Value, extended, true}
			}
		}
	}
	if segments == nil && all != nil && all[0].there {
		n := slices.IndexFunc(all, func(s segment) bool { return !s.there })
		if n < 0 {
			n = len(all)
		}
		segments = all[:n]
	}
	return plain, segments
}

// section divides a name: RFC 2231 section 7, attribute ["*" 1*DIGIT] ["*"]. The number is -1 when there is none. A name with
// other asterisks, which it must not have, is whole.
func section(name string) (base string, number int, extended bool) {
	base, extended = strings.CutSuffix(name, "*")
	i := strings.IndexByte(base, '*')
	if i < 0 {
		return base, -1, extended
	}
	if i+1 == len(base) || len(base)-i > 6 {
		return name, -1, false
	}
	for _, c := range []byte(base[i+1:]) {
		if c < '0' || c > '9' {
			return name, -1, false
		}
		number = 10*number + int(c-'0')
	}
	return base[:i], number, extended
}

// join puts segments together. The charset is "" when none of them is extended.
func join(segments []segment) (value []byte, charset, language string) {
	for i, s := range segments {
		v := s.value
		if !s.extended {
			value = append(value, v...)
			continue
		}
		if charset == "" {
			charset = "utf-8"
		}
		if i == 0 {
			if cs, rest, ok := strings.Cut(v, "'"); ok {
				if lang, text, ok := strings.Cut(rest, "'"); ok {
					language, v = lang, text
					if cs != "" {
						charset = cs
					}
				}
			}
		}
		for j := 0; j < len(v); j++ {
			if v[j] == '%' && j+2 < len(v) {
				if hi, lo := unhex(v[j+1]), unhex(v[j+2]); hi >= 0 && lo >= 0 {
					value = append(value, byte(hi<<4|lo))
					j += 2
					continue
				}
			}
			value = append(value, v[j])
		}
	}
	return value, charset, language
}

// Joined returns the parameters for a BODYSTRUCTURE: segments are one parameter, in the place of the first of them (RFC
// 9051 section 7.5.2: servers SHOULD decode continuations). It is name, or name* when one of them is extended, with the
// octets written %XX again: so do other servers, and clients decode it.
func (ps Params) Joined() Params {
	out := make(Params, 0, len(ps))
	var done map[string]bool
	for i := range ps {
		base, number, _ := section(ps[i].Name)
		if number < 0 {
			out = append(out, ps[i])
			continue
		}
		key := strings.ToLower(base)
		if done[key] {
			continue
		}
		if done == nil {
			done = map[string]bool{}
		}
		done[key] = true
		_, segments := ps[i:].find(base)
		if segments == nil { // no first one
			out = append(out, ps[i])
			continue
		}
		value, charset, language := join(segments)
		if charset == "" {
			out = append(out, Param{base, string(value)})
			continue
		}
		const hexDigits = "0123456789ABCDEF"
		var b strings.Builder
		b.WriteString(charset + "'" + language + "'")
		for _, c := range value {
			if c > ' ' && c < 0x7f && !strings.ContainsRune("*'%"+specials, rune(c)) {
				b.WriteByte(c)
			} else {
				b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
			}
		}
		out = append(out, Param{base + "*", b.String()})
	}
	return out
}
