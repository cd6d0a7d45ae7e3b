package imap

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// typed is a session of alice's by go-imap's client, which reads each response into a type of its own, and ends the connection at what it does not understand.
func (s *imapSite) typed(o *imapclient.Options) *imapclient.Client {
	s.T.Helper()
	if o == nil {
		o = &imapclient.Options{}
	}
	o.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	c, err := imapclient.DialTLS(s.TLS, o)
	s.Must(err)
	s.T.Cleanup(func() { c.Close() })
	s.Must(c.Login("alice", "secret").Wait())
	return c
}

const attached = `From: =?UTF-8?Q?J=C3=BCrgen?= <j@a.example>
To: alice@example.test, "Bob, the" <bob@b.example>
Cc: friends: c@c.example, d@d.example;
Subject: =?ISO-8859-1?Q?gr=FCn?=
Date: Fri, 27 Nov 2026 10:00:00 +0100
Message-ID: <one@a.example>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8
Content-Language: de, en

<p>grün
--b
Content-Type: message/rfc822
Content-Disposition: attachment; filename*=UTF-8''gr%C3%BCn.eml

From: k@k.example
Subject: inner

inner text
--b
Content-Type: image/png; name="x.png"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="x.png"; size=3
Content-ID: <cid@a.example>
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==

AAAA
--b--
`

