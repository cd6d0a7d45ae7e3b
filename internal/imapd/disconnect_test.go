package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/maillog"
)

// rude is a client on a socket, whose session ends when it has been rude.
type rude struct {
	net.Conn
	in   *bufio.Reader
	done chan struct{}
	dir  string // the maildir
}

func newRude(t *testing.T, conf *Config) *rude {
	t.Helper()
	return rudeTo(t, NewServer(conf))
}

func rudeTo(t *testing.T, s *Server) *rude {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	dir := t.TempDir()
	open := openAt(t, dir)
	c := &rude{Conn: theirs, in: bufio.NewReader(theirs), done: make(chan struct{}), dir: dir}
	theirs.SetDeadline(time.Now().Add(30 * time.Second))
	go func() {
		defer close(c.done)
		defer ours.Close()
		if l := s.Authorize(t.Context(), ours, IMAP, testPeer); l != nil {
			s.Serve(t.Context(), l.Conn, open, l.Note)
		}
	}()
	return c
}

// say sends, and reads up to a line that begins so.
func (c *rude) say(t *testing.T, text, until string) {
	t.Helper()
	io.WriteString(c, text)
	for {
		l, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, l)
		}
		if strings.HasPrefix(l, until) {
			return
		}
	}
}

// ended waits until nobody serves him any more.
func (c *rude) ended(t *testing.T) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the session goes on")
	}
}

// I18: who stops to read in the midst of a gigabyte is not waited for longer than the time to write.
func TestI18_StopsReading(t *testing.T) {
	for _, x := range []struct {
		encoding, item string
		size           int64
	}{{"8bit", "BODY[]", 1 << 30}, {"binary", "BINARY[1]", 64 << 20}, {"base64", "BINARY.PEEK[1]", 64 << 20}} {
		conf := testConfig()
		conf.writeTime = 100 * time.Millisecond
		c := newRude(t, conf)
		header := "Content-Type: application/x\nContent-Transfer-Encoding: " + x.encoding + "\n\n"
		name := filepath.Join(c.dir, "cur", fmt.Sprintf("1.x.localhost,S=%d,W=%d:2,S", x.size, x.size+3))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		text := []byte(header)
		if x.encoding == "base64" {
			text = append(text, bytes.Repeat([]byte("QUFB"), int(x.size)/4)...)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, x.size); err != nil { // the rest takes no room on the disk
			t.Fatal(err)
		}
		c.say(t, enter+"a2 SELECT INBOX\r\na3 FETCH 1 "+x.item+"\r\n", "* 1 FETCH ("+strings.Replace(x.item, ".PEEK", "", 1)+" ")
		if _, err := io.CopyN(io.Discard, c.in, 1<<20); err != nil {
			t.Error(err)
		}
		c.ended(t)
	}
}

// I18: who leaves in the midst of a literal leaves nothing.
func TestI18_Leaves(t *testing.T) {
	for _, last := range []string{"a4 APPEND INBOX {100000}", "a4 APPEND INBOX {5+}\r\nabcde {100000}", "a4 APPEND INBOX CATENATE (URL /INBOX/;UID=1 TEXT {100000}",
		"a4 REPLACE 1 INBOX {100000}", "a4 UID REPLACE 1 INBOX CATENATE (TEXT {100000}", "a4 APPEND INBOX ~{100000}"} {
		c := newRude(t, testConfig())
		c.say(t, enter+"a2 APPEND INBOX {5+}\r\nfirst\r\na3 SELECT INBOX\r\n", "a3 OK")
		c.say(t, last+"\r\n", "+")
		io.WriteString(c, "half of it")
		c.Close()
		c.ended(t)
		for dir, want := range map[string]int{"cur": 0, "new": 1, "tmp": 0} {
			if files, err := os.ReadDir(filepath.Join(c.dir, dir)); err != nil || len(files) != want {
				t.Errorf("%q: in %s are %v, %v", last, dir, files, err)
			}
		}
	}
}

// I27: a search whose client has left is not gone on with, and that is no problem of the server's.
func TestI27_Leaves(t *testing.T) {
	const messages = 2000
	conf := testConfig()
	conf.progressTime = time.Nanosecond
	s := NewServer(conf)
	var log bytes.Buffer
	s.Log = maillog.New(&log, "imapd")
	c := rudeTo(t, s)
	if err := os.MkdirAll(filepath.Join(c.dir, "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if err := os.WriteFile(filepath.Join(c.dir, "cur", fmt.Sprintf("1.x%d.localhost:2,S", i)), []byte("Subject: s\n\nHello\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.say(t, enter+"a2 SELECT INBOX\r\na3 SEARCH BODY x\r\n", "* OK [INPROGRESS (\"a3\" ")
	c.Close()
	c.ended(t)
	s.Log.Close()
	if l := log.String(); !strings.Contains(l, ": mailbox why=lost ") || strings.Contains(l, " problem ") {
		t.Error(l)
	}
}
