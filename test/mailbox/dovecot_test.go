// Package mailbox tests the text files of a maildir with strangers: Debian's Dovecot and we write them in turn, and we take over Courier's.
package mailbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/uidlist"
	"postamt/test/peers"
)

// client speaks IMAP or POP3 just well enough.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	return c
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimRight(s, "\r\n")
}

// do sends a command, with a literal if there is one, and returns the untagged lines.
func (c *client) do(command string, literal ...string) []string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprint("a", c.n, " ")
	for _, l := range literal {
		command += fmt.Sprintf(" {%d+}\r\n%s", len(l), l)
	}
	io.WriteString(c.conn, tag+command+"\r\n")
	var all []string
	for {
		s := c.line()
		if rest, ok := strings.CutPrefix(s, tag); ok {
			if !strings.HasPrefix(rest, "OK") {
				c.t.Fatalf("%s: %s", command, rest)
			}
			return append(all, rest)
		}
		all = append(all, s)
	}
}

// uidl logs in by POP3 and returns the unique-ids in their order.
func uidl(t testing.TB, addr string) []string {
	t.Helper()
	c := dial(t, addr)
	io.WriteString(c.conn, "USER alice\r\nPASS secret\r\nUIDL\r\nQUIT\r\n")
	for range 3 {
		if s := c.line(); !strings.HasPrefix(s, "+OK") {
			t.Fatal(s)
		}
	}
	var all []string
	for s := c.line(); s != "."; s = c.line() {
		_, id, _ := strings.Cut(s, " ")
		all = append(all, id)
	}
	return all
}

// mailbox is alice's, in which we and Dovecot's account may both write.
type mailbox struct {
	t    testing.TB
	path string
	dir  *os.File
	list *uidlist.List
	uids map[string]uidlist.UID // by base name, as we have read them
}

