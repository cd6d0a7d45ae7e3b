package imapd

import (
	"context"
	"io"
	"time"

	"postamt/internal/imap"
	"postamt/internal/maillog"
)

// authenticated is a session in the Authenticated state.
type authenticated struct {
	session
	note     Note
	commands int
}

// inAuthenticated are the commands of the Authenticated state.
var inAuthenticated = []command[*authenticated]{
	{"NOOP", func(t *authenticated, _ imap.Command, d *imap.Decoder) *imap.Status { return t.noop(d) }},
	{"CAPABILITY", func(t *authenticated, _ imap.Command, d *imap.Decoder) *imap.Status {
		return t.capability(d, t.capabilities())
	}},
	{"ID", func(t *authenticated, _ imap.Command, d *imap.Decoder) *imap.Status { return t.ident(d) }},
	{"LOGOUT", func(t *authenticated, _ imap.Command, d *imap.Decoder) *imap.Status { return t.logout(d) }},
}

// Serve opens the mailbox of a client who has logged in, tells him whether he has, and serves him. It returns when the session is over; the
// caller closes what c is of. When ctx ends, a session that waits for a command ends.
func (s *Server) Serve(ctx context.Context, c *imap.Conn, open func(context.Context) (io.Closer, error), note Note) {
	t := &authenticated{note: note, session: session{srv: s, conf: s.conf.Load(), ctx: ctx, c: c, start: s.now(), id: note.Session, client: note.Client}}
	end := t.begin()
	t.run(open)
	end()
	if c.TLS() != nil {
		c.Close() // close_notify, as in disconnect
	}
	s.Log.Mailbox(t.id, maillog.Mailbox{Client: t.client, Why: t.why, Error: t.broken, Commands: t.commands, Took: s.now().Sub(t.start)})
}

func (t *authenticated) run(open func(context.Context) (io.Closer, error)) {
	defer t.c.Flush()
	t.c.SetDeadline(time.Time{})
	if !t.srv.users.enter(t.client.Login, t.conf.UserLimit) {
		t.srv.Log.Limit(t.id, t.client, "user", 0)
		t.refuse("limit", imap.No(imap.LimitReached, "too many sessions of this user"))
		return
	}
	defer t.srv.users.leave(t.client.Login)
	account, err := open(t.ctx)
	if err != nil {
		t.broken = err
		t.refuse("failed", unavailable())
		return
	}
	defer func() {
		if err := account.Close(); err != nil {
			t.srv.Log.Problem(t.id, "close the mailbox", err)
		}
	}()
	t.welcome()
	for !t.closing {
		t.c.SetDeadline(time.Now().Add(t.conf.TimeoutIdle)) // for a whole command line, however slowly it comes
		cmd, d, ok := t.read()
		t.c.SetDeadline(time.Time{})
		if !ok {
			continue
		}
		t.commands++
		if c := find(inAuthenticated, cmd.Name); c != nil && !cmd.UID {
			t.respond(cmd.Tag, c.run(t, cmd, d))
		} else {
			t.wrong(cmd, imap.Bad("no such command now"))
		}
	}
}

// welcome is the answer to the login, or the greeting of who has logged in elsewhere.
func (t *authenticated) welcome() {
	code := imap.Capability(t.capabilities())
	if t.note.Tag == "" {
		t.respond("", &imap.Status{Condition: imap.ConditionPREAUTH, Code: code, Text: t.conf.Hostname + " IMAP postamt"})
		return
	}
	t.respond(t.note.Tag, imap.OK(code, "you have logged in"))
}

// refuse is the answer to a login that leads nowhere, and the end.
func (t *authenticated) refuse(why string, r *imap.Status) {
	if t.note.Tag != "" {
		t.respond(t.note.Tag, r)
	}
	t.bye(why, r.Code, "try again later")
}
