// Package auth tests internal/authwire with strangers: our clients ask Debian's Dovecot, and Postfix and Exim ask our server.
package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"os"

	"postamt/internal/authwire"
)

// memory judges PLAIN and LOGIN by a table.
type memory struct {
	passwords map[string]string

	mu   sync.Mutex
	seen []authwire.Request
	down bool // no answer can be given
}

var mechanisms = []authwire.Mechanism{{Name: "PLAIN", Flags: authwire.Plaintext}, {Name: "LOGIN", Flags: authwire.Plaintext},
	{Name: "SCRAM-SHA-256-PLUS", Flags: authwire.ChannelBinding}}

func (m *memory) Begin(_ context.Context, r *authwire.Request) authwire.Exchange {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, *r)
	return &exchange{m: m, login: r.Mechanism == "LOGIN"}
}

func (m *memory) last() authwire.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) == 0 {
		return authwire.Request{}
	}
	return m.seen[len(m.seen)-1]
}

func (m *memory) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

type exchange struct {
	m     *memory
	login bool
	user  string
}

func (x *exchange) End() {}

func (x *exchange) Next(_ context.Context, response []byte) authwire.Reply {
	x.m.mu.Lock()
	defer x.m.mu.Unlock()
	switch {
	case x.m.down:
		return authwire.Reply{Code: authwire.TempFail, Err: errors.New("no database")}
	case response == nil && x.login:
		return authwire.Reply{Status: authwire.Continue, Data: []byte("Username:")}
	case response == nil:
		return authwire.Reply{Status: authwire.Continue}
	case x.login && x.user == "":
		x.user = string(response)
		return authwire.Reply{Status: authwire.Continue, Data: []byte("Password:")}
	case x.login:
		return x.m.judge(x.user, string(response))
	}
	if w := bytes.Split(response, []byte{0}); len(w) == 3 {
		return x.m.judge(string(w[1]), string(w[2]))
	}
	return authwire.Reply{}
}

func (m *memory) judge(user, password string) authwire.Reply {
	if want, ok := m.passwords[user]; ok && want == password {
		return authwire.Reply{Status: authwire.OK, User: user, Fields: authwire.Fields{{Name: "colour", Value: "blue\tand\nred"}}}
	}
	return authwire.Reply{User: user, Reason: "no luck"}
}

// authd is our server on a Unix socket that everybody may use. It can die as a killed process does: socket file stays, connections break.
type authd struct {
	t      *testing.T
	path   string
	server *authwire.Server
	die    func()
}

func startAuthd(t *testing.T, m *memory) *authd {
	dir, err := os.MkdirTemp("", "authd-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &authd{t: t, path: filepath.Join(dir, "auth"), server: &authwire.Server{Authenticator: m, Mechanisms: mechanisms}}
	a.start()
	t.Cleanup(func() { a.die() })
	return a
}

func (a *authd) start() {
	os.Remove(a.path)
	l, err := net.Listen("unix", a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(a.path, 0o666); err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { a.server.ServeConn(ctx, c) })
		}
	})
	a.die = sync.OnceFunc(func() { cancel(); l.Close(); wg.Wait() })
}

// client speaks SMTP as plainly as possible: what a library would hide is what is tested.
type client struct {
	t *testing.T
	c net.Conn
	r []byte
}

func smtp(t *testing.T, addr string) *client {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	s := &client{t: t, c: c}
	s.reply()
	s.say("EHLO client.test")
	return s
}

// reply reads one reply, all its lines.
func (s *client) reply() string {
	s.t.Helper()
	start := 0
	for {
		for {
			i := bytes.IndexByte(s.r[start:], '\n')
			if i < 0 {
				break
			}
			line := s.r[start : start+i+1]
			start += i + 1
			if len(line) < 4 || line[3] != '-' {
				reply := string(s.r[:start])
				s.r = s.r[start:]
				return reply
			}
		}
		var b [4096]byte
		n, err := s.c.Read(b[:])
		if err != nil {
			s.t.Fatalf("SMTP: %v", err)
		}
		s.r = append(s.r, b[:n]...)
	}
}

func (s *client) say(line string) string {
	s.t.Helper()
	if _, err := s.c.Write([]byte(line + "\r\n")); err != nil {
		s.t.Fatalf("SMTP: %v", err)
	}
	return s.reply()
}

func (s *client) want(line, code string) {
	s.t.Helper()
	if got := s.say(line); !strings.HasPrefix(got, code) {
		s.t.Errorf("%s: want %s, got %q", line, code, got)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func plain(user, password string) string { return b64("\x00" + user + "\x00" + password) }
