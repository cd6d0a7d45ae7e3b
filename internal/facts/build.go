package facts

import (
	"bytes"
	"encoding/binary"

	"postamt/internal/message"
)

const (
	maxFields = 24 << 10 // so that there is room for what can be said in fewer octets
	window    = 1 << 10  // how far from where it is expected a text is looked for
)

// builder makes Facts. A group that does not fit is taken back.
type builder struct {
	b     []byte
	full  bool // something did not fit
	near  int  // where the next text may be already
	value []byte

	kept  []field                    // the fields of the set
	first [len(names)]*message.Field // the first of each name
	where [len(names)]int            // where it stands; 0: it does not
}

type field struct {
	message.Field
	name int
}

// build leaves them in b.b, but for the object ids, for which it returns the message ids: the message's own, and those that it refers to.
func (b *builder) build(m *message.Message) (own string, refs []string) {
	b.scan(m.Root)
	own, refs = b.threadIDs()
	b.b = append(b.b[:0], make([]byte, fixedSize)...)
	b.b[0] = Form
	clear(b.where[:])
	binary.LittleEndian.PutUint64(b.b[atWire:], uint64(m.Wire))
	b.group(Fields, func() { b.fields(m) })
	b.group(Envelopes, func() { b.envelope(m.Root.Envelope()) })
	b.group(Thread, func() { b.thread(own, refs) })
	b.group(Structure, func() { b.structure(m.Root) })
	return own, refs
}

// scan finds the fields of the set.
func (b *builder) scan(root *message.Part) {
	b.kept = b.kept[:0]
	for s := message.Scan(root.Fields(), true); ; {
		f, ok := s.Next()
		if !ok {
			break
		}
		if name := number(string(f.Name())); name >= 0 {
			b.kept = append(b.kept, field{f, name})
		}
	}
	clear(b.first[:])
	for i := range b.kept {
		if f := &b.kept[i]; b.first[f.name] == nil {
			b.first[f.name] = &f.Field
		}
	}
}

// threadIDs are the message ids of Message-ID, and of References. RFC 5256 section 3: the first of In-Reply-To, when there are none in References.
func (b *builder) threadIDs() (own string, refs []string) {
	ids := func(name string) []string {
		f := b.first[number(name)]
		if f == nil {
			return nil
		}
		return message.MessageIDs(string(f.AppendText(nil)))
	}
	if l := ids("Message-ID"); len(l) > 0 {
		own = l[0]
	}
	if refs = ids("References"); len(refs) == 0 {
		refs = ids("In-Reply-To")
		refs = refs[:min(1, len(refs))]
	}
	return own, refs
}

// group adds what make adds, or nothing and a note of that.
func (b *builder) group(g Group, make func()) {
	var fixed [fixedSize]byte
	copy(fixed[:], b.b)
	n := len(b.b)
	b.full = false
	make()
	if b.full {
		b.b = b.b[:n]
		copy(b.b, fixed[:])
		b.b[atFlags] |= byte(g)
		if g == Fields {
			clear(b.where[:])
		}
	}
}

// reserve makes n octets for a table, which are 0 until they are filled.
func (b *builder) reserve(n int) int {
	at := len(b.b)
	if b.full = b.full || at+n > MaxSize; !b.full {
		b.b = append(b.b, make([]byte, n)...)
	}
	return at
}

func (b *builder) put(at, where, n int) {
	if !b.full {
		binary.LittleEndian.PutUint16(b.b[at:], uint16(where))
		binary.LittleEndian.PutUint16(b.b[at+2:], uint16(n))
	}
}

// text puts a text at a place. It is looked for near what was used last. One with a NUL is not: it could be found in a table that is yet to be filled.
func (b *builder) text(at int, s []byte) {
	if b.near > 0 && len(s) > 0 && !b.full && bytes.IndexByte(s, 0) < 0 {
		if i := bytes.Index(b.b[b.near:min(b.near+window+len(s), len(b.b))], s); i >= 0 {
			b.put(at, b.near+i, len(s))
			b.near += i + len(s)
			return
		}
	}
	where := len(b.b)
	if b.full = b.full || where+len(s) > MaxSize; !b.full {
		b.b = append(b.b, s...)
		b.put(at, where, len(s))
	}
}

