package pop3d

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postamt/internal/login"
	"postamt/internal/maillog"
)

// responses are the first lines of what a client was sent, behind the greeting and the login; multi-line ones must be in order.
func responses(t testing.TB, out string) []string {
	t.Helper()
	_, out, ok := strings.Cut(out, "+OK the password, please\r\n")
	if !ok {
		t.Fatalf("no login in %q", out)
	}
	var list []string
	for l := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if strings.HasPrefix(l, "+OK") || strings.HasPrefix(l, "-ERR") {
			list = append(list, l)
		}
	}
	return list
}

// M12: a message that is not of its size is not finished, whatever became of it; and it is said that the size is wrong.
func TestM12_ChangedMessage(t *testing.T) {
	const msg = "A: b\n\nc\n" // 11 octets
	big := strings.Repeat("0123456789\n", 20_000)
	for _, x := range []struct {
		name, msg string
		size      int64
		end       bool
	}{
		{"as said", msg, 11, true},
		{"shorter", msg[:6], 11, false},
		{"longer", msg + "more\n", 11, false},
		{"empty", "", 11, false},
		{"one octet more", msg + "\n", 11, false},
		{"said to be empty", msg, 0, false},
		{"a line end less than said", msg, 13, false},
		{"last line not finished, not counted", "A: b\n\nc", 9, true},
		{"last line not finished, counted", "A: b\n\nc", 11, true},
		{"last line not finished, half counted", "A: b\n\nc", 10, false},
		{"bare CR at the end", "A: b\n\r", 7, true},
		{"far longer", big, 11, false},
		{"far shorter", big, 1 << 40, false},
	} {
		b := &box{messages: []string{x.msg}, size: func(int) (int64, error) { return x.size, nil }}
		if x.msg == "" {
			b.messages[0] = "x"
			b.read = func(int) (Message, error) { return io.NopCloser(strings.NewReader("")), nil }
		}
		out := talk(t, testConfig(), b, enter+"DELE 1\r\nRSET\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
		ended := strings.Contains(out, "\r\n.\r\n+OK marked\r\n+OK bye")
		if ended != x.end || !x.end && (strings.Contains(out, "\r\n.\r\n") || strings.Contains(out, "bye")) {
			t.Errorf("%s: %.300q", x.name, out)
		}
		if (len(b.mistaken) == 1) == x.end || b.left() != map[bool]int{true: 0, false: 1}[x.end] {
			t.Errorf("%s: mistaken %v, %d left", x.name, b.mistaken, b.left())
		}
		if len(out) > 70_000 && x.size < 1000 {
			t.Errorf("%s: %d octets were sent", x.name, len(out))
		}
	}
}

// A message that never ends does not keep a session for ever.
func TestM12_EndlessMessage(t *testing.T) {
	b := &box{messages: []string{"x"}, size: func(int) (int64, error) { return 1000, nil }}
	b.read = func(int) (Message, error) { return io.NopCloser(&repeat{s: "0123456789\n"}), nil }
	if out := talk(t, testConfig(), b, enter+"RETR 1\r\nNOOP\r\n"); strings.Contains(out, "\r\n.\r\n") || len(out) > 2000 {
		t.Errorf("%.300q", out)
	}
}

type repeat struct {
	s string
	n int
}

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.s[r.n%len(r.s)]
		r.n++
	}
	return len(p), nil
}

