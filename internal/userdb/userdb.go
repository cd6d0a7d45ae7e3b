// Package userdb reads users(5): who has a mailbox, and where. The format is that of Dovecot's passwd-file:
//
//	user:password:uid:gid:gecos:home:shell:extra fields
//
// A name is "alice", a user of every local domain, or "alice@example.org", of that domain alone. Extra fields are words with "=";
// those of Dovecot that place a mailbox are known (userdb_mail, userdb_quota_rule), and ours: maildir, quota, nologin, allow_nets.
//
// A Table of Parse holds no passwords, not even hashed: what only delivers mail has no use for them, and memory that does not hold a secret
// cannot leak it. One of ParseSecrets does. A line that is wrong after its name makes a user who exists and cannot be had now, so that his mail waits for the
// slip to be mended; a line whose name is wrong is left out. Of two lines for one name the first holds.
// Tables never change, so any number of goroutines may use one.
package userdb

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postamt/internal/addr"
)

// Limits of a file.
const (
	MaxFile = 256 << 20 // octets
	MaxLine = 64 << 10  // octets
	MaxName = 255       // octets of a user name

	maxProblems = 200
)

// ID is a uid or gid; NoID where the line gives none.
type ID = int64

const NoID ID = -1

// User is one user.
type User struct {
	Name      string // canonical: lower case
	UID, GID  ID
	Home      string         // absolute, or "" for none
	Maildir   string         // pattern, "" for the one of the configuration; see Place
	Quota     Quota          // zero for the one of the configuration
	NoLogin   bool           // may receive mail, may not log in
	AllowNets []netip.Prefix // from where the user may log in; nil for anywhere
	Line      int
}

// Quota bounds a mailbox; zero means no bound.
type Quota struct{ Bytes, Messages int64 }

// Problem is something wrong in a file.
type Problem struct {
	File string
	Line int
	Text string
}

func (p Problem) Error() string { return p.File + ":" + strconv.Itoa(p.Line) + ": " + p.Text }

// Table answers who exists. nil is an empty table.
type Table struct {
	file    string
	lines   string // the good part of each line, without the password
	index   map[string]place
	secrets map[string]string // passwords by name; nil if they were not wanted
}

// place is where a user stands in lines.
type place struct {
	from, to uint32
	line     uint32 // of the file
	broken   bool
}

// Parse reads the text of a users file. The problems are all that is wrong in it; the error is not nil, and the table is, when it
// does not parse at all: too large, NUL, or problems and not one good line.
func Parse(file, text string) (*Table, []Problem, error) {
	return parse(file, text, func(string, string, int) {}, nil)
}

// ParseSecrets is Parse for the one program that judges passwords: the table keeps them, see Password.
func ParseSecrets(file, text string) (*Table, []Problem, error) {
	secrets := make(map[string]string)
	return parse(file, text, func(name, secret string, _ int) {
		if _, known := secrets[name]; !known {
			secrets[name] = strings.Clone(secret)
		}
	}, secrets)
}

// ParseApart is Parse where passwords have a file of their own: hashes that are here all the same are one problem.
func ParseApart(file, text string) (*Table, []Problem, error) {
	count, first := 0, 0
	t, problems, err := parse(file, text, func(_, secret string, line int) {
		if noHash(secret) {
			return
		}
		if count++; count == 1 {
			first = line
		}
	}, nil)
	if err == nil && count > 0 {
		problems = append(problems, Problem{file, first, fmt.Sprintf(
			"a password that is not used, because passwords have a file of their own; %d lines have one", count)})
	}
	return t, problems, err
}

// readable says why a text is none.
func readable(file, text string) error {
	if len(text) > MaxFile {
		return fmt.Errorf("%s: larger than %d MiB", file, MaxFile>>20)
	}
	if i := strings.IndexByte(text, 0); i >= 0 {
		return fmt.Errorf("%s:%d: NUL: this is not a text file", file, strings.Count(text[:i], "\n")+1)
	}
	return nil
}

// textLines are those with something in them, by number.
func textLines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.SplitSeq(text, "\n") {
			n++
			line = strings.TrimRight(line, " \t\r")
			if line != "" && line[0] != '#' && !yield(n, line) {
				return
			}
		}
	}
}

