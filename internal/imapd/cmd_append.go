package imapd

import (
	"cmp"
	"context"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// RFC 9051 section 6.3.12: "APPEND" SP mailbox 1*(append-message). RFC 3502: all of them or none.
func (u *user) cmdAppend(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if d.Err() != nil {
		return d.Err()
	}
	to, rights, err := u.target(name)
	if err != nil {
		return err
	}
	defer to.Close()
	var staged []*mailbox.Staged
	defer func() { to.Discard(staged...) }()
	total, size := int64(0), int64(0) // of the messages before this one, and of it as far as it is known
	for d.More() || len(staged) == 0 {
		s, err := u.stage(d, to, rights, func(octets int64) error {
			if size = octets; u.beyond(uint64(len(staged)) + 1) {
				return u.refuseLimited()
			}
			if len(staged) == cmp.Or(u.conf.appendMost, appendMost) {
				return imap.No(imap.LimitReached, "too many messages at once")
			}
			return to.Room(total+octets, int64(len(staged))+1)
		})
		if s != nil {
			staged = append(staged, s)
		}
		total += size
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
	u.made(to, uids)
	validity, _, _, _ := to.Status()
	return imap.OK(imap.CodeAppendUID(validity, uids), "appended")
}

// stage reads one message. What is wrong with it is said before its octets are asked for, where that is possible; room says whether so many octets fit.
func (u *user) stage(d *imap.Decoder, to *mailbox.Mailbox, rights maildir.Rights, room func(octets int64) error) (*mailbox.Staged, error) {
	m := d.AppendMessage()
	if d.Err() != nil {
		return nil, d.Err()
	}
	flags, keywords, err := splitFlags(m.Flags)
	if err != nil {
		return nil, err
	}
	flags, keywords = restrict(rights, flags, keywords)
	a := &assembly{u: u, d: d, room: room, catenate: m.Kind == imap.DataCatenate}
	put := to.Stage
	if !a.catenate {
		if m.Literal.Size == 0 {
			return nil, errEmpty
		}
		if err := a.open(m.Literal, m.Kind == imap.DataUTF8); err != nil {
			return nil, err
		}
		if m.Literal.Binary && m.Kind != imap.DataUTF8 { // RFC 3516 section 4.4: its octets are kept. UTF8 is text.
			put = to.StageBinary
		}
	}
	s, err := put(a, flags, keywords, m.Date)
	a.drop()
	switch {
	case a.lost != nil:
		return s, connError{a.lost}
	case err != nil:
		return s, err
	case a.size == 0:
		return s, errEmpty
	}
	d.AppendEnd(m)
	return s, d.Err()
}

// appendMost is how many messages one APPEND can have: each is a file and some memory until all are there.
const appendMost = 10_000

var errEmpty = imap.No("", "a message of no octets")

// connError is an error of the connection, which ends with it.
type connError struct{ error }

func (e connError) Unwrap() error { return e.error }

var errGone = connError{errLost}
