package message

import "strings"

// Mailboxes returns the addr-specs of an address list (RFC 5322 section 3.4: the value of From, To ...), without names,
// comments, group names and white space, at most max of them. False: there is something in it of which it cannot be told whether it
// is an address, or there are more. Then nobody should decide anything on the list.
//
// It is for decisions, not for display: what two readers could read differently is false (Composition Kills, X01). The
// local part of a quoted string keeps its quotes. Time is linear.
func Mailboxes(value string, max int) ([]string, bool) {
	p := list{s: value}
	var found []string
	for {
		m, ok := p.address()
		if !ok {
			return nil, false
		}
		if m != "" {
			if len(found) == max {
				return nil, false
			}
			found = append(found, m)
		}
		if p.s == "" {
			return found, len(found) > 0 && !p.group
		}
	}
}

// list is what is left of an address list.
type list struct {
	s     string
	group bool // within one
}

// address takes one address with the separator behind it. "" is an empty place between two commas, which old mail has.
func (p *list) address() (string, bool) {
	var words []string // what stands there, as written; an angle address ends it
	spec, angle := "", false
	for {
		word, sep, ok := p.word()
		if !ok {
			return "", false
		}
		if word != "" {
			if angle {
				return "", false // <a@b> c
			}
			words = append(words, word)
		}
		switch sep {
		case 0, ',':
			if !angle {
				spec = strings.Join(words, "")
				// "Jane Doe", or an address with a space in it: no mail program sends either as an address.
				if len(words) > 1 && !joined(words) || spec != "" && !hasAt(spec) {
					return "", false
				}
			}
			return spec, true
		case ':':
			if p.group || angle || len(words) == 0 {
				return "", false
			}
			p.group, words = true, nil
		case ';':
			if !p.group || len(words) > 0 && !angle && !joined(words) {
				return "", false
			}
			p.group = false
			if !angle {
				spec = strings.Join(words, "")
			}
			p.s = strings.TrimLeft(p.s, " \t\r\n")
			p.s = strings.TrimPrefix(p.s, ",")
			return spec, spec == "" || hasAt(spec)
		case '<':
			end := angleEnd(p.s)
			if angle || end < 0 {
				return "", false
			}
			inner := list{s: p.s[:end]}
			w, sep, ok := inner.word()
			if !ok || sep != 0 || inner.s != "" || !hasAt(w) {
				return "", false
			}
			spec, angle, words = w, true, nil
			p.s = p.s[end+1:]
		}
	}
}

// joined: the words are one address that has white space or comments around its dots and at sign (RFC 5322 section 4.4).
func joined(words []string) bool {
	for i := 1; i < len(words); i++ {
		a, b := words[i-1], words[i]
		if !strings.HasSuffix(a, ".") && !strings.HasSuffix(a, "@") && !strings.HasPrefix(b, ".") && !strings.HasPrefix(b, "@") {
			return false
		}
	}
	return true
}

// hasAt: there is an at sign outside of quoted strings and domain literals, and no quoted string behind it.
func hasAt(spec string) bool {
	at := false
	for i := 0; i < len(spec); i++ {
		switch c := spec[i]; {
		case c == '@':
			at = true
		case c == '"' && at:
			return false
		case c == '"' || c == '[':
			i += max(quoted(spec[i:], c), 1) - 1
		}
	}
	return at
}

// angleEnd is where the ">" is that ends an angle address, -1 when there is none: not in quotes, a domain literal or a comment.
func angleEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '>':
			return i
		case '(':
			i += commentEnd(s[i:]) - 1
		case '"', '[':
			n := quoted(s[i:], c)
			if n < 0 {
				return -1
			}
			i += n - 1
		}
	}
	return -1
}

// word takes a run of atoms, dots, at signs, quoted strings and domain literals without white space, and what follows it:
// one of , : ; < or, at the end or between two words, 0 or a space.
func (p *list) word() (word string, sep byte, ok bool) {
	if !p.space() {
		return "", 0, false
	}
	i := 0
	for i < len(p.s) {
		switch c := p.s[i]; {
		case c == '"' || c == '[':
			n := quoted(p.s[i:], c)
			if n < 0 {
				return "", 0, false
			}
			i += n
		case c == ',' || c == ':' || c == ';' || c == '<':
			word, p.s = p.s[:i], p.s[i+1:]
			return word, c, true
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '(':
			word, p.s = p.s[:i], p.s[i:]
			if !p.space() {
				return "", 0, false
			}
			if p.s == "" {
				return word, 0, true
			}
			if strings.IndexByte(",:;<", p.s[0]) >= 0 {
				sep, p.s = p.s[0], p.s[1:]
				return word, sep, true
			}
			return word, ' ', true
		case c < ' ' || c == 0x7f || c == '>' || c == ')' || c == ']' || c == '\\':
			return "", 0, false
		default:
			i++
		}
	}
	word, p.s = p.s, ""
	return word, 0, true
}

// space takes white space and comments.
func (p *list) space() bool {
	for {
		p.s = strings.TrimLeft(p.s, " \t\r\n")
		if p.s == "" || p.s[0] != '(' {
			return true
		}
		depth, i := 0, 0
		for ; ; i++ {
			if i == len(p.s) {
				return false
			}
			switch p.s[i] {
			case '\\':
				i++
				if i == len(p.s) {
					return false
				}
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 {
				break
			}
		}
		p.s = p.s[i+1:]
	}
}

// quoted is the length of a quoted string or domain literal at the start of s, or -1.
func quoted(s string, open byte) int {
	end := byte('"')
	if open == '[' {
		end = ']'
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case end:
			return i + 1
		case '\r', '\n', 0:
			return -1
		}
	}
	return -1
}
