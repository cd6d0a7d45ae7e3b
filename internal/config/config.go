// Package config reads postamt.conf(5), the one configuration file of all programs.
//
// The format is flat: one "key value" a line, values of several words separated by spaces, "#" at the start of a
// line for a comment. There are no includes, conditions or variables; what has a structure of its own (aliases,
// users, routes) has a file of its own. Every key has a default.
//
// One table (table.go) names each key, its default and the field it sets; a test holds the table, the default file
// etc/postamt.conf and the page man/postamt.conf.5 together, both ways.
//
// Promises: a file is either read whole or refused, with all its errors at once, each as "file:line: key: what".
// Reading takes bounded memory and never blocks, whatever the path names. Nothing here asks the network.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// DefaultPath is where the programs look when nothing else is said. make sets it to SYSCONFDIR; nothing else does.
var DefaultPath = "/etc/postamt/postamt.conf"

// maxFile bounds what is read. The default file with all its comments is a hundredth of it.
const maxFile = 1 << 20

// Config holds the value of every key, checked. Names of files and sockets are absolute. It is not changed after
// Load, so any number of goroutines may read it; a reload makes a new one.
type Config struct {
	File string // the file it was read from; "" for Default

	// Names and domains.
	Hostname       string   // our name: banner, EHLO, Received; lower case
	Origin         string   // the domain of this host in addresses
	LocalDomains   Domains  // delivered to local users and aliases
	VirtualDomains Domains  // delivered by full address
	RelayDomains   Domains  // taken from anyone and sent on
	RelayClients   Prefixes // may relay on listeners of kind mx
	Postmaster     string   // gets the mail for postmaster where nobody has that name; "" none

	// Tables.
	Aliases            []string // files
	VirtualAliases     []string // files
	Users              string   // file
	Passwords          string   // file of their hashes; "": they are in Users
	Routes             string   // file; "" none
	RecipientDelimiter string   // characters; "" none

	// Places.
	QueueDir        string
	RunDir          string
	StateDir        string // what programs remember
	MailboxDir      string // home of users who have none: MailboxDir/DOMAIN/USER
	Maildir         string // pattern: "~" the home, "%u" "%n" "%d" user, name, domain
	SharedMailboxes string // a directory of maildirs that imapd shows to all users; "": none
	Index           string // directory for what is known of folders; "" in each folder

	// Accounts and workers, of programs that are started as root.
	LoginUser   string // name or uid:gid; "" do not split
	MailboxUser string // of users without a uid
	AliasUser   string // of commands and files in alias files
	QueueUser   string // queued; owns the sockets that it connects to
	SmtpdUser   string // these three, and QueueUser: "" who started the program
	AuthUser    string
	KeydUser    string
	MinUID      int
	WorkerLimit int
	WorkerIdle  time.Duration
	WorkerWait  time.Duration

	// Logging and process.
	Log          string // auto, stderr, syslog
	DrainTimeout time.Duration

	// Listeners and TLS.
	SmtpdListen   []Listener
	DeliverListen []Listener
	Pop3dListen   []Listener
	ImapdListen   []Listener
	TLSCert       []string // files, as many as TLSKey
	TLSClientCA   []string // files
	TLSKey        []string
	TLSMinVersion uint16   // as in crypto/tls
	TLSKeys       string   // who holds the keys: auto, keyd, self
	KeydClients   []string // users who may sign

	// Who may log in.
	AuthListen          []Listener // kinds client and users
	AuthServer          string     // socket that smtpd, pop3d and imapd ask; "" nobody can log in
	AuthUsers           string     // socket at which pop3d and imapd collect logins
	AuthSources         []string   // users, system, checkpassword:PATH, server:PATH[,PATH]
	AuthMechanisms      []string
	AuthClear           Prefixes // may log in without TLS
	AuthHashes          int      // computed at once; 0 as many as there are processors
	AuthMemory          int64    // bytes that those may need together
	AuthTimeout         time.Duration
	OAuthIntrospection  string // URL; "" none
	OAuthCredentials    string // file; "" none
	OAuthJWTKeys        string // file; "" none
	OAuthIssuer         string
	OAuthAudience       string
	OAuthClaim          string
	SenderCheck         string // yes, envelope, no
	Senders             string // file; "" none
	LoginMessagesHour   int    // 0 any number
	LoginMessagesDay    int
	LoginRecipientsHour int
	LoginRecipientsDay  int

	// What smtpd accepts.
	MessageSizeLimit    int64 // bytes; 0 none
	RecipientLimit      int   // a transaction
	MailLimit           int   // transactions a connection; 0 none
	SmtpdHops           int   // Received fields
	SmtpdTimeoutCommand time.Duration
	SmtpdTimeoutData    time.Duration // each block
	SmtpdTimeoutSession time.Duration // 0 none
	SmtpdTimeoutCommit  time.Duration // 0 none
	SmtpdMinRate        int64         // bytes a second; 0 off
	SmtpdStressPercent  int
	SmtpdStressTimeout  time.Duration
	SmtpdSessionLimit   int
	SmtpdClientLimit    int // concurrent sessions of a client; 0 off
	SmtpdClientRate     int // new connections a minute of a client; 0 off
	SmtpdTrustedExempt  bool
	SmtpdErrorSoft      int
	SmtpdErrorDelay     time.Duration
	SmtpdErrorHard      int
	SmtpdJunkLimit      int
	SmtpdCommitLimit    int

	// What pop3d serves.
	Pop3dTimeoutLogin time.Duration
	Pop3dTimeoutIdle  time.Duration
	Pop3dErrorLimit   int
	Pop3dLoginDelay   time.Duration
	Pop3dExpire       int // days; 0 never
	Pop3dSessionLimit int
	Pop3dClientLimit  int // concurrent sessions of a client; 0 off

	// What imapd serves.
	ImapdTimeoutLogin time.Duration
	ImapdTimeoutIdle  time.Duration
	ImapdErrorLimit   int   // 0 none
	ImapdMessageLimit int64 // bytes of an APPEND; 0 none
	ImapdCommandLimit int   // messages that one command works on; 0 any number
	ImapdSessionLimit int
	ImapdClientLimit  int // concurrent sessions of a client; 0 off
	ImapdUserLimit    int // of a user; 0 off

	// The queue.
	QueueActiveLimit  int
	QueueScanInterval time.Duration
	RetryMin          time.Duration
	RetryMax          time.Duration
	WarnAfter         time.Duration // 0 never
	ExpireAfter       time.Duration
	BounceExpireAfter time.Duration
	AliasDepth        int
	AliasExpansion    int

	// Delivery.
	LocalTransport              Endpoint // LMTP
	SRSDomain                   string   // of rewritten senders
	SRSKeys                     string   // file; "" senders are not rewritten
	ForwardFiles                []string // names in homes: .forward, .qmail
	CommandTimeout              time.Duration
	DeliverConnections          int
	DeliveryConcurrency         int
	DestinationConcurrency      int
	DestinationConcurrencyStart int
	DestinationRecipients       int
	ConnectionReuse             int
	ConnectionIdle              time.Duration
	QuotaDefault                int64 // bytes; 0 none

	// Other servers.
	Smarthost            string // "host", "host:port" (by MX) or "[host]", "[host]:port" (as it is); "" none
	SourceAddress        []netip.Addr
	DNSServers           []netip.AddrPort
	RemotePort           int
	RemoteTLS            string // may, no, encrypt
	RemoteLoopback       bool
	RemoteTimeoutConnect time.Duration
	RemoteTimeoutGreet   time.Duration
	RemoteTimeoutCommand time.Duration
	RemoteTimeoutData    time.Duration // the reply to the final dot
	RemoteTimeoutTotal   time.Duration

	dir   string // relative names are below it
	named []named
}

