package message

import (
	"bytes"
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PreviewLength is the most characters of a preview. RFC 8970 section 3.3: 200.
const PreviewLength = 200

// Preview is how a text begins, in UTF-8, on one line: white space is one space, characters that nobody sees are left out, and of HTML its tags. Lines that quote another message come only
// when there is nothing else: who reads on knows them, and what is new is what they would hide. Whole: there is no more text than this.
func Preview(text []byte, isHTML, whole bool) string {
	var p previewer
	if isHTML {
		p.line([]byte(html.UnescapeString(string(htmlText(text)))))
		return p.b.String()
	}
	for rest := text; len(rest) > 0 && p.n < PreviewLength; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(line) == 0 || line[0] != '>' {
			p.line(line)
		}
	}
	if p.n == 0 && whole {
		p.line(text)
	}
	return p.b.String()
}

// previewer folds text.
type previewer struct {
	b     strings.Builder
	n     int // characters
	space bool
}

func (p *previewer) line(s []byte) {
	for len(s) > 0 && p.n < PreviewLength {
		r, size := utf8.DecodeRune(s)
		s = s[size:]
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			p.space = p.n > 0
		case unicode.Is(unicode.Cf, r) && r != '\u200d' || r == '\u034f': // newsletters fill their first line with these; a joiner makes one emoji of two
		default:
			if p.space {
				if p.n++; p.n == PreviewLength {
					return
				}
				p.b.WriteByte(' ')
			}
			p.space = false
			p.b.WriteRune(r)
			p.n++
		}
	}
	p.space = p.n > 0
}

// htmlTextSize is how much text of HTML is looked at: most of what a newsletter begins with may be characters that nobody sees.
const htmlTextSize = 8 << 10

// htmlText is what is between the tags, with a space for each tag that breaks a line or a cell.
func htmlText(s []byte) []byte {
	var text []byte
	for len(s) > 0 && len(text) < htmlTextSize {
		i := bytes.IndexByte(s, '<')
		if i < 0 {
			return append(text, s...)
		}
		text = append(text, s[:i]...)
		if s = s[i:]; bytes.HasPrefix(s, []byte("<!--")) {
			s = after(s, "-->")
			continue
		}
		name := tagName(s[1:])
		if name == "" && (len(s) < 2 || s[1] != '/' && s[1] != '!' && s[1] != '?') {
			text = append(text, '<') // as in "a < b"
			s = s[1:]
			continue
		}
		s = s[tagEnd(s):]
		switch name {
		case "head", "style", "script", "title":
			s = afterElement(s, name)
		case "a", "b", "i", "u", "em", "strong", "span", "font", "abbr", "small", "sub", "sup", "wbr", "mark", "code":
			continue
		}
		text = append(text, ' ')
	}
	return text
}

// after is what follows an end, or nothing.
func after(s []byte, end string) []byte {
	_, rest, _ := bytes.Cut(s, []byte(end))
	return rest
}

// tagName is the name of the tag, or the end tag, that begins behind "<", in lower case.
func tagName(s []byte) string {
	s = bytes.TrimPrefix(s, []byte("/"))
	n := 0
	for n < len(s) && n < 10 && (s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return strings.ToLower(string(s[:n]))
}

// tagEnd is where the tag at the beginning ends. A ">" in quotes is none, unless the quotes have no end nearby: time is not to be that of all the rest for each tag.
func tagEnd(s []byte) int {
	quote := byte(0)
	for i, c := range s[:min(len(s), 4<<10)] {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i + 1
		}
	}
	if i := bytes.IndexByte(s, '>'); i >= 0 {
		return i + 1
	}
	return len(s)
}

// afterElement is what follows the end tag of an element, or nothing.
func afterElement(s []byte, name string) []byte {
	for {
		i := bytes.Index(s, []byte("</"))
		if i < 0 {
			return nil
		}
		s = s[i:]
		if tagName(s[1:]) == name {
			return s[tagEnd(s):]
		}
		s = s[2:]
	}
}
