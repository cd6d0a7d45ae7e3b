package lmtpd

import (
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/smtp"
)

// mixed is a message on its way to all kinds of recipients: to maildirs as it comes, to commands and files from a spool, once it has come whole. A command that
// was given half a message could not be told.
type mixed struct {
	msg    maildir.Message
	boxes  *maildir.Delivery
	copies []int  // which of the copies in boxes is the recipient's; -1: none
	spool  *spool // nil: no recipient needs it
}

func (s *session) newMixed(m maildir.Message, trace string) *mixed {
	d := &mixed{msg: m, copies: make([]int, len(s.tx.rcpts))}
	copies := make([]maildir.Copy, 0, len(s.tx.rcpts))
	for i, r := range s.tx.rcpts {
		if r.box.spooled() {
			d.copies[i] = -1
			if d.spool == nil {
				d.spool = newSpool(m.Binary, trace)
			}
			continue
		}
		d.copies[i] = len(copies)
		copies = append(copies, maildir.Copy{Target: r.box.Target, Header: Header(s.tx.from, r.to.String(), trace)})
	}
	d.boxes = s.srv.Store.Begin(m, copies)
	return d
}

// Write implements delivery.
func (d *mixed) Write(p []byte) (int, error) {
	if d.spool != nil {
		d.spool.Write(p)
	}
	return d.boxes.Write(p)
}

// Abort implements delivery.
func (d *mixed) Abort() {
	d.boxes.Abort()
	if d.spool != nil {
		d.spool.close()
	}
}

// acceptMixed ends the delivery with a reply for each recipient, in their order.
func (s *session) acceptMixed(tx *transaction, b *body, d *mixed) {
	results := d.boxes.Commit()
	if d.spool != nil {
		defer d.spool.close()
	}
	silent := false
	for i := range tx.rcpts {
		rcpt := &tx.rcpts[i]
		var r maildir.Result
		if k := d.copies[i]; k >= 0 {
			r = results[k]
		} else if silent {
			continue // it is asked for again, and so not done now
		} else {
			s.c.Flush() // a command takes its time
			r = s.deed(tx, d, rcpt)
		}
		reply := smtp.NewReply(250, "2.0.0", "Stored as "+b.id)
		switch {
		case r.Err != nil:
			reply = replyFor(r.Err)
			if reply.Code == 551 && rcpt.box.Steps != nil {
				r.Err = nil
			}
		case rcpt.box.Command != "":
			reply = smtp.NewReply(250, "2.0.0", "The command has taken it")
		}
		entry := maillog.Delivery{From: tx.from, Rcpt: rcpt.to.String(), User: rcpt.box.User, Target: rcpt.target, Folder: r.Folder, Name: r.Name,
			Size: r.Size, Again: r.Again, Status: reply.Enhanced.String(), Took: s.srv.now().Sub(b.start)}
		if r.Err != nil {
			s.srv.Log.NotStored(b.id, entry, r.Err)
		} else {
			s.srv.Log.Stored(b.id, entry)
		}
		if silent = silent || r.Unknown; silent {
			continue
		}
		s.rcpts++
		s.send(reply)
	}
	if silent {
		// Whoever gets no reply must ask again, as suspect: a 4yz would say
		// that the message is not there.
		s.close("unknown")
		return
	}
	s.messages++
	s.faults = 0
}
