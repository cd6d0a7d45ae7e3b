package authwire

import "strings"

// A Field is a named parameter. An empty value is written as the name alone, which to every reader of this protocol means the same.
type Field struct{ Name, Value string }

// Fields are parameters in the order of the line.
type Fields []Field

// Get returns the value of the first field of that name, and whether there is one.
func (f Fields) Get(name string) (string, bool) {
	for _, x := range f {
		if x.Name == name {
			return x.Value, true
		}
	}
	return "", false
}

// Has says whether there is a field of that name.
func (f Fields) Has(name string) bool {
	_, ok := f.Get(name)
	return ok
}

// append writes the fields behind a line's beginning. A name with '=' cannot be written and is left out: it would be read as another name.
func (f Fields) append(b []byte) []byte {
	for _, x := range f {
		b = appendField(b, x.Name, x.Value)
	}
	return b
}

func appendField(b []byte, name, value string) []byte {
	if name == "" || strings.Contains(name, "=") {
		return b
	}
	b = appendEscaped(append(b, '\t'), name)
	if value != "" {
		b = appendEscaped(append(b, '='), value)
	}
	return b
}

// parseField reads one parameter. Dovecot looks for '=' in the text after unescaping, and so do we; the name of a field has nothing to escape.
func parseField(word []byte) Field {
	name, value, _ := strings.Cut(unescape(word), "=")
	return Field{name, value}
}

// parseFields reads parameters, and skips empty ones: Dovecot's LIST has one.
func parseFields(words [][]byte) Fields {
	var f Fields
	for _, w := range words {
		if len(w) > 0 {
			f = append(f, parseField(w))
		}
	}
	return f
}
