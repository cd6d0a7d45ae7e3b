package facts

import "encoding/binary"

// Form is the number of the form that Describe makes. Another is of another time, and to be made anew.
const Form = 1

// MaxSize is the most octets that Facts have.
const MaxSize = 1<<16 - 1

// Where things are.
const (
	atFlags       = 1
	atZone        = 2
	atParts       = 4
	atSent        = 8
	atWire        = 16
	atEmailID     = 24
	atThreadID    = 39
	atFields      = 54
	atEnvelope    = 58
	atSubject     = 98
	atBase        = 102
	atDisplayFrom = 106
	atDisplayTo   = 110
	atMessageID   = 114
	atReferences  = 118
	fixedSize     = 122

	idSize       = 15
	fieldSize    = 5
	addressSize  = 17
	paramSize    = 8
	envelopeSize = 40
)

// Facts are what Describe made. They may be any octets: then the values mean nothing, and no method fails. The zero value says of everything that it is not there.
type Facts []byte

// Group is a group of values that is there as a whole or not.
type Group byte

// The groups. Subject and its like are of the envelope.
const (
	Fields Group = 1 << iota
	Envelopes
	Thread    // MessageID, References
	Structure // Root

	hasDate
	isReply
)

// Valid: they have the form that this package reads.
func (f Facts) Valid() bool { return len(f) >= fixedSize && f[0] == Form }

// Has says whether a group of values is there; if not the file must be asked. What is not of a group always is.
func (f Facts) Has(g Group) bool { return f.Valid() && f[atFlags]&byte(g) == 0 }

// Wire is the number of octets in wire form.
func (f Facts) Wire() int64 { return int64(f.u64(atWire)) }

// Sent is the Date field: seconds since 1970, and its zone, seconds east of UTC. The day that it names is that of the sum. False: there is none
// that can be read.
func (f Facts) Sent() (seconds int64, zone int, ok bool) {
	return int64(f.u64(atSent)), int(int16(f.u16(atZone))) * 60, f.flag(hasDate)
}

// Subject is the subject decoded, in UTF-8; nil: there is none.
func (f Facts) Subject() []byte { return f.text(atSubject) }

// BaseSubject is that of RFC 5256 section 2.1.
func (f Facts) BaseSubject() []byte { return f.text(atBase) }

// IsReply: the subject makes it a reply or a forward (RFC 5256 section 3).
func (f Facts) IsReply() bool { return f.flag(isReply) }

// DisplayFrom is the name of the first address of From, decoded; nil: it has none. RFC 5957 section 3 has the mailbox then.
func (f Facts) DisplayFrom() []byte { return f.text(atDisplayFrom) }

// DisplayTo is that of To.
func (f Facts) DisplayTo() []byte { return f.text(atDisplayTo) }

// MessageID is the message id without its angle brackets, quotes and comments; nil: there is none.
func (f Facts) MessageID() []byte { return f.text(atMessageID) }

// References are the message ids of References, or else the first of In-Reply-To (RFC 5256 section 3).
func (f Facts) References() Texts { return Texts{f, f.list(atReferences, 4)} }

// Envelope is that of the message.
func (f Facts) Envelope() Envelope { return Envelope{f, atEnvelope} }

// AppendEmailID appends the EMAILID.
func (f Facts) AppendEmailID(b []byte) []byte { return f.id(append(b, 'M'), atEmailID) }

// AppendThreadID appends the THREADID. RFC 8474 section 5.2: no object has one that is a message's, so they begin with another letter.
func (f Facts) AppendThreadID(b []byte) []byte { return f.id(append(b, 'T'), atThreadID) }

// id is 120 bits in 24 characters. RFC 8474 section 7 has ids differ by case; not all clients do, so these are in lower case.
func (f Facts) id(b []byte, at int) []byte {
	if len(f) < at+idSize {
		return b
	}
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	bits, n := uint32(0), 0
	for _, c := range f[at : at+idSize] {
		bits, n = bits<<8|uint32(c), n+8
		for n >= 5 {
			n -= 5
			b = append(b, alphabet[bits>>n&31])
		}
	}
	return b
}