// named is a file or directory that a line names.
type named struct {
	path string
	at   Error // without what
}

// Where says of each of the errors of files that err was joined of which line names the file, if one does: as an *Error.
func (c *Config) Where(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		l := many.Unwrap()
		located := make([]error, len(l))
		for i, e := range l {
			located[i] = c.Where(e)
		}
		return errors.Join(located...)
	}
	var p *fs.PathError
	if !errors.As(err, &p) {
		return err
	}
	for _, n := range c.named {
		if n.path == p.Path {
			at := n.at
			at.Err = err
			return &at
		}
	}
	return err
}

// Names reports whether a line names a file, be it the one that its key has by default.
func (c *Config) Names(path string) bool {
	return slices.ContainsFunc(c.named, func(n named) bool { return n.path == path })
}

// Listener is one entry of a listen key.
type Listener struct {
	Network string // "tcp4", "tcp6" or "unix"
	Address string // "192.0.2.1:25", "[::]:25", or an absolute path
	Kind    string // smtpd: mx, submission, submissions, local; deliver: lmtp
}

// Endpoint is where to connect to.
type Endpoint struct {
	Network string // "tcp" or "unix"
	Address string // "host:port", or an absolute path
}

// Domains is a set of domains: those named, and those that files name, one a line.
type Domains struct {
	Names []string // lower case, A-labels or UTF-8 as written
	Files []string // absolute
}

