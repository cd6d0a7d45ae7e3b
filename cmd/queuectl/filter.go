package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/queue"
)

const filterUsage = `filters: --from address, --to address, --domain domain, --age +age | -age, --size +size | -size,
  --reason text, --state active|hold
`

// filter says which messages are meant. The zero value takes all.
type filter struct {
	from, to, domain, reason, state string
	ages, sizes                     bounds
	given                           bool
	now                             time.Time
}

// bounds are "+n" and "-n" of a flag.
type bounds struct {
	least, most int64 // beyond which it is; 0 is none
	parse       func(string) (int64, error)
}

func (b *bounds) String() string { return "" }

func (b *bounds) Set(s string) error {
	if len(s) < 2 || s[0] != '+' && s[0] != '-' {
		return errors.New("+ or - is wanted, and a number")
	}
	n, err := b.parse(s[1:])
	if err == nil && s[0] == '+' {
		b.least = n
	} else {
		b.most = n
	}
	return err
}

// scaled reads a number with the letter of a unit; one without counts by plain, 0: there must be one.
func scaled(s string, units map[byte]int64, plain int64) (int64, error) {
	unit := plain
	if u, ok := units[s[len(s)-1]]; ok {
		s, unit = s[:len(s)-1], u
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || unit == 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is no number with a unit", s)
	}
	return n * unit, nil
}

func parseAge(s string) (int64, error) {
	return scaled(s, map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}, 0)
}

func parseSize(s string) (int64, error) {
	return scaled(s, map[byte]int64{'k': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}, 1)
}

// addTo makes the flags. Afterwards done says whether they make sense.
func (f *filter) addTo(flags *flag.FlagSet) {
	f.now = time.Now()
	f.ages.parse, f.sizes.parse = parseAge, parseSize
	flags.StringVar(&f.from, "from", "", "")
	flags.StringVar(&f.to, "to", "", "")
	flags.StringVar(&f.domain, "domain", "", "")
	flags.Var(&f.ages, "age", "")
	flags.Var(&f.sizes, "size", "")
	flags.StringVar(&f.reason, "reason", "", "")
	flags.StringVar(&f.state, "state", "", "")
}

func (f *filter) done(flags *flag.FlagSet) error {
	flags.Visit(func(one *flag.Flag) {
		switch one.Name {
		case "from", "to", "domain", "age", "size", "reason", "state":
			f.given = true
			if one.Value.String() == "" && one.Name != "age" && one.Name != "size" {
				f.state = "?" // an empty variable in a script must not mean all
			}
		}
	})
	if f.state != "" && f.state != "active" && f.state != "hold" {
		return errUsage
	}
	f.domain = domainOf("@" + f.domain)
	if strings.HasPrefix(f.from, "@") {
		f.from = "*" + f.from
	}
	if strings.HasPrefix(f.to, "@") {
		f.to = "*" + f.to
	}
	return nil
}

// takes says whether l passes, as far as its file tells.
func (f *filter) takes(l *queue.Listed) bool {
	e := &l.Envelope
	age, size := int64(f.now.Sub(e.Arrived)/time.Second), l.Size
	switch {
	case f.state != "" && l.Held != (f.state == "hold"),
		f.sizes.least > 0 && size <= f.sizes.least, f.sizes.most > 0 && size >= f.sizes.most:
		return false
	case l.Err != nil:
		return f.from == "" && f.to == "" && f.domain == "" && f.ages.least == 0 && f.ages.most == 0
	case f.ages.least > 0 && age <= f.ages.least, f.ages.most > 0 && age >= f.ages.most,
		f.from != "" && !f.sender(e.From):
		return false
	}
	if f.to == "" && f.domain == "" {
		return true
	}
	for i := range e.Rcpts {
		r := &e.Rcpts[i]
		if r.State == queue.Pending && (f.to == "" || matches(f.to, r.Addr)) && (f.domain == "" || domainOf(r.Addr) == f.domain) {
			return true
		}
	}
	return false
}

func (f *filter) sender(from string) bool {
	if from == "" {
		return f.from == "<>" || f.from == "*"
	}
	return matches(f.from, from)
}

// takesReason says whether a note passes: as the beginning of its status, if it looks like one, or somewhere in the text as list prints it.
func (f *filter) takesReason(n queue.Note) bool {
	if f.reason == "" {
		return true
	}
	if isStatus(f.reason) {
		return n.Status == f.reason || strings.HasPrefix(n.Status, strings.TrimSuffix(f.reason, ".")+".")
	}
	return strings.Contains(strings.ToLower(string(appendReason(nil, n))), strings.ToLower(f.reason))
}

// isStatus: a class of RFC 3463, a dot, and whatever else there is of it.
func isStatus(s string) bool {
	return len(s) > 1 && strings.IndexByte("245", s[0]) >= 0 && s[1] == '.' && strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") <= 2
}

// matches compares without regard to case; "*" is any text.
func matches(pattern, s string) bool {
	pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return s == pattern
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = after
	}
	return true
}

// domainOf is the domain of an address in the form in which domains are compared; "" if it has none.
func domainOf(address string) string {
	domain := strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
	if strings.IndexByte(address, '@') < 0 {
		return ""
	}
	if a, err := addr.ASCIIDomain(domain); err == nil {
		return a
	}
	return domain
}

// look calls f for each message that passes, with its log where that is wanted or asked about.
func (f *filter) look(q *queue.Queue, logs bool, each func(*queue.Listed, []queue.Note) error) error {
	var stop error
	err := q.List(func(l queue.Listed) bool {
		if !f.takes(&l) {
			return true
		}
		var notes []queue.Note
		if logs || f.reason != "" {
			notes, _ = q.ReadLog(l.ID) // one that cannot be read says nothing
			if !f.takesReason(reason(notes)) {
				return true
			}
		}
		stop = each(&l, notes)
		return stop == nil
	})
	if stop != nil {
		return stop
	}
	return err
}

// reason is what was last noted of a message that says why it is here.
func reason(notes []queue.Note) queue.Note {
	for i := len(notes) - 1; i >= 0; i-- {
		if n := notes[i]; n.Event != queue.EventAttempt && n.Event != queue.EventWarned {
			return n
		}
	}
	return queue.Note{}
}

// attempts is how many there were, which the last line of each says first.
func attempts(notes []queue.Note) int {
	for i := len(notes) - 1; i >= 0; i-- {
		if notes[i].Event == queue.EventAttempt {
			word, _, _ := strings.Cut(notes[i].Text, " ")
			n, _ := strconv.Atoi(word)
			return n
		}
	}
	return 0
}