// parse shows what the password fields have, in their order.
func parse(file, text string, password func(name, secret string, line int), secrets map[string]string) (*Table, []Problem, error) {
	if err := readable(file, text); err != nil {
		return nil, nil, err
	}
	t := &Table{file: file, secrets: secrets}
	p := parser{file: file}
	kept := make([]byte, 0, len(text)/2)
	names := make([]place, 0, strings.Count(text, "\n")+1) // from: of the name
	good := 0
	for n, line := range textLines(text) {
		if len(line) > MaxLine {
			p.add(n, fmt.Sprintf("a line longer than %d octets", MaxLine))
			continue
		}
		name, rest, _ := strings.Cut(line, ":")
		name, err := Canonical(name)
		if err != nil {
			p.add(n, err.Error())
			continue
		}
		secret, rest, _ := strings.Cut(rest, ":") // the password stays behind
		password(name, secret, n)
		_, err = parseUser(name, rest, n)
		if err != nil {
			p.add(n, name+": "+err.Error())
		} else {
			good++
		}
		from := len(kept)
		kept = append(kept, name...)
		kept = append(kept, ':')
		kept = append(kept, rest...)
		names = append(names, place{uint32(from), uint32(len(kept)), uint32(n), err != nil})
	}
	if good == 0 && p.count > 0 {
		return nil, p.all(), fmt.Errorf("%w (and there is no good line)", p.list[0])
	}
	t.lines = string(kept)
	t.index = make(map[string]place, len(names))
	for _, x := range names {
		name, _, _ := strings.Cut(t.lines[x.from:x.to], ":")
		if first, ok := t.index[name]; ok {
			p.add(int(x.line), fmt.Sprintf("%s is in line %d already; the first one holds", name, first.line))
			continue
		}
		t.index[name] = x
	}
	return t, p.all(), nil
}

type parser struct {
	file  string
	list  []Problem
	count int
}

func (p *parser) add(line int, text string) {
	if p.count++; p.count <= maxProblems {
		p.list = append(p.list, Problem{p.file, line, text})
	}
}

func (p *parser) all() []Problem {
	if p.count > maxProblems {
		return append(p.list, Problem{p.file, 0, "and " + strconv.Itoa(p.count-maxProblems) + " more"})
	}
	return p.list
}

// Canonical is the one form of a user name, lower case, or an error if it cannot be one. It is called before any lookup, so that no
// name that could leave a directory, begin an option, or break a line is ever looked up, made into a path, or logged.
func Canonical(name string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("user name %s: %s", strconv.Quote(clip(name)), why)
	}
	switch {
	case name == "":
		return "", errors.New("a user name is wanted")
	case len(name) > MaxName:
		return bad("longer than 255 octets")
	case name[0] == '.' || name[0] == '-':
		return bad("begins with . or -")
	}
	ascii, upper := true, false
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 0x80:
			ascii = false
		case c >= 'A' && c <= 'Z':
			upper = true
		case c <= ' ' || c == 0x7f || strings.IndexByte(`/\:%"<>()[],;|&*?$~'`+"`", c) >= 0:
			return bad("has a character that no name may have")
		}
	}
	local, domain, exact := strings.Cut(name, "@")
	if exact {
		d, err := addr.ParseDomain(domain, true)
		if err == nil {
			d, err = addr.ASCIIDomain(d)
		}
		if err != nil {
			return bad("no domain after the @")
		}
		if local == "" {
			return bad("nothing before the @")
		}
		domain = d
	}
	if !ascii {
		if !utf8.ValidString(local) {
			return bad("not UTF-8")
		}
		for _, r := range local {
			switch {
			case r < utf8.RuneSelf:
			case !unicode.IsPrint(r):
				return bad("has a character that no name may have")
			case unicode.ToLower(r) < utf8.RuneSelf || unicode.ToUpper(r) < utf8.RuneSelf:
				// U+0130, the Kelvin sign and their like would become letters of somebody else's name.
				return bad("has a letter that passes for an ASCII one")
			}
		}
		upper = true
	}
	if upper {
		local = strings.ToLower(local)
	}
	switch {
	case exact && len(local)+1+len(domain) == len(name) && name[:len(local)] == local && name[len(local)+1:] == domain:
		return name, nil
	case exact:
		return local + "@" + domain, nil
	}
	return local, nil
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60]
	}
	return s
}

