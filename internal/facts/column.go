package facts

import (
	"bytes"
	"encoding/binary"

	"postamt/internal/match"
	"postamt/internal/message"
)

// The columns: what SEARCH, SORT and THREAD ask of all messages of a mailbox, which is to be had without the rest of the facts. AppendColumn makes them of facts, and the functions
// below read them. Other columns are another Form.
const (
	ColumnSent     = iota // Sent
	ColumnBase            // IsReply, and BaseSubject (match.AppendSort)
	ColumnSubject         // the texts of the fields Subject: InColumn
	ColumnFrom            // of the fields From, and the addresses of the envelope
	ColumnTo              // of the fields To, and the same
	ColumnSortFrom        // addr-mailbox of the first address of From (match.AppendSort)
	ColumnSortTo          // of To
	ColumnThread          // MessageID and References
	Columns
)

// separator begins each field of a text column. It is in no folded text but for an octet that was no UTF-8, and in no key.
const separator = 0xff

// AppendColumn appends a column of facts.
func AppendColumn(dst, facts []byte, column int) []byte {
	f := Facts(facts)
	switch column {
	case ColumnSent:
		if seconds, zone, ok := f.Sent(); ok {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(seconds))
			dst = binary.LittleEndian.AppendUint16(dst, uint16(zone/60))
		}
	case ColumnBase:
		reply := byte(0)
		if f.IsReply() {
			reply = 1
		}
		dst = match.AppendSort(append(dst, reply), f.BaseSubject())
	case ColumnSubject:
		dst = f.appendTexts(dst, number("Subject"))
	case ColumnFrom:
		dst = f.appendAddresses(f.appendTexts(dst, number("From")), f.Envelope().From())
	case ColumnTo:
		dst = f.appendAddresses(f.appendTexts(dst, number("To")), f.Envelope().To())
	case ColumnSortFrom:
		dst = match.AppendSort(dst, f.Envelope().From().First())
	case ColumnSortTo:
		dst = match.AppendSort(dst, f.Envelope().To().First())
	case ColumnThread:
		dst = appendID(dst, f.MessageID())
		for refs, i := f.References(), 0; i < refs.Len(); i++ {
			dst = appendID(dst, refs.At(i))
		}
	}
	return dst
}

func appendID(dst, id []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(id))), id...)
}

// appendTexts appends the fields of a name, unfolded, decoded and folded for comparison. Of a header that is only begun here nothing is: the file must be asked.
func (f Facts) appendTexts(dst []byte, name int) []byte {
	if f.Truncated() {
		return append(dst, 0)
	}
	var text []byte
	for s := message.Scan(f.AppendFields(nil, 1<<name), true); ; {
		field, ok := s.Next()
		if !ok {
			return dst
		}
		text = field.AppendText(text[:0])
		if bytes.Contains(text, []byte("=?")) {
			text = []byte(message.Text(string(text)))
		}
		dst = match.AppendFold(append(dst, separator), text)
	}
}

// appendAddresses appends mailbox@host of addresses that are not in the texts before them as they are, because they have comments or quotes in them.
func (f Facts) appendAddresses(dst []byte, list Addresses) []byte {
	end := len(dst)
	for i := range list.Len() {
		a := list.At(i)
		at := len(dst)
		dst = append(match.AppendFold(append(dst, separator), a.Mailbox), '@')
		if dst = match.AppendFold(dst, a.Host); bytes.Contains(dst[:end], dst[at+1:]) {
			dst = dst[:at]
		}
	}
	return dst
}

// InColumn reports whether a field of a text column has a key in it. Not known: the file must be asked.
func InColumn(value []byte, key *match.Key) (in, known bool) {
	if len(value) == 0 {
		return false, true
	}
	return key.InFolded(value), value[0] == separator
}

// SentOf is Sent of its column.
func SentOf(value []byte) (seconds int64, zone int, ok bool) {
	if len(value) < 10 {
		return 0, 0, false
	}
	return int64(binary.LittleEndian.Uint64(value)), int(int16(binary.LittleEndian.Uint16(value[8:]))) * 60, true
}

// BaseOf is BaseSubject of its column, folded, and IsReply.
func BaseOf(value []byte) (base []byte, reply bool) {
	if len(value) == 0 {
		return nil, false
	}
	return value[1:], value[0] != 0
}

// NextID is the next message id of ColumnThread: MessageID, nil if there is none, then each of References. False: there is no more.
func NextID(value []byte) (id, rest []byte, ok bool) {
	n, size := binary.Uvarint(value)
	if size <= 0 || n > uint64(len(value)-size) {
		return nil, nil, false
	}
	id, rest = value[size:][:n], value[size:][n:]
	return id, rest, true
}
