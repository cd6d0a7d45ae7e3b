package alias

import (
	"errors"
	"fmt"
	"strings"

	"postamt/internal/addr"
)

// Parse reads the text of an alias file. The problems are everything that is wrong in it, in the order of its lines; the table holds
// the rest. The error is not nil, and the table is, when the file does not parse at all.
func Parse(file, text string) (*Table, []Problem, error) {
	if err := checkText(file, text); err != nil {
		return nil, nil, err
	}
	p := parser{part: &part{file: file, text: text}, problems: problems{file: file}}
	p.part.start(strings.Count(text, "\n") + 1)
	p.file()
	if len(p.part.entries) == 0 && p.errors > 0 {
		first := p.list[0]
		for _, x := range p.list {
			if !x.Warning {
				first = x
				break
			}
		}
		return nil, p.all(), fmt.Errorf("%w (and there is no good entry)", first)
	}
	p.part.finish()
	return &Table{parts: []*part{p.part}}, p.all(), nil
}

// checkText refuses what cannot be an alias file.
func checkText(file, text string) error {
	if len(text) > MaxFile {
		return fmt.Errorf("%s: larger than %d MiB", file, MaxFile>>20)
	}
	line := 1
	for rest := text; rest != ""; line++ {
		n := strings.IndexByte(rest, '\n') + 1
		if n == 0 {
			n = len(rest)
		}
		if n > MaxLine {
			return fmt.Errorf("%s:%d: a line longer than %d octets", file, line, MaxLine)
		}
		if strings.IndexByte(rest[:n], 0) >= 0 {
			return fmt.Errorf("%s:%d: NUL: this is not a text file", file, line)
		}
		rest = rest[n:]
	}
	return nil
}

type parser struct {
	problems
	part *part
	i    int
	line int
}

// file reads line by line; an entry takes all of its lines at once.
func (p *parser) file() {
	text := p.part.text
	p.line = 1
	for p.i < len(text) {
		switch first, next := lineAt(text, p.i); {
		case first < 0 || text[first] == '#':
			p.i = next
			p.line++
		case first > p.i:
			p.add(p.line, first-p.i+1, "an indented line continues the entry above it, but there is none")
			p.i = next
			p.line++
		default:
			end := extent(text, p.i)
			p.entry(end)
			p.line += strings.Count(text[p.i:end], "\n")
			p.i = end
		}
	}
}

// lineAt looks at the line that begins at i: where its first character that is not white space stands, -1 if there is none, and
// where the next line begins.
func lineAt(text string, i int) (first, next int) {
	next = len(text)
	if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
		next = i + n + 1
	}
	for j := i; j < next; j++ {
		if c := text[j]; !isBlank(c) && c != '\n' {
			return j, next
		}
	}
	return -1, next
}

// extent is where the entry that begins at i ends: behind its last line, and before the comments and blank lines that only follow.
func extent(text string, i int) int {
	_, end := lineAt(text, i)
	joined := endsInBackslash(text[i:end])
	for i = end; i < len(text); {
		first, next := lineAt(text, i)
		switch {
		case joined:
		case first < 0 || text[first] == '#':
			i = next
			continue
		case first == i:
			return end
		}
		joined = endsInBackslash(text[i:next])
		end, i = next, next
	}
	return end
}

