// Package vacation decides whether a message is to be answered by a notice that its recipient is away, and composes that notice: the Personal
// Responder of RFC 3834. It is pure: a header, addresses and a text go in; a reason not to answer, or a message, comes out. Who was answered when
// is the caller's to know.
//
// In doubt there is no answer: a notice that is missing is a small loss, and one too many goes to a list, to somebody whose address a spammer
// has taken, or round and round. A header that is not well-formed, or whose addresses can be read in two ways, is in doubt.
//
// Where this differs from RFC 3834: NOTIFY=NEVER (section 3.3) is not asked for, since the null sender has the same effect everywhere.
package vacation

import (
	"strings"

	"postamt/internal/addr"
	"postamt/internal/message"
)

// Reason says why a message is not answered; "" is that it is.
type Reason string

// The reasons. The first that holds, in this order, is told.
const (
	Due            Reason = ""
	NullSender     Reason = "the sender is null, or not known"
	BadSender      Reason = "the sender is no address"
	SystemSender   Reason = "the sender is a system"
	OwnSender      Reason = "the sender is the recipient"
	BadHeader      Reason = "the header is not well-formed"
	AutoSubmitted  Reason = "the message was sent by a program (Auto-Submitted)"
	Bulk           Reason = "the message is bulk (Precedence)"
	List           Reason = "the message comes from a list"
	Suppressed     Reason = "the sender wants no automatic answer (X-Auto-Response-Suppress)"
	AutoReply      Reason = "the message is an automatic answer"
	Report         Reason = "the message is a report"
	Spam           Reason = "the message was marked as spam"
	OwnFrom        Reason = "the author is the recipient"
	NotAddressed   Reason = "the recipient is not named in To or Cc"
	maxAddresses          = 10_000
	maxReferences         = 20
	maxMessageID          = 250
	maxSubjectRune        = 200
)

// Mail is what came.
type Mail struct {
	Sender string // of the envelope, "" for null
	Header []byte // its fields, without the empty line
	// Own are the addresses of the recipient. One without "@" is a local part in any domain; what is no address is ignored.
	Own []string
	Any bool // answer what does not name the recipient, too
}

// Answer is what an answer needs of the message that it answers.
type Answer struct {
	To         addr.Mailbox
	Own        string // the address that the message was sent to; "" if it is not named
	Subject    string // decoded, shortened, on one line
	MessageID  string // without brackets, as the next
	References []string
}

// Decide says whether a message is answered, and with what. It takes time that is linear in what it is given.
func Decide(m Mail) (Answer, Reason) {
	if m.Sender == "" || m.Sender == "<>" {
		return Answer{}, NullSender
	}
	to, err := addr.Parse(m.Sender, true)
	if isSystem(m.Sender, to.Local) {
		return Answer{}, SystemSender
	}
	if err != nil {
		return Answer{}, BadSender
	}
	own := parseOwn(m.Own)
	if own.whole(to) {
		return Answer{}, OwnSender
	}
	h, ok := readHeader(m.Header)
	if !ok {
		return Answer{}, BadHeader
	}
	if why := h.why(); why != Due {
		return Answer{}, why
	}
	for _, author := range h.from {
		if own.whole(author) {
			return Answer{}, OwnFrom
		}
	}
	a := Answer{To: to, Own: own.find(h.to), Subject: h.subject, MessageID: h.id}
	if a.Own == "" && !m.Any {
		return Answer{}, NotAddressed
	}
	// RFC 5322 section 3.6.4: those of the parent, or what it is an answer to if that is one, and its own.
	if a.References = h.references; len(a.References) == 0 && len(h.inReplyTo) == 1 {
		a.References = h.inReplyTo
	}
	if a.MessageID != "" {
		a.References = append(a.References, a.MessageID)
	}
	if n := len(a.References); n > maxReferences {
		a.References = append(a.References[:1:1], a.References[n-maxReferences+1:]...)
	}
	return a, Due
}

// isSystem: RFC 3834 section 2, local parts that programs send from, and nobody reads.
func isSystem(whole, local string) bool {
	if local == "" {
		local, _, _ = strings.Cut(whole, "@") // MAILER-DAEMON has no domain in a line "From "
	}
	local = strings.ToLower(local)
	base, _, _ := addr.SplitTag(local, "+")
	switch base {
	case "mailer-daemon", "mailer", "postmaster", "uucp", "listserv", "majordomo", "bounce", "bounces":
		return true
	}
	for _, p := range []string{"owner-", "bounce-", "bounces-"} {
		if strings.HasPrefix(base, p) {
			return true
		}
	}
	for _, s := range []string{"-request", "-owner", "-relay", "-bounce", "-bounces", "-errors"} {
		if strings.HasSuffix(base, s) {
			return true
		}
	}
	// ezmlm: list-return-17-bob=example.org.
	if strings.Contains(local, "-return-") {
		return true
	}
	bare := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' {
			return -1
		}
		return r
	}, base)
	return strings.HasPrefix(bare, "noreply") || strings.HasSuffix(bare, "noreply") || strings.HasPrefix(bare, "donotreply") || strings.HasSuffix(bare, "donotreply")
}

// owned are the recipient's addresses: whole ones, and local parts.
type owned struct {
	keys   []string
	locals []string
}

