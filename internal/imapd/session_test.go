package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"postamt/internal/imap"
	"postamt/internal/login/logintest"
	"postamt/internal/mailbox"
	"postamt/internal/maillog"
	"postamt/internal/transcript"
)

const enter = "a1 LOGIN alice secret\r\n"

var literal = regexp.MustCompile(`^\* [^\r\n]*\{([0-9]+)\}\r\n`)

// check goes through what a client was sent, as a strict one would: whole lines, greeted once, nothing after the last word, and no tagged response to a tag that he did
// not send, or twice to one.
func check(t *testing.T, in []byte, out string) {
	t.Helper()
	if before, _, ok := strings.Cut(out, "OK DEFLATE active\r\n"); ok {
		out = before + "OK DEFLATE active\r\n"
	}
	greeting, rest, _ := strings.Cut(out, "\r\n")
	if !strings.HasSuffix(out, "\r\n") || !strings.HasPrefix(greeting, "* OK [CAPABILITY IMAP4rev1 ") {
		t.Fatalf("%q: %q", in, out)
	}
	bye, served := false, false // by the half after the login, of which the model test has more to say
	for rest != "" {
		var l string
		l, rest, _ = strings.Cut(rest, "\r\n")
		for n, ok := announced(l); ok && served && n <= len(rest); n, ok = announced(l) {
			l, rest, _ = strings.Cut(rest[n:], "\r\n")
			l = "* " + l
		}
		tag, text, _ := strings.Cut(l, " ")
		condition, _, _ := strings.Cut(text, " ")
		served = served || strings.HasSuffix(l, "you have logged in")
		switch {
		case strings.ContainsAny(l, "\r\n\x00"), len(l) > 512 && !served:
			t.Fatalf("the line %q", l)
		case tag == "*" && condition == "BYE" && !bye:
			bye = true
		case bye && !strings.HasSuffix(text, "LOGOUT completed"):
			t.Fatalf("%q after BYE, in %q", l, out)
		case served && tag == "*":
		case tag == "*" && (condition == "BAD" || condition == "CAPABILITY" || condition == "ID"), tag == "+":
		case condition != "OK" && condition != "NO" && condition != "BAD", !bytes.Contains(in, []byte(tag+" ")):
			t.Fatalf("%q to %q", l, in)
		}
	}
}

// announced is the size of the literal that follows a line.
func announced(l string) (n int, ok bool) {
	l, ok = strings.CutSuffix(l, "}")
	n, err := strconv.Atoi(l[strings.LastIndexByte(l, '{')+1:])
	return n, ok && err == nil
}

// seeds is what the clients of the transcripts send.
func seeds(t testing.TB) [][]byte {
	names, err := filepath.Glob("testdata/*.imap")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts")
	}
	var all [][]byte
	for _, n := range names {
		s, err := transcript.Load(n)
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range []string{"A", "B", "C", "D"} {
			if b := s.Input(session); len(b) > 0 && len(b) < 20_000 {
				all = append(all, b)
			}
		}
	}
	return all
}

func checkSession(t *testing.T, in []byte, cut int) {
	t.Helper()
	pieces := []string{string(in)}
	if cut > 0 && cut < len(in) {
		pieces = []string{string(in[:cut]), string(in[cut:])}
	}
	check(t, in, talk(t, testConfig(), pieces...))
}

// FuzzSession: any octets from a client.
func FuzzSession(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, i)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		if len(in) < 60_000 {
			checkSession(t, in, cut)
		}
	})
}

// TestMutatedTranscripts is what the fuzzer does, in small and always: pieces of transcripts joined at random.
func TestMutatedTranscripts(t *testing.T) {
	all := seeds(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var in []byte
		if r.IntN(3) > 0 {
			in = append(in, enter...)
		}
		for range 1 + r.IntN(3) {
			lines := bytes.SplitAfter(all[r.IntN(len(all))], []byte("\r\n"))
			i := r.IntN(len(lines))
			in = append(in, bytes.Join(lines[i:i+r.IntN(len(lines)-i+1)], nil)...)
		}
		for range r.IntN(4) {
			if len(in) > 0 {
				in[r.IntN(len(in))] = "\r\n{ \x00}1+"[r.IntN(8)]
			}
		}
		checkSession(t, in, r.IntN(len(in)+1))
	}
}

// RFC 2971 section 3.3: 30 fields of 30 octets, with values of 1,024, which a client may say before he logs in.
func TestLongestID(t *testing.T) {
	field := ` "` + strings.Repeat("f", 30) + `" "` + strings.Repeat("v", 1024) + `"`
	got := talk(t, testConfig(), "a1 ID ("+strings.Repeat(field, 30)[1:]+")\r\na2 NOOP\r\n")
	if !strings.Contains(got, "\r\na1 OK ") || !strings.Contains(got, "\r\na2 OK ") {
		t.Errorf("%.300q", got)
	}
}

