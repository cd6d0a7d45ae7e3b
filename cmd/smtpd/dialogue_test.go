package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal is a log that is read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) Reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.b.Reset()
}

// logged waits for a line of the log with the words in it.
func (s *system) logged(words string) {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(s.log.String(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%q is not in the log:\n%s", words, s.log.String())
		}
	}
}

// S27: a thousand of one command, with the limits that nobody has changed: slower from the tenth error on, and 421 at
// the twentieth, long before the end.
func TestS27_Floods(t *testing.T) {
	s := newSystem(t, "")
	s.write("postamt.conf", override(world, "smtpd_error_soft 10\nsmtpd_error_hard 20\n"))
	s.start("mx")
	var wg sync.WaitGroup
	for line, want := range map[string]int{ // replies before the 421; the first hundred that do nothing are not errors
		"FROB": 20, "": 20, "VRFY": 20, "RCPT TO:<user@mx.example>": 20,
		"NOOP": 120, "RSET": 120, "VRFY user": 120, "HELP": 120, "EHLO c.example": 120,
	} {
		wg.Go(func() {
			conn, err := s.Dial("")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			start := time.Now()
			go io.WriteString(conn, strings.Repeat(line+"\r\n", 1000))
			n, last := 0, ""
			for r := bufio.NewScanner(conn); r.Scan(); {
				if last = r.Text(); len(last) > 3 && last[3] == ' ' {
					n++
				}
			}
			if n -= 2; n != want || !strings.HasPrefix(last, "421 4.7.0 ") {
				t.Errorf("%q: %d replies, and at the end %q", line, n, last)
			}
			if d := time.Since(start); d < 10*time.Second {
				t.Errorf("%q: all within %v", line, d)
			}
		})
	}
	wg.Wait()
	s.logged("limit=errors")
}

// S28: who asks for one name after the other meets the limit of errors, and the time of an answer does not tell what it will be.
func TestS28_Harvest(t *testing.T) {
	s := newSystem(t, "")
	ask := func(conf string) (rcpt func(string) string) {
		s.write("postamt.conf", override(world, conf))
		s.start("mx")
		conn, err := s.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		r := bufio.NewReader(conn)
		reply := func() string {
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return err.Error()
				}
				if l[3] == ' ' {
					return l
				}
			}
		}
		io.WriteString(conn, "EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n")
		reply()
		reply()
		reply()
		return func(name string) string {
			fmt.Fprintf(conn, "RCPT TO:<%s@mx.example>\r\n", name)
			return reply()
		}
	}
	rcpt := ask("smtpd_error_soft 20\nsmtpd_error_hard 20\n")
	for i := range 20 {
		if got := rcpt(fmt.Sprintf("nobody%d", i)); !strings.HasPrefix(got, "550 5.1.1 ") {
			t.Fatalf("the %dth name that is none: %q", i+1, got)
		}
	}
	if got := rcpt("user"); !strings.HasPrefix(got, "421 4.7.0 ") {
		t.Errorf("after twenty: %q", got)
	}
	s.stop()

	const n = 300
	rcpt = ask("recipient_limit 1000\nsmtpd_error_soft 1000\nsmtpd_error_hard 1000\n")
	took := map[string][]time.Duration{}
	for i := range n {
		for code, name := range map[string]string{"250": fmt.Sprintf("user+%d", i), "550": fmt.Sprintf("loser+%d", i)} {
			begun := time.Now()
			if got := rcpt(name); !strings.HasPrefix(got, code) {
				t.Fatalf("%s: %q", name, got)
			}
			took[code] = append(took[code], time.Since(begun))
		}
	}
	for _, l := range took {
		slices.Sort(l)
	}
	yes, no := took["250"][n/2], took["550"][n/2]
	t.Logf("median of a yes %v, of a no %v", yes, no)
	if d := (yes - no).Abs(); d > min(yes, no)+200*time.Microsecond {
		t.Errorf("a yes takes %v, a no %v", yes, no)
	}
}

// logLine is one of maillog(5).
var logLine = regexp.MustCompile(`^smtpd: [a-z0-9-]+: [a-z]+( [a-z]+=("[^"=\n]*"|[^" \n]*))*$`)

