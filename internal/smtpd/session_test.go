package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postamt/internal/addr"
	"postamt/internal/queue"
	"postamt/internal/smtpd/smtpdtest"
)

const opening = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<user@mx.example>\r\n"

// codes are the codes of the replies in a server's output.
func codes(out string) []string {
	var c []string
	for l := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if len(l) >= 4 && l[3] == ' ' || len(l) == 3 {
			c = append(c, l[:3])
		}
	}
	return c
}

func wantCodes(t testing.TB, out, want string) {
	t.Helper()
	if got := strings.Join(codes(out), " "); got != want {
		t.Errorf("replies %s, want %s\n%s", got, want, out)
	}
}

// below is a stored message without our Received field.
func below(s *stored) string {
	_, rest := smtpdtest.SplitTrace(s.body)
	return string(rest)
}

func TestS05_SplitAnywhere(t *testing.T) {
	const text = opening + "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n" + "MAIL FROM:<>\r\nRCPT TO:<user@mx.example>\r\nBDAT 5\r\nA: b\rBDAT 3 LAST\r\n\n\r\nQUIT\r\n"
	check := func(name string, pieces ...string) {
		out, m := talk(t, testConfig(), pieces...)
		wantCodes(t, out, "220 250 250 250 354 250 250 250 250 250 221")
		if m.count() != 2 || below(m.messages[0]) != "Subject: x\r\n\r\n.dot\r\n" || below(m.messages[1]) != "A: b\r\n\r\n" {
			t.Fatalf("%s: %d messages", name, m.count())
		}
	}
	for i := range len(text) {
		check(fmt.Sprintf("split at %d", i), text[:i], text[i:])
	}
	check("byte by byte", strings.Split(text, "")...)
}

// S02 once more, by brute force: between the text and a command in it, any few octets of those that matter.
func TestS02_AllShortEnds(t *testing.T) {
	alphabet := "\r\n.x"
	var try func(prefix string, depth int)
	try = func(mid string, depth int) {
		if depth > 0 {
			for _, c := range alphabet {
				try(mid+string(c), depth-1)
			}
			return
		}
		text := "A: b\r\n\r\nc" + mid + "NOOP\r\n.\r\n"
		out, m := talk(t, testConfig(), opening+"DATA\r\n"+text)
		if strings.Contains(text[:len(text)-5], "\r\n.\r\n") {
			wantCodes(t, out, "220 250 250 250 354 "+map[int]string{1: "250", 0: "550"}[m.count()]+" 250 500")
			return
		}
		crlf := strings.Count(text, "\r\n")
		if crlf == strings.Count(text, "\r") && crlf == strings.Count(text, "\n") {
			wantCodes(t, out, "220 250 250 250 354 250")
		} else {
			wantCodes(t, out, "220 250 250 250 354 550")
			if m.count() != 0 {
				t.Errorf("%q is queued", text)
			}
		}
	}
	for n := 0; n <= 5; n++ {
		try("", n)
	}
}

// heap runs f and returns by how much the heap was larger while a collection ran inside probe.
func heap(f func(probe func())) (peak uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base := m.HeapAlloc
	f(func() {
		runtime.GC()
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > base {
			peak = max(peak, m.HeapAlloc-base)
		}
	})
	return peak
}

// flood is a client that says first, and then n times the same.
func flood(first string, block []byte, n int, last string, probe func()) *input {
	c := &input{pieces: [][]byte{[]byte(first)}, quiet: false}
	i := 0
	c.next = func() []byte {
		i++
		switch {
		case i <= n:
			if i%(n/4+1) == 0 {
				probe()
			}
			return block
		case i == n+1:
			return []byte(last)
		}
		return nil
	}
	return c
}

// discard is a Queue that keeps nothing, to measure ours.
type discard struct{ n int }

func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }
func (d *discard) CommitIf(func() bool) error  { return nil }
func (d *discard) Abort()                      {}

