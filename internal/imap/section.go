package imap

import "strconv"

// SectionText says what of a part a section means.
type SectionText uint8

const (
	SectionAll             SectionText = iota // the part, or the whole message
	SectionHeader                             // HEADER
	SectionHeaderFields                       // HEADER.FIELDS
	SectionHeaderFieldsNot                    // HEADER.FIELDS.NOT
	SectionBody                               // TEXT
	SectionMIME                               // MIME
)

var sectionWords = [...]string{"", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"}

// Section is a section with its partial: [1.2.HEADER.FIELDS (To)]<0.100>.
type Section struct {
	Part   []uint32
	Text   SectionText
	Fields []string // of SectionHeaderFields and SectionHeaderFieldsNot, as they came

	Partial       bool
	Offset, Count int64 // of octets; Count is not 0
}

// Limits of a section. No message has parts as deep (message.Limits); no program asks for that many fields.
const (
	maxPartDepth    = 100
	maxHeaderFields = 500
)

// section reads section = "[" [section-spec] "]" and [partial]; binary: section-binary, which has no text.
func (d *Decoder) section(binary bool) (s Section) {
	d.Expect('[')
	for isDigit(d.peek()) {
		if len(s.Part) == maxPartDepth {
			d.Fail("a part too deep")
		}
		s.Part = append(s.Part, d.NZNumber())
		if d.err != nil || !d.Is('.') {
			break
		}
		d.pos++
		if !binary && !isDigit(d.peek()) {
			d.sectionText(&s)
			break
		}
		if !isDigit(d.peek()) {
			d.Fail("wrong section")
		}
	}
	if len(s.Part) == 0 && !binary && !d.Is(']') {
		d.sectionText(&s)
	}
	d.Expect(']')
	return s
}

func (d *Decoder) sectionText(s *Section) {
	w := d.word()
	for i, name := range sectionWords {
		if i > 0 && string(w) == name {
			s.Text = SectionText(i)
		}
	}
	switch s.Text {
	case SectionAll:
		d.Fail("wrong section")
	case SectionMIME:
		// section-spec: MIME is of a part.
		if len(s.Part) == 0 {
			d.Fail("wrong section")
		}
	case SectionHeaderFields, SectionHeaderFieldsNot:
		d.SP().NonEmptyList(maxHeaderFields, func() { s.Fields = append(s.Fields, d.AString()) })
	}
}

// partial reads ["<" number64 "." nz-number64 ">"].
func (d *Decoder) partial(s *Section) {
	if !d.Skip('<') {
		return
	}
	s.Partial = true
	s.Offset = d.Number64()
	d.Expect('.')
	if d.Is('0') {
		d.Fail("a partial of no octets")
	}
	s.Count = d.Number64()
	d.Expect('>')
}

// AppendSection appends the section as a response has it: "[1.HEADER]", of a partial "<0>" too.
func AppendSection(dst []byte, s *Section, m Mode) []byte {
	dst = append(dst, '[')
	for i, n := range s.Part {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, uint64(n), 10)
	}
	if s.Text != SectionAll {
		if len(s.Part) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, sectionWords[s.Text]...)
	}
	if s.Text == SectionHeaderFields || s.Text == SectionHeaderFieldsNot {
		dst = append(dst, " ("...)
		for i, f := range s.Fields {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = AppendAString(dst, f, m)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ']')
	if s.Partial {
		dst = append(strconv.AppendInt(append(dst, '<'), s.Offset, 10), '>')
	}
	return dst
}
