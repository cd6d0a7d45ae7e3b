package alias

import (
	"errors"
	"strings"
	"unicode/utf8"

	"postamt/internal/addr"
)

// ParseTarget reads one target as it would stand in a file by itself, in quotes or not.
func ParseTarget(text string) (Target, error) {
	quoted := len(text) > 1 && text[0] == '"' && closes(text)
	if quoted {
		text = unquote(text[1 : len(text)-1])
	}
	t := item(strings.TrimSpace(text), quoted)
	if t.Kind == Bad {
		return t, errors.New(t.Text)
	}
	return t, nil
}

// String is the target as it could stand in a file, but for quotes around it; of a Bad one, what is wrong.
func (t Target) String() string {
	s := t.Text
	switch t.Kind {
	case Address, Local:
		s = t.Addr.String()
	case Domain:
		s = "@" + t.Addr.Domain
	case Pipe:
		s = "|" + s
	case Include:
		s = ":include:" + s
	case Fail:
		s = ":fail: " + s
	case Defer:
		s = ":defer: " + s
	case Blackhole:
		s = ":blackhole:"
	}
	if t.Final {
		return `\` + s
	}
	return s
}

// isReplyText: s begins with what makes the rest of the entry a text for people.
func isReplyText(s string) bool {
	return hasFold(s, ":fail:") || hasFold(s, ":defer:") || hasFold(s, "error:")
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// classify tells what one chunk is, and emits it.
func (s *scanner) classify(chunk, err string) {
	switch {
	case err != "":
		s.emit(Target{Kind: Bad, Text: err, Pos: s.pos(0)})
	case chunk == "":
		// A comment was all.
	case chunk[0] == '"' && closes(chunk):
		t := item(unquote(chunk[1:len(chunk)-1]), true)
		t.Pos = s.pos(0)
		s.emit(t)
	case strings.IndexByte(":|/", chunk[0]) >= 0 || hasFold(chunk, "error:"):
		t := item(chunk, false)
		t.Pos = s.pos(0)
		if s.warn != nil && t.Kind == Pipe && strings.HasPrefix(t.Text, `"`) {
			s.warn(int(t.Pos.Line), int(t.Pos.Col), `|"command": the quotes belong around the whole item, "|command"`)
		}
		s.emit(t)
	case strings.HasSuffix(chunk, ">"):
		// RFC 5322 section 3.4: name-addr. Only the address matters.
		t := Target{Kind: Bad, Text: "not an address: " + show(chunk)}
		if i := strings.LastIndexByte(chunk, '<'); i >= 0 {
			if t = item(strings.TrimSpace(chunk[i+1:len(chunk)-1]), false); t.Kind != Address && t.Kind != Local {
				t = Target{Kind: Bad, Text: "not an address: " + show(chunk)}
			}
		}
		t.Pos = s.pos(0)
		s.emit(t)
	case !strings.ContainsAny(chunk, " \t\"\r"):
		t := item(chunk, false)
		t.Pos = s.pos(0)
		s.emit(t)
	default:
		s.words(chunk)
	}
}

// words emits a chunk of several addresses without commas between them, as the virtual tables of Postfix have them.
func (s *scanner) words(chunk string) {
	if strings.IndexByte(chunk, '"') >= 0 {
		t := item(chunk, false) // "john doe"@example.org; anything else here is bad
		t.Pos = s.pos(0)
		s.emit(t)
		return
	}
	first := true
	for i := 0; i < len(chunk); {
		if isBlank(chunk[i]) {
			i++
			continue
		}
		end := i
		for end < len(chunk) && !isBlank(chunk[end]) {
			end++
		}
		t := item(chunk[i:end], false)
		t.Pos = s.pos(i)
		if !first && s.warn != nil && t.Kind != Bad {
			s.warn(int(t.Pos.Line), int(t.Pos.Col), "no comma before "+show(chunk[i:end]))
		}
		s.emit(t)
		first = false
		i = end
	}
}

