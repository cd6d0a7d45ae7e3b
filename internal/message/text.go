package message

import (
	"encoding/base64"
	"strings"
)

// Text decodes the encoded words of RFC 2047 in a value, to UTF-8. Words that follow each other are one text: white
// space between them goes, and a character may be divided between them. What is broken, and a charset that is not known, stays as it
// is written; octets that are no UTF-8 are replaced. An encoded word counts wherever it stands, as programs write them
// within words and in quotes, which section 5 does not allow.
func Text(value string) string {
	if !strings.Contains(value, "=?") {
		return strings.ToValidUTF8(value, "\ufffd")
	}
	var out strings.Builder
	var run []byte // octets of the words that follow each other, in one charset
	charset := ""
	flush := func() {
		out.WriteString(toUTF8(run, charset))
		run = run[:0]
	}
	w := words{s: value, end: -1}
	joined := false // a word went before
	for {
		before, word, ok := w.next()
		if !joined || !ok || strings.Trim(before, " \t\r\n") != "" {
			flush()
			out.WriteString(strings.ToValidUTF8(before, "\ufffd"))
		}
		if !ok {
			return out.String()
		}
		if !strings.EqualFold(word.charset, charset) {
			flush()
			charset = word.charset
		}
		run = append(run, word.octets...)
		joined = true
	}
}

// word is an encoded word, its encoding taken off.
type word struct {
	charset string
	octets  []byte
}

// words finds encoded words. Its time is linear: no octet is looked at again from another beginning.
type words struct {
	s   string
	end int // of the first "?=" at or behind the place in s where it was looked for; -1: not looked for
	pos int
}

// next returns what stands before the next word, and the word; false: there is none, and before is the rest.
func (w *words) next() (before string, _ word, ok bool) {
	start := w.pos
	for {
		i := strings.Index(w.s[w.pos:], "=?")
		if i < 0 {
			before, w.pos = w.s[start:], len(w.s)
			return before, word{}, false
		}
		i += w.pos
		w.pos = i + 2
		// charset ["*" language] "?" encoding "?"
		head := w.s[w.pos:min(len(w.s), w.pos+80)]
		charset, rest, ok := strings.Cut(head, "?")
		if !ok || len(rest) < 2 || rest[1] != '?' || strings.ContainsAny(charset, " \t\r\n=") {
			continue
		}
		text := w.pos + len(charset) + 3
		if w.end < text {
			n := strings.Index(w.s[text:], "?=")
			if n < 0 {
				before, w.pos = w.s[start:], len(w.s)
				return before, word{}, false // and no word can end
			}
			w.end = text + n
		}
		content := w.s[text:w.end]
		if strings.Contains(content, "=?") {
			continue // one that was cut off, and another
		}
		charset, _, _ = strings.Cut(charset, "*") // RFC 2231 section 5
		octets, ok := wordOctets(rest[0], content)
		if !ok || !KnownCharset(charset) {
			continue
		}
		before, w.pos = w.s[start:i], w.end+2
		return before, word{charset, octets}, true
	}
}

// wordOctets takes the encoding off.
func wordOctets(encoding byte, s string) ([]byte, bool) {
	switch encoding {
	case 'Q', 'q':
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			c := s[i]
			switch {
			case c == '_':
				c = ' '
			case c == '=' && i+2 < len(s):
				if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
					c = byte(hi<<4 | lo)
					i += 2
				}
			}
			b = append(b, c)
		}
		return b, true
	case 'B', 'b':
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "= "))
		return b, err == nil
	}
	return nil, false
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// BaseSubject is the subject without what replies and forwards add to it: RFC 5256 section 2.1, for SORT and THREAD.
// Changed says that there was something that makes it a reply or a forward.
func BaseSubject(subject string) (base string, changed bool) {
	// Step 1: decoded, runs of white space one space. Fields makes it trimmed too.
	s := strings.Join(strings.FieldsFunc(Text(subject), func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " ")
	for {
		// Step 2: "(fwd)" at the end.
		for len(s) >= 5 && strings.EqualFold(s[len(s)-5:], "(fwd)") {
			s, changed = strings.TrimRight(s[:len(s)-5], " "), true
		}
		// Steps 3 to 5: leaders and blobs at the beginning.
		s, changed = trimLeaders(s, changed)
		// Step 6: "[fwd: ...]".
		if len(s) < 6 || !strings.EqualFold(s[:5], "[fwd:") || s[len(s)-1] != ']' {
			return s, changed
		}
		s, changed = strings.Trim(s[5:len(s)-1], " "), true
	}
}

// trimLeaders takes off everything like "[list] Re: ", and blobs "[list] " as long as something stays. A run of blobs
// is read once: whether a leader follows it decides for all of it, else a subject of blobs would take time by its square.
func trimLeaders(s string, changed bool) (string, bool) {
	for {
		s = strings.TrimLeft(s, " ")
		blobs, last := s, s
		for {
			rest, ok := cutBlob(blobs)
			if !ok {
				break
			}
			last, blobs = blobs, rest
		}
		if rest, ok := cutReply(blobs); ok {
			s, changed = rest, true
			continue
		}
		if blobs == "" {
			return last, changed // the last blob is the subject
		}
		return blobs, changed
	}
}

// cutBlob: "[" *BLOBCHAR "]" *WSP
func cutBlob(s string) (rest string, ok bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	i := 1 + strings.IndexAny(s[1:], "[]")
	if i == 0 || s[i] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[i+1:], " "), true
}

// cutReply: ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
func cutReply(s string) (rest string, ok bool) {
	switch {
	case len(s) >= 3 && strings.EqualFold(s[:3], "fwd"):
		rest = s[3:]
	case len(s) >= 2 && (strings.EqualFold(s[:2], "re") || strings.EqualFold(s[:2], "fw")):
		rest = s[2:]
	default:
		return s, false
	}
	rest, _ = cutBlob(strings.TrimLeft(rest, " "))
	return strings.CutPrefix(rest, ":")
}

// MessageIDs are the message ids of a References, In-Reply-To or Message-ID value, without their angle brackets, white space,
// comments and quotes: what RFC 5256 section 3 compares. What is in no angle brackets, or has no at sign, is none.
func MessageIDs(value string) (ids []string) {
	for {
		value = skipSpace(value)
		switch {
		case value == "":
			return ids
		case value[0] == '"':
			_, n := unquote(value)
			value = value[n:]
		case value[0] == '<':
			id, rest, ok := messageID(value[1:])
			if ok {
				ids = append(ids, id)
			}
			value = rest
		default:
			i := strings.IndexAny(value, " \t\r\n(\"<")
			value = value[max(i, 0):]
			if i < 0 {
				return ids
			}
		}
	}
}

// messageID reads up to ">", or to a "<" that comes before it.
func messageID(v string) (id, rest string, ok bool) {
	if i := strings.IndexAny(v, "<>\"( \t\r\n\\"); i > 0 && v[i] == '>' { // nearly all
		return v[:i], v[i+1:], strings.IndexByte(v[:i], '@') >= 0
	}
	var b strings.Builder
	at := false
	for v != "" {
		switch v[0] {
		case '>', '<':
			return b.String(), strings.TrimPrefix(v, ">"), at && v[0] == '>'
		case '"':
			content, n := unquote(v)
			b.WriteString(content)
			v = v[n:]
			continue
		case ' ', '\t', '\r', '\n', '(':
			v = skipSpace(v)
			continue
		case '@':
			at = true
		}
		b.WriteByte(v[0])
		v = v[1:]
	}
	return "", "", false
}
