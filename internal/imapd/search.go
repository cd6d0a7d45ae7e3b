package imapd

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"time"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/match"
	"postamt/internal/message"
	"postamt/internal/uidlist"
)

// query is search keys, made ready for a mailbox. Each message is asked in four steps, of which the later cost more, and only as long as the answer is undecided: what is
// known of every message; what stands in columns; what is in its facts; its file.
type query struct {
	u        *user
	v        *view
	keywords uidlist.Keywords
	saved    []uint32 // "$"
	frozen   bool
	root     condition
	now      time.Time
	first    int // the place from which on messages are asked

	columns uint32 // those that some key asks, a bit each
	facts   bool   // some key needs them
	modseq  bool   // some key is MODSEQ: the answer has the highest mod-sequence
	missing bool   // some messages are gone of which the client does not know
	matches []uint32
	highest uint64
}

// condition is a search key.
type condition struct {
	*imap.SearchKey
	keys  []condition
	set   imap.NumSet // with the numbers of the mailbox
	uids  []uint32    // frozen: in the place of set
	flag  mailbox.Flags
	bits  uint32 // keyword
	text  *match.Key
	names facts.Names // the header field is one of those in facts
	known bool
	list  func(facts.Envelope) facts.Addresses // nil: the header field has no addresses

	column   int // the one with the field
	inColumn bool
}

// answer is what is known of whether a message matches.
type answer int8

