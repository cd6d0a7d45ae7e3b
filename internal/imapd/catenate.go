package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// assembly reads the message of an APPEND or REPLACE: a literal, or with CATENATE (RFC 4469) texts and what URLs name, one after the other. What is wrong with a part is said
// before its octets are asked for.
type assembly struct {
	u        *user
	d        *imap.Decoder
	room     func(octets int64) error // whether the quota has it
	catenate bool

	part    io.Reader // nil: the next one is to come
	literal *imap.Body
	binary  bool // literal is a literal8
	from    *original
	size    int64 // of the parts so far
	lost    error // of the connection
}

// admit judges a part before it is read.
func (a *assembly) admit(octets int64) error {
	a.size += octets
	if limit := a.u.conf.MessageLimit; limit > 0 && a.size > limit || a.size < 0 {
		return imap.No(imap.TooBig, "the message is larger than what is taken")
	}
	return a.room(a.size)
}

// open begins a literal.
func (a *assembly) open(l imap.Literal, utf8 bool) error {
	if utf8 && a.u.c.Mode&imap.UTF8 == 0 {
		return imap.Bad("UTF8 was not enabled")
	}
	if err := a.admit(l.Size); err != nil {
		return err
	}
	a.literal, a.binary = a.d.Open(l), l.Binary
	a.part = a.literal
	return nil
}

// Read implements io.Reader. A *imap.Status as its error is the answer to the command.
func (a *assembly) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		if a.part == nil {
			if err = a.next(); err != nil {
				return 0, err
			}
		}
		if n, err = a.part.Read(p); err == io.EOF {
			err = a.end()
		} else if err != nil && a.literal != nil {
			a.lost = err
		}
	}
	return n, err
}

// next opens the next part; io.EOF: there is none.
func (a *assembly) next() error {
	if !a.catenate {
		return io.EOF
	}
	p, ok := a.d.CatenatePart()
	switch {
	case a.d.Err() != nil:
		return a.d.Err()
	case !ok:
		a.catenate = false
		return io.EOF
	case p.Text:
		return a.open(p.Literal, p.UTF8)
	}
	return a.openURL(p.URL)
}

// end closes the part that was read.
func (a *assembly) end() error {
	nul := a.literal != nil && a.literal.NUL && !a.binary
	a.close()
	if nul {
		return imap.Bad("a NUL in a literal")
	}
	return nil
}

func (a *assembly) close() {
	if a.from != nil {
		a.from.close()
		a.from.box.Close()
	}
	a.part, a.literal, a.from = nil, nil, nil
}

// drop ends a message that was not taken. The client sends all of a literal that he was asked for; what he says next is to be understood.
func (a *assembly) drop() {
	if a.literal != nil && a.lost == nil {
		_, a.lost = io.Copy(io.Discard, a.literal)
	}
	a.close()
}

// openURL opens what a URL names (RFC 5092), in the form in which BODY has it. RFC 4469 section 4.1: BADURL, with the URL.
func (a *assembly) openURL(text string) error {
	bad := imap.No(imap.CodeBadURL(text[:min(len(text), imap.MaxURL)]), "there is no message, or no part of one, of that URL")
	url, ok := imap.ParseURL(text)
	if !ok || !a.u.own(&url) {
		return bad
	}
	if url.Partial && url.Count == 0 {
		url.Count = 1 << 62
	}
	p, err := a.u.need(url.Mailbox, maildir.Read)
	if err != nil {
		return bad
	}
	box, err := p.Open()
	if errors.Is(err, maildir.ErrNoFolder) || errors.Is(err, maildir.ErrFolder) {
		return bad
	}
	if err != nil {
		return err
	}
	from := &original{box: box, uid: url.UID}
	a.from = from
	if err := box.Sync(); err != nil {
		return err
	}
	validity, _, _, _ := box.Status()
	if url.UIDValidity != 0 && url.UIDValidity != validity {
		return bad
	}
	found := false
	err = box.Facts(a.u.ctx, validity, []uint32{url.UID}, func(_ uint32, known []byte) (err error) {
		from.known = facts.Facts(known)
		a.part, found, err = a.section(&url.Section)
		from.known = nil
		return err
	})
	if err == nil && !found || errors.Is(err, mailbox.ErrExpunged) {
		return bad
	}
	return err
}

// section opens a section of a.from. False: there is none.
func (a *assembly) section(s *imap.Section) (r io.Reader, ok bool, err error) {
	from := a.from
	span, ok, err := from.span(s)
	if !ok || err != nil {
		return nil, false, err
	}
	if s.Text == imap.SectionHeaderFields || s.Text == imap.SectionHeaderFieldsNot {
		text, err := from.headerFields(s, span)
		if err == nil {
			err = a.admit(int64(len(text)))
		}
		return bytes.NewReader(text), true, err
	}
	skip, count := partOf(s, span.Wire)
	if err := a.admit(count); err != nil {
		return nil, true, err
	}
	f, err := from.open()
	if err != nil {
		return nil, true, err
	}
	return newSpanReader(io.NewSectionReader(f, span.Offset, span.Octets), skip, count), true, nil
}

// own: a URL that names a server names this one, and this user of it.
func (u *user) own(url *imap.URL) bool {
	return !url.Server || url.User == u.client.Login && strings.EqualFold(url.Host, u.conf.Hostname) && (url.Port == "" || url.Port == "143")
}

// spanReader reads the wire form of octets of a file.
type spanReader struct {
	file io.Reader
	form wireForm
	buf  bytes.Buffer
}

func newSpanReader(file io.Reader, skip, count int64) *spanReader {
	s := &spanReader{file: file}
	s.form = wireForm{w: &s.buf, skip: skip, left: count}
	return s
}

// Read implements io.Reader. It gives as many octets as were asked for, or fails.
func (s *spanReader) Read(p []byte) (int, error) {
	b := blocks.Get().(*[block]byte)
	defer blocks.Put(b)
	for s.buf.Len() == 0 {
		if s.form.left == 0 {
			return 0, io.EOF
		}
		n, err := s.file.Read(b[:])
		s.form.write(b[:n])
		if err == io.EOF {
			s.form.end()
			if s.form.left > 0 && s.buf.Len() == 0 { // M12
				return 0, fmt.Errorf("imapd: a message has become shorter: %w", io.ErrUnexpectedEOF)
			}
		} else if err != nil {
			return 0, err
		}
	}
	return s.buf.Read(p)
}
