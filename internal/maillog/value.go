package maillog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	cut = "..."
	hex = "0123456789abcdef"
)

// text appends key=value for a value from anywhere. An empty one is left out.
func (n line) text(key, val string) line {
	if val != "" {
		n.l.buf = appendValue(appendKey(n.l.buf, key), val)
	}
	return n
}

// addr appends key=<value>: addresses, also the null one.
func (n line) addr(key, val string) line {
	b := appendKey(n.l.buf, key)
	if val != "" && quoted(val) {
		b = append(b, '"', '<')
		b = appendEscaped(b, val, true)
		n.l.buf = append(b, '>', '"')
		return n
	}
	b = append(b, '<')
	b = appendEscaped(b, val, false)
	n.l.buf = append(b, '>')
	return n
}

// num appends key=value.
func (n line) num(key string, val int64) line {
	n.l.buf = appendInt(appendKey(n.l.buf, key), val)
	return n
}

// some appends key=value unless the value is zero.
func (n line) some(key string, val int) line {
	if val == 0 {
		return n
	}
	return n.num(key, int64(val))
}

// dur appends a duration in seconds with three decimals. A zero is left out: it was not measured.
func (n line) dur(key string, d time.Duration) line {
	if d == 0 {
		return n
	}
	b := appendKey(n.l.buf, key)
	ms := d.Milliseconds()
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = appendInt(b, ms/1000)
	ms %= 1000
	n.l.buf = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	return n
}

// ip appends an address of the network, if there is one.
func (n line) ip(key string, a netip.Addr) line {
	if a.IsValid() {
		n.l.buf = a.Unmap().WithZone("").AppendTo(appendKey(n.l.buf, key))
	}
	return n
}

func (n line) err(err error) line {
	if err == nil {
		return n
	}
	return n.text("error", err.Error())
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

func appendKey(b []byte, key string) []byte {
	b = append(b, ' ')
	b = append(b, key...)
	return append(b, '=')
}

// quoted reports whether a value needs quotes.
func quoted(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' {
			return true
		}
	}
	return s == ""
}

func appendValue(b []byte, s string) []byte {
	if !quoted(s) {
		return appendEscaped(b, s, false)
	}
	b = append(b, '"')
	b = appendEscaped(b, s, true)
	return append(b, '"')
}

// appendBare is a value that holds no space and no colon either: the id.
func appendBare(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == ':' || c == '"' || c == '\\' || c == '=' {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
		if i == 63 {
			return append(b, cut...)
		}
	}
	return b
}

// appendEscaped appends at most maxValue bytes for s. Inside quotes "=" is escaped too: a pattern like " ip=" that
// someone searches for never matches what a stranger wrote.
func appendEscaped(b []byte, s string, quotes bool) []byte {
	end := len(b) + maxValue - len(cut)
	for i := 0; i < len(s); {
		if len(b) >= end {
			return append(b, cut...)
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f || c == '"' || c == '\\' || quotes && c == '=' || !quotes && c == ' ' {
				b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !strconv.IsPrint(r) {
			for _, c := range []byte(s[i : i+size]) {
				b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
			}
		} else {
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return b
}
