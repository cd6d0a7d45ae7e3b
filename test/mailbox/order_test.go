package mailbox

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postamt/internal/match"
	"postamt/internal/message"
	"postamt/internal/thread"
	"postamt/internal/uidlist"
)

// ordered is a message, and what SORT and THREAD are to know of it.
type ordered struct {
	text    []byte
	arrived time.Time
	uid     uidlist.UID
}

// fill puts messages into the mailbox, in their order.
func (m *mailbox) fill(all []ordered) {
	m.t.Helper()
	tx := m.lock()
	defer tx.Unlock()
	entries := make([]uidlist.Entry, len(all))
	for i, o := range all {
		name := fmt.Sprintf("%d.m%d.h", 1000+i, i)
		path := m.path + "/cur/" + name + ":2,"
		if err := os.WriteFile(path, o.text, 0o666); err != nil {
			m.t.Fatal(err)
		}
		os.Chmod(path, 0o666)
		if err := os.Chtimes(path, o.arrived, o.arrived); err != nil {
			m.t.Fatal(err)
		}
		entries[i].Name = name
	}
	if err := tx.Append(entries); err != nil {
		m.t.Fatal(err)
	}
	for i := range all {
		all[i].uid = entries[i].UID
	}
}

// known is what a server keeps of a message for SORT and THREAD.
type known struct {
	uid           uint32
	sent, arrived int64
	size          int64
	id            string
	refs          []string
	base          string
	reply         bool
	addresses     map[thread.Key]string
}

func know(t testing.TB, o ordered) known {
	t.Helper()
	m, err := message.Parse(bytes.NewReader(o.text), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	e := m.Root.Envelope()
	k := known{uid: uint32(o.uid), arrived: o.arrived.Unix(), size: m.Wire, addresses: make(map[thread.Key]string)}
	k.sent = k.arrived
	if d, ok := message.Date(string(e.Date)); ok {
		k.sent = d.Unix()
	}
	if ids := message.MessageIDs(string(e.MessageID)); len(ids) > 0 {
		k.id = ids[0]
	}
	if f, ok := m.Root.Field("References"); ok {
		k.refs = message.MessageIDs(string(f.AppendText(nil)))
	}
	if len(k.refs) == 0 {
		if ids := message.MessageIDs(string(e.InReplyTo)); len(ids) > 0 {
			k.refs = ids[:1]
		}
	}
	k.base, k.reply = message.BaseSubject(string(e.Subject))
	for key, list := range map[thread.Key][]message.Address{thread.From: e.From, thread.To: e.To, thread.Cc: e.Cc} {
		if len(list) > 0 {
			k.addresses[key] = list[0].Mailbox
		}
	}
	for key, list := range map[thread.Key][]message.Address{thread.DisplayFrom: e.From, thread.DisplayTo: e.To} {
		if len(list) == 0 {
			continue
		}
		a := list[0] // RFC 5957 section 3
		switch {
		case message.Text(a.Name) != "":
			k.addresses[key] = message.Text(a.Name)
		case a.Kind == message.OneMailbox: // a host that is missing is not NIL in an ENVELOPE
			k.addresses[key] = a.Mailbox + "@" + a.Host
		default:
			k.addresses[key] = a.Mailbox
		}
	}
	return k
}

func threads(a thread.Algorithm, all []known) string {
	t := thread.New(a, len(all))
	for _, k := range all {
		t.Add(k.uid, k.sent, k.arrived, []byte(k.id))
		for _, r := range k.refs {
			t.Reference([]byte(r))
		}
		t.Subject([]byte(k.base), k.reply)
	}
	return string(t.Tree().AppendList(nil, func(id uint32) uint32 { return id }))
}

func sorted(criteria []thread.Criterion, all []known) []uint32 {
	s := thread.NewSorter(criteria, len(all))
	for _, k := range all {
		s.Add(k.uid)
		for _, c := range criteria {
			switch c.Key {
			case thread.Arrival:
				s.Number(k.arrived)
			case thread.Date:
				s.Number(k.sent)
			case thread.Size:
				s.Number(k.size)
			case thread.Subject:
				s.Text([]byte(k.base))
			default:
				s.Text([]byte(k.addresses[c.Key]))
			}
		}
	}
	return s.Sorted()
}

// varied makes messages as people and programs write them.
func varied(n int) (all []ordered) {
	r := rand.New(rand.NewPCG(5256, 5957))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	id := func(i int) string {
		if i%17 == 5 { // quoted, which means nothing
			return pick(fmt.Sprintf(`<"m%d"@example.org>`, i), fmt.Sprintf("<m%d@example.org>", i))
		}
		return fmt.Sprintf("<m%d@example.org>", i)
	}
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		var b strings.Builder
		sent := start.Add(time.Duration(i+r.IntN(40)-20) * time.Hour)
		switch r.IntN(12) {
		case 0: // none
		case 1:
			b.WriteString("Date: tomorrow\n")
		case 2:
			fmt.Fprintf(&b, "Date: %s\n", sent.Format("2 Jan 2006 15:04 MST"))
		default:
			zone := time.FixedZone("", []int{0, 3600, -8 * 3600, 5*3600 + 1800}[r.IntN(4)])
			fmt.Fprintf(&b, "Date: %s\n", sent.In(zone).Format(time.RFC1123Z))
		}
		switch r.IntN(14) {
		case 0: // none
		case 1:
			fmt.Fprintf(&b, "Message-ID: %s\n", id(r.IntN(i+1)))
		default:
			fmt.Fprintf(&b, "Message-ID: %s\n", id(i))
		}
		near := func() string { return id(max(0, i-r.IntN(12))) }
		switch r.IntN(6) {
		case 0, 1:
			fmt.Fprintf(&b, "References: %s\n %s\n\t%s\n", near(), near(), near())
		case 2:
			fmt.Fprintf(&b, "In-Reply-To: %s\n", near())
		case 3:
			fmt.Fprintf(&b, "In-Reply-To: Your message of Friday %s\nReferences: <gone%d@example.org> %s\n", near(), r.IntN(9), near())
		}
		subject := pick("meeting", "Meeting", "meetings", "=?UTF-8?Q?Gr=C3=BC=C3=9Fe?=", "=?iso-8859-1?q?Gr=FC=DFe?=", "=?UTF-8?B?R1LDnMOfRQ==?=", "report 1", "report  1", "[list] report 1", "Zebra", "abacus", "=?UTF-8?B?5ryi5a2X?=", "x [y]", "[y]", "")
		subject = pick("", "", "", "Re: ", "RE: re: ", "Fwd: ", "fw: ", "[list] Re: ", "Re[2]: ", "Re : ") + subject + pick("", "", "", "", " (fwd)", "   ")
		if r.IntN(12) > 0 {
			fmt.Fprintf(&b, "Subject: %s\n", subject)
		}
		address := func() string {
			return pick("alice@example.org", "Bob <bob@example.org>", `"Carol, C." <carol@example.net>`, "=?UTF-8?Q?D=C3=B6rte?= <doerte@example.net>", "zoe@example.com (Zoe)", "team: alice@example.org, bob@example.org;", "Undisclosed recipients:;", "nobody", "ALICE@EXAMPLE.ORG")
		}
		for _, f := range []string{"From", "To", "Cc"} {
			if r.IntN(8) > 0 {
				fmt.Fprintf(&b, "%s: %s, %s\n", f, address(), address())
			}
		}
		b.WriteString("\n" + strings.Repeat("text\n", r.IntN(30)))
		all = append(all, ordered{text: []byte(b.String()), arrived: start.Add(time.Duration(i+r.IntN(9)) * time.Hour)})
	}
	return all
}

