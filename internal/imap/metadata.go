package imap

import (
	"bytes"
	"strings"
)

// GetMetadata is what GETMETADATA asks for (RFC 5464).
type GetMetadata struct {
	MaxSize int64 // -1: any
	Depth   int   // 0, 1, or -1 for infinity
	Mailbox string
	Entries []string
}

// MetadataEntry is an entry with its value.
type MetadataEntry struct {
	Name  string // lower case
	Value []byte // nil: NIL, the entry is to go
}

const maxEntries = 200

// GetMetadata reads [getmetadata-options SP] mailbox SP entries, or mailbox SP getmetadata-options SP entries: RFC 5464 has the one in its grammar and the other in
// its examples, and clients send both. Entries begin with a slash, so a list that begins with a letter is one of options.
func (d *Decoder) GetMetadata() GetMetadata {
	g := GetMetadata{MaxSize: -1}
	options := func() {
		d.NonEmptyList(8, func() { d.metadataOption(&g) })
		d.SP()
	}
	if d.Is('(') {
		options()
	}
	g.Mailbox = d.Mailbox()
	if d.SP(); d.Is('(') && d.pos+1 < len(d.line) && isWordChar(d.line[d.pos+1]) {
		options()
	}
	if d.Is('(') {
		d.NonEmptyList(maxEntries, func() { g.Entries = append(g.Entries, d.Entry()) })
	} else {
		g.Entries = []string{d.Entry()}
	}
	return g
}

func (d *Decoder) metadataOption(g *GetMetadata) {
	switch string(d.word()) {
	case "MAXSIZE":
		g.MaxSize = int64(d.SP().Number())
	case "DEPTH":
		switch string(d.SP().word()) {
		case "0":
			g.Depth = 0
		case "1":
			g.Depth = 1
		case "INFINITY":
			g.Depth = -1
		default:
			d.Fail("unknown depth")
		}
	default:
		d.Fail("unknown metadata option")
	}
}

// Entry reads entry = astring, lower case. RFC 5464 section 4.1: it begins with "/", has no empty component, no wildcards, and is of ASCII.
func (d *Decoder) Entry() string {
	s := d.AString()
	ok := len(s) > 1 && s[0] == '/' && s[len(s)-1] != '/' && !strings.Contains(s, "//")
	for i := 0; i < len(s); i++ {
		ok = ok && s[i] >= ' ' && s[i] < 0x7f && s[i] != '*' && s[i] != '%'
	}
	if !ok {
		d.Fail("not an entry name")
	}
	return strings.ToLower(s)
}

// EntryValues reads entry-values = "(" entry SP value *(SP entry SP value) ")", value = nstring / literal8.
func (d *Decoder) EntryValues() (entries []MetadataEntry) {
	d.NonEmptyList(maxEntries, func() {
		e := MetadataEntry{Name: d.Entry()}
		switch d.SP(); d.peek() {
		case '~', '{':
			e.Value = d.heldLiteral(true)
		case '"':
			e.Value = []byte(d.quoted())
		default:
			d.null()
		}
		entries = append(entries, e)
	})
	return entries
}

// AppendEntryValue appends entry-value = entry SP value. A NUL makes the value a literal8; nil is NIL.
func AppendEntryValue(dst []byte, name string, value []byte, m Mode) []byte {
	dst = append(AppendAString(dst, name, m), ' ')
	if bytes.IndexByte(value, 0) >= 0 {
		return append(AppendLiteralSize(dst, int64(len(value)), true), value...)
	}
	return AppendNString(dst, value, m)
}

// IDParam is a field of ID (RFC 2971).
type IDParam struct{ Name, Value string }

// ID reads id-params-list = "(" [string SP nstring *(SP string SP nstring)] ")" / nil. NIL as a value is "".
func (d *Decoder) ID() (params []IDParam) {
	if !d.Is('(') {
		d.null()
		return nil
	}
	// RFC 2971 section 3.3: at most 30.
	d.List(30, func() {
		p := IDParam{Name: d.String()}
		p.Value, _ = d.SP().NString()
		params = append(params, p)
	})
	return params
}

// QuotaLimit is setquota-resource (RFC 9208).
type QuotaLimit struct {
	Resource string // upper case
	Limit    int64
}

// QuotaLimits reads setquota-list = "(" [setquota-resource *(SP setquota-resource)] ")".
func (d *Decoder) QuotaLimits() (limits []QuotaLimit) {
	d.List(16, func() {
		q := QuotaLimit{Resource: d.Keyword()}
		q.Limit = d.SP().Number64()
		limits = append(limits, q)
	})
	return limits
}
