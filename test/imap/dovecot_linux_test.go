package imap

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/site"
)

// both are servers of one maildir: ours, and Dovecot's.
type both struct {
	*imapSite
	dovecot *peers.DovecotServer
}

// newBoth starts both. Alice's mailbox is of the account that Dovecot serves it with.
func newBoth(t *testing.T, more ...string) *both {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for Dovecot")
	}
	owner, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	s := newSite(t, false, more...)
	s.Write("etc/users", fmt.Sprintf("alice::%d:%d::%s/home/alice\n", uid, gid, s.Dir), 0o644)
	for _, d := range []string{"", "/Maildir", "/Maildir/cur", "/Maildir/new", "/Maildir/tmp"} {
		s.Must(os.Chown(s.Dir+"/home/alice"+d, uid, gid))
	}
	b := &both{s, peers.Dovecot(t, peers.Config{Protocols: []string{"imap"}, Maildirs: s.Dir + "/home", Users: []string{"alice"}})}
	s.All()
	return b
}

// put makes a message in alice's INBOX.
func (b *both) put(name string, text []byte) {
	b.T.Helper()
	path := b.Alice + "/new/" + name
	b.Must(os.WriteFile(path, text, 0o600))
	st, err := os.Stat(b.Alice)
	b.Must(err)
	own := st.Sys().(*syscall.Stat_t)
	b.Must(os.Chown(path, int(own.Uid), int(own.Gid)))
	when := time.Unix(1700000000, 0)
	b.Must(os.Chtimes(path, when, when))
}

// theirs is a session of alice's with Dovecot.
func (b *both) theirs() *wire {
	b.T.Helper()
	nc, err := net.Dial("tcp", b.dovecot.IMAP)
	b.Must(err)
	w := &wire{Client: site.NewClient(b.T, nc)}
	w.Want("* OK ")
	w.do("LOGIN alice secret")
	return w
}

// A value is what a response is made of: a list, a string, or an atom.
type value struct {
	list []value
	text string
	kind byte // '(', '"', or 'a'
}

// values parses a response; literals stand in it as wire leaves them.
func values(s string) (list []value, rest string) {
	for {
		s = strings.TrimLeft(s, " ")
		switch {
		case s == "":
			return list, ""
		case s[0] == ')':
			return list, s[1:]
		case s[0] == '(':
			in, rest := values(s[1:])
			list, s = append(list, value{list: in, kind: '('}), rest
		case s[0] == '"':
			var b strings.Builder
			i := 1
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
				b.WriteByte(s[i])
			}
			list, s = append(list, value{text: b.String(), kind: '"'}), s[i+1:]
		case s[0] == '{':
			size, after, _ := strings.Cut(s[1:], "}")
			n, _ := strconv.Atoi(size)
			list, s = append(list, value{text: after[:n], kind: '"'}), after[n:]
		default:
			i := strings.IndexAny(s, " ()")
			if open := strings.IndexByte(s, '['); open >= 0 && (i < 0 || open < i) { // of a section
				i = open + strings.IndexByte(s[open:], ']')
				if end := strings.IndexAny(s[i:], " ()"); end >= 0 {
					i += end
				} else {
					i = -1
				}
			}
			if i < 0 {
				i = len(s)
			}
			list, s = append(list, value{text: s[:i], kind: 'a'}), s[i:]
		}
	}
}

func (v value) String() string {
	switch v.kind {
	case '"':
		return strconv.Quote(v.text)
	case 'a':
		return v.text
	}
	var b strings.Builder
	for i, x := range v.list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(x.String())
	}
	return "(" + b.String() + ")"
}

// fetched are the items of a FETCH of one message, by name.
func (w *wire) fetched(uid int, items string) map[string]value {
	w.T.Helper()
	all := map[string]value{}
	tagged, untagged := w.ask(fmt.Sprintf("UID FETCH %d %s", uid, items))
	if !strings.HasPrefix(tagged, "OK") {
		all["error"] = value{text: tagged, kind: '"'}
	}
	for _, r := range untagged {
		_, rest, ok := strings.Cut(r, " FETCH (")
		if !ok {
			continue
		}
		list, _ := values(rest)
		for i := 0; i+1 < len(list); i += 2 {
			all[strings.ToUpper(list[i].text)] = list[i+1]
		}
	}
	return all
}

