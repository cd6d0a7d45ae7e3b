// Package monitor lets a program that is started as root act for many users without any part of it that strangers talk to being root.
// The program is executed again as each of its parts:
//
//	                  strangers
//	                      | LMTP, IMAP, POP3
//	monitor  ---------  front    login_user; no files, no network of its own; the listeners were open before
//	(root)   records      |
//	   |     and one      | connections, each made by the monitor: one end here, the other there
//	   |     descriptor   |
//	   +--------------  worker   one for each user id, as that user; the mailboxes of that user
//	   +--------------  worker
//	   +--------------  runner   the same, for what a user has executed: it has no walls of its own, and so is a process of its own
//
// The monitor reads nothing but requests of 576 bytes from its own children, over one socketpair each (SOCK_SEQPACKET: a record is
// a datagram and cannot be cut or joined). It asks the program's own Lookup who is behind a name, so that neither users nor uids are
// taken from a child's word, and it makes, feeds and buries the workers.
//
// Records. Numbers are little-endian; what is not used is zero. A request that is not exactly so ends the child that sent it.
//
//	request, child to monitor: 576 bytes            order, monitor to child: 2,048 bytes
//	  0  1  version, 1                                0  1  version, 1
//	  1  1  kind                                      1  1  kind
//	  2  2  length of the name                        2  1  status (of an answer)
//	  4  4  serial                                    4  4  serial (of an answer: that of its request)
//	  8  2  length of the ticket                      8  4  user id
//	 12  4  0                                        12  2  length of the value
//	 16 384 name                                     16 ..  value
//	400 128 ticket                                   a descriptor comes with some
//	528 48  0
//	a descriptor comes with Hand
//
//	from      kind             asks for                                      answer
//	front     ready            tell the supervisor that we serve             none
//	front     taken, kept      the last configuration is in use; or the one before it still is     none
//	front     who N            whose N is                                    user id
//	front     connect N, T     a connection to the worker of N's user        user id and one end of a socketpair
//	front     hand N, T, fd    this client to be served by that worker       user id (where there are Tickets, the user is T's, and N a note for the session)
//	front     dial             a connection to where logins are judged          that
//	worker    mailbox N        what Lookup says of N, if N is of its uid     value
//	worker    leave n          to exit, having got n connections             "go", or none if it got one more meanwhile
//	monitor   configuration fd the text, to be read from fd; the first record, and again at each reload
//	monitor   session fd, N    serve this connection (N: the user, if it is of one; NUL, what Lookup says of him, of so many octets as the serial says, and the note)
//	monitor   hurry            leave as soon as you are idle: others wait for room
//	monitor   stop             finish what is under way and exit
//	monitor   go               exit
//
// T is a one-time ticket. Where the program has Tickets (imapd, pop3d), whose mailbox is opened is what the ticket says, and a front
// that nobody logged in to has none. Deliver has no Tickets: its front may have mail stored for anyone, which is its job.
//
// A login, with authd's protocol (postamt-auth(5)):
//
//	front     AUTH at authd's client socket, gets OK: the ticket is (SPID, CPID, id, COOKIE)
//	front     Pass: hand, if the client is plain and nothing was read in advance; else connect, and Pump
//	monitor   REQUEST at authd's user socket: whose login that was, once, for a minute, if the front's connection to authd still stands
//	monitor   Lookup of that user, the rules, the worker
//	worker    a Session with the user's name, on the client's own descriptor or on the other end of the pump
//
// The pump leaves TLS, and with it what the client sees of our certificate, in the front; mail passes through the front then. That the
// front cannot read mailboxes that nobody has logged in to is the promise, not that it sees nothing.
//
// A worker:
//
//	state     what happens                          next
//	none      connect                               running; the first connection waits in its socket until it reads it
//	running   connect                               running
//	          leave n, and n were sent              leaving; "go" is sent
//	          leave n, and more were sent           running
//	          dies                                  backing off: 1 s, then twice the last time, 1 minute at most
//	leaving   connect                               a new one runs; the old one ends
//	          exits                                 none
//	backing   connect                               refused for now, until the time is over
//	          10 minutes without a death            none, and the next death costs 1 s again
//
// What a captured front can do: answer its clients as it likes; ask who has a mailbox; have mail stored for anybody (deliver), or
// see what its logged-in clients see (imapd, pop3d). What it cannot: open a file, connect anywhere, read a mailbox nobody has
// logged in to, make the monitor act for root or a system account, execute anything, signal its siblings.
// What a captured worker can do: what its user may; ask whether a name is of that user. Not more.
// If the front ends, everything ends within two seconds, with an error so that a supervisor starts it again; if a worker ends, its connections break and
// nothing else; if the monitor ends, the kernel ends the others (PDEATHSIG), and their sockets break.
//
// Without root there are the same processes, all as the one user who started them, and names of any other uid are refused.
//
// The monitor needs CAP_SETUID and CAP_SETGID, and nothing to kill children that do not obey: they die with it.
package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"

	"postamt/internal/maillog"
	"postamt/internal/privilege"
)

