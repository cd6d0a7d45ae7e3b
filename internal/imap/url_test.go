package imap

import (
	"reflect"
	"testing"
)

func TestParseURL(t *testing.T) {
	for s, want := range map[string]URL{
		"/INBOX;UIDVALIDITY=1/;UID=20/;SECTION=1.2": {Mailbox: "INBOX", UIDValidity: 1, UID: 20, Section: Section{Part: []uint32{1, 2}}},
		"/inbox/;uid=20": {Mailbox: "INBOX", UID: 20},
		"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER": {Mailbox: "Drafts", UIDValidity: 385759045, UID: 20, Section: Section{Text: SectionHeader}},
		"/a/;UID=1/;SECTION=1.MIME":                             {Mailbox: "a", UID: 1, Section: Section{Part: []uint32{1}, Text: SectionMIME}},
		"/a/;UID=1/;SECTION=HEADER.FIELDS%20(To%20Cc)":          {Mailbox: "a", UID: 1, Section: Section{Text: SectionHeaderFields, Fields: []string{"To", "Cc"}}},
		"/a.b%2Fc%20%C3%A4/;UID=1/;PARTIAL=5":                   {Mailbox: "a.b/c ä", UID: 1, Section: Section{Partial: true, Offset: 5}},
		"/a/;UID=1/;SECTION=1/;PARTIAL=0.10":                    {Mailbox: "a", UID: 1, Section: Section{Part: []uint32{1}, Partial: true, Count: 10}},
		"imap://alice@imap.example/a/;UID=1":                    {Server: true, User: "alice", Host: "imap.example", Mailbox: "a", UID: 1},
		"IMAP://al%69ce;AUTH=*@h:143/a/;UID=1":                  {Server: true, User: "alice", Host: "h", Port: "143", Mailbox: "a", UID: 1},
		"//h/a/;UID=1":                                          {Server: true, Host: "h", Mailbox: "a", UID: 1},
	} {
		if got, ok := ParseURL(s); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v %+v, want %+v", s, ok, got, want)
		}
	}
	for _, s := range []string{"", "/", "//", "imap:", "imap:/a/;UID=1", "imap://h", "http://h/a/;UID=1", ";UID=1", "a/;UID=1", "/a", "/a;UID=1", "/a/;UID=0", "/a/;UID=01", "/a/;UID=+1", "/a/;UID=*",
		"/a/;UID=4294967296", "/;UID=1", "//;UID=1", "/a;UIDVALIDITY=0/;UID=1", "/a;UIDVALIDITY=1", "/a%/;UID=1", "/a%4/;UID=1", "/a%zz/;UID=1", "/%ff/;UID=1", "/a b/;UID=1", "/a%00/;UID=1",
		"/a?TEXT/;UID=1", "/a/;UID=1/;SECTION=", "/a/;UID=1/;SECTION=0", "/a/;UID=1/;SECTION=1%5D", "/a/;UID=1/;SECTION=MIME", "/a/;UID=1/;SECTION=HEADER.FIELDS%20(%7B1%2B%7D)", "/a/;UID=1/;SECTION=1/", "/a/;UID=1/x",
		"/a/;UID=1/;PARTIAL=", "/a/;UID=1/;PARTIAL=-1", "/a/;UID=1/;PARTIAL=1.0", "/a/;UID=1/;PARTIAL=1.", "/a/;UID=1;URLAUTH=anonymous", "/a/;UID=1;EXPIRE=2030-01-01T00:00:00Z", "/a/;UID=1/;SECTION=1;URLAUTH=x",
		"/ä/;UID=1", "imap://@/a/;UID=1", "imap://a%ff@h/a/;UID=1"} {
		if got, ok := ParseURL(s); ok {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"/INBOX;UIDVALIDITY=1/;UID=20/;SECTION=1.2", "imap://a;AUTH=*@h:143/a/;UID=1/;SECTION=HEADER.FIELDS%20(To)/;PARTIAL=0.10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, ok := ParseURL(s); ok && (u.UID == 0 || u.Mailbox == "" || u.Offset < 0 || u.Count < 0) {
			t.Errorf("%q: %+v", s, u)
		}
	})
}
