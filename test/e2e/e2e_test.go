// Package e2e sends messages through the whole of postamt: the programs of bin/, started as an administrator starts
// them, and around them programs and servers of other people.
//
// Each test has a System of its own (test/suite), with the queue checked when it ends, and runs beside the others.
// What a test sends it sends by tools that are not ours, or byte by byte over a plain connection, so that our
// client and our server cannot agree on a mistake.
package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/test/suite"
)

// limit is for whatever must happen soon; a machine under load may take its time.
const limit = 40 * time.Second

// programs are built once, not for each System.
var programs = sync.OnceValues(suite.Build)

// start runs a System beside those of other tests.
func start(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	t.Parallel()
	return serve(t, c)
}

// serve is start in a test that has said already that it is parallel.
func serve(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	c.Bin = bin
	return suite.Start(t, c)
}

// tool returns the path of a program of the machine. Where test/deps.sh has run, none may be missing.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed; run test/deps.sh")
	}
	return path
}

// missing skips the test by name, but fails it in CI, where nothing is missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getenv("SKIP_MISSING") != "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// output runs a command to its end and returns what it printed.
func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(cmd.Path), err, out)
	}
	return out
}

// A client is a connection on which a test says what it likes.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// dial connects to host:port or to the path of a socket, reads the greeting and says EHLO.
func dial(t *testing.T, addr string) *client {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.expect("220")
	c.say("250", "EHLO client.test")
	return c
}

// reply reads one reply, with all its lines.
func (c *client) reply() string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reading a reply: %v, after %q", err, all.String()+line)
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

// expect reads a reply that must begin with the given code, or code and enhanced code.
func (c *client) expect(begin string) string {
	c.t.Helper()
	r := c.reply()
	if !strings.HasPrefix(r, begin) {
		c.t.Fatalf("got %q, want %s", r, begin)
	}
	return r
}

// raw writes bytes as they are.
func (c *client) raw(text string) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(limit)) // for what is said now; between two messages a test may wait long
	if _, err := c.conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// say sends a command and expects its reply.
func (c *client) say(begin, command string) string {
	c.t.Helper()
	c.raw(command + "\r\n")
	r := c.reply()
	if !strings.HasPrefix(r, begin) {
		c.t.Fatalf("%s: got %q, want %s", command, r, begin)
	}
	return r
}

// send sends one message to a server of ours and returns its queue id. from and to are a path in angle brackets, and
// parameters.
func (c *client) send(from string, to []string, data []byte) (id string) {
	c.t.Helper()
	r := c.hand(from, to, data)
	_, id, _ = strings.Cut(strings.TrimSpace(r), "queued as ")
	if len(id) != 20 {
		c.t.Fatalf("no id in %q", r)
	}
	return id
}

// hand sends one message to anyone's server and returns the reply to it.
func (c *client) hand(from string, to []string, data []byte) string {
	c.t.Helper()
	c.say("250", "MAIL FROM:"+from)
	for _, rcpt := range to {
		c.say("250", "RCPT TO:"+rcpt)
	}
	c.say("354", "DATA")
	c.raw(string(stuff(data)) + ".\r\n")
	return c.expect("250")
}

// stuff doubles the dots that begin a line: RFC 5321 section 4.5.2.
func stuff(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(data, []byte(".")) {
		data = append([]byte("."), data...)
	}
	return data
}

// unix has LF where the wire has CR LF, as a maildir has it.
func unix(data []byte) []byte { return bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")) }

// note is a small message.
func note(subject string) []byte {
	return fmt.Appendf(nil, "From: <alice@example.test>\r\nSubject: %s\r\n\r\nThis is %s.\r\n", subject, subject)
}

// inbox waits for exactly n messages of a user, and returns their text.
func inbox(t *testing.T, s *suite.System, user string, n int) []string {
	t.Helper()
	paths, err := s.AwaitDelivered(user, n, limit)
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) != n {
		t.Errorf("%s has %d messages, want %d", user, len(paths), n)
	}
	return texts(t, paths)
}

func texts(t *testing.T, paths []string) []string {
	t.Helper()
	var all []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// empty waits until the queue is.
func empty(t *testing.T, s *suite.System) {
	t.Helper()
	if err := s.AwaitEmpty(limit); err != nil {
		t.Fatal(err)
	}
}

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if err := suite.Await(limit, what, condition); err != nil {
		t.Fatal(err)
	}
}