// item is the target that s, without quotes around it, stands for.
func item(s string, quoted bool) Target {
	if s == "" {
		return Target{Kind: Bad, Text: "an empty item"}
	}
	if c := badByte(s); c != "" {
		return Target{Kind: Bad, Text: c}
	}
	switch {
	case s[0] == '|':
		command := strings.TrimSpace(s[1:])
		if command == "" {
			return Target{Kind: Bad, Text: "a pipe without a command"}
		}
		return Target{Kind: Pipe, Text: command}
	case s == "/dev/null":
		// Everyone writes this for "nobody", and it is not worth a delivery.
		return Target{Kind: Blackhole}
	case s[0] == '/':
		return Target{Kind: File, Text: s}
	case s[0] == ':':
		return special(s)
	case hasFold(s, "error:"):
		return failure(Fail, s[len("error:"):])
	case s[0] == '@':
		d, err := parseDomain(s[1:])
		if err != nil {
			return Target{Kind: Bad, Text: err.Error() + ": " + show(s)}
		}
		return Target{Kind: Domain, Addr: addr.Mailbox{Domain: d}}
	case s[0] == '\\':
		t := item(s[1:], quoted)
		if t.Kind != Address && t.Kind != Local || t.Final {
			return Target{Kind: Bad, Text: "a backslash, but no name after it: " + show(s)}
		}
		t.Final = true
		return t
	}
	return mailbox(s, quoted)
}

func mailbox(s string, quoted bool) Target {
	if strings.IndexByte(s, '@') >= 0 {
		m, err := addr.Parse(s, true)
		if err != nil {
			return Target{Kind: Bad, Text: err.Error() + ": " + show(s)}
		}
		return Target{Kind: Address, Addr: m}
	}
	if quoted || isName(s) {
		if len(s) > addr.MaxLocal {
			return Target{Kind: Bad, Text: "longer than 64 octets: " + show(s)}
		}
		return Target{Kind: Local, Addr: addr.Mailbox{Local: s}}
	}
	m, err := addr.Parse(s+"@x", true)
	switch {
	case err == nil && m.Local != "":
		return Target{Kind: Local, Addr: addr.Mailbox{Local: m.Local}}
	case strings.IndexByte(s, ':') > 0:
		return Target{Kind: Bad, Text: "not a name: " + show(s) + " (an indented line continues the entry above it)"}
	}
	return Target{Kind: Bad, Text: "not a name: " + show(s)}
}

// isName: s is a local part beyond doubt. The common case, without a copy.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '+', c == '=':
		case c == '.' && i > 0 && i+1 < len(s) && s[i-1] != '.':
		default:
			return false
		}
	}
	return len(s) <= addr.MaxLocal && s != ""
}

// special reads ":word: rest".
func special(s string) Target {
	end := strings.IndexByte(s[1:], ':')
	if end < 0 {
		return Target{Kind: Bad, Text: "not a target: " + show(s)}
	}
	word, rest := s[1:end+1], strings.TrimSpace(s[end+2:])
	switch {
	case strings.EqualFold(word, "include"):
		if rest = strings.TrimSpace(strings.Trim(rest, `"`)); !strings.HasPrefix(rest, "/") {
			return Target{Kind: Bad, Text: ":include: needs an absolute path"}
		}
		return Target{Kind: Include, Text: rest}
	case strings.EqualFold(word, "fail"):
		return Target{Kind: Fail, Text: rest}
	case strings.EqualFold(word, "defer"):
		return Target{Kind: Defer, Text: rest}
	case strings.EqualFold(word, "blackhole"):
		return Target{Kind: Blackhole}
	}
	return Target{Kind: Bad, Text: "not a target: " + show(s)}
}

// failure is Fail, or Defer when the text begins with a temporary code ("450", "4.2.0").
func failure(k Kind, text string) Target {
	text = strings.TrimSpace(text)
	if len(text) >= 3 && text[0] == '4' && (text[1] == '.' || isDigit(text[1]) && isDigit(text[2])) {
		k = Defer
	}
	return Target{Kind: k, Text: text}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// parseDomain reads a domain or an address literal.
func parseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return addr.ParseLiteral(s)
	}
	return addr.ParseDomain(s, true)
}

// closes: the quote that chunk begins with ends at its end.
func closes(chunk string) bool {
	for i := 1; i < len(chunk); i++ {
		switch chunk[i] {
		case '\\':
			i++
		case '"':
			return i == len(chunk)-1
		}
	}
	return false
}

// unquote undoes \" and \\; any other backslash stays.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\') {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// badByte says why s cannot be part of anything: it would break out of the line of a log or a reply.
func badByte(s string) string {
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' && c != '\t', c == 0x7f:
			return "a control character"
		case c >= 0x80:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return "not UTF-8"
	}
	return ""
}

// show is s for a message: quoted, and not more of it than helps.
func show(s string) string {
	const most = 60
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			b = append(b, '?')
		} else {
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
