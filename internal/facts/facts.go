package facts

import "encoding/binary"

// Form is the number of the form that Describe makes. Another is of another time, and to be made anew.
const Form = 2

// MaxSize is the most octets that Facts have, of the worst message that there can be; the package comment has the sum.
const MaxSize = 32 << 20

// Where things are: first octets, then words.
const (
	atFlags    = 1
	atZone     = 2
	atSent     = 4
	atWire     = 12
	atEmailID  = 20
	atThreadID = 35
	atWords    = 50

	idSize = 15

	// words from there
	wordParts       = 0
	wordFields      = 1
	wordEnvelope    = 3
	wordSubject     = 23
	wordBase        = 25
	wordDisplayFrom = 27
	wordDisplayTo   = 29
	wordMessageID   = 31
	wordReferences  = 33
	words           = 35

	envelopeLists = 8 // words of an envelope before them
)

// The flags.
const (
	isWide = 1 << iota
	hasDate
	isReply
	isTruncated
)

const (
	// The widths of a word, in octets.
	narrow = 2
	wide   = 4

	most = 1<<30 - 1 // what is read of a wide word: the sum of two is an int everywhere
)

// size is that of an element: words, and 64 for an octet before them.
type size int

const (
	textSize     size = 2
	paramSize    size = 4
	envelopeSize size = 20
	fieldSize    size = 1<<6 + 2
	addressSize  size = 1<<6 + 8
	partSize     size = 1<<6 + 38
)

// in is how many octets it is, when a word has w.
func (s size) in(w int) int { return int(s>>6) + int(s&63)*w }

func fixedSize(w int) int { return atWords + words*w }

// Facts are what Describe made. They may be any octets: then the values mean nothing, and no method fails. The zero value says of everything that it is not there.
type Facts []byte

// Valid: they have the form that this package reads.
func (f Facts) Valid() bool { return len(f) >= fixedSize(f.width()) && f[0] == Form }

// Truncated: a header of the message is longer than what message.Parse keeps of one. The fields may be fewer and shorter here than they are in the file, which must be
// asked then; all else is what Parse made of what it kept.
func (f Facts) Truncated() bool { return f.flag(isTruncated) }

// Wire is the number of octets in wire form.
func (f Facts) Wire() int64 { return int64(f.u64(atWire)) }

// Sent is the Date field: seconds since 1970, and its zone, seconds east of UTC. The day that it names is that of the sum. False: there is none
// that can be read.
func (f Facts) Sent() (seconds int64, zone int, ok bool) {
	return int64(f.u64(atSent)), int(int16(f.u16(atZone))) * 60, f.flag(hasDate)
}

// Subject is the subject decoded, in UTF-8; nil: there is none.
func (f Facts) Subject() []byte { return f.text(atWords, wordSubject) }

// BaseSubject is that of RFC 5256 section 2.1.
func (f Facts) BaseSubject() []byte { return f.text(atWords, wordBase) }

// IsReply: the subject makes it a reply or a forward (RFC 5256 section 3).
func (f Facts) IsReply() bool { return f.flag(isReply) }

// DisplayFrom is the name of the first address of From, decoded; nil: it has none. RFC 5957 section 3 has the mailbox then.
func (f Facts) DisplayFrom() []byte { return f.text(atWords, wordDisplayFrom) }

// DisplayTo is that of To.
func (f Facts) DisplayTo() []byte { return f.text(atWords, wordDisplayTo) }

// MessageID is the message id without its angle brackets, quotes and comments; nil: there is none.
func (f Facts) MessageID() []byte { return f.text(atWords, wordMessageID) }

// References are the message ids of References, or else the first of In-Reply-To (RFC 5256 section 3).
func (f Facts) References() Texts { return Texts{f, f.list(atWords, wordReferences, textSize)} }

// Envelope is that of the message.
func (f Facts) Envelope() Envelope { return Envelope{f, atWords + wordEnvelope*f.width()} }

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
	l, size := f.list(atWords, wordFields, fieldSize), fieldSize.in(f.width())
	for at, end := l.at, l.at+l.n*size; at < end; at += size {
		if want>>f[at]&1 != 0 {
			b = append(b, f.text(at+1, 0)...)
		}
	}
	return b
}

