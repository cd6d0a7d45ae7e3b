package pop3d

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/pop3"
)

// transaction is a session in the TRANSACTION state, and in UPDATE.
type transaction struct {
	session
	note Note
	drop Maildrop

	marked  []bool // by DELE; nil: none
	marks   int
	octets  int64 // of all messages; -1: not known yet
	removed int64 // of those that are marked; kept when octets is known

	retrieved, tops, deleted int
	sent                     int64
	unsized                  bool // it was logged that a size is not known
}

// inTransaction are the commands of the TRANSACTION state, the frequent ones first.
var inTransaction = []command[*transaction]{
	{"RETR", (*transaction).cmdRetr},
	{"DELE", (*transaction).cmdDele},
	{"TOP", (*transaction).cmdTop},
	{"UIDL", (*transaction).cmdUidl},
	{"LIST", (*transaction).cmdList},
	{"STAT", (*transaction).cmdStat},
	{"NOOP", (*transaction).cmdNoop},
	{"QUIT", (*transaction).cmdQuit},
	{"CAPA", (*transaction).cmdCapa},
	{"RSET", (*transaction).cmdRset},
	{"LANG", (*transaction).cmdLang},
}

// Serve opens the maildrop of a client who has logged in, tells him whether he has, and serves him. It returns when the session is over; the
// caller closes what c is of. When ctx ends, a session that waits for a command ends, unless it has sent or marked messages: it is worth waiting for.
func (s *Server) Serve(ctx context.Context, c *pop3.Conn, open func(context.Context) (Maildrop, error), note Note) {
	t := &transaction{note: note, octets: -1, session: session{srv: s, conf: s.conf.Load(), ctx: ctx, c: c, start: s.now(), id: note.Session, client: note.Client}}
	end := t.begin()
	messages := t.run(open)
	end()
	if c.TLS() != nil {
		c.Close() // close_notify, as in disconnect
	}
	s.Log.Maildrop(t.id, maillog.Maildrop{Client: t.client, Why: t.why, Error: t.broken, Messages: messages, Retrieved: t.retrieved, Tops: t.tops,
		Octets: t.sent, Deleted: t.deleted, Took: s.now().Sub(t.start)})
}

func (t *transaction) run(open func(context.Context) (Maildrop, error)) (messages int) {
	t.c.SetDeadline(time.Time{})
	drop, err := open(t.ctx)
	if err != nil {
		t.refuse(err)
		t.c.Flush()
		return 0
	}
	t.drop = drop
	messages = drop.Len()
	defer t.leave()
	t.respond(pop3.OK(strconv.Itoa(messages) + " messages"))
	for !t.closing {
		t.c.SetDeadline(time.Now().Add(t.conf.TimeoutIdle)) // for a whole line, however slowly it comes
		cmd, ok := t.read(pop3.MaxCommand, t.retrieved == 0 && t.marks == 0)
		t.c.SetDeadline(time.Time{}) // a message may take longer; the client has writeTime for each block
		if !ok {
			continue
		}
		if c := find(inTransaction, cmd.Keyword); c != nil {
			t.respond(c.run(t, cmd))
		} else {
			t.respond(t.elsewhere(cmd.Keyword, find(inAuthorization, cmd.Keyword) != nil, "you have logged in"))
		}
	}
	t.c.Flush()
	return messages
}

// refuse is the response to a login whose maildrop cannot be opened.
func (t *transaction) refuse(err error) {
	t.broken = err
	if errors.Is(err, ErrInUse) {
		t.close("in-use")
		t.respond(pop3.Err(pop3.InUse, "another session has the maildrop"))
		return
	}
	t.close("failed")
	t.respond(unavailable())
}

// leave lets go of the maildrop, if QUIT has not.
func (t *transaction) leave() {
	if t.drop == nil {
		return
	}
	if err := t.drop.Close(); err != nil {
		t.srv.Log.Problem(t.id, "close the maildrop", err)
	}
	t.drop = nil
}

var errNotRemoved = errors.New("pop3d: some messages could not be removed")

// RFC 1939 section 5: "NOOP".
func (t *transaction) cmdNoop(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return t.fault("no arguments")
	}
	return pop3.OK("")
}

// RFC 2449 section 5: "CAPA".
func (t *transaction) cmdCapa(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return t.fault("no arguments")
	}
	capa(t.c, t.conf.capabilities(t.note.Mechanisms))
	return nil
}

func (t *transaction) cmdLang(cmd pop3.Command) *pop3.Response { return t.lang(cmd) }

// message is the one that an argument names, counted from 0.
func (t *transaction) message(arg string) (int, *pop3.Response) {
	n, err := pop3.ParseNumber(arg)
	switch {
	case err != nil:
		return 0, t.fault("a message-number is needed")
	case n < 1 || n > t.drop.Len():
		return 0, pop3.Err("", "no such message")
	case t.isMarked(n - 1):
		return 0, pop3.Err("", "the message is marked as deleted")
	}
	return n - 1, nil
}

func (t *transaction) isMarked(i int) bool { return t.marked != nil && t.marked[i] }

// size is 0 where it is not known: one message that cannot be looked at must not keep all others from their owner.
func (t *transaction) size(i int) int64 {
	n, err := t.drop.Size(i)
	if err != nil {
		if !t.unsized && !errors.Is(err, fs.ErrNotExist) {
			t.unsized = true
			t.srv.Log.Problem(t.id, "size", err)
		}
		return 0
	}
	return n
}

// total is the number of messages that are not marked, and of their octets.
func (t *transaction) total() (int, int64) {
	if t.octets < 0 {
		t.octets, t.removed = 0, 0
		for i := range t.drop.Len() {
			n := t.size(i)
			t.octets += n
			if t.isMarked(i) {
				t.removed += n
			}
		}
	}
	return t.drop.Len() - t.marks, t.octets - t.removed
}
