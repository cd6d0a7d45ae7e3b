package transcript

import "strings"

// Names are what the $names of a script stand for.
type Names map[string]string

// Match reports whether text is what pattern says. New names are bound when it is.
func (n Names) Match(pattern, text string) bool {
	bound := make(Names)
	if !n.match(pattern, text, bound) {
		return false
	}
	for k, v := range bound {
		n[k] = v
	}
	return true
}

func (n Names) match(p, t string, bound Names) bool {
	for p != "" {
		switch {
		case p[0] == '*':
			p = strings.TrimLeft(p, "*")
			if p == "" {
				return true
			}
			for i := 0; i <= len(t); i++ {
				if n.match(p, t[i:], bound) {
					return true
				}
			}
			return false
		case p[0] == '$' && nameLen(p[1:]) > 0:
			l := nameLen(p[1:])
			k := p[1 : 1+l]
			p = p[1+l:]
			v, ok := n[k]
			if !ok {
				v, ok = bound[k]
			}
			if ok {
				if !strings.HasPrefix(t, v) {
					return false
				}
				t = t[len(v):]
				continue
			}
			end := strings.IndexByte(t, ' ')
			if end < 0 {
				end = len(t)
			}
			for i := end; i > 0; i-- {
				bound[k] = t[:i]
				if n.match(p, t[i:], bound) {
					return true
				}
			}
			delete(bound, k)
			return false
		case p[0] == '\\' && len(p) > 1:
			p = p[1:]
			fallthrough
		default:
			if t == "" || t[0] != p[0] {
				return false
			}
			p, t = p[1:], t[1:]
		}
	}
	return t == ""
}

// Subst puts bound names into text. What is not bound stays.
func (n Names) Subst(text string) string {
	if len(n) == 0 || !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			break
		}
		l := nameLen(text[i+1:])
		v, ok := n[text[i+1:i+1+l]]
		if !ok {
			v = text[i : i+1+l]
		}
		b.WriteString(text[:i])
		b.WriteString(v)
		text = text[i+1+l:]
	}
	b.WriteString(text)
	return b.String()
}

func nameLen(s string) int {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || i > 0 && s[i] >= '0' && s[i] <= '9') {
		i++
	}
	return i
}

// many says that the pattern stands for any number of lines: "250-*".
func many(p string) bool {
	return len(p) == 5 && p[3:] == "-*" && strings.Trim(p[:3], "0123456789") == ""
}
