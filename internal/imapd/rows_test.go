package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// talker is a client of a test that needs more than a transcript can say.
type talker struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
	n int
}

func (h *loopback) talker() *talker {
	h.t.Helper()
	h.login = true
	c, err := h.Dial("")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return &talker{t: h.t, c: c, r: bufio.NewReaderSize(c, 1<<16)}
}

func mailboxLoopback(t testing.TB, messages int) *loopback {
	c := testConfig()
	c.ErrorLimit = 0
	h := newLoopback(t, IMAP, c)
	h.fill(messages)
	return h
}

// do runs a command and returns its untagged responses, and its tagged one without the tag.
func (k *talker) do(command string) (untagged []string, tagged string) {
	k.t.Helper()
	k.n++
	tag := fmt.Sprintf("t%d ", k.n)
	k.c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(k.c, tag+command+"\r\n"); err != nil {
		k.t.Fatal(err)
	}
	for {
		raw, err := readRaw(k.r)
		if err != nil {
			k.t.Fatalf("%.200q: %v after %q", command, err, raw)
		}
		if _, err := parseResponse(raw, false); err != nil {
			k.t.Fatalf("%.200q: %v", command, err)
		}
		if rest, ok := strings.CutPrefix(raw, tag); ok {
			return untagged, rest
		}
		untagged = append(untagged, raw)
	}
}

// want checks how the tagged response begins.
func (k *talker) want(command, begin string) (untagged []string) {
	k.t.Helper()
	untagged, got := k.do(command)
	if !strings.HasPrefix(got, begin) {
		k.t.Errorf("%.200q: %q, want %q", command, got, begin)
	}
	return untagged
}

// heap is what is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestI03_Nesting: parentheses without end cost no stack, in any command.
func TestI03_Nesting(t *testing.T) {
	k := mailboxLoopback(t, 1).talker()
	k.want("SELECT INBOX", "OK ")
	deep := strings.Repeat("(", 60_000)
	for _, c := range []string{"SEARCH ", "UID SEARCH RETURN (ALL) ", "FETCH 1 ", "STORE 1 FLAGS ", "STORE 1 (", "FETCH 1 BODY[HEADER.FIELDS ", "LIST ", "STATUS INBOX ", "SELECT INBOX ", "ID ", "APPEND INBOX "} {
		k.want(c+deep, "BAD ")
	}
	k.want("NOOP", "OK ")
}

// TestI04_SearchKeys: NOT and OR in each other, and many keys, are bounded by depth and size, and cost linear time.
func TestI04_SearchKeys(t *testing.T) {
	k := mailboxLoopback(t, 20).talker()
	k.want("SELECT INBOX", "OK ")
	k.want("SEARCH "+strings.Repeat("NOT ", 15_000)+"ALL", "BAD ")
	k.want("SEARCH "+strings.Repeat("OR ALL ", 8_000)+"ALL ALL", "BAD ")
	for _, u := range k.want("SEARCH NOT NOT NOT NOT SEEN", "OK ") {
		if u != "* SEARCH\r\n" {
			t.Errorf("%q", u)
		}
	}
	start := time.Now()
	k.want("SEARCH"+strings.Repeat(" OR SEEN BODY x", 200), "OK ")
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("400 keys take %v", d)
	}
	k.want("SEARCH"+strings.Repeat(" SEEN", 10_000), "BAD ")
}

