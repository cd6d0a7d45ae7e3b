package message

import "strings"

// Envelope has the values of an IMAP ENVELOPE (RFC 9051 section 7.5.2). A field that is absent is nil, one that is empty is
// not; values are unfolded, and otherwise as written: encoded words stay.
type Envelope struct {
	Date, Subject, InReplyTo, MessageID []byte
	From, Sender, ReplyTo, To, Cc, Bcc  []Address
}

// MaxAddresses is how many addresses of a field an Envelope has. The end of a group may come to it.
const MaxAddresses = 10_000

// Envelope reads the envelope from the header. Of two fields of a name the first counts. Sender and Reply-To that are
// absent or empty are From.
func (p *Part) Envelope() *Envelope {
	e := &Envelope{}
	texts := []struct {
		name string
		to   *[]byte
	}{{"Date", &e.Date}, {"Subject", &e.Subject}, {"In-Reply-To", &e.InReplyTo}, {"Message-ID", &e.MessageID}}
	lists := []struct {
		name string
		to   *[]Address
		seen bool
	}{{name: "From", to: &e.From}, {name: "Sender", to: &e.Sender}, {name: "Reply-To", to: &e.ReplyTo},
		{name: "To", to: &e.To}, {name: "Cc", to: &e.Cc}, {name: "Bcc", to: &e.Bcc}}
	s := Scan(p.fields, true)
next:
	for {
		f, ok := s.Next()
		if !ok {
			break
		}
		for i := range texts {
			if t := &texts[i]; f.Is(t.name) {
				if *t.to == nil {
					*t.to = f.AppendText(make([]byte, 0, len(f.Raw)))
				}
				continue next
			}
		}
		for i := range lists {
			if l := &lists[i]; f.Is(l.name) {
				if !l.seen {
					*l.to = Addresses(string(f.AppendText(nil)), MaxAddresses)
				}
				l.seen = true
				continue next
			}
		}
	}
	if e.Sender == nil {
		e.Sender = e.From
	}
	if e.ReplyTo == nil {
		e.ReplyTo = e.From
	}
	return e
}

// Address is an element of an address list: a mailbox, or where a group begins or ends.
type Address struct {
	Kind    AddressKind
	Name    string // the phrase, or else the last comment; without quotes, encoded words as written
	Route   string // the at-domain-list of RFC 822: "@a,@b"
	Mailbox string // the local part without quotes, or the name of the group
	Host    string // the domain; "" when it is missing, which an IMAP server must not send as NIL: that is a group
}

// AddressKind says what an Address is.
type AddressKind byte

const (
	OneMailbox AddressKind = iota
	GroupBegin             // Mailbox is its name
	GroupEnd
)

// Addresses reads an address list (RFC 5322 section 3.4 and 4.4), at most max of it: for display, so of what is broken it
// makes what it can, and never fails. Groups that begin end. Where Mailboxes is sure, both find the same. Time is linear.
func Addresses(value string, max int) []Address {
	a := addresses{s: value, max: max}
	a.read()
	return a.found
}

// element is a word, a quoted string, a domain literal, or one of @ : ,
type element struct {
	text   string
	spaced bool // white space or a comment before it
	quoted bool
}

func (e element) is(c string) bool { return !e.quoted && e.text == c }

// addresses is the state between two octets of a list.
type addresses struct {
	s       string
	max     int
	found   []Address
	group   bool      // within one
	words   []element // since the last comma, or since the angle bracket
	phrase  string    // what was before that
	comment string
	angle   bool // behind "<"
	closed  bool // and behind ">"
}