func newMaildir(t testing.TB) (*mailbox, string) {
	t.Helper()
	root, err := os.MkdirTemp("", "mailbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, d := range []string{"", "/alice", "/alice/Maildir", "/alice/Maildir/tmp", "/alice/Maildir/new", "/alice/Maildir/cur"} {
		if d != "" {
			if err := os.Mkdir(root+d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		// Two accounts write here. Files get the mode of the directory.
		if err := os.Chmod(root+d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	m := &mailbox{t: t, path: root + "/alice/Maildir", uids: make(map[string]uidlist.UID)}
	if m.dir, err = durable.OpenDir(m.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.dir.Close() })
	m.list = uidlist.New(m.dir, m.dir, nil)
	return m, root
}

func dovecot(t testing.TB, root string) *peers.DovecotServer {
	t.Helper()
	s := peers.Dovecot(t, peers.Config{Protocols: []string{"imap", "pop3"}, Maildirs: root, Users: []string{"alice"}})
	// What StartDovecot has made its account's own.
	for _, d := range []string{root, root + "/alice"} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (m *mailbox) put(name, subject string) {
	m.t.Helper()
	if err := os.WriteFile(m.path+"/"+name, []byte("Subject: "+subject+"\n\ntext\n"), 0o666); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(m.path+"/"+name, 0o666); err != nil {
		m.t.Fatal(err)
	}
}

type reader interface {
	Read(func(uidlist.Entry) error) (uidlist.Change, error)
}

func (m *mailbox) read(r reader) uidlist.Change {
	m.t.Helper()
	new := make(map[string]uidlist.UID)
	change, err := r.Read(func(e uidlist.Entry) error { new[e.Name] = e.UID; return nil })
	if err != nil {
		m.t.Fatal(err)
	}
	if change == uidlist.Replaced {
		m.uids = new
	}
	maps.Copy(m.uids, new)
	return change
}

// lock takes the lock and reads what is new, and makes the list.
func (m *mailbox) lock() *uidlist.Tx {
	m.t.Helper()
	tx, err := m.list.Lock(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if m.read(tx) == uidlist.Missing {
		if err := tx.Create(); err != nil {
			m.t.Fatal(err)
		}
		m.read(tx)
	}
	return tx
}

// add puts messages into cur and gives them UIDs, as our imapd will.
func (m *mailbox) add(keyword string, names ...string) {
	m.t.Helper()
	tx := m.lock()
	defer tx.Unlock()
	letter := ""
	if keyword != "" {
		i, err := tx.AddKeyword(keyword)
		if err != nil {
			m.t.Fatal(err)
		}
		letter = uidlist.Letters(1 << i)
	}
	var entries []uidlist.Entry
	for _, n := range names {
		m.put("cur/"+n+":2,S"+letter, n)
		entries = append(entries, uidlist.Entry{Name: n})
	}
	if err := tx.Append(entries); err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		m.uids[e.Name] = e.UID
	}
}

// ours is what we think of the messages that are there: UID, keywords.
func (m *mailbox) ours() map[uidlist.UID]string {
	m.t.Helper()
	m.read(m.list)
	k, err := m.list.Keywords()
	if err != nil {
		m.t.Fatal(err)
	}
	all := make(map[uidlist.UID]string)
	for _, sub := range []string{"cur", "new"} {
		files, err := os.ReadDir(m.path + "/" + sub)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, f := range files {
			_, flags, _ := strings.Cut(f.Name(), ":2,")
			var words []string
			for _, c := range flags {
				if c >= 'a' && c <= 'z' {
					words = append(words, k[c-'a'])
				}
			}
			slices.Sort(words)
			all[m.uids[uidlist.BaseName(f.Name())]] = strings.Join(words, " ")
		}
	}
	return all
}

// theirs is what Dovecot says.
func theirs(t testing.TB, c *client) map[uidlist.UID]string {
	t.Helper()
	all := make(map[uidlist.UID]string)
	for _, s := range c.do("UID FETCH 1:* (UID FLAGS)") {
		_, rest, ok := strings.Cut(s, " FETCH (UID ")
		if !ok {
			continue
		}
		number, flags, _ := strings.Cut(rest, " FLAGS (")
		uid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(s)
		}
		var words []string
		for w := range strings.FieldsSeq(strings.TrimRight(flags, ")")) {
			if w[0] != '\\' {
				words = append(words, w)
			}
		}
		slices.Sort(words)
		all[uidlist.UID(uid)] = strings.Join(words, " ")
	}
	return all
}

func compare(t testing.TB, what any, ours, theirs map[uidlist.UID]string) {
	t.Helper()
	if !maps.Equal(ours, theirs) {
		t.Fatalf("step %v:\nours   %v\ntheirs %v", what, ours, theirs)
	}
}

func login(t testing.TB, s *peers.DovecotServer) *client {
	c := dial(t, s.IMAP)
	c.do("LOGIN alice secret")
	return c
}

// We write a list; Dovecot opens it, and then the two take turns.
func TestTurnsWithDovecot(t *testing.T) {
	m, root := newMaildir(t)
	m.add("$Label1", "1000.one.h", "1001.two.h")
	m.add("", "1002.three.h")
	s := dovecot(t, root)
	c := login(t, s)
	selected := strings.Join(c.do("SELECT INBOX"), "\n")
	for _, want := range []string{fmt.Sprintf("[UIDVALIDITY %d]", m.list.Header().Validity), "[UIDNEXT 4]", "* 3 EXISTS", "$Label1"} {
		if !strings.Contains(selected, want) {
			t.Errorf("SELECT has no %s:\n%s", want, selected)
		}
	}
	compare(t, "begin", m.ours(), theirs(t, c))

	const steps = 300
	for i := range steps {
		name := fmt.Sprintf("%d.m.h", 2000+i)
		switch i % 10 {
		case 0, 5:
			m.add([]string{"", "$Label1", "$forwarded", fmt.Sprint("k", i/50)}[i/5%4], name)
		case 1:
			c.do("APPEND INBOX ($Label2)", "Subject: appended\r\n\r\ntext\r\n")
		case 2: // delivered, and found by Dovecot
			m.put("new/"+name, name)
		case 3: // delivered, and found by us
			m.put("new/"+name, name)
			tx := m.lock()
			if m.uids[name] == 0 {
				e := []uidlist.Entry{{Name: name}}
				if err := tx.Append(e); err != nil {
					t.Fatal(err)
				}
				m.uids[name] = e[0].UID
			}
			if err := tx.Unlock(); err != nil {
				t.Fatal(err)
			}
		case 4:
			c.do(fmt.Sprintf("UID STORE %d +FLAGS (dove%d)", slices.Max(slices.Collect(maps.Keys(m.ours()))), i/60))
		case 6:
			c.do(fmt.Sprintf("UID STORE %d +FLAGS (\\Deleted)", slices.Min(slices.Collect(maps.Keys(theirs(t, c))))))
			c.do("EXPUNGE")
		case 7: // we remove one
			files, _ := filepath.Glob(m.path + "/cur/*")
			os.Remove(files[0])
		case 8:
			files, _ := filepath.Glob(m.path + "/*/*m.h*")
			there := make(map[string]bool)
			for _, f := range files {
				there[uidlist.BaseName(filepath.Base(f))] = true
			}
			tx := m.lock()
			if err := tx.Rewrite(func(e *uidlist.Entry) bool { return i%20 != 8 || !strings.Contains(e.Name, ".m.h") || there[e.Name] }); err != nil {
				t.Fatal(err)
			}
			tx.Unlock()
		}
		c.do("CHECK")
		got := theirs(t, c)
		compare(t, i, m.ours(), got)
	}
	if log, _ := os.ReadFile(s.Log); strings.Contains(string(log), "Broken") || strings.Contains(string(log), "Duplicate file") || strings.Contains(string(log), "lowered") || strings.Contains(string(log), "Error:") {
		t.Errorf("Dovecot's log:\n%.3000s", log)
	}

	// A Dovecot without an index knows only the files, and POP3 agrees.
	c.do("LOGOUT")
	indexes, _ := filepath.Glob(m.path + "/dovecot.index*")
	for _, f := range indexes {
		os.Remove(f)
	}
	if len(indexes) == 0 {
		t.Error("Dovecot has no index?")
	}
	var want []string
	ours := m.ours()
	for _, uid := range slices.Sorted(maps.Keys(ours)) {
		want = append(want, fmt.Sprintf("%08x%08x", uid, m.list.Header().Validity))
	}
	if got := uidl(t, s.POP3); !slices.Equal(got, want) {
		t.Errorf("UIDL:\n%v, want\n%v", got, want)
	}
	c = login(t, s)
	selected = strings.Join(c.do("SELECT INBOX"), "\n")
	for _, want := range []string{fmt.Sprintf("[UIDVALIDITY %d]", m.list.Header().Validity), fmt.Sprintf("[UIDNEXT %d]", m.list.Header().Next)} {
		if !strings.Contains(selected, want) {
			t.Errorf("SELECT has no %s:\n%s", want, selected)
		}
	}
	compare(t, "without index", ours, theirs(t, c))
}

// Both append at once, through one lock.
func TestAtOnceWithDovecot(t *testing.T) {
	m, root := newMaildir(t)
	s := dovecot(t, root)
	c := login(t, s)
	c.do("SELECT INBOX")
	const each = 60
	var wg sync.WaitGroup
	wg.Go(func() {
		for range each {
			c.do("APPEND INBOX", "Subject: theirs\r\n\r\ntext\r\n")
		}
	})
	for i := range each {
		m.add("", fmt.Sprintf("%d.ours.h", 3000+i))
	}
	wg.Wait()
	c.do("CHECK")
	ours := m.ours()
	compare(t, "end", ours, theirs(t, c))
	if len(ours) != 2*each {
		t.Errorf("%d messages", len(ours))
	}
	if log, _ := os.ReadFile(s.Log); strings.Contains(string(log), "Error:") || strings.Contains(string(log), "Warning:") {
		t.Errorf("Dovecot's log:\n%.3000s", log)
	}
}

// Validity numbers of new folders come from one counter, whoever makes them.
func TestValidityWithDovecot(t *testing.T) {
	m, root := newMaildir(t)
	m.add("", "1000.one.h")
	s := dovecot(t, root)
	c := login(t, s)
	seen := map[string]bool{fmt.Sprint(m.list.Header().Validity): true}
	for i := range 5 {
		c.do(fmt.Sprint("CREATE a", i))
		status := strings.Join(c.do(fmt.Sprintf("STATUS a%d (UIDVALIDITY)", i)), " ")
		_, v, _ := strings.Cut(status, "UIDVALIDITY ")
		v, _, _ = strings.Cut(v, ")")
		ours, err := uidlist.NextValidity(m.dir, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(m.path+"/dovecot-uidvalidity", 0o666)
		if v == "" || seen[v] || seen[fmt.Sprint(ours)] || v == fmt.Sprint(ours) {
			t.Errorf("%s, %d: seen %v", v, ours, seen)
		}
		seen[v], seen[fmt.Sprint(ours)] = true, true
	}
}

// Courier's files become ours, and Dovecot shows its POP3 clients what Courier has shown them.
func TestCourierForDovecot(t *testing.T) {
	m, root := newMaildir(t)
	for _, n := range []string{"100.a.h", "101.b.h", "102.c.h"} {
		m.put("cur/"+n+":2,S", n)
	}
	if err := errors.Join(os.WriteFile(m.path+"/courierimapuiddb", []byte("1 1234567 9\n3 102.c.h\n5 101.b.h\n7 100.a.h\n"), 0o666),
		os.WriteFile(m.path+"/courierpop3dsizelist", []byte("/3 14 77\n100.a.h:2,S 30 11:77:0\n101.b.h:2,S 30 12:77:0\n102.c.h:2,S 30 13:77:0\n"), 0o666)); err != nil {
		t.Fatal(err)
	}
	m.lock().Unlock()
	s := dovecot(t, root)
	if got := uidl(t, s.POP3); !slices.Equal(got, []string{"UID11-77", "UID12-77", "UID13-77"}) {
		t.Error(got)
	}
	c := login(t, s)
	if selected := strings.Join(c.do("SELECT INBOX"), "\n"); !strings.Contains(selected, "[UIDVALIDITY 1234567]") {
		t.Error(selected)
	}
	compare(t, "begin", m.ours(), theirs(t, c))
}