// A message that is gone, or cannot be read, is one response, and does not stand in the way of the others.
func TestUnreadableMessages(t *testing.T) {
	b := &box{messages: []string{"A: b\n", "A: b\n"}}
	b.read = func(i int) (Message, error) {
		if i == 0 {
			b.messages[0] = ""
			return nil, fmt.Errorf("open: %w", io.ErrNoProgress)
		}
		return io.NopCloser(strings.NewReader("A: b\n")), nil
	}
	b.size = func(i int) (int64, error) {
		if i == 0 {
			return 0, errors.New("disk")
		}
		return 6, nil
	}
	out := responses(t, talk(t, testConfig(), b, enter+"STAT\r\nLIST\r\nRETR 1\r\nTOP 1 0\r\nRETR 2\r\nQUIT\r\n"))
	want := "+OK 2 messages|+OK 2 6|+OK 2 messages|-ERR [SYS/TEMP] the message cannot be read now|-ERR [SYS/TEMP] the message cannot be read now|+OK 6 octets|+OK bye, 2 messages left"
	if got := strings.Join(out, "|"); got != want {
		t.Errorf("%s", got)
	}
	// Half of it was sent.
	b = &box{messages: []string{"A: b\n\nc\n"}}
	b.read = func(int) (Message, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("A: b\n"), iotest.ErrReader(errors.New("disk")))), nil
	}
	if s := talk(t, testConfig(), b, enter+"DELE 1\r\nRSET\r\nRETR 1\r\nQUIT\r\n"); strings.Contains(s, "\r\n.\r\n") || strings.Contains(s, "bye") || !strings.HasSuffix(s, "+OK 11 octets\r\nA: b\r\n") {
		t.Errorf("%q", s)
	}
}

// What another program has removed meanwhile is gone for RETR, and removed for QUIT.
func TestGoneMessage(t *testing.T) {
	b := &box{messages: []string{"A: b\n", "A: b\n"}}
	h := newLoopback(t, POP3, testConfig())
	h.give(b)
	c := dial(t, h)
	c.say("USER alice", "+OK")
	c.say("PASS secret", "+OK 2 messages")
	b.mu.Lock()
	b.messages[0] = ""
	b.mu.Unlock()
	c.say("RETR 1", "-ERR the message is gone")
	c.say("LIST 2", "+OK 2 6")
	c.say("DELE 1", "+OK")
	c.say("QUIT", "+OK bye, 1 messages left")
}

// QUIT: what could not be removed is said, and the maildrop is let go of all the same.
func TestQuitFails(t *testing.T) {
	b := &box{messages: []string{"1\n", "2\n", "3\n", "4\n"}, remove: errors.New("read-only file system")}
	out := talk(t, testConfig(), b, enter+"DELE 1\r\nDELE 3\r\nQUIT\r\n")
	if !strings.HasSuffix(out, "-ERR [SYS/TEMP] some messages that were marked are not removed\r\n") || b.left() != 3 {
		t.Errorf("%q, %d left", out, b.left())
	}
}

// A maildrop that cannot be opened is no reason to change a password.
func TestOpenFails(t *testing.T) {
	b := &box{failOpen: errors.New("permission denied")}
	if out := talk(t, testConfig(), b, enter+"STAT\r\n"); !strings.HasSuffix(out, "-ERR [SYS/TEMP] the maildrop cannot be opened now, try again later\r\n") {
		t.Errorf("%q", out)
	}
	c := &input{pieces: [][]byte{[]byte(enter + "STAT\r\n")}}
	var log bytes.Buffer
	s := NewServer(testConfig())
	s.Log = maillog.New(&log, "pop3d")
	l := s.Authorize(t.Context(), c, POP3, testPeer)
	if string(l.Conn.Take()) != "STAT\r\n" || l.User != "alice" || l.Note.Mechanisms != "PLAIN LOGIN" || strings.Contains(c.out.String(), "messages") {
		t.Errorf("%+v %q", l, c.out.String())
	}
	l.Fail(errors.New("no worker"))
	s.Log.Close()
	if !strings.HasSuffix(c.out.String(), "-ERR [SYS/TEMP] the maildrop cannot be opened now, try again later\r\n") {
		t.Errorf("%q", c.out.String())
	}
	if !strings.Contains(log.String(), `disconnect why=failed client=192.0.2.7 port=4711 proto=POP3 login=alice listener=pop3`) || !strings.Contains(log.String(), `error="no worker"`) {
		t.Errorf("%s", log.String())
	}
}

