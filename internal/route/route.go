// Package route decides where mail for an address goes. It is pure: its tables are values, it opens no file and asks no network.
// smtpd asks it at RCPT, queued at each attempt, and aliasctl on the terminal, and all three get the same answer.
//
// The order, for user+tag@domain:
//
//	user+tag@domain    virtual aliases, then in a local domain the aliases, then users
//	user@domain        the same, without the tag
//	@domain            virtual aliases, then in a local domain the aliases
//
// At each level a table is asked for the full address first and in a local domain then for the bare name. Postmaster of a domain of
// ours who is not found in this way is the local postmaster, else the address of the postmaster key (RFC 5321 section 4.5.1). What
// is not found is unknown in a local or virtual domain, and remote in any other: routes say by which way. An alias is one for whatever
// domain it names: naming an address is to take mail for it.
//
// An address that Returns has made comes before all of these.
//
// Aliases are followed depth first. An entry that reaches itself directly ("bob: bob, carol@example.net") means what lies behind it:
// the next table, in the end the mailbox. An entry that reaches itself through another is a loop. Each entry is expanded once for one
// address asked for, so the work is linear in the size of the tables, whatever they say.
//
// No character of an address has a meaning here but the delimiter of tags: "user%host", "host!user", "|command" and "/file" are names
// like any other, and what stands in an address is never read as a target.
package route

import (
	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/smtp"
)

// Kind is the sort of a verdict.
type Kind uint8

const (
	Refuse  Kind = iota // nobody, or an error: route; Reply says which
	Mailbox             // a user of ours
	Alias               // stands for others: Targets
	Remote              // another host: Next
	Discard             // a discard route: accepted and forgotten
	Command             // a command: Target
	File                // a file or maildir: Target
)

func (k Kind) String() string {
	return [...]string{"refuse", "mailbox", "alias", "remote", "discard", "command", "file"}[k]
}

// Verdict is the answer for one address.
type Verdict struct {
	Kind    Kind
	Addr    addr.Mailbox   // the address judged, with a domain
	User    string         // Mailbox: key of the user database
	Tag     string         // Mailbox: the tag of user+tag, without the delimiter, "" if none
	Mailbox addr.Mailbox   // Mailbox: the final mailbox, the same for every address of it: it names the copy in the maildir
	Targets []alias.Target // Alias
	Owner   addr.Mailbox   // Alias: who is told of errors, from owner-NAME; null if none
	Next    Transport      // Remote; Mailbox: zero for local_transport
	Target  alias.Target   // Command, File: what stands in the entry of Addr
	Reply   *smtp.Reply    // Refuse
	Ours    bool           // mail for it is taken from anyone: the domain is local, virtual or relayed, or it is an alias
	Source  alias.Pos      // what decided: "aliases:12", "users:3", "routes:4", "relay_domains"
}

// Domains is a set of domains, as A-labels in lower case or literals with their brackets, with the place that names each.
type Domains map[string]alias.Pos

// Tables is what decisions are made of. It is not changed after it is first used, so any number of goroutines may.
type Tables struct {
	LocalDomains   Domains
	VirtualDomains Domains
	RelayDomains   Domains
	LocalDomain    string // one of LocalDomains: the domain of bare names and of the mailboxes of users without a domain
	Aliases        *alias.Table
	Virtual        *alias.Table
	Users          Users
	Routes         *Routes
	Lists          Lists     // nil: ":include:" cannot be read
	Smarthost      Transport // where remote mail goes that no route names; zero: by the MX records of its domain
	Delimiters     string    // each of which may stand between a name and its tag; "" none
	Postmaster     addr.Mailbox
	Returns        Returns // nil: senders of forwarded mail stay as they are
}

// Users says who exists.
type Users interface {
	// User looks for local@domain, or for the bare name if domain is "". Letters of either case are the same; name is the
	// canonical one. An error means that nobody can say now, or that the user's entry is broken: mail for him has to wait.
	User(local, domain string) (name string, at alias.Pos, ok bool, err error)
}

// Lists reads the files of ":include:".
type Lists interface {
	List(path string) (*alias.List, error)
}

// Returns makes senders of forwarded mail addresses of ours, and knows them again: srs.
type Returns interface {
	// Rewrite is the sender of a message of sender that goes on to somebody else's host; sender itself if it cannot be one of ours.
	Rewrite(sender addr.Mailbox) addr.Mailbox
	// Return is whom mail to such an address is for; ok false: it is none. The error says why nobody.
	Return(local, domain string) (m addr.Mailbox, ok bool, err error)
	// Token is what proves that a member has got mail with an address in it, which is his to be taken off a list by.
	Token(address, member addr.Mailbox) string
	Made(token string, address, member addr.Mailbox) bool
}

// Limits bound an expansion.
type Limits struct {
	Depth int // aliases within aliases
	Count int // targets looked at

	// Posting: mail comes from Sender, and not everybody may post to each mailing list.
	Posting bool
	Sender  addr.Mailbox
}

// Expansion is an address followed to the end.
type Expansion struct {
	Finals []Final // in the order first seen, each mailbox or remote address once
}

// Final is one end of an expansion. Its Kind is Mailbox, Remote, Command, File, Discard, or Refuse for a member that cannot be reached: one dead
// member does not concern the others.
type Final struct {
	Verdict              // with Owner: that of the innermost list it was found in, null if none has one
	Via     []alias.Pos  // the targets that led here, outermost first
	List    *alias.List  // the innermost mailing list that it is a member of; nil: none
	ListAt  addr.Mailbox // whose address is this
}

// Key is the same for finals that get one copy between them: the mailbox for local ones, the name of a command or file, the address for others.
func (f *Final) Key() string {
	switch f.Kind {
	case Mailbox:
		return f.Mailbox.Key()
	case Remote:
		return f.Addr.ForeignKey()
	case Command, File:
		return f.Target.Name() // no key of an address is without an "@"
	}
	return f.Addr.Key()
}
