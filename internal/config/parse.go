package config

import (
	"errors"
	"fmt"
	"strings"
)

// key is one row of the table.
type key struct {
	name string
	def  string
	val  value
}

// value parses the text of one type of key into its field.
type value interface{ set(s string) error }

// maxErrors bounds what is reported about one file: a megabyte of garbage is not a megabyte of errors. Each key may be
// wrong once.
const maxErrors = 100

// parse sets every field of c from text and the defaults, and returns everything that is wrong.
// name is the file as the user wrote it, for messages.
func (c *Config) parse(name, text string) Errors {
	keys := c.keys()
	lines := make([]int, len(keys)) // where each key was set; 0 not yet
	var errs Errors
	last, more := 0, 0 // what is not reported one by one
	report := func(line int, key string, err error) {
		if len(errs) < maxErrors {
			errs = append(errs, &Error{File: name, Line: line, Key: key, Err: err})
			return
		}
		last, more = line, more+1
	}
	text = strings.TrimPrefix(text, "\ufeff")
	for n := 1; text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			// A NUL in a comment is as much a sign of a damaged file as one elsewhere.
			if strings.IndexByte(line, 0) >= 0 {
				report(n, "", errors.New("control character"))
			}
			continue
		}
		if hasControl(line) {
			report(n, "", errors.New("control character"))
			continue
		}
		word, val := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			word, val = line[:i], strings.Trim(line[i:], " \t")
		}
		i := find(keys, word)
		switch {
		case i < 0:
			report(n, "", unknown(keys, word))
			continue
		case lines[i] != 0:
			report(n, word, fmt.Errorf("set twice, first in line %d", lines[i]))
			continue
		}
		lines[i] = n
		if err := check(val); err != nil {
			report(n, word, err)
		} else if err := keys[i].val.set(val); err != nil {
			report(n, word, err)
		} else if v, ok := keys[i].val.(interface{ files() []string }); ok {
			for _, path := range v.files() {
				c.named = append(c.named, named{path, Error{File: name, Line: n, Key: word}})
			}
		}
	}
	if more > 0 {
		errs = append(errs, &Error{File: name, Line: last, Err: fmt.Errorf("the last of %d errors more", more)})
	}
	for i, k := range keys {
		if lines[i] != 0 {
			continue
		}
		if err := k.val.set(k.def); err != nil {
			panic("config: default of " + k.name + ": " + err.Error()) // the table is wrong; its test fails first
		}
	}
	// What involves several keys is checked only when each is right by itself.
	if len(errs) == 0 {
		c.derive(machineNames())
		for _, p := range c.contradictions() {
			report(lines[find(keys, p.key)], p.key, p.err)
		}
	}
	return errs
}

// check refuses what is right for no key.
func check(val string) error {
	if val == "=" || strings.HasPrefix(val, "= ") {
		return errors.New(`a line is "key value", without "="`)
	}
	for w := range strings.FieldsSeq(val) {
		if w[0] == '#' {
			return errors.New("a comment stands on a line of its own")
		}
	}
	return nil
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

func find(keys []key, name string) int {
	for i := range keys {
		if keys[i].name == name {
			return i
		}
	}
	return -1
}

// unknown says what is wrong with a key that is none, and which one was perhaps meant.
func unknown(keys []key, word string) error {
	if k, _, ok := strings.Cut(word, "="); ok && find(keys, k) >= 0 {
		return fmt.Errorf(`a line is "key value", without "=": %s`, k)
	}
	shown := word
	if len(shown) > 60 {
		return fmt.Errorf("unknown key %.60q...", shown)
	}
	best, dist := "", 3
	for _, k := range keys {
		if d := distance(word, k.name, dist); d < dist {
			best, dist = k.name, d
		}
	}
	if best != "" {
		return fmt.Errorf("unknown key %q (is %s meant?)", shown, best)
	}
	return fmt.Errorf("unknown key %q", shown)
}

// distance is the number of characters to change, insert or remove between a and b, or at least max.
func distance(a, b string, max int) int {
	if d := len(a) - len(b); d >= max || -d >= max {
		return max
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 0; i < len(a); i++ {
		diag := row[0]
		row[0] = i + 1
		for j := 0; j < len(b); j++ {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}