// TestI05_Sets: the cost of a set is that of its text and of the messages that there are; wrong ones are BAD.
func TestI05_Sets(t *testing.T) {
	k := mailboxLoopback(t, 5).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []string{"0", "1:", ":1", ",", "1,", ",1", "1:2:3", "1;2", "-1", "01", "4294967296", "1:4294967296", "*:", "**", "1 :2", "$1", "1,$"} {
		k.want("FETCH "+c+" UID", "BAD ")
		k.want("SEARCH "+c, "BAD ")
	}
	for _, c := range []string{"6", "1:6", "4294967295:1", "4294967295"} { // numbers of no message: of commands that say which messages, an error (RFC 9051 section 9, seq-number)
		k.want("FETCH "+c+" UID", "BAD ")
		k.want("SEARCH "+c, "OK ")
	}
	for _, c := range []struct {
		set string
		n   int
	}{
		{"1:4294967295", 5}, {"*", 1}, {"*:1", 5}, {"4294967295:1", 5}, {"4294967295:*", 1}, {"6:7", 0}, {"2,2,2", 1}, {"3:2,4294967295", 2}, {strings.Repeat("1:*,", 9_000) + "1", 5},
		{strings.Repeat("4294967295:1,", 4_500) + "1", 5},
	} {
		start := time.Now()
		if got := k.want("UID FETCH "+c.set+" (FLAGS)", "OK "); len(got) != c.n {
			t.Errorf("UID FETCH %.50s: %d messages, want %d", c.set, len(got), c.n)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("UID FETCH %.50s takes %v", c.set, d)
		}
	}
	var single strings.Builder
	for n := 1; single.Len() < 60_000; n += 2 {
		fmt.Fprintf(&single, "%d,", n)
	}
	if got := k.want("UID FETCH "+single.String()+"1 (UID)", "OK "); len(got) != 3 {
		t.Errorf("single UIDs: %d messages", len(got))
	}
	k.want("FETCH 1:5,*:1 UID", "OK ")
}

