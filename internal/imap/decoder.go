package imap

import (
	"math"
	"strings"
	"unicode/utf8"

	"postamt/internal/mutf7"
)

// Decoder pulls the arguments of a command off the wire. Its methods are named after the grammar. After the first error they do nothing and return zero values, so a
// command pulls all it has, and asks for the error once, with End (or Err, before it streams a literal).
//
// The error is a *Status, BAD as a rule, to be sent tagged; or one of the connection, after which that is to be closed. Strings are copies. Between two pulls nothing else may
// read from the connection; a Body may.
type Decoder struct {
	c    *Conn
	line []byte // of the command, without CRLF, as it lies in the read buffer
	pos  int
	err  error

	last      Literal // announced at the end of line, not opened
	body      Body
	inLiteral bool // body is open, and a line follows it

	held    int64 // octets of this command in memory, see Limits
	dropped int64
	depth   int
	parts   int           // of CATENATE so far
	closing bool          // a part of CATENATE is open, "UTF8 ("
	upper   [maxName]byte // of word
}

// maxDepth bounds everything that nests. Programs have been seen to search for some dozens of addresses with as many ORs in each other.
const maxDepth = 100

// Err is the first error.
func (d *Decoder) Err() error { return d.err }

// End checks that the arguments end here, and returns the first error.
func (d *Decoder) End() error {
	if d.More() {
		d.Fail("too many arguments")
	}
	return d.err
}

// More reports whether there is something left.
func (d *Decoder) More() bool {
	if d.inLiteral {
		d.resume()
	}
	return d.err == nil && d.pos < len(d.line)
}

// Fail makes the command one that is wrong: BAD with this text.
func (d *Decoder) Fail(text string) { d.fail(Bad(text)) }

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// peek is the next octet, 0 at the end.
func (d *Decoder) peek() byte {
	if !d.More() {
		return 0
	}
	return d.line[d.pos]
}

// Is reports whether c comes next.
func (d *Decoder) Is(c byte) bool { return d.peek() == c }

// Skip takes c if it comes next.
func (d *Decoder) Skip(c byte) bool {
	if d.peek() != c || d.err != nil {
		return false
	}
	d.pos++
	return true
}

// Expect takes c, which must come next.
func (d *Decoder) Expect(c byte) *Decoder {
	if !d.Skip(c) {
		switch c {
		case ' ':
			d.Fail("a space is missing")
		case ')':
			d.Fail("a parenthesis is missing")
		default:
			d.Fail("syntax error")
		}
	}
	return d
}

// SP takes the space before an argument. It returns d, for d.SP().Mailbox().
func (d *Decoder) SP() *Decoder { return d.Expect(' ') }

// spaceThen takes the space before c, if both come next.
func (d *Decoder) spaceThen(c byte) bool {
	if d.Is(' ') && d.pos+1 < len(d.line) && d.line[d.pos+1] == c {
		d.pos++
		return true
	}
	return false
}

// List calls f for each element of "(" [element *(SP element)] ")", at most max of them.
func (d *Decoder) List(max int, f func()) {
	d.Expect('(')
	if d.enter(); d.err != nil {
		return
	}
	if !d.Skip(')') {
		for n := 1; ; n++ {
			if n > max {
				d.Fail("too long a list")
			}
			f()
			if d.err != nil || d.Skip(')') {
				break
			}
			d.SP()
		}
	}
	d.depth--
}

// NonEmptyList is List with an element at least.
func (d *Decoder) NonEmptyList(max int, f func()) {
	if d.Is('(') && d.pos+1 < len(d.line) && d.line[d.pos+1] == ')' {
		d.Fail("an empty list")
	}
	d.List(max, f)
}

// enter goes one level down. It fails at the limit, so that nothing recursive needs to look.
func (d *Decoder) enter() {
	if d.depth++; d.depth > maxDepth {
		d.Fail("nested too deep")
	}
}

// take takes the longest run of characters of a kind, at least one.
func (d *Decoder) take(kind func(byte) bool) []byte {
	if !d.More() {
		d.Fail("an argument is missing")
		return nil
	}
	i := d.pos
	for i < len(d.line) && kind(d.line[i]) {
		i++
	}
	if i == d.pos {
		d.Fail("syntax error")
		return nil
	}
	p := d.line[d.pos:i]
	d.pos = i
	return p
}

// word takes a keyword: letters, digits and "-_." of any case; it is upper case, valid until the next call. One that is longer than any keyword is "".
func (d *Decoder) word() []byte {
	w := d.take(isWordChar)
	if len(w) > len(d.upper) {
		return d.upper[:0]
	}
	return upper(d.upper[:0], w)
}

// Atom reads an atom, as it came. (RFC 3501: atom = 1*ATOM-CHAR)
func (d *Decoder) Atom() string { return string(d.take(isAtomChar)) }

// Keyword reads an atom that is a word of the protocol: upper case.
func (d *Decoder) Keyword() string { return strings.ToUpper(d.Atom()) }

// AString reads astring = 1*ASTRING-CHAR / string.
func (d *Decoder) AString() string {
	switch d.peek() {
	case '"':
		return d.quoted()
	case '{':
		return string(d.heldLiteral(false))
	}
	return string(d.take(isAstringChar))
}

// String reads string = quoted / literal.
func (d *Decoder) String() string {
	switch d.peek() {
	case '"':
		return d.quoted()
	case '{':
		return string(d.heldLiteral(false))
	}
	d.Fail("a string is needed")
	return ""
}