func TestTyped(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0).All()
	s.Put(strings.ReplaceAll(attached, "\n", "\r\n"), "From: b@b.example\nSubject: Re: gruen\nIn-Reply-To: <one@a.example>\nMessage-ID: <two@a.example>\n\nanswer\n", messages[1])
	c := s.typed(nil)
	if caps, err := c.Capability().Wait(); err != nil || !caps.Has(imap.CapIMAP4rev2) || !caps.Has(imap.CapMove) {
		t.Fatal(caps, err)
	}
	if e, err := c.Enable(imap.CapIMAP4rev2).Wait(); err != nil || !e.Caps.Has(imap.CapIMAP4rev2) { // it takes that for granted, and says UTF-8 in quoted strings
		t.Error(e, err)
	}
	ns, err := c.Namespace().Wait()
	if err != nil || len(ns.Personal) != 1 || ns.Personal[0] != (imap.NamespaceDescriptor{Prefix: "", Delim: '.'}) {
		t.Errorf("NAMESPACE: %+v, %v", ns, err)
	}
	if id, err := c.ID(&imap.IDData{Name: "test"}).Wait(); err != nil || id.Name != "postamt" {
		t.Errorf("ID: %+v, %v", id, err)
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil || sel.NumMessages != 3 || sel.UIDNext != 4 || sel.UIDValidity == 0 || sel.HighestModSeq == 0 {
		t.Fatalf("SELECT: %+v, %v", sel, err)
	}

	all := imap.SeqSetNum(1, 2, 3)
	part := &imap.FetchItemBodySection{Part: []int{2, 1}, Peek: true}
	got, err := c.Fetch(all, &imap.FetchOptions{Envelope: true, Flags: true, InternalDate: true, RFC822Size: true, UID: true, ModSeq: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{part}}).Collect()
	if err != nil || len(got) != 3 {
		t.Fatal(len(got), err)
	}
	m := got[0]
	e := m.Envelope
	if e.Subject != "grün" || !e.Date.Equal(time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)) || e.MessageID != "one@a.example" || len(e.From) != 1 || e.From[0].Name != "Jürgen" || e.From[0].Addr() != "j@a.example" ||
		len(e.To) != 2 || e.To[1].Name != "Bob, the" || len(e.Cc) != 4 || !e.Cc[0].IsGroupStart() || e.Cc[0].Mailbox != "friends" || e.Cc[2].Addr() != "d@d.example" || !e.Cc[3].IsGroupEnd() ||
		got[1].Envelope.InReplyTo[0] != "one@a.example" {
		t.Errorf("ENVELOPE: %+v", e)
	}
	if m.UID != 1 || m.ModSeq == 0 || m.RFC822Size != int64(len(attached)+strings.Count(attached, "\n")) || time.Since(m.InternalDate) < time.Hour-time.Minute || time.Since(m.InternalDate) > 2*time.Hour {
		t.Errorf("%+v", m)
	}
	if text := string(m.FindBodySection(part)); text != "inner text" {
		t.Errorf("BODY[2.1]: %q", text)
	}
	var seen []string
	m.BodyStructure.Walk(func(path []int, p imap.BodyStructure) bool {
		line := fmt.Sprint(path, " ", strings.ToLower(p.MediaType()))
		if d := p.Disposition(); d != nil {
			line += fmt.Sprint(" ", d.Value, d.Params)
		}
		if one, ok := p.(*imap.BodyStructureSinglePart); ok {
			line += fmt.Sprint(" ", one.Params, " ", one.ID, " ", one.Encoding, " ", one.Size)
			if one.Text != nil {
				line += fmt.Sprint(" lines ", one.Text.NumLines)
			}
			if one.MessageRFC822 != nil {
				line += fmt.Sprint(" message ", one.MessageRFC822.Envelope.Subject, " ", one.MessageRFC822.NumLines)
			}
			if one.Extended != nil {
				line += fmt.Sprint(" ", one.Extended.Language)
			}
		}
		seen = append(seen, line)
		return true
	})
	if got, want := strings.Join(seen, "\n"), `[] multipart/mixed
[1] text/html map[charset:utf-8]  7bit 8 lines 0 [de en]
[2] message/rfc822 attachmentmap[filename*:UTF-8''gr%C3%BCn.eml] map[]  7bit 47 message inner 3 []
[3] image/png attachmentmap[filename:x.png size:3] map[name:x.png] <cid@a.example> base64 4 []`; got != want {
		t.Errorf("BODYSTRUCTURE:\n%s\nand not\n%s", got, want)
	}

	// Flags, by whom, and what has changed since.
	if _, err := c.Store(imap.SeqSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged, imap.FlagForwarded}}, nil).Collect(); err != nil {
		t.Error(err)
	}
	changed, err := c.Fetch(imap.UIDSet{imap.UIDRange{Start: 1}}, &imap.FetchOptions{Flags: true, UID: true, ChangedSince: m.ModSeq}).Collect()
	if err != nil || len(changed) != 1 || changed[0].UID != 2 || !slices.Contains(changed[0].Flags, imap.FlagForwarded) || changed[0].ModSeq <= m.ModSeq {
		t.Errorf("CHANGEDSINCE: %+v, %v", changed, err)
	}
	if _, err := c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}, &imap.StoreOptions{UnchangedSince: m.ModSeq}).Collect(); err != nil {
		t.Error(err)
	}

	search := func(k *imap.SearchCriteria) string {
		t.Helper()
		d, err := c.UIDSearch(k, &imap.SearchOptions{ReturnAll: true, ReturnMin: true, ReturnMax: true, ReturnCount: true}).Wait()
		if err != nil {
			t.Error(err)
			return ""
		}
		return fmt.Sprint(d.AllUIDs(), d.Min, d.Max, d.Count)
	}
	for want, k := range map[string]*imap.SearchCriteria{
		"[1 3] 1 3 2":   {Flag: []imap.Flag{imap.FlagSeen}},
		"[2] 2 2 1":     {NotFlag: []imap.Flag{imap.FlagSeen}},
		"[1] 1 1 1":     {Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "grün"}}},
		"[1 2] 1 2 2":   {Or: [][2]imap.SearchCriteria{{{Body: []string{"grün"}}, {Text: []string{"answer"}}}}},
		"[3] 3 3 1":     {Larger: 100_000},
		"[2 3] 2 3 2":   {Not: []imap.SearchCriteria{{UID: []imap.UIDSet{imap.UIDSetNum(1)}}}},
		"[1 2 3] 1 3 3": {Since: time.Now().Add(-48 * time.Hour)},
	} {
		if got := search(k); got != want {
			t.Errorf("SEARCH %+v: %s, not %s", k, got, want)
		}
	}
	if got, err := c.UIDSort(&imapclient.SortOptions{SearchCriteria: &imap.SearchCriteria{}, SortCriteria: []imapclient.SortCriterion{{Key: imapclient.SortKeySize, Reverse: true}}}).Wait(); err != nil || fmt.Sprint(got) != "[3 1 2]" {
		t.Error("SORT:", got, err)
	}
	if got, err := c.UIDThread(&imapclient.ThreadOptions{Algorithm: imap.ThreadReferences, SearchCriteria: &imap.SearchCriteria{}}).Wait(); err != nil || fmt.Sprint(got) != "[{[1 2] []} {[3] []}]" {
		t.Error("THREAD:", got, err)
	}

	// Folders.
	s.Must(c.Create("Grün.Sub", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrArchive}}).Wait())
	s.Must(c.Subscribe("Grün.Sub").Wait())
	cp, err := c.Copy(imap.SeqSetNum(1, 3), "Grün.Sub").Wait()
	if err != nil || cp.SourceUIDs.String() != "1,3" || cp.DestUIDs.String() != "1:2" {
		t.Errorf("COPY: %+v, %v", cp, err)
	}
	mv, err := c.Move(imap.UIDSetNum(2), "Grün.Sub").Wait()
	if err != nil || fmt.Sprint(mv.SourceUIDs, mv.DestUIDs) != "2 3" {
		t.Errorf("MOVE: %+v, %v", mv, err)
	}
	app := c.Append("Grün.Sub", int64(len("Subject: x\r\n\r\nx")), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}, Time: time.Unix(1_000_000_000, 0)})
	fmt.Fprint(app, "Subject: x\r\n\r\nx")
	s.Must(app.Close())
	if d, err := app.Wait(); err != nil || d.UID != 4 {
		t.Errorf("APPEND: %+v, %v", d, err)
	}
	list, err := c.List("", "*", &imap.ListOptions{ReturnSubscribed: true, ReturnChildren: true, ReturnSpecialUse: true,
		ReturnStatus: &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true, Size: true, HighestModSeq: true}}).Collect()
	if err != nil {
		t.Fatal("LIST:", err)
	}
	for _, l := range list {
		if l.Mailbox == "Grün.Sub" {
			if l.Delim != '.' || !slices.Contains(l.Attrs, imap.MailboxAttrArchive) || !slices.Contains(l.Attrs, imap.MailboxAttrSubscribed) || l.Status == nil || *l.Status.NumMessages != 4 || l.Status.UIDNext != 5 || *l.Status.NumUnseen != 2 ||
				*l.Status.Size < 120_000 {
				t.Errorf("LIST: %+v %+v", l, l.Status)
			}
			list = nil
			break
		}
	}
	if list != nil {
		t.Errorf("LIST: %+v", list)
	}
	if _, err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Collect(); err != nil {
		t.Error(err)
	}
	if gone, err := c.UIDExpunge(imap.UIDSetNum(1)).Collect(); err != nil || fmt.Sprint(gone) != "[1]" {
		t.Error("EXPUNGE:", gone, err)
	}

	// What another session does shows in IDLE.
	exists, expunged := make(chan uint32, 10), make(chan uint32, 10)
	other := s.typed(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		}, Expunge: func(n uint32) { expunged <- n }}})
	if _, err := other.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := other.Idle()
	s.Must(err)
	if _, err := c.Copy(imap.SeqSetNum(1), "INBOX").Wait(); err != nil {
		t.Error(err)
	}
	if n := <-exists; n != 2 {
		t.Error("EXISTS", n)
	}
	if _, err := c.Move(imap.SeqSetNum(1), "Grün.Sub").Wait(); err != nil {
		t.Error(err)
	}
	if n := <-expunged; n != 1 {
		t.Error("EXPUNGE", n)
	}
	s.Must(idle.Close())
	s.Must(idle.Wait())
	s.Must(c.Logout().Wait())
	s.holds("Grün.Sub", "grün:seen", "second:seen", "Re: gruen:flagged,$Forwarded", "x:draft", "second:seen")
	s.holds("INBOX", "second:seen")
}

