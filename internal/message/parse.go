package message

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Block is what Parse reads at a time. A name or a delimiter line that does not fit in it is neither.
const Block = 32 << 10

// maxBoundary is the longest boundary that counts. RFC 2046 section 5.1.1 allows 70; old programs write longer ones.
const maxBoundary = 256

// Limits bound what Parse keeps of a message, whatever its length. Zero stands for the default.
type Limits struct {
	Field   int // octets kept of a field: 64 KiB
	Header  int // of a part's header: 256 KiB
	Headers int // of all headers together: 1 MiB
	Depth   int // of parts in parts: 100
	Parts   int // of all parts: 10,000, and those made up; the last has all the rest
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		limit *int
		value int
	}{{&l.Field, 64 << 10}, {&l.Header, 256 << 10}, {&l.Headers, 1 << 20}, {&l.Depth, 100}, {&l.Parts, 10_000}} {
		if *d.limit == 0 {
			*d.limit = d.value
		}
	}
}

// Span is a run of octets of the file, and what it measures.
type Span struct {
	Offset int64 // of its first octet
	Octets int64 // in the file
	Wire   int64 // in the wire form, with a CR before every LF
	Lines  int64 // line ends
}

// End is the offset behind the last octet.
func (s Span) End() int64 { return s.Offset + s.Octets }

// Message is what Parse found.
type Message struct {
	Span
	Root *Part
	// Truncated: a header was longer than the limits, and what is told from its fields may be less than they say.
	Truncated bool
}

// Part is a message or a part of one. Header and body follow each other.
type Part struct {
	Header Span // with the empty line that ends it, if there is one
	Body   Span // without the line end before the delimiter that ended it, which belongs to the delimiter
	MIME
	// Children are the parts of a multipart, never none: where there is no boundary, or no part, or no room for one under
	// the limits, there is one that is empty. So BODYSTRUCTURE has an element where its grammar asks for one (as Dovecot's).
	Children []*Part
	// Message is the message in a message/rfc822 or message/global, never nil. When that is encoded, which RFC 2046 section
	// 5.2.1 forbids, or too deep, it has an empty header and all of the body.
	Message *Part

	fields     []byte
	begin, end int // of the fields in parser.kept, until it stops growing
}

// Fields are the octets of the header as they came, without the empty line, as much as the limits allow.
func (p *Part) Fields() []byte { return p.fields }

// Field is the first field of that name. Of two fields of which there should be one, the first counts, here as everywhere.
func (p *Part) Field(name string) (Field, bool) {
	s := Scan(p.fields, true)
	for {
		f, ok := s.Next()
		if !ok || f.Is(name) {
			return f, ok
		}
	}
}

// Parse reads a message to its end, once. Every sequence of octets is a message: the error is of r.
//
// Beside what the limits allow it holds one Block. A caller with many messages can save even that: an r that is a
// *bufio.Reader of at least a Block is used as it is.
func Parse(r io.Reader, l Limits) (*Message, error) {
	l.defaults()
	p := parser{r: bufio.NewReaderSize(r, Block), l: l, m: &Message{}, kept: make([]byte, 0, 4<<10)}
	p.m.Root = p.open(nil, mark{})
	if err := p.read(); err != nil {
		return nil, fmt.Errorf("message: read: %w", err)
	}
	p.from, p.lastEOL = p.at, 0 // the last line end of the file is no delimiter's
	p.finish(0)
	for _, part := range p.all {
		part.fields = p.kept[part.begin:part.end:part.end]
	}
	p.m.Span = span(mark{}, p.at)
	return p.m, nil
}

// mark is a place in the file: octets, LFs, and LFs without a CR before it.
type mark struct{ off, lines, bare int64 }

func span(a, b mark) Span {
	n := b.off - a.off
	return Span{Offset: a.off, Octets: n, Wire: n + b.bare - a.bare, Lines: b.lines - a.lines}
}

// entity is a part whose end has not been seen.
type entity struct {
	*Part
	begin    mark // of the body
	boundary string
	header   bool // still in the header
}

type parser struct {
	r *bufio.Reader
	l Limits
	m *Message

	at      mark  // what was read
	from    mark  // where the line began that was read last
	eol     int64 // length of the line end before at
	lastEOL int64 // of the one before from
	cr      bool  // the last octet was a CR

	stack []entity // the innermost is the last
	all   []*Part
	text  []byte // scratch: a field unfolded

	kept   []byte // the fields of all headers
	field  int    // octets kept of the field that is being read
	fields bool   // the header has a field
	keep   bool   // the line belongs to it
	full   bool   // the field was cut
}

func (p *parser) read() error {
	inside := false // of a line longer than the block
	for {
		chunk, err := p.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if len(chunk) > 0 {
			if !inside {
				p.from, p.lastEOL = p.at, p.eol
			}
			p.advance(chunk)
			switch {
			case !inside:
				p.line(chunk, err != bufio.ErrBufferFull && len(chunk) <= Block)
			case p.keep:
				p.keepOctets(chunk)
			}
		}
		inside = err == bufio.ErrBufferFull
		if err != nil && !inside {
			return nil
		}
	}
}

func (p *parser) advance(chunk []byte) {
	n := len(chunk)
	p.at.off += int64(n)
	p.eol = 0
	if chunk[n-1] == '\n' {
		p.at.lines++
		if n > 1 {
			p.cr = chunk[n-2] == '\r'
		}
		if p.eol = 2; !p.cr {
			p.eol = 1
			p.at.bare++
		}
		p.cr = false
		return
	}
	p.cr = chunk[n-1] == '\r'
}

