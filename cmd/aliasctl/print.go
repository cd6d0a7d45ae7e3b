package main

import (
	"bufio"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printer writes records.
type printer struct {
	w    *bufio.Writer
	json bool
	end  byte
}

// field is one of a record; without a value it is "-", and in JSON left out.
type field struct {
	name  string
	value any // string, []string or int
}

// record writes fields with tabs between them, or an object. indent spaces stand before the first.
func (p *printer) record(indent int, fields ...field) error {
	if p.json {
		return p.object(fields)
	}
	for i, f := range fields {
		switch {
		case i > 0:
			p.w.WriteByte('\t')
		default:
			p.w.WriteString(strings.Repeat(" ", indent))
		}
		text := ""
		switch v := f.value.(type) {
		case string:
			text = v
		case []string:
			text = strings.Join(v, " ")
		case int:
			text = digits(v)
		}
		if text == "" {
			text = "-"
		}
		p.w.WriteString(clean(text))
	}
	return p.w.WriteByte(p.end)
}

func digits(n int) string { b, _ := json.Marshal(n); return string(b) }

// object keeps the order of the fields, which a map would not.
func (p *printer) object(fields []field) error {
	p.w.WriteByte('{')
	first := true
	for _, f := range fields {
		if s, ok := f.value.(string); ok && s == "" {
			continue
		}
		if !first {
			p.w.WriteByte(',')
		}
		first = false
		name, _ := json.Marshal(f.name)
		value, err := json.Marshal(f.value)
		if err != nil {
			return err
		}
		p.w.Write(name)
		p.w.WriteByte(':')
		p.w.Write(value)
	}
	p.w.WriteByte('}')
	return p.w.WriteByte('\n')
}

// clean shows what does not print as "?".
func clean(s string) string {
	ok := utf8.ValidString(s)
	for _, r := range s {
		ok = ok && unicode.IsPrint(r)
	}
	if ok {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
