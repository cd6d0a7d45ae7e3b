package facts

import (
	"bytes"
	"encoding/binary"
	"sync"

	"postamt/internal/message"
)

const (
	maxNarrow = 1<<16 - 1 // octets of a record with narrow words
	window    = 1 << 10   // how far from where it is expected a text is looked for
)

// builder makes Facts.
type builder struct {
	b     []byte
	w     int // octets of a word
	near  int // where the next text may be already
	value []byte

	kept  []field                    // the fields of the set
	first [len(names)]*message.Field // the first of each name
	where [len(names)]int            // where it stands; 0: it does not
}

type field struct {
	message.Field
	name int
}

// build leaves them in b.b, but for the object ids, for which it returns the message ids: the message's own, and those that it refers to. Who makes wide
// ones has large locked: what they may need of memory nobody is to need several times at once.
func (b *builder) build(m *message.Message, large sync.Locker) (own string, refs []string) {
	b.scan(m.Root)
	own, refs = b.threadIDs()
	e := m.Root.Envelope()
	b.record(narrow, m, e, own, refs)
	if b.over() || m.Wire >= 1<<32 {
		large.Lock()
		defer large.Unlock()
		b.record(wide, m, e, own, refs)
	}
	return own, refs
}

// record makes them with words of a width.
func (b *builder) record(w int, m *message.Message, e *message.Envelope, own string, refs []string) {
	b.w = w
	b.b = append(b.b[:0], make([]byte, fixedSize(w))...)
	b.b[0] = Form
	if w == wide {
		b.b[atFlags] |= isWide
	}
	if m.Truncated {
		b.b[atFlags] |= isTruncated
	}
	binary.LittleEndian.PutUint64(b.b[atWire:], uint64(m.Wire))
	b.fields()
	b.envelope(e)
	b.thread(own, refs)
	b.structure(m.Root)
}

// over: they are longer than narrow words can say. What is made of them is good for nothing then, and need not be finished.
func (b *builder) over() bool { return b.w == narrow && len(b.b) > maxNarrow }

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

// reserve makes n octets for a table, which are 0 until they are filled.
func (b *builder) reserve(n int) int {
	at := len(b.b)
	b.b = append(b.b, make([]byte, n)...)
	return at
}

// word is where the i-th word of those at a place is.
func (b *builder) word(at, i int) int { return at + i*b.w }

func (b *builder) putWord(at, n int) {
	if b.w == narrow {
		binary.LittleEndian.PutUint16(b.b[at:], uint16(n))
	} else {
		binary.LittleEndian.PutUint32(b.b[at:], uint32(n))
	}
}

func (b *builder) put(at, where, n int) {
	b.putWord(at, where)
	b.putWord(b.word(at, 1), n)
}

func (b *builder) putNumber(at int, n int64) {
	if b.w == narrow {
		binary.LittleEndian.PutUint32(b.b[at:], uint32(n))
	} else {
		binary.LittleEndian.PutUint64(b.b[at:], uint64(n))
	}
}

