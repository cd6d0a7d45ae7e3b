package imapd

import (
	"strings"
	"unicode/utf8"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/maildir"
)

// RFC 4314. A user's mailboxes are his alone, and others have no way to them here, whatever a rights file says; what it leaves the owner holds. Shared ones nobody owns: there what
// it gives to whom holds. The modes of the directories hold in both (maildir.Root.Rights).

// RFC 4314 section 2.1.1: the rights of RFC 2086, c and d.
const (
	createRights = maildir.CreateBelow | maildir.DeleteFolder
	deleteRights = maildir.Expunge | maildir.DeleteMessages
)

// appendRights appends rights, "" if there are none, with c and d where a client of RFC 2086 looks for them.
func (u *user) appendRights(b []byte, r maildir.Rights) []byte {
	s := r.String()
	if r&createRights != 0 {
		s += "c"
	}
	if r&deleteRights != 0 {
		s += "d"
	}
	return imap.AppendAString(b, s, u.c.Mode)
}

// parseRights reads what a client sends: c and d mean all that they stand for. An unknown one is BAD (section 3.1).
func parseRights(s string) (r maildir.Rights, err error) {
	if strings.Contains(s, "c") {
		r |= createRights
	}
	if strings.Contains(s, "d") {
		r |= deleteRights
	}
	more, ok := maildir.ParseRights(strings.NewReplacer("c", "", "d", "").Replace(s))
	if !ok {
		return 0, imap.Bad("not a right")
	}
	return r | more, nil
}

// ownerOf is whose a mailbox is, by the name that he has logged in with; "": nobody's.
func (u *user) ownerOf(p mailbox.Place) string {
	if p.Shared != "" {
		return ""
	}
	return u.client.Login
}

// The identifiers of the protocol are names of users, some words, and, as Dovecot has it, groups with a "$". In the rights file a word says what it is.
// toFile is for one that a client names; list is what the file says now.
func toFile(id, owner string, list []maildir.ACLEntry) string {
	minus := ""
	if name, ok := strings.CutPrefix(id, "-"); ok { // section 2: a negative right
		minus, id = "-", name
	}
	switch group, ok := strings.CutPrefix(id, "$"); {
	case id == "" || ok && group == "":
		return ""
	case ok:
		return minus + "group=" + group
	case id == "anyone", id == "authenticated", id == "owner":
		return minus + id
	case id == owner && !hasLine(list, minus+"user="+id): // so that it holds when he gets another name
		return minus + "owner"
	}
	if group, ok := strings.CutPrefix(id, "!$"); ok {
		return minus + "group-override=" + group
	}
	return minus + "user=" + id
}

// fromFile is the reverse. It is not ok for what no client could name.
func fromFile(id, owner string, list []maildir.ACLEntry) (name string, ok bool) {
	minus := ""
	if rest, ok := strings.CutPrefix(id, "-"); ok {
		minus, id = "-", rest
	}
	kind, name, _ := strings.Cut(id, "=")
	switch {
	case id == "owner" && owner != "" && !hasLine(list, minus+"user="+owner):
		return minus + owner, true
	case id == "anyone", id == "authenticated", id == "owner":
		return minus + id, true
	case name == "":
		return "", false
	case kind == "user":
		return minus + name, true
	case kind == "group":
		return minus + "$" + name, true
	case kind == "group-override":
		return minus + "!$" + name, true
	}
	return "", false
}

// RFC 4314 section 3.1: "SETACL" SP mailbox SP identifier SP mod-rights.
func (u *user) cmdSetACL(_ imap.Command, d *imap.Decoder) error {
	name, id, mod := d.SP().Mailbox(), d.SP().AString(), d.SP().AString()
	if err := d.End(); err != nil {
		return err
	}
	letters := strings.TrimLeft(mod, "+-")
	if len(mod)-len(letters) > 1 {
		return imap.Bad("not a right")
	}
	rights, err := parseRights(letters)
	if err != nil {
		return err
	}
	return u.editACL(name, id, func(old maildir.Rights, _ bool) (maildir.Rights, bool) {
		switch {
		case mod == letters:
			return rights, true
		case mod[0] == '+':
			return old | rights, true
		}
		return old &^ rights, true
	})
}

// RFC 4314 section 3.2: "DELETEACL" SP mailbox SP identifier. Without a line for him the owner has all rights again.
func (u *user) cmdDeleteACL(_ imap.Command, d *imap.Decoder) error {
	name, id := d.SP().Mailbox(), d.SP().AString()
	if err := d.End(); err != nil {
		return err
	}
	return u.editACL(name, id, func(maildir.Rights, bool) (maildir.Rights, bool) { return 0, false })
}

