package imapd

import (
	"strings"
	"time"

	"postamt/internal/imap"
)

// RFC 2177, RFC 9051 section 6.3.13: "IDLE", and "DONE" on a line. The goroutine waits for the client and for the mailbox at once: what is changed there wakes it.
func (u *user) cmdIdle(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	if u.c.WriteContinuation("idling") != nil {
		return errGone
	}
	u.c.SetDeadline(time.Now().Add(u.conf.TimeoutIdle))
	defer u.c.SetDeadline(time.Time{})
	if err := u.wait(func() error { return u.announce(true) }); err != nil {
		return err
	}
	u.idle.Set(true)
	defer u.idle.Set(false)
	line, err := u.c.ReadLine(u.c.Limits.Line)
	switch {
	case err != nil:
		return connError{err}
	case strings.EqualFold(string(line), "DONE"):
		return nil
	}
	return imap.Bad("DONE ends IDLE, and nothing else")
}
