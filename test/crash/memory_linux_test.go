package crash

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/test/suite"
)

// confine returns a directory of programs like those in bin, each of which enters a group of its own with so much memory.
func confine(t *testing.T, bin string, limit int) (dir string, groups []*suite.MemoryGroup) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range suite.Programs {
		g := suite.NewMemoryGroup(t, limit)
		groups = append(groups, g)
		script := fmt.Sprintf("#!/bin/sh\n%s && exec %s/%s \"$@\"\n", g.Enter(), bin, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, groups
}

// TestF12_Memory is P6: with 64 MB for each program, beside a thousand connections and a thousand waiting messages, messages of
// the largest size arrive whole. No program is killed by the kernel, and no connection is lost.
func TestF12_Memory(t *testing.T) {
	const limit, idle, waiting, large = 64 << 20, 1000, 1000, 50_000_000
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	bin, groups := confine(t, bin, limit)
	s := suite.Start(t, suite.Config{Bin: bin, Users: users, Aliases: aliases, Settings: "relay_clients 127.0.0.0/8\n" +
		"smtpd_session_limit 2000\nsmtpd_client_limit 0\nsmtpd_stress_percent 100\nrecipient_limit 5000\n",
		Routes: "away.test [127.0.0.1]:9\n"})
	pids := s.Pids()

	var sleepers []net.Conn
	for range idle {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sleepers = append(sleepers, c)
	}
	ask := func(say, want string) {
		t.Helper()
		for i, c := range sleepers {
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, say)
			if l, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(l, want) {
				t.Fatalf("connection %d: %q %v", i, l, err)
			}
		}
	}
	ask("", "220 ")
	ask("HELO client.test\r\n", "250 ")

	l := &load{t: t, addr: s.Addr, from: "sender@example.test", seed: 1, most: waiting, targets: []target{{rcpts: []string{"far@away.test"}}}}
	l.start(8)
	if err := suite.Await(patience, "messages taken", func() bool { return l.finished.Load() >= waiting }); err != nil {
		l.wait(true)
		t.Fatal(err)
	}
	l.wait(false)
	if n := l.count(acknowledged); n != waiting {
		t.Fatalf("%d of %d messages were accepted", n, waiting)
	}

	// Two at once, each for two of the users: the largest is one of 50m less our own fields.
	text := bytes.Repeat([]byte(strings.Repeat("0123456789abcdef", 4)+"\r\n"), large/66)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			c, err := dial(s.Addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			m := sent{number: waiting + i}
			if _, err := c.send(&m, "", []string{"alice@example.test", "bob@example.test"}, append([]byte("Subject: large\r\n\r\n"), text...)); err != nil || m.fate != acknowledged {
				t.Errorf("fate %d, %q, %v", m.fate, m.reply, err)
			}
		})
	}
	wg.Wait()
	for _, user := range []string{"alice", "bob"} {
		files, err := s.AwaitDelivered(user, 2, patience)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			body, err := suite.Body(f)
			if err != nil || !bytes.Equal(body, bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))) {
				t.Errorf("%s: %d bytes, which is not what was sent: %v", f, len(body), err)
			}
		}
	}
	ask("NOOP\r\n", "250 ")
	for i, pid := range s.Pids() {
		name := suite.Programs[i]
		killed, err := groups[i].Killed()
		if err != nil {
			t.Error(err)
		}
		if pid != pids[i] || killed > 0 {
			t.Errorf("%s was killed", name)
		}
		t.Logf("%s: at most %s of %d bytes with what the kernel keeps of files", name, groups[i].Peak(), limit)
	}
}
