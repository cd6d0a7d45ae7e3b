package soak

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maildrop is what a reader by POP3 remembers of one user.
type maildrop struct {
	mu sync.Mutex // held for a session
	// Messages that were fetched and marked when the session ended before the reply to QUIT, by unique-id: either they are
	// gone, and have been stored once, or are all still there.
	unsure map[string][]byte
	// Marked in a session that was cut before QUIT: all must be there again. RFC 1939 section 6.
	kept map[string]bool
}

// ending is how readers end their sessions.
type ending int

const (
	quit     ending = iota // as they ought to
	cutEarly               // with messages marked, without QUIT
	cutRetr                // in the midst of a message
	cutQuit                // without having read the reply to QUIT
	inUse                  // as they ought to, and somebody else tries to log in meanwhile
)

// read fetches and removes what a user has, by a session of POP3, and returns how many messages there were.
func (s *site) read(l *ledger, user string, m *maildrop, how ending) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c *conn
	listed := map[string]string{} // unique-ids to numbers
	var order []string
	// A session that was cut has the maildrop until pop3d has seen that it was.
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var used bool
		if c, used, err = s.login(user); err != nil {
			return 0, err
		}
		if !used {
			break
		}
		c.Close()
		if time.Since(begun) > patience {
			return 0, fmt.Errorf("%s: in use for %v", user, patience)
		}
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("maildrop of %s: %w", user, err)
		}
		c.reset()
	}()
	lines, err := c.multi("UIDL")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(lines)) {
		number, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		listed[id] = number
		order = append(order, id)
	}
	for id := range m.kept {
		if listed[id] == "" {
			err = fmt.Errorf("%s was marked, and is gone although there was no QUIT", id)
		}
	}
	for id, text := range m.unsure {
		if listed[id] == "" {
			l.stored(user, text)
		}
	}
	m.kept, m.unsure = map[string]bool{}, map[string][]byte{}
	if err != nil {
		return 0, err
	}
	if how == inUse {
		other, used, err := s.login(user)
		if err != nil {
			return 0, err
		}
		other.Close()
		if !used {
			return 0, fmt.Errorf("two sessions have it")
		}
	}
	fetched := map[string][]byte{}
	for i, id := range order {
		if i == 200 {
			break // as much as there is memory for
		}
		if how == cutRetr && (i == len(order)-1 || rand.IntN(10) == 0) {
			fmt.Fprintf(c, "RETR %s\r\n", listed[id])
			io.CopyN(io.Discard, c.r, rand.Int64N(500))
			for id := range fetched {
				m.kept[id] = true
			}
			return 0, nil
		}
		if fetched[id], err = c.multi("RETR " + listed[id]); err != nil {
			return 0, err
		}
		if err = c.ok("DELE " + listed[id]); err != nil {
			return 0, err
		}
	}
	switch how {
	case cutRetr:
		return 0, nil
	case cutEarly:
		for id := range fetched {
			m.kept[id] = true
		}
		return 0, nil
	case cutQuit:
		m.unsure = fetched
		io.WriteString(c, "QUIT\r\n"[:6-rand.IntN(2)*rand.IntN(3)])
		return 0, nil
	}
	if err = c.ok("QUIT"); err != nil {
		return 0, err
	}
	for _, text := range fetched {
		l.stored(user, text)
	}
	return len(fetched), nil
}

// login opens a session of POP3, in clear, by STLS or under TLS; used: somebody else has the maildrop.
func (s *site) login(user string) (c *conn, used bool, err error) {
	way := rand.IntN(4)
	if way == 0 {
		c, err = dial(s.pop3s, "127.0.1.1", s.tls)
	} else {
		c, err = dial(s.pop3, "127.0.1.1", nil)
	}
	if err != nil {
		return nil, false, err
	}
	fail := func(err error) (*conn, bool, error) {
		c.Close()
		return nil, false, err
	}
	if _, err := c.line("+OK", "connecting"); err != nil {
		return fail(err)
	}
	if way == 1 {
		if err := c.ok("STLS"); err != nil {
			return fail(err)
		}
		if err := c.startTLS(s.tls); err != nil {
			return fail(err)
		}
	}
	if err := c.ok("USER " + user); err != nil {
		return fail(err)
	}
	io.WriteString(c, "PASS "+user+"\r\n")
	line, err := c.line("", "PASS")
	if strings.HasPrefix(line, "-ERR [IN-USE]") {
		return c, true, nil
	}
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = fmt.Errorf("PASS: %q", line)
	}
	if err != nil {
		return fail(err)
	}
	return c, false, nil
}

// ok says a line whose response must be +OK.
func (c *conn) ok(line string) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return err
	}
	_, err := c.line("+OK", line)
	return err
}

func (c *conn) line(begin, after string) (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s: %w", after, err)
	}
	if !strings.HasPrefix(line, begin) {
		return "", fmt.Errorf("%s: %q", after, line)
	}
	return line, nil
}

// multi says a line and returns what comes behind +OK, with CRLF, without the dots.
func (c *conn) multi(command string) ([]byte, error) {
	if err := c.ok(command); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		if string(line) == ".\r\n" {
			return b.Bytes(), nil
		}
		b.Write(bytes.TrimPrefix(line, []byte(".")))
	}
}

// direct fetches and removes what a user has in the files themselves, as a mail program of the same machine does.
func (s *site) direct(l *ledger, user string) (int, error) {
	dir := filepath.Join(s.Maildir(user), "new")
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return 0, nil // before the first delivery
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return 0, err
		}
		l.stored(user, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")))
	}
	return len(entries), err
}

// reader goes round all mailboxes whose number is its own, modulo all readers, until it is stopped.
func (s *site) reader(l *ledger, drops []maildrop, at, all int, stop <-chan struct{}) {
	for {
		found := 0
		for i := at; i < len(s.Users); i += all {
			n, err := s.visit(l, drops, i)
			if err != nil {
				s.t.Error(err)
			}
			found += n
			select {
			case <-stop:
				return
			default:
			}
		}
		if found == 0 {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// visit reads one mailbox: those by POP3 that have a maildrop, the others directly.
func (s *site) visit(l *ledger, drops []maildrop, i int) (int, error) {
	if i >= len(drops) {
		return s.direct(l, s.Users[i])
	}
	how := ending(rand.IntN(20))
	if how > inUse || s.willing.Load() {
		how = quit
	}
	return s.read(l, s.Users[i], &drops[i], how)
}
