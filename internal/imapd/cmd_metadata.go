package imapd

import (
	"errors"
	"slices"
	"strings"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

const (
	// maxEntry is the longest name of an entry.
	maxEntry = 1000
	// specialUseEntry is tied to the special uses (RFC 6154 section 4).
	specialUseEntry = "/private/specialuse"
)

// isEntry: RFC 5464 section 6.1: all are below one of these.
func isEntry(name string) bool {
	return len(name) <= maxEntry && (strings.HasPrefix(name, "/private/") || strings.HasPrefix(name, "/shared/"))
}

// RFC 5464 section 4.2: "GETMETADATA" [SP options] SP mailbox SP entries. The empty name is the server.
func (u *user) cmdGetMetadata(_ imap.Command, d *imap.Decoder) error {
	g := d.SP().GetMetadata()
	if err := d.End(); err != nil {
		return err
	}
	for _, e := range g.Entries {
		if !isEntry(e) && e != "/private" && e != "/shared" { // which with DEPTH have all
			return imap.Bad("an entry is below /private or /shared")
		}
	}
	p, err := u.mayAnnotate(g.Mailbox)
	if err != nil {
		return err
	}
	list, err := u.annotations(p, g.Entries)
	if err != nil {
		return err
	}
	longest := u.writeMetadata(g, list)
	if longest > 0 { // section 4.2.1
		return imap.OK(imap.CodeMetadataLongEntries(longest), "some values are longer")
	}
	return nil
}

// mayAnnotate finds a mailbox, or the server. RFC 5464 section 3.3: who has l and one of these may see and set annotations.
func (u *user) mayAnnotate(name string) (mailbox.Place, error) {
	if name == "" {
		return mailbox.Place{Account: u.account, Folders: u.account.Folders}, nil
	}
	p, have, err := u.at(name)
	one := maildir.Read | maildir.KeepSeen | maildir.Write | maildir.Insert | maildir.Post
	if err == nil && have&one == 0 {
		err = noPerm(one)
	}
	return p, err
}

// annotations are those of a mailbox, by their entries, with the special uses if these are among the wanted ones. A shared one has none that are private.
func (u *user) annotations(p mailbox.Place, wanted []string) ([]maildir.Annotation, error) {
	list, err := p.Folders.Metadata(p.Folder)
	if p.Shared != "" {
		return slices.DeleteFunc(list, func(a maildir.Annotation) bool { return strings.HasPrefix(a.Entry, "/private/") }), err
	}
	if err != nil || p.Folder == "" || !slices.ContainsFunc(wanted, func(e string) bool { return strings.HasPrefix(specialUseEntry+"/", e+"/") }) {
		return list, err
	}
	folders, err := p.Folders.Folders()
	if err != nil {
		return nil, err
	}
	uses, err := p.Folders.SpecialUse(folders)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(a maildir.Annotation) bool { return a.Entry == specialUseEntry })
	if mine := uses[p.Folder]; len(mine) > 0 {
		list = append(list, maildir.Annotation{Entry: specialUseEntry, Value: []byte(strings.Join(mine, " "))})
	}
	return list, nil
}

// writeMetadata sends a METADATA response of what was asked for. An entry that is not there, nor one below it as deep as was asked, is NIL: so there is a response, as section 4.2 requires.
// longest is the size of the longest value that was left out, 0 if none was.
func (u *user) writeMetadata(g imap.GetMetadata, list []maildir.Annotation) (longest int) {
	b := imap.AppendMailbox(append(u.buf[:0], "* METADATA "...), g.Mailbox, u.c.Mode)
	open := len(b) + 1
	b = append(b, " ("...)
	written := make(map[string]bool, len(g.Entries))
	add := func(entry string, value []byte) {
		if !written[entry] {
			written[entry] = true
			b = imap.AppendEntryValue(imap.Space(b, open), entry, value, u.c.Mode)
		}
	}
	for _, entry := range g.Entries {
		found := false
		for _, a := range list {
			if !within(a.Entry, entry, g.Depth) {
				continue
			}
			found = true
			if g.MaxSize >= 0 && int64(len(a.Value)) > g.MaxSize {
				longest = max(longest, len(a.Value))
				continue
			}
			add(a.Entry, a.Value)
		}
		if !found {
			add(entry, nil)
		}
	}
	if len(b) > open+1 {
		u.send(append(b, ")\r\n"...))
	}
	return longest
}

// within: an entry is the one that was asked for, or below it by at most depth levels; -1: any number (section 4.2.2).
func within(entry, of string, depth int) bool {
	below, ok := strings.CutPrefix(entry, of)
	switch {
	case !ok || below != "" && below[0] != '/':
		return false
	case depth < 0:
		return true
	}
	return strings.Count(below, "/") <= depth
}

// RFC 5464 section 4.3: "SETMETADATA" SP mailbox SP entry-values. All are set, or none. What is set for the server is the user's alone.
func (u *user) cmdSetMetadata(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	values := d.SP().EntryValues()
	if err := d.End(); err != nil {
		return err
	}
	var set []maildir.Annotation
	var uses []string
	setUses := false
	for _, v := range values {
		switch {
		case !isEntry(v.Name):
			return imap.Bad("an entry is below /private or /shared")
		case name == "" && v.Name == "/shared/admin": // section 6.2.2
			return imap.No(imap.NoPerm, "how to reach the administrator is his to say")
		case name != "" && v.Name == specialUseEntry:
			uses, setUses = strings.Fields(string(v.Value)), true
		default:
			set = append(set, maildir.Annotation{Entry: v.Name, Value: v.Value})
		}
	}
	if setUses {
		if name == maildir.Inbox {
			return imap.No(imap.UseAttr, "INBOX has no special use")
		}
		for _, use := range uses {
			if !maildir.IsSpecialUse(use) {
				return imap.No(imap.UseAttr, "that special use is not known")
			}
		}
	}
	p, err := u.mayAnnotate(name)
	if err != nil {
		return err
	}
	if p.Shared != "" && slices.ContainsFunc(values, func(v imap.MetadataEntry) bool { return strings.HasPrefix(v.Name, "/private/") }) {
		return imap.No(imap.MetadataNoPrivate, "what a shared mailbox has is for all who see it")
	}
	err = p.Folders.SetMetadata(u.ctx, p.Folder, set)
	switch {
	case errors.Is(err, maildir.ErrAnnotationSize):
		return imap.No(imap.CodeMetadataMaxSize(maildir.MaxAnnotation), "the value is too long")
	case errors.Is(err, maildir.ErrAnnotationCount):
		return imap.No(imap.MetadataTooMany, "the mailbox has as many as it can have")
	case errors.Is(err, maildir.ErrAnnotationRoom):
		return imap.No(imap.OverQuota, "all of them together are too long")
	case err == nil && setUses:
		return p.Folders.SetSpecialUses(u.ctx, p.Folder, uses)
	}
	return err
}
