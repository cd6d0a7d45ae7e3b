package pop3

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/site"
)

// What clients send that they should not (faults.md, rows P), to the programs as they run.

// P01, P02: what is no number of a message is -ERR, and the session goes on.
func TestP01_Numbers(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "pop3d_error_limit 0").All()
		s.Put(texts(3)...)
		c := s.login(false)
		for _, n := range []string{"0", "-1", "-0", "+1", "4", "2147483648", "4294967297", "9223372036854775808", "18446744073709551616", "18446744073709551617", "01", "1.", "1x", "0x1",
			"1e0", "\xd9\xa1", "1 2", "1\t", strings.Repeat("1", 200), "-" + strings.Repeat("9", 200), strings.Repeat("1", 300), strings.Repeat("0", 300)} {
			for _, command := range []string{"RETR", "DELE", "LIST", "UIDL", "TOP"} {
				if n == "1 2" && command == "TOP" {
					continue
				}
				line := command + " " + n
				if command == "TOP" {
					line += " 0"
				}
				c.Do(line, "-ERR")
			}
			c.Do("STAT", "+OK 3 ")
		}
		for _, command := range []string{"RETR", "DELE", "TOP", "TOP 1"} {
			c.Do(command, "-ERR")
		}
		c.Do("QUIT", "+OK bye, 3 ")
		if l := s.Left(); len(l) != 3 {
			t.Error(l)
		}
	})
}

// P02: a number of lines that is none; and the top of messages without an empty line, or without anything.
func TestP02_Top(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, "pop3d_error_limit 0").All()
	s.Put("A: b\n\none\ntwo\n", "A: b\nC: d\n", "A: b", "", "\n", "\n\nx\n", "no header\nat all\n")
	c := s.login(false)
	for _, n := range []string{"-1", "9223372036854775807", "9223372036854775808", "2147483648", "", "1 1", "01", "+1", "x"} {
		c.Do("TOP 1 "+n, "-ERR")
	}
	for i, want := range []string{"A: b||one", "A: b|C: d", "A: b", "", "", "|", "no header|at all"} {
		if got := strings.Join(c.lines(fmt.Sprint("TOP ", i+1, " 1")), "|"); got != want {
			t.Errorf("TOP %d 1: %q, want %q", i+1, got, want)
		}
	}
	if got := strings.Join(c.lines("TOP 1 2147483647"), "|"); got != "A: b||one|two" {
		t.Errorf("%q", got)
	}
	c.Do("QUIT", "+OK")
}

// strict reads the text of a multi-line response as RFC 1939 section 3 has it, and nothing that any client could understand otherwise.
func (c *client) strict() string {
	c.T.Helper()
	var text []byte
	for {
		line, err := c.R.ReadBytes('\n')
		if err != nil {
			c.T.Fatalf("%v, behind %.100q", err, line)
		}
		line, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || bytes.IndexByte(line, '\r') >= 0 {
			c.T.Fatalf("a CR or LF by itself: %.100q", line)
		}
		if len(line) > 0 && line[0] == '.' {
			if line = line[1:]; len(line) == 0 {
				return string(text)
			}
			if line[0] != '.' {
				c.T.Fatalf("a dot that stands for nothing: %.100q", line)
			}
		}
		text = append(append(text, line...), "\r\n"...)
	}
}