// corpus is messages of all kinds, good and bad.
func corpus(t testing.TB) []string {
	paths, _ := filepath.Glob("../../../shared/corpus/*/*.eml")
	if len(paths) == 0 {
		t.Skip("no corpus in ../shared/corpus of the repository's directory")
	}
	return paths
}

// parts are the numbers of all parts in a BODYSTRUCTURE.
func parts(v value, prefix string) (all []string) {
	if len(v.list) == 0 {
		return nil
	}
	dot := func(n int) string {
		if prefix == "" {
			return strconv.Itoa(n)
		}
		return prefix + "." + strconv.Itoa(n)
	}
	if v.list[0].kind != '(' {
		if prefix == "" {
			return append([]string{"1"}, inMessage(v, "1")...)
		}
		return inMessage(v, prefix)
	}
	for i, p := range v.list {
		if p.kind != '(' {
			break
		}
		all = append(append(all, dot(i+1)), parts(p, dot(i+1))...)
	}
	return all
}

// inMessage are those in a part that is a message.
func inMessage(v value, prefix string) []string {
	if len(v.list) < 9 || !strings.EqualFold(v.list[0].text, "message") || v.list[8].kind != '(' {
		return nil
	}
	in := v.list[8]
	if len(in.list) > 0 && in.list[0].kind == '(' {
		return parts(in, prefix)
	}
	return append([]string{prefix + ".1"}, inMessage(in, prefix+".1")...)
}

// same says that two values are one answer. Where Dovecot makes up what the message has not: RFC 9051 section 7.5.2 has NIL for what is not there, and a string of
// nothing for the half of an address that is missing; it lets body parameters be those of the header, and RFC 2045 section 5.2 says what their absence means.
func same(ours, theirs value) bool {
	if theirs.kind == '"' && (theirs.text == "" && ours.String() == "NIL" || ours.kind == '"' && ours.text == "" && strings.HasPrefix(theirs.text, "MISSING_")) {
		return true
	}
	if n := len(theirs.list) - 2; n >= 0 && len(ours.list) == n && theirs.list[n].text == "charset" && theirs.list[n+1].text == "us-ascii" {
		theirs.list = theirs.list[:n]
		if n == 0 {
			return ours.String() == "NIL"
		}
	}
	if theirs.kind != '(' || ours.kind != '(' {
		return ours.String() == theirs.String()
	}
	return slices.EqualFunc(ours.list, theirs.list, same)
}

// Why answers differ, which all have to do with messages that break a rule. What is quoted is of RFC 2046 if nothing else is said.
const (
	quotedPair = `a Windows path in a quoted string: each octet after a backslash is itself, for Dovecot; we take backslashes for what they are meant to be (RFC 2045 section 5.1, value)`
	bareCR     = `a CR that is none of a line end: RFC 5322 section 2.3 has none of these, and as a space it hurts nobody`
	noBlank    = `the delimiter stands where the empty line should: the line end of the last field is the field's, as in RFC 5322 section 2.2`
	delimiter  = `section 5.1.1: "the CRLF preceding the boundary delimiter line is conceptually attached to the boundary", of a part without a body and of a nested one too`
	prefix     = `one boundary is the beginning of another: we take whole lines, "a" is not "ab"; Dovecot the longest that it knows`
	noSemi     = `no semicolon before the boundary: we find it, for Dovecot there are no parts and no type`
	twice      = `two fields of a name of which there should be one (RFC 5322 section 3.6): the first counts, the last for Dovecot; and "Boundary42" is not "boundary42"`
	noHeader   = `a message in a part that begins with a line that is no field: it is body; for Dovecot the header goes on to the next empty line or delimiter`
	atSign     = `an unquoted @ in a parameter, which ends it for Dovecot`
	language   = `two parameters of a name, one of them in RFC 2231's way: Dovecot leaves that out`
	encoding   = `a transfer encoding that nobody knows is given as it is, for RFC 9051 section 7.5.2 lets it be any string; "8" is 7bit for Dovecot`
)