const (
	no answer = iota
	yes
	undecided // not yet
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// candidate is a message that is asked.
type candidate struct {
	m      *mailbox.Message
	number uint32
	stage  stage
	values [][]byte // of columns
	known  facts.Facts
	file   io.ReaderAt
	err    error

	room *scratch
}

// scratch is room for what is looked through, that who asks one message after the other makes once.
type scratch struct{ fields, text []byte }

// stage is what is known of a candidate: from one to the next what was known before is, too, but for the columns.
type stage int

const (
	stageListed stage = iota // what the mailbox knows of all
	stageColumns
	stageFacts
	stageFile
)

// newQuery makes a query of the selected mailbox, of keys that were decoded.
func (u *user) newQuery(key *imap.SearchKey) (*query, error) {
	q := &query{u: u, v: u.view, keywords: u.keywords, saved: u.saved}
	return q, q.prepareAll(key)
}

// prepareAll makes the conditions. The key is not changed.
func (q *query) prepareAll(key *imap.SearchKey) (err error) {
	q.now = time.Now()
	q.root, err = q.prepare(key)
	return err
}

// decodeKey checks the charset of search keys, and makes their texts UTF-8.
func decodeKey(charset string, key *imap.SearchKey) error {
	switch charset {
	case "", "UTF-8", "US-ASCII":
		return nil
	}
	if !message.KnownCharset(charset) {
		return imap.No(imap.CodeBadCharset([]string{"UTF-8", "US-ASCII"}), "no such charset here")
	}
	return decodeTexts(charset, key)
}

func decodeTexts(charset string, k *imap.SearchKey) error {
	for i := range k.Keys {
		if err := decodeTexts(charset, &k.Keys[i]); err != nil {
			return err
		}
	}
	text, err := io.ReadAll(message.Decode(strings.NewReader(k.Text), "8bit", charset))
	k.Text = string(text)
	return err
}

func (q *query) prepare(k *imap.SearchKey) (c condition, err error) {
	v := q.v
	c.SearchKey = k
	for i := range k.Keys {
		sub, err := q.prepare(&k.Keys[i])
		if err != nil {
			return c, err
		}
		c.keys = append(c.keys, sub)
	}
	c.set = imap.NumSet{Ranges: slices.Clone(k.Set.Ranges), Saved: k.Set.Saved}
	switch k.Op {
	case imap.SearchFlag:
		for _, s := range systemFlags {
			if s.name == k.Name {
				c.flag = s.flag
			}
		}
		i := q.keywords.Index(k.Name)
		if i < 0 && c.flag == 0 { // one of another session, of which the client has not been told, is as good
			all, err := v.box.Keywords()
			if err != nil {
				return c, err
			}
			i = all.Index(k.Name)
		}
		if i >= 0 {
			c.bits = 1 << i
		}
	case imap.SearchSeq:
		if !k.Set.Saved {
			if q.u.uidOnly {
				return c, &imap.Status{Condition: imap.ConditionBAD, Code: imap.UIDRequired, Text: "UIDs only, which was enabled"}
			}
			// A number beyond the last message is none of a message, and no error: RFC 9051 section 9 (seq-number) has it be one for COPY, FETCH and STORE.
			c.set.Resolve(uint32(len(v.uids)))
			q.u.numbered = true // RFC 7162 section 3.2.10: with UID, too
		}
	case imap.SearchUID:
		last := uint32(0)
		if n := len(v.uids); n > 0 {
			last = v.uids[n-1]
		}
		c.set.Resolve(last)
	case imap.SearchModSeq:
		q.modseq = true
	case imap.SearchHeader:
		c.text = match.New(k.Text)
		c.names, c.known = facts.Name(k.Name)
		c.list = addressesOf(k.Name)
		if c.column, c.inColumn = columnOf(k.Name); c.inColumn {
			q.columns |= 1 << c.column
		} else {
			q.facts = true
		}
	case imap.SearchBody, imap.SearchText:
		c.text = match.New(k.Text)
		q.facts = true
	case imap.SearchSentBefore, imap.SearchSentOn, imap.SearchSentSince:
		q.columns |= 1 << facts.ColumnSent
	case imap.SearchEmailID, imap.SearchThreadID:
		q.facts = true
	case imap.SearchFilter:
		return c, imap.No("UNDEFINED-FILTER "+k.Text, "there is no such filter") // RFC 5466 section 3.1
	}
	return c, nil
}

// columnOf is the column of a header field.
func columnOf(name string) (column int, ok bool) {
	for _, c := range [...]struct {
		name   string
		column int
	}{{"Subject", facts.ColumnSubject}, {"From", facts.ColumnFrom}, {"To", facts.ColumnTo}} {
		if strings.EqualFold(name, c.name) {
			return c.column, true
		}
	}
	return 0, false
}

// freeze has sequence numbers and "$" mean the messages that they mean now (RFC 5267 section 4.3).
func (q *query) freeze() {
	q.frozen = true
	q.freezeIn(&q.root)
}

func (q *query) freezeIn(c *condition) {
	switch {
	case c.Op != imap.SearchSeq && c.Op != imap.SearchUID:
	case c.set.Saved:
		c.uids = slices.Clone(q.saved)
	case c.Op == imap.SearchSeq:
		for i, uid := range q.v.uids {
			if c.set.Contains(uint32(i + 1)) {
				c.uids = append(c.uids, uid)
			}
		}
	}
	for i := range c.keys {
		q.freezeIn(&c.keys[i])
	}
}

// end ends a command that has told its result. RFC 5530: EXPUNGEISSUED, when numbers are missing in it that the client takes for those of messages.
func (q *query) end(cmd imap.Command) error {
	if q.missing && !cmd.UID {
		return errGoneSome
	}
	return nil
}

// ask is the answer at the stage of x.
func (q *query) ask(c *condition, x *candidate) answer {
	a := q.askOne(c, x)
	if c.Not && a != undecided {
		return yes - a
	}
	return a
}

func (q *query) askOne(c *condition, x *candidate) answer {
	switch c.Op {
	case imap.SearchAll, imap.SearchSaveDateSupported:
		return yes
	case imap.SearchAnd, imap.SearchOr:
		// The answer of one that decides alone; else open if one is.
		decides, all := no, yes
		if c.Op == imap.SearchOr {
			decides, all = yes, no
		}
		for i := range c.keys {
			switch a := q.ask(&c.keys[i], x); a {
			case decides:
				return decides
			case undecided:
				all = undecided
			}
		}
		return all
	case imap.SearchFlag:
		if c.Name == `\Recent` {
			return answerOf(q.v.recent[x.m.UID])
		}
		return answerOf(x.m.Flags&c.flag != 0 || x.m.Keywords&c.bits != 0)
	case imap.SearchSeq:
		if q.frozen {
			_, in := slices.BinarySearch(c.uids, x.m.UID)
			return answerOf(in)
		}
		if c.set.Saved {
			_, in := slices.BinarySearch(q.saved, x.m.UID)
			return answerOf(in)
		}
		return answerOf(c.set.Contains(x.number))
	case imap.SearchUID:
		if c.set.Saved && q.frozen {
			_, in := slices.BinarySearch(c.uids, x.m.UID)
			return answerOf(in)
		}
		if c.set.Saved {
			_, in := slices.BinarySearch(q.saved, x.m.UID)
			return answerOf(in)
		}
		return answerOf(c.set.Contains(x.m.UID))
	case imap.SearchModSeq:
		return answerOf(x.m.ModSeq >= c.Number)
	}
	if x.stage == stageListed && !x.tells(c) {
		return undecided
	}
	switch c.Op {
	case imap.SearchLarger, imap.SearchSmaller:
		n := x.m.Size
		if n < 0 {
			if n, x.err = q.v.box.Size(x.m.UID); x.err != nil {
				return no
			}
		}
		return answerOf(c.Op == imap.SearchLarger && uint64(n) > c.Number || c.Op == imap.SearchSmaller && uint64(n) < c.Number)
	case imap.SearchBefore, imap.SearchOn, imap.SearchSince, imap.SearchOlder, imap.SearchYounger:
		t := time.Unix(x.m.Date, 0)
		if x.m.Date < 0 {
			if t, x.err = q.v.box.Date(x.m.UID); x.err != nil {
				return no
			}
		}
		return q.dated(c, t)
	case imap.SearchSavedBefore, imap.SearchSavedOn, imap.SearchSavedSince:
		t, ok, err := q.v.box.SaveDate(x.m.UID)
		if err == nil && !ok { // RFC 8514 section 4.3 has the internal date in its place where there is none
			t, err = q.v.box.Date(x.m.UID)
		}
		if x.err = err; err != nil {
			return no
		}
		return compareDay(c, imap.DateOf(t))
	case imap.SearchSentBefore, imap.SearchSentOn, imap.SearchSentSince:
		seconds, zone, ok := x.sent()
		if !ok {
			return no
		}
		return compareDay(c, imap.DateOf(time.Unix(seconds+int64(zone), 0).UTC()))
	case imap.SearchEmailID, imap.SearchThreadID:
		if x.stage < stageFacts {
			return undecided
		}
		if c.Op == imap.SearchEmailID {
			return answerOf(string(x.known.AppendEmailID(x.room.fields[:0])) == c.Text)
		}
		return answerOf(string(x.known.AppendThreadID(x.room.fields[:0])) == c.Text)
	case imap.SearchHeader:
		return q.header(c, x)
	case imap.SearchBody, imap.SearchText:
		if x.stage < stageFile {
			return undecided
		}
		return answerOf(x.inText(c))
	}
	return no
}

// tells: what the mailbox knows of the message decides, without a look at its file.
func (x *candidate) tells(c *condition) bool {
	switch c.Op {
	case imap.SearchLarger, imap.SearchSmaller:
		return x.m.Size >= 0
	case imap.SearchBefore, imap.SearchOn, imap.SearchSince, imap.SearchOlder, imap.SearchYounger:
		return x.m.Date >= 0
	}
	return false
}

// sent is the sent date of a message (facts.Facts.Sent).
func (x *candidate) sent() (seconds int64, zone int, ok bool) {
	if x.stage == stageColumns {
		return facts.SentOf(x.values[facts.ColumnSent])
	}
	return x.known.Sent()
}

func (q *query) dated(c *condition, t time.Time) answer {
	switch c.Op {
	case imap.SearchOlder:
		return answerOf(q.now.Sub(t) >= time.Duration(c.Number)*time.Second)
	case imap.SearchYounger:
		return answerOf(q.now.Sub(t) <= time.Duration(c.Number)*time.Second)
	}
	return compareDay(c, imap.DateOf(t))
}

func compareDay(c *condition, d imap.Date) answer {
	n := d.Compare(c.Date)
	switch c.Op {
	case imap.SearchBefore, imap.SearchSentBefore, imap.SearchSavedBefore:
		return answerOf(n < 0)
	case imap.SearchOn, imap.SearchSentOn, imap.SearchSavedOn:
		return answerOf(n == 0)
	}
	return answerOf(n >= 0)
}

// header says whether a field of that name has the text in it; with an empty text, whether there is one.
func (q *query) header(c *condition, x *candidate) answer {
	if x.stage < stageFacts {
		if c.inColumn {
			if in, known := facts.InColumn(x.values[c.column], c.text); known {
				return answerOf(in)
			}
		}
		return undecided
	}
	if !c.known || x.known.Truncated() {
		if x.stage < stageFile {
			return undecided
		}
		return answerOf(x.inFields(x.header(x.known.Root().Header()), c, c.Name))
	}
	x.room.fields = x.known.AppendFields(x.room.fields[:0], c.names)
	return answerOf(x.inFields(x.room.fields, c, c.Name) || x.inAddresses(c))
}

// inAddresses looks in what ENVELOPE shows, too: an address may have comments and quotes in it that nobody types (RFC 9051 section 6.4.4: FROM is in the envelope).
func (x *candidate) inAddresses(c *condition) bool {
	if c.list == nil {
		return false
	}
	list := c.list(x.known.Envelope())
	for i := range list.Len() {
		a := list.At(i)
		x.room.text = append(append(append(x.room.text[:0], a.Mailbox...), '@'), a.Host...)
		if c.text.In(x.room.text) {
			return true
		}
	}
	return false
}

// addressesOf is where the envelope has the addresses of a header field.
func addressesOf(field string) func(facts.Envelope) facts.Addresses {
	switch strings.ToUpper(field) {
	case "FROM":
		return facts.Envelope.From
	case "TO":
		return facts.Envelope.To
	case "CC":
		return facts.Envelope.Cc
	case "BCC":
		return facts.Envelope.Bcc
	}
	return nil
}

// inFields looks in the fields of that name, "" for all of them.
func (x *candidate) inFields(header []byte, c *condition, name string) bool {
	for fields := message.Scan(header, true); ; {
		f, ok := fields.Next()
		if !ok {
			return false
		}
		if name != "" && !f.Is(name) {
			continue
		}
		text := x.room.text[:0]
		if name == "" { // TEXT: who looks for "Subject: x" finds it
			text = append(append(text, f.Name()...), ": "...)
		}
		text = f.AppendText(text)
		x.room.text = text
		if bytes.Contains(text, []byte("=?")) {
			text = []byte(message.Text(string(text)))
		}
		if c.text.In(text) {
			return true
		}
	}
}

// header reads a header, as much of it as is looked through.
func (x *candidate) header(span message.Span) []byte {
	b := make([]byte, min(span.Octets, maxHeader))
	n, err := x.file.ReadAt(b, span.Offset)
	if err != nil && err != io.EOF {
		x.err = err
	}
	return b[:n]
}

// inText looks in all that is text: the bodies of text parts, decoded, and for TEXT the headers above them. RFC 9051 section 6.4.4: BODY "doesn't match any header
// fields", those of parts neither: who looks for "attachment" there does not want all that have one.
func (x *candidate) inText(c *condition) bool {
	return x.inPart(c, x.known.Root(), c.Op == imap.SearchText)
}

func (x *candidate) inPart(c *condition, p facts.Part, header bool) bool {
	if header && x.inFields(x.header(p.Header()), c, "") {
		return true
	}
	switch {
	case p.IsMultipart():
		for child, ok := p.First(); ok; child, ok = child.Next(p) {
			if x.inPart(c, child, header) {
				return true
			}
		}
	case p.IsMessage():
		child, ok := p.First()
		return ok && x.inPart(c, child, header)
	case equalFold(p.Type(), "text"), equalFold(p.Type(), "message"): // message/delivery-status says who did not get it
		return x.inBody(c, p)
	}
	return false
}

func (x *candidate) inBody(c *condition, p facts.Part) bool {
	body := p.Body()
	r := message.Decode(io.NewSectionReader(x.file, body.Offset, body.Octets), string(p.Encoding()), string(p.Charset()))
	s := c.text.Scanner()
	b := blocks.Get().(*[block]byte)
	defer blocks.Put(b)
	for {
		n, err := r.Read(b[:])
		if n > 0 && s.Scan(b[:n]) {
			return true
		}
		if err == io.EOF {
			return s.Found()
		}
		if err != nil {
			x.err = err
			return false
		}
	}
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }
