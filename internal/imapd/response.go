package imapd

import (
	"bytes"
	"fmt"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/message"
)

// response is one FETCH response while it is made.
type response struct {
	u *user
	m *mailbox.Message
	original
	sent bool // some of it, so that it must be finished
}

// original is a message of which something is to be read.
type original struct {
	box   *mailbox.Mailbox
	uid   uint32
	known facts.Facts
	file  *mailbox.File

	fields []byte // room for header fields
}

func (r *original) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// append appends an item and a space. Octets of the message's file are sent at once, and what was in b before them.
func (r *response) append(b []byte, item *imap.FetchItem, x *same) ([]byte, error) {
	u, mode := r.u, r.u.c.Mode
	switch item.Kind {
	case imap.FetchUID:
		if u.uidOnly { // it stands before the parentheses; but there is no response with nothing in them
			return append(imap.AppendNumber(append(b, "UID "...), uint64(r.m.UID)), ' '), nil
		}
		return b, nil // it is there
	case imap.FetchFlags:
		return append(u.appendFlags(append(b, "FLAGS "...), r.m), ' '), nil
	case imap.FetchModSeq:
		return append(imap.AppendNumber(append(b, "MODSEQ ("...), r.m.ModSeq), ") "...), nil
	case imap.FetchInternalDate:
		t, err := u.view.box.Date(r.m.UID)
		return append(imap.AppendDateTime(append(b, "INTERNALDATE "...), t), ' '), err
	case imap.FetchSaveDate: // RFC 8514 section 4.2
		t, ok, err := u.view.box.SaveDate(r.m.UID)
		if b = append(b, "SAVEDATE "...); !ok {
			return append(b, "NIL "...), err
		}
		return append(imap.AppendDateTime(b, t), ' '), err
	case imap.FetchSize:
		n, err := u.view.box.Size(r.m.UID)
		return append(imap.AppendNumber(append(b, "RFC822.SIZE "...), uint64(n)), ' '), err
	case imap.FetchEnvelope:
		return append(appendEnvelope(append(b, "ENVELOPE "...), r.known.Envelope(), mode), ' '), nil
	case imap.FetchBody, imap.FetchBodyStructure:
		b = append(b, x.name...)
		return append(u.structure.append(b, r.known.Root(), item.Kind == imap.FetchBodyStructure, mode), ' '), nil
	case imap.FetchEmailID:
		return append(r.known.AppendEmailID(append(b, "EMAILID ("...)), ") "...), nil
	case imap.FetchThreadID:
		return append(r.known.AppendThreadID(append(b, "THREADID ("...)), ") "...), nil
	case imap.FetchPreview:
		return r.preview(b, item.Lazy)
	}
	b = append(b, x.name...)
	if x.fields != 0 && !r.known.Truncated() {
		r.fields = r.known.AppendFields(r.fields[:0], x.fields)
		text := partOfFields(r.fields, &item.Section)
		return append(append(imap.AppendLiteralSize(b, int64(len(text)), false), text...), ' '), nil
	}
	s := item.Section
	switch item.Kind {
	case imap.FetchRFC822:
		s = imap.Section{}
	case imap.FetchRFC822Header:
		s = imap.Section{Text: imap.SectionHeader}
	case imap.FetchRFC822Text:
		s = imap.Section{Text: imap.SectionBody}
	case imap.FetchSection:
	case imap.FetchBinary, imap.FetchBinarySize:
		return r.binary(b, item)
	default:
		return b, fmt.Errorf("imapd: FETCH of kind %d", item.Kind)
	}
	return r.section(b, &s)
}

// preview appends a PREVIEW (RFC 8970 section 3). Section 4.1: with LAZY it is NIL rather than that a file is opened for it.
func (r *response) preview(b []byte, lazy bool) ([]byte, error) {
	if b = append(b, "PREVIEW "...); lazy && r.file == nil {
		return append(b, "NIL "...), nil
	}
	f, err := r.open()
	if err != nil {
		return b, err
	}
	text, err := r.known.Preview(f)
	if err != nil {
		return b, fmt.Errorf("imapd: preview of message %d: %w", r.uid, err)
	}
	return append(imap.AppendString(b, text, r.u.c.Mode), ' '), nil
}

// section appends what is in a section of the message, or NIL.
func (r *response) section(b []byte, s *imap.Section) ([]byte, error) {
	span, ok, err := r.span(s)
	if err != nil {
		return b, err
	}
	if !ok {
		return append(b, "NIL "...), nil
	}
	if s.Text == imap.SectionHeaderFields || s.Text == imap.SectionHeaderFieldsNot {
		text, err := r.headerFields(s, span)
		return append(append(imap.AppendLiteralSize(b, int64(len(text)), false), text...), ' '), err
	}
	skip, count := partOf(s, span.Wire)
	if count == 0 {
		return append(b, `"" `...), nil
	}
	f, err := r.open()
	if err != nil {
		return b, err
	}
	r.u.send(imap.AppendLiteralSize(b, count, false))
	r.sent = true
	missing, err := copySpan(r.u.c, f, span.Offset, span.Octets, skip, count)
	// M12, M07: the client waits for octets that there are not, or would take a part for all.
	if err == nil && (missing > 0 || missing < 0 && !s.Partial) {
		r.u.view.box.Measure(r.m.UID)
		err = fmt.Errorf("imapd: message %d has not the octets that it is known to have", r.m.UID)
	}
	return append(r.u.buf[:0], ' '), err
}