// text puts a text at a place and returns where it is. It is looked for near what was used last. One with a NUL is not: it could be found in a table
// that is yet to be filled.
func (b *builder) text(at int, s []byte) (where int) {
	if b.near > 0 && len(s) > 0 && bytes.IndexByte(s, 0) < 0 {
		if i := bytes.Index(b.b[b.near:min(b.near+window+len(s), len(b.b))], s); i >= 0 {
			where = b.near + i
			b.put(at, where, len(s))
			b.near = where + len(s)
			return where
		}
	}
	where = len(b.b)
	b.b = append(b.b, s...)
	b.put(at, where, len(s))
	return where
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
func (b *builder) fields() {
	clear(b.where[:])
	at := b.reserve(fieldSize.in(b.w) * len(b.kept))
	b.put(b.word(atWords, wordFields), at, len(b.kept))
	for i := range b.kept {
		f := &b.kept[i]
		where := len(b.b)
		b.b = appendWire(b.b, f.Raw)
		b.b[at] = byte(f.name)
		b.put(at+1, where, len(b.b)-where)
		if at += fieldSize.in(b.w); b.where[f.name] == 0 {
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
	b.putEnvelope(b.word(atWords, wordEnvelope), e, b.in)
	if e.Subject != nil {
		b.in("Subject")
		where := b.text(b.word(atWords, wordSubject), []byte(message.Text(string(e.Subject))))
		base, changed := message.BaseSubject(string(e.Subject))
		b.near = where // it is the end of that
		b.text(b.word(atWords, wordBase), []byte(base))
		if changed {
			b.b[atFlags] |= isReply
		}
	}
	for _, d := range []struct {
		word int
		name string
		list []message.Address
	}{{wordDisplayFrom, "From", e.From}, {wordDisplayTo, "To", e.To}} {
		if len(d.list) > 0 {
			b.in(d.name)
			name := d.list[0].Name
			if d.list[0].Kind == message.GroupBegin {
				name = d.list[0].Mailbox
			}
			b.some(b.word(atWords, d.word), message.Text(name))
		}
	}
	if t, ok := message.Date(string(e.Date)); ok {
		_, zone := t.Zone()
		binary.LittleEndian.PutUint64(b.b[atSent:], uint64(t.Unix()))
		binary.LittleEndian.PutUint16(b.b[atZone:], uint16(zone/60))
		b.b[atFlags] |= hasDate
	}
}

func (b *builder) putEnvelope(at int, e *message.Envelope, in func(field string)) {
	for i, t := range []struct {
		name string
		text []byte
	}{{"Date", e.Date}, {"Subject", e.Subject}, {"In-Reply-To", e.InReplyTo}, {"Message-ID", e.MessageID}} {
		if t.text != nil {
			in(t.name)
			b.text(b.word(at, 2*i), t.text)
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
		b.put(b.word(at, envelopeLists+2*i), where, len(l.list))
	}
}

func (b *builder) addresses(list []message.Address) int {
	where := b.reserve(addressSize.in(b.w) * len(list))
	for i, a := range list {
		if b.over() {
			break
		}
		at := where + addressSize.in(b.w)*i
		b.b[at] = byte(a.Kind)
		for k, s := range [...]string{a.Name, a.Route, a.Mailbox, a.Host} {
			b.some(b.word(at+1, 2*k), s)
		}
	}
	return where
}

// thread adds the message ids.
func (b *builder) thread(own string, refs []string) {
	if own != "" {
		b.in("Message-ID")
		b.some(b.word(atWords, wordMessageID), own)
	}
	if b.in("References"); b.near == 0 {
		b.in("In-Reply-To")
	}
	b.texts(b.word(atWords, wordReferences), refs)
}

// texts puts a list of texts at a place.
func (b *builder) texts(at int, list []string) {
	if len(list) == 0 {
		return
	}
	where := b.reserve(textSize.in(b.w) * len(list))
	b.put(at, where, len(list))
	for i, s := range list {
		b.some(b.word(where, 2*i), s)
	}
}

// structure adds the parts.
func (b *builder) structure(root *message.Part) {
	at := b.reserve(count(root) * partSize.in(b.w))
	b.putWord(b.word(atWords, wordParts), at)
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
	next := at + partSize.in(b.w)
	if b.over() {
		return next
	}
	words := at + 1
	for i, n := range [...]int64{p.Header.Offset, p.Header.Octets, p.Header.Wire, p.Header.Lines, p.Body.Octets, p.Body.Wire, p.Body.Lines} {
		b.putNumber(b.word(words, partSpans+2*i), n)
	}
	for i, s := range [...]string{p.Type, p.Subtype, p.Encoding, p.ID, p.Description, p.MD5, p.Disposition, p.Location} {
		b.some(b.word(words, partTexts+2*i), s)
	}
	b.params(b.word(words, partLists), p.Params)
	b.params(b.word(words, partLists+2), p.DispParams)
	b.texts(b.word(words, partLists+4), p.Language)
	kind := byte(0)
	if p.Message != nil {
		kind = kindMessage
		e := b.reserve(envelopeSize.in(b.w))
		b.putWord(b.word(words, partEnvelope), e)
		b.putEnvelope(e, p.Message.Envelope(), func(string) { b.near = e })
		b.recent()
		next = b.part(next, p.Message)
	}
	for _, c := range p.Children {
		kind = kindMultipart
		b.recent()
		next = b.part(next, c)
	}
	b.b[at] = kind
	b.putWord(b.word(words, partCount), (next-at)/partSize.in(b.w))
	return next
}

// recent has the next texts be looked for among the last ones: parts have much in common.
func (b *builder) recent() { b.near = max(len(b.b)-window/2, fixedSize(b.w)) }

func (b *builder) params(at int, ps message.Params) {
	if len(ps) == 0 {
		return
	}
	ps = ps.Joined()
	where := b.reserve(paramSize.in(b.w) * len(ps))
	b.put(at, where, len(ps))
	for i, p := range ps {
		b.some(where+paramSize.in(b.w)*i, p.Name)
		b.some(b.word(where+paramSize.in(b.w)*i, 2), p.Value)
	}
}