// TestI07_NUL: there is none in any string.
func TestI07_NUL(t *testing.T) {
	k := mailboxLoopback(t, 1).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []string{"CREATE \"a\x00b\"", "CREATE a\x00b", "CREATE {3+}\r\na\x00b", "SEARCH TEXT {3+}\r\na\x00b", "SEARCH TEXT \"a\x00\"", "STORE 1 FLAGS (a\x00)", "STATUS \x00 (MESSAGES)", "FETCH 1 BODY[HEADER.FIELDS (\x00)]",
		"APPEND INBOX {3+}\r\na\x00b"} {
		k.want(c, "BAD ")
	}
	if got := k.want("STATUS INBOX (MESSAGES)", "OK "); got[0] != "* STATUS INBOX (MESSAGES 1)\r\n" {
		t.Errorf("%q", got)
	}
	if got := k.want("LIST \"\" *", "OK "); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestI08_Quoted: strings that are none.
func TestI08_Quoted(t *testing.T) {
	k := mailboxLoopback(t, 1).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []string{`CREATE "a\`, `CREATE "a\"`, `CREATE "a`, `CREATE "a\b"`, "CREATE \"a\xffb\"", "CREATE \"a\rb\"", `CREATE a"b`, `CREATE "a"b`, `SEARCH SUBJECT "`, `SEARCH SUBJECT "a"b`} {
		k.want(c, "BAD ")
	}
	k.want(`STATUS "a\\b\"c" (MESSAGES)`, "NO ")
}

// TestI17_Sections: parts that are not there are NIL, and numbers of any size cost nothing.
func TestI17_Sections(t *testing.T) {
	k := mailboxLoopback(t, 1).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []struct{ section, got string }{
		{"BODY.PEEK[2]", "BODY[2] NIL"}, {"BODY.PEEK[4294967295]", "BODY[4294967295] NIL"}, {"BODY.PEEK[1.1.1]", "BODY[1.1.1] NIL"}, {"BODY.PEEK[1.HEADER]", "BODY[1.HEADER] NIL"},
		{"BODY.PEEK[1]<9.1>", `BODY[1]<9> ""`}, {"BODY.PEEK[1]<4294967295.1>", `BODY[1]<4294967295> ""`}, {"BODY.PEEK[1]<5.99>", "BODY[1]<5> {4}\r\n 1\r\n"},
		{"BODY.PEEK[TEXT]<0.4294967295>", "BODY[TEXT]<0> {9}\r\nHello 1\r\n"},
	} {
		if got := k.want("FETCH 1 "+c.section, "OK "); len(got) != 1 || got[0] != "* 1 FETCH ("+c.got+")\r\n" {
			t.Errorf("%s: %q", c.section, got)
		}
	}
	for _, c := range []string{"BODY[0]", "BODY[1.0]", "BODY[1.]", "BODY[.1]", "BODY[4294967296]", "BODY[1]<0.0>", "BODY[1]<1>", "BODY[1]<1.18446744073709551616>", "BODY[1]<-1.2>", "BODY[MIME]", "BODY[TEXT.1]", "BODY[1.FOO]",
		"BODY[", "BODY[]<", "BODY[HEADER.FIELDS ()]", "BODY.PEEK", "BODY[HEADER.FIELDS]"} {
		k.want("FETCH 1 "+c, "BAD ")
	}
	if got, s := k.do("FETCH 1 BODY.PEEK[1" + strings.Repeat(".1", 1000) + "]"); !strings.HasPrefix(s, "BAD ") && (len(got) != 1 || !strings.HasSuffix(got[0], "] NIL)\r\n")) {
		t.Errorf("a thousand levels: %q, %q", got, s)
	}
	names := strings.Repeat("x-y ", 10_000)
	if _, s := k.do("FETCH 1 BODY.PEEK[HEADER.FIELDS (" + names + "subject)]"); !strings.HasPrefix(s, "OK ") && !strings.HasPrefix(s, "BAD ") {
		t.Errorf("%q", s)
	}
}

// TestI18_Disconnect: who leaves in the midst of an APPEND has appended nothing, and leaves no goroutine behind.
func TestI18_Disconnect(t *testing.T) {
	h := mailboxLoopback(t, 1)
	before := runtime.NumGoroutine()
	for _, s := range []string{"a APPEND INBOX {100+}\r\nhalf", "a APPEND INBOX {100+}\r\n", "a APPEND INBOX {4+}\r\na: b", "a APPEND INBOX {4+}\r\na: b {100+}\r\nhalf", "a APPEND INBOX (\\Seen", "a IDLE\r\n"} {
		k := h.talker()
		io.WriteString(k.c, s)
		k.c.Close()
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, there were %d", runtime.NumGoroutine(), before)
		}
	}
	if got := h.talker().want("STATUS INBOX (MESSAGES UIDNEXT)", "OK "); got[0] != "* STATUS INBOX (MESSAGES 1 UIDNEXT 2)\r\n" {
		t.Errorf("%q", got)
	}
}

// TestI18_Stalled: a client who takes nothing of what he has asked for is dropped, and costs no memory meanwhile.
func TestI18_Stalled(t *testing.T) {
	c := testConfig()
	c.writeTime = 300 * time.Millisecond
	h := newLoopback(t, IMAP, c)
	a, err := h.open(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	box, err := a.Open("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	if _, err := box.Append(h.ctx, strings.NewReader("a: b\r\n\r\n"+strings.Repeat(strings.Repeat("x", 78)+"\r\n", 100_000)), 0, nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	before, used := runtime.NumGoroutine(), heap()
	k := h.talker()
	k.want("SELECT INBOX", "OK ")
	io.WriteString(k.c, strings.Repeat("a FETCH 1 BODY.PEEK[]\r\n", 30))
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("he is served still")
		}
	}
	if n := int64(heap()) - int64(used); n > 4<<20 {
		t.Errorf("%d octets are in use", n)
	}
}

// TestI19_Append: messages of any content are taken, or refused as a whole.
func TestI19_Append(t *testing.T) {
	k := mailboxLoopback(t, 0).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []struct{ command, want string }{
		{"APPEND INBOX {0+}\r\n", "NO "},
		{"APPEND INBOX \" 1-Jan-9999 00:00:00 +0000\" {4+}\r\na: b", "OK "},
		{"APPEND INBOX \"31-Feb-2020 00:00:00 +0000\" {4+}\r\na: b", "BAD "},
		{"APPEND INBOX \" 1-Jan-2020 25:00:00 +0000\" {4+}\r\na: b", "BAD "},
		{"APPEND INBOX \"1-Jan-2020 00:00:00 +0000\" {4+}\r\na: b", "BAD "},
		{"APPEND INBOX {3+}\r\na\nb", "OK "},
		{"APPEND INBOX {4+}\r\na\r\rb", "OK "},
		{"APPEND INBOX {2+}\r\n\r\n", "OK "},
		{"APPEND nowhere {4+}\r\na: b", "NO [TRYCREATE]"},
		{"APPEND INBOX {4+}\r\na: bx", "BAD "},
		{"APPEND INBOX {4+}\r\na: b ", "BAD "},
		{"APPEND INBOX", "BAD "},
		{"APPEND INBOX \"a: b\"", "BAD "},
	} {
		k.want(c.command, c.want)
	}
	got := k.want("FETCH 1:* (RFC822.SIZE BODY.PEEK[])", "OK ")
	want := []string{"a: b", "a\r\nb", "a  b", "\r\n"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i, w := range want {
		if i == 2 { // a CR alone is what it was, or a space
			continue
		}
		if s := fmt.Sprintf("* %d FETCH (RFC822.SIZE %d BODY[] {%d}\r\n%s)\r\n", i+1, len(w), len(w), w); got[i] != s {
			t.Errorf("%q, want %q", got[i], s)
		}
	}
}

// TestI22_Done: a change at the moment of DONE ends no session.
func TestI22_Done(t *testing.T) {
	h := mailboxLoopback(t, 1)
	a, b := h.talker(), h.talker()
	a.want("SELECT INBOX", "OK ")
	b.want("SELECT INBOX", "OK ")
	begin, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for i := range 300 {
			if !<-begin {
				return
			}
			b.do([]string{"STORE 1 +FLAGS (\\Seen)", "STORE 1 -FLAGS (\\Seen)"}[i%2])
		}
	}()
	for range 300 {
		a.c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(a.c, "i IDLE\r\n")
		for s := ""; !strings.HasPrefix(s, "+ "); {
			var err error
			if s, err = readRaw(a.r); err != nil {
				t.Fatal(err)
			}
		}
		begin <- true
		io.WriteString(a.c, "DONE\r\n")
		for s := ""; !strings.HasPrefix(s, "i OK "); {
			var err error
			if s, err = readRaw(a.r); err != nil || strings.HasPrefix(s, "* BYE ") {
				t.Fatal(s, err)
			}
		}
	}
	close(begin)
	<-done
	a.want("NOOP", "OK ")
}

// TestI23_Keywords: there are as many as a folder has letters, and names that can be told again.
func TestI23_Keywords(t *testing.T) {
	h := mailboxLoopback(t, 1)
	k := h.talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []string{"a]", "a(", `a\`, "a%", "a*", "a{", "\"a\"", "a\x7f", "a\xff", "\\X", "\\Recent", "()", strings.Repeat("k", 60_000) + "]"} {
		k.want("STORE 1 +FLAGS ("+c+")", "BAD ")
	}
	for i := range 40 {
		_, s := k.do("STORE 1 +FLAGS (key" + strconv.Itoa(i) + ")")
		switch {
		case i < 26 && !strings.HasPrefix(s, "OK "), i >= 26 && !strings.HasPrefix(s, "NO [LIMIT]"):
			t.Errorf("keyword %d: %q", i, s)
		}
	}
	if _, s := k.do("STORE 1 +FLAGS (" + strings.Repeat("k", 50_000) + ")"); !strings.HasPrefix(s, "NO ") && !strings.HasPrefix(s, "BAD ") {
		t.Errorf("a keyword of 50,000 octets: %q", s)
	}
	got := h.talker()
	got.want("SELECT INBOX", "OK ")
	if f := got.want("FETCH 1 FLAGS", "OK "); len(f) != 1 || strings.Count(f[0], "key") != 26 {
		t.Errorf("%q", f)
	}
	if f := got.want("SEARCH KEYWORD KEY7 UNKEYWORD key30", "OK "); len(f) != 1 || f[0] != "* SEARCH 1\r\n" {
		t.Errorf("%q", f)
	}
}

// TestI25_Tags: nothing that a client sends comes back where it means something else.
func TestI25_Tags(t *testing.T) {
	h := mailboxLoopback(t, 1)
	k := h.talker()
	for _, line := range []string{"* OK hi", "+ OK", "a+b NOOP", "", " ", "a", "a\x00 NOOP", "a\r b", strings.Repeat("t", 50_000) + " NOOP", "{5} NOOP", "\"a\" NOOP", "(a) NOOP"} {
		k.c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(k.c, line+"\r\n")
		raw, err := readRaw(k.r)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(raw, "* BAD ") && !strings.HasPrefix(raw, "a BAD ") || len(raw) > 300 {
			t.Errorf("%.50q: %q", line, raw)
		}
	}
	for _, c := range []string{"<script>", "SEARCH TEXT \"\r\n* OK\"", "CREATE \x01", "X\xff"} {
		_, s := k.do(c)
		if strings.ContainsAny(s, "<\x01\xff") {
			t.Errorf("%q comes back in %q", c, s)
		}
	}
	k2 := h.talker()
	io.WriteString(k2.c, "POST / HTTP/1.1\r\nHost: x\r\n\r\n")
	k2.c.SetDeadline(time.Now().Add(20 * time.Second))
	if b, err := io.ReadAll(k2.r); err != nil || !bytes.HasPrefix(b, []byte("* BYE ")) || bytes.Count(b, crlf) != 1 {
		t.Errorf("HTTP: %q, %v", b, err)
	}
}

// TestI25_Errors: one wrong command too many ends the session.
func TestI25_Errors(t *testing.T) {
	c := testConfig()
	c.ErrorLimit = 10
	k := newLoopback(t, IMAP, c).talker()
	io.WriteString(k.c, strings.Repeat("a FOO\r\n", 50))
	k.c.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(k.r)
	if n := bytes.Count(b, []byte("a BAD ")); n != 10 || !bytes.Contains(b, []byte("* BYE ")) {
		t.Errorf("%d errors, %v: %q", n, err, b)
	}
}

// TestI27_Keys: what is looked for may be anything, and is not a pattern; unknown charsets are NO [BADCHARSET].
func TestI27_Keys(t *testing.T) {
	k := mailboxLoopback(t, 3).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []struct{ keys, want string }{
		{`BODY "(a+)+$"`, "OK "}, {`TEXT ".*"`, "OK "}, {`BODY "[["`, "OK "}, {"CHARSET UTF-8 TEXT {2+}\r\n\xff\xfe", "OK BAD "}, {"CHARSET x-none ALL", "NO [BADCHARSET "},
		{"CHARSET ISO-8859-1 TEXT {1+}\r\n\xfc", "OK "}, {"TEXT " + fmt.Sprintf("{%d}", int64(math.MaxUint32)), "BAD "},
	} {
		u, s := k.do("SEARCH " + c.keys)
		ok := false
		for _, w := range strings.SplitAfter(c.want, " ") {
			ok = ok || w != "" && strings.HasPrefix(s, w)
		}
		if !ok {
			t.Errorf("%.60q: %q, want %q", c.keys, s, c.want)
		}
		if strings.HasPrefix(s, "OK") && (len(u) != 1 || u[0] != "* SEARCH\r\n") {
			t.Errorf("%.60q: %q", c.keys, u)
		}
	}
	if u := k.want(`SEARCH BODY "HELLO 2"`, "OK "); u[0] != "* SEARCH 2\r\n" {
		t.Errorf("%q", u)
	}
}

// TestI29_Enabled: what only revision 2 or UTF8=ACCEPT has is BAD before.
func TestI29_Enabled(t *testing.T) {
	k := mailboxLoopback(t, 1).talker()
	k.want("SELECT INBOX", "OK ")
	for _, c := range []string{"CREATE \"\xc3\xbc\"", "APPEND INBOX UTF8 (~{4+}\r\na: b)", "SELECT INBOX (QRESYNC (1 1))", "UID FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "CREATE ~{4+}\r\nabcd", "ENABLE",
		"ENABLE (IMAP4rev2)"} {
		k.want(c, "BAD ")
	}
	if got := k.want("ENABLE X-UNKNOWN", "OK "); len(got) != 1 || got[0] != "* ENABLED\r\n" {
		t.Errorf("%q", got)
	}
}