// partOf is how many octets of a section with size octets are skipped, and how many follow then.
func partOf(s *imap.Section, size int64) (skip, count int64) {
	if !s.Partial {
		return 0, size
	}
	skip = min(s.Offset, size)
	return skip, min(s.Count, size-skip)
}

// open opens the file of the message.
func (r *original) open() (f *mailbox.File, err error) {
	if r.file == nil {
		r.file, err = r.box.File(r.uid)
	}
	return r.file, err
}

// span finds a section in the message. False: there is none.
func (r *original) span(s *imap.Section) (span message.Span, ok bool, err error) {
	if len(s.Part) == 0 && s.Text == imap.SectionAll {
		n, err := r.box.Size(r.uid)
		return message.Span{Octets: 1 << 62, Wire: n}, true, err
	}
	p := r.known.Root()
	if len(s.Part) > 0 {
		if p, ok = findPart(p, s.Part); !ok {
			return span, false, nil
		}
		switch s.Text {
		case imap.SectionAll:
			return p.Body(), true, nil
		case imap.SectionMIME:
			return p.Header(), true, nil
		}
		// RFC 9051 section 6.4.5.1: of a part HEADER and TEXT are those of the message in it.
		if !p.IsMessage() {
			return span, false, nil
		}
		if p, ok = p.First(); !ok {
			return span, false, nil
		}
	}
	if s.Text == imap.SectionBody {
		return p.Body(), true, nil
	}
	return p.Header(), true, nil
}

// findPart finds a part by its number (RFC 9051 section 6.4.5.1): parts of a multipart are counted from 1; what is none has one part, itself; the parts of a message
// in a part are those of its body.
func findPart(root facts.Part, path []uint32) (p facts.Part, ok bool) {
	in, ok := root, true // whose parts are counted
	for _, n := range path {
		if !ok {
			return p, false
		}
		if in.IsMultipart() {
			p, ok = in.First()
			for ; ok && n > 1; n-- {
				p, ok = p.Next(in)
			}
		} else {
			p, ok = in, n == 1
		}
		if !ok {
			return p, false
		}
		switch {
		case p.IsMessage():
			in, ok = p.First()
		case p.IsMultipart():
			in = p
		default:
			ok = false // and only an end of the path is right now
			in = facts.Part{}
		}
	}
	return p, true
}

// maxHeader is how much of a header is looked through for fields.
const maxHeader = 1 << 20

// headerFields are the fields of a header that are named, or those that are not, and the empty line.
func (r *original) headerFields(s *imap.Section, span message.Span) (text []byte, err error) {
	if want := knownFields(s); want != 0 && !r.known.Truncated() {
		r.fields = r.known.AppendFields(r.fields[:0], want)
		text = r.fields
	} else {
		f, err := r.open()
		if err != nil {
			return nil, err
		}
		header := make([]byte, min(span.Octets, maxHeader))
		n, err := f.ReadAt(header, span.Offset)
		if n < len(header) {
			return nil, fmt.Errorf("imapd: read the header of message %d: %w", r.uid, err)
		}
		text = appendHeaderFields(nil, header, s)
	}
	return partOfFields(text, s), nil
}

// partOfFields is what is asked for of fields, with the empty line behind them.
func partOfFields(text []byte, s *imap.Section) []byte {
	text = append(wireHeader(text), crlf...)
	skip, count := partOf(s, int64(len(text)))
	return text[skip : skip+count]
}

// knownFields are the fields of a header that are asked for, if facts have them all; else 0. Of a header of which not all was kept they have not.
func knownFields(s *imap.Section) (want facts.Names) {
	if s.Text != imap.SectionHeaderFields || len(s.Part) > 0 {
		return 0
	}
	for _, name := range s.Fields {
		n, ok := facts.Name(name)
		if !ok {
			return 0
		}
		want |= n
	}
	return want
}

// appendHeaderFields appends fields of a header, each with a line end.
func appendHeaderFields(dst, header []byte, s *imap.Section) []byte {
	for fields := message.Scan(header, true); ; {
		f, ok := fields.Next()
		if !ok {
			return dst
		}
		named := false
		for _, name := range s.Fields {
			named = named || f.Is(name)
		}
		if named == (s.Text == imap.SectionHeaderFields) {
			dst = append(dst, f.Raw...)
			if dst[len(dst)-1] != '\n' {
				dst = append(dst, '\n')
			}
		}
	}
}

// wireHeader gives whole lines the form of wireForm.
func wireHeader(b []byte) []byte {
	replace(b, 0, 0x80)
	if n := bytes.Count(b, crlf); n == bytes.Count(b, crlf[:1]) && n == bytes.Count(b, crlf[1:]) {
		return b // as most of the facts are
	}
	whole := make([]byte, 0, len(b)+len(b)/16)
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, crlf[1:]), crlf[:1])
		replace(line, '\r', ' ')
		whole = append(append(whole, line...), crlf...)
	}
	return whole
}