// A client who has logged in is told so by whoever opens his mailbox, and if that fails it is no reason to change a password.
func TestFail(t *testing.T) {
	c := &input{pieces: [][]byte{[]byte(enter + "a2 NOOP\r\n")}}
	var log bytes.Buffer
	s := NewServer(testConfig())
	s.Log = maillog.New(&log, "imapd")
	l := s.Authorize(t.Context(), c, IMAP, testPeer)
	if string(l.Conn.Take()) != "a2 NOOP\r\n" || l.User != "alice" || l.Note.Tag != "a1" || strings.Contains(c.out.String(), "a1") {
		t.Errorf("%+v %q", l, c.out.String())
	}
	if l.Conn.Mode != 0 {
		t.Error("the mode is that of a stranger")
	}
	l.Fail(errors.New("no worker"))
	s.Log.Close()
	if !strings.HasSuffix(c.out.String(), "\r\na1 NO [UNAVAILABLE] the mailbox cannot be opened now, try again later\r\n* BYE try again later\r\n") {
		t.Errorf("%q", c.out.String())
	}
	if !strings.Contains(log.String(), `disconnect why=failed client=192.0.2.7 port=4711 proto=IMAP login=alice listener=imap`) || !strings.Contains(log.String(), `error="no worker"`) {
		t.Errorf("%s", log.String())
	}
	c = &input{pieces: [][]byte{[]byte(enter + "a2 NOOP\r\n")}}
	l = NewServer(testConfig()).Authorize(t.Context(), c, IMAP, testPeer)
	NewServer(testConfig()).Serve(t.Context(), l.Conn, func(context.Context) (*mailbox.Account, error) { return nil, errors.New("permission denied") }, l.Note)
	if !strings.HasSuffix(c.out.String(), "\r\na1 NO [UNAVAILABLE] the mailbox cannot be opened now, try again later\r\n* BYE [UNAVAILABLE] try again later\r\n") {
		t.Errorf("%q", c.out.String())
	}
}

func TestLog(t *testing.T) {
	var log bytes.Buffer
	s := NewServer(testConfig())
	s.Log = maillog.New(&log, "imapd")
	talkTo(t, s, enter+"a2 NOOP\r\na3 LOGOUT\r\n")
	talkTo(t, s, "a1 LOGIN nobody x\r\n")
	talkTo(t, s, "a1 LOGIN down x\r\na2 LOGOUT\r\n")
	s.Log.Close()
	for _, want := range []string{
		": connect client=192.0.2.7 port=4711 proto=IMAP listener=imap\n",
		": login client=192.0.2.7 port=4711 proto=IMAP login=alice listener=imap mech=PLAIN\n",
		": mailbox why=logout client=192.0.2.7 port=4711 proto=IMAP login=alice listener=imap commands=2 took=0.00",
		": disconnect why=lost client=192.0.2.7 port=4711 proto=IMAP listener=imap messages=0 rejected=1 took=",
		": disconnect why=logout client=192.0.2.7 ",
		"authd: connection refused",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("a password\n%s", log.String())
	}
}

// A client is asked for where he comes from, by authd, for fail2ban in the end.
func TestRequest(t *testing.T) {
	conf := testConfig()
	talk(t, conf, enter)
	if q := conf.Auth.(*logintest.Accounts).Last(); q.Remote != netip.AddrPortFrom(testPeer.IP, testPeer.Port) || !strings.HasPrefix(q.Session, "i") || q.TLS != nil {
		t.Errorf("%+v", q)
	}
}

// talkTimed is a session on a socket, whose client says something and waits to be told what happens then.
func talkTimed(t *testing.T, ctx context.Context, conf *Config, kind, say string, then func()) string {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	done := make(chan struct{})
	s := NewServer(conf)
	go func() {
		defer close(done)
		defer ours.Close()
		if l := s.Authorize(ctx, ours, kind, testPeer); l != nil {
			s.Serve(ctx, l.Conn, newOpen(t), l.Note)
		}
	}()
	theirs.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(theirs, say)
	r := bufio.NewReader(theirs)
	if kind == IMAP {
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	then()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%v after %q", err, b)
	}
	<-done
	return string(b)
}