func TestS08_EndlessCommand(t *testing.T) {
	for _, b := range []byte{'x', 0, '\n', '\r', ' '} {
		var c *input
		peak := heap(func(probe func()) {
			c = flood("", bytes.Repeat([]byte{b}, 10_000), 100_000, "\r\nNOOP\r\n", probe)
			serve(t, &memory{}, MX, testConfig(), c)
		})
		if out := c.out.String(); strings.Count(out, "\r\n") != 2 || !strings.Contains(out, "\r\n500 ") {
			t.Errorf("%q forever: %.200q", b, out)
		}
		if peak > 1<<20 {
			t.Errorf("%q forever: %d octets of memory", b, peak)
		}
	}
}

func TestS09_S32_LargeMessages(t *testing.T) {
	conf := testConfig()
	conf.SizeLimit = 0
	block := bytes.Repeat([]byte("x"), 50_000)
	for name, c := range map[string]struct {
		first, last string
		block       []byte
		n           int
	}{
		"S09 one line of 50 MB":          {"A: b\r\n\r\n", "\r\n.\r\n", block, 1000},
		"S32 one header field of 20 MB":  {"A: ", "\r\n\r\nbody\r\n.\r\n", block, 400},
		"S32 one folded field of 20 MB":  {"A: b\r\n", "\r\n\r\n.\r\n", bytes.Repeat([]byte(" x\r\n"), 10_000), 500},
		"S32 2,000,000 header lines":     {"A: b\r\n", "\r\n.\r\n", bytes.Repeat([]byte("Xy: z\r\n"), 1000), 2000},
		"S32 a header without a colon":   {"", "\r\n.\r\n", block, 400},
		"S32 200,000 Return-Path fields": {"A: b\r\n", "\r\n.\r\n", bytes.Repeat([]byte("Return-Path: <x>\r\n"), 1000), 200},
		"S11 20 MB of dots":              {"\r\n", ".\r\n", bytes.Repeat([]byte("..\r\n"), 10_000), 500},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var in *input
			w := &discard{}
			peak := heap(func(probe func()) {
				in = flood(opening+"DATA\r\n"+c.first, c.block, c.n, c.last, probe)
				serveQueue(t, w, conf, in)
			})
			wantCodes(t, in.out.String(), "220 250 250 250 354 250")
			if peak > 2<<20 {
				t.Errorf("%d octets of memory", peak)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%v", d)
			}
		})
	}
}

func TestS12_ManyRecipients(t *testing.T) {
	conf := testConfig()
	conf.Recipients = anyone{}
	conf.RcptLimit = 1000
	c := &input{pieces: [][]byte{[]byte("EHLO c.example\r\nMAIL FROM:<>\r\n")}}
	for i := range 100_000 {
		c.pieces = append(c.pieces, fmt.Appendf(nil, "RCPT TO:<u%d@mx.example>\r\n", i))
	}
	m := &memory{}
	serve(t, m, MX, conf, c)
	out := c.out.String()
	if n := strings.Count(out, "250 2.1.5"); n != 1000 {
		t.Errorf("%d recipients taken", n)
	}
	if n := strings.Count(out, "452 4.5.3"); n != 1000 {
		t.Errorf("%d times 452", n)
	}
	if !strings.HasSuffix(out, "421 4.5.3 too many recipients\r\n") {
		t.Errorf("not closed: %q", out[len(out)-100:])
	}

	// The same 500 times is one, and RFC 5321 section 4.5.3.1.8 wants at least 100.
	out, m = talk(t, testConfig(), opening, strings.Repeat("RCPT TO:<user@mx.example>\r\n", 500), "DATA\r\n.\r\n")
	if n := strings.Count(out, "250 2.1.5"); n != 501 || m.count() != 1 || len(m.messages[0].env.Rcpts) != 1 {
		t.Errorf("%d recipients taken, %d messages", n, m.count())
	}
	// Whether the case of a local part means anything, only its host knows (RFC 5321 section 2.4).
	conf = testConfig()
	conf.Recipients = anyone{}
	out, m = talk(t, conf, opening, "RCPT TO:<D@other.example>\r\nRCPT TO:<d@OTHER.example>\r\nRCPT TO:<D@OTHER.example>\r\nDATA\r\n.\r\n")
	if n := strings.Count(out, "250 2.1.5"); n != 4 || m.count() != 1 || len(m.messages[0].env.Rcpts) != 3 {
		t.Errorf("%d recipients taken, %d messages", n, m.count())
	}
	if (&session{conf: &Config{}}).rcptLimit() < 100 {
		t.Error("fewer than 100 recipients without a limit")
	}
}

