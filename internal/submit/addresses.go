package submit

import (
	"fmt"
	"slices"
	"strings"
)

// Address is one mailbox of a list, as it is written there.
type Address struct {
	Local  string // with its quotes, if it has them; without comments and white space
	Domain string // "" there is none
	End    int    // where the local part ends in the list: "@domain" belongs there
}

// Addresses reads an address list (RFC 5322 section 3.4: the value of To, Cc ...), with names, comments, groups, source routes and folding. Empty places and "<>" are no mailboxes.
// What is between two commas and is none is an error, for a recipient would be lost; a ";" outside of a group is a comma. Time is linear.
func Addresses(value string) ([]Address, error) {
	p := list{s: value}
	var found []Address
	for {
		a, more, err := p.next()
		if err != nil {
			return nil, err
		}
		if a.Local != "" {
			found = append(found, a)
		}
		if !more {
			return found, nil
		}
	}
}

// list is an address list that is read.
type list struct {
	s string
	i int
}

// token is an atom, a quoted string, a domain literal, or one of the specials.
type token struct{ from, to int }

func (p *list) text(t token) string { return p.s[t.from:t.to] }

// next takes what stands before the next comma; more says that there was one.
func (p *list) next() (a Address, more bool, err error) {
	start := p.i
	var words []token
	angle := false
	for {
		t, ok, err := p.token()
		if err != nil {
			return a, false, err
		}
		special := byte(0)
		if ok && t.to == t.from+1 && strings.IndexByte(",;:<>", p.s[t.from]) >= 0 {
			special = p.s[t.from]
		}
		switch {
		case !ok || special == ',' || special == ';':
			if !angle {
				a, err = p.address(words)
			}
			return a, ok, err
		case special == ':' && !angle && !p.hasAt(words): // what was before is the name of a group
			words = nil
		case special == '<' && !angle:
			angle = true
			if a, err = p.angle(); err != nil {
				return a, false, err
			}
		case special != 0 || angle:
			return a, false, p.wrong(start)
		default:
			words = append(words, t)
		}
	}
}

// angle takes what follows "<", with the ">". RFC 5322 section 4.4: a route before it counts for nothing.
func (p *list) angle() (Address, error) {
	start := p.i
	var words []token
	for {
		t, ok, err := p.token()
		switch {
		case err != nil:
			return Address{}, err
		case !ok:
			return Address{}, p.wrong(start)
		}
		switch w := p.text(t); {
		case w == ">":
			return p.address(words)
		case w == ":" && len(words) > 0 && p.text(words[0]) == "@", w == "," && (len(words) == 0 || p.text(words[0]) == "@"):
			words = nil
		case len(w) == 1 && strings.Contains(",;:<", w):
			return Address{}, p.wrong(start)
		default:
			words = append(words, t)
		}
	}
}

// address puts an address together: words with dots between them, and perhaps "@" and a domain.
func (p *list) address(words []token) (Address, error) {
	var a Address
	var b strings.Builder
	at, apart := false, true // apart: a word may follow
	for i, t := range words {
		w := p.text(t)
		switch {
		case w == "@":
			if at || i == 0 {
				return a, p.notAddress(words)
			}
			a.Local, a.End, at, apart = b.String(), words[i-1].to, true, true
			b.Reset()
			continue
		case w == ".":
			apart = true
		case !apart: // "Jane Doe"
			return a, p.notAddress(words)
		default:
			apart = false
		}
		b.WriteString(w)
	}
	switch {
	case len(words) == 0:
	case !at:
		a.Local, a.End = b.String(), words[len(words)-1].to
	case b.Len() == 0:
		return a, p.notAddress(words)
	default:
		a.Domain = b.String()
	}
	return a, nil
}

// token takes the next token, behind white space and comments; false at the end.
func (p *list) token() (token, bool, error) {
	if err := p.space(); err != nil {
		return token{}, false, err
	}
	from := p.i
	if from == len(p.s) {
		return token{}, false, nil
	}
	switch c := p.s[from]; {
	case c == '"' || c == '[':
		if err := p.quoted(c); err != nil {
			return token{}, false, err
		}
	case isSpecial(c):
		if strings.IndexByte(",;:<>@.", c) < 0 {
			return token{}, false, p.wrong(from)
		}
		p.i++
	default:
		for p.i < len(p.s) && !isSpecial(p.s[p.i]) && p.s[p.i] != ' ' && p.s[p.i] != '\t' {
			p.i++
		}
	}
	return token{from, p.i}, true, nil
}

// isSpecial: RFC 5322 section 3.2.3, and control characters, which end an atom, and are nothing themselves.
func isSpecial(c byte) bool {
	return c < ' ' && c != '\t' || c == 0x7f || strings.IndexByte("()<>[]:;@\\,.\"", c) >= 0
}

// quoted takes a quoted string or a domain literal.
func (p *list) quoted(open byte) error {
	end := byte('"')
	if open == '[' {
		end = ']'
	}
	from := p.i
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == end:
			p.i++
			return nil
		case c == '\\':
			p.i++
		case c == '\r' || c == '\n': // folded; it matters only if it is in an address, and is refused there
		case c < ' ' && c != '\t' || c == 0x7f:
			return p.wrong(from)
		}
	}
	return fmt.Errorf("%q has no end", shortened(p.s[from:]))
}

// space takes white space, line ends and comments.
func (p *list) space() error {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\r', '\n':
			p.i++
		case '(':
			from, depth := p.i, 0
			for ; p.i < len(p.s); p.i++ {
				switch p.s[p.i] {
				case '\\':
					p.i++
				case '(':
					depth++
				case ')':
					depth--
				}
				if depth == 0 {
					break
				}
			}
			if depth > 0 || p.i >= len(p.s) {
				return fmt.Errorf("comment %q has no end", shortened(p.s[from:]))
			}
			p.i++
		default:
			return nil
		}
	}
	return nil
}

func (p *list) hasAt(words []token) bool {
	return slices.ContainsFunc(words, func(t token) bool { return p.text(t) == "@" })
}

func (p *list) wrong(from int) error {
	return fmt.Errorf("%q is not an address", shortened(strings.TrimSpace(p.s[from:])))
}

func (p *list) notAddress(words []token) error {
	return fmt.Errorf("%q is not an address", shortened(p.s[words[0].from:words[len(words)-1].to]))
}

// shortened is enough of s to find it.
func shortened(s string) string {
	const some = 60
	if len(s) > some {
		return s[:some] + "..."
	}
	return s
}
