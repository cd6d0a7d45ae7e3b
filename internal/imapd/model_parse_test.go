package imapd

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A parser of responses for tests, which knows nothing of package imap: what it accepts is RFC 9051 section 9 to the octet, spaces and all.

// node is a value of a response.
type node struct {
	kind byte // 'a' atom or number, 's' string, '(' list
	text string
	list []node
}

func (n node) isNil() bool { return n.kind == 'a' && n.text == "NIL" }

// response1 is one response.
type response1 struct {
	raw    string
	tag    string // "*", "+" or a tag
	kind   string // "OK", "FETCH", "EXISTS" ...
	num    uint32
	code   string // of OK, NO, BAD, BYE: the name of the code
	args   string // and what follows it
	values []node
	items  map[string]node // of FETCH, STATUS and ESEARCH
}

// readRaw reads one response with its literals.
func readRaw(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return b.String() + line, err
		}
		b.WriteString(line)
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok {
			return b.String(), fmt.Errorf("a line that ends with LF alone: %q", line)
		}
		i := strings.LastIndexByte(text, '{')
		if i < 0 || !strings.HasSuffix(text, "}") {
			return b.String(), nil
		}
		n, err := strconv.ParseUint(text[i+1:len(text)-1], 10, 31)
		if err != nil {
			return b.String(), nil
		}
		if _, err := io.CopyN(&b, r, int64(n)); err != nil {
			return b.String(), err
		}
	}
}

// respParser takes a response apart. The first thing that is wrong is a panic of type respError.
type respParser struct {
	b    string
	pos  int
	utf8 bool
}

type respError string

func (p *respParser) fail(format string, args ...any) {
	panic(respError(fmt.Sprintf(format, args...) + fmt.Sprintf(" at octet %d of %.300q", p.pos, p.b)))
}

func (p *respParser) peek() byte {
	if p.pos == len(p.b) {
		return 0
	}
	return p.b[p.pos]
}

func (p *respParser) end() bool { return p.pos == len(p.b) }

func (p *respParser) expect(c byte) {
	if p.end() || p.b[p.pos] != c {
		p.fail("no %q", c)
	}
	p.pos++
}

func (p *respParser) skip(c byte) bool {
	if p.peek() == c && !p.end() {
		p.pos++
		return true
	}
	return false
}

// atom takes printable octets up to a space, parenthesis or string; brackets hold anything.
func (p *respParser) atom() string {
	from, in := p.pos, 0
	for ; !p.end(); p.pos++ {
		switch c := p.b[p.pos]; {
		case c == '[':
			in++
		case c == ']' && in > 0:
			in--
		case in > 0 && c >= ' ' && c < 0x7f:
		case c == ' ' || c == '(' || c == ')' || c == '"' || c == '{':
			goto done
		case c < ' ' || c >= 0x7f:
			p.fail("octet %#x in an atom", c)
		}
	}
done:
	if p.pos == from || in > 0 {
		p.fail("no atom")
	}
	return p.b[from:p.pos]
}

func (p *respParser) value() node {
	switch p.peek() {
	case '(':
		p.pos++
		n := node{kind: '('}
		for !p.skip(')') {
			// Bodies and addresses stand next to each other without a space.
			if len(n.list) > 0 && !(p.peek() == '(' && p.b[p.pos-1] == ')') {
				p.expect(' ')
			}
			n.list = append(n.list, p.value())
		}
		return n
	case '"':
		p.pos++
		var s strings.Builder
		for {
			c := p.peek()
			p.pos++
			switch {
			case p.pos > len(p.b) || c == '\r' || c == '\n' || c == 0:
				p.fail("a quoted string without an end")
			case c >= 0x80 && !p.utf8:
				p.fail("octet %#x in a quoted string", c)
			case c == '"':
				return node{kind: 's', text: s.String()}
			case c == '\\':
				if c = p.peek(); c != '"' && c != '\\' {
					p.fail("a backslash before %q", c)
				}
				p.pos++
			}
			s.WriteByte(c)
		}
	case '{':
		p.pos++
		n := p.number()
		p.expect('}')
		p.expect('\r')
		p.expect('\n')
		if p.pos+int(n) > len(p.b) {
			p.fail("a literal that is too short")
		}
		text := p.b[p.pos : p.pos+int(n)]
		p.pos += int(n)
		if strings.IndexByte(text, 0) >= 0 {
			p.fail("NUL in a literal")
		}
		return node{kind: 's', text: text}
	}
	return node{kind: 'a', text: p.atom()}
}

func (p *respParser) number() uint64 {
	from := p.pos
	for p.peek() >= '0' && p.peek() <= '9' {
		p.pos++
	}
	s := p.b[from:p.pos]
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || len(s) > 1 && s[0] == '0' {
		p.fail("%q is no number", s)
	}
	return n
}