func parseOwn(list []string) owned {
	var o owned
	for _, s := range list {
		if m, err := addr.Parse(s, true); err == nil {
			o.keys = append(o.keys, m.Key())
		} else if s != "" && !strings.Contains(s, "@") {
			o.locals = append(o.locals, strings.ToLower(s))
		}
	}
	return o
}

// forms are the two by which an address is looked up: as it is, and without a tag.
func forms(m addr.Mailbox) [2]addr.Mailbox {
	base, _, _ := addr.SplitTag(m.Local, "+")
	return [2]addr.Mailbox{m, {Local: base, Domain: m.Domain}}
}

func in(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// whole: the address is one of the recipient's for certain. A local part alone is that of somebody else in most domains.
func (o owned) whole(m addr.Mailbox) bool {
	f := forms(m)
	return in(o.keys, f[0].Key()) || in(o.keys, f[1].Key())
}

// find returns the first address that is the recipient's; one of which that is certain, if there is one.
func (o owned) find(list []addr.Mailbox) string {
	likely := ""
	for _, m := range list {
		if o.whole(m) {
			return m.String()
		}
		f := forms(m)
		if likely == "" && (in(o.locals, strings.ToLower(f[0].Local)) || in(o.locals, strings.ToLower(f[1].Local))) {
			likely = m.String()
		}
	}
	return likely
}

// header is what a decision takes from a header.
type header struct {
	auto, bulk, list, suppressed, reply, report, spam bool

	from, to              []addr.Mailbox
	subject, id           string
	references, inReplyTo []string
}

func (h *header) why() Reason {
	for _, x := range []struct {
		is  bool
		why Reason
	}{{h.auto, AutoSubmitted}, {h.bulk, Bulk}, {h.list, List}, {h.suppressed, Suppressed}, {h.reply, AutoReply}, {h.report, Report}, {h.spam, Spam}} {
		if x.is {
			return x.why
		}
	}
	return Due
}

// readHeader reads the fields; false if there is something else among them, or none.
func readHeader(b []byte) (*header, bool) {
	h := &header{}
	s := message.Scan(b, true)
	n := 0
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		n++
		h.field(strings.ToLower(string(f.Name())), string(f.AppendText(nil)))
	}
	return h, n > 0 && s.Offset() == len(b)
}

// field takes what it needs from one field. Of one that is there twice the worse counts.
func (h *header) field(name, value string) {
	word := firstWord(value)
	switch name {
	case "from":
		h.from = append(h.from, mailboxes(value)...)
	case "to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc":
		h.to = append(h.to, mailboxes(value)...)
	case "subject":
		h.subject = oneLine(message.Text(value))
	case "message-id":
		if ids := messageIDs(value); len(ids) == 1 {
			h.id = ids[0]
		}
	case "references":
		h.references = messageIDs(value)
	case "in-reply-to":
		h.inReplyTo = messageIDs(value)
	case "auto-submitted":
		// RFC 3834 section 5: anything but "no", with comments and parameters or without.
		h.auto = h.auto || word != "no"
	case "precedence":
		h.bulk = h.bulk || in([]string{"bulk", "junk", "list", "auto_reply", "spam"}, word)
	case "mailing-list", "x-mailing-list", "x-beenthere", "x-mailman-version":
		h.list = true
	case "x-auto-response-suppress":
		// Exchange: a list of what is not wanted. DR, RN and NRN are receipts.
		for what := range strings.SplitSeq(strings.ToLower(value), ",") {
			h.suppressed = h.suppressed || in([]string{"all", "oof", "autoreply"}, strings.TrimSpace(what))
		}
	case "x-autoreply", "x-autorespond", "x-auto-reply-from", "x-autogenerated", "x-mail-autoreply":
		h.reply = h.reply || word != "no"
	case "content-type":
		h.report = h.report || word == "multipart/report"
	case "x-spam-flag", "x-spam", "x-spam-status":
		h.spam = h.spam || strings.HasPrefix(word, "yes") || word == "true"
	default:
		// RFC 2369, RFC 2919, RFC 8058: List-Id, List-Post ...
		h.list = h.list || strings.HasPrefix(name, "list-")
	}
}

// firstWord is the beginning of a value, in lower case, without comments, which may have comments in them.
func firstWord(v string) string {
	depth := 0
	for i := range len(v) {
		switch c := v[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0 && c != ' ' && c != '\t':
			v = v[i:]
			if end := strings.IndexAny(v, " \t;,("); end >= 0 {
				v = v[:end]
			}
			return strings.ToLower(v)
		}
	}
	return ""
}

// mailboxes are the addresses of a list; none when it is not certain which they are.
func mailboxes(value string) (list []addr.Mailbox) {
	found, ok := message.Mailboxes(value, maxAddresses)
	if !ok {
		return nil
	}
	for _, s := range found {
		if m, err := addr.Parse(s, true); err == nil {
			list = append(list, m)
		}
	}
	return list
}

// messageIDs are those that can be written again as they are.
func messageIDs(value string) (ids []string) {
	for _, id := range message.MessageIDs(value) {
		if len(id) <= maxMessageID && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()\"`, r) }) {
			ids = append(ids, id)
		}
	}
	return ids
}

// oneLine is a text that can stand in a field and be printed: on one line, of bounded length.
func oneLine(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029 {
			r = ' '
		}
		if n++; n > maxSubjectRune {
			return strings.TrimSpace(b.String()) + "..."
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}
