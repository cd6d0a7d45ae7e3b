package alias

import (
	"errors"
	"fmt"
	"strings"

	"postamt/internal/addr"
)

// List is what a list file says. Lines "#: key value" before the first target make it a mailing list; to other programs they are comments:
//
//	#: id announce.example.org Announcements     List-Id (RFC 2919), and what it is called
//	#: post members                              who may post: anyone, members, or who is in the list file of that path
//	#: bounces announce-bounces@example.org      the sender of what goes out, with each member's address as a tag (VERP)
//	#: unsubscribe announce-unsubscribe@example.org     where a message from List-Unsubscribe goes, each member's own
//	#: unsubscribe https://lists.example.org/u/announce one click there takes it off (RFC 8058)
type List struct {
	Targets []Target

	ID             string // "" a list file that is no mailing list
	Name           string
	Post           string // "" anyone; "members"; the path of a list file
	Bounces        addr.Mailbox
	Unsubscribe    addr.Mailbox
	UnsubscribeURL string
}

// Members is the value of Post for lists that their members may post to.
const Members = "members"

// ParseList reads the text of a list file (":include:"): keys, targets, one a line or with commas, and comments. Commands and files are
// Bad in it: who may write a list must not thereby run programs or write files.
func ParseList(file, text string) (*List, []Problem, error) {
	if err := checkText(file, text); err != nil {
		return nil, nil, err
	}
	p := problems{file: file}
	l := &List{}
	line := 0
	for rest := text; rest != ""; {
		var s string
		s, rest, _ = strings.Cut(rest, "\n")
		line++
		if s = strings.TrimSpace(s); s != "" && s[0] != '#' {
			break
		}
		if key, ok := strings.CutPrefix(s, "#:"); ok {
			if what := l.set(strings.TrimSpace(key)); what != "" {
				p.add(line, 1, what)
			}
		}
	}
	if l.ID == "" && (l.Post != "" || !l.Bounces.IsNull() || !l.Unsubscribe.IsNull() || l.UnsubscribeURL != "") {
		p.add(1, 1, `a mailing list needs an id: "#: id list.example.org"`)
	}
	s := scanner{s: text, line: 1, list: true, file: file, warn: p.warn}
	s.emit = func(t Target) {
		if t.Kind == Pipe || t.Kind == File {
			t = Target{Kind: Bad, Text: "a command or file in a list file", Pos: t.Pos}
		}
		if t.Kind == Bad {
			p.add(int(t.Pos.Line), int(t.Pos.Col), t.Text)
		}
		l.Targets = append(l.Targets, t)
	}
	s.run()
	return l, p.all(), nil
}

// set reads one key, and says what is wrong with it.
func (l *List) set(s string) string {
	if what := badByte(s); what != "" {
		return what
	}
	key, value, _ := strings.Cut(s, " ")
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return "a key without a value: " + show(s)
	case key == "id":
		// RFC 2919 section 3: labels with a dot between them.
		id, name, _ := strings.Cut(value, " ")
		d, err := addr.ParseDomain(id, false)
		if err != nil || strings.IndexByte(d, '.') < 0 || len(d) > 255 {
			return "not an id of a list: " + show(id)
		}
		l.ID, l.Name = strings.ToLower(d), strings.TrimSpace(name)
	case key == "post" && value == "anyone":
		l.Post = ""
	case key == "post" && (value == Members || value[0] == '/'):
		l.Post = value
	case key == "unsubscribe" && strings.HasPrefix(value, "https://") && !strings.ContainsAny(value, "<> \t,"):
		l.UnsubscribeURL = value
	case key == "bounces", key == "unsubscribe":
		m, err := addr.Parse(value, true)
		if err != nil {
			return err.Error() + ": " + show(value)
		}
		if key == "bounces" {
			l.Bounces = m
		} else {
			l.Unsubscribe = m
		}
	case key == "post":
		return "who may post is anyone, members, or the path of a list file: " + show(value)
	default:
		return "unknown key " + show(key)
	}
	return ""
}

// Subscribe appends members to the text of a list file, one a line, but for those who are in it. The error says which text is no address or name.
func Subscribe(file, text string, members []string) (string, error) {
	l, _, err := ParseList(file, text)
	if err != nil {
		return text, err
	}
	have := make(map[identity]bool)
	for _, t := range l.Targets {
		have[t.identity()] = true
	}
	out := strings.Builder{}
	out.WriteString(text)
	if text != "" && !strings.HasSuffix(text, "\n") {
		out.WriteByte('\n')
	}
	for _, m := range members {
		t, err := ParseTarget(m)
		if err == nil && t.Kind != Address && t.Kind != Local {
			err = errors.New("not an address or a name")
		}
		if err != nil {
			return text, fmt.Errorf("%s: %w", show(m), err)
		}
		if !have[t.identity()] {
			have[t.identity()] = true
			out.WriteString(t.String() + "\n")
		}
	}
	return out.String(), nil
}

// Unsubscribe takes the members that leave says of out of the text of a list file, and returns how many those were. Comments stay, but for one in the line of a member.
func Unsubscribe(file, text string, leave func(Target) bool) (out string, n int, err error) {
	l, _, err := ParseList(file, text)
	if err != nil {
		return text, 0, err
	}
	stay, gone := make(map[int32][]string), make(map[int32]bool)
	for _, t := range l.Targets {
		if t.Kind != Bad && leave(t) {
			gone[t.Pos.Line] = true
			n++
		} else if t.Kind != Bad {
			stay[t.Pos.Line] = append(stay[t.Pos.Line], t.String())
		}
	}
	var b strings.Builder
	line := int32(0)
	for s := range strings.Lines(text) {
		line++
		switch {
		case !gone[line]:
			b.WriteString(s)
		case stay[line] != nil:
			b.WriteString(strings.Join(stay[line], ", ") + "\n")
		}
	}
	return b.String(), n, nil
}