// P03: what is in a message neither ends it nor becomes a response, in clear and under TLS; its octets are as many as LIST says.
func TestP03_Content(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0).All()
	messages := map[string]string{ // on disk, to the client
		".\n..\n...\n.a\n":                       ".\r\n..\r\n...\r\n.a\r\n",
		"A: b\n\nx\r\n.\r\n+OK\r\n":              "A: b\r\n\r\nx\r\n.\r\n+OK\r\n",
		"x\n.\n-ERR\n.\r.\r\n":                   "x\r\n.\r\n-ERR\r\n. .\r\n",
		"x\r.\r\n":                               "x .\r\n",
		"x\r\r\n.\r\r\n":                         "x \r\n. \r\n",
		"no end":                                 "no end\r\n",
		"no end\n.":                              "no end\r\n.\r\n",
		"ends in CR\r":                           "ends in CR \r\n",
		"a\x00b\n\x00.\n\x00":                    "a\x00b\r\n\x00.\r\n\x00\r\n",
		"gr\xfcn gr\xc3\xbcn \xff\n":             "gr\xfcn gr\xc3\xbcn \xff\r\n",
		"":                                       "",
		"\n\n\n":                                 "\r\n\r\n\r\n",
		strings.Repeat(".\n", 50_000):            strings.Repeat(".\r\n", 50_000),
		strings.Repeat("\r", 70_000):             strings.Repeat(" ", 70_000) + "\r\n",
		strings.Repeat(".", 10<<20) + "\nlast\n": strings.Repeat(".", 10<<20) + "\r\nlast\r\n",
		strings.Repeat("x", 32<<10-1) + "\n.\nx\n": strings.Repeat("x", 32<<10-1) + "\r\n.\r\nx\r\n", // a dot at the edge of a block
		strings.Repeat("x", 32<<10-1) + "\r\n.":    strings.Repeat("x", 32<<10-1) + "\r\n.\r\n",
	}
	var put, want []string
	for file, text := range messages {
		put, want = append(put, file), append(want, text)
	}
	s.Put(put...)
	for _, secure := range []bool{false, true} {
		c := s.login(secure)
		sizes := ids(c.lines("LIST"))
		for i := range want {
			c.Do(fmt.Sprint("RETR ", i+1), "+OK "+sizes[i]+" ")
			got := c.strict()
			if got != want[i] {
				t.Errorf("%.40q: %.40q, want %.40q", put[i], got, want[i])
			}
			n := len(got)
			if !strings.HasSuffix(put[i], "\n") && n > 0 && fmt.Sprint(n) != sizes[i] {
				n -= 2 // the end of a last line that has none need not be counted
			}
			if fmt.Sprint(n) != sizes[i] {
				t.Errorf("%.40q: LIST %s, RETR %d", put[i], sizes[i], n)
			}
			c.Do(fmt.Sprint("TOP ", i+1, " 1000000"), "+OK")
			if got := c.strict(); got != want[i] {
				t.Errorf("%.40q: TOP has %.40q", put[i], got)
			}
		}
		c.Do("QUIT", "+OK")
	}
}

// P08: lines without an end, a million commands at once, and a client that takes nothing: the session ends or works, memory stays as it was, others are served.
func TestP08_Floods(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put("A: b\n\nc\n")
		s.Must(os.Truncate(s.Alice+"/new/1700000000.M0P1.host", 200<<20)) // NULs
		other := s.login2(true)
		in := s.login(false) // so that the worker is there
		in.lines("TOP 1 0")
		in.Do("QUIT", "+OK")
		front, worker := s.Memory("front"), s.Memory("worker")
		send := func(c *client, block string, n int) {
			b := []byte(block)
			for range n {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}
		for _, c := range []*client{s.dial(false), s.dial(true), s.login(false)} {
			go send(c, strings.Repeat("x", 1<<20), 100)
			c.Want("-ERR line too long")
			c.Ended()
		}
		for _, secure := range []bool{false, true} {
			const commands = 500_000
			c := s.login(secure)
			go func() {
				send(c, strings.Repeat("NOOP\r\n", 1000), commands/1000)
				c.Say("QUIT")
			}()
			text := c.Ended()
			if want := commands*len("+OK\r\n") + len("+OK bye, 1 messages left\r\n"); len(text) != want {
				t.Errorf("%d octets, want %d: %.200q", len(text), want, text)
			}
		}
		slow := s.login(true)
		slow.Say("RETR 1") // and it reads nothing
		slow.Want("+OK ")
		other.Do("STAT", "+OK 0 0")
		for role, before := range map[string]int64{"front": front, "worker": worker} {
			if n := s.Memory(role) - before; n > 24<<20 {
				t.Errorf("%s: %d KiB more than before", role, n>>10)
			}
		}
	})
}