// found are messages that other people have collected.
func found(t testing.TB) (all []ordered) {
	const dir = "../../../shared/corpus"
	if _, err := os.Stat(dir); err != nil {
		t.Log("no corpus in ../shared/corpus of the repository's directory")
		return nil
	}
	arrived := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".eml" {
			return err
		}
		text, err := os.ReadFile(path)
		arrived = arrived.Add(time.Minute)
		all = append(all, ordered{text: text, arrived: arrived})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// otherwise: Dovecot reads the message otherwise, which is not a matter of order.
func otherwise(text []byte) bool {
	for _, s := range []string{
		"=?utf-7?",                      // a charset that Dovecot knows
		"Date: Tue, 7 Apr 2026 10:00:t", // its day and hour are for us what a Date is that has no more; for Dovecot it is none (RFC 5256 section 2.2 has it cut to what is valid)
	} {
		if bytes.Contains(text, []byte(s)) {
			return true
		}
	}
	return false
}

// SORT and THREAD are Dovecot's, but for what is argued here.
func TestOrderBesideDovecot(t *testing.T) {
	m, root := newMaildir(t)
	all := append(varied(600), found(t)...)
	m.fill(all)
	var messages []known
	search := "ALL"
	for _, o := range all {
		if otherwise(o.text) {
			search += fmt.Sprint(" NOT UID ", o.uid)
		} else {
			messages = append(messages, know(t, o))
		}
	}
	s := dovecot(t, root)
	c := login(t, s)
	c.do("SELECT INBOX")
	answer := func(command, want string) string {
		for _, line := range c.do(command) {
			if rest, ok := strings.CutPrefix(line, "* "+want); ok {
				return strings.TrimSpace(rest)
			}
		}
		t.Fatalf("%s: no answer", command)
		return ""
	}

	for _, criteria := range []string{"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "REVERSE SUBJECT", "SUBJECT REVERSE DATE", "FROM REVERSE SIZE ARRIVAL", "REVERSE DISPLAYTO SUBJECT"} {
		var ours []thread.Criterion
		reverse := false
		for w := range strings.FieldsSeq(criteria) {
			if w == "REVERSE" {
				reverse = true
				continue
			}
			key, ok := thread.ParseKey(w)
			if !ok {
				t.Fatal(w)
			}
			ours = append(ours, thread.Criterion{Key: key, Reverse: reverse})
			reverse = false
		}
		var theirs []uint32
		for w := range strings.FieldsSeq(answer("UID SORT ("+criteria+") UTF-8 "+search, "SORT")) {
			uid, err := strconv.Atoi(w)
			if err != nil {
				t.Fatal(err)
			}
			theirs = append(theirs, uint32(uid))
		}
		got := sorted(ours, messages)
		if !slices.Equal(got, theirs) {
			i := 0
			for got[i] == theirs[i] {
				i++
			}
			t.Errorf("SORT (%s), behind %d messages:\n%v, theirs is\n%v\n%+v\n%+v\n%.300s\n%.300s", criteria, i, got[i:min(i+5, len(got))], theirs[i:min(i+5, len(theirs))], know(t, all[got[i]-1]), know(t, all[theirs[i]-1]), all[got[i]-1].text, all[theirs[i]-1].text)
		}
	}

	for _, a := range []string{"ORDEREDSUBJECT", "REFERENCES", "REFS"} {
		algorithm, _ := thread.Parse(a)
		if algorithm == thread.Refs {
			// draft-ietf-morg-inthread section 4: by the most recent INTERNALDATE in each. Dovecot takes sent dates.
			for i := range messages {
				messages[i].arrived = messages[i].sent
			}
		}
		theirs := answer("UID THREAD "+a+" UTF-8 "+search, "THREAD")
		if got := threads(algorithm, messages); got != theirs {
			t.Errorf("THREAD %s:\n%s\n%s", a, got, theirs)
		}
	}
}

// SEARCH finds what Dovecot finds, but for what is argued here: RFC 5051 takes no titlecase of what it has taken apart, and does not order marks; match says why it does.
func TestMatchBesideDovecot(t *testing.T) {
	m, root := newMaildir(t)
	subjects := []string{"Gr\u00fc\u00dfe", "GRU\u0308\u00dfE", "gr\uff35\u0308\u00dfe", "office", "o\ufb03ce", "\u6f22\u5b57", "\uff83\uff7d\uff84", "\u30c6\u30b9\u30c8", "\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af",
		"\u041f\u0440\u0438\u0432\u0435\u0442, \u0419\u043e\u0434", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u1ec7", "\u00ea\u0323", "\u00e9t\u00e9", "ete", "naive", "na\u00efve plan", "two  spaces", "\U0001f389 party", "[list] Re: prefix", "\u01c6", "\u017fpell"}
	var all []ordered
	for _, s := range subjects {
		word := "=?UTF-8?B?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
		all = append(all, ordered{text: []byte("Subject: " + word + "\n\n"), arrived: time.Now()})
	}
	m.fill(all)
	c := login(t, dovecot(t, root))
	c.do("SELECT INBOX")
	keys := append([]string{"gr", "\u00dc", "u", "\u00df", "ffi", "FI", "\u00ea", "e", "E\u0301", "na\u00efve", "i", "\u3066", "\u30c6", "\u1112\u1161", "\u03c3\u03c5\u03c3", "\u03c3\u03cd\u03c3", "\u0439\u043e\u0434", "two spaces", " ", "", "d\u017e", "spell", "nothing"}, subjects...)
	for _, key := range keys {
		var theirs, ours []string
		for _, line := range c.do("UID SEARCH CHARSET UTF-8 SUBJECT", key) {
			if rest, ok := strings.CutPrefix(line, "* SEARCH"); ok {
				theirs = strings.Fields(rest)
			}
		}
		k := match.New(key)
		for i, s := range subjects {
			if k.In([]byte(s)) {
				ours = append(ours, fmt.Sprint(all[i].uid))
			}
		}
		const ligature, digraph, dotted, marks = "5", "22", "13", "14"
		for _, more := range map[string][]string{
			"ffi": {ligature}, "FI": {ligature}, "i": {ligature}, "office": {ligature}, "o\ufb03ce": {"4"},
			"d\u017e":      {digraph},
			"e":            {dotted}, // taken apart twice, as RFC 5051 asks
			"\u1ec7":       {marks},
			"\u00ea\u0323": {dotted},
		}[key] {
			theirs = append(theirs, more)
		}
		if key == "\u00ea" {
			theirs = slices.DeleteFunc(theirs, func(uid string) bool { return uid == marks })
		}
		slices.SortFunc(theirs, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
		if !slices.Equal(ours, theirs) {
			t.Errorf("%q: %v, theirs %v", key, ours, theirs)
		}
	}
}
