package imapd

import (
	"math"
	"slices"
	"strconv"

	"postamt/internal/imap"
	"postamt/internal/mailbox"
)

// capabilities are what may be used after the login. LITERAL+ saves a client that appends a round trip for each message; APPENDLIMIT says how large one may be (RFC 7888
// section 4).
func (u *user) capabilities() []string {
	list := append(u.session.capabilities("LITERAL+"),
		"ACL", "RIGHTS=kxte",
		"BINARY",
		"CATENATE",
		"CHILDREN",
		"COMPRESS=DEFLATE",
		"CONDSTORE",
		"CONTEXT=SEARCH", "CONTEXT=SORT",
		"CREATE-SPECIAL-USE",
		"ESEARCH",
		"ESORT",
		"IDLE",
		"INPROGRESS",
		"LIST-EXTENDED",
		"LIST-METADATA",
		"LIST-MYRIGHTS",
		"LIST-STATUS",
		"METADATA", "METADATA-SERVER",
		"MOVE",
		"MULTIAPPEND",
		"MULTISEARCH",
		"NAMESPACE",
		"NOTIFY",
		"OBJECTID",
		"PARTIAL",
		"PREVIEW",
		"QRESYNC",
		"QUOTA", "QUOTA=RES-MESSAGE", "QUOTA=RES-STORAGE",
		"REPLACE",
		"SAVEDATE",
		"SEARCHRES",
		"SORT", "SORT=DISPLAY",
		"SPECIAL-USE",
		"STATUS=SIZE",
		"THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "THREAD=REFS",
		"UIDONLY",
		"UIDPLUS",
		"UNSELECT",
		"UTF8=ACCEPT",
		"WITHIN",
	)
	if u.note.Again && !u.compressed {
		list = append(list, "UNAUTHENTICATE")
	}
	if n := u.conf.CommandLimit; n > 0 {
		list = append(list, "MESSAGELIMIT="+strconv.Itoa(n))
	}
	if n, ok := u.appendLimit(); ok { // RFC 7889 section 2
		return append(list, "APPENDLIMIT="+strconv.FormatUint(n, 10))
	}
	return append(list, "APPENDLIMIT")
}

// appendLimit is the most octets of a message; false: there is no limit. RFC 7889 section 5: a number, of 32 bits.
func (u *user) appendLimit() (n uint64, ok bool) {
	return uint64(min(u.conf.MessageLimit, math.MaxUint32)), u.conf.MessageLimit > 0
}

func (u *user) cmdCapability(_ imap.Command, d *imap.Decoder) error {
	return status(u.capability(d, u.capabilities()))
}

func (u *user) cmdID(_ imap.Command, d *imap.Decoder) error { return status(u.ident(d)) }

// status is the outcome of what the two halves have in common; nil there means that the session is over.
func status(s *imap.Status) error {
	if s == nil {
		return errGone
	}
	return s
}

// RFC 9051 section 6.1.2, 6.4.1 of RFC 3501: "NOOP", "CHECK". News is told after every command; changes are on disk already.
func (u *user) cmdNoop(_ imap.Command, d *imap.Decoder) error { return d.End() }

// RFC 9051 section 6.1.3: "LOGOUT".
func (u *user) cmdLogout(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	if u.view != nil {
		u.leave()
	}
	return status(u.logout(d))
}

// RFC 2342, RFC 9051 section 6.3.10: "NAMESPACE": the user's own; other users', of which there is none; the shared one, if there is.
func (u *user) cmdNamespace(_ imap.Command, d *imap.Decoder) error {
	if err := d.End(); err != nil {
		return err
	}
	b := append(u.buf[:0], "* NAMESPACE ((\"\" \".\")) NIL "...)
	if u.namespaces.HasShared() {
		b = append(b, "((\""+mailbox.SharedNamespace+".\" \".\"))"...)
	} else {
		b = append(b, "NIL"...)
	}
	u.send(append(b, crlf...))
	return nil
}

// RFC 9051 section 6.3.1: "ENABLE" 1*(SP capability). What is not known is not an error.
func (u *user) cmdEnable(_ imap.Command, d *imap.Decoder) error {
	var names []string
	for n := 0; d.More() || n == 0; n++ {
		names = append(names, d.SP().Keyword())
	}
	if err := d.End(); err != nil {
		return err
	}
	b := append(u.buf[:0], "* ENABLED"...)
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if announced := u.enable(name); announced != "" {
			b = append(append(b, ' '), announced...)
		}
	}
	u.send(append(b, crlf...))
	return nil
}

// enable turns an extension on, and returns its name as it is announced, for clients that look for it so; "": it is none that can be.
func (u *user) enable(name string) string {
	switch name {
	case "CONDSTORE":
		u.enableCondstore()
	case "QRESYNC": // RFC 7162 section 3.2.3
		u.enableCondstore()
		u.qresync = true
	case "UTF8=ACCEPT":
		u.utf8 = true
		u.c.Mode |= imap.UTF8
	case "IMAP4REV2":
		u.rev2 = true
		u.c.Mode |= imap.UTF8
		return "IMAP4rev2"
	case "UIDONLY":
		u.uidOnly = true
	default:
		return ""
	}
	return name
}

// enableCondstore is what a CONDSTORE enabling command does (RFC 7162 section 3.1): the first one, with a mailbox selected, has HIGHESTMODSEQ told.
func (u *user) enableCondstore() {
	if u.condstore {
		return
	}
	u.condstore = true
	if v := u.view; v != nil {
		n := v.modseq
		if len(v.gone) > 0 { // which the client does not know yet
			n = v.agreed
		}
		u.say(imap.OK(imap.CodeHighestModSeq(n), "the highest mod-sequence"))
	}
}