// AppendFields appends the header fields of a set, in their order, in wire form, and no empty line.
func (f Facts) AppendFields(b []byte, want Names) []byte {
	for at, end := f.list(atFields, fieldSize).bounds(fieldSize); at < end; at += fieldSize {
		if want>>f[at]&1 != 0 {
			b = append(b, f.text(at+1)...)
		}
	}
	return b
}

// Field is the first field of a set, whole, in wire form; nil: there is none.
func (f Facts) Field(want Names) []byte {
	for at, end := f.list(atFields, fieldSize).bounds(fieldSize); at < end; at += fieldSize {
		if want>>f[at]&1 != 0 {
			return f.text(at + 1)
		}
	}
	return nil
}

// Envelope has the values of message.Envelope: a field that is absent is nil, one that is empty is not.
type Envelope struct {
	f  Facts
	at int // 0: there is none
}

func (e Envelope) text(i int) []byte {
	if e.at == 0 {
		return nil
	}
	return e.f.text(e.at + 4*i)
}

func (e Envelope) addresses(i int) Addresses {
	if e.at == 0 {
		return Addresses{}
	}
	return Addresses{e.f, e.f.list(e.at+16+4*i, addressSize)}
}

func (e Envelope) Date() []byte       { return e.text(0) }
func (e Envelope) Subject() []byte    { return e.text(1) } // as written
func (e Envelope) InReplyTo() []byte  { return e.text(2) }
func (e Envelope) MessageID() []byte  { return e.text(3) }
func (e Envelope) From() Addresses    { return e.addresses(0) }
func (e Envelope) Sender() Addresses  { return e.addresses(1) }
func (e Envelope) ReplyTo() Addresses { return e.addresses(2) }
func (e Envelope) To() Addresses      { return e.addresses(3) }
func (e Envelope) Cc() Addresses      { return e.addresses(4) }
func (e Envelope) Bcc() Addresses     { return e.addresses(5) }

// Addresses is a list of addresses.
type Addresses struct {
	f Facts
	l list
}

// Len is how many there are.
func (a Addresses) Len() int { return a.l.n }

// At is one of them.
func (a Addresses) At(i int) Address {
	at := a.l.at + i*addressSize
	return Address{a.f[at], a.f.text(at + 1), a.f.text(at + 5), a.f.text(at + 9), a.f.text(at + 13)}
}

// Address is a message.Address. What is empty there is nil here.
type Address struct {
	Kind                       byte // a message.AddressKind
	Name, Route, Mailbox, Host []byte
}

// Texts is a list of texts.
type Texts struct {
	f Facts
	l list
}

// Len is how many there are.
func (t Texts) Len() int { return t.l.n }

// At is one of them.
func (t Texts) At(i int) []byte { return t.f.text(t.l.at + 4*i) }

// Params is a list of parameters, as message.Params.Joined has them.
type Params struct {
	f Facts
	l list
}

// Len is how many there are.
func (p Params) Len() int { return p.l.n }

// At is one of them.
func (p Params) At(i int) (name, value []byte) {
	at := p.l.at + paramSize*i
	return p.f.text(at), p.f.text(at + 4)
}

// list is n elements at a place, all of them within the octets.
type list struct{ at, n int }

func (l list) bounds(size int) (at, end int) { return l.at, l.at + l.n*size }

func (f Facts) list(at, size int) list {
	l := list{f.u16(at), f.u16(at + 2)}
	if l.at+l.n*size > len(f) {
		return list{}
	}
	return l
}

func (f Facts) text(at int) []byte {
	where, n := f.u16(at), f.u16(at+2)
	if where == 0 || where+n > len(f) {
		return nil
	}
	return f[where : where+n : where+n]
}

func (f Facts) flag(g Group) bool { return f.Valid() && f[atFlags]&byte(g) != 0 }

func (f Facts) u16(at int) int {
	if at+2 > len(f) {
		return 0
	}
	return int(binary.LittleEndian.Uint16(f[at:]))
}

func (f Facts) u32(at int) int64 {
	if at+4 > len(f) {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(f[at:]))
}

func (f Facts) u64(at int) uint64 {
	if at+8 > len(f) {
		return 0
	}
	return binary.LittleEndian.Uint64(f[at:])
}