type anyone struct{}

func (anyone) Admit(from, to addr.Mailbox, relay bool) (addr.Mailbox, error) {
	return addr.Mailbox{}, nil
}

// oneQueue hands out one writer.
type oneQueue struct{ w Writer }

func (q oneQueue) Create(*queue.Envelope) (Writer, error) { return q.w, nil }

func serveQueue(t testing.TB, w Writer, conf *Config, c net.Conn) {
	t.Helper()
	s := NewServer(oneQueue{w}, conf, 4)
	s.Serve(context.Background(), c, MX, testPeer)
}

// S23: a client that sends an octet now and then is in time for the next octet, but not for the line.
func TestS23_Slow(t *testing.T) {
	drip := func(conf *Config, first string, every time.Duration, block string) string {
		h := newLoopback(t, MX, conf)
		c, err := h.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		done := make(chan string)
		go func() {
			b, _ := io.ReadAll(c)
			done <- string(b)
		}()
		io.WriteString(c, first)
		for {
			select {
			case out := <-done:
				return out
			case <-time.After(every):
				io.WriteString(c, block)
			}
		}
	}
	conf := testConfig()
	conf.TimeoutCommand = 300 * time.Millisecond
	if out := drip(conf, "", 50*time.Millisecond, "x"); !strings.Contains(out, "421 4.4.2") {
		t.Errorf("command line: %q", out)
	}
	conf = testConfig()
	conf.TimeoutData = 300 * time.Millisecond
	if out := drip(conf, opening+"DATA\r\nA: b\r\n", time.Second, "NOOP\r\n"); !strings.HasSuffix(out, "421 4.4.2 mx.example timeout\r\n") {
		t.Errorf("data block: %q", out)
	}
	conf = testConfig()
	conf.TimeoutSession = 300 * time.Millisecond
	if out := drip(conf, "", 20*time.Millisecond, "NOOP\r\n"); !strings.Contains(out, "421 4.4.2") {
		t.Errorf("session: %q", out)
	}
	if out := drip(conf, opening+"DATA\r\n", 20*time.Millisecond, "A: b\r\n"); !strings.Contains(out, "421 4.4.2") {
		t.Errorf("session in DATA: %q", out)
	}
	// T04: the handshake is a part of the session.
	conf.TLS = certificate()
	h := newLoopback(t, Submissions, conf)
	c, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, _ := io.ReadAll(c); len(b) > 0 && b[0] == '2' {
		t.Errorf("%q without TLS", b)
	}
}

func TestS23_MinimumRate(t *testing.T) {
	conf := testConfig()
	conf.MinRate = 100
	for _, c := range []struct {
		perBlock time.Duration
		want     string
	}{
		{time.Second, "220 250 250 250 354 250"},
		{20 * time.Second, "220 250 250 250 354 421"},
	} {
		now := time.Unix(1e9, 0)
		blocks := 0
		in := &input{pieces: [][]byte{[]byte(opening + "DATA\r\n")}}
		in.next = func() []byte {
			blocks++
			now = now.Add(c.perBlock)
			switch {
			case blocks < 200:
				return []byte("A: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n")
			case blocks == 200:
				return []byte(".\r\n")
			}
			return nil
		}
		s := NewServer(&memory{}, conf, 1)
		s.Now = func() time.Time { return now }
		s.Serve(context.Background(), in, MX, testPeer)
		wantCodes(t, in.out.String(), c.want)
	}
}