// some puts a text that is not empty.
func (b *builder) some(at int, s string) {
	if s != "" {
		b.value = append(b.value[:0], s...)
		b.text(at, b.value)
	}
}

// in has the next texts be looked for in a field.
func (b *builder) in(name string) { b.near = b.where[number(name)] }

// fields keeps those of the set.
func (b *builder) fields(m *message.Message) {
	if b.full = m.Truncated; b.full {
		return
	}
	at := b.reserve(fieldSize * len(b.kept))
	b.put(atFields, at, len(b.kept))
	for i := range b.kept {
		f := &b.kept[i]
		where := len(b.b)
		if b.full = b.full || where+2*len(f.Raw)+2 > maxFields; b.full {
			return
		}
		b.b = appendWire(b.b, f.Raw)
		b.b[at+i*fieldSize] = byte(f.name)
		b.put(at+i*fieldSize+1, where, len(b.b)-where)
		if b.where[f.name] == 0 {
			b.where[f.name] = where
		}
	}
}

// appendWire appends a field in wire form, and with the line end that the last of a file may not have, or only half of.
func appendWire(dst, field []byte) []byte {
	for len(field) > 0 {
		line, rest, _ := bytes.Cut(field, []byte("\n"))
		dst = append(append(dst, bytes.TrimSuffix(line, []byte("\r"))...), "\r\n"...)
		field = rest
	}
	return dst
}

// envelope adds that of the message, and what is told from it.
func (b *builder) envelope(e *message.Envelope) {
	b.putEnvelope(atEnvelope, e, b.in)
	if e.Subject != nil {
		b.in("Subject")
		b.text(atSubject, []byte(message.Text(string(e.Subject))))
		base, changed := message.BaseSubject(string(e.Subject))
		b.near = int(binary.LittleEndian.Uint16(b.b[atSubject:])) // it is the end of that
		b.text(atBase, []byte(base))
		if changed {
			b.b[atFlags] |= byte(isReply)
		}
	}
	for _, d := range []struct {
		at   int
		name string
		list []message.Address
	}{{atDisplayFrom, "From", e.From}, {atDisplayTo, "To", e.To}} {
		if len(d.list) > 0 {
			b.in(d.name)
			name := d.list[0].Name
			if d.list[0].Kind == message.GroupBegin {
				name = d.list[0].Mailbox
			}
			b.some(d.at, message.Text(name))
		}
	}
	if t, ok := message.Date(string(e.Date)); ok {
		_, zone := t.Zone()
		binary.LittleEndian.PutUint64(b.b[atSent:], uint64(t.Unix()))
		binary.LittleEndian.PutUint16(b.b[atZone:], uint16(zone/60))
		b.b[atFlags] |= byte(hasDate)
	}
}

func (b *builder) putEnvelope(at int, e *message.Envelope, in func(field string)) {
	for i, t := range []struct {
		name string
		text []byte
	}{{"Date", e.Date}, {"Subject", e.Subject}, {"In-Reply-To", e.InReplyTo}, {"Message-ID", e.MessageID}} {
		if t.text != nil {
			in(t.name)
			b.text(at+4*i, t.text)
		}
	}
	from := 0 // where its addresses are: Sender and Reply-To mostly have none of their own
	for i, l := range []struct {
		name string
		list []message.Address
	}{{"From", e.From}, {"Sender", e.Sender}, {"Reply-To", e.ReplyTo}, {"To", e.To}, {"Cc", e.Cc}, {"Bcc", e.Bcc}} {
		if len(l.list) == 0 {
			continue
		}
		where := from
		if i == 0 || i > 2 || len(e.From) == 0 || &l.list[0] != &e.From[0] {
			in(l.name)
			where = b.addresses(l.list)
		}
		if i == 0 {
			from = where
		}
		b.put(at+16+4*i, where, len(l.list))
	}
}

