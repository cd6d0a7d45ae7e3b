package mailbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/maildir"
)

// SharedNamespace are where the names of shared mailboxes begin: "Shared" itself is none.
const SharedNamespace = "Shared"

// Namespaces are the mailboxes of a user, by the names that his client has for them: those of his own maildir, which are called as its folders are, and
// those of the maildirs that are shared. These are the entries of one directory, and no symbolic links: Shared.sales is INBOX of the maildir sales there,
// Shared.sales.2026 its folder 2026. What the user may not see (right l, or the modes of the directories) is as if it were not there.
//
// They are for one session, and not safe for concurrent use.
type Namespaces struct {
	Own *Account

	user      string
	dir       *os.File            // of the shared maildirs; nil: there are none
	path      string              // of that
	shared    map[string]*Account // those that are open, by their entries
	gone      []*Account          // that were: of these a mailbox may be open still
	following *following          // nil: nobody follows
}

// following is a call of Follow. The own maildir stands under "" in its maps, shared ones under their entries.
type following struct {
	f     func()
	stops map[string]func()
	seen  map[string]*int64 // of FoldersChanged
}

// Namespaces opens the namespaces of a user of this account. The maildirs in the directory shared, "": there are none, are for all users. After an error there are his own.
// Close does not close the account.
func (a *Account) Namespaces(user, shared string) (*Namespaces, error) {
	n := &Namespaces{Own: a, user: user, path: shared, shared: make(map[string]*Account)}
	if shared == "" {
		return n, nil
	}
	dir, err := os.OpenFile(shared, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return n, fmt.Errorf("mailbox: shared mailboxes: %w", err)
	}
	n.dir = dir
	return n, nil
}

// Close ends the use of what is shared.
func (n *Namespaces) Close() {
	for _, a := range slices.AppendSeq(n.gone, maps.Values(n.shared)) {
		a.Close()
	}
	if n.dir != nil {
		n.dir.Close()
	}
}

// Place is where a mailbox is, or could be: a maildir and the name of a folder in it.
type Place struct {
	Account *Account
	Folders *maildir.Root // of the account, with the user's rights
	Folder  string
	Shared  string // the name of the maildir if it is a shared one; "": the user's own

	user string
}

// HasShared reports whether there are names of shared mailboxes.
func (n *Namespaces) HasShared() bool { return n.dir != nil }

// IsShared reports whether a name is one of shared mailboxes.
func (n *Namespaces) IsShared(name string) bool {
	rest, ok := strings.CutPrefix(name, SharedNamespace)
	return n.dir != nil && ok && (rest == "" || rest[0] == '.')
}

// At finds where a mailbox is. Whether it is there, and for this user, is for the methods of Place to say. Errors: maildir.ErrNoFolder when there is no such shared maildir,
// or none for him; maildir.ErrFolder.
func (n *Namespaces) At(name string) (Place, error) {
	if !n.IsShared(name) {
		return Place{Account: n.Own, Folders: n.Own.Folders, Folder: name, user: n.user}, nil
	}
	_, rest, _ := strings.Cut(name, ".")
	entry, folder, below := strings.Cut(rest, ".")
	if !below {
		folder = maildir.Inbox
	} else if strings.EqualFold(folder, maildir.Inbox) { // it has a name already
		return Place{}, maildir.ErrFolder
	}
	a, err := n.open(entry)
	if err != nil {
		return Place{}, err
	}
	return Place{a, maildir.OpenShared(a.dir, n.Own.all.o.Ops), folder, SharedNamespace + "." + entry, n.user}, nil
}

// open opens a shared maildir, and keeps it.
func (n *Namespaces) open(entry string) (*Account, error) {
	if _, err := maildir.FolderDir(entry); err != nil || strings.Contains(entry, ".") {
		return nil, maildir.ErrNoFolder
	}
	fd, err := unix.Openat(int(n.dir.Fd()), entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EMLINK, unix.ENAMETOOLONG, unix.EACCES: // FreeBSD says EMLINK of a link
		n.lose(entry)
		return nil, maildir.ErrNoFolder
	default:
		return nil, fmt.Errorf("mailbox: %w", &os.PathError{Op: "open", Path: n.path + "/" + entry, Err: err})
	}
	path := n.path + "/" + entry
	dir := os.NewFile(uintptr(fd), path)
	if a := n.shared[entry]; a != nil && sameFiles(a.dir, dir) {
		dir.Close()
		return a, nil
	}
	n.lose(entry)
	a := n.Own.all.openDir(path, dir)
	n.shared[entry] = a
	n.watch(entry, a)
	return a, nil
}

