package imap

// An ENVELOPE (RFC 9051 section 7.5.2) is its ten fields in their order, with a space before each but the first:
//
//	dst = append(dst, '(')
//	dst = AppendNString(dst, date, m); dst = append(dst, ' ')
//	dst = AppendNString(dst, subject, m)
//	for each of from, sender, reply-to, to, cc, bcc {
//		dst = append(dst, ' ')
//		list := len(dst)
//		dst = append(dst, '(')
//		for each address { dst = AppendAddress(dst, name, route, mailbox, host, m) }
//		dst = EndList(dst, list)
//	}
//	dst = append(dst, ' '); dst = AppendNString(dst, inReplyTo, m)
//	dst = append(dst, ' '); dst = AppendNString(dst, messageID, m)
//	dst = append(dst, ')')
//
// AppendEnvelope does that.

// AddressField is one of the fields of an envelope that have addresses.
type AddressField uint8

// In their order.
const (
	From AddressField = iota
	Sender
	ReplyTo
	To
	Cc
	Bcc
)

// Addresses appends the addresses of a field, each with AppendAddress, AppendGroup or AppendGroupEnd, and nothing else.
type Addresses interface {
	AppendAddresses(dst []byte, f AddressField, m Mode) []byte
}

// AppendEnvelope appends an ENVELOPE. A text that is nil is NIL. It allocates nothing, if a is a pointer.
func AppendEnvelope(dst, date, subject, inReplyTo, messageID []byte, a Addresses, m Mode) []byte {
	dst = AppendNString(append(dst, '('), date, m)
	dst = AppendNString(append(dst, ' '), subject, m)
	for f := From; f <= Bcc; f++ {
		dst = append(dst, ' ')
		list := len(dst)
		dst = EndList(a.AppendAddresses(append(dst, '('), f, m), list)
	}
	dst = AppendNString(append(dst, ' '), inReplyTo, m)
	dst = AppendNString(append(dst, ' '), messageID, m)
	return append(dst, ')')
}

// AppendAddress appends address = "(" addr-name SP addr-adl SP addr-mailbox SP addr-host ")". Name and route are NIL when they are empty, mailbox and host are not: a NIL
// there means a group.
func AppendAddress[T Text](dst []byte, name, route, mailbox, host T, m Mode) []byte {
	dst = AppendOrNIL(append(dst, '('), name, m)
	dst = AppendOrNIL(append(dst, ' '), route, m)
	dst = AppendString(append(dst, ' '), mailbox, m)
	dst = AppendString(append(dst, ' '), host, m)
	return append(dst, ')')
}

// AppendGroup appends the beginning of a group.
func AppendGroup[T Text](dst []byte, name T, m Mode) []byte {
	return append(AppendString(append(dst, "(NIL NIL "...), name, m), " NIL)"...)
}

// AppendGroupEnd appends the end of a group.
func AppendGroupEnd(dst []byte) []byte { return append(dst, "(NIL NIL NIL NIL)"...) }