// line looks at a line, or at the beginning of one that is longer than the block.
func (p *parser) line(b []byte, whole bool) {
	p.keep = false
	dashes := whole && len(b) > 2 && b[0] == '-' && b[1] == '-'
	if dashes && p.delimiter(b) {
		return
	}
	for top := p.top(); top.header; top = p.top() {
		switch {
		case b[0] == '\n' || b[0] == '\r' && len(b) == 2 && b[1] == '\n':
			p.endHeader(p.at)
			return
		case p.fields && (b[0] == ' ' || b[0] == '\t'):
		case fieldColon(b[:min(len(b), Block)]) >= 0:
			p.fields, p.field, p.full = true, 0, false
		default:
			// The line is the first of the body, where another header or, by the boundary that is now known, a part may begin.
			p.endHeader(p.from)
			if dashes && p.delimiter(b) {
				return
			}
			continue
		}
		p.keep = true
		p.keepOctets(b)
		return
	}
}

func (p *parser) top() *entity { return &p.stack[len(p.stack)-1] }

// keepOctets keeps what the limits allow of the field's next octets. Where a field is cut it gets a line end, for which
// there is always room, so that the next one begins where it should.
func (p *parser) keepOctets(b []byte) {
	if p.full {
		return
	}
	room := min(p.l.Field-p.field, p.l.Header-(len(p.kept)-p.top().Part.begin), p.l.Headers-len(p.kept))
	if len(b) < room {
		p.kept = append(p.kept, b...)
		p.field += len(b)
		return
	}
	p.m.Truncated, p.full = true, true
	b = b[:max(room-1, 0)]
	if p.field == 0 && fieldColon(b) < 0 {
		return
	}
	p.kept = append(p.kept, b...)
	if p.kept[len(p.kept)-1] != '\n' {
		p.kept = append(p.kept, '\n')
	}
}

// delimiter reads a line that begins with two hyphens: false, it is none of ours.
//
// RFC 2046 section 5.1.1: the boundary, two hyphens more at the last, white space, nothing else. A boundary may begin with
// another one, so the whole line counts. The innermost comes first, but an outer one ends all parts within: that is what is
// left when a part was cut short.
func (p *parser) delimiter(b []byte) bool {
	b = bytes.TrimRight(b[2:], " \t\r\n")
	for i := len(p.stack) - 1; i >= 0; i-- {
		e := &p.stack[i]
		n := len(e.boundary)
		last := len(b) == n+2 && b[n] == '-' && b[n+1] == '-'
		if n == 0 || len(b) != n && !last || string(b[:n]) != e.boundary {
			continue
		}
		if !last && len(p.all) >= p.l.Parts {
			return false // the last part has all the rest: nothing is hidden
		}
		p.finish(i + 1)
		if last {
			p.stack[i].boundary = "" // what follows is the epilogue
			return true
		}
		multipart := p.stack[i].Part
		part := p.open(multipart, p.at)
		multipart.Children = append(multipart.Children, part)
		return true
	}
	return false
}

// open begins a part at a place.
func (p *parser) open(parent *Part, at mark) *Part {
	part := &Part{begin: len(p.kept), end: len(p.kept)}
	part.Header.Offset = at.off
	part.Type, part.Subtype, part.Encoding = "text", "plain", "7bit"
	if parent != nil && parent.Is("multipart", "digest") {
		part.Type, part.Subtype = "message", "rfc822" // RFC 2046 section 5.1.5
	}
	p.all = append(p.all, part)
	p.stack = append(p.stack, entity{Part: part, begin: at, header: true})
	p.fields = false
	return part
}

// empty is a part with no header and nothing, or all from a to b, in its body.
func (p *parser) empty(a, b mark) *Part {
	part := p.open(nil, a)
	p.stack = p.stack[:len(p.stack)-1]
	part.Header = span(a, a)
	part.Body = span(a, b)
	return part
}

// endHeader ends the innermost header: its body begins at a place that was just read, or at the line that was just read.
func (p *parser) endHeader(body mark) {
	i := len(p.stack) - 1
	e := &p.stack[i]
	part := e.Part
	part.Header = span(e.begin, body)
	e.begin, e.header = body, false
	part.end = len(p.kept)
	p.text = part.MIME.read(p.kept[part.begin:part.end], p.text)
	switch {
	case len(p.stack) >= p.l.Depth:
	case part.IsMultipart():
		if v, _ := part.Params.Get("boundary"); len(v) <= maxBoundary {
			e.boundary = strings.TrimRight(v, " \t")
		}
	case part.IsMessage() && part.isIdentity():
		part.Message = p.open(nil, body)
	}
}

// finish ends all parts from the i-th of the stack on, before the line that was read last.
func (p *parser) finish(i int) {
	if i == len(p.stack) {
		return
	}
	end := p.from
	switch top := p.top(); {
	case top.header:
		p.endHeader(end)
	case end.off-p.lastEOL >= top.begin.off && p.lastEOL > 0:
		end.off -= p.lastEOL
		end.lines--
		if p.lastEOL == 1 {
			end.bare--
		}
	}
	for n := len(p.stack) - 1; n >= i; n-- {
		e := p.stack[n]
		e.Body = span(e.begin, end)
		switch {
		case e.IsMultipart() && e.Children == nil:
			e.Children = []*Part{p.empty(end, end)}
		case e.IsMessage() && e.Message == nil:
			e.Message = p.empty(e.begin, end)
		}
	}
	p.stack = p.stack[:i]
}
