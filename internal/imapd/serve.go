package imapd

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/uidlist"
)

// user is a session in the Authenticated state or, with a view, in the Selected state (RFC 9051 section 3).
type user struct {
	session
	note       Note
	account    *mailbox.Account    // his own maildir
	namespaces *mailbox.Namespaces // that, and what is shared
	commands   int

	view     *view // nil: no mailbox is selected
	keywords uidlist.Keywords
	named    uint32    // bits of keywords that the client was told of
	nameless uint32    // of those that had no name
	looked   time.Time // when that was
	saved    []uint32  // UIDs, ascending: the result of SEARCH with SAVE (RFC 5182)
	contexts []*searchContext

	// What ENABLE and its like have changed. They hold to the end of the session.
	rev2, condstore, qresync, uidOnly, utf8 bool

	compressed bool    // the connection is
	again      bool    // the client is to log in once more
	notify     *notify // nil: NOTIFY was not used
	attention  attention
	expunging  bool // the command removes messages, and says which

	limited    bool   // the command under way has left out messages, as CommandLimit wants
	lowest     uint32 // the lowest UID of those that it has not left out; 0: not known
	uidCommand bool   // a command with UID is under way: its FETCH responses have UIDs
	numbered   bool   // the one under way has sequence numbers in it, which must not change while it is answered

	// Scratch, kept from one response to the next.
	buf, fields, scratch []byte
	structure            structure
}

// revision1: the client has not said that he speaks revision 2, which has no RECENT.
func (u *user) revision1() bool { return !u.rev2 }

// need is what a command needs of the session, and what it forbids it.
type need uint8

const (
	selected need = 1 << iota // a mailbox is selected
	writable                  // and was not opened with EXAMINE
	numbers                   // RFC 9051 section 7.5.1: without UID before it, sequence numbers must not change while it is answered
	uid                       // it can have UID before it
	removes                   // it removes messages, and says which
)

// userCommand is one command of these states.
type userCommand struct {
	name  string
	needs need
	run   func(*user, imap.Command, *imap.Decoder) error // nil: OK; a *imap.Status: that
}

// userCommands are those of the Authenticated and Selected states, the frequent ones first.
var userCommands = []userCommand{
	{"FETCH", selected | numbers | uid, (*user).cmdFetch},
	{"NOOP", 0, (*user).cmdNoop},
	{"IDLE", 0, (*user).cmdIdle},
	{"STORE", selected | writable | numbers | uid, (*user).cmdStore},
	{"SEARCH", selected | numbers | uid, (*user).cmdSearch},
	{"ESEARCH", 0, (*user).cmdESearch},
	{"SELECT", 0, (*user).cmdSelect},
	{"STATUS", 0, (*user).cmdStatus},
	{"APPEND", 0, (*user).cmdAppend},
	{"REPLACE", selected | writable | uid | removes, (*user).cmdReplace},
	{"COPY", selected | numbers | uid, (*user).cmdCopy},
	{"MOVE", selected | writable | uid | removes, (*user).cmdMove},
	{"EXPUNGE", selected | writable | uid | removes, (*user).cmdExpunge},
	{"LIST", 0, (*user).cmdList},
	{"LSUB", 0, (*user).cmdLsub},
	{"SORT", selected | numbers | uid, (*user).cmdSort},
	{"CANCELUPDATE", selected, (*user).cmdCancelUpdate},
	{"THREAD", selected | numbers | uid, (*user).cmdThread},
	{"EXAMINE", 0, (*user).cmdSelect},
	{"CLOSE", selected, (*user).cmdClose},
	{"UNSELECT", selected, (*user).cmdUnselect},
	{"CHECK", selected, (*user).cmdNoop},
	{"CREATE", 0, (*user).cmdCreate},
	{"DELETE", 0, (*user).cmdDelete},
	{"RENAME", 0, (*user).cmdRename},
	{"SUBSCRIBE", 0, (*user).cmdSubscribe},
	{"UNSUBSCRIBE", 0, (*user).cmdSubscribe},
	{"GETMETADATA", 0, (*user).cmdGetMetadata},
	{"SETMETADATA", 0, (*user).cmdSetMetadata},
	{"GETQUOTAROOT", 0, (*user).cmdGetQuotaRoot},
	{"GETQUOTA", 0, (*user).cmdGetQuota},
	{"SETQUOTA", 0, (*user).cmdSetQuota},
	{"MYRIGHTS", 0, (*user).cmdMyRights},
	{"GETACL", 0, (*user).cmdGetACL},
	{"SETACL", 0, (*user).cmdSetACL},
	{"DELETEACL", 0, (*user).cmdDeleteACL},
	{"LISTRIGHTS", 0, (*user).cmdListRights},
	{"NOTIFY", 0, (*user).cmdNotify},
	{"NAMESPACE", 0, (*user).cmdNamespace},
	{"ENABLE", 0, (*user).cmdEnable},
	{"CAPABILITY", 0, (*user).cmdCapability},
	{"ID", 0, (*user).cmdID},
	{"COMPRESS", 0, (*user).cmdCompress},
	{"UNAUTHENTICATE", 0, (*user).cmdUnauthenticate},
	{"LOGOUT", 0, (*user).cmdLogout},
}

