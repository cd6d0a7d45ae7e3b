package lmtpd

import (
	"cmp"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/maildir"
	"postamt/internal/mbox"
	"postamt/internal/pipe"
	"postamt/internal/smtp"
)

// spooled: it needs the message whole.
func (b *Mailbox) spooled() bool { return b.Command != "" || b.File != "" || b.Steps != nil }

// deed gives the message to a command or a file, or to all that a .qmail file names.
func (s *session) deed(tx *transaction, d *mixed, rcpt *recipient) maildir.Result {
	switch b := &rcpt.box; {
	case b.Steps != nil:
		return s.steps(tx, d, rcpt)
	case b.File != "":
		return s.file(tx, d, rcpt, b.File)
	default:
		r, _ := s.command(tx, d, rcpt, b.Command, false, time.Now().Add(s.conf.CommandTime))
		return r
	}
}

func (s *session) file(tx *transaction, d *mixed, rcpt *recipient, path string) (r maildir.Result) {
	text, err := d.spool.reader(Header(tx.from, rcpt.to.String(), ""))
	if err != nil {
		return maildir.Result{Err: err}
	}
	if s.srv.Append == nil {
		err = smtp.NewReply(451, "4.3.5", "no files are delivered to here")
	} else {
		err = s.srv.Append(path, tx.from, d.msg, text)
	}
	r.Size, r.Err, r.Unknown = text.Size(), err, errors.Is(err, mbox.ErrUnknown)
	return r
}

// command runs one. last: a command of a .qmail file wants nothing after it to be done.
func (s *session) command(tx *transaction, d *mixed, rcpt *recipient, line string, qmail bool, until time.Time) (r maildir.Result, last bool) {
	text, err := d.spool.reader(append([]byte(pipe.FromLine(tx.from, d.msg.Arrived)), Header(tx.from, rcpt.to.String(), "")...))
	if err != nil {
		return maildir.Result{Err: err}, false
	}
	_, tag, _ := addr.SplitTag(rcpt.to.Local, s.conf.Delimiters)
	about := pipe.Delivery{Sender: tx.from, Recipient: rcpt.to, Tag: tag, User: rcpt.box.User, Home: rcpt.box.Home, Arrived: d.msg.Arrived, Origin: tx.params.Origin}
	c := pipe.Command{Line: line, Dir: cmp.Or(rcpt.box.Home, "/"), Env: about.Environment(), Input: text, QMail: qmail, Timeout: time.Until(until).Round(time.Millisecond)}
	r = maildir.Result{Size: text.Size(), Err: c.Run()}
	if r.Err == pipe.ErrStop {
		r.Err = nil
		return r, true
	}
	return r, false
}

// steps does what a .qmail file says, line by line, as qmail-local does. What comes after a failure is not done, and what has been done is done again by the next
// attempt, but in maildirs. Addresses come last: they are the answer.
func (s *session) steps(tx *transaction, d *mixed, rcpt *recipient) (r maildir.Result) {
	forwards := &smtp.Reply{Code: 551, Enhanced: smtp.EnhancedCode{5, 1, 6}}
	last, until := false, time.Now().Add(s.conf.CommandTime) // of all: the front waits no longer for a recipient
	for i := range rcpt.box.Steps {
		t := &rcpt.box.Steps[i]
		switch {
		case t.Kind == alias.Pipe:
			r, last = s.command(tx, d, rcpt, t.Text, true, until)
		case t.Kind == alias.File && strings.HasSuffix(t.Text, "/"):
			r = s.spoolTo(tx, d, rcpt, filepath.Clean(t.Text))
		case t.Kind == alias.File:
			r = s.file(tx, d, rcpt, t.Text)
		default:
			var line string
			if line, r.Err = standsFor(t, rcpt.to, &rcpt.box); r.Err == nil {
				forwards.Lines = append(forwards.Lines, line)
			}
		}
		if r.Err != nil {
			return r
		}
		if last {
			break
		}
	}
	if len(forwards.Lines) > 0 {
		r.Err = forwards
	}
	return r
}

// spoolTo stores the spooled message in a maildir.
func (s *session) spoolTo(tx *transaction, d *mixed, rcpt *recipient, path string) maildir.Result {
	text, err := d.spool.reader(nil)
	if err != nil {
		return maildir.Result{Err: err}
	}
	t := maildir.Target{Owner: path, Path: path, Base: filepath.Dir(path)}
	if path == rcpt.box.Target.Path { // his mailbox, with its quota
		t = rcpt.box.Target
	}
	box := s.srv.Store.Begin(d.msg, []maildir.Copy{{Target: t, Header: Header(tx.from, rcpt.to.String(), "")}})
	if _, err := io.Copy(box, text); err != nil {
		box.Abort()
		return maildir.Result{Err: err}
	}
	return box.Commit()[0]
}
