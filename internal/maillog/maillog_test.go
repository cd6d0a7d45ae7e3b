package maillog

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sink collects what is written; each write can be made to wait or to fail.
type sink struct {
	mu     sync.Mutex
	b      bytes.Buffer
	writes int
	err    error
	gate   chan struct{} // if set, a write waits for a value
	began  chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	if s.began != nil {
		s.began <- struct{}{}
	}
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.err != nil {
		return 0, s.err
	}
	return s.b.Write(p)
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const qid = "0h2mc9x4rvk3t7w1qz8e"

var client = Client{IP: netip.MustParseAddr("192.0.2.7"), Port: 4711, Helo: "mx.example.net", Proto: "ESMTPS", Listener: "mx"}

// emit calls every event once.
func emit(l *Logger) {
	a := Attempt{Rcpt: "bob@example.com", Target: "mailbox", Source: "users:3", Orig: "bob+x@example.com", Via: "mx.example.net[192.0.2.7]:25", TLS: "TLSv1.3", Status: "4.4.1",
		Reply: "451 4.4.1 try again", Attempt: 2, Age: 300*time.Second + 12*time.Millisecond, Next: 10 * time.Minute}
	d := Delivery{From: "a@b.example", Rcpt: "bob@example.com", User: "bob", Folder: "lists", Name: "1764000000.Qx", Size: 4711, Again: true, Status: "2.0.0", Took: 3 * time.Millisecond}
	l.Start("1.0", "0.0.0.0:25=mx")
	l.Confined(990, "landlock seccomp", "read=/etc/postamt")
	l.Reload("aliases", nil)
	l.Problem(qid, "open", errors.New("permission denied"))
	l.Connect("s1", client)
	l.TLS("s1", "", "TLSv1.3", "TLS_AES_128_GCM_SHA256", nil)
	l.Reject("s1", Rejected{Client: client, Verb: "RCPT", Mail: true, Rcpt: "nobody@example.org", Reply: "550 5.1.1 no such user"})
	l.Accepted(qid, Acceptance{Session: "s1", Client: client, From: "alice@example.org", Size: 4711, Rcpts: 2, MessageID: "<1@b.example>", Took: 1500 * time.Microsecond})
	l.Disconnect("s1", Session{Client: client, Why: "quit", Messages: 1, Rcpts: 2, Took: 2 * time.Second})
	l.Disconnect("s1", Session{Client: client, Why: "tls", Error: errors.New("bad record MAC")})
	l.Limit("s2", client, "client", 3)
	l.Login("s3", client, "SCRAM-SHA-256")
	login := Auth{Session: "s4", User: "alice", IP: client.IP, Service: "smtp", Mechanism: "PLAIN", Reason: "wrong", Wait: time.Second}
	l.AuthOK(login)
	l.AuthFailed(login)
	l.Mailbox("s6", Mailbox{Client: Client{IP: client.IP, Login: "alice", Proto: "IMAPS"}, Why: "failed", Error: errors.New("4711"), Commands: 3, Took: time.Second})
	l.Maildrop("s5", Maildrop{Client: Client{IP: client.IP, Login: "alice", Proto: "POP3S"}, Why: "changed", Error: errors.New("4711"), Messages: 3, Retrieved: 2, Tops: 1, Octets: 4711, Deleted: 2,
		Took: time.Second})
	l.Event("", "worker", KV{"uid", "1000"}, KV{"state", "started"})                                             // internal/monitor
	l.Event("", "state", KV{"active", "1"}, KV{"waiting", "2"}, KV{"destinations", "3"}, KV{"connections", "4"}) // cmd/queued
	l.Adopted(qid, "alice@example.org", 4711, 2, "new")
	l.Delivered(qid, a)
	l.Deferred(qid, a)
	l.Failed(qid, a)
	l.Expired(qid, a)
	l.Expanded(qid, "team@example.org", "0h2mc9x4rvk3t7w1qz8f", 5, "aliases:12")
	l.Bounced(qid, "0h2mc9x4rvk3t7w1qz8g", "alice@example.org", 1)
	l.Warned(qid, "0h2mc9x4rvk3t7w1qz8g", "alice@example.org", 1)
	l.Confirmed(qid, "0h2mc9x4rvk3t7w1qz8g", "alice@example.org", 1)
	l.Discarded(qid, "bob@example.com", "route")
	l.Removed(qid, time.Hour)
	l.Held(qid, "asked")
	l.Released(qid)
	l.Damaged(qid, errors.New("bad sum"))
	l.DestinationDead("example.net", "connection refused", 100, time.Minute)
	l.DestinationAlive("example.net", time.Hour)
	l.DestinationPaused("example.net", "their disk is full")
	l.DestinationResumed("example.net")
	l.Stored(qid, d)
	l.NotStored(qid, d, errors.New("no space left on device"))
	l.Stop("TERM", 0)
}

func TestEvents(t *testing.T) {
	var s sink
	l := New(&s, "smtpd")
	emit(l)
	l.Close()
	for _, want := range []string{
		"smtpd: " + qid + ": accepted from=<alice@example.org> size=4711 rcpts=2 client=192.0.2.7 port=4711 helo=mx.example.net proto=ESMTPS listener=mx session=s1 message-id=<1@b.example> took=0.001\n",
		"smtpd: s1: reject verb=RCPT client=192.0.2.7 port=4711 helo=mx.example.net proto=ESMTPS listener=mx from=<> rcpt=<nobody@example.org> reply=\"550 5.1.1 no such user\"\n",
		"smtpd: " + qid + ": deferred rcpt=<bob@example.com> orig=<bob+x@example.com> target=mailbox source=users:3 via=mx.example.net[192.0.2.7]:25 tls=TLSv1.3 status=4.4.1 attempt=2 age=300.012 next=600.000 reply=\"451 4.4.1 try again\"\n",
		"smtpd: -: dead destination=example.net waiting=100 retry=60.000 reason=\"connection refused\"\n",
		"smtpd: " + qid + ": problem op=open error=\"permission denied\"\n",
	} {
		if !strings.Contains(s.text(), want) {
			t.Errorf("no line %q in\n%s", want, s.text())
		}
	}
	// A nil logger takes everything.
	emit(nil)
	(*Logger)(nil).Close()
}

// Every event and key is in maillog(5), and every event there is one of ours.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../man/maillog.5")
	if err != nil {
		t.Fatal(err)
	}
	var s sink
	l := New(&s, "p")
	emit(l)
	l.Close()
	seen := map[string]bool{"dropped": true}
	for line := range strings.Lines(s.text()) {
		_, rest, _ := strings.Cut(line, ": ")
		_, rest, _ = strings.Cut(rest, ": ")
		event := strings.Fields(rest)[0]
		seen[event] = true
		if !bytes.Contains(page, []byte("\n.It Cm "+event+"\n")) && !bytes.Contains(page, []byte("\n.It Cm "+event+" ")) {
			t.Errorf("maillog(5) does not know the event %s", event)
		}
		for _, m := range regexp.MustCompile(` ([a-z]+)=`).FindAllStringSubmatch(line, -1) {
			if !regexp.MustCompile(`(?m)^\.(It )?Cm( \S+)* ` + m[1] + `( |$)`).Match(page) {
				t.Errorf("maillog(5) does not know the key %s of %s", m[1], event)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\S+)$`).FindAllSubmatch(page, -1) {
		if !seen[string(m[1])] {
			t.Errorf("maillog(5) has an event %s that nothing writes", m[1])
		}
	}
}

// P8: no value can forge a line, end its quotes, or look like a key of ours.
func TestP8_Escaping(t *testing.T) {
	for val, want := range map[string]string{
		"plain":               "plain",
		"a=b@c":               "a=b@c",
		"two words":           `"two words"`,
		"x ip=192.0.2.1":      `"x ip\x3d192.0.2.1"`,
		`say "x"`:             `"say \x22x\x22"`,
		`"x"`:                 `\x22x\x22`,
		`back\slash`:          `back\x5cslash`,
		"a\nsmtpd: -: start":  `"a\x0asmtpd: -: start"`,
		"a\r\x00\x1b[31m\x7f": `a\x0d\x00\x1b[31m\x7f`,
		"grüße":               "grüße",
		"\xff\xfe":            `\xff\xfe`,
		"\u202e\u2028\u00a0":  `\xe2\x80\xae\xe2\x80\xa8\xc2\xa0`,
		"\t":                  `\x09`,
	} {
		if got := string(appendValue(nil, val)); got != want {
			t.Errorf("%q: %s, want %s", val, got, want)
		}
	}
	var s sink
	l := New(&s, "p")
	l.Event("id: x\ny=", "test", KV{"a", ""}, KV{"b", strings.Repeat("\x00", 10000)})
	l.Accepted(qid, Acceptance{From: `"a b"@c`})
	l.Close()
	lines := strings.SplitAfter(s.text(), "\n")
	if want := `p: id\x3a\x20x\x0ay\x3d: test a="" b=`; !strings.HasPrefix(lines[0], want) {
		t.Errorf("%q", lines[0])
	}
	if len(lines[0]) > maxValue+60 || !strings.HasSuffix(lines[0], "...\n") {
		t.Errorf("%d bytes: %q", len(lines[0]), lines[0])
	}
	if want := `from="<\x22a b\x22@c>"`; !strings.Contains(lines[1], want) {
		t.Errorf("%q", lines[1])
	}
}

var wellFormed = regexp.MustCompile(`^p: [!-9;-~]+: [a-z-]+( [a-z]+=([^ "]+|"[^"=]*"|"<[^"=]*>"))*\n$`)

func FuzzLine(f *testing.F) {
	f.Add(qid, "alice@example.org", "550 5.1.1 no such user")
	f.Add("", `"a b"@c`, "x\nsmtpd: -: start version=1")
	f.Add("a:b", "\xff\x00=", "= \" \\ \u2028")
	f.Fuzz(func(t *testing.T, id, address, text string) {
		var s sink
		l := New(&s, "p")
		l.Reject(id, Rejected{Verb: "RCPT", Client: Client{Helo: text, Login: address}, Mail: true, From: address, Rcpt: text, Reply: text, Reason: address})
		l.Close()
		if got := s.text(); !wellFormed.MatchString(got) || len(got) > maxLine+1 {
			t.Errorf("%q", got)
		}
	})
}

// Lines that come together share a write; none is cut or mixed; all come, in order.
func TestBatching(t *testing.T) {
	var s sink
	l := New(&s, "p")
	const n = 300
	for i := range n {
		l.Event(fmt.Sprint(i), "test", KV{"x", "some text that is long enough to count for something"})
	}
	l.Close()
	lines := strings.SplitAfter(s.text(), "\n")
	if len(lines) != n+1 {
		t.Fatalf("%d lines", len(lines)-1)
	}
	for i := range n {
		if !strings.HasPrefix(lines[i], fmt.Sprintf("p: %d: test x=", i)) {
			t.Fatalf("line %d is %q", i, lines[i])
		}
	}
	if s.writes > n/10 {
		t.Errorf("%d writes for %d lines", s.writes, n)
	}
}

// A line that comes alone is written soon, without Close.
func TestIdleFlush(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := New(w, "p")
	for range 3 {
		l.Released(qid)
		b := make([]byte, 100)
		r.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := r.Read(b)
		if err != nil || string(b[:n]) != "p: "+qid+": released\n" {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
}

// F17: a log that nobody reads holds nothing up, takes bounded memory, and is told how much it missed.
func TestF17_BlockedReader(t *testing.T) {
	s := &sink{gate: make(chan struct{}), began: make(chan struct{}, 1000)}
	l := New(s, "p")
	l.Released("first")
	<-s.began // the writer is stuck now
	const n = 60000
	start := time.Now()
	for range n {
		l.Released(qid)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("logging took %v while the reader was stuck", d)
	}
	l.mu.Lock()
	held, dropped := len(l.buf), l.dropped
	l.mu.Unlock()
	if held > maxWait+maxLine || dropped == 0 {
		t.Errorf("%d bytes held, %d lines dropped", held, dropped)
	}
	close(s.gate)
	l.Close()
	text := s.text()
	if !strings.HasSuffix(text, fmt.Sprintf("p: -: dropped lines=%d\n", dropped)) {
		t.Errorf("ends in %q, want %d", text[len(text)-60:], dropped)
	}
	if got := strings.Count(text, "released\n"); got+dropped != n+1 {
		t.Errorf("%d written and %d dropped of %d", got, dropped, n+1)
	}
}

// F17: a real full pipe; Close gives up after a second, and the program can end.
func TestF17_FullPipe(t *testing.T) {
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	l := New(w, "p")
	for range 20000 {
		l.Released(qid)
	}
	start := time.Now()
	l.Close()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
	r.Close() // ends the stuck write
}

// F17: stderr closed, or a full disk: lines are counted, there is no spin, and it goes on.
func TestF17_FailingWriter(t *testing.T) {
	s := &sink{err: syscall.ENOSPC}
	l := New(s, "p")
	for range 5 {
		l.Released(qid)
		l.Flush(10 * time.Second)
	}
	if s.writes > 5 {
		t.Errorf("%d writes of 5 lines", s.writes)
	}
	s.fail(nil)
	l.Removed(qid, 0)
	l.Close()
	if want := "p: " + qid + ": removed\np: -: dropped lines=5\n"; s.text() != want {
		t.Errorf("%q, want %q", s.text(), want)
	}
	l.Released(qid) // after Close: dropped, no panic
}

func TestConcurrent(t *testing.T) {
	var s sink
	l := New(&s, "p")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				l.Event(fmt.Sprintf("%d.%d", g, i), "test")
				if i%10 == 0 {
					l.Flush(time.Second)
				}
			}
		})
	}
	wg.Wait()
	l.Close()
	next := [8]int{}
	for line := range strings.Lines(s.text()) {
		var g, i int
		if _, err := fmt.Sscanf(line, "p: %d.%d: test\n", &g, &i); err != nil || next[g] != i {
			t.Fatalf("%q (%v), want number %d", line, err, next[g])
		}
		next[g]++
	}
	if next != [8]int{50, 50, 50, 50, 50, 50, 50, 50} {
		t.Error(next)
	}
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := func(c *net.UnixConn) string {
		b := make([]byte, 5000)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	l := newSyslog(path, "smtpd", 123)
	l.Released("nobody") // no daemon yet: dropped
	l.Flush(10 * time.Second)
	l.w.(*syslogWriter).next = time.Time{}
	c := listen()
	l.Released("one")
	l.Removed("two", time.Second)
	l.Flush(10 * time.Second)
	for _, want := range []string{"<22>smtpd[123]: one: released", "<22>smtpd[123]: two: removed age=1.000", "<22>smtpd[123]: -: dropped lines=1"} {
		if got := read(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// The daemon is started anew.
	c.Close()
	os.Remove(path)
	c = listen()
	defer c.Close()
	l.Released("three")
	l.Flush(10 * time.Second)
	if got := read(c); got != "<22>smtpd[123]: three: released" {
		t.Errorf("%q", got)
	}
}

// F17: a syslogd that does not read: nobody waits for it, the program can end, and the lines that are lost are counted.
func TestF17_BlockedSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := newSyslog(path, "smtpd", 123)
	const n = 60000
	lost := 0
	start := time.Now()
	for range n {
		l.Released(qid)
		l.mu.Lock()
		lost = max(lost, l.dropped) // the writer may take it later, for its line
		l.mu.Unlock()
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("logging took %v while nobody read", d)
	}
	l.mu.Lock()
	held := len(l.buf)
	l.mu.Unlock()
	if held > maxWait+maxLine {
		t.Errorf("%d octets held", held)
	}
	start = time.Now()
	l.Close()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("Close took %v", d)
	}
	if lost == 0 {
		t.Error("no line is counted as lost")
	}
}

func TestThrottle(t *testing.T) {
	var th Throttle
	now := time.Unix(1764000000, 0)
	for i, c := range []struct {
		after  time.Duration
		missed int
		ok     bool
	}{{0, 0, true}, {time.Second, 0, false}, {time.Second, 0, false}, {time.Minute, 2, true}, {time.Minute, 0, true}, {-time.Hour, 0, true}} {
		now = now.Add(c.after)
		if missed, ok := th.Allow(now, time.Minute); missed != c.missed || ok != c.ok {
			t.Errorf("%d: %d %v", i, missed, ok)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	s := &sink{}
	l := New(s, "p")
	emit(l)
	l.Flush(time.Second)
	a := Acceptance{Session: "s1", Client: client, From: "alice@example.org", Size: 4711, Rcpts: 2}
	// The buffer grows a few times at first; after that an event allocates nothing.
	if n := testing.AllocsPerRun(2000, func() { l.Accepted(qid, a) }); n > 1 {
		t.Errorf("%v allocations an event", n)
	}
}

func BenchmarkAccepted(b *testing.B) {
	w, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	l := New(w, "p")
	a := Acceptance{Session: "s1", Client: client, From: "alice@example.org", Size: 4711, Rcpts: 2}
	b.ReportAllocs()
	for b.Loop() {
		l.Accepted(qid, a)
	}
	l.Close()
}