// Serve opens the mailboxes of a client who has logged in, tells him whether he has, and serves him. It returns when the session is over; the
// caller closes what c is of, unless the client is to log in Again, and then nothing of the session is left. When ctx ends, a session that waits for a command ends.
func (s *Server) Serve(ctx context.Context, c *imap.Conn, open func(context.Context) (*mailbox.Account, error), note Note) (again bool) {
	u := &user{note: note, session: session{srv: s, conf: s.conf.Load(), ctx: ctx, c: c, start: s.now(), id: note.Session, client: note.Client}}
	u.attention.c = c
	c.Limits = imap.AfterLogin(u.conf.MessageLimit)
	end := u.begin()
	u.run(open)
	end()
	if c.TLS() != nil && !u.again {
		c.Close() // close_notify, as in disconnect
	}
	s.Log.Mailbox(u.id, maillog.Mailbox{Client: u.client, Why: u.why, Error: u.broken, Commands: u.commands, Took: s.now().Sub(u.start)})
	return u.again
}

func (u *user) run(open func(context.Context) (*mailbox.Account, error)) {
	defer u.c.Flush()
	u.c.SetDeadline(time.Time{})
	if !u.srv.users.enter(u.client.Login, u.conf.UserLimit) {
		u.srv.Log.Limit(u.id, u.client, "user", 0)
		u.refuse("limit", imap.No(imap.LimitReached, "too many sessions of this user"))
		return
	}
	defer u.srv.users.leave(u.client.Login)
	var err error
	if u.account, err = open(u.ctx); err != nil {
		u.broken = err
		u.refuse("failed", unavailable())
		return
	}
	if u.namespaces, err = u.account.Namespaces(u.client.Login, u.conf.Shared); err != nil {
		u.srv.Log.Problem(u.id, "open the shared mailboxes", err) // he has his own
	}
	defer u.end()
	u.welcome()
	for !u.closing {
		u.c.SetDeadline(time.Now().Add(u.conf.TimeoutIdle)) // for a whole command line, however slowly it comes
		if u.notify != nil && u.c.Buffered() == 0 {
			if err := u.wait(func() error { return u.announce(false) }); err != nil {
				u.abandon(err)
				return
			}
		}
		cmd, d, ok := u.read()
		u.c.SetDeadline(time.Time{})
		if ok {
			u.commands++
			u.dispatch(cmd, d)
		}
	}
}

// end closes what is open.
func (u *user) end() {
	u.notify.end()
	if u.view != nil {
		u.leave()
	}
	u.namespaces.Close()
	if err := u.account.Close(); err != nil {
		u.srv.Log.Problem(u.id, "close the mailboxes", err)
	}
}

// welcome is the answer to the login, or the greeting of who has logged in elsewhere.
func (u *user) welcome() {
	code := imap.CodeCapability(u.capabilities())
	if u.note.Tag == "" {
		u.respond("", &imap.Status{Condition: imap.ConditionPREAUTH, Code: code, Text: u.conf.Hostname + " IMAP postamt"})
		return
	}
	u.respond(u.note.Tag, imap.OK(code, "you have logged in"))
}

// refuse is the answer to a login that leads nowhere, and the end.
func (u *user) refuse(why string, r *imap.Status) {
	if u.note.Tag != "" {
		u.respond(u.note.Tag, r)
	}
	u.bye(why, r.Code, "try again later")
}