var differ = map[string]string{
	"legacy/035.eml": quotedPair, "legacy/039.eml": quotedPair, "legacy/049.eml": bareCR, "malformed/000.eml": noBlank, "malformed/001.eml": noBlank,
	"malformed/004.eml": prefix, "malformed/007.eml": prefix, "malformed/016.eml": prefix, "malformed/017.eml": noSemi, "malformed/019.eml": twice,
	"malformed/020.eml": delimiter, "malformed/021.eml": delimiter, "malformed/022.eml": noHeader, "rfc/001.eml": atSign, "rfc/008.eml": noHeader,
	"thirdparty/004.eml": encoding, "thirdparty/007.eml": delimiter, "thirdparty/008.eml": delimiter, "thirdparty/010.eml": language, "thirdparty/011.eml": delimiter, "thirdparty/015.eml": noHeader,
}

// putCorpus makes the corpus the INBOX, in its order.
func (b *both) putCorpus() (names []string) {
	b.T.Helper()
	for i, p := range corpus(b.T) {
		text, err := os.ReadFile(p)
		b.Must(err)
		b.put(fmt.Sprintf("%d.M%dP1.host", 1700000000+i, i), text)
		names = append(names, filepath.Base(filepath.Dir(p))+"/"+filepath.Base(p))
	}
	return names
}

// What we say of each message is what Dovecot says: envelope, structure, every part, header and range.
func TestFetchWithDovecot(t *testing.T) {
	b := newBoth(t)
	names := b.putCorpus()
	ours, theirs := b.session(), b.theirs()
	ours.do("SELECT INBOX")
	theirs.do("SELECT INBOX")
	n := 0
	for i, name := range names {
		differs := false
		compare := func(items string) map[string]value {
			o, d := ours.fetched(i+1, items), theirs.fetched(i+1, items)
			for k, v := range d {
				n++
				if same(o[k], v) {
					continue
				}
				if differs = true; differ[name] == "" {
					t.Errorf("%s: %s\n ours   %s\n theirs %s", name, k, o[k], v)
				}
			}
			return o
		}
		o := compare("(RFC822.SIZE INTERNALDATE ENVELOPE BODY BODYSTRUCTURE)")
		compare("(BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[9.9] BODY.PEEK[]<7.100> BODY.PEEK[TEXT]<3.20>)")
		compare("(BODY.PEEK[HEADER.FIELDS (From SUBJECT content-type X-None)] BODY.PEEK[HEADER.FIELDS.NOT (Received Subject)])")
		for _, part := range parts(o["BODYSTRUCTURE"], "") {
			compare(strings.ReplaceAll("(BODY.PEEK[#] BODY.PEEK[#.MIME] BODY.PEEK[#.HEADER] BODY.PEEK[#.TEXT] BODY.PEEK[#]<2.10>)", "#", part))
		}
		if !differs && differ[name] != "" {
			t.Errorf("%s: the answers are the same now", name)
		}
	}
	if n < 10*len(names) {
		t.Errorf("%d answers were compared", n)
	}
}

