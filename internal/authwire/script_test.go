package authwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A script is a dialogue with a server: "C:" is sent, "S:" must come next, "* " must be the rest of a line. A space is a tab, "~" a space,
// "{text}" is text in base64 with "^" for NUL, "$name" binds once and must then agree. "S: <end>" is the end of the connection, "C: <end>" makes it.
type script struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	vars map[string]string
}

func newScript(t *testing.T, c net.Conn) *script {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &script{t, c, bufio.NewReader(c), make(map[string]string)}
}

// run plays lines; on another script with the same vars, one connection can use what another learned.
func (s *script) run(lines string) {
	s.t.Helper()
	for _, line := range strings.Split(lines, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#':
		case line == "C: <end>":
			s.c.Close()
		case line == "S: <end>":
			if b, err := s.r.ReadByte(); err == nil {
				s.t.Fatalf("want the end of the connection, got %q", b)
			}
		case strings.HasPrefix(line, "C: "):
			if _, err := s.c.Write(append(s.wire(line[3:]), '\n')); err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
		case strings.HasPrefix(line, "S: "):
			got, err := s.r.ReadString('\n')
			if err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
			s.match(line[3:], strings.TrimSuffix(got, "\n"))
		default:
			s.t.Fatalf("not a line of a script: %s", line)
		}
	}
}

func (s *script) wire(line string) []byte {
	words := strings.Split(line, " ")
	for i, w := range words {
		if before, text, ok := strings.Cut(w, "{"); ok {
			w = before + base64.StdEncoding.EncodeToString([]byte(strings.NewReplacer("^", "\x00", "~", " ", "}", "").Replace(text)))
		}
		if strings.HasPrefix(w, "$") {
			w = s.vars[w]
		}
		words[i] = strings.ReplaceAll(w, "~", " ")
	}
	return []byte(strings.Join(words, "\t"))
}

func (s *script) match(want, got string) {
	s.t.Helper()
	ws, gs := strings.Split(want, " "), strings.Split(got, "\t")
	for i, w := range ws {
		switch {
		case w == "*":
			return
		case i >= len(gs):
			s.t.Fatalf("want %s, got %q", want, got)
		case strings.HasPrefix(w, "$") && s.vars[w] == "":
			s.vars[w] = gs[i]
		case string(s.wire(w)) != gs[i]:
			s.t.Fatalf("want %s, got %q: word %q", want, got, gs[i])
		}
	}
	if len(gs) != len(ws) {
		s.t.Fatalf("want %s, got %q", want, got)
	}
}

// memory is an Authenticator with a few mechanisms that are made for tests, and a Users.
type memory struct {
	passwords map[string]string
	seen      chan *Request // when not nil, gets every request
	live      sync.WaitGroup
}

var testMechanisms = []Mechanism{
	{"PLAIN", Plaintext},
	{"LOGIN", Plaintext},
	{"BIND", Active | MutualAuth | ChannelBinding}, // asks for the channel's data, and wants it to be "channel of USER"
	{"FINAL", Dictionary},                          // OK with data
	{"SLOW", 0},                                    // never answers
	{"DOWN", 0},                                    // cannot answer
	{"NOBODY", 0},                                  // OK without a user, and the zero reply
}

func newMemory() *memory {
	return &memory{passwords: map[string]string{"alice": "secret", "bob": "hidden"}}
}

func (m *memory) Begin(ctx context.Context, r *Request) Exchange {
	m.live.Add(1)
	if m.seen != nil {
		m.seen <- r
	}
	return &memoryExchange{m: m, r: r}
}

type memoryExchange struct {
	m    *memory
	r    *Request
	user string
	step int
}

func (x *memoryExchange) End() { x.m.live.Done() }

func (x *memoryExchange) judge(user, password string) Reply {
	if want, ok := x.m.passwords[user]; ok && want == password {
		return Reply{Status: OK, User: user, Fields: Fields{{"uid", "1000"}}}
	}
	return Reply{User: user}
}

func (x *memoryExchange) Next(ctx context.Context, response []byte) Reply {
	x.step++
	switch x.r.Mechanism {
	case "PLAIN":
		if response == nil {
			return Reply{Status: Continue}
		}
		if w := bytes.Split(response, []byte{0}); len(w) == 3 {
			return x.judge(string(w[1]), string(w[2]))
		}
	case "LOGIN":
		switch {
		case response == nil:
			return Reply{Status: Continue, Data: []byte("Username:")}
		case x.user == "":
			x.user = string(response)
			return Reply{Status: Continue, Data: []byte("Password:")}
		}
		return x.judge(x.user, string(response))
	case "BIND":
		if x.r.ChannelBinding == nil {
			return Reply{Reason: "no channel"}
		}
		data, err := x.r.ChannelBinding(ctx, "tls-exporter")
		if err != nil {
			return unavailable(err)
		}
		if string(data) == "channel of "+string(response) {
			return Reply{Status: OK, User: string(response)}
		}
	case "FINAL":
		return Reply{Status: OK, User: "alice", Data: []byte("v=proof")}
	case "SLOW":
		<-ctx.Done()
	case "DOWN":
		return Reply{Code: TempFail, Err: errors.New("no database")}
	case "NOBODY":
		if response != nil {
			return Reply{Status: OK}
		}
		return Reply{}
	}
	return Reply{}
}

func (m *memory) Lookup(ctx context.Context, q *Query) (User, error) {
	if _, ok := m.passwords[q.User]; ok {
		return User{q.User, Fields{{"uid", "1000"}, {"home", "/home/" + q.User}}}, nil
	}
	if q.User == "broken" || !plausible(q.User) {
		return User{}, errors.New("no database")
	}
	if q.User == "slow" {
		<-ctx.Done()
		return User{}, ctx.Err()
	}
	return User{}, fmt.Errorf("memory: %w", ErrNotFound)
}

func (m *memory) Pass(ctx context.Context, q *Query) (User, error) { return m.Lookup(ctx, q) }

func (m *memory) List(_ context.Context, q *Query, each func(string) error) error {
	if q.User == "broken" {
		return errors.New("no database")
	}
	for name := range m.passwords {
		if err := each(name); err != nil {
			return err
		}
	}
	return nil
}

// listen serves connections of a Unix socket until the test ends, and returns its path, and what every connection ended with.
func listen(t *testing.T, serve func(context.Context, net.Conn) error) (path string, ends <-chan error) {
	path = filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan error, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { results <- serve(ctx, c) })
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	return path, results
}

func dial(t *testing.T, path string) *script {
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newScript(t, c)
}