// dispatch runs one command to its tagged response.
func (u *user) dispatch(cmd imap.Command, d *imap.Decoder) {
	c := findUserCommand(cmd.Name)
	u.uidCommand, u.expunging = cmd.UID, c != nil && c.needs&removes != 0
	u.limited, u.lowest = false, 0
	u.numbered = c != nil && c.needs&numbers != 0 && !cmd.UID
	err := u.allowed(c, cmd)
	if err == nil {
		err = c.run(u, cmd, d)
	}
	var s *imap.Status
	if derr := d.Err(); derr != nil && !errors.As(derr, &s) {
		err = connError{derr}
	}
	var lost connError
	switch {
	case errors.As(err, &lost):
		u.lost(lost.error)
		return
	case err == errSaid:
		return
	case errors.Is(err, errValidity), errors.Is(err, errFolder), errors.As(err, new(cutError)):
		u.abandon(err)
		return
	}
	s = u.sayLimited(u.outcome(cmd, err))
	if c != nil {
		err := u.tell(!u.numbered)
		if u.expunging = false; err != nil {
			u.abandon(err)
			return
		}
		// RFC 7162 section 3.2 and 6: mod-sequences that were told are higher than those of messages of which it is not told yet that they are gone. A client who is
		// lost now is to begin below these.
		if u.qresync && u.view != nil && len(u.view.gone) > 0 {
			u.say(imap.OK(imap.CodeHighestModSeq(u.view.agreed), "some messages are gone, which will be told later"))
		}
	}
	u.respond(cmd.Tag, s)
}

func findUserCommand(name string) *userCommand {
	for i := range userCommands {
		if userCommands[i].name == name {
			return &userCommands[i]
		}
	}
	return nil
}

func (u *user) allowed(c *userCommand, cmd imap.Command) error {
	switch {
	case c == nil:
		return imap.Bad("no such command")
	case cmd.UID && c.needs&uid == 0:
		return imap.Bad("there is no such command with UID")
	case c.needs&selected != 0 && u.view == nil:
		return imap.Bad("no mailbox is selected")
	case c.needs&writable != 0 && u.view.readOnly && u.view.rights&changeRights == 0:
		return imap.No(imap.NoPerm, "you may only read the mailbox")
	case c.needs&writable != 0 && u.view.readOnly:
		return imap.No("", "the mailbox was opened to be read only")
	case u.uidOnly && c.needs&uid != 0 && !cmd.UID && c.name != "EXPUNGE": // RFC 9586 section 3
		return &imap.Status{Condition: imap.ConditionBAD, Code: imap.UIDRequired, Text: "only with UID, which was enabled"}
	}
	return nil
}

// outcome is the tagged response for what a command has returned.
func (u *user) outcome(cmd imap.Command, err error) *imap.Status {
	var s *imap.Status
	switch {
	case err == nil:
		return imap.OK("", cmd.Name+" completed")
	case errors.As(err, &s):
		return s
	case errors.Is(err, maildir.ErrNoFolder):
		return imap.No(imap.NonExistent, "there is no such mailbox")
	case errors.Is(err, maildir.ErrFolder):
		return imap.No(imap.Cannot, "no mailbox can have that name")
	case errors.Is(err, fs.ErrExist):
		return imap.No(imap.AlreadyExists, "there is a mailbox of that name")
	case errors.Is(err, maildir.ErrQuota):
		return imap.No(imap.OverQuota, "the quota does not allow it")
	case errors.Is(err, uidlist.ErrKeywordsFull):
		return imap.No(imap.LimitReached, "the mailbox has as many keywords as it can have")
	case errors.Is(err, uidlist.ErrKeyword):
		return imap.No(imap.Cannot, "no keyword can have that name")
	case errors.Is(err, fs.ErrPermission):
		u.srv.Log.Problem(u.id, cmd.Name, err)
		return imap.No(imap.NoPerm, "the modes of its files forbid it")
	case errors.Is(err, mailbox.ErrExpunged):
		return imap.No(imap.ExpungeIssued, "some of the messages are gone")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return imap.No(imap.Unavailable, "not finished, try again later")
	}
	u.srv.Log.Problem(u.id, cmd.Name, err)
	return imap.No(imap.Unavailable, "not now, try again later")
}

// abandon ends the session because its view of the mailbox is not to be mended.
func (u *user) abandon(err error) {
	switch {
	case u.c.Err() != nil:
		u.lost(u.c.Err())
		return
	case errors.As(err, new(cutError)):
		u.close("failed")
	case errors.Is(err, errFolder): // nothing is broken
		u.bye("deleted", imap.NonExistent, "the mailbox that was selected is deleted, or has another name")
		return
	case errors.Is(err, errValidity):
		u.bye("failed", imap.Unavailable, "all messages of the mailbox have got other UIDs")
	default:
		u.bye("failed", imap.Unavailable, "the mailbox cannot be read now")
	}
	u.broken = err
}

// say sends an untagged status response.
func (u *user) say(s *imap.Status) { u.respond("", s) }

// send sends octets of a response, and keeps their room for the next one.
func (u *user) send(b []byte) {
	if len(b) > 0 {
		u.c.Write(b)
	}
	if cap(b) <= 64<<10 {
		u.buf = b[:0]
	}
}