func (a *addresses) read() {
	spaced, literals := false, true
	add := func(text string, quoted bool) {
		if !a.closed { // <a@b> and then something
			a.words = append(a.words, element{text, spaced, quoted})
		}
		spaced = false
	}
	for i := 0; i < len(a.s) && len(a.found) < a.max; {
		rest := a.s[i:]
		switch c := rest[0]; c {
		case ' ', '\t', '\r', '\n':
			spaced = true
			i++
		case '(':
			n := commentEnd(rest)
			a.comment, spaced = comment(rest[:n]), true
			i += n
		case '"':
			text, n := unquote(rest)
			add(text, true)
			i += n
		case '[':
			n := -1
			if literals {
				n = quoted(rest, '[')
			}
			if n < 0 {
				literals, n = false, 1 // none of those that follow ends either
			}
			add(rest[:n], false)
			i += n
		case '<':
			if !a.angle {
				a.phrase, a.words, a.angle = phrase(a.words), a.words[:0], true
			}
			i++
		case '>':
			a.closed = a.angle
			i++
		case ',':
			if a.angle && !a.closed && len(a.words) > 0 && a.words[0].is("@") {
				add(",", false) // of a route
			} else {
				a.mailbox()
			}
			i++
		case ';':
			a.mailbox()
			if a.group {
				a.found, a.group = append(a.found, Address{Kind: GroupEnd}), false
			}
			i++
		case ':':
			switch {
			case !a.angle && !a.group && len(a.words) > 0:
				a.found = append(a.found, Address{Kind: GroupBegin, Mailbox: phrase(a.words)})
				a.group, a.words, a.comment = true, a.words[:0], ""
			default:
				add(":", false)
			}
			i++
		case '@':
			add("@", false)
			i++
		case ')', ']':
			i++
		default:
			n := strings.IndexAny(rest, " \t\r\n(\"[<>,;:@)]")
			if n < 0 {
				n = len(rest)
			}
			add(rest[:n], false)
			i += n
		}
	}
	if len(a.found) < a.max {
		a.mailbox()
	}
	if a.group {
		a.found = append(a.found, Address{Kind: GroupEnd})
	}
}

// mailbox ends an address.
func (a *addresses) mailbox() {
	words, name := a.words, a.phrase
	var m Address
	if a.angle {
		if colon := last(words, ":"); colon >= 0 && words[0].is("@") {
			m.Route, words = concat(words[:colon]), words[colon+1:]
		}
	} else {
		at := first(words, "@")
		if at < 0 && !oneSpec(words) {
			name, words = phrase(words), nil // a name and no address
		} else if at >= 0 {
			begin, end := at, at+1
			for begin > 0 && joins(words[begin-1], words[begin]) {
				begin--
			}
			for end < len(words) && joins(words[end-1], words[end]) {
				end++
			}
			name, words = phrase(words[:begin]), words[begin:end]
		}
	}
	if at := last(words, "@"); at >= 0 {
		m.Mailbox, m.Host = concat(words[:at]), concat(words[at+1:])
	} else {
		m.Mailbox = concat(words)
	}
	if m.Name = name; name == "" {
		m.Name = a.comment
	}
	if a.angle || len(a.words) > 0 {
		a.found = append(a.found, m)
	}
	a.words, a.phrase, a.comment, a.angle, a.closed = a.words[:0], "", "", false, false
}

// joins: both are of one address. White space and comments may stand around its dots and at signs (RFC 5322 section 4.4).
func joins(a, b element) bool {
	return !b.spaced || !a.quoted && (a.text == "@" || strings.HasSuffix(a.text, ".")) ||
		!b.quoted && (b.text == "@" || strings.HasPrefix(b.text, "."))
}

func oneSpec(words []element) bool {
	for i := 1; i < len(words); i++ {
		if !joins(words[i-1], words[i]) {
			return false
		}
	}
	return true
}

func first(words []element, c string) int {
	for i, w := range words {
		if w.is(c) {
			return i
		}
	}
	return -1
}

func last(words []element, c string) int {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i].is(c) {
			return i
		}
	}
	return -1
}

// phrase is words with a space where there was white space.
func phrase(words []element) string { return text(words, func(a, b element) bool { return b.spaced }) }

// concat is words without the white space that may be in an address.
func concat(words []element) string {
	return text(words, func(a, b element) bool { return !joins(a, b) })
}

func text(words []element, space func(a, b element) bool) string {
	if len(words) == 1 {
		return words[0].text
	}
	var b strings.Builder
	for i, w := range words {
		if i > 0 && space(words[i-1], w) {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

// comment is the content of a comment, comments in it included.
func comment(s string) string {
	s = strings.TrimSuffix(s[1:], ")")
	if strings.IndexByte(s, '\\') >= 0 {
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	return strings.TrimSpace(s)
}
