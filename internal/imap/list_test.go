package imap

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestList(t *testing.T) {
	check(t, 0, []row{
		{"list", func(d *Decoder) any { return d.ListCommand() }, map[string]any{
			`"" "*"`:             List{Patterns: []string{"*"}},
			`#news. comp.mail.*`: List{Reference: "#news.", Patterns: []string{"comp.mail.*"}},
			`(SUBSCRIBED RECURSIVEMATCH) "" "*" RETURN (CHILDREN)`: List{Extended: true, Select: ListSubscribed | ListRecursiveMatch, Patterns: []string{"*"}, Return: ListChildren},
			`() "" ("INBOX" "Drafts" "Sent/%")`:                    List{Extended: true, Patterns: []string{"INBOX", "Drafts", "Sent/%"}},
			`"" % return ()`:                                       List{Extended: true, Patterns: []string{"%"}},
			`(REMOTE SPECIAL-USE) x % RETURN (SUBSCRIBED SPECIAL-USE MYRIGHTS STATUS (MESSAGES UNSEEN) METADATA (/Shared/Comment))`: List{Extended: true, Select: ListRemote | ListSpecialUse, Reference: "x", Patterns: []string{"%"},
				Return: ListSubscribed | ListSpecialUse | ListMyRights | ListStatus | ListMetadata, Status: StatusMessages | StatusUnseen, Metadata: []string{"/shared/comment"}},
		}, []string{"", `""`, `"" `, `"" ()`, `(RECURSIVEMATCH) "" *`, `(REMOTE RECURSIVEMATCH) "" *`, `(SPECIAL-USE RECURSIVEMATCH) "" *`, `(FOO) "" *`, `(SUBSCRIBED ) "" *`, `"" * RETURN`, `"" * RETURN (FOO)`, `"" * RETURN (STATUS)`, `"" * RETURN (STATUS ())`, `"" * x`,
			`"" (a` + strings.Repeat(" b", 500) + ")"}},
		{"status", func(d *Decoder) any { return d.StatusItems() }, map[string]any{
			"(UIDNEXT messages)": StatusUIDNext | StatusMessages,
			"(RECENT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID APPENDLIMIT DELETED-STORAGE)": StatusRecent | StatusUIDValidity | StatusUnseen | StatusDeleted | StatusSize | StatusHighestModSeq | StatusMailboxID | StatusAppendLimit | StatusDeletedStorage,
		}, []string{"", "()", "(FOO)", "MESSAGES", "(MESSAGES"}},
		{"create", func(d *Decoder) any { d.Mailbox(); return d.CreateParams() }, map[string]any{"x": []string(nil), `x (USE (\Drafts \Sent))`: []string{`\Drafts`, `\Sent`}}, []string{"x ", "x ()", "x (FOO)", `x (USE \Sent)`, `x (USE (\Sent) USE (\Sent))`}},
		{"select", func(d *Decoder) any { d.Mailbox(); return d.SelectParams() }, map[string]any{
			"INBOX":             SelectParams{},
			"INBOX (condstore)": SelectParams{CondStore: true},
			"INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))": SelectParams{QResync: &QResync{UIDValidity: 67890007, ModSeq: 20050715194045000, UIDs: set(t, "41,43:211,214:541")}},
			"INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541 (1:2 41:42)) CONDSTORE)": SelectParams{CondStore: true,
				QResync: &QResync{UIDValidity: 67890007, ModSeq: 90060115194045000, UIDs: set(t, "41:211,214:541"), Seqs: set(t, "1:2"), MatchUIDs: set(t, "41:42")}},
			"INBOX (QRESYNC (1 2 (1 5)))": SelectParams{QResync: &QResync{UIDValidity: 1, ModSeq: 2, Seqs: set(t, "1"), MatchUIDs: set(t, "5")}},
		}, []string{"INBOX ", "INBOX ()", "INBOX (FOO)", "INBOX (QRESYNC)", "INBOX (QRESYNC (1))", "INBOX (QRESYNC (0 1))", "INBOX (QRESYNC (1 0))", "INBOX (QRESYNC (1 1 *))", "INBOX (QRESYNC (1 1 1:*))", "INBOX (QRESYNC (1 1 $))",
			"INBOX (QRESYNC (1 1 (1:2 5)))", "INBOX (QRESYNC (1 1 (2,1 5:6)))", "INBOX (QRESYNC (1 1 (1)))", "INBOX (QRESYNC (1 1) QRESYNC (1 1))", "INBOX (QRESYNC (1 1 ))", "INBOX (CONDSTORE"}},
	})
}

