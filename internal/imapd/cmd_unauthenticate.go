package imapd

import "postamt/internal/imap"

// RFC 8437 section 3: "UNAUTHENTICATE". All that the client has said is forgotten with the session; TLS stays. Behind the command he may send the next login without waiting for
// the answer.
//
// It is there where one process does everything. A worker must not have it: one that was taken over would say OK itself, and be told the next user's password.
func (u *user) cmdUnauthenticate(cmd imap.Command, d *imap.Decoder) error {
	if !u.note.Again {
		return imap.Bad("no such command")
	}
	if err := d.End(); err != nil {
		return err
	}
	if u.compressed {
		// Section 4.1: his layer ends behind the command, a place that DEFLATE does not know: what its last flush leaves comes before what is plain, or not. A NO is not
		// permitted; this is (section 3).
		u.bye("protocol", imap.Unavailable, "compression cannot be taken off, come back without it")
		return errSaid
	}
	if u.view != nil {
		u.leave()
	}
	u.respond(cmd.Tag, imap.OK("", "log in again"))
	if u.c.Flush() != nil {
		return errGone
	}
	u.close("unauthenticate")
	u.again = true
	return errSaid
}