// User looks for local@domain, or for the bare name if domain is "". name is the canonical one. An error means that the user exists
// and the line is broken.
func (t *Table) User(local, domain string) (name string, line int, ok bool, err error) {
	if t == nil || strings.IndexByte(local, '@') >= 0 {
		return "", 0, false, nil
	}
	x, ok := t.find(local, domain)
	if !ok {
		return "", 0, false, nil
	}
	name, _, _ = strings.Cut(t.lines[x.from:x.to], ":")
	if x.broken {
		_, _, err = t.Lookup(name)
	}
	return name, int(x.line), true, err
}

// find takes any bytes for a name: what Canonical refuses is in no index.
func (t *Table) find(local, domain string) (place, bool) {
	var buf [MaxName + 1]byte
	b := buf[:0]
	for i := range len(local) {
		c := local[i]
		if c >= 0x80 {
			name, err := Canonical(local)
			if err != nil {
				return place{}, false
			}
			b = append(b[:0], name...)
			break
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	if domain != "" {
		b = append(b, '@')
		b = append(b, domain...)
	}
	x, ok := t.index[string(b)]
	return x, ok
}

// Lookup is everything about a user, by canonical name. An error means that the user exists and the line is broken.
func (t *Table) Lookup(name string) (User, bool, error) {
	if t == nil {
		return User{}, false, nil
	}
	x, ok := t.index[name]
	if !ok {
		return User{}, false, nil
	}
	_, rest, _ := strings.Cut(t.lines[x.from:x.to], ":")
	u, err := parseUser(name, rest, int(x.line))
	if err != nil {
		return User{}, true, fmt.Errorf("%s:%d: %s: %w", t.file, x.line, name, err)
	}
	return u, true, nil
}

// Password is what the line of a user has for it, by canonical name: "" for users without one, and of tables without passwords.
func (t *Table) Password(name string) string {
	if t == nil {
		return ""
	}
	return t.secrets[name]
}

// Names are those of all users, in no order.
func (t *Table) Names() iter.Seq[string] {
	if t == nil {
		return func(func(string) bool) {}
	}
	return maps.Keys(t.index)
}

// Len is the number of users.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.index)
}

// File is the name that the table was parsed under.
func (t *Table) File() string {
	if t == nil {
		return ""
	}
	return t.file
}

// Check says whether mail may be delivered as the user: not as root, nor as group root, nor below minUID, whatever the file says.
// A user without ids passes: the program then acts as whom it runs as.
func (u *User) Check(minUID ID) error {
	switch {
	case u.UID == 0:
		return fmt.Errorf("user %s: uid 0: mail for root needs an alias", u.Name)
	case u.UID != NoID && u.UID < minUID:
		return fmt.Errorf("user %s: uid %d is below the least one, %d", u.Name, u.UID, minUID)
	case u.GID == 0:
		return fmt.Errorf("user %s: gid 0", u.Name)
	}
	return nil
}

// Place is the user's maildir: the pattern of the user, else pattern. "~" at the start is the home; %u the name, %n the part before
// the @, %d the domain (domain if the name has none), %h the home, %% a percent sign. The result is absolute and clean.
func (u *User) Place(pattern, domain string) (string, error) {
	if u.Maildir != "" {
		pattern = u.Maildir
	}
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("user %s: maildir %s: %s", u.Name, strconv.Quote(pattern), why)
	}
	local, own, ok := strings.Cut(u.Name, "@")
	if ok {
		domain = own
	}
	if strings.Contains(domain, "/") || domain == ".." || domain == "." {
		return bad("the domain is no name")
	}
	s := pattern
	if rest, ok := strings.CutPrefix(s, "~"); ok {
		s = "%h" + rest
		if rest != "" && rest[0] != '/' {
			return bad("~ is the home, and / must follow it")
		}
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return bad("% at the end")
		}
		switch s[i] {
		case 'u':
			b.WriteString(u.Name)
		case 'n':
			b.WriteString(local)
		case 'd':
			if domain == "" {
				return bad("there is no domain for %d")
			}
			b.WriteString(domain)
		case 'h':
			if u.Home == "" {
				return bad("there is no home")
			}
			b.WriteString(u.Home)
		case '%':
			b.WriteByte('%')
		default:
			return bad("%" + s[i:i+1] + " has no meaning")
		}
	}
	path := b.String()
	if !filepath.IsAbs(path) {
		return bad("not an absolute path")
	}
	return filepath.Clean(path), nil
}
