package imap

// BodyPart is what BODYSTRUCTURE tells of a part (RFC 9051 section 7.5.2); the texts as the message has them, "" for what it has not.
type BodyPart[T Text] struct {
	Type, Subtype   T
	Params          []Param[T]
	ID, Description T
	Encoding        T
	Octets, Lines   uint64
	MD5             T
	Disposition     T
	DispParams      []Param[T]
	Language        []T
	Location        T
}

// Param is a parameter of a header field.
type Param[T Text] struct{ Name, Value T }

// BodyKind is the form of a part.
type BodyKind uint8

const (
	BodyBasic     BodyKind = iota // body-type-basic
	BodyText                      // body-type-text: with lines
	BodyMessage                   // body-type-msg: with envelope, body, lines
	BodyMultipart                 // body-type-mpart
)

// A body is BeginBody, what is in it, EndBody, with the same part and kind. In it there is
//
//	BodyMultipart  the bodies of its parts, at least one, without anything between them
//	BodyMessage    SP envelope SP body
//	the others     nothing
//
// The grammar takes the kind from the type: text has lines, message/rfc822 and message/global have a message in them. A part of another kind than its type says makes a
// response that clients cannot parse.

// Kind is the kind of the part; isMessage and isMultipart say whether the message was parsed so (message.Part has methods of these names).
func (p *BodyPart[T]) Kind(isMessage, isMultipart bool) BodyKind {
	switch {
	case isMultipart:
		return BodyMultipart
	case isMessage:
		return BodyMessage
	case foldIs(p.Type, "text"):
		return BodyText
	}
	return BodyBasic
}

func foldIs[T Text](s T, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(lower); i++ {
		if s[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// BeginBody appends the beginning of a body.
func BeginBody[T Text](dst []byte, p *BodyPart[T], kind BodyKind, m Mode) []byte {
	dst = append(dst, '(')
	if kind == BodyMultipart {
		return dst
	}
	dst = AppendString(dst, p.Type, m)
	dst = AppendString(append(dst, ' '), p.Subtype, m)
	dst = appendParams(append(dst, ' '), p.Params, m)
	dst = AppendOrNIL(append(dst, ' '), p.ID, m)
	dst = AppendOrNIL(append(dst, ' '), p.Description, m)
	dst = append(dst, ' ')
	if len(p.Encoding) == 0 {
		dst = append(dst, `"7BIT"`...) // RFC 2045 section 6.1
	} else {
		dst = AppendString(dst, p.Encoding, m)
	}
	return AppendNumber(append(dst, ' '), p.Octets)
}

// EndBody appends the end. extended says whether the extension data are in it: of BODYSTRUCTURE, not of BODY.
func EndBody[T Text](dst []byte, p *BodyPart[T], kind BodyKind, extended bool, m Mode) []byte {
	switch kind {
	case BodyText, BodyMessage:
		dst = AppendNumber(append(dst, ' '), p.Lines)
	case BodyMultipart:
		dst = AppendString(append(dst, ' '), p.Subtype, m)
	}
	if !extended {
		return append(dst, ')')
	}
	dst = append(dst, ' ')
	if kind == BodyMultipart {
		dst = appendParams(dst, p.Params, m)
	} else {
		dst = AppendOrNIL(dst, p.MD5, m)
	}
	dst = append(dst, ' ')
	if len(p.Disposition) == 0 {
		dst = append(dst, "NIL"...)
	} else {
		dst = AppendString(append(dst, '('), p.Disposition, m)
		dst = append(appendParams(append(dst, ' '), p.DispParams, m), ')')
	}
	dst = append(dst, ' ')
	list := len(dst)
	dst = append(dst, '(')
	for _, l := range p.Language {
		dst = AppendString(Space(dst, list), l, m)
	}
	dst = EndList(dst, list)
	dst = AppendOrNIL(append(dst, ' '), p.Location, m)
	return append(dst, ')')
}

// appendParams appends body-fld-param.
func appendParams[T Text](dst []byte, params []Param[T], m Mode) []byte {
	list := len(dst)
	dst = append(dst, '(')
	for _, p := range params {
		dst = AppendString(Space(dst, list), p.Name, m)
		dst = AppendString(append(dst, ' '), p.Value, m)
	}
	return EndList(dst, list)
}
