package imapd

import (
	"context"
	"errors"
	"io"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
)

// RFC 9051 section 6.3.12: "APPEND" SP mailbox 1*(append-message). RFC 3502: all of them or none.
func (u *user) cmdAppend(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if d.Err() != nil {
		return d.Err()
	}
	to, err := u.target(name)
	if err != nil {
		return err
	}
	defer to.Close()
	var staged []*mailbox.Staged
	defer func() { to.Discard(staged...) }()
	for d.More() || len(staged) == 0 {
		s, err := u.stage(d, to)
		if s != nil {
			staged = append(staged, s)
		}
		if err != nil {
			return err
		}
	}
	if err := d.End(); err != nil {
		return err
	}
	uids, err := to.Publish(context.WithoutCancel(u.ctx), staged...)
	staged = nil
	if err != nil {
		return err
	}
	validity, _, _, _ := to.Status()
	return imap.OK(imap.CodeAppendUID(validity, uids), "appended")
}

// stage reads one message. What is wrong with it is said before its octets are asked for, where that is possible.
func (u *user) stage(d *imap.Decoder, to *mailbox.Mailbox) (*mailbox.Staged, error) {
	m := d.AppendMessage()
	if d.Err() != nil {
		return nil, d.Err()
	}
	flags, keywords, err := splitFlags(m.Flags)
	switch size := m.Literal.Size; {
	case err != nil:
		return nil, err
	case m.Kind == imap.DataCatenate:
		return nil, imap.Bad("CATENATE is not offered")
	case m.Kind == imap.DataUTF8 && u.c.Mode&imap.UTF8 == 0:
		return nil, imap.Bad("UTF8 was not enabled")
	case size == 0:
		return nil, imap.No("", "a message of no octets")
	case u.conf.MessageLimit > 0 && size > u.conf.MessageLimit:
		return nil, imap.No(imap.TooBig, "the message is larger than what is taken")
	}
	if err := to.Room(m.Literal.Size, 1); err != nil {
		return nil, err
	}
	body := d.Open(m.Literal)
	r := &reading{r: body}
	put := to.Stage
	if m.Literal.Binary && m.Kind != imap.DataUTF8 { // RFC 3516 section 4.4: its octets are kept. UTF8 is text.
		put = to.StageBinary
	}
	s, err := put(r, flags, keywords, m.Date)
	switch {
	case r.err != nil:
		return s, connError{r.err}
	case err != nil:
		// The client sends it all; what it says next is to be understood.
		if _, rerr := io.Copy(io.Discard, r); rerr != nil {
			return s, connError{rerr}
		}
		return s, err
	case body.NUL && !m.Literal.Binary:
		return s, imap.Bad("a NUL in a literal")
	}
	d.AppendEnd(m)
	return s, d.Err()
}

// reading remembers that the reader failed: the connection is lost, and the mailbox is not to blame.
type reading struct {
	r   io.Reader
	err error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// connError is an error of the connection, which ends with it.
type connError struct{ error }

func (e connError) Unwrap() error { return e.error }

var errGone = connError{errors.New("imapd: the connection is lost")}