// What we find is what Dovecot finds.
func TestSearchWithDovecot(t *testing.T) {
	b := newBoth(t)
	names := b.putCorpus()
	ours, theirs := b.session(), b.theirs()
	ours.do("SELECT INBOX")
	ours.do(`STORE 3:9 +FLAGS (\Flagged $Label1)`)
	ours.do(`STORE 5:30 +FLAGS.SILENT (\Seen)`)
	ours.do(`STORE 7 +FLAGS (\Deleted \Draft \Answered)`)
	theirs.do("SELECT INBOX")
	all := 0
	search := func(what string, literal ...string) {
		t.Helper()
		o, d := found(t, ours.do("UID SEARCH "+what, literal...)), found(t, theirs.do("UID SEARCH "+what, literal...))
		what += strings.Join(literal, " ")
		all += len(o)
		for i, name := range names {
			uid := i + 1
			switch {
			case o[uid] == d[uid]:
			case strings.Contains(what, "SENT") && name == "malformed/019.eml": // has two dates
			case strings.Contains(what, "SENT") && name == "rfc/001.eml": // "Date: Whenever" is 1970 for Dovecot
			case strings.Contains(what, "UTF-8") && (name == "legacy/001.eml" || name == "legacy/005.eml"): // UTF-7, which we do not decode
			case differ[name] == noHeader || differ[name] == noSemi: // and so what is header and what is text
			default:
				t.Errorf("%s: found %s: by us %v, by Dovecot %v", what, name, o[uid], d[uid])
			}
		}
	}
	for _, what := range []string{
		"ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN", "KEYWORD $Label1", "UNKEYWORD $Label1", "KEYWORD none",
		"1:5", "*", "UID 100:*", "UID 5,7:9", "NOT 1:100", "OR 1 OR 2 NOT 3:*", "(SEEN FLAGGED) 4:6", "NOT (SEEN OR FLAGGED DELETED)", "MODSEQ 1",
		"LARGER 5000", "SMALLER 700", "BEFORE 14-Nov-2023", "ON 14-Nov-2023", "SINCE 14-Nov-2023", "SINCE 15-Nov-2023", "OLDER 1000", "YOUNGER 1000",
		// RFC 9051 section 6.4.4, SENTBEFORE: "messages whose Date: header field" is earlier. Dovecot takes none for 1970.
		`HEADER Date "" SENTBEFORE 1-Jan-2000`, "SENTON 17-May-2000", "SENTSINCE 1-Jan-2010", `HEADER Date "" SENTSINCE 1-Jan-1970`, `HEADER Date "" SENTBEFORE 19-May-2000`,
		"FROM sauder", "FROM example.com", `FROM "Doug Sauder"`, "TO blow", `TO "Joe Blow" SUBJECT test`, "BCC example", "CC example", "SUBJECT hasen", `SUBJECT "test message"`, "SUBJECT re:",
		`HEADER Message-ID ""`, "HEADER Content-Type multipart", `HEADER X-Mailer Outlook`, `HEADER Received ""`, "HEADER X-None x", "HEADER References example",
		"BODY tortoise", `BODY "one day"`, "BODY hello", "BODY aGVsbG8", "BODY base64", "BODY image/png", "BODY filename", "BODY html", "BODY <html", "BODY attachment",
		"TEXT tortoise", "TEXT boundary", "TEXT multipart", "TEXT charset", "TEXT sauder", "TEXT hello", "TEXT image/png",
	} {
		search(what)
	}
	for _, x := range [][2]string{{"SUBJECT", "Frösche"}, {"SUBJECT", "FRÖSCHE"}, {"BODY", "Frösche"}, {"TEXT", "größer"}, {"TO", "Heinz Müller"}, {"TO", "jürgen schmürgen"}, {"BODY", "ß"}, {"TEXT", "ä"},
		{"BODY", "€"}, {"BODY", "の"}} {
		search("CHARSET UTF-8 "+x[0], x[1])
	}
	if all < 20*len(names) {
		t.Errorf("%d messages were found", all)
	}
}

// found are the UIDs in a response to a search.
func found(t testing.TB, list []string) map[int]bool {
	t.Helper()
	set := map[int]bool{}
	for _, r := range list {
		if rest, ok := strings.CutPrefix(r, "* SEARCH"); ok {
			rest, _, _ = strings.Cut(rest, "(")
			for _, uid := range strings.Fields(rest) {
				n, err := strconv.Atoi(uid)
				if err != nil {
					t.Fatal(r)
				}
				set[n] = true
			}
		}
	}
	return set
}