func (u *user) editACL(name, id string, edit func(maildir.Rights, bool) (maildir.Rights, bool)) error {
	if !isIdentifier(id) {
		return imap.Bad("not an identifier")
	}
	p, err := u.need(name, maildir.Administer)
	if err != nil {
		return err
	}
	list, err := p.Folders.ACL(p.Folder)
	if err != nil {
		return err
	}
	file := toFile(id, u.ownerOf(p), list)
	if file == "" {
		return imap.Bad("not an identifier")
	}
	mine := p.Shared == "" && (file == "owner" || file == "user="+u.client.Login)
	return p.Folders.EditACL(u.ctx, p.Folder, file, func(old maildir.Rights, found bool) (maildir.Rights, bool) {
		if mine && !found {
			old = maildir.OwnersRights(list, u.client.Login) // what he has without a line
		}
		rights, keep := edit(old, found)
		if mine {
			rights |= maildir.OwnerRights
		}
		return rights, keep
	})
}

// isIdentifier: section 3: what cannot be one is BAD. Names of users are told apart by their octets, as everywhere here, and not prepared by SASLprep.
func isIdentifier(id string) bool {
	return id != "" && utf8.ValidString(id) && !strings.ContainsFunc(id, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// RFC 4314 section 3.3: "GETACL" SP mailbox.
func (u *user) cmdGetACL(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	p, err := u.need(name, maildir.Administer)
	if err != nil {
		return err
	}
	list, err := p.Folders.ACL(p.Folder)
	if err != nil {
		return err
	}
	b := imap.AppendMailbox(append(u.buf[:0], "* ACL "...), name, u.c.Mode)
	entry := func(id string, rights maildir.Rights) {
		b = imap.AppendAString(append(b, ' '), id, u.c.Mode)
		b = u.appendRights(append(b, ' '), rights)
	}
	owner := u.ownerOf(p)
	own := owner
	if own == "" {
		own = "owner"
	}
	if p.Shared == "" && !hasLine(list, "owner") && !hasLine(list, "user="+own) {
		entry(own, maildir.AllRights)
	}
	for i, e := range list {
		id, ok := fromFile(e.ID, owner, list)
		if !ok || hasLine(list[:i], e.ID) {
			continue
		}
		if id == own && p.Shared == "" {
			e.Rights |= maildir.OwnerRights
		}
		entry(id, e.Rights)
	}
	u.send(append(b, crlf...))
	return nil
}

// hasLine says whether a rights file has a line for an identifier.
func hasLine(list []maildir.ACLEntry, id string) bool {
	for _, e := range list {
		if e.ID == id {
			return true
		}
	}
	return false
}

// RFC 4314 section 3.4: "LISTRIGHTS" SP mailbox SP identifier. No right is tied to another; what the owner always has comes first.
func (u *user) cmdListRights(_ imap.Command, d *imap.Decoder) error {
	name, id := d.SP().Mailbox(), d.SP().AString()
	if err := d.End(); err != nil {
		return err
	}
	if !isIdentifier(id) {
		return imap.Bad("not an identifier")
	}
	p, err := u.need(name, maildir.Administer)
	if err != nil {
		return err
	}
	always := maildir.Rights(0)
	if p.Shared == "" && (id == u.client.Login || id == "owner") {
		always = maildir.OwnerRights
	}
	b := imap.AppendMailbox(append(u.buf[:0], "* LISTRIGHTS "...), name, u.c.Mode)
	b = imap.AppendAString(append(b, ' '), id, u.c.Mode)
	b = imap.AppendAString(append(b, ' '), always.String(), u.c.Mode)
	for _, c := range (maildir.AllRights &^ always).String() + "cd" {
		b = append(b, ' ', byte(c))
	}
	u.send(append(b, crlf...))
	return nil
}

// RFC 4314 section 3.5: "MYRIGHTS" SP mailbox.
func (u *user) cmdMyRights(_ imap.Command, d *imap.Decoder) error {
	name := d.SP().Mailbox()
	if err := d.End(); err != nil {
		return err
	}
	return u.writeMyRights(name)
}

func (u *user) writeMyRights(name string) error {
	_, rights, err := u.at(name)
	if err != nil {
		return err
	}
	b := imap.AppendMailbox(append(u.buf[:0], "* MYRIGHTS "...), name, u.c.Mode)
	u.send(append(u.appendRights(append(b, ' '), rights), crlf...))
	return nil
}