func TestNotify(t *testing.T) {
	const both = EventMessageNew | EventMessageExpunge
	check(t, 0, []row{{"notify", func(d *Decoder) any { return d.Notify() }, map[string]any{
		"NONE": Notify{},
		"SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (From)]) MessageExpunge)) (subtree Lists (MailboxName))": Notify{Groups: []EventGroup{
			{MailboxFilter{Kind: FilterSelected}, both, []FetchItem{{Kind: FetchUID}, {Kind: FetchSection, Peek: true, Section: Section{Text: SectionHeaderFields, Fields: []string{"From"}}}}},
			{MailboxFilter{Kind: FilterSubtree, Mailboxes: []string{"Lists"}}, EventMailboxName, nil}}},
		"SET (subscribed NONE) (personal NONE)": Notify{Groups: []EventGroup{{MailboxFilter: MailboxFilter{Kind: FilterSubscribed}}, {MailboxFilter: MailboxFilter{Kind: FilterPersonal}}}},
		"SET STATUS (selected-delayed NONE) (mailboxes (a INBOX) (messagenew MessageExpunge Foo)) (inboxes (ServerMetadataChange))": Notify{Status: true, Groups: []EventGroup{
			{MailboxFilter{Kind: FilterSelectedDelayed}, 0, nil}, {MailboxFilter{FilterMailboxes, []string{"a", "INBOX"}}, both | EventUnknown, nil}, {MailboxFilter{Kind: FilterInboxes}, EventServerMetadataChange, nil}}},
	}, []string{"", "NONE x", "SET", "SET ", "SET STATUS", "SET ()", "SET (selected)", "SET (selected ())", "SET (selected FOO)", "SET (selected (MessageNew))", "SET (personal (FlagChange))", "SET (selected (MailboxName))", "SET (foo NONE)",
		"SET (personal (MessageNew (UID) MessageExpunge))", "SET (selected NONE) (selected-delayed NONE)", "SET (subtree NONE)", "SET (selected NONE", "SET (personal NONE) ", "SET" + strings.Repeat(" (personal NONE)", 200),
		"SET (selected (MessageNew () MessageExpunge))"}}})
}

func TestMetadata(t *testing.T) {
	check(t, 0, []row{
		{"getmetadata", func(d *Decoder) any { return d.GetMetadata() }, map[string]any{
			`"INBOX" /shared/comment`: GetMetadata{MaxSize: -1, Mailbox: "INBOX", Entries: []string{"/shared/comment"}},
			`(MAXSIZE 1024 DEPTH infinity) "" (/shared/comment "/private/X")`: GetMetadata{MaxSize: 1024, Depth: -1, Entries: []string{"/shared/comment", "/private/x"}},
			`(DEPTH 0) x /a`:                       GetMetadata{MaxSize: -1, Mailbox: "x", Entries: []string{"/a"}},
			"INBOX (MAXSIZE 1024) (/a {2+}\r\n/b)": GetMetadata{MaxSize: 1024, Mailbox: "INBOX", Entries: []string{"/a", "/b"}},
			`(DEPTH 1) x /a`:                       GetMetadata{MaxSize: -1, Depth: 1, Mailbox: "x", Entries: []string{"/a"}},
		}, []string{"", "INBOX", "INBOX ()", "() INBOX /a", "INBOX (MAXSIZE 1)", "INBOX (MAXSIZE 1) ", "INBOX (a) (b)", "INBOX (MAXSIZE 1) () /a", "(DEPTH 2) INBOX /a", "(FOO) INBOX /a", "INBOX a", "INBOX /", "INBOX /a/", "INBOX /a//b", `INBOX "/a*"`, `INBOX "/a%"`, "INBOX {3+}\r\n/\xc3\xa4", "INBOX /a b"}},
		{"entry-values", func(d *Decoder) any { return d.EntryValues() }, map[string]any{
			"(/Private/Comment \"x\" /shared/comment NIL /a {2+}\r\nyz /b ~{2+}\r\n\x00z /c \"\")": []MetadataEntry{{"/private/comment", []byte("x")}, {"/shared/comment", nil}, {"/a", []byte("yz")}, {"/b", []byte("\x00z")}, {"/c", []byte{}}},
		}, []string{"", "()", "(/a)", "(/a x)", "(/a \"x\"", "/a \"x\"", "(/a {1+}\r\n\x00)"}},
		{"id", func(d *Decoder) any { return d.ID() }, map[string]any{"NIL": []IDParam(nil), "()": []IDParam(nil), `("name" "sodr" "version" NIL)`: []IDParam{{"name", "sodr"}, {"version", ""}}},
			[]string{"", "x", `("name")`, `("name" x)`, `(name "x")`, `("name" "x"`, "(" + strings.Repeat(`"a" "b" `, 40) + `"a" "b")`}},
		{"setquota-list", func(d *Decoder) any { return d.QuotaLimits() }, map[string]any{"(STORAGE 512 message 1000)": []QuotaLimit{{"STORAGE", 512}, {"MESSAGE", 1000}}, "()": []QuotaLimit(nil)}, []string{"", "(STORAGE)", "(STORAGE x)", "STORAGE 1", "(STORAGE -1)"}},
	})
}