// NString reads nstring = string / nil; false is NIL.
func (d *Decoder) NString() (string, bool) {
	if c := d.peek(); c == '"' || c == '{' {
		return d.String(), true
	}
	d.null()
	return "", false
}

func (d *Decoder) null() {
	if string(d.word()) != "NIL" {
		d.Fail("a string or NIL is needed")
	}
}

// quoted reads DQUOTE *QUOTED-CHAR DQUOTE. RFC 9051 section 4.3: no CR, LF or NUL (which no line has, see lineio), UTF-8 if that was enabled.
func (d *Decoder) quoted() string {
	i := d.pos + 1
	escaped, high := false, false
	for ; i < len(d.line) && d.line[i] != '"'; i++ {
		c := d.line[i]
		if c == '\\' {
			if i++; i == len(d.line) || d.line[i] != '"' && d.line[i] != '\\' {
				d.Fail("a backslash that quotes nothing")
				return ""
			}
			escaped = true
		}
		high = high || c >= utf8.RuneSelf
	}
	if i >= len(d.line) {
		d.Fail("a quoted string has no end")
		return ""
	}
	s := d.line[d.pos+1 : i]
	if high && (d.c.Mode&UTF8 == 0 || !utf8.Valid(s)) {
		d.Fail("8-bit characters in a quoted string")
		return ""
	}
	d.pos = i + 1
	if !escaped {
		return string(s)
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// digits reads 1*DIGIT as a number of at most max, which is below 2^63.
func (d *Decoder) digits(max uint64) uint64 {
	var n uint64
	for _, c := range d.take(isDigit) {
		v := uint64(c - '0')
		if v > max || n > (max-v)/10 {
			d.Fail("the number is too large")
			return 0
		}
		n = n*10 + v
	}
	return n
}

// Mailbox reads a mailbox name: UTF-8, "INBOX" whatever its case. One that is not what the mode asks for, or has control characters in it, is NO [CANNOT].
func (d *Decoder) Mailbox() string { return d.mailboxName(d.AString()) }

func (d *Decoder) mailboxName(s string) string {
	if strings.EqualFold(s, "INBOX") {
		return "INBOX"
	}
	return d.decodeName(s)
}

func (d *Decoder) decodeName(s string) string {
	ok := d.c.Mode&UTF8 != 0
	if !ok {
		s, ok = mutf7.Decode(s)
	}
	if d.err == nil && !(ok && isName(s)) {
		d.fail(No(Cannot, "not a mailbox name"))
	}
	return s
}

// isName: RFC 6855 section 3, RFC 9051 section 5.1: UTF-8 without control characters and line separators.
func isName(s string) bool {
	for i, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return false
		}
	}
	return true
}

// ListMailbox reads list-mailbox = 1*list-char / string, a name with wildcards, in UTF-8.
func (d *Decoder) ListMailbox() string {
	if c := d.peek(); c == '"' || c == '{' {
		return d.pattern(d.String())
	}
	return d.pattern(string(d.take(isListChar)))
}

// pattern decodes what LIST matches names with. One that can be no name is no error: it matches none.
func (d *Decoder) pattern(s string) string {
	if d.c.Mode&UTF8 == 0 {
		if name, ok := mutf7.Decode(s); ok {
			return name
		}
	}
	return s
}

// Flag reads a flag: an atom, or "\" and an atom. System flags are as the RFC writes them, others as they came; \* is none.
func (d *Decoder) Flag() string {
	if !d.Skip('\\') {
		return d.Atom()
	}
	w := d.Atom()
	for _, f := range [...]string{`\Seen`, `\Deleted`, `\Flagged`, `\Answered`, `\Draft`, `\Recent`} {
		if strings.EqualFold(w, f[1:]) {
			return f
		}
	}
	return `\` + w
}

// maxFlags bounds a list of flags; I23: what a mailbox takes is fewer.
const maxFlags = 1000

// FlagList reads flag-list = "(" [flag *(SP flag)] ")".
func (d *Decoder) FlagList() []string {
	var flags []string
	d.List(maxFlags, func() { flags = append(flags, d.Flag()) })
	return flags
}

// Number reads number = 1*DIGIT of 32 bits.
func (d *Decoder) Number() uint32 { return uint32(d.digits(math.MaxUint32)) }

// Number64 reads number64, of 63 bits.
func (d *Decoder) Number64() int64 { return int64(d.digits(math.MaxInt64)) }

// NZNumber reads nz-number: not 0, and not beginning with 0.
func (d *Decoder) NZNumber() uint32 {
	if d.Is('0') {
		d.Fail("a number that begins with 0")
	}
	return d.Number()
}

// ModSeq reads mod-sequence-value (RFC 7162 section 7): 1*DIGIT of 63 bits, not 0.
func (d *Decoder) ModSeq() uint64 {
	n := d.digits(math.MaxInt64)
	if n == 0 {
		d.Fail("a mod-sequence of 0")
	}
	return n
}

// ModSeqOrZero reads mod-sequence-valzer.
func (d *Decoder) ModSeqOrZero() uint64 { return d.digits(math.MaxInt64) }

// skipFold takes text, of any case, if it comes next.
func (d *Decoder) skipFold(text string) bool {
	if !d.More() || len(d.line)-d.pos < len(text) || !strings.EqualFold(string(d.line[d.pos:d.pos+len(text)]), text) {
		return false
	}
	d.pos += len(text)
	return true
}
