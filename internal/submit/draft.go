package submit

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode/utf8"

	"postamt/internal/addr"
	"postamt/internal/message"
)

// Draft is what becomes of a header.
type Draft struct {
	Header     []byte   // as it is sent
	Recipients []string // the mailboxes that it names as recipients, complete; empty unless they were asked for
}

// Author is who sends a message, and from where.
type Author struct {
	Sender    addr.Mailbox // the reverse-path; null is nobody
	Name      string       // for a From field; "" none
	Origin    string       // the domain of addresses that have none
	MessageID string       // without brackets
	Now       time.Time
}

// Prepare makes a header ready to be sent. Recipients are those of To, Cc and Bcc, or, if the message is sent again, of the Resent-To, Resent-Cc and Resent-Bcc
// of the last time. Bcc and Resent-Bcc fields are taken out, whether they are asked for or not: nobody else may see them. Addresses without a domain get one; a field that is not a list of addresses
// stays as it is, but is an error if it names recipients.
func Prepare(header []byte, recipients bool, a Author) (*Draft, error) {
	d := &Draft{Header: make([]byte, 0, len(header)+500)}
	fields := split(header)
	d.Header = a.missing(d.Header, fields)
	again := newestBlock(fields)
	for i, f := range fields {
		kind := kindOf(f)
		if kind == other {
			d.Header = append(d.Header, f.Raw...)
			continue
		}
		value := string(f.Value())
		list, err := Addresses(value)
		named := recipients && kind != author && (again == nil && !resent(f) || again != nil && again[i])
		switch {
		case named && err != nil:
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		case named:
			for _, x := range list {
				m, err := x.Mailbox(a.Origin)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", f.Name(), err)
				}
				d.Recipients = append(d.Recipients, m.String())
			}
		}
		if kind != blind {
			d.Header = appendQualified(d.Header, f, value, list, a.Origin)
		}
	}
	return d, nil
}

// Mailbox is the address as SMTP wants it, with a domain.
func (a Address) Mailbox(origin string) (addr.Mailbox, error) {
	domain := a.Domain
	if domain == "" {
		domain = origin
	}
	m, err := addr.Parse(a.Local+"@"+domain, true)
	if err != nil {
		return m, fmt.Errorf("%q: %w", shortened(a.Local+"@"+domain), err)
	}
	return m, nil
}

// divide finds the end of the header in b, and where the body begins.
func divide(b []byte) (header, body int) {
	sc := message.Scan(b, true)
	for {
		if _, ok := sc.Next(); !ok {
			return sc.Offset(), sc.Body()
		}
	}
}

func split(header []byte) (fields []message.Field) {
	sc := message.Scan(header, true)
	for {
		f, ok := sc.Next()
		if !ok {
			return fields
		}
		fields = append(fields, f)
	}
}

// kind is what a field with addresses is for.
type kind int

const (
	other  kind = iota
	author      // From, Sender, Reply-To
	open        // To, Cc
	blind       // Bcc
)

func kindOf(f message.Field) kind {
	name := f.Name()
	if resent(f) {
		name = name[len("Resent-"):]
	}
	switch strings.ToLower(string(name)) {
	case "from", "sender", "reply-to":
		return author
	case "to", "cc":
		return open
	case "bcc":
		return blind
	}
	return other
}

func resent(f message.Field) bool {
	n := f.Name()
	return len(n) > len("Resent-") && strings.EqualFold(string(n[:len("Resent-")]), "Resent-")
}

// newestBlock says which fields belong to the last time that the message was sent again; nil: it never was. RFC 5322 section 3.6.6: each block stands before the older ones.
func newestBlock(fields []message.Field) []bool {
	var in []bool
	seen := map[string]bool{}
	for i, f := range fields {
		name := strings.ToLower(string(f.Name()))
		switch {
		case !resent(f):
			if in != nil && (name == "received" || name == "return-path" || name == "delivered-to") {
				return in
			}
			continue
		case seen[name] && (name == "resent-date" || name == "resent-from" || name == "resent-sender" || name == "resent-message-id"):
			return in
		}
		seen[name] = true
		if in == nil {
			in = make([]bool, len(fields))
		}
		in[i] = true
	}
	return in
}

// appendQualified writes a field whose value is that list, with a domain for those who have none.
func appendQualified(b []byte, f message.Field, value string, list []Address, origin string) []byte {
	start := bytes.IndexByte(f.Raw, ':') + 1
	from := 0
	for _, x := range list {
		if m, err := x.Mailbox(origin); err == nil && x.Domain == "" && isASCII(m.Local) {
			to := start + x.End
			b = append(b, f.Raw[from:to]...)
			b = append(b, '@')
			b = append(b, origin...)
			from = to
		}
	}
	return append(b, f.Raw[from:]...)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c >= utf8.RuneSelf }) < 0
}

// timeFormat is RFC 5322 section 3.3.
const timeFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// missing writes the fields that every message must have (RFC 5322 section 3.6, and Message-ID), if they are not there. smtpd would do it too, but knows neither the user's name nor his time zone.
func (a Author) missing(b []byte, fields []message.Field) []byte {
	var from, date, id bool
	for _, f := range fields {
		from = from || f.Is("From")
		date = date || f.Is("Date")
		id = id || f.Is("Message-ID")
	}
	if !from && !a.Sender.IsNull() {
		b = fmt.Appendf(b, "From: %s\r\n", nameAddr(a.Name, a.Sender.String()))
	}
	if !date {
		b = fmt.Appendf(b, "Date: %s\r\n", a.Now.Format(timeFormat))
	}
	if !id {
		b = fmt.Appendf(b, "Message-ID: <%s>\r\n", a.MessageID)
	}
	return b
}

// nameAddr is RFC 5322 section 3.4: [display-name] "<" addr-spec ">".
func nameAddr(name, spec string) string {
	if name == "" {
		return "<" + spec + ">"
	}
	name = strings.ToValidUTF8(name, "?")
	plain := true // atoms with spaces between them
	for i := range len(name) {
		c := name[i]
		if c != ' ' && (isSpecial(c) || c == '\t') {
			plain = false
		}
		if c < ' ' || c >= 0x7f {
			return mime.QEncoding.Encode("utf-8", name) + " <" + spec + ">"
		}
	}
	if !plain || strings.Contains(name, "=?") { // else it could be read as an encoded word
		name = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
	}
	return name + " <" + spec + ">"
}
