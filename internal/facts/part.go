package facts

import "postamt/internal/message"

// Where things are in a part.
const (
	partCount     = 0
	partKind      = 2
	partEnvelope  = 3
	partHeader    = 5
	partBody      = 21
	partTexts     = 33
	partParams    = 65
	partDisp      = 69
	partLanguages = 73
	partSize      = 77
)

// Part is a message or a part of one: a message.Part.
type Part struct {
	f   Facts
	at  int // 0: there is none
	end int // of the parts in it
}

// Root is the message as a part. It is there if Structure is.
func (f Facts) Root() (Part, bool) {
	at := f.u16(atParts)
	if at == 0 {
		return Part{}, false
	}
	return f.part(at, len(f))
}

// part is the one at a place, whose parts end before another.
func (f Facts) part(at, end int) (Part, bool) {
	if at+partSize > min(end, len(f)) {
		return Part{}, false
	}
	return Part{f, at, min(at+max(f.u16(at+partCount), 1)*partSize, end)}, true
}

// First is the first part in a multipart, or the message in a message. Next is the one behind a part in the same one.
func (p Part) First() (Part, bool) { return p.f.part(p.at+partSize, p.end) }

// Next is the part behind p in the multipart in.
func (p Part) Next(in Part) (Part, bool) { return p.f.part(p.end, in.end) }

// IsMultipart: it has parts.
func (p Part) IsMultipart() bool { return p.f[p.at+partKind] == kindMultipart }

// IsMessage: it has a message, First.
func (p Part) IsMessage() bool { return p.f[p.at+partKind] == kindMessage }

const (
	kindMultipart = 1
	kindMessage   = 2
)

// Envelope is that of the message in a message.
func (p Part) Envelope() Envelope { return Envelope{p.f, p.f.u16(p.at + partEnvelope)} }

// Header is where the header is, with the empty line behind it.
func (p Part) Header() message.Span {
	at := p.at + partHeader
	return message.Span{Offset: p.f.u32(at), Octets: p.f.u32(at + 4), Wire: p.f.u32(at + 8), Lines: p.f.u32(at + 12)}
}

// Body is where the body is.
func (p Part) Body() message.Span {
	at := p.at + partHeader
	return message.Span{Offset: p.f.u32(at) + p.f.u32(at+4), Octets: p.f.u32(at + 16), Wire: p.f.u32(at + 20), Lines: p.f.u32(at + 24)}
}

func (p Part) text(i int) []byte { return p.f.text(p.at + partTexts + 4*i) }

func (p Part) Type() []byte        { return p.text(0) }
func (p Part) Subtype() []byte     { return p.text(1) }
func (p Part) Encoding() []byte    { return p.text(2) }
func (p Part) ID() []byte          { return p.text(3) } // nil: there is none, here and below
func (p Part) Description() []byte { return p.text(4) }
func (p Part) MD5() []byte         { return p.text(5) }
func (p Part) Disposition() []byte { return p.text(6) }
func (p Part) Location() []byte    { return p.text(7) }
func (p Part) Params() Params      { return Params{p.f, p.f.list(p.at+partParams, paramSize)} }
func (p Part) DispParams() Params  { return Params{p.f, p.f.list(p.at+partDisp, paramSize)} }
func (p Part) Languages() Texts    { return Texts{p.f, p.f.list(p.at+partLanguages, 4)} }
