package imap

import "time"

// DataKind says how the message of an APPEND or REPLACE is sent.
type DataKind uint8

const (
	DataLiteral  DataKind = iota // a literal, or a literal8 (RFC 3516)
	DataUTF8                     // UTF8 (literal8): it may have UTF-8 in its header (RFC 6855 section 4)
	DataCatenate                 // CATENATE (parts) (RFC 4469)
)

// AppendMessage is append-message (RFC 4466) up to where its data begins.
type AppendMessage struct {
	Flags   []string
	Date    time.Time // zero: none
	Kind    DataKind
	Literal Literal // not of DataCatenate: to be judged, and given to Open
}

// AppendMessage reads [SP flag-list] [SP date-time] SP append-data, the data up to its octets.
//
//	m := d.AppendMessage()     // d.Err, judge m.Literal.Size, then
//	io.Copy(f, d.Open(m.Literal))
//	d.AppendEnd(m)
//	d.More()                   // another message (RFC 3502)
//
// With CATENATE in place of Open:
//
//	for p, ok := d.CatenatePart(); ok; p, ok = d.CatenatePart() { … p.URL, or d.Open(p.Literal) }
func (d *Decoder) AppendMessage() (m AppendMessage) {
	if d.SP(); d.Is('(') {
		m.Flags = d.FlagList()
		d.SP()
	}
	if d.Is('"') {
		m.Date = d.DateTime()
		d.SP()
	}
	switch d.peek() {
	case '{', '~':
		m.Literal, _ = d.announced(true)
		return m
	}
	switch string(d.word()) {
	case "UTF8":
		m.Kind = DataUTF8
		m.Literal = d.SP().utf8Literal()
	case "CATENATE":
		m.Kind = DataCatenate
		d.SP().Expect('(')
		d.parts, d.closing = 0, false
	default:
		d.Fail("a message is needed")
	}
	return m
}

// utf8Literal reads "(" literal8, up to its octets. The ")" follows them.
func (d *Decoder) utf8Literal() Literal {
	l, ok := d.Expect('(').announced(true)
	if ok && !l.Binary {
		d.Fail("a literal8 is needed")
	}
	return l
}

// AppendEnd takes what follows the octets of the message.
func (d *Decoder) AppendEnd(m AppendMessage) {
	if m.Kind == DataUTF8 {
		d.Expect(')')
	}
}

// CatenatePart is cat-part: a URL, or a text.
type CatenatePart struct {
	URL     string
	Text    bool
	UTF8    bool // of a Text: UTF8 (literal8)
	Literal Literal
}

// CatenatePart reads the next part; false at the ")" behind the last, or after an error.
func (d *Decoder) CatenatePart() (p CatenatePart, ok bool) {
	if d.closing {
		d.closing = false
		d.Expect(')')
	}
	if d.parts > 0 {
		if d.Skip(')') {
			return p, false
		}
		d.SP()
	}
	d.parts++
	switch string(d.word()) {
	case "URL":
		p.URL = d.SP().AString()
	case "TEXT":
		p.Text = true
		p.Literal, _ = d.SP().announced(false)
	case "UTF8":
		p.Text, p.UTF8 = true, true
		p.Literal = d.SP().utf8Literal()
		d.closing = true
	default:
		d.Fail("URL or TEXT is needed")
	}
	return p, d.err == nil
}
