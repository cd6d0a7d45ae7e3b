// Package tables keeps the values that package route decides by in step with the files they come from: aliases(5), users(5),
// routes(5), files of domains, and list files. It is the side of them that knows files and time.
//
// A file is looked at (stat) at most once a second, when somebody asks; no signal is needed. A file that was replaced (rename) is
// read at once; one that was written in place when it has rested for a second, since half a file parses too well. A file that does
// not parse at all, is not safe, or is gone leaves its last good state in force, and is reported once.
//
//	file                  at start                 later
//	good, or with slips   read; slips reported     read again when it changes
//	missing, optional     empty                    read when it appears
//	missing               error                    last good one, reported once
//	bad                   error                    last good one, reported once
//
// Beside an alias file may lie what Compile has made of it, file.cdb, in which is then looked up. The text is the truth: what is compiled counts
// if it is of just that text, and safe. Otherwise the text is read, which is reported once.
//
// A file must be a regular one, and not writable by everyone; a FIFO is refused without waiting for its writer. A list file must
// not be writable by its group either, since its name may come from a file of other owners, and has no last good state: mail for the
// list waits. Files are bounded by the limits of their formats.
package tables

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/route"
	"postamt/internal/userdb"
)

// Domains is a set of domains: those named, and those that files name, one a line.
type Domains struct{ Names, Files []string }

// Files says what to read. Paths are absolute.
type Files struct {
	LocalDomains   Domains
	VirtualDomains Domains
	RelayDomains   Domains
	Aliases        []string
	VirtualAliases []string
	Users          string   // "" none
	Routes         string   // "" none
	Optional       []string // of all of these: may be missing. For what is named by the default of a key; what somebody named must exist.
	Smarthost      string   // as route.ParseTransport reads it; "" none
	Delimiters     string
	Postmaster     string // address, or local name; "" none
	SRSKeys        string // file; "" senders are not rewritten. It is read once.
	SRSDomain      string
}

// interval is the time between two looks at a file, and how long one written in place must have rested.
const interval = time.Second

// Set is the tables in force. All methods may be called by any number of goroutines.
type Set struct {
	files  Files
	report func(error)
	now    func() time.Time
	start  time.Time

	current atomic.Pointer[state]
	looked  atomic.Int64 // time.Duration since start of the last look

	mu      sync.Mutex // held while looking and building
	sources []*source
	lists   *lists
	returns route.Returns
	seed    maphash.Seed
	last    string // what was reported about all tables together

	telling sync.Mutex
}

// state is what one reading of the files gave.
type state struct {
	route *route.Tables
	users *userdb.Table
}

// Open reads all files. What is wrong in single lines goes to report, here and later, as does every later trouble; report is called
// by one goroutine at a time. The errors are all those for which there can be no start.
func Open(f Files, report func(error)) (*Set, []error) {
	return open(f, report, time.Now)
}

func open(f Files, report func(error), now func() time.Time) (*Set, []error) {
	s := &Set{files: f, report: report, now: now, start: now(), seed: maphash.MakeSeed()}
	s.lists = &lists{set: s, cache: make(map[string]*list)}
	s.sources = sources(f)
	var errs []error
	for _, src := range s.sources {
		if err := s.load(src); err != nil {
			if errors.Is(err, fs.ErrNotExist) && src.optional {
				continue
			}
			errs = append(errs, err)
		}
	}
	if f.SRSKeys != "" {
		var err error
		if s.returns, err = openSRS(f.SRSKeys, f.SRSDomain, now); err != nil {
			errs = append(errs, err)
		}
	}
	t, more := s.build()
	if errs = append(errs, more...); len(errs) > 0 {
		return nil, errs
	}
	s.current.Store(t)
	return s, nil
}

// Current is the tables to decide by. They never change: who needs a consistent answer to several questions keeps them.
func (s *Set) Current() *route.Tables { return s.look().route }

// Users is the user database in force; nil if there is none.
func (s *Set) Users() *userdb.Table { return s.look().users }

// Lists is the list files that the aliases name, and those that such files name.
func (s *Set) Lists() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[string]bool)
	var paths []string
	var walk func(string)
	walk = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		paths = append(paths, path)
		l, err := s.lists.List(path) // what is wrong with it is told when it is used
		if err != nil {
			return
		}
		if strings.HasPrefix(l.Post, "/") {
			walk(l.Post)
		}
		for _, t := range l.Targets {
			if t.Kind == alias.Include {
				walk(t.Text)
			}
		}
	}
	for _, src := range s.sources {
		for _, path := range src.aliases.Includes() {
			walk(path)
		}
	}
	return paths
}

// look refreshes the state if it is time to, and nobody else does.
func (s *Set) look() *state {
	elapsed := s.now().Sub(s.start)
	if elapsed-time.Duration(s.looked.Load()) >= interval && s.mu.TryLock() {
		s.looked.Store(int64(elapsed))
		s.refresh()
		s.mu.Unlock()
	}
	return s.current.Load()
}

// refresh reads what changed.
func (s *Set) refresh() {
	changed := false
	for _, src := range s.sources {
		if !src.changed(s.now()) {
			continue
		}
		before, table := src.version, src.aliases
		if err := s.load(src); err != nil {
			if src.fresh() && errors.Is(err, fs.ErrNotExist) {
				continue // optional, and still not there
			}
			if text := err.Error(); text != src.trouble {
				src.trouble = text
				s.tell(fmt.Errorf("%w: the last good state stays in force", err))
			}
			continue
		}
		src.trouble = ""
		changed = changed || src.version != before || src.aliases != table
	}
	if !changed {
		return
	}
	t, errs := s.build()
	if len(errs) > 0 {
		for _, err := range errs {
			s.tell(err)
		}
		return
	}
	s.current.Store(t)
}

