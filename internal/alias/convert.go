package alias

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownFormat is Convert's of a format that it does not know.
var ErrUnknownFormat = errors.New("unknown format")

// Formats are the names of what Convert reads.
func Formats() []string {
	return []string{"courier", "exim", "opensmtpd", "postfix-aliases", "postfix-virtual", "sendmail-aliases", "sendmail-virtusertable"}
}

// Convert writes a table of another program as an alias file. Comments, blank lines and the order stay, and so does an entry that means the
// same there and here, as it is laid out. What has no equivalent is left as a comment and is an error among the problems; what has one that is
// not quite the same, or elsewhere, is a warning. The result parses without errors.
func Convert(format, file, text string) (out string, found []Problem, err error) {
	if !slices.Contains(Formats(), format) {
		return "", nil, ErrUnknownFormat
	}
	if err := checkText(file, text); err != nil {
		return "", nil, err
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	c := conversion{file: file, format: format, seen: make(map[string]held)}
	c.lines(text)
	return c.out.String(), c.found, nil
}

// conversion is one call of Convert.
type conversion struct {
	file, format string

	out     strings.Builder
	found   []Problem
	seen    map[string]held // by canonical keys
	domains map[string]bool // of keys with "@"; for postfix-virtual
}

// held is an entry that holds for its key.
type held struct {
	line    int
	targets []Target
}

// foreign is an entry as another program has it.
type foreign struct {
	line  int
	text  string // the lines that it has
	key   string // as it is spelled
	gap   string // between key and value: white space, or a colon
	value string
}

func (c *conversion) lines(text string) {
	continues := c.format != "opensmtpd" && c.format != "sendmail-virtusertable"
	if c.format == "postfix-virtual" {
		c.domains = make(map[string]bool)
	}
	line := 1
	var entries []foreign
	for i := 0; i < len(text); {
		first, next := lineAt(text, i)
		switch {
		case first < 0 || text[first] == '#':
			entries = append(entries, foreign{line: line, text: text[i:next]})
		case continues && first == i:
			next = extent(text, i)
			fallthrough
		default:
			entries = append(entries, split(line, text[i:next]))
		}
		line += strings.Count(text[i:next], "\n")
		i = next
	}
	for _, e := range entries {
		if at := strings.LastIndexByte(e.key, '@'); at >= 0 && c.domains != nil {
			c.domains[strings.ToLower(e.key[at+1:])] = true
		}
	}
	for i := range entries {
		switch e := &entries[i]; {
		case e.key == "" && e.gap == "":
			c.write(e.text)
		case isBlank(e.text[0]) && c.format != "opensmtpd":
			c.leave(e, "an indented line, and no entry above it")
		default:
			c.entry(e)
		}
	}
}

// split cuts an entry at its key.
func split(line int, text string) foreign {
	e := foreign{line: line, text: text}
	body := strings.TrimLeft(text, " \t")
	end := 0
	if strings.HasPrefix(body, `"`) {
		for end = 1; end < len(body) && body[end] != '"'; end++ {
			if body[end] == '\\' {
				end++
			}
		}
		end = min(end+1, len(body))
	}
	for end < len(body) && !isBlank(body[end]) && body[end] != '\n' && body[end] != ':' {
		end++
	}
	value := strings.TrimLeft(body[end:], " \t")
	if strings.HasPrefix(value, ":") && !isSpecial(value) {
		value = value[1:]
	}
	e.key, e.gap, e.value = body[:end], body[end:len(body)-len(value)], strings.TrimSpace(value)
	if e.gap == "" {
		e.gap = " "
	}
	return e
}

func (c *conversion) write(text string) {
	c.out.WriteString(text)
	if !strings.HasSuffix(text, "\n") {
		c.out.WriteByte('\n')
	}
}

// leave makes a comment of an entry that has no equivalent.
func (c *conversion) leave(e *foreign, why string) {
	c.comment(e)
	c.tell(e.line, 0, why, false)
}

func (c *conversion) tell(line, col int, text string, warning bool) {
	c.found = append(c.found, Problem{Pos{c.file, int32(line), int32(col)}, text, warning})
}

func (c *conversion) warn(e *foreign, text string) { c.tell(e.line, 0, text, true) }

func (c *conversion) comment(e *foreign) {
	for line := range strings.Lines(e.text) {
		c.write("# " + line)
	}
}

func (c *conversion) entry(e *foreign) {
	if e.value == "" {
		c.leave(e, show(e.key)+" stands for nothing")
		return
	}
	if c.format != "sendmail-aliases" && c.format != "courier" {
		for line := range strings.Lines(e.text) {
			if endsInBackslash(line) {
				c.leave(e, "a backslash at the end of a line, which here continues it")
				return
			}
		}
	}
	switch c.format {
	case "postfix-virtual":
		c.postfixVirtual(e)
	case "sendmail-virtusertable":
		c.virtuser(e)
	case "exim":
		c.exim(e)
	case "opensmtpd":
		if e.key == "@" {
			c.leave(e, "a catch-all of all domains: write @domain for each")
			return
		}
		c.alias(e, strings.TrimLeft(e.text, " \t"))
	case "courier":
		switch {
		case strings.HasPrefix(e.key, "@"):
			c.leave(e, "a virtual domain of Courier, where the local part becomes part of a name: "+e.value+"-...")
			return
		case hasFold(e.key, "owner-"):
			c.warn(e, show(e.key)+" is told of errors with the mail of "+show(e.key[len("owner-"):])+" here")
		}
		c.alias(e, e.text)
	default:
		c.alias(e, e.text)
	}
}

// alias writes an entry whose text is one of ours, or nearly, and returns its targets.
func (c *conversion) alias(e *foreign, text string) []Target {
	entry, found, err := c.parse(text)
	if err != "" && strings.IndexByte(e.value, '(') >= 0 {
		// RFC 5322 section 3.2.2: a comment.
		if plain, ok := uncommented(text[len(text)-len(strings.TrimLeft(text, " \t")):]); ok {
			if other, more, err2 := c.parse(plain); err2 == "" {
				entry, found, err, text = other, more, "", plain
				c.warn(e, "a comment in parentheses is left out")
			}
		}
	}
	if err != "" {
		c.leave(e, err)
		return nil
	}
	targets := entry.Targets()
	if first, ok := c.seen[entry.Key()]; ok {
		c.comment(e)
		c.tell(e.line, 0, show(entry.Key())+" is a key in line "+strconv.Itoa(first.line)+" already; the first one holds", alike(first.targets, targets))
		return nil
	}
	c.seen[entry.Key()] = held{e.line, targets}
	if len(found) > 0 {
		if better, ok := c.rebuilt(e.key, targets); ok && !slices.ContainsFunc(found, func(p Problem) bool { return strings.HasPrefix(p.Text, afterItem) }) {
			for line := range strings.Lines(text) { // the comments between its lines
				if strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
					c.write(line)
				}
			}
			text, found = better, nil
		}
	}
	for _, p := range found {
		c.tell(e.line+int(p.Pos.Line)-1, int(p.Pos.Col), p.Text, true)
	}
	c.write(text)
	return targets
}