func TestLog(t *testing.T) {
	var log bytes.Buffer
	conf := testConfig()
	s := NewServer(conf)
	s.Log = maillog.New(&log, "pop3d")
	talkTo(t, s, &box{messages: []string{"1\n", "2\n"}}, enter+"RETR 1\r\nRETR 2\r\nTOP 2 1\r\nDELE 1\r\nQUIT\r\n")
	talkTo(t, s, &box{failOpen: ErrInUse}, enter)
	talkTo(t, s, &box{messages: []string{"1\n", "2\n"}, remove: errors.New("disk")}, enter+"DELE 1\r\nDELE 2\r\nQUIT\r\n")
	talkTo(t, s, &box{}, "USER nobody\r\nPASS x\r\n")
	s.Log.Close()
	for _, want := range []string{
		": connect client=192.0.2.7 port=4711 proto=POP3 listener=pop3\n",
		": login client=192.0.2.7 port=4711 proto=POP3 login=alice listener=pop3 mech=PLAIN\n",
		": maildrop why=quit client=192.0.2.7 port=4711 proto=POP3 login=alice listener=pop3 messages=2 retrieved=2 tops=1 octets=9 deleted=1 took=0.00",
		" retrieved=0 octets=0 deleted=1 took=0.00",
		": maildrop why=in-use client=192.0.2.7 port=4711 proto=POP3 login=alice listener=pop3 messages=0 retrieved=0 octets=0 deleted=0 took=0.00",
		": disconnect why=lost client=192.0.2.7 port=4711 proto=POP3 listener=pop3 messages=0 rejected=1 took=",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line %q in\n%s", want, log.String())
		}
	}
	// What authd logs of a failure, and fail2ban reads, is told here: the address, and the session that is in our lines.
	if q := conf.Auth.(*accounts).Last(); q.Remote != netip.MustParseAddrPort("192.0.2.7:4711") || !strings.Contains(log.String(), " "+q.Session+": disconnect ") {
		t.Errorf("%+v", q)
	}
	if n := strings.Count(log.String(), "disconnect") + strings.Count(log.String(), "maildrop why"); n != 4 || strings.Contains(log.String(), "secret") {
		t.Errorf("%d ends of sessions in\n%s", n, log.String())
	}
}

// peer is a client of a loopback.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, h *loopback) *peer {
	t.Helper()
	c, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{t, c, bufio.NewReader(c)}
	p.expect("+OK")
	return p
}

func (p *peer) say(line, want string) {
	p.t.Helper()
	io.WriteString(p, line+"\r\n")
	p.expect(want)
}

func (p *peer) expect(want string) {
	p.t.Helper()
	if line, err := p.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
		p.t.Fatalf("%q, %v, want %q", line, err, want)
	}
}

// ends says that the server closes, and says nothing before.
func (p *peer) ends() {
	p.t.Helper()
	if b, err := io.ReadAll(p.r); len(b) > 0 || err != nil {
		p.t.Errorf("%q, %v", b, err)
	}
}

// RFC 1939 section 3: the timer ends a session without a word, and nothing is removed.
func TestAutologout(t *testing.T) {
	conf := testConfig()
	conf.TimeoutIdle = 50 * time.Millisecond
	b := &box{messages: []string{"1\n"}}
	h := newLoopback(t, POP3, conf)
	h.give(b)
	c := dial(t, h)
	io.WriteString(c, enter+"DELE 1\r\n")
	c.expect("+OK")
	c.expect("+OK 1")
	c.expect("+OK")
	c.ends()
	if b.left() != 1 {
		t.Error("removed")
	}
	// Before the login, too, and an octet from time to time does not help.
	conf = testConfig()
	conf.TimeoutLogin = 50 * time.Millisecond
	h = newLoopback(t, POP3, conf)
	for _, every := range []time.Duration{time.Hour, 10 * time.Millisecond} {
		nc, err := h.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(time.Minute))
		over := make(chan struct{})
		go func() {
			defer close(over)
			for tick := time.NewTicker(every); ; <-tick.C {
				if _, err := nc.Write([]byte("x")); err != nil || every == time.Hour {
					return
				}
			}
		}()
		// A reset, if an octet came when the server had closed.
		if b, err := io.ReadAll(nc); len(b) > 0 && !strings.HasPrefix(string(b), "+OK pop.example") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", b, err)
		}
		nc.Close()
		<-over
	}
}

