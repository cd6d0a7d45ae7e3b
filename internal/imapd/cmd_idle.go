package imapd

import (
	"errors"
	"strings"
	"time"

	"postamt/internal/imap"
	"postamt/internal/lineio"
	"postamt/internal/watch"
)

// RFC 2177, RFC 9051 section 6.3.13: "IDLE", and "DONE" on a line. The goroutine waits for the client and for the mailbox at once: what is changed there wakes it.
func (u *user) cmdIdle(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	if u.c.WriteContinuation("idling") != nil {
		return errGone
	}
	if u.view != nil {
		defer u.view.box.Follow(u.c.Wake)()
	}
	u.waiting.Store(true)
	defer u.waiting.Store(false)
	u.c.SetDeadline(time.Now().Add(u.conf.TimeoutIdle))
	defer u.c.SetDeadline(time.Time{})
	for {
		if err := u.tell(true); err != nil {
			return err
		}
		u.c.Flush() // a wait that was ended before it began sends nothing
		told := time.Now()
		err := u.c.Wait()
		if errors.Is(err, lineio.ErrWoken) { // a mailbox in which something happens all the time is told of now and then
			time.Sleep(watch.Interval - time.Since(told))
		}
		if errors.Is(err, lineio.ErrWoken) && u.ctx.Err() == nil {
			continue
		}
		var line []byte
		for err == nil || errors.Is(err, lineio.ErrWoken) && u.ctx.Err() == nil {
			if line, err = u.c.ReadLine(u.c.Limits.Line); err == nil {
				break
			}
		}
		switch {
		case err != nil:
			return connError{err}
		case strings.EqualFold(string(line), "DONE"):
			return nil
		}
		return imap.Bad("DONE ends IDLE, and nothing else")
	}
}