// The timer before the login is over all, that after it for a command; both end with BYE.
func TestAutologout(t *testing.T) {
	conf := testConfig()
	conf.TimeoutLogin = 50 * time.Millisecond
	if got := talkTimed(t, t.Context(), conf, IMAP, "a1 NOOP\r\na2 LO", func() {}); got != "a1 OK NOOP completed\r\n* BYE idle for too long\r\n" {
		t.Errorf("%q", got)
	}
	// In a literal, and in an exchange.
	for say, want := range map[string]string{"a1 LOGIN {9}\r\n": "+ OK\r\n* BYE idle for too long\r\n", "a1 AUTHENTICATE PLAIN\r\n": "+ \r\n* BYE idle for too long\r\n"} {
		if got := talkTimed(t, t.Context(), conf, IMAP, say, func() {}); got != want {
			t.Errorf("%q: %q", say, got)
		}
	}
	conf.TimeoutIdle = 50 * time.Millisecond
	conf.TimeoutLogin = time.Minute
	if got := talkTimed(t, t.Context(), conf, IMAP, enter, func() {}); !strings.HasPrefix(got, "a1 OK [CAPABILITY ") || !strings.HasSuffix(got, "\r\n* BYE idle for too long\r\n") {
		t.Errorf("%q", got)
	}
}

// T04: a handshake that never ends is ended.
func TestT04_Handshake(t *testing.T) {
	conf := testConfig()
	conf.TLS = certificate()
	conf.TimeoutLogin = 50 * time.Millisecond
	if got := talkTimed(t, t.Context(), conf, IMAPS, "\x16\x03\x01", func() {}); strings.Contains(got, "OK") {
		t.Errorf("%q", got)
	}
}

// A server that stops says so to who waits, before the login, in an exchange and after it.
func TestDrain(t *testing.T) {
	for _, say := range []string{"", "a1 LO", "a1 AUTHENTICATE PLAIN\r\n", enter} {
		ctx, cancel := context.WithCancel(t.Context())
		got := talkTimed(t, ctx, testConfig(), IMAP, say, cancel)
		if !strings.HasSuffix(got, "* BYE [UNAVAILABLE] the server stops, come back later\r\n") {
			t.Errorf("%q: %q", say, got)
		}
	}
}

// P08: who sends without reading is not waited for, and costs no more than buffers.
func TestP08_SlowReader(t *testing.T) {
	conf := testConfig()
	conf.writeTime = 50 * time.Millisecond
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	go func() {
		for {
			if _, err := io.WriteString(theirs, strings.Repeat("a CAPABILITY\r\n", 1000)); err != nil {
				return
			}
		}
	}()
	if l := NewServer(conf).Authorize(t.Context(), ours, IMAP, testPeer); l != nil {
		t.Error("logged in")
	}
	ours.Close()
}

func TestP08_ManyCommands(t *testing.T) {
	out := talk(t, testConfig(), strings.Repeat("a NOOP\r\n", 100_000)+"z LOGOUT\r\n")
	if n := strings.Count(out, "a OK "); n != 100_000 || !strings.HasSuffix(out, "z OK LOGOUT completed\r\n") {
		t.Errorf("%d responses", n)
	}
}

// TLS that ends before us is TLS; and one that somebody else begins, when we say so.
func TestTLSOfAnother(t *testing.T) {
	conf := testConfig()
	conf.AuthInClear = nil
	s := NewServer(conf)
	peer := testPeer
	peer.TLS = "TLSv1.2 ECDHE-X"
	for _, kind := range []string{IMAP, IMAPS} {
		c := &input{pieces: [][]byte{[]byte("a STARTTLS\r\n" + enter)}}
		l := s.Authorize(t.Context(), c, kind, peer)
		if l == nil || l.Note.Client.Proto != "IMAPS" || strings.Contains(c.out.String(), " STARTTLS ") || !strings.Contains(c.out.String(), "\r\na BAD ") {
			t.Errorf("%s: %q", kind, c.out.String())
		}
	}
	started := 0
	peer.TLS = ""
	peer.StartTLS = func() (string, error) { started++; return "TLSv1.3", nil }
	c := &input{pieces: [][]byte{[]byte(enter), []byte("b STARTTLS\r\n"), []byte(enter)}}
	if l := s.Authorize(t.Context(), c, IMAP, peer); l == nil || l.Note.Client.Proto != "IMAPS" || started != 1 || !strings.Contains(c.out.String(), " STARTTLS LOGINDISABLED]") {
		t.Errorf("started %d times, %q", started, c.out.String())
	}
	c = &input{pieces: [][]byte{[]byte("b STARTTLS\r\n" + enter)}}
	if l := s.Authorize(t.Context(), c, IMAP, peer); l != nil || started != 1 {
		t.Error("started over what was sent in clear")
	}
	peer.StartTLS = func() (string, error) { return "", errors.New("no") }
	c = &input{pieces: [][]byte{[]byte("b STARTTLS\r\n"), []byte(enter)}}
	if l := s.Authorize(t.Context(), c, IMAP, peer); l != nil {
		t.Error("logged in in clear")
	}
}