// T04: a handshake that never ends is ended.
func TestT04_Handshake(t *testing.T) {
	conf := testConfig()
	conf.TLS = certificate()
	conf.TimeoutLogin = 50 * time.Millisecond
	h := newLoopback(t, POP3S, conf)
	c, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// A server that stops ends who waits, and waits for who has taken or marked something.
func TestDrain(t *testing.T) {
	b := &box{messages: []string{"1\n"}}
	h := newLoopback(t, POP3, testConfig())
	h.give(b)
	before, asked, idle, busy := dial(t, h), dial(t, h), dial(t, h), dial(t, h)
	asked.say("AUTH PLAIN", "+ ")
	idle.say("USER bob", "+OK")
	idle.say("PASS  two  words ", "+OK")
	busy.say("USER alice", "+OK")
	busy.say("PASS secret", "+OK")
	busy.say("RETR 1", "+OK")
	busy.expect("1\r\n")
	busy.expect(".\r\n")
	h.cancel()
	before.ends()
	idle.ends()
	asked.ends()
	busy.say("DELE 1", "+OK")
	busy.say("NOOP", "+OK")
	busy.say("QUIT", "+OK")
	busy.ends()
	if b.left() != 0 {
		t.Error("not removed")
	}
}

// P08: who does not read is not waited for, and costs no memory meanwhile.
func TestP08_SlowReader(t *testing.T) {
	b := &box{messages: []string{"x"}, size: func(int) (int64, error) { return 1 << 40, nil }}
	b.read = func(int) (Message, error) { return io.NopCloser(&repeat{s: "0123456789\r\n"}), nil }
	conf := testConfig()
	conf.writeTime = 50 * time.Millisecond
	h := newLoopback(t, POP3, conf)
	h.give(b)
	c := dial(t, h)
	io.WriteString(c, enter+"RETR 1\r\n")
	closed := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.closed
	}
	for end := time.Now().Add(30 * time.Second); closed() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session has not ended")
		}
	}
}

// P08: a million commands that came at once are a million responses, and no memory.
func TestP08_ManyCommands(t *testing.T) {
	const n = 1_000_000
	b := &box{messages: []string{"1\n"}}
	h := newLoopback(t, POP3, testConfig())
	h.give(b)
	c := dial(t, h)
	io.WriteString(c, enter)
	c.expect("+OK")
	c.expect("+OK")
	go func() {
		line := bytes.Repeat([]byte("NOOP\r\n"), 1000)
		for range n / 1000 {
			c.Write(line)
		}
		c.Write([]byte("QUIT\r\n"))
	}()
	got, err := io.ReadAll(c.r)
	if want := n*len("+OK\r\n") + len("+OK bye, 1 messages left\r\n"); err != nil || len(got) != want {
		t.Errorf("%d octets, %v, want %d", len(got), err, want)
	}
}

// A message of any size costs the same memory.
func TestLargeMessage(t *testing.T) {
	const size = 64 << 20
	b := &box{messages: []string{"x"}, size: func(int) (int64, error) { return size, nil }}
	b.read = func(int) (Message, error) {
		return io.NopCloser(io.LimitReader(&repeat{s: strings.Repeat("x", 76) + "\r\n"}, size)), nil
	}
	a, z := net.Pipe()
	go z.Write([]byte(enter + "RETR 1\r\nQUIT\r\n"))
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, z)
		got <- n
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := NewServer(testConfig())
	l := s.Authorize(t.Context(), a, POP3, testPeer)
	s.Serve(t.Context(), l.Conn, b.open, l.Note)
	a.Close()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size/4 { // the race detector makes pools forgetful
		t.Errorf("%d octets of memory", n)
	}
	if n := <-got; n < size {
		t.Errorf("%d octets were sent", n)
	}
}

