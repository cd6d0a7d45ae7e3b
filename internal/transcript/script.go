// Package transcript runs scripts that look like the examples of an RFC against a server: the form in which the
// protocols of postamt are tested, and in which a person can read what is promised.
//
//	# RFC 5321 section 4.5.2: one leading dot is removed.
//	set: recipient_limit 3
//	S: 220 *
//	C: EHLO client.example
//	S: 250-*
//	S: 250 *
//	...
//	S: 250 2.0.0 * queued as $id
//	-- queued $id, below our trace fields --
//	Subject: dots
//
//	.one
//	-- end --
//	C: QUIT
//	S: 221 *
//	S. closed
//	== queued 1
//
// "key: value" lines before the first step belong to the test that runs the script. Then a line is a step:
//
//	C: text     the client sends text and CRLF; $name of a bound name is put in
//	C= raw      the client sends raw octets; \r \n \t \0 \xHH \\ are escapes, no CRLF is added
//	C*N raw     the same N times
//	S: pattern  the server's next line is this
//	S*N pattern the next N lines are this
//	S! pattern  no line matches this from here to the client's next line
//	C. action   starttls, compress, close, reset (RST), dial (a new connection), wait (until all is sent)
//	S. closed   the server closes, and sends nothing before that
//	== title    for the test to check
//	-- title -- the same, with what follows up to a line "-- end --", the next title or the end of the file
//
// Scripts with several sessions write A: A= A*N A< A! A. B: ... instead; C< is S:. A session is connected when it is
// first named. In a pattern * is any text and $name any text without a space, which is bound to the name at the first
// match and must agree later; \* \$ \\ stand for themselves. "250-*" (three digits, "-*") is any number of lines of a
// reply. What a client sends in steps without an expectation between them travels together, as pipelining does.
//
// A line that the script does not expect is an error, unless Options.Ignore allows it.
//
// In a script of IMAP, whose name ends in ".imap", a pattern that begins with "* " is one of an untagged response, and not of any text. Untagged responses that the
// script does not expect may come, with their literals, unless "strict: yes" stands at its head; so say with ! which must not come before the tagged one:
//
//	# RFC 9051 section 7.5.1: B is not told during FETCH, and is told at NOOP.
//	A: a3 EXPUNGE
//	A< * 2 EXPUNGE
//	A< a3 OK *
//	B: b2 FETCH 3 (UID)
//	B! * 2 EXPUNGE
//	B< * 3 FETCH (UID $u3)
//	B< b2 OK *
//	B: b3 NOOP
//	B< * 2 EXPUNGE
//	B< b3 OK *
package transcript

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Script is one parsed file.
type Script struct {
	Name  string
	Head  []Setting
	Steps []Step
}

// Setting is one "key: value" line before the first step.
type Setting struct{ Key, Value string }

// Op is what a step does.
type Op byte

// The operations.
const (
	Send   Op = '=' // Data is sent
	Expect Op = '<' // Text is a pattern
	Forbid Op = '!' // Text is a pattern
	Act    Op = '.' // Text is an action
	Check  Op = '-' // Text is the title, Block what follows
)

// Step is one line of the script, or a title with its block.
type Step struct {
	Line    int
	Session string // "C", "A", "B" ...; "" for a Check
	Op      Op
	Text    string
	Data    string // of a Send; names are put in when it is sent
	Subst   bool   // names are to be put in
	Block   []string
}

// Load parses the file at path.
func Load(path string) (*Script, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, string(b))
}

// Parse parses text; name is for messages.
func Parse(name, text string) (*Script, error) {
	s := &Script{Name: name}
	var block *Step
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, l := range lines {
		n := i + 1
		if t, ok := title(l); ok {
			block = nil
			if t != "end" {
				s.Steps = append(s.Steps, Step{Line: n, Op: Check, Text: t})
				block = &s.Steps[len(s.Steps)-1]
			}
			continue
		}
		if block != nil {
			block.Block = append(block.Block, l)
			continue
		}
		if l == "" || l[0] == '#' {
			continue
		}
		if t, ok := strings.CutPrefix(l, "== "); ok {
			s.Steps = append(s.Steps, Step{Line: n, Op: Check, Text: t})
			continue
		}
		if k, v, ok := setting(l); ok && len(s.Steps) == 0 {
			s.Head = append(s.Head, Setting{k, v})
			continue
		}
		st, times, err := step(l)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		st.Line = n
		if s.imap() && (st.Op == Expect || st.Op == Forbid) && strings.HasPrefix(st.Text, "* ") {
			st.Text = `\` + st.Text
		}
		for range times {
			s.Steps = append(s.Steps, st)
		}
	}
	return s, nil
}

func (s *Script) imap() bool { return strings.HasSuffix(s.Name, ".imap") }

// Value is the value of the last setting of key, "" when there is none.
func (s *Script) Value(key string) string {
	v := ""
	for _, h := range s.Head {
		if h.Key == key {
			v = h.Value
		}
	}
	return v
}

// Input is all that the client of a session sends, for the seeds of a fuzz test.
func (s *Script) Input(session string) []byte {
	var b []byte
	for _, st := range s.Steps {
		if st.Op == Send && st.Session == session {
			b = append(b, st.Data...)
		}
	}
	return b
}

func title(l string) (string, bool) {
	if len(l) > 6 && strings.HasPrefix(l, "-- ") && strings.HasSuffix(l, " --") {
		return l[3 : len(l)-3], true
	}
	return "", false
}

func setting(l string) (k, v string, ok bool) {
	k, v, ok = strings.Cut(l, ":")
	if !ok || len(k) < 2 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz_-") != "" {
		return "", "", false
	}
	return k, strings.TrimSpace(v), true
}

// maxTimes bounds N.
const maxTimes = 10_000_000

// step parses one line, which stands for so many steps.
func step(l string) (st Step, times int, err error) {
	if len(l) < 2 || l[0] < 'A' || l[0] > 'Z' {
		return st, 0, fmt.Errorf("not a step: %q", l)
	}
	st.Session, times = l[:1], 1
	op, rest := l[1], strings.TrimPrefix(l[2:], " ")
	server := l[0] == 'S'
	if server {
		st.Session = "C"
		if op == ':' {
			op = '<'
		}
	}
	switch {
	case op == ':':
		st.Op, st.Data, st.Subst = Send, rest+"\r\n", true
	case op == '=' && !server:
		st.Op = Send
		st.Data, err = unescape(rest)
	case op == '*':
		count, text, ok := strings.Cut(l[2:], " ")
		n, e := strconv.Atoi(count)
		if !ok || e != nil || n < 0 || n > maxTimes {
			return st, 0, fmt.Errorf("want %c*N text", l[0])
		}
		if server {
			st.Op, st.Text, times = Expect, text, n
			break
		}
		st.Op = Send
		st.Data, err = unescape(text)
		st.Data = strings.Repeat(st.Data, n)
	case op == '<', op == '!', op == '.':
		st.Op, st.Text = Op(op), rest
	default:
		return st, 0, fmt.Errorf("not a step: %q", l)
	}
	if st.Op == Act && err == nil {
		err = action(st.Text, server)
	}
	return st, times, err
}

func action(name string, server bool) error {
	switch name {
	case "closed":
		return nil
	case "starttls", "compress", "close", "reset", "dial", "wait":
		if server {
			return fmt.Errorf("%s is the client's", name)
		}
		return nil
	}
	return fmt.Errorf("no action %q", name)
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("backslash at the end")
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf(`\x wants two hex digits`)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`\x wants two hex digits`)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf(`no escape \%c`, s[i])
		}
	}
	return b.String(), nil
}