func (b *builder) addresses(list []message.Address) int {
	where := b.reserve(addressSize * len(list))
	for i, a := range list {
		if b.full {
			return where
		}
		at := where + addressSize*i
		b.b[at] = byte(a.Kind)
		b.some(at+1, a.Name)
		b.some(at+5, a.Route)
		b.some(at+9, a.Mailbox)
		b.some(at+13, a.Host)
	}
	return where
}

// thread adds the message ids.
func (b *builder) thread(own string, refs []string) {
	if own != "" {
		b.in("Message-ID")
		b.some(atMessageID, own)
	}
	if b.in("References"); b.near == 0 {
		b.in("In-Reply-To")
	}
	at := b.reserve(4 * len(refs))
	b.put(atReferences, at, len(refs))
	for i, id := range refs {
		b.some(at+4*i, id)
	}
}

// structure adds the parts.
func (b *builder) structure(root *message.Part) {
	if root.Body.End() >= 1<<32 || root.Header.Wire+root.Body.Wire >= 1<<32 {
		b.full = true
		return
	}
	n := count(root)
	at := b.reserve(n * partSize)
	if b.full {
		return
	}
	binary.LittleEndian.PutUint16(b.b[atParts:], uint16(at))
	b.in("Content-Type")
	b.part(at, root)
}

func count(p *message.Part) int {
	n := 1
	if p.Message != nil {
		n += count(p.Message)
	}
	for _, c := range p.Children {
		n += count(c)
	}
	return n
}

// part puts a part and those in it, and returns where the next one is.
func (b *builder) part(at int, p *message.Part) int {
	next := at + partSize
	if b.full {
		return next
	}
	for i, n := range []int64{p.Header.Offset, p.Header.Octets, p.Header.Wire, p.Header.Lines, p.Body.Octets, p.Body.Wire, p.Body.Lines} {
		binary.LittleEndian.PutUint32(b.b[at+partHeader+4*i:], uint32(n))
	}
	for i, s := range [...]string{p.Type, p.Subtype, p.Encoding, p.ID, p.Description, p.MD5, p.Disposition, p.Location} {
		b.some(at+partTexts+4*i, s)
	}
	b.params(at+partParams, p.Params)
	b.params(at+partDisp, p.DispParams)
	if len(p.Language) > 0 {
		where := b.reserve(4 * len(p.Language))
		b.put(at+partLanguages, where, len(p.Language))
		for i, s := range p.Language {
			b.some(where+4*i, s)
		}
	}
	kind := byte(0)
	if p.Message != nil && !b.full {
		kind = kindMessage
		e := b.reserve(envelopeSize)
		if b.full {
			return next
		}
		binary.LittleEndian.PutUint16(b.b[at+partEnvelope:], uint16(e))
		b.putEnvelope(e, p.Message.Envelope(), func(string) { b.near = e })
		b.recent()
		next = b.part(next, p.Message)
	}
	for _, c := range p.Children {
		kind = kindMultipart
		b.recent()
		next = b.part(next, c)
	}
	if b.full {
		return next
	}
	b.b[at+partKind] = kind
	binary.LittleEndian.PutUint16(b.b[at+partCount:], uint16((next-at)/partSize))
	return next
}

// recent has the next texts be looked for among the last ones: parts have much in common.
func (b *builder) recent() { b.near = max(len(b.b)-window/2, fixedSize) }

func (b *builder) params(at int, ps message.Params) {
	if len(ps) == 0 || b.full {
		return
	}
	ps = ps.Joined()
	where := b.reserve(paramSize * len(ps))
	b.put(at, where, len(ps))
	for i, p := range ps {
		b.some(where+paramSize*i, p.Name)
		b.some(where+paramSize*i+4, p.Value)
	}
}