// parse is the one entry of a text, what is worth a warning in it, or why it is none.
func (c *conversion) parse(text string) (Entry, []Problem, string) {
	t, found, err := Parse(c.file, text)
	for _, p := range found {
		if !p.Warning {
			return Entry{}, nil, p.Text
		}
	}
	if err != nil {
		return Entry{}, nil, err.Error()
	}
	for e := range t.Entries() {
		if t.Len() == 1 {
			return e, found, ""
		}
	}
	return Entry{}, nil, "not one entry"
}

// rebuilt is an entry in one line, as it would be written here.
func (c *conversion) rebuilt(key string, targets []Target) (string, bool) {
	var l []string
	for _, t := range targets {
		_, written := target(t.String())
		l = append(l, written)
	}
	text := key + ": " + strings.Join(l, ", ") + "\n"
	e, found, err := c.parse(text)
	return text, err == "" && len(found) == 0 && alike(e.Targets(), targets)
}

// uncommented is an entry without what stands in parentheses outside of quotes.
func uncommented(text string) (string, bool) {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			if depth == 0 {
				b.WriteString(text[i : i+2])
			}
			i++
			continue
		case depth == 0 && c == '"':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(text[i])
		}
	}
	return strings.TrimRight(b.String(), " \t\n") + "\n", depth == 0 && !quoted
}