// P09: names of all kinds, passwords with spaces, APOP where it is not offered; nothing is made or opened by a name that has not logged in.
func TestP09_Logins(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0)
	conf, err := os.ReadFile(s.Configuration())
	s.Must(err)
	s.Must(os.WriteFile(s.Configuration(), bytes.ReplaceAll(conf, []byte(" APOP "), []byte(" ")), 0o644))
	s.Must(os.WriteFile(s.Dir+"/etc/passwords", []byte("alice:{PLAIN}secret\nbob:{PLAIN} two  words\n"), 0o640))
	s.All()
	before := s.tree()
	c := s.dial(false)
	for _, line := range []string{"USER", "USER ", "PASS secret", "USER \xff", "USER a\x00b", "USER a\rb", "USER a\nb", "APOP alice c4c9334bac560ecc979e58001b3e22fb", "AUTH APOP"} {
		c.Do(line, "-ERR")
		c.Do("CAPA", "+OK")
		for c.Want("") != "." {
		}
	}
	for i, name := range []string{"../alice", "alice/../bob", "/etc/passwd", ".", "..", "-", "alice:", ":", "*", strings.Repeat("x", 240), "alice\x7f"} {
		d := s.dialFrom(fmt.Sprint("127.0.1.", i+1)) // or each would wait longer than the one before
		d.Do("USER "+name, "+OK")
		d.Do("PASS secret", "-ERR [AUTH]")
		d.Close()
	}
	if after := s.tree(); after != before {
		t.Errorf("what was there:\n%s\nwhat is there:\n%s", before, after)
	}
	for i, password := range []string{"two  words", " two  words ", " two words"} {
		d := s.dialFrom("127.0.2." + fmt.Sprint(i+1))
		d.Do("USER bob", "+OK")
		d.Do("PASS "+password, "-ERR [AUTH]")
		d.Close()
	}
	d := s.dialFrom("127.0.3.1")
	d.Do("USER bob", "+OK")
	d.Do("PASS  two  words", "+OK 0 ")
	d.Do("QUIT", "+OK")
	d = s.dialFrom("127.0.3.2")
	d.Say("USER " + strings.Repeat("x", 1<<20))
	d.Want("-ERR line too long")
	d.Ended()
}

// P09: fifty wrong passwords that were sent at once are five answers, each waited for longer than the one before, and the end.
func TestP09_Guesses(t *testing.T) {
	t.Parallel()
	s := newSite(t, os.Geteuid() != 0).All()
	begin := time.Now()
	c := s.dial(false)
	io.WriteString(c, strings.Repeat("USER alice\r\nPASS wrong\r\n", 50)+"USER alice\r\nPASS secret\r\n")
	d := s.dialFrom("127.0.1.1") // another user, elsewhere, does not wait for it
	d.Do("USER bob", "+OK")
	d.Do("PASS secret", "+OK")
	for range 5 {
		c.Want("+OK")
		c.Want("-ERR [AUTH]")
	}
	if rest := c.Ended(); rest != "" {
		t.Errorf("more: %q", rest)
	}
	if took := time.Since(begin); took < 7*time.Second { // 0, 0, 1, 2 and 4
		t.Error("five guesses took", took)
	}
	s.Logged("disconnect", "why=limit", "rejected=5")
	if log := s.Log(); strings.Index(log, "login=bob") > strings.Index(log, "wait=4.000") {
		t.Error("another waited until the guesses were over")
	}
}

// P10: what comes in clear behind STLS is not executed, with it in one segment or after it; what was said before counts no more.
func TestP10_STLS(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		s.Put(texts(1)...)
		for _, behind := range []string{"USER alice\r\n", "USER alice\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n", "x", "\r\n", "STLS\r\n", "\x16\x03\x01"} {
			c := s.dial(false)
			io.WriteString(c, "STLS\r\n"+behind)
			c.Want("-ERR ")
			if rest := c.Ended(); rest != "" {
				t.Errorf("%q: %q", behind, rest)
			}
			c = s.dial(false)
			c.Do("STLS", "+OK")
			io.WriteString(c, behind+"USER alice\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
			if rest := c.Ended(); strings.Contains(rest, "+OK") || strings.Contains(rest, "-ERR") {
				t.Errorf("in clear after STLS, %q: %q", behind, rest)
			}
		}
		s.Logged("disconnect", "why=protocol")
		s.Logged("disconnect", "why=tls")
		c := s.dial(false)
		c.Do("USER alice", "+OK")
		c.Do("STLS", "+OK")
		c = &client{site.NewClient(t, tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}))}
		c.Do("PASS secret", "-ERR say USER first")
		c.Do("STLS", "-ERR")
		c.Do("USER alice", "+OK")
		c.Do("PASS secret", "+OK 1 ")
		c.Do("QUIT", "+OK")
	})
}

// dialFrom connects in clear from another address of this machine.
func (s *pop3Site) dialFrom(ip string) *client {
	s.T.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", s.Addr)
	s.Must(err)
	c := &client{site.NewClient(s.T, nc)}
	c.Want("+OK ")
	return c
}

// tree is what there is below the homes.
func (s *pop3Site) tree() string {
	s.T.Helper()
	var b strings.Builder
	s.Must(filepath.WalkDir(s.Dir+"/home", func(path string, e fs.DirEntry, err error) error {
		if err == nil || errors.Is(err, fs.ErrPermission) {
			fmt.Fprintln(&b, path)
			err = nil
		}
		return err
	}))
	return b.String()
}