// TLS that ends before us is TLS; and one that somebody else begins, when we say so.
func TestTLSOfAnother(t *testing.T) {
	conf := testConfig()
	conf.AuthInClear = nil
	s := NewServer(conf)
	peer := testPeer
	peer.TLS = "TLSv1.2 ECDHE-X"
	for _, kind := range []string{POP3, POP3S} {
		c := &input{pieces: [][]byte{[]byte("CAPA\r\nSTLS\r\n" + enter)}}
		l := s.Authorize(t.Context(), c, kind, peer)
		if l == nil || l.Note.Client.Proto != "POP3S" || strings.Contains(c.out.String(), "\r\nSTLS\r\n") {
			t.Errorf("%s: %q", kind, c.out.String())
		}
	}
	started := 0
	peer.TLS = ""
	peer.StartTLS = func() (string, error) { started++; return "TLSv1.3", nil }
	c := &input{pieces: [][]byte{[]byte("CAPA\r\n" + enter), []byte("STLS\r\n"), []byte("STLS\r\n" + enter)}}
	if l := s.Authorize(t.Context(), c, POP3, peer); l == nil || l.Note.Client.Proto != "POP3S" || started != 1 || strings.Count(c.out.String(), "\r\nSTLS\r\n") != 1 {
		t.Errorf("started %d times, %q", started, c.out.String())
	}
	c = &input{pieces: [][]byte{[]byte("STLS\r\n" + enter)}}
	if l := s.Authorize(t.Context(), c, POP3, peer); l != nil || started != 1 {
		t.Error("started over what was sent in clear")
	}
	peer.StartTLS = func() (string, error) { return "", errors.New("no") }
	c = &input{pieces: [][]byte{[]byte("STLS\r\n"), []byte(enter)}}
	if l := s.Authorize(t.Context(), c, POP3, peer); l != nil {
		t.Error("logged in in clear")
	}
}

// While a handshake would fail, the client is told so before it, and may go on in clear where he could before.
func TestTLSNotNow(t *testing.T) {
	conf := testConfig()
	conf.TLS = certificate()
	conf.BeginTLS = func(kind string) (*tls.Config, error) { return nil, errors.New("keyd: connection refused") }
	b := &box{}
	if out := talk(t, conf, b, "STLS\r\n"+enter+"QUIT\r\n"); strings.Contains(out, "nothing may") == false {
		t.Errorf("%q", out)
	}
	if out := talk(t, conf, b, "STLS\r\n", enter+"QUIT\r\n"); !strings.Contains(out, "-ERR [SYS/TEMP] TLS is not available now") || !strings.Contains(out, "bye") {
		t.Errorf("%q", out)
	}
	if l := NewServer(conf).Authorize(t.Context(), &input{}, POP3S, testPeer); l != nil {
		t.Error("no TLS on pop3s")
	}
}

func TestNote(t *testing.T) {
	for _, n := range []Note{
		{"p1", maillog.Client{IP: netip.MustParseAddr("2001:db8::1"), Port: 65535, Proto: "POP3S", Listener: "pop3s", Login: "alice"}, "PLAIN LOGIN"},
		{"p1", maillog.Client{Proto: "POP3", Listener: "pop3", Login: "alice"}, ""},
	} {
		if got, err := ParseNote(n.String(), "alice"); got != n || err != nil {
			t.Errorf("%q is %+v, %v", n, got, err)
		}
	}
	long := Note{"p1", maillog.Client{Proto: "POP3", Listener: "pop3"}, strings.Repeat("SCRAM-SHA-256-PLUS ", 20) + "PLAIN"}
	if got, err := ParseNote(long.String(), ""); len(long.String()) > maxNote || err != nil || got.Mechanisms != strings.TrimSpace(strings.Repeat("SCRAM-SHA-256-PLUS ", 15)) {
		t.Errorf("%d octets: %+v, %v", len(long.String()), got, err)
	}
	for _, bad := range []string{"", "p1", "p1 1 POP3 pop3 x", "p1 65536 POP3 pop3  ", "p1 -1 POP3 pop3  ", "p1 1 POP3 pop3 1.2.3 "} {
		if n, err := ParseNote(bad, "alice"); err == nil {
			t.Errorf("%q is %+v", bad, n)
		}
	}
}