func (p *respParser) respText(r *response1) {
	if p.skip('[') {
		from := p.pos
		for p.peek() != ']' {
			if p.end() || p.peek() < ' ' {
				p.fail("a code without an end")
			}
			p.pos++
		}
		r.code, r.args, _ = strings.Cut(p.b[from:p.pos], " ")
		if r.code == "" || strings.HasSuffix(r.args, " ") || strings.Contains(p.b[from:p.pos], "  ") {
			p.fail("wrong code")
		}
		p.pos++
		p.expect(' ')
	}
	text := p.b[p.pos:]
	if text == "" || text[0] == ' ' || strings.ContainsAny(text, "\r\n\x00") {
		p.fail("wrong text")
	}
	p.pos = len(p.b)
}

// pairs takes names and values.
func (p *respParser) pairs(list []node, named map[string]node) {
	if len(list)%2 != 0 {
		p.fail("names and values do not pair")
	}
	for i := 0; i < len(list); i += 2 {
		name := list[i]
		if name.kind != 'a' {
			p.fail("%q is no name", name.text)
		}
		if _, twice := named[name.text]; twice {
			p.fail("%s twice", name.text)
		}
		named[name.text] = list[i+1]
	}
}

// parseResponse parses a response; utf8: quoted strings may have it.
func parseResponse(raw string, utf8 bool) (r response1, err error) {
	r = response1{raw: raw, items: make(map[string]node)}
	p := &respParser{b: strings.TrimSuffix(raw, "\r\n"), utf8: utf8}
	defer func() {
		if e, ok := recover().(respError); ok {
			err = fmt.Errorf("%s", string(e))
		}
	}()
	if p.skip('+') {
		r.tag = "+"
		p.expect(' ')
		return r, nil
	}
	r.tag = p.atom()
	p.expect(' ')
	if c := p.peek(); c >= '0' && c <= '9' {
		r.num = uint32(p.number())
		p.expect(' ')
	}
	r.kind = p.atom()
	switch r.kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		p.expect(' ')
		p.respText(&r)
		return r, nil
	}
	if r.tag != "*" {
		p.fail("a tag, and no status")
	}
	for !p.end() {
		p.expect(' ')
		r.values = append(r.values, p.value())
	}
	switch v := r.values; r.kind {
	case "EXISTS", "RECENT", "EXPUNGE":
		if len(v) > 0 || r.kind == "EXPUNGE" && r.num == 0 {
			p.fail("wrong %s", r.kind)
		}
	case "FETCH", "UIDFETCH":
		if len(v) != 1 || v[0].kind != '(' || len(v[0].list) == 0 || r.num == 0 {
			p.fail("wrong FETCH")
		}
		p.pairs(v[0].list, r.items)
	case "STATUS":
		if len(v) != 2 || v[1].kind != '(' {
			p.fail("wrong STATUS")
		}
		p.pairs(v[1].list, r.items)
	case "ESEARCH":
		if len(v) == 0 || v[0].kind != '(' || len(v[0].list) != 2 || v[0].list[0].text != "TAG" || v[0].list[1].kind != 's' {
			p.fail("ESEARCH without a tag")
		}
		r.code = v[0].list[1].text
		v = v[1:]
		if len(v) > 0 && v[0].text == "UID" {
			r.args = "UID"
			v = v[1:]
		}
		p.pairs(v, r.items)
	case "VANISHED":
		if len(v) == 2 && v[0].kind == '(' && len(v[0].list) == 1 && v[0].list[0].text == "EARLIER" {
			r.args = "EARLIER"
			v = v[1:]
		}
		if len(v) != 1 || v[0].kind != 'a' {
			p.fail("wrong VANISHED")
		}
		r.values = v
	case "SEARCH", "FLAGS", "LIST", "LSUB", "ENABLED", "CAPABILITY", "NAMESPACE", "ID":
	default:
		p.fail("unknown response")
	}
	return r, nil
}

// numbersIn are those of a set without "*".
func numbersIn(set string) (list []uint32, err error) {
	for _, part := range strings.Split(set, ",") {
		a, b, isRange := strings.Cut(part, ":")
		if !isRange {
			b = a
		}
		from, err1 := strconv.ParseUint(a, 10, 32)
		to, err2 := strconv.ParseUint(b, 10, 32)
		if err1 != nil || err2 != nil || from == 0 || to < from || to-from > 1<<20 {
			return nil, fmt.Errorf("%q is no set", set)
		}
		for n := from; n <= to; n++ {
			list = append(list, uint32(n))
		}
	}
	return list, nil
}