func (s *Set) tell(err error) {
	if s.report == nil {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.report(err)
}

// build makes the tables of what the sources hold. The errors are those of the values in Files.
func (s *Set) build() (*state, []error) {
	var errs []error
	t := &route.Tables{
		LocalDomains: route.Domains{}, VirtualDomains: route.Domains{}, RelayDomains: route.Domains{},
		Delimiters: s.files.Delimiters, Lists: s.lists, Returns: s.returns,
	}
	var users *userdb.Table
	var aliases, virtual []*alias.Table
	add := func(to route.Domains, names []string, at func(int) alias.Pos) {
		for i, n := range names {
			d, err := domain(n)
			if err != nil {
				errs = append(errs, fmt.Errorf("%v: %w", at(i), err))
				continue
			}
			if _, ok := to[d]; !ok {
				to[d] = at(i)
			}
			if t.LocalDomain == "" && len(t.LocalDomains) > 0 {
				t.LocalDomain = d // the first that is named
			}
		}
	}
	key := func(name string) func(int) alias.Pos { return func(int) alias.Pos { return alias.Pos{File: name} } }
	add(t.LocalDomains, s.files.LocalDomains.Names, key("local_domains"))
	add(t.VirtualDomains, s.files.VirtualDomains.Names, key("virtual_domains"))
	add(t.RelayDomains, s.files.RelayDomains.Names, key("relay_domains"))
	for _, src := range s.sources {
		switch src.kind {
		case localDomains:
			add(t.LocalDomains, src.domains, src.at)
		case virtualDomains:
			add(t.VirtualDomains, src.domains, src.at)
		case relayDomains:
			add(t.RelayDomains, src.domains, src.at)
		case localAliases:
			aliases = append(aliases, src.aliases)
		case virtualAliases:
			virtual = append(virtual, src.aliases)
		case usersFile:
			users = src.users
		case routesFile:
			t.Routes = src.routes
		}
	}
	var problems []error
	join := func(l []*alias.Table) *alias.Table {
		all, p := alias.Join(l...)
		for _, x := range p {
			problems = append(problems, x)
		}
		return all
	}
	t.Aliases, t.Virtual = join(aliases), join(virtual)
	if users != nil {
		t.Users = who{users}
	}
	var err error
	if s.files.Smarthost != "" {
		if t.Smarthost, err = route.ParseTransport(s.files.Smarthost); err != nil {
			errs = append(errs, fmt.Errorf("smarthost: %w", err))
		}
	}
	if s.files.Postmaster != "" {
		if t.Postmaster, err = Mailbox(s.files.Postmaster); err != nil {
			errs = append(errs, fmt.Errorf("postmaster: %w", err))
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	problems = append(problems, contradictions(t)...)
	if all := errors.Join(problems...); all == nil {
		s.last = ""
	} else if text := all.Error(); text != s.last {
		s.last = text
		for _, p := range problems {
			s.tell(p)
		}
	}
	return &state{t, users}, nil
}

// contradictions lists what is wrong in the tables together, though each may be right by itself.
func contradictions(t *route.Tables) []error {
	var l []error
	twice := func(in, other route.Domains, name string) {
		for d, at := range in {
			if _, ok := other[d]; ok {
				l = append(l, fmt.Errorf("%v: %s is in %s too, which goes first", at, d, name))
			}
		}
	}
	twice(t.VirtualDomains, t.LocalDomains, "local_domains")
	twice(t.RelayDomains, t.LocalDomains, "local_domains")
	twice(t.RelayDomains, t.VirtualDomains, "virtual_domains")
	sortErrors(l)
	if t.LocalDomain != "" {
		if v := t.Resolve(addr.Mailbox{Local: "postmaster", Domain: t.LocalDomain}); v.Kind == route.Refuse {
			// RFC 5321 section 4.5.1: there must be one.
			l = append(l, errors.New("there is no postmaster: neither an alias nor a user, and the key postmaster names nobody else; mail for postmaster waits"))
		}
	}
	return l
}

// who is the user database as route wants it.
type who struct{ t *userdb.Table }

func (w who) User(local, domain string) (string, alias.Pos, bool, error) {
	name, line, ok, err := w.t.User(local, domain)
	return name, alias.Pos{File: w.t.File(), Line: int32(line)}, ok, err
}

// Mailbox reads an address, or a local name, which is one without a domain.
func Mailbox(s string) (addr.Mailbox, error) {
	m, err := addr.Parse(s, true)
	if err == nil {
		return m, nil
	}
	if m, localErr := addr.Parse(s+"@localhost", true); localErr == nil {
		return addr.Mailbox{Local: m.Local}, nil
	}
	return m, fmt.Errorf("%q is neither an address nor a name", s)
}

func domain(s string) (string, error) {
	if s != "" && s[0] == '[' {
		d, err := addr.ParseLiteral(s)
		if err != nil {
			return "", fmt.Errorf("%w: %q", err, s)
		}
		return d, nil
	}
	d, err := addr.ParseDomain(s, true)
	if err == nil {
		d, err = addr.ASCIIDomain(d)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %q", err, s)
	}
	return d, nil
}