// appended reads an APPEND to its end, as a session does.
func appended(d *Decoder) (got []string) {
	read := func(l Literal) string {
		if d.Err() != nil {
			return ""
		}
		var b bytes.Buffer
		io.Copy(&b, d.Open(l))
		return b.String()
	}
	d.Mailbox()
	for more := true; more && d.Err() == nil; more = d.More() {
		m := d.AppendMessage()
		if d.Err() != nil {
			break
		}
		text := strings.Join(m.Flags, ",")
		if !m.Date.IsZero() {
			text += m.Date.Format(time.RFC3339)
		}
		text += ":"
		if m.Kind == DataCatenate {
			for p, ok := d.CatenatePart(); ok; p, ok = d.CatenatePart() {
				if p.Text {
					text += read(p.Literal) + ";"
				} else {
					text += "<" + p.URL + ">"
				}
			}
		} else {
			text += read(m.Literal)
			d.AppendEnd(m)
		}
		got = append(got, text)
	}
	return got
}

func TestAppend(t *testing.T) {
	check(t, UTF8, []row{{"append", func(d *Decoder) any { return appended(d) }, map[string]any{
		"INBOX {3}\r\nabc": []string{":abc"},
		"INBOX (\\Seen) \" 7-Feb-1994 21:52:25 -0800\" {3+}\r\nabc": []string{`\Seen1994-02-07T21:52:25-08:00:abc`},
		"INBOX {0}\r\n":            []string{":"},
		"INBOX ~{3}\r\na\x00c":     []string{":a\x00c"},
		"INBOX UTF8 (~{3}\r\nabc)": []string{":abc"},
		"INBOX (a) {1}\r\nx (b) {1}\r\ny UTF8 (~{1}\r\nz) {1}\r\nq": []string{"a:x", "b:y", ":z", ":q"}, // RFC 3502
		// RFC 4469 section 4
		"Drafts (\\Seen) CATENATE (URL \"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER\" TEXT {4}\r\nabcd URL x TEXT {2+}\r\nef) {1}\r\nz": []string{`\Seen:</Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER>abcd;<x>ef;`, ":z"},
		"x CATENATE (UTF8 (~{2}\r\nab) TEXT {1}\r\nc)": []string{":ab;c;"},
	}, []string{"INBOX", "INBOX ", "INBOX abc", "INBOX \"abc\"", "INBOX (\\Seen)", "INBOX FOO (x)", "INBOX UTF8 ({3+}\r\nabc)", "INBOX UTF8 ~{3+}\r\nabc", "INBOX UTF8 (~{3+}\r\nabc", "INBOX {3+}\r\nabcx", "INBOX {3+}\r\nabc)", "INBOX {3+}\r\nabc ",
		"x CATENATE ()", "x CATENATE (URL)", "x CATENATE (TEXT x)", "x CATENATE (TEXT {1+}\r\nx", "x CATENATE (TEXT {1+}\r\nxURL y)", "x CATENATE (FOO x)", "x CATENATE URL x", "x CATENATE (TEXT ~{1+}\r\nx)", "x CATENATE (UTF8 (~{1+}\r\nx TEXT {1+}\r\ny)",
		"x (\\Seen) (\\Seen) {1+}\r\nx", "x \"01-Jan-2000 00:00:00 +0000\" (a) {1+}\r\nx"}}})
	// A NUL in the message is told.
	d := arguments(t, "INBOX {3+}\r\na\x00c", 0)
	d.Mailbox()
	b := d.Open(d.AppendMessage().Literal)
	if io.ReadAll(b); !b.NUL || d.End() != nil {
		t.Error("a NUL was not seen")
	}
	// The literal is judged before it is opened.
	d = arguments(t, "INBOX {9000000000}", 0)
	d.Mailbox()
	if m := d.AppendMessage(); m.Literal.Size != 9000000000 || m.Literal.NonSync || d.Err() != nil || !reflect.DeepEqual(m.Flags, []string(nil)) {
		t.Errorf("%+v, %v", m, d.Err())
	}
}