func endsInBackslash(line string) bool {
	return strings.HasSuffix(strings.TrimRight(line, "\r\n"), `\`)
}

// entry reads the entry at p.i.
func (p *parser) entry(end int) {
	text := p.part.text
	key, value, err := p.key(end)
	if err != nil {
		p.add(p.line, 1, err.Error())
		return
	}
	if i := p.part.find(key); i >= 0 {
		p.add(p.line, 1, fmt.Sprintf("%s is a key in line %d already; the first one holds", show(key), p.part.entries[i].line))
		return
	}
	n := 0
	s := scanner{s: text[:end], i: value, line: p.line, bol: p.i, file: p.part.file, warn: p.warn}
	s.emit = func(t Target) {
		n++
		if t.Kind == Bad {
			p.add(int(t.Pos.Line), int(t.Pos.Col), t.Text)
		}
	}
	s.run()
	if n == 0 {
		p.add(p.line, value-p.i+1, show(key)+" stands for nothing")
	}
	p.part.add(key, p.i, value, end, p.line)
}

// key reads the left-hand side and returns its canonical form, and where the right-hand side begins.
func (p *parser) key(end int) (key string, value int, err error) {
	text, i := p.part.text[:end], p.i
	var local string
	quoted := text[i] == '"'
	if quoted {
		j := i + 1
		for j < end && text[j] != '"' && text[j] != '\n' {
			if text[j] == '\\' {
				j++
			}
			j++
		}
		if j >= end || text[j] != '"' {
			return "", 0, errors.New("a quote (\") without its end")
		}
		local = unquote(text[i+1 : j])
		i = j + 1
	}
	from, literal := i, false
	for ; i < end && !isBlank(text[i]) && text[i] != '\n' && (text[i] != ':' || literal); i++ {
		switch text[i] {
		case '[':
			literal = true
		case ']':
			literal = false
		}
	}
	raw := text[from:i]
	blanks := i
	for i < end && isBlank(text[i]) {
		i++
	}
	colon := i < end && text[i] == ':'
	if colon && i > blanks && isSpecial(text[i:]) {
		p.warn(p.line, i-p.i+1, "no colon before "+show(firstWord(text[i:])))
		colon = false
	} else if colon {
		i++
	}
	if key, err = canonical(local, raw, quoted); err != nil {
		return "", 0, err
	}
	if !colon && strings.IndexByte(key, '@') < 0 && i > blanks {
		p.warn(p.line, blanks-p.i+1, "no colon after "+show(key))
	}
	return key, i, nil
}

// isSpecial: s begins with a target of the form ":word:", which the colon after a key must not be taken from.
func isSpecial(s string) bool {
	for _, w := range [...]string{":include:", ":fail:", ":defer:", ":blackhole:"} {
		if hasFold(s, w) {
			return true
		}
	}
	return false
}

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t\r\n"); i >= 0 {
		return s[:i]
	}
	return s
}

// canonical is the form in which a key is looked up: lower case, domain as A-labels. local is what stood in quotes before raw.
func canonical(local, raw string, quoted bool) (string, error) {
	if raw == "" && !quoted {
		return "", errors.New("an entry without a name")
	}
	shown := raw
	at := strings.LastIndexByte(raw, '@')
	domain := ""
	if at >= 0 {
		d, err := parseDomain(raw[at+1:])
		if err == nil {
			d, err = addr.ASCIIDomain(d)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, show(raw))
		}
		domain = d
	}
	switch {
	case quoted && (raw == "" || at == 0):
		shown = local
		if local == "" || len(local) > addr.MaxLocal || badByte(local) != "" {
			return "", errors.New("not a name: " + show(local))
		}
		if strings.IndexByte(local, '@') >= 0 && at < 0 {
			// "a@b" in quotes would be the same key as a@b.
			return "", errors.New("a local name with @ in it cannot be a key: " + show(local))
		}
	case quoted:
		return "", errors.New("something after the quoted name: " + show(raw))
	case at == 0:
		return lowered(raw, "", domain), nil
	case at > 0:
		local = raw[:at]
	default:
		local = raw
	}
	if !quoted && !isName(local) {
		if local == "*" {
			return "", errors.New("a key of * has no meaning: write @domain for every other address of a domain")
		}
		if _, err := addr.Parse(local+"@x", true); err != nil || local[0] == '"' {
			return "", fmt.Errorf("not a name: %s", show(shown))
		}
	}
	return lowered(raw, local, domain), nil
}

// lowered joins the parts of a key; it is raw itself, not a copy, when nothing had to be changed.
func lowered(raw, local, domain string) string {
	local = strings.ToLower(local)
	if domain == "" {
		if local == raw {
			return raw
		}
		return local
	}
	if n := len(local); len(raw) == n+1+len(domain) && raw[:n] == local && raw[n+1:] == domain {
		return raw
	}
	return local + "@" + domain
}