func TestStress(t *testing.T) {
	conf := testConfig()
	conf.StressPercent, conf.StressTimeout = 80, 100*time.Millisecond
	h := newLoopback(t, MX, conf, func(h *loopback) {
		h.server.Stress = func(percent int) bool { return percent == 80 }
	})
	c, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	b, _ := io.ReadAll(c)
	if d := time.Since(start); d > 5*time.Second || !strings.Contains(string(b), "421 4.4.2") {
		t.Errorf("%v: %q", d, b)
	}
}

// S28: VRFY and EXPN ask no table.
func TestS28_NoHarvest(t *testing.T) {
	conf := testConfig()
	conf.Recipients = nil // would panic
	out, _ := talk(t, conf, "VRFY user\r\nVRFY nobody\r\nEXPN team\r\nEXPN nobody\r\n")
	l := strings.Split(out, "\r\n")
	if l[1] != l[2] || l[3] != l[4] || !strings.HasPrefix(l[1], "252 ") {
		t.Errorf("%q", l)
	}
}

// S29: the client leaves anywhere. What it was told is queued is queued, nothing else is.
func TestS29_CutAnywhere(t *testing.T) {
	const text = opening + "DATA\r\nA: b\r\n\r\nc\r\n.\r\n" + "MAIL FROM:<>\r\nRCPT TO:<user@mx.example>\r\nBDAT 6\r\nA: b\r\nBDAT 4 LAST\r\nC:\r\n"
	first := strings.Index(text, "\r\n.\r\n") + 5
	for _, end := range []error{nil, syscall.ECONNRESET} {
		for i := range len(text) + 1 {
			in := &input{pieces: [][]byte{[]byte(text[:i])}, end: end}
			m := &memory{}
			serve(t, m, MX, testConfig(), in)
			want := 0
			if i >= first {
				want++
			}
			if i == len(text) {
				want++
			}
			if n := strings.Count(in.out.String(), "queued as"); m.count() != want || n != want {
				t.Errorf("cut at %d (%q): %d queued, told %d, want %d", i, text[max(0, i-10):i], m.count(), n, want)
			}
		}
	}
}

// F01, F02: what the queue cannot do is "later", and nothing is queued.
func TestF01_QueueErrors(t *testing.T) {
	full := &fsError{syscall.ENOSPC}
	for name, c := range map[string]struct {
		m    *memory
		want string
	}{
		"create":        {&memory{create: errors.New("gone")}, "220 250 250 250 451 250"},
		"create, full":  {&memory{create: full}, "220 250 250 250 452 250"},
		"write":         {&memory{write: errors.New("gone")}, "220 250 250 250 354 451 250"},
		"write, full":   {&memory{write: &fsError{syscall.EDQUOT}}, "220 250 250 250 354 452 250"},
		"commit":        {&memory{commit: func() error { return &fsError{syscall.EIO} }}, "220 250 250 250 354 451 250"},
		"commit, full":  {&memory{commit: func() error { return full }}, "220 250 250 250 354 452 250"},
		"commit, limit": {&memory{commit: func() error { return &fsError{syscall.EFBIG} }}, "220 250 250 250 354 452 250"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &input{pieces: [][]byte{[]byte(opening), []byte("DATA\r\n")}}
			if c.m.create == nil {
				in.pieces = append(in.pieces, []byte("A: b\r\n\r\nNOOP\r\n.\r\n"))
			}
			in.pieces = append(in.pieces, []byte("NOOP\r\n"))
			serve(t, c.m, MX, testConfig(), in)
			wantCodes(t, in.out.String(), c.want)
			if c.m.count() != 0 || strings.Contains(in.out.String(), "gone") {
				t.Errorf("%d queued: %s", c.m.count(), in.out.String())
			}
		})
	}
}