// Prefixes is a list of networks; a single address is a network of one.
type Prefixes []netip.Prefix

// Contains reports whether one of the networks holds ip. An IPv4 address mapped into IPv6 is an IPv4 address.
func (p Prefixes) Contains(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	for _, n := range p {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// Error is one thing wrong with the configuration.
type Error struct {
	File string
	Line int    // 0: the file as a whole
	Key  string // "" when the line has none that is known
	Err  error
}

// Error gives "file:line: key: what".
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	return s + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Errors is everything wrong with one file, in the order of its lines. Load returns it as its error.
type Errors []*Error

// Error gives one line for each error.
func (e Errors) Error() string {
	var b strings.Builder
	for i, x := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(x.Error())
	}
	return b.String()
}

// Unwrap lets errors.Is and errors.As look at each.
func (e Errors) Unwrap() []error {
	u := make([]error, len(e))
	for i, x := range e {
		u[i] = x
	}
	return u
}

// Path is the file a program reads: what its -C flag names, else $POSTAMT_CONF, else DefaultPath.
func Path(flag string) string {
	if flag != "" {
		return flag
	}
	if p := os.Getenv("POSTAMT_CONF"); p != "" {
		return p
	}
	return DefaultPath
}

// Default is the configuration of a file that sets nothing, in the directory of DefaultPath.
func Default() *Config {
	c := &Config{dir: filepath.Dir(DefaultPath)}
	for _, k := range c.keys() {
		if err := k.val.set(k.def); err != nil {
			panic("config: default of " + k.name + ": " + err.Error()) // the table is wrong; its test fails first
		}
	}
	c.derive(machineNames())
	return c
}

// Load reads and checks the file at path. Its error is an Errors.
func Load(path string) (*Config, error) {
	abs, text, err := Text(path)
	if err != nil {
		return nil, err
	}
	c := &Config{File: abs, dir: filepath.Dir(abs)}
	if errs := c.parse(path, text); len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

// Parse is Load for a text that was read already, from the file at path, which must be absolute.
func Parse(path, text string) (*Config, error) {
	c := &Config{File: path, dir: filepath.Dir(path)}
	if errs := c.parse(path, text); len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

// Text is the text of the file at path, as Load reads it.
func Text(path string) (abs, text string, err error) {
	if abs, err = filepath.Abs(path); err != nil {
		return "", "", Errors{{File: path, Err: err}}
	}
	if text, err = read(abs); err != nil {
		return "", "", Errors{{File: path, Err: err}}
	}
	return abs, text, nil
}

// read returns the text of the file, or why it is not one that can be a configuration.
func read(path string) (string, error) {
	// Not blocking: a FIFO without a writer would hold the start for ever. The flag has no effect on regular files.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", unwrapPath(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", unwrapPath(err)
	}
	switch {
	case st.IsDir():
		return "", fmt.Errorf("is a directory, not a file")
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("is not a regular file")
	case st.Size() > maxFile:
		return "", fmt.Errorf("%d bytes are too many (at most %d)", st.Size(), maxFile)
	}
	// The size may be a lie by the time we read: it is bounded again.
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", unwrapPath(err)
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("too long (at most %d bytes)", maxFile)
	}
	// The default file has only comments and is fine; one without a single byte is what an editor leaves
	// behind on a full disk, and a mail server running on defaults instead of its configuration loses mail.
	if len(b) == 0 {
		return "", fmt.Errorf("is empty (a file of one comment is enough to run on the defaults)")
	}
	return string(b), nil
}

// unwrapPath drops the operation and path of a *PathError: the path is in front already.
func unwrapPath(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return p.Err
	}
	return err
}
