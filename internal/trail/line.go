// Package trail finds in log files what postamt's programs have said about a message (maillog(5)), and follows it to what it became: the children of
// aliases and forward files, and reports.
//
// Log files come with whatever a syslog daemon or a logger puts in front of a line. A line is taken for one of ours only if nothing else can be in front of
//
//	[stamp] [host] [tag:] PROGRAM[pid]: ID: EVENT key=value ...
//
// with a tag that ends in the program's name, so that what a stranger has another program log, or one of ours in a value, is no line of ours.
package trail

import (
	"fmt"
	"strings"
	"time"
)

// Line is one line of maillog(5).
type Line struct {
	Time    time.Time // zero: there was none
	Program string
	ID      string
	Event   string
	Values  string // key=value ..., as it is in the log
}

// programs are those whose lines are about messages.
func isProgram(s string) bool { return s == "smtpd" || s == "queued" || s == "deliver" }

// Parser reads the lines of one log. Not safe for concurrent use.
type Parser struct {
	Now   time.Time                         // by which a year is found for a stamp without one
	Local *time.Location                    // of stamps without a zone; nil: time.Local
	Born  func(id string) (time.Time, bool) // when an id was made; nil: nobody knows

	label, civil bool // see leap
}

// Parse reads a line, without its end. ok: it is one of a program of ours. What it returns is part of s.
func (p *Parser) Parse(s string) (l Line, ok bool) {
	stamp, rest := p.stamp(s)
	word, rest, _ := strings.Cut(rest, " ")
	if !stamp.IsZero() && !strings.HasSuffix(word, ":") {
		word, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ") // that was the host
	}
	name, tagged := strings.CutSuffix(word, ":")
	name = withoutPID(name)
	if i := strings.LastIndexAny(name, "-.@"); i >= 0 {
		name = name[i+1:]
	}
	if !tagged || !isProgram(name) {
		return l, false
	}
	if after, twice := strings.CutPrefix(rest, name+": "); twice {
		rest = after // what was read is the tag that journald knows it by
	} else if len(name) != len(withoutPID(strings.TrimSuffix(word, ":"))) {
		return l, false
	}
	l.Time, l.Program = stamp, name
	l.ID, rest, ok = strings.Cut(rest, ": ")
	if !ok || l.ID == "" || strings.IndexByte(l.ID, ' ') >= 0 {
		return l, false
	}
	l.Event, l.Values, _ = strings.Cut(rest, " ")
	if p.label {
		p.leap(&l)
	}
	return l, isWord(l.Event)
}

func withoutPID(s string) string {
	if i := strings.IndexByte(s, '['); i > 0 && strings.HasSuffix(s, "]") && strings.Trim(s[i+1:len(s)-1], "0123456789") == "" {
		return s[:i]
	}
	return s
}

func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != ""
}

// Get is the value of a key, as it was before it was written; "" if there is none.
func (l *Line) Get(key string) string {
	for k, v := range l.All() {
		if k == key {
			return v
		}
	}
	return ""
}

// Address is Get without the brackets of an address.
func (l *Line) Address(key string) string {
	return strings.TrimSuffix(strings.TrimPrefix(l.Get(key), "<"), ">")
}

// All are the values in their order. What does not read as maillog(5) says ends them.
func (l *Line) All() func(func(key, value string) bool) {
	return func(yield func(string, string) bool) {
		rest := l.Values
		for rest != "" {
			key, after, ok := strings.Cut(rest, "=")
			if !ok || strings.ContainsAny(key, " \"") {
				return
			}
			var value string
			if strings.HasPrefix(after, `"`) {
				value, after, ok = strings.Cut(after[1:], `"`)
				if !ok {
					return // the line was cut
				}
				after = strings.TrimPrefix(after, " ")
			} else {
				value, after, _ = strings.Cut(after, " ")
			}
			if !yield(key, unescape(value)) {
				return
			}
			rest = after
		}
	}
}

// unescape reads \xNN.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+3 < len(s) && s[i] == '\\' && s[i+1] == 'x' {
			hi, lo := unhex(s[i+2]), unhex(s[i+3])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// Values writes keys and values in turn as maillog(5) says; those without a value are left out.
func Values(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		if value == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(key)
		b.WriteByte('=')
		quotes := strings.IndexByte(value, ' ') >= 0
		if quotes {
			b.WriteByte('"')
		}
		for _, c := range []byte(value) {
			if c < ' ' || c == 0x7f || c == '"' || c == '\\' || c == '=' && quotes {
				fmt.Fprintf(&b, `\x%02x`, c)
			} else {
				b.WriteByte(c)
			}
		}
		if quotes {
			b.WriteByte('"')
		}
	}
	return b.String()
}