// postfixVirtual is an entry of virtual(5).
func (c *conversion) postfixVirtual(e *foreign) {
	switch {
	case e.key[:min(1, len(e.key))] == "/" || e.key == "if" || e.key == "endif":
		c.leave(e, "a regular expression")
		return
	case strings.HasPrefix(e.gap, ":"):
		c.leave(e, "the colon is part of the key for Postfix, so this never held")
		return
	case strings.IndexByte(e.key, '@') < 0 && c.domains[strings.ToLower(e.key)]:
		c.comment(e)
		c.warn(e, "a domain: name it in virtual_domains of postamt.conf")
		return
	}
	entry, _, err := c.parse(e.text)
	if err == "" {
		for i, t := range entry.Targets() {
			switch {
			case t.Kind == Domain && i > 0:
				c.warn(e, t.String()+": Postfix keeps the local part in the first address only")
			case t.Kind != Address && t.Kind != Local && t.Kind != Domain:
				c.leave(e, show(t.String())+" is an address for Postfix, and here it would be none")
				return
			}
		}
	}
	c.alias(e, e.text)
}

// exim is an entry of a file for lsearch and its kin, with what the redirect router makes of it.
func (c *conversion) exim(e *foreign) {
	text := e.text
	switch domain, all := strings.CutPrefix(e.key, "*@"); {
	case strings.HasPrefix(e.key, "^"):
		c.leave(e, "a regular expression")
		return
	case all && !strings.HasPrefix(domain, "*"):
		text = strings.Replace(text, e.key, "@"+domain, 1)
		e.key = "@" + domain
	case strings.HasPrefix(e.key, "*"):
		c.leave(e, "a key for whatever else is asked: write @domain for each")
		return
	}
	if strings.HasPrefix(strings.ToLower(e.value), ":unknown:") {
		c.leave(e, ":unknown: leaves the address to what comes next, and nothing here does")
		return
	}
	for _, t := range c.alias(e, text) {
		if t.Kind == Pipe && strings.IndexByte(t.Text, '$') >= 0 {
			c.warn(e, "the variables of a command are not those of Exim: "+show(t.Text))
		}
	}
}

// virtuser is an entry of sendmail's virtusertable: one address, or an error.
func (c *conversion) virtuser(e *foreign) {
	key, value := e.key, e.value
	if strings.HasPrefix(e.gap, ":") {
		c.leave(e, "the colon is part of the key for sendmail, so this never held")
		return
	}
	user, domain, tags := strings.Cut(key, "+*@")
	if tags = tags && user != ""; tags {
		key = user + "@" + domain
	}
	switch code, text, isError := cutError(value); {
	case strings.Contains(key, "+*") || strings.Contains(key, "++"):
		c.leave(e, "a key for tags of a kind")
		return
	case strings.IndexByte(key, '@') < 0:
		c.leave(e, "a key without @: list its addresses, or write @domain")
		return
	case isError:
		value = strings.TrimSpace(code + text)
	case strings.HasPrefix(key, "@") && strings.HasPrefix(value, "%1%3@"):
		value = value[len("%1%3"):]
	case strings.HasPrefix(key, "@") && strings.HasPrefix(value, "%1@"):
		value = value[len("%1"):]
		c.warn(e, "a tag stays with the local part here: %1%3")
	case strings.IndexByte(value, '%') >= 0:
		c.leave(e, "parts of the address in another: "+show(value))
		return
	}
	if tags {
		c.warn(e, "the tag is left out of the key: one without a tag is for all of them")
	}
	if key == e.key && value == e.value {
		c.alias(e, e.text)
		return
	}
	e.key = key
	c.alias(e, key+": "+value+"\n")
}

// cutError reads "error:CODE TEXT" of sendmail, where CODE is a word or "D.S.N:REPLY", as a target of ours and its text.
func cutError(value string) (target, text string, ok bool) {
	const word = "error:"
	if !hasFold(value, word) {
		return "", "", false
	}
	code, text, _ := strings.Cut(value[len(word):], " ")
	text = strings.TrimSpace(text)
	reply := ""
	if len(text) >= 3 && (text[0] == '4' || text[0] == '5') && isDigit(text[1]) && isDigit(text[2]) && (len(text) == 3 || text[3] == ' ') {
		reply, text = text[:3]+" ", strings.TrimSpace(text[3:])
	}
	enhanced, number, _ := strings.Cut(code, ":")
	switch strings.ToLower(enhanced) {
	case "nouser":
		enhanced = "5.1.1"
	case "nohost":
		enhanced = "5.1.2"
	case "tempfail":
		enhanced = "4.3.0"
	default:
		if enhanced == "" || !isDigit(enhanced[0]) { // "unavailable", "protocol" and others
			enhanced = "5.0.0"
		}
	}
	if len(number) == 3 && reply == "" {
		reply = number + " "
	}
	if reply == "" {
		reply = enhanced[:1] + "50 "
	}
	return "error:" + reply + enhanced + " ", text, true
}
