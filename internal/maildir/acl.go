package maildir

import (
	"context"
	"errors"
	"os"
	"strings"
)

// Rights are those of RFC 4314 section 2.1.
type Rights uint16

// The rights, by their letters.
const (
	Lookup         Rights = 1 << iota // l: the folder is listed
	Read                              // r
	Write                             // w: flags, but for the next two
	KeepSeen                          // s: the flag Seen
	DeleteMessages                    // t: the flag Trashed
	Insert                            // i
	Post                              // p: mail to the folder's address, which nobody here asks for
	Expunge                           // e
	CreateBelow                       // k: folders below it
	DeleteFolder                      // x
	Administer                        // a: the rights file
	rightsEnd

	AllRights = rightsEnd - 1
	// OwnerRights are always the owner's: without them he could not give himself the others back.
	OwnerRights = Lookup | Administer

	changes = Write | KeepSeen | DeleteMessages | Insert | Expunge // of what is in the folder
)

// The letters, and the names that Dovecot's files may have in their place.
const rightLetters = "lrwstipekxa"

var rightNames = [...]string{"lookup", "read", "write", "write-seen", "write-deleted", "insert", "post", "expunge", "create", "delete", "admin"}

// ParseRights reads letters. It is not ok if one is no right; the others are returned.
func ParseRights(s string) (r Rights, ok bool) {
	ok = true
	for i := range len(s) {
		at := strings.IndexByte(rightLetters, s[i])
		if at < 0 {
			ok = false
			continue
		}
		r |= 1 << at
	}
	return r, ok
}

// String is the letters.
func (r Rights) String() string {
	var b []byte
	for i := range len(rightLetters) {
		if r>>i&1 != 0 {
			b = append(b, rightLetters[i])
		}
	}
	return string(b)
}

// aclFile is the rights file of a folder, in Dovecot's form. Each line is an
// identifier and rights. Whose they are in the end is in rights.go.
//
//	owner lr
//	user=bob lrs
//	"user=long name" lr
//	-group=team w
//	anyone l :read
const aclFile = "dovecot-acl"

// ACLEntry is what an identifier has.
type ACLEntry struct {
	ID     string // as it stands in the file: owner, user=NAME, group=NAME, group-override=NAME, anyone, authenticated; with "-" before it: has not
	Rights Rights

	other string // of the line: what is no right of ours
}

// aclLine reads a line.
func aclLine(line string) (e ACLEntry, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return e, false
	}
	rest := ""
	if strings.HasPrefix(line, `-"`) {
		line = `"-` + line[2:]
	}
	if line[0] == '"' {
		i := 1
		for ; i < len(line) && line[i] != '"'; i++ {
			if line[i] == '\\' && i+1 < len(line) {
				i++
			}
			e.ID += line[i : i+1]
		}
		if i == len(line) {
			return e, false
		}
		rest = line[i+1:]
	} else {
		e.ID, rest, _ = strings.Cut(line, " ")
	}
	letters, names, _ := strings.Cut(rest, ":")
	e.Rights, _ = ParseRights(strings.Join(strings.Fields(letters), ""))
	var unknown []string
	for _, c := range strings.Join(strings.Fields(letters), "") {
		if !strings.ContainsRune(rightLetters, c) {
			e.other += string(c)
		}
	}
next:
	for _, name := range strings.Fields(names) {
		for i, n := range rightNames {
			if n == name {
				e.Rights |= 1 << i
				continue next
			}
		}
		unknown = append(unknown, name)
	}
	if len(unknown) > 0 {
		e.other += " :" + strings.Join(unknown, " ")
	}
	return e, e.ID != ""
}

func (e ACLEntry) line() string {
	id := e.ID
	if strings.ContainsAny(id, " \t\"\\'") || id[0] == '#' {
		id = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(id) + `"`
	}
	return id + " " + e.Rights.String() + e.other + "\n"
}

// ACL lists what the rights file of a folder says, nothing if there is none.
// Errors: ErrNoFolder, ErrFolder, others.
func (r *Root) ACL(name string) ([]ACLEntry, error) {
	dir, err := r.in(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return r.acl(dir)
}

func (r *Root) acl(dir *os.File) (list []ACLEntry, err error) {
	text, err := r.aclText(dir)
	for line := range strings.Lines(string(text)) {
		if e, ok := aclLine(line); ok {
			list = append(list, e)
		}
	}
	return list, err
}

// aclText is the rights file of a folder; where nobody owns the maildir that of
// the root holds for folders without one, as in a public namespace of Dovecot.
func (r *Root) aclText(dir *os.File) ([]byte, error) {
	text, found, err := r.readList(dir, aclFile)
	if err == nil && !found && r.shared {
		text, _, err = r.readList(r.dir, aclFile)
	}
	return text, err
}

// ErrIdentifier is what cannot stand in a rights file.
var ErrIdentifier = errors.New("maildir: not an identifier of a rights file")

// EditACL changes what an identifier has, of which edit is told what that is and
// whether there is a line for it; if keep is false the line goes. Other lines stay.
// Errors: ErrNoFolder, ErrFolder, ErrIdentifier, others.
func (r *Root) EditACL(ctx context.Context, name, id string, edit func(old Rights, found bool) (new Rights, keep bool)) error {
	if id == "" || strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return ErrIdentifier
	}
	dir, err := r.in(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.editList(ctx, dir, aclFile, func(text []byte, there bool) ([]byte, error) {
		if !there {
			if text, err = r.aclText(dir); err != nil { // what has held so far is not to go
				return nil, err
			}
		}
		var out []byte
		found := false
		for line := range strings.Lines(string(text)) {
			e, ok := aclLine(line)
			if !ok || e.ID != id {
				out = append(append(out, strings.TrimRight(line, "\r\n")...), '\n')
				continue
			}
			if found {
				continue // a second line, of which only the first counts
			}
			found = true
			var keep bool
			if e.Rights, keep = edit(e.Rights, true); keep {
				out = append(out, e.line()...)
			}
		}
		if !found {
			if rights, keep := edit(0, false); keep {
				out = append(out, ACLEntry{ID: id, Rights: rights}.line()...)
			}
		}
		return out, nil
	})
}

// InheritACL gives a new folder the rights file of one above it (RFC 4314 section
// 4), if that has one.
func (r *Root) InheritACL(ctx context.Context, from, to string) error {
	dir, err := r.in(from)
	if err != nil {
		return err
	}
	defer dir.Close()
	text, err := r.aclText(dir)
	if err != nil || len(text) == 0 {
		return err
	}
	child, err := r.in(to)
	if err != nil {
		return err
	}
	defer child.Close()
	return r.editList(ctx, child, aclFile, func([]byte, bool) ([]byte, error) { return text, nil })
}
