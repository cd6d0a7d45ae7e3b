package imapd

import (
	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/message"
)

// appendEnvelope appends an ENVELOPE (RFC 9051 section 7.5.2).
func appendEnvelope(b []byte, e facts.Envelope, m imap.Mode) []byte {
	b = imap.AppendNString(append(b, '('), e.Date(), m)
	b = imap.AppendNString(append(b, ' '), e.Subject(), m)
	for _, list := range [...]facts.Addresses{e.From(), e.Sender(), e.ReplyTo(), e.To(), e.Cc(), e.Bcc()} {
		b = appendAddresses(append(b, ' '), list, m)
	}
	b = imap.AppendNString(append(b, ' '), e.InReplyTo(), m)
	b = imap.AppendNString(append(b, ' '), e.MessageID(), m)
	return append(b, ')')
}

func appendAddresses(b []byte, list facts.Addresses, m imap.Mode) []byte {
	begin := len(b)
	b = append(b, '(')
	for i := range list.Len() {
		switch a := list.At(i); message.AddressKind(a.Kind) {
		case message.GroupBegin:
			b = imap.AppendGroup(b, a.Mailbox, m)
		case message.GroupEnd:
			b = imap.AppendGroupEnd(b)
		default:
			b = imap.AppendAddress(b, a.Name, a.Route, a.Mailbox, a.Host, m)
		}
	}
	return imap.EndList(b, begin)
}

// structure makes BODY and BODYSTRUCTURE of parts, and keeps what it needs for the next one.
type structure struct {
	params    []imap.Param[[]byte]
	languages [][]byte
}

// append appends a part with those in it. They are as deep as message.Limits lets them be.
func (s *structure) append(b []byte, p facts.Part, extended bool, m imap.Mode) []byte {
	params, languages := len(s.params), len(s.languages)
	body := s.body(p)
	kind := body.Kind(p.IsMessage(), p.IsMultipart())
	b = imap.BeginBody(b, &body, kind, m)
	switch kind {
	case imap.BodyMultipart:
		for c, ok := p.First(); ok; c, ok = c.Next(p) {
			b = s.append(b, c, extended, m)
		}
	case imap.BodyMessage:
		b = append(appendEnvelope(append(b, ' '), p.Envelope(), m), ' ')
		if c, ok := p.First(); ok {
			b = s.append(b, c, extended, m)
		}
	}
	b = imap.EndBody(b, &body, kind, extended, m)
	s.params, s.languages = s.params[:params], s.languages[:languages]
	return b
}

func (s *structure) body(p facts.Part) imap.BodyPart[[]byte] {
	span := p.Body()
	return imap.BodyPart[[]byte]{
		Type: p.Type(), Subtype: p.Subtype(), Params: s.list(p.Params()), ID: p.ID(), Description: p.Description(), Encoding: p.Encoding(),
		Octets: uint64(span.Wire), Lines: uint64(span.Lines), MD5: p.MD5(), Disposition: p.Disposition(), DispParams: s.list(p.DispParams()),
		Language: s.texts(p.Languages()), Location: p.Location(),
	}
}

func (s *structure) list(l facts.Params) []imap.Param[[]byte] {
	from := len(s.params)
	for i := range l.Len() {
		name, value := l.At(i)
		s.params = append(s.params, imap.Param[[]byte]{Name: name, Value: value})
	}
	return s.params[from:len(s.params):len(s.params)]
}

func (s *structure) texts(l facts.Texts) [][]byte {
	from := len(s.languages)
	for i := range l.Len() {
		s.languages = append(s.languages, l.At(i))
	}
	return s.languages[from:len(s.languages):len(s.languages)]
}