// While a handshake would fail, the client is told so before it, and may go on in clear where he could before.
func TestTLSNotNow(t *testing.T) {
	conf := testConfig()
	conf.TLS = certificate()
	conf.BeginTLS = func(kind string) (*tls.Config, error) { return nil, errors.New("keyd: connection refused") }
	if out := talk(t, conf, "b STARTTLS\r\n", enter+"c LOGOUT\r\n"); !strings.Contains(out, "b NO [UNAVAILABLE] TLS is not available now") || !strings.Contains(out, "\r\na1 OK ") {
		t.Errorf("%q", out)
	}
	if l := NewServer(conf).Authorize(t.Context(), &input{}, IMAPS, testPeer); l != nil {
		t.Error("no TLS on imaps")
	}
}

// without is an Authenticator that has other mechanisms.
type without struct {
	logintest.Accounts
	mechanisms []string
}

func (w *without) Mechanisms(*tls.ConnectionState) []string { return w.mechanisms }

// LOGINDISABLED says that LOGIN will not do here, and not that nobody can tell now.
func TestLoginDisabled(t *testing.T) {
	for _, x := range []struct {
		mechanisms []string
		want       string
	}{
		{[]string{"SCRAM-SHA-256"}, "ENABLE SASL-IR LOGINDISABLED AUTH=SCRAM-SHA-256]"},
		{[]string{"SCRAM-SHA-256", "PLAIN"}, "ENABLE SASL-IR AUTH=SCRAM-SHA-256 AUTH=PLAIN]"},
		{nil, "ENABLE SASL-IR]"},
	} {
		conf := testConfig()
		conf.Auth = &without{mechanisms: x.mechanisms}
		if out := talk(t, conf); !strings.Contains(out, x.want) {
			t.Errorf("%q: %q", x.mechanisms, out)
		}
	}
}

// A note says the same on both sides, and has room for the longest tag.
func TestNote(t *testing.T) {
	tag := strings.Repeat("t", 64)
	long := Note{"i1", maillog.Client{IP: netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"), Port: 65535, Proto: "IMAPS", Listener: "imaps", Login: "alice"}, tag, false}
	if len(long.String()) > 300 {
		t.Errorf("%d octets", len(long.String()))
	}
	for _, n := range []Note{long, {"i1", maillog.Client{Proto: "IMAP", Listener: "imap", Login: "alice"}, "a]", false}} {
		if got, err := ParseNote(n.String(), "alice"); got != n || err != nil {
			t.Errorf("%q is %+v, %v", n, got, err)
		}
	}
	for _, bad := range []string{"", "i1", "i1 1 IMAP imap a", "i1 65536 IMAP imap a ", "i1 -1 IMAP imap a ", "i1 1 IMAP imap a 1.2.3", "i1 1 IMAP imap  ", "i1 1 IMAP imap a  x"} {
		if n, err := ParseNote(bad, "alice"); err == nil {
			t.Errorf("%q is %+v", bad, n)
		}
	}
}

// Who has logged in elsewhere is greeted so.
func TestPreauth(t *testing.T) {
	c := &input{pieces: [][]byte{[]byte("a LOGOUT\r\n")}}
	s := NewServer(testConfig())
	s.Serve(t.Context(), imap.NewConn(c), newOpen(t), Note{Session: "-", Client: maillog.Client{Proto: "IMAP", Login: "alice"}})
	if out := c.out.String(); !strings.HasPrefix(out, "* PREAUTH [CAPABILITY IMAP4rev1 ") || !strings.HasSuffix(out, "a OK LOGOUT completed\r\n") {
		t.Errorf("%q", out)
	}
}

// Refuse says its line to a client of whatever kind, and waits for nobody.
func TestRefuse(t *testing.T) {
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	NewServer(testConfig()).Refuse(ours)
	ours.Close()
	if b, _ := io.ReadAll(theirs); string(b) != "* BYE [LIMIT] too many connections, try again later\r\n" {
		t.Errorf("%q", b)
	}
}

// A session that waits costs little: ten thousand of them are nothing out of the ordinary.
func TestIdleMemory(t *testing.T) {
	const n = 200
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	s := NewServer(testConfig())
	before := used()
	var clients []*bufio.Reader
	for range n {
		ours, theirs, err := socketpair()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		go func() {
			defer ours.Close()
			if l := s.Authorize(t.Context(), ours, IMAP, testPeer); l != nil {
				s.Serve(t.Context(), l.Conn, newOpen(t), l.Note)
			}
		}()
		io.WriteString(theirs, enter)
		r := bufio.NewReaderSize(theirs, 16)
		for line := ""; !strings.HasPrefix(line, "a1 OK "); {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		clients = append(clients, r)
	}
	per := int64(used()-before) / n
	runtime.KeepAlive(clients)
	t.Logf("%d octets a session", per)
	if per > 20<<10 { // with the test's own
		t.Errorf("%d octets a session", per)
	}
}