type fsError struct{ err error }

func (e *fsError) Error() string { return "queue: write: " + e.err.Error() }
func (e *fsError) Unwrap() error { return e.err }

// A table that cannot be read is our fault: 451 4.3.0, and not one of the client's errors.
func TestBrokenTable(t *testing.T) {
	conf := testConfig()
	conf.ErrorHard, conf.ErrorSoft = 3, 1
	out, _ := talk(t, conf, opening, strings.Repeat("RCPT TO:<broken@mx.example>\r\n", 10), "NOOP\r\n")
	if strings.Count(out, "451 4.3.0") != 10 || strings.Contains(out, "aliases") || !strings.HasSuffix(out, "250 2.0.0 ok\r\n") {
		t.Errorf("%s", out)
	}
}

func TestRelayClients(t *testing.T) {
	conf := testConfig()
	conf.MayRelay = func(ip netip.Addr) bool { return ip == testPeer.IP }
	out, m := talk(t, conf, "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\n")
	wantCodes(t, out, "220 250 250 250 354 250")
	if m.count() != 1 {
		t.Error("not queued")
	}
}

// A local socket whose peer is not known is as good as nobody.
func TestLocalUnknownPeer(t *testing.T) {
	in := &input{pieces: [][]byte{[]byte("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n")}}
	NewServer(&memory{}, testConfig(), 1).Serve(context.Background(), in, Local, Peer{})
	wantCodes(t, in.out.String(), "220 250 530")
}

// At most so many sessions are in Commit at once.
func TestCommitLimit(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	commit := func() error {
		for n := now.Add(1); ; {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-release
		now.Add(-1)
		return nil
	}
	h := newLoopback(t, MX, testConfig(), func(h *loopback) { h.queue.commit = commit }) // room for 4
	var clients sync.WaitGroup
	for range 12 {
		clients.Add(1)
		go func() {
			defer clients.Done()
			c, err := h.Dial("")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, opening+"DATA\r\n.\r\nQUIT\r\n")
			if b, _ := io.ReadAll(c); !strings.Contains(string(b), "queued as") {
				t.Errorf("%s", b)
			}
		}()
	}
	for now.Load() < 4 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	clients.Wait()
	if most.Load() != 4 {
		t.Errorf("%d at once", most.Load())
	}
}

// F09: sessions without a transaction are told at once, one in DATA may finish.
func TestF09_Drain(t *testing.T) {
	h := newLoopback(t, MX, testConfig())
	dial := func(first string, lines int) (net.Conn, *bufio.Reader) {
		c, err := h.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, first)
		r := bufio.NewReader(c)
		for range lines {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		return c, r
	}
	idle, idleR := dial("HELO c.example\r\n", 2)
	defer idle.Close()
	busy, busyR := dial("HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\nA: b\r\n", 5)
	defer busy.Close()
	h.cancel()
	if b, _ := io.ReadAll(idleR); !strings.HasPrefix(string(b), "421 4.3.2") {
		t.Errorf("idle: %q", b)
	}
	io.WriteString(busy, "\r\n.\r\n")
	b, _ := io.ReadAll(busyR)
	if !strings.HasPrefix(string(b), "250 2.0.0") || !strings.Contains(string(b), "421 4.3.2") || h.queue.count() != 1 {
		t.Errorf("in DATA: %q, %d queued", b, h.queue.count())
	}
	h.running.Wait()
}

// Replies to pipelined commands travel together: RFC 2920 section 3.2.
func TestRepliesAreBatched(t *testing.T) {
	in := &countWrites{input: input{pieces: [][]byte{[]byte(opening + "RCPT TO:<alice@mx.example>\r\nDATA\r\n"), []byte("A: b\r\n.\r\nQUIT\r\n")}}}
	serve(t, &memory{}, MX, testConfig(), in)
	wantCodes(t, in.out.String(), "220 250 250 250 250 354 250 221")
	if in.writes != 3 { // the greeting, the replies to the first segment, those to the second
		t.Errorf("%d writes", in.writes)
	}
}

