package facts

import "postamt/internal/message"

// Where things are in a part: an octet for its kind, then words.
const (
	partCount    = 0
	partEnvelope = 1
	partSpans    = 2
	partTexts    = 16
	partLists    = 32 // parameters, those of the disposition, languages
)

// Part is a message or a part of one: a message.Part. The zero value is one of which nothing is known.
type Part struct {
	f   Facts
	at  int
	end int // of the parts in it
}

// Root is the message as a part.
func (f Facts) Root() Part {
	p, _ := f.part(f.word(atWords, wordParts), len(f))
	return p
}

// part is the one at a place, whose parts end before another.
func (f Facts) part(at, end int) (Part, bool) {
	size := partSize.in(f.width())
	if at+size > min(end, len(f)) {
		return Part{}, false
	}
	n := max(f.word(at+1, partCount), 1)
	return Part{f, at, int(min(int64(at)+int64(n)*int64(size), int64(end)))}, true
}

// First is the first part in a multipart, or the message in a message. Next is the one behind a part in the same one.
func (p Part) First() (Part, bool) { return p.f.part(p.at+partSize.in(p.f.width()), p.end) }

// Next is the part behind p in the multipart in.
func (p Part) Next(in Part) (Part, bool) { return p.f.part(p.end, in.end) }

// IsMultipart: it has parts.
func (p Part) IsMultipart() bool { return p.f.octet(p.at) == kindMultipart }

// IsMessage: it has a message, First.
func (p Part) IsMessage() bool { return p.f.octet(p.at) == kindMessage }

const (
	kindMultipart = 1
	kindMessage   = 2
)

// Envelope is that of the message in a message.
func (p Part) Envelope() Envelope { return Envelope{p.f, p.f.word(p.at+1, partEnvelope)} }

// Header is where the header is, with the empty line behind it.
func (p Part) Header() message.Span {
	at, w := p.spans()
	return message.Span{Offset: p.f.number(at, w), Octets: p.f.number(at+2*w, w), Wire: p.f.number(at+4*w, w), Lines: p.f.number(at+6*w, w)}
}

// Body is where the body is.
func (p Part) Body() message.Span {
	at, w := p.spans()
	return message.Span{Offset: p.f.number(at, w) + p.f.number(at+2*w, w), Octets: p.f.number(at+8*w, w), Wire: p.f.number(at+10*w, w), Lines: p.f.number(at+12*w, w)}
}

func (p Part) spans() (at, w int) {
	w = p.f.width()
	return p.at + 1 + partSpans*w, w
}

func (p Part) text(i int) []byte { return p.f.text(p.at+1, partTexts+2*i) }

func (p Part) Type() []byte        { return p.text(0) }
func (p Part) Subtype() []byte     { return p.text(1) }
func (p Part) Encoding() []byte    { return p.text(2) }
func (p Part) ID() []byte          { return p.text(3) } // nil: there is none, here and below
func (p Part) Description() []byte { return p.text(4) }
func (p Part) MD5() []byte         { return p.text(5) }
func (p Part) Disposition() []byte { return p.text(6) }
func (p Part) Location() []byte    { return p.text(7) }
func (p Part) Params() Params      { return Params{p.f, p.f.list(p.at+1, partLists, paramSize)} }
func (p Part) DispParams() Params  { return Params{p.f, p.f.list(p.at+1, partLists+2, paramSize)} }
func (p Part) Languages() Texts    { return Texts{p.f, p.f.list(p.at+1, partLists+4, textSize)} }