// slowly judges when it is told to.
type slowly struct {
	*accounts
	now chan bool
}

func (s slowly) Authenticate(ctx context.Context, q login.Request, ask func([]byte) ([]byte, error)) (login.User, error) {
	select {
	case <-s.now:
	case <-ctx.Done():
	}
	return s.accounts.Authenticate(ctx, q, ask)
}

// What was said to a guess does not wait for the next one, which came with it, to be judged.
func TestGuessesAtOnce(t *testing.T) {
	conf := testConfig()
	auth := slowly{&accounts{}, make(chan bool)}
	conf.Auth = auth
	p := dial(t, newLoopback(t, POP3, conf))
	io.WriteString(p, "USER alice\r\nPASS wrong\r\nUSER alice\r\nPASS secret\r\nQUIT\r\n")
	p.expect("+OK")
	auth.now <- true
	p.expect("-ERR [AUTH]")
	p.expect("+OK")
	auth.now <- true
	p.expect("+OK")
	p.expect("+OK bye")
	p.ends()
}

// RFC 2449 section 6.5: who comes back too soon, and a table that does not grow with who came long ago.
func TestLoginDelay(t *testing.T) {
	var r recent
	now := time.Unix(1_800_000_000, 0)
	for i := range 50_000 {
		if !r.admit(fmt.Sprint(i), now, time.Minute) {
			t.Fatal(i)
		}
		now = now.Add(time.Second)
	}
	if len(r.last) > 3000 {
		t.Errorf("%d users", len(r.last))
	}
	if r.admit("49999", now, time.Minute) || !r.admit("49900", now, time.Minute) || !r.admit("49999", now.Add(time.Hour), time.Minute) {
		t.Error("the delay")
	}
	if !r.admit("49900", now.Add(-time.Hour), time.Minute) {
		t.Error("a clock that was set back locks nobody out")
	}
	if r.admit("x", now, 0); r.last["x"] != (time.Time{}) {
		t.Error("noted without a delay")
	}
}

// The octets that LIST says are those that RETR sends (P03), for messages of any kind, one after the other on one connection.
func TestP03_ListAndRetr(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	parts := []string{"\r", "\n", "\r\n", ".", "a", "\r\n.\r\n", "\n.\n", "\x00", "\xff", "\r\n\r\n", "+OK\n", "-ERR\r"}
	var b box
	for range 500 {
		m := "x"
		for range r.IntN(20) {
			m += parts[r.IntN(len(parts))]
		}
		b.messages = append(b.messages, m+"\n")
	}
	in := enter + "LIST\r\n"
	for i := range b.messages {
		in += fmt.Sprintf("RETR %d\r\n", i+1)
	}
	out := talk(t, testConfig(), &b, in+"QUIT\r\n")
	_, out, _ = strings.Cut(out, "+OK 500 messages\r\n")
	line := func() string {
		l, rest, ok := strings.Cut(out, "\r\n")
		if !ok || strings.ContainsAny(l, "\r\n") {
			t.Fatalf("%.100q", out)
		}
		out = rest
		return l
	}
	line()
	sizes := map[int]int{}
	for {
		l := line()
		if l == "." {
			break
		}
		var n, size int
		fmt.Sscan(l, &n, &size)
		sizes[n] = size
	}
	for i := range b.messages {
		if want := fmt.Sprintf("+OK %d octets", sizes[i+1]); line() != want {
			t.Fatalf("message %d: want %q", i+1, want)
		}
		octets := 0
		for l := line(); l != "."; l = line() {
			octets += len(strings.TrimPrefix(l, ".")) + 2
		}
		if octets != sizes[i+1] {
			t.Fatalf("message %d, %q: %d octets, LIST said %d", i+1, b.messages[i], octets, sizes[i+1])
		}
	}
	if out != "+OK bye, 500 messages left\r\n" {
		t.Errorf("%.100q", out)
	}
}
