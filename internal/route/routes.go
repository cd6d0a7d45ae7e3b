package route

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Routes is routes(5): ways for domains, below domains, for single addresses, and for everything else. Lines are
//
//	user@domain  TARGET
//	domain       TARGET
//	.domain      TARGET     every domain below it
//	*            TARGET     every domain that is not ours
//
// where TARGET is what ParseTransport reads, "error:5.1.2 text", or "discard". The most specific line holds, whatever the order; of
// two for the same key the first. Never changed, so any number of goroutines may use it; nil has no routes.
type Routes struct {
	file  string
	lines map[string]routeLine
	users bool // some key has a local part
	below bool // some key begins with a dot
}

type routeLine struct {
	next    Transport
	reply   *smtp.Reply // "error:"
	discard bool
	at      alias.Pos
}

// MaxRoutes is the size of a routes file, in octets.
const MaxRoutes = 64 << 20

// ParseRoutes reads the text of a routes file. The problems are all that is wrong in it: lines that are are left out. The error is
// not nil when the file does not parse at all.
func ParseRoutes(file, text string) (*Routes, []alias.Problem, error) {
	if len(text) > MaxRoutes {
		return nil, nil, fmt.Errorf("%s: larger than %d MiB", file, MaxRoutes>>20)
	}
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, nil, fmt.Errorf("%s:%d: NUL: this is not a text file", file, strings.Count(text[:i], "\n")+1)
	}
	r := &Routes{file: file, lines: make(map[string]routeLine)}
	var problems []alias.Problem
	n := int32(0)
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := alias.Pos{File: file, Line: n}
		if err := r.add(line, at); err != nil {
			problems = append(problems, alias.Problem{Pos: at, Text: err.Error()})
		}
	}
	if len(r.lines) == 0 && len(problems) > 0 {
		return nil, problems, fmt.Errorf("%w (and there is no good line)", problems[0])
	}
	return r, problems, nil
}

func (r *Routes) add(line string, at alias.Pos) error {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return fmt.Errorf("%q: a target is wanted after the domain", line)
	}
	key, err := routeKey(line[:i])
	if err != nil {
		return err
	}
	x, err := parseRoute(strings.TrimSpace(line[i:]))
	if err != nil {
		return err
	}
	if first, ok := r.lines[key]; ok {
		return fmt.Errorf("%q has a route in line %d already; the first one holds", key, first.at.Line)
	}
	x.at = at
	r.lines[key] = x
	r.below = r.below || key[0] == '.'
	r.users = r.users || strings.IndexByte(key, '@') >= 0
	return nil
}

// routeKey is the canonical form of a left-hand side.
func routeKey(s string) (string, error) {
	switch {
	case s == "*":
		return s, nil
	case strings.IndexByte(s, '@') >= 0:
		m, err := addr.Parse(s, true)
		if err != nil {
			return "", fmt.Errorf("%w: %q", err, s)
		}
		return m.Key(), nil
	case strings.HasPrefix(s, "["):
		return addr.ParseLiteral(s)
	}
	name := strings.TrimPrefix(s, ".")
	d, err := addr.ParseDomain(name, true)
	if err == nil {
		d, err = addr.ASCIIDomain(d)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %q", err, s)
	}
	if name != s {
		d = "." + d
	}
	return d, nil
}

func parseRoute(s string) (routeLine, error) {
	if s == "discard" {
		return routeLine{discard: true}, nil
	}
	if text, ok := strings.CutPrefix(s, "error:"); ok {
		return parseErrorRoute(strings.TrimSpace(text))
	}
	if strings.ContainsAny(s, " \t") {
		return routeLine{}, fmt.Errorf("%q: one target is wanted", s)
	}
	t, err := ParseTransport(s)
	if err == nil && t.Socket != "" && t.Socket[0] != '/' {
		err = fmt.Errorf("%q: an absolute path is wanted", s)
	}
	return routeLine{next: t}, err
}

func parseErrorRoute(text string) (routeLine, error) {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return routeLine{}, fmt.Errorf("a control character in the text of an error")
		}
	}
	if strings.HasPrefix(text, "4") {
		return routeLine{reply: replyText(text, 450, "4.4.0", "mail for this domain has to wait")}, nil
	}
	return routeLine{reply: replyText(text, 550, "5.1.2", "no mail is taken for this domain")}, nil
}

// find is the most specific route for the address; base is its local part without a tag. others: also the route for "*".
func (r *Routes) find(local, base, domain string, others bool) (routeLine, bool) {
	if r == nil || len(r.lines) == 0 {
		return routeLine{}, false
	}
	if r.users {
		if x, ok := r.lines[addr.Mailbox{Local: local, Domain: domain}.Key()]; ok {
			return x, true
		}
		if x, ok := r.lines[addr.Mailbox{Local: base, Domain: domain}.Key()]; ok {
			return x, true
		}
	}
	if x, ok := r.lines[domain]; ok {
		return x, true
	}
	if r.below && domain[0] != '[' {
		for d := domain; ; {
			i := strings.IndexByte(d[1:], '.')
			if i < 0 {
				break
			}
			d = d[i+1:]
			if x, ok := r.lines[d]; ok {
				return x, true
			}
		}
	}
	if others {
		x, ok := r.lines["*"]
		return x, ok
	}
	return routeLine{}, false
}

func (x routeLine) apply(v Verdict) Verdict {
	v.Source = x.at
	switch {
	case x.reply != nil:
		return refuse(v, x.reply)
	case x.discard:
		v.Kind = Discard
	default:
		v.Next = x.next
	}
	return v
}

// Sockets are the Unix sockets that routes lead to, each once, in order; of nil none.
func (r *Routes) Sockets() []string {
	if r == nil {
		return nil
	}
	var l []string
	for _, line := range r.lines {
		if line.next.Socket != "" {
			l = append(l, line.next.Socket)
		}
	}
	slices.Sort(l)
	return slices.Compact(l)
}

// Keys are the left-hand sides, sorted, for tools.
func (r *Routes) Keys() []string {
	if r == nil {
		return nil
	}
	keys := make([]string, 0, len(r.lines))
	for k := range r.lines {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