// lose forgets a shared maildir that has gone, or is another one now.
func (n *Namespaces) lose(entry string) {
	a := n.shared[entry]
	if a == nil {
		return
	}
	if w := n.following; w != nil {
		w.stops[entry]()
		delete(w.stops, entry)
		delete(w.seen, entry)
	}
	delete(n.shared, entry)
	n.gone = append(n.gone, a)
}

func sameFiles(a, b *os.File) bool {
	var x, y unix.Stat_t
	return unix.Fstat(int(a.Fd()), &x) == nil && unix.Fstat(int(b.Fd()), &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// Name is what the client calls another folder of the same maildir.
func (p Place) Name(folder string) string {
	switch {
	case p.Shared == "":
		return folder
	case folder == maildir.Inbox:
		return p.Shared
	}
	return p.Shared + "." + folder
}

// Open opens the mailbox. Errors: those of Account.Open.
func (p Place) Open() (*Mailbox, error) { return p.Account.Open(p.Folder) }

// Rights are what the user may do there. Errors: maildir.ErrNoFolder, also of one that he may not see (RFC 4314 section 6), maildir.ErrFolder, others.
func (p Place) Rights() (maildir.Rights, error) {
	rights, err := p.Folders.Rights(p.Folder, p.user)
	if err == nil && rights&maildir.Lookup == 0 || p.Shared != "" && errors.Is(err, fs.ErrPermission) {
		return 0, maildir.ErrNoFolder
	}
	return rights, err
}

// MayRead reports whether the rights file lets the user read it, at little cost. Errors: those of Rights.
func (p Place) MayRead() (bool, error) {
	if p.Shared == "" {
		return p.Folders.MayRead(p.Folder, p.user)
	}
	rights, err := p.Rights()
	return rights&maildir.Read != 0, err
}

// Named is a mailbox that is there, and that the user may see.
type Named struct {
	Name string
	Place
	Uses []string // special uses
	Dir  string   // in the maildir; see Account.Identity
}

// All lists the mailboxes, in no order.
func (n *Namespaces) All() (list []Named, err error) {
	own, _ := n.At(maildir.Inbox)
	folders, err := own.Folders.Folders()
	if err != nil {
		return nil, err
	}
	uses, err := own.Folders.SpecialUse(folders)
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		if n.IsShared(f.Name) { // it has lost its name
			continue
		}
		own.Folder = f.Name
		list = append(list, Named{f.Name, own, uses[f.Name], f.Dir})
	}
	if n.dir == nil {
		return list, nil
	}
	dir, err := durable.OpenDirAt(n.dir, ".") // with a place of its own in it
	if err != nil {
		return nil, fmt.Errorf("mailbox: shared mailboxes: %w", err)
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("mailbox: shared mailboxes: %w", err)
	}
	for _, entry := range entries {
		found, err := n.visible(entry)
		if err != nil && n.Own.all.o.Report != nil {
			n.Own.all.o.Report(err) // the others are there
		}
		list = append(list, found...)
	}
	return list, nil
}

// visible lists the folders of a shared maildir that the user may see. One without any is not kept open.
func (n *Namespaces) visible(entry string) (list []Named, err error) {
	if strings.Contains(entry, ".") {
		return nil, nil
	}
	was := n.shared[entry]
	p, err := n.At(SharedNamespace + "." + entry)
	if err != nil { // a file, or another's
		return nil, nil
	}
	defer func() {
		if len(list) == 0 && p.Account != was {
			n.lose(entry)
			n.gone = n.gone[:len(n.gone)-1]
			p.Account.Close()
		}
	}()
	folders, err := p.Folders.Visible(n.user)
	for _, f := range folders {
		p.Folder = f.Name
		list = append(list, Named{Name: p.Name(f.Name), Place: p, Dir: f.Dir})
	}
	return list, err
}

// Follow has f called as Account.Follow does, for all maildirs that the user sees something of; stop ends it. Changed is for the last Follow.
func (n *Namespaces) Follow(f func()) (stop func()) {
	w := &following{f: f, stops: make(map[string]func()), seen: make(map[string]*int64)}
	n.following = w
	n.watch("", n.Own)
	for entry, a := range n.shared {
		n.watch(entry, a)
	}
	return func() {
		for _, stop := range w.stops {
			stop()
		}
		if n.following == w {
			n.following = nil
		}
	}
}

func (n *Namespaces) watch(entry string, a *Account) {
	if w := n.following; w != nil {
		w.stops[entry], w.seen[entry] = a.Follow(w.f), new(int64)
	}
}

// Changed reports whether there may be other names or subscriptions than when it was asked last.
func (n *Namespaces) Changed() (changed bool) {
	if n.following == nil {
		return false
	}
	for entry, seen := range n.following.seen {
		a := n.shared[entry]
		if entry == "" {
			a = n.Own
		}
		if a.FoldersChanged(seen) {
			changed = true
		}
	}
	return changed
}
