package userdb

import (
	"fmt"
	"strings"
)

// Passwords are the hashes of a file of their own, as shadow(5) is to passwd(5): lines "user:password", of which what
// follows another colon is not read, so that a passwd-file of Dovecot will do. nil has none.
type Passwords struct{ of map[string]hashed }

type hashed struct {
	text string
	line int
}

// ParsePasswords reads the text of such a file. Problems and error are as those of Parse.
func ParsePasswords(file, text string) (*Passwords, []Problem, error) {
	if err := readable(file, text); err != nil {
		return nil, nil, err
	}
	t := &Passwords{make(map[string]hashed)}
	p := parser{file: file}
	for n, line := range textLines(text) {
		if len(line) > MaxLine {
			p.add(n, fmt.Sprintf("a line longer than %d octets", MaxLine))
			continue
		}
		name, rest, _ := strings.Cut(line, ":")
		name, err := Canonical(name)
		if err != nil {
			p.add(n, err.Error())
			continue
		}
		if first, ok := t.of[name]; ok {
			p.add(n, fmt.Sprintf("%s is in line %d already; the first one holds", name, first.line))
			continue
		}
		secret, _, _ := strings.Cut(rest, ":")
		t.of[name] = hashed{strings.Clone(secret), n}
	}
	if len(t.of) == 0 && p.count > 0 {
		return nil, p.all(), fmt.Errorf("%w (and there is no good line)", p.list[0])
	}
	return t, p.all(), nil
}

// Of is what a user has, by canonical name, and in which line: "" and 0 for users without a line.
func (p *Passwords) Of(name string) (stored string, line int) {
	if p == nil {
		return "", 0
	}
	h := p.of[name]
	return h.text, h.line
}

// noHash says that a users file whose passwords are elsewhere has nothing there, or one of the marks of passwd(5).
func noHash(field string) bool {
	return field == "" || field == "x" || field == "*" || field == "!"
}