// Envelope has the values of message.Envelope: a field that is absent is nil, one that is empty is not.
type Envelope struct {
	f  Facts
	at int // 0: there is none
}

func (e Envelope) text(i int) []byte { return e.f.text(e.at, 2*i) }
func (e Envelope) addresses(i int) Addresses {
	return Addresses{e.f, e.f.list(e.at, envelopeLists+2*i, addressSize)}
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
	at := a.l.at + i*addressSize.in(a.f.width())
	return Address{a.f[at], a.f.text(at+1, 0), a.f.text(at+1, 2), a.f.text(at+1, 4), a.f.text(at+1, 6)}
}

// First is the mailbox of the first one (addr-mailbox of RFC 9051), by which RFC 5256 section 3 sorts; nil: there is none.
func (a Addresses) First() []byte {
	if a.l.n == 0 {
		return nil
	}
	return a.At(0).Mailbox
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
func (t Texts) At(i int) []byte { return t.f.text(t.l.at, 2*i) }

// Params is a list of parameters, as message.Params.Joined has them.
type Params struct {
	f Facts
	l list
}

// Len is how many there are.
func (p Params) Len() int { return p.l.n }

// At is one of them.
func (p Params) At(i int) (name, value []byte) {
	return p.f.text(p.l.at, 4*i), p.f.text(p.l.at, 4*i+2)
}

// list is n elements at a place, all of them within the octets.
type list struct{ at, n int }

// width is how many octets a word has.
func (f Facts) width() int {
	if len(f) <= atFlags {
		return narrow
	}
	return narrow << (f[atFlags] & isWide)
}

// word is the i-th of those at a place.
func (f Facts) word(at, i int) int {
	w := f.width()
	if at += i * w; at+w > len(f) {
		return 0
	}
	if w == narrow {
		return int(binary.LittleEndian.Uint16(f[at:]))
	}
	return int(binary.LittleEndian.Uint32(f[at:]) & most)
}

// pair is two words: where something is, and how long it is or how many follow each other.
func (f Facts) pair(at, w int) (where, n int) {
	if at+2*w > len(f) {
		return 0, 0
	}
	if w == narrow {
		v := binary.LittleEndian.Uint32(f[at:])
		return int(v & 0xffff), int(v >> 16)
	}
	v := binary.LittleEndian.Uint64(f[at:])
	return int(v & most), int(v >> 32 & most)
}

// number is a number in two words.
func (f Facts) number(at, w int) int64 {
	if w == narrow {
		if at+4 > len(f) {
			return 0
		}
		return int64(binary.LittleEndian.Uint32(f[at:]))
	}
	return int64(f.u64(at) & (1<<63 - 1))
}

// list is that of which the words are the i-th and the next of those at a place, and its elements have a size.
func (f Facts) list(at, i int, s size) list {
	w := f.width()
	where, n := f.pair(at+i*w, w)
	if at == 0 || int64(where)+int64(n)*int64(s.in(w)) > int64(len(f)) {
		return list{}
	}
	return list{where, n}
}

// text is that of which the words are the i-th and the next of those at a place. At 0 there are none, nor are texts.
func (f Facts) text(at, i int) []byte {
	w := f.width()
	where, n := f.pair(at+i*w, w)
	if at == 0 || where == 0 || where+n > len(f) {
		return nil
	}
	return f[where : where+n : where+n]
}

func (f Facts) octet(at int) byte {
	if at >= len(f) {
		return 0
	}
	return f[at]
}

func (f Facts) flag(g byte) bool { return f.octet(atFlags)&g != 0 }

func (f Facts) u64(at int) uint64 {
	if at+8 > len(f) {
		return 0
	}
	return binary.LittleEndian.Uint64(f[at:])
}

func (f Facts) u16(at int) uint16 {
	if at+2 > len(f) {
		return 0
	}
	return binary.LittleEndian.Uint16(f[at:])
}