type countWrites struct {
	input
	writes int
}

func (c *countWrites) Write(p []byte) (int, error) { c.writes++; return c.input.Write(p) }

func TestRefuse(t *testing.T) {
	in := &input{}
	NewServer(nil, testConfig(), 1).Refuse(in)
	if got := in.out.String(); got != "421 4.7.0 mx.example too many connections, try again later\r\n" {
		t.Errorf("%q", got)
	}
}

// Received is well-formed for every kind of peer, and no login can change that.
func TestTracePeers(t *testing.T) {
	for _, c := range []struct {
		peer Peer
		want string
	}{
		{Peer{IP: netip.MustParseAddr("192.0.2.7")}, "from c.example (unknown [192.0.2.7])\r\n"},
		{Peer{IP: netip.MustParseAddr("2001:db8::1%eth0")}, "from c.example (unknown [IPv6:2001:db8::1])\r\n"},
		{Peer{Login: "al(ice\\)\r\nX: y"}, "from c.example (login al?ice????X:?y)\r\n"},
	} {
		kind := MX
		if c.peer.Login != "" {
			kind = Local
		}
		in := &input{pieces: [][]byte{[]byte(strings.Replace(opening, "client", "c", 1) + "DATA\r\n.\r\n")}}
		m := &memory{}
		NewServer(m, testConfig(), 1).Serve(context.Background(), in, kind, c.peer)
		if m.count() != 1 || !strings.HasPrefix(string(m.messages[0].body), "Received: "+c.want) {
			t.Errorf("%+v: %s", c.peer, in.out.String())
			for _, s := range m.messages {
				t.Errorf("%q", s.body)
			}
		}
	}
}

// 1,000 idle connections cost at most 10 KiB each, both ends of the test counted.
func TestIdleMemory(t *testing.T) {
	const n = 400
	conf := testConfig()
	conf.TimeoutCommand, conf.TimeoutSession = 5*time.Minute, time.Hour
	h := newLoopback(t, MX, conf)
	measure := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	buf := make([]byte, 4096)
	before := measure()
	for range n {
		c, err := h.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		for _, say := range []string{"", "EHLO client.example\r\n", "MAIL FROM:<>\r\n", "RSET\r\n"} {
			io.WriteString(c, say)
			for got := 0; ; {
				k, err := c.Read(buf[got:])
				if err != nil {
					t.Fatal(err)
				}
				got += k
				last := buf[bytes.LastIndexByte(buf[:got-1], '\n')+1 : got]
				if buf[got-1] == '\n' && last[3] == ' ' {
					break
				}
			}
		}
	}
	each := (measure() - before) / n
	t.Logf("%d octets a session", each)
	if each > 10<<10 && !raceEnabled {
		t.Errorf("%d octets a session", each)
	}
}

// S30: a disk that does not answer in time is a 451, at once, and the message is gone when it answers: never both.
func TestS30_LateCommit(t *testing.T) {
	conf := testConfig()
	conf.TimeoutCommit = 20 * time.Millisecond
	answer := make(chan struct{})
	m := &memory{commit: func() error { <-answer; return nil }}
	c, client := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		serve(t, m, MX, conf, c)
	}()
	go io.WriteString(client, opening+"DATA\r\nA: b\r\n\r\n.\r\n")
	r := bufio.NewReader(client)
	last := ""
	for !strings.HasPrefix(last, "451 ") {
		var err error
		if last, err = r.ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", last, err)
		}
		if strings.Contains(last, "queued as") {
			t.Fatal(last)
		}
	}
	close(answer)
	go io.WriteString(client, "NOOP\r\nQUIT\r\n")
	rest, _ := io.ReadAll(r)
	wantCodes(t, string(rest), "250 221")
	<-done
	if m.count() != 0 {
		t.Error("the message is there, and the client was told 451")
	}
}
