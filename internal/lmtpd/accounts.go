package lmtpd

import (
	"fmt"
	"path/filepath"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/maildir"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// Actor decides whether this process may act for a user id.
type Actor interface {
	// MayActFor returns nil, or why not, which is temporary.
	MayActFor(uid userdb.ID) error
}

// Self is the Actor that cannot become anybody: it acts for its own user id,
// and for users who have none, whose mail belongs to whoever delivers it.
type Self userdb.ID

// MayActFor implements Actor.
func (s Self) MayActFor(uid userdb.ID) error {
	if uid == userdb.NoID || uid == userdb.ID(s) {
		return nil
	}
	return fmt.Errorf("lmtpd: running as uid %d, cannot act for uid %d", s, uid)
}

// Anybody is the Actor of a process that has others act: the monitor, whose own
// rules come after.
type Anybody struct{}

// MayActFor implements Actor.
func (Anybody) MayActFor(userdb.ID) error { return nil }

// Accounts is the Mailboxes of an installation: the resolver that smtpd and
// queued ask too, and the user database. Its fields are not changed once it is
// in use.
type Accounts struct {
	// Resolve says whose an address is, without looking at aliases: what comes
	// here is the end of an expansion. (route.Tables.ResolveFinal)
	Resolve func(addr.Mailbox) route.Verdict
	// Lookup finds a user by canonical name. An error says that he exists and
	// cannot be had now. (userdb.Table.Lookup)
	Lookup     func(name string) (userdb.User, bool, error)
	MailboxDir string        // homes of those who have none: MailboxDir/DOMAIN/USER; "" nobody has one there
	Maildir    string        // where a user without a maildir of his own has it: see userdb.User.Place
	Quota      maildir.Quota // of those who have none of their own
	Actor      Actor
	MinUID     userdb.ID // users with a lower user id get no mail; 0: 1
	// Target finds a command or file of the alias files by the address of its entry and its name, and whose it is to be; nil: they have none. An error that is a
	// *smtp.Reply is what the client is told.
	Target func(to addr.Mailbox, name string) (Mailbox, error)
}

func noSuchUser() *smtp.Reply { return smtp.NewReply(550, "5.1.1", "No such user here") }

// Mailbox implements Mailboxes.
func (a *Accounts) Mailbox(r Rcpt) (Mailbox, error) {
	to := r.Addr
	name, inAlias := strings.CutPrefix(r.Target, smtp.InAlias)
	switch {
	case inAlias && a.Target != nil:
		return a.Target(to, name)
	case r.Target != "" && r.Target != smtp.JustMailbox && !strings.HasPrefix(r.Target, smtp.InForward):
		return Mailbox{}, smtp.NewReply(501, "5.5.4", "bad value of XTARGET")
	}
	return a.mailbox(to)
}

func (a *Accounts) mailbox(to addr.Mailbox) (Mailbox, error) {
	v := a.Resolve(to)
	switch {
	case v.User != "":
		return a.open(v.User, v.Mailbox.Domain, v.Tag)
	case v.Kind == route.Refuse:
		return Mailbox{}, v.Reply
	}
	// The domain is none of ours. The client is another mail server, which
	// knows why it came to us; the whole address may be a user's name.
	name, err := userdb.Canonical(to.Local + "@" + to.Domain)
	if err != nil || strings.Contains(to.Local, "@") {
		return Mailbox{}, noSuchUser()
	}
	return a.open(name, to.Domain, "")
}

// User is the mailbox of a user by his name, as he logs in. domain is his if his name has none.
func (a *Accounts) User(name, domain string) (Mailbox, error) { return a.open(name, domain, "") }

// open finds the mailbox of a user; domain is his if his name has none.
func (a *Accounts) open(user, domain, tag string) (Mailbox, error) {
	u, ok, err := a.Lookup(user)
	if err != nil {
		return Mailbox{}, err
	}
	if !ok {
		return Mailbox{}, noSuchUser()
	}
	if err := u.Check(max(a.MinUID, 1)); err != nil {
		return Mailbox{}, err
	}
	if err := a.Actor.MayActFor(u.UID); err != nil {
		return Mailbox{}, fmt.Errorf("user %s: %w", u.Name, err)
	}
	box := Mailbox{User: u.Name, UID: u.UID, GID: u.GID, Home: u.Home}
	local, own, ok := strings.Cut(u.Name, "@")
	if ok {
		domain = own
	}
	if u.Home == "" && a.MailboxDir != "" && domain != "" {
		// Neither a user's name nor a domain has a "/" or begins with a dot.
		u.Home = filepath.Join(a.MailboxDir, domain, local)
	}
	path, err := u.Place(a.Maildir, domain)
	if err != nil {
		return Mailbox{}, err
	}
	t := maildir.Target{Owner: u.Name, Path: path, Tag: tag, Quota: maildir.Quota(u.Quota)}
	if t.Quota == (maildir.Quota{}) {
		t.Quota = a.Quota
	}
	// What must be there already is the home; or, for a home below MailboxDir,
	// which nobody makes by hand, MailboxDir.
	switch {
	case a.MailboxDir != "" && below(a.MailboxDir, path):
		t.Base = a.MailboxDir
	case u.Home != "" && below(u.Home, path):
		t.Base = u.Home
	default:
		t.Base = filepath.Dir(path)
	}
	box.Target = t
	return box, nil
}

// below reports whether path is dir or in it.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
