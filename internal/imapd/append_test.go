package imapd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// I19: over quota, nothing is asked for and nothing is there; a message may replace another in a mailbox that is full (RFC 8508 section 3.4).
func TestI19_OverQuota(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "maildirsize"), []byte("20S,3C\n0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &input{}
	for _, p := range []string{enter, "b1 APPEND INBOX {21}\r\n", "b2 APPEND INBOX {20+}\r\nSubject: exactly  xx\r\n", "b3 APPEND INBOX {1}\r\n", "b4 APPEND INBOX CATENATE (URL /INBOX/;UID=1)\r\n",
		"b5 SELECT INBOX\r\n", "b6 REPLACE 1 INBOX {21}\r\n", "b7 REPLACE 1 INBOX {20+}\r\nSubject: exactly  yy\r\n", "b8 REPLACE 1 INBOX CATENATE (URL /INBOX/;UID=2 TEXT {1}\r\n",
		"b9 COPY 1 INBOX\r\n", "b10 FETCH 1:* UID\r\n"} {
		c.pieces = append(c.pieces, []byte(p))
	}
	s := NewServer(testConfig())
	l := s.Authorize(t.Context(), c, IMAP, testPeer)
	s.Serve(t.Context(), l.Conn, openAt(t, dir), l.Note)
	out := c.out.String()
	for _, want := range []string{"b1 NO [OVERQUOTA] ", "b2 OK [APPENDUID ", "b3 NO [OVERQUOTA] ", "b4 NO [OVERQUOTA] ", "b6 NO [OVERQUOTA] ", "* 1 EXPUNGE\r\n", "b7 OK ", "b8 NO [OVERQUOTA] ", "b9 NO [OVERQUOTA] ",
		"\r\n* 1 FETCH (UID 2)\r\nb10 OK "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "\r\n+ ") {
		t.Errorf("a literal was asked for in %q", out)
	}
}

// RFC 3502: so many messages at once, and then none of them; the next one is not asked for.
func TestAppendMost(t *testing.T) {
	conf := testConfig()
	conf.appendMost = 2
	c := newRude(t, conf)
	c.say(t, enter+"a2 APPEND INBOX {4+}\r\nA: b {4+}\r\nA: b {4}\r\n", "a2 NO [LIMIT] ")
	c.say(t, "a3 APPEND INBOX {4+}\r\nA: b {4+}\r\nA: b {4+}\r\nA: b {4+}\r\nA: b\r\n", "a3 NO [LIMIT] ")
	if files, err := os.ReadDir(filepath.Join(c.dir, "tmp")); err != nil || len(files) > 0 {
		t.Error(files, err)
	}
	c.say(t, "a4 APPEND INBOX {4+}\r\nA: b {4+}\r\nA: b\r\n", "a4 OK [APPENDUID ")
	c.say(t, "a5 STATUS INBOX (MESSAGES)\r\n", "* STATUS INBOX (MESSAGES 2)")
}