// The whole corpus is read: what a structure says of a part is what is in it.
func TestTypedCorpus(t *testing.T) {
	t.Parallel()
	paths := corpus(t)
	s := newSite(t, os.Geteuid() != 0).All()
	var texts []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		s.Must(err)
		texts = append(texts, string(b))
	}
	s.Put(texts...)
	c := s.typed(nil)
	_, err := c.Select("INBOX", nil).Wait()
	s.Must(err)
	got, err := c.Fetch(imap.SeqSet{imap.SeqRange{Start: 1}}, &imap.FetchOptions{Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, RFC822Size: true, Flags: true}).Collect()
	if err != nil || len(got) != len(paths) {
		t.Fatalf("%d of %d messages, then %v", len(got), len(paths), err)
	}
	parts := 0
	for _, m := range got {
		var o imap.FetchOptions
		sizes := map[*imap.FetchItemBodySection]uint32{}
		whole := &imap.FetchItemBodySection{Peek: true}
		o.BodySection = append(o.BodySection, whole)
		m.BodyStructure.Walk(func(path []int, p imap.BodyStructure) bool {
			if one, ok := p.(*imap.BodyStructureSinglePart); ok {
				if len(path) == 0 {
					path = []int{1}
				}
				item := &imap.FetchItemBodySection{Part: slices.Clone(path), Peek: true}
				o.BodySection = append(o.BodySection, item)
				sizes[item] = one.Size
				parts++
			}
			return true
		})
		bodies, err := c.Fetch(imap.SeqSetNum(m.SeqNum), &o).Collect()
		if err != nil || len(bodies) != 1 {
			t.Fatal(paths[m.SeqNum-1], err)
		}
		if n := len(bodies[0].FindBodySection(whole)); int64(n) != m.RFC822Size {
			t.Errorf("%s: %d octets of %d", paths[m.SeqNum-1], n, m.RFC822Size)
		}
		for item, size := range sizes {
			if n := len(bodies[0].FindBodySection(item)); uint32(n) != size {
				t.Errorf("%s: part %v: %d octets of %d", paths[m.SeqNum-1], item.Part, n, size)
			}
		}
	}
	if parts < len(paths) {
		t.Error(parts, "parts")
	}
}
