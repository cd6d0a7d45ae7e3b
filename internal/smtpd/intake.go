package smtpd

import (
	"bytes"

	"postamt/internal/message"
	"postamt/internal/smtp"
)

// maxHeader is how much of a header is held in memory and looked at. Fields that begin beyond it are stored unread.
const maxHeader = 256 << 10

// intake takes the octets of one message to the queue: trace fields first, then the header without Return-Path, then
// the body as it comes. A header that arrives in one block, as most do, is not copied.
type intake struct {
	w      Writer
	trace  []byte
	limit  int64
	hops   int
	finals []string // see transaction

	// missing returns fields to add for those that are not there; nil adds none.
	missing func(have fieldSet) []byte
	// author judges the values of the From fields; nil allows any.
	author func(from []string) *smtp.Reply

	size    int64
	id      string         // the Message-ID, as it is in the first such field
	lines   *smtp.Newlines // not nil: look for lone CR and LF (BDAT; DATA has looked itself)
	head    []byte         // what arrived of the header, while its end has not
	past    bool           // the header is written
	refused *smtp.Reply
	err     error // of the queue
}

// fieldSet says which fields a header has.
type fieldSet struct{ date, messageID, from bool }

// write takes the next octets. After a refusal it only counts them.
func (in *intake) write(p []byte) {
	in.size += int64(len(p))
	switch {
	case in.refused != nil:
		return
	case in.limit > 0 && in.size > in.limit:
		in.refuse(tooBig())
		return
	}
	if in.lines != nil {
		in.lines.Scan(p)
	}
	if in.past {
		in.put(p)
		return
	}
	if len(in.head) == 0 {
		if end := headerEnd(p, 0); end >= 0 {
			in.header(p, true)
			return
		}
	}
	from := max(0, len(in.head)-3)
	in.head = append(in.head, p...)
	if end := headerEnd(in.head, from); end >= 0 || len(in.head) >= maxHeader {
		head := in.head
		in.head = nil
		in.header(head, end >= 0)
	}
}

// finish says that the message is complete. False: it is refused.
func (in *intake) finish() bool {
	if in.refused == nil && in.lines != nil && in.lines.Err() != nil {
		in.refuse(bareNewline())
	}
	if in.refused == nil && !in.past {
		in.header(in.head, true)
	}
	return in.refused == nil
}

// refuse drops what the queue has of the message. The first reason counts.
func (in *intake) refuse(r *smtp.Reply) {
	if in.refused == nil {
		in.refused = r
	}
	in.abort()
}

func (in *intake) abort() {
	if in.w != nil {
		in.w.Abort()
		in.w = nil
	}
	in.head = nil
	if in.refused == nil {
		in.refused = storeReply(errAborted)
	}
}

func (in *intake) put(p []byte) {
	if in.refused != nil || len(p) == 0 {
		return
	}
	if _, err := in.w.Write(p); err != nil {
		in.err = err
		in.refuse(storeReply(err))
	}
}

// header looks at the header in b, writes the trace fields and then b. Whole says that b has all of the header.
func (in *intake) header(b []byte, whole bool) {
	in.past = true
	var have fieldSet
	var received, returnPaths, fields int
	var from []string
	looped := 0
	sc := message.Scan(b, whole)
	for {
		f, ok := sc.Next()
		if !ok {
			break
		}
		fields++
		switch {
		case f.Is("Received"):
			received++
		case f.Is("Return-Path"):
			returnPaths++
		case f.Is("Delivered-To"):
			looped += in.deliveredTo(f)
		case f.Is("Date"):
			have.date = true
		case f.Is("Message-ID"):
			if !have.messageID {
				have.messageID, in.id = true, string(bytes.TrimSpace(f.Value()))
			}
		case f.Is("From"):
			have.from = true
			if in.author != nil {
				from = append(from, string(f.Value()))
			}
		}
	}
	// RFC 5321 section 6.3: simple counting of Received fields. A Delivered-To with a recipient's mailbox in it says that
	// the message was there before; while another recipient has not seen it, it goes on, and the last server of the
	// one that has refuses it.
	if in.hops > 0 && received > in.hops || looped > 0 && looped == len(in.finals) {
		in.refuse(smtp.NewReply(554, "5.4.6", "mail loop"))
		return
	}
	if in.author != nil {
		r := in.author(from)
		if !whole {
			r = tooLongHeader() // the field that matters could be beyond what we look at
		}
		if r != nil {
			in.refuse(r)
			return
		}
	}
	in.put(in.trace)
	if in.missing != nil && whole { // else what seems to be missing may come yet
		in.put(in.missing(have))
	}
	// A first line that is not a field would, after our fields, be taken for a part of them or for their end, as the
	// reader likes. The empty line makes it text for all (S33).
	if fields == 0 && !bytes.HasPrefix(b, crlf) && (whole || !startsField(b)) {
		in.put(crlf)
	}
	if returnPaths > 0 {
		b = in.withoutReturnPath(b, whole)
	}
	in.put(b)
}

// startsField reports whether b, the beginning of a header longer than we look, begins with a field.
func startsField(b []byte) bool {
	sc := message.Scan(b, true)
	_, ok := sc.Next()
	return ok
}

// withoutReturnPath writes the fields of b up to the last Return-Path field, and returns what follows it.
// RFC 5321 section 4.4: it is the last server's to write.
func (in *intake) withoutReturnPath(b []byte, whole bool) []byte {
	from := 0
	sc := message.Scan(b, whole)
	for {
		f, ok := sc.Next()
		if !ok {
			return b[from:]
		}
		if f.Is("Return-Path") {
			in.put(b[from:f.Offset])
			from = f.Offset + len(f.Raw)
		}
	}
}

// deliveredTo counts the recipients whose mailbox the field names, and forgets them.
func (in *intake) deliveredTo(f message.Field) (n int) {
	v := bytes.Trim(f.Value(), " \t\r\n<>")
	for i, k := range in.finals {
		if k != "" && bytes.EqualFold(v, []byte(k)) {
			in.finals[i] = ""
			n++
		}
	}
	return n
}

var crlf = []byte("\r\n")

// headerEnd is where the body begins in b, or -1 when the empty line is not there yet. What is before from was looked at.
func headerEnd(b []byte, from int) int {
	if from == 0 && bytes.HasPrefix(b, crlf) {
		return 2
	}
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return -1
}