// S39: whatever stands in HELO and the addresses, each line of the log is one, of characters that print, and what the
// client said makes no key of its own.
func TestS39_Log(t *testing.T) {
	s := newSystem(t, "")
	s.write("postamt.conf", override(world, "smtpd_error_soft 100000\nsmtpd_error_hard 100000\nsmtpd_junk_limit 100000\n"))
	s.start("mx")
	conn, err := s.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	reply := func() (l string) {
		t.Helper()
		for {
			var err error
			if l, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if l[3] == ' ' {
				return l
			}
		}
	}
	reply()
	named := 0
	try := func(text string) {
		fmt.Fprintf(conn, "EHLO %s\r\n", text)
		if reply()[0] == '2' {
			named++
			fmt.Fprintf(conn, "FROB\r\n") // is logged with the name
			reply()
		}
		fmt.Fprintf(conn, "EHLO x\r\nMAIL FROM:<%s@c.example> SMTPUTF8\r\nRCPT TO:<\"%s\"@mx.example>\r\nRSET\r\n", text, text)
		for range 4 {
			reply()
		}
	}
	for c := range 256 {
		if c == '\n' || c == '\r' {
			continue // the transcript has them; the number of replies is another
		}
		try("a" + string([]byte{byte(c)}) + "b")
	}
	for _, text := range []string{
		"a client=192.0.2.1", "a\" client=192.0.2.1", "a\\\" reply=ok", "a\u2028b", "a\u202eb", "\u00e9.example", "%s%n%d", "$(id)", "`id`",
		"x: smtpd: accepted from=<a>", "a\x1b[2Jb", strings.Repeat("a", 255), "[127.0.0.1]", "[IPv6:::1]", "mx.example",
	} {
		try(text)
	}
	fmt.Fprintf(conn, "QUIT\r\n")
	reply()
	s.logged(": disconnect ")
	if named < 60 {
		t.Errorf("only %d names were taken", named)
	}
	lines := strings.Split(strings.TrimSuffix(s.log.String(), "\n"), "\n")
	if len(lines) < 400 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if !logLine.MatchString(l) || strings.Count(l, " client=") > 1 || strings.Count(l, " reply=") > 1 {
			t.Errorf("%q", l)
		}
		for _, c := range []byte(l) {
			if c < ' ' || c == 0x7f {
				t.Fatalf("control characters in %q", l)
			}
		}
	}
}

// S30: RFC 1047. From the final dot to the reply there is a sync and nothing that waits for others: on a disk of which a
// sync takes half a second it takes half a second, with one client or with thirty. What a client that gave up meanwhile
// sent is there or it is not, and whole.
func TestS30_SlowDisk(t *testing.T) {
	const delay = 500 * time.Millisecond
	s := newSystem(t, "")
	s.slowSync(delay)
	s.start("mx")
	const n = 30
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c, r := s.atDot(t)
			defer c.Close()
			start := time.Now()
			io.WriteString(c, ".\r\n")
			l, err := r.ReadString('\n')
			if took[i] = time.Since(start); !strings.HasPrefix(l, "250 ") {
				t.Errorf("%q %v", l, err)
			}
		})
	}
	wg.Wait()
	for _, d := range took {
		if d < delay || d > 6*delay {
			t.Errorf("dot to reply: %v", d)
		}
	}
	if ids, writing := s.ids(); len(ids) != n || writing != 0 {
		t.Errorf("%d messages queued, %d unfinished", len(ids), writing)
	}
	for range n {
		wg.Go(func() {
			c, _ := s.atDot(t)
			io.WriteString(c, ".\r\n")
			c.Close()
		})
	}
	wg.Wait()
	s.stop() // ends when the sessions have
	ids, writing := s.ids()
	if len(ids) < n || len(ids) > 2*n || writing != 0 {
		t.Errorf("%d messages queued, %d unfinished", len(ids), writing)
	}
	for _, id := range ids {
		m, err := s.queue.Message(id)
		if err != nil {
			t.Error(err)
			continue
		}
		if b, err := io.ReadAll(m.Reader()); err != nil || !strings.HasSuffix(string(b), "\r\nbody\r\n") {
			t.Errorf("%s: %q %v", id, b, err)
		}
		m.Close()
	}
}

// slowSync has the program run on a disk of which a sync takes so long.
func (s *system) slowSync(d time.Duration) {
	s.t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		s.t.Skip("strace is missing")
	}
	inject := fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", d.Microseconds())
	s.wrap = []string{strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", inject}
	if err := exec.Command(s.wrap[0], append(s.wrap[1:], "true")...).Run(); err != nil {
		s.t.Skip("strace cannot run: ", err)
	}
}

// atDot is a client that has sent a message, but not its end.
func (s *system) atDot(t *testing.T) (net.Conn, *bufio.Reader) {
	c, err := s.Dial("")
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "HELO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\n")
	r := bufio.NewReader(c)
	for _, want := range []string{"220", "250", "250", "250", "354"} {
		if l, err := r.ReadString('\n'); !strings.HasPrefix(l, want) {
			t.Errorf("%q %v, want %s", l, err, want)
		}
	}
	io.WriteString(c, "Subject: x\r\n\r\nbody\r\n")
	return c, r
}

// RFC 5321 section 4.5.1: <postmaster> without a domain is taken, also where the host's own name is no local domain.
func TestBarePostmaster(t *testing.T) {
	s := newSystem(t, "")
	s.write("postamt.conf", override(world, "hostname host.example\nlocal_domains other.example mx.example\n"))
	s.start("mx")
	c, err := s.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, strings.Replace(aMessage, "user@mx.example", "PostMaster", 1))
	if out, err := io.ReadAll(c); err != nil || !strings.Contains(string(out), "queued as") {
		t.Errorf("%s %v", out, err)
	}
	s.wantTrace(t, "for <PostMaster@other.example>;")
}