// Account is who is behind a name.
type Account struct {
	UID, GID uint32
	Home     string // if not "" and there is one, it must be the user's
	Value    string // what the worker gets to know of the name; the program's own, at most 2,032 bytes
	Member   bool   // the worker is in the groups that /etc/group gives the uid, too
	Runs     bool   // its process is the runner, not the worker: both are of the uid, and nothing else do they share
}

// Refusal is an error of Lookup that the front is told word for word. Any other is logged, and the front is told that it is for now.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Tickets redeems what authd gave for a login. It is asked from several goroutines.
type Tickets interface {
	// Redeem returns the user that the ticket is for, and makes it void. An error is logged and for now, unless it is a Refusal.
	Redeem(ticket []byte) (user string, err error)
}

// Options say what a monitor is for.
type Options struct {
	Program   string            // argv[0] of the children, before their role
	Front     privilege.Account // who the front is
	MinUID    uint32            // workers have at least this user id, and never 0
	Workers   int               // at once, at most
	Grace     time.Duration     // how long children may take to finish at the end
	Listeners []*os.File        // for the front, in the manner of LISTEN_FDS
	Names     []string          // and their names, LISTEN_FDNAMES
	Lookup    func(name string) (Account, error)
	Tickets   Tickets                  // nil: whoever names a user gets the worker; authwire.UserClient is one
	Dial      func() (*os.File, error) // where logins are judged: the front may connect nowhere itself; nil: nowhere
	Log       *maillog.Logger
	Ready     func()        // the front serves
	Watchdog  time.Duration // the front says within each such time that its listeners accept; 0: nobody asks
	Alive     func()        // it has said so
}

// Errors of the rules, in the chain of what is logged.
var (
	ErrRoot  = errors.New("root is never a user")
	ErrLow   = errors.New("below min_uid")
	ErrFront = errors.New("the account of our own front")
	ErrHome  = errors.New("the home is another's")
	ErrOther = errors.New("without root we act for ourselves only")
)

// judge applies the rules to whom Lookup found.
func (o *Options) judge(name string, a Account) error {
	why := error(nil)
	switch {
	case a.UID == 0 || a.GID == 0:
		why = ErrRoot
	case a.UID == math.MaxUint32 || a.GID == math.MaxUint32: // "no change" to the system calls that take one
		why = ErrRoot
	case a.UID < o.MinUID:
		why = ErrLow
	case a.UID == o.Front.UID:
		why = ErrFront // a worker could trace the front
	default:
		return nil
	}
	return fmt.Errorf("%s: uid %d, gid %d: %w", name, a.UID, a.GID, why)
}

// judgeAlone is judge where there is no root, and so nobody to become.
func judgeAlone(name string, a Account) error {
	if int(a.UID) != os.Geteuid() {
		return fmt.Errorf("%s: uid %d: %w", name, a.UID, ErrOther)
	}
	return nil
}

// ownHome refuses a home that belongs to somebody else. One that is missing, or out of root's reach (NFS, a closed directory above
// it without CAP_DAC_READ_SEARCH), is left to the worker, which can do there what its user can.
func ownHome(name string, a Account) error {
	if a.Home == "" {
		return nil
	}
	st, err := os.Stat(a.Home)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != a.UID {
		return fmt.Errorf("%s: uid %d: %s belongs to uid %d (chown %d mends it): %w", name, a.UID, a.Home, sys.Uid, a.UID, ErrHome)
	}
	return nil
}

// homes bounds how long and how many wait for a file server that does not answer. Beyond that homes are left to the workers too.
type homes chan struct{}

func (h homes) own(name string, a Account) error {
	select {
	case h <- struct{}{}:
	default:
		return nil
	}
	done := make(chan error, 1)
	go func() {
		done <- ownHome(name, a)
		<-h
	}()
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return fmt.Errorf("%s: %s: the file system does not answer", name, a.Home)
	}
}
