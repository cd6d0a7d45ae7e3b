package authwire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newClient(t *testing.T, path string) *Client {
	c := &Client{Path: path, Limit: 5 * time.Second}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(c *Client, mechanism string, responses ...string) Reply {
	r := &Request{Mechanism: mechanism, Service: "smtp", ChannelBinding: func(_ context.Context, kind string) ([]byte, error) {
		return []byte("channel of alice"), nil
	}}
	x := c.Begin(context.Background(), r)
	defer x.End()
	var reply Reply
	for _, response := range responses {
		b := []byte(response)
		if response == "<none>" {
			b = nil
		}
		reply = x.Next(context.Background(), b)
	}
	return reply
}

func TestClientAndServer(t *testing.T) {
	srv := newServer()
	path, _ := listen(t, srv.ServeConn)
	client := newClient(t, path)
	client.Connections = 3
	offered, err := client.Mechanisms(context.Background())
	if err != nil || !slices.Equal(offered, testMechanisms) {
		t.Errorf("mechanisms %v, %v", offered, err)
	}
	for _, c := range []struct {
		mechanism string
		responses []string
		want      Reply
	}{
		{"PLAIN", []string{"\x00alice\x00secret"}, Reply{Status: OK, User: "alice", Fields: Fields{{"uid", "1000"}}}},
		{"PLAIN", []string{"<none>", "\x00alice\x00secret"}, Reply{Status: OK, User: "alice", Fields: Fields{{"uid", "1000"}}}},
		{"PLAIN", []string{"\x00alice\x00wrong"}, Reply{User: "alice"}},
		{"PLAIN", []string{""}, Reply{}}, // an empty response is one
		{"LOGIN", []string{"<none>", "bob", "hidden"}, Reply{Status: OK, User: "bob", Fields: Fields{{"uid", "1000"}}}},
		{"LOGIN", []string{"<none>", "a\tb\n\x00\x01", "x"}, Reply{User: "a\tb\n\x00\x01"}},
		{"FINAL", []string{"x"}, Reply{Status: Continue, Data: []byte("v=proof")}},
		{"FINAL", []string{"x", ""}, Reply{Status: OK, User: "alice"}},
		{"BIND", []string{"alice"}, Reply{Status: OK, User: "alice"}},
		{"BIND", []string{"bob"}, Reply{}},
		{"OTHER", []string{"x"}, Reply{Code: MechInvalid}},
		{"DOWN", []string{"x"}, Reply{Code: TempFail}},
		{"NOBODY", []string{"x"}, Reply{Code: TempFail}},
		{"NOBODY", []string{"<none>"}, Reply{}},
	} {
		got := ask(client, c.mechanism, c.responses...)
		if got.Temporary() != (got.Err != nil) || got.Temporary() && !errors.Is(got.Err, ErrUnavailable) {
			t.Errorf("%s %q: error %v", c.mechanism, c.responses, got.Err)
		}
		if got.Status == OK && got.Ticket == nil {
			t.Errorf("%s %q: no ticket", c.mechanism, c.responses)
		}
		got.Err, got.Ticket = nil, nil
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s %q: got %+v, want %+v", c.mechanism, c.responses, got, c.want)
		}
	}
}

// An exchange is over after its last reply, whatever is asked.
func TestExchangeIsOver(t *testing.T) {
	path, _ := listen(t, newServer().ServeConn)
	if r := ask(newClient(t, path), "PLAIN", "\x00alice\x00secret", "again"); !r.Temporary() {
		t.Errorf("%+v", r)
	}
}

// A context that ends while the server thinks: the caller goes on at once, the server is told, and its late answer is for nobody.
func TestCancel(t *testing.T) {
	srv := newServer()
	m := srv.Authenticator.(*memory)
	m.seen = make(chan *Request, 2)
	path, _ := listen(t, srv.ServeConn)
	client := newClient(t, path)
	cause := errors.New("the person went away")
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { <-m.seen; cancel(cause) }()
	x := client.Begin(ctx, &Request{Mechanism: "SLOW", Service: "smtp"})
	if r := x.Next(ctx, nil); !r.Temporary() || !errors.Is(r.Err, cause) {
		t.Errorf("%+v", r)
	}
	x.End()
	m.live.Wait() // ends only when CANCEL has arrived
	if r := ask(client, "PLAIN", "\x00alice\x00secret"); r.Status != OK {
		t.Errorf("the next exchange on the connection: %+v", r)
	}
}

// A server that is replaced costs an idle client nothing, and the ones it was busy with a "later".
func TestServerRestarts(t *testing.T) {
	srv := newServer()
	var mu sync.Mutex
	var conns []net.Conn
	path, _ := listen(t, func(ctx context.Context, c net.Conn) error {
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		return srv.ServeConn(ctx, c)
	})
	client := newClient(t, path)
	users := &UserClient{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") }}
	for range 20 {
		x := client.Begin(context.Background(), &Request{Mechanism: "LOGIN", Service: "smtp"})
		x.Next(context.Background(), nil)
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		conns = nil
		mu.Unlock()
		if r := ask(client, "PLAIN", "\x00alice\x00secret"); r.Status != OK {
			t.Errorf("a new exchange: %+v", r)
		}
		if r := x.Next(context.Background(), []byte("alice")); !r.Temporary() {
			t.Errorf("an exchange that was under way: %+v", r)
		}
		x.End()
	}
	if _, err := users.Lookup(context.Background(), &Query{User: "alice", Service: "smtp"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
}

// What servers must not do, and what comes of it: "later", at the latest when the limit is over, and never OK.
func TestServersThatMisbehave(t *testing.T) {
	const hello = "VERSION\t1\t2\nMECH\tPLAIN\nSPID\t1\nCUID\t1\nCOOKIE\tcc\nDONE\n"
	for name, says := range map[string]struct{ first, reply string }{
		"says nothing":              {"", ""},
		"closes":                    {"<end>", ""},
		"other protocol":            {"* OK IMAP4rev1 ready\r\n", ""},
		"other version":             {"VERSION\t2\t0\nDONE\n", ""},
		"no version":                {"MECH\tPLAIN\nDONE\n", ""},
		"is a user socket":          {"VERSION\t1\t2\nSPID\t1\n", ""},
		"endless line":              {"VERSION\t1\t2\nMECH\t" + strings.Repeat("A", 1<<20), ""},
		"endless list":              {"VERSION\t1\t2\n" + strings.Repeat("MECH\tA\n", 1000) + "DONE\n", ""},
		"no reply":                  {hello, ""},
		"closes instead of a reply": {hello, "<end>"},
		"half a reply":              {hello, "OK\tID\tuser=alice<end>"},
		"OK without a user":         {hello, "OK\tID\n"},
		"OK with an empty user":     {hello, "OK\tID\tuser=\n"},
		"OK for another":            {hello, "OK\t4242\tuser=alice\n"},
		"OK without an id":          {hello, "OK\n"},
		"OK with a bad id":          {hello, "OK\t-ID\tuser=alice\n"},
		"OK with a NUL":             {hello, "OK\tID\tuser=alice\x00\n"},
		"ok in small letters":       {hello, "ok\tID\tuser=alice\n"},
		"bad data with OK":          {hello, "OK\tID\tuser=alice\tresp=!\n"},
		"bad challenge":             {hello, "CONT\tID\t!\n"},
		"no challenge":              {hello, "CONT\tID\n"},
		"asks for a channel":        {hello, "CONT\tID\t#\tchannel_binding=tls-exporter\n"},
		"asks for nothing, always":  {hello, "CONT\tID\t#\n"},
		"cancels":                   {hello, "CANCELLED\tID\n"},
		"other word":                {hello, "YES\tID\tuser=alice\n"},
		"too many replies":          {hello, strings.Repeat("CONT\tID\t\n", 100)},
		"temp of old":               {hello, "FAIL\tID\ttemp\n"},
		"temp of today":             {hello, "FAIL\tID\tuser=alice\tcode=temp_fail\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := listen(t, func(_ context.Context, c net.Conn) error {
				defer c.Close()
				say := func(s string) bool {
					s, end := strings.CutSuffix(s, "<end>")
					io.WriteString(c, s)
					return !end
				}
				if !say(says.first) {
					return nil
				}
				r := bufio.NewScanner(c)
				for r.Scan() {
					w := strings.Split(r.Text(), "\t")
					if w[0] != "AUTH" && w[0] != "CONT" {
						continue
					}
					if !say(strings.ReplaceAll(says.reply, "ID", w[1])) {
						return nil
					}
				}
				return nil
			})
			client := newClient(t, path)
			client.Limit, client.DialLimit = 200*time.Millisecond, 200*time.Millisecond
			x := client.Begin(context.Background(), &Request{Mechanism: "PLAIN", Service: "smtp"})
			defer x.End()
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			r := x.Next(ctx, []byte("\x00alice\x00secret"))
			for r.Status == Continue && name == "too many replies" && ctx.Err() == nil {
				r = x.Next(ctx, nil)
			}
			if !r.Temporary() || !errors.Is(r.Err, ErrUnavailable) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What was said before the end counts.
func TestReplyBeforeTheEnd(t *testing.T) {
	for range 100 { // chance would decide between the two
		l := &link{done: make(chan struct{}), err: io.EOF, calls: make(map[uint32]*call), idle: time.NewTimer(time.Hour)}
		c := l.call()
		if err := l.deliver([]byte("OK\t1\tuser=alice")); err != nil {
			t.Fatal(err)
		}
		close(l.done)
		if m, err := c.await(context.Background(), time.Minute); err != nil || m.verb != "OK" {
			t.Fatalf("%q, %v", m.verb, err)
		}
	}
}

// A server that asks for the channel's data for ever keeps nobody for ever.
func TestAsksAgainAndAgain(t *testing.T) {
	path, _ := listen(t, func(_ context.Context, c net.Conn) error {
		defer c.Close()
		io.WriteString(c, "VERSION\t1\t4\nMECH\tBIND\nSPID\t1\nCUID\t1\nCOOKIE\tcc\nDONE\n")
		for r := bufio.NewScanner(c); r.Scan(); {
			if w := strings.Split(r.Text(), "\t"); w[0] == "AUTH" || w[0] == "CONT" {
				fmt.Fprintf(c, "CONT\t%s\t#\tchannel_binding=tls-unique\n", w[1])
			}
		}
		return nil
	})
	asked := 0
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	x := newClient(t, path).Begin(ctx, &Request{Mechanism: "BIND", Service: "smtp", ChannelBinding: func(context.Context, string) ([]byte, error) {
		asked++
		return []byte("channel"), nil
	}})
	defer x.End()
	if r := x.Next(ctx, nil); !r.Temporary() || asked > maxAsked {
		t.Errorf("asked %d times: %+v", asked, r)
	}
}

// One attempt to connect serves all who wait, and each of them for as long as it likes.
func TestSilentServer(t *testing.T) {
	var dials atomic.Int32
	client := &Client{DialLimit: 2 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			x := client.Begin(ctx, &Request{Mechanism: "PLAIN", Service: "smtp"})
			defer x.End()
			if r := x.Next(ctx, nil); !r.Temporary() || !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if n := dials.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestUserClientAndServer(t *testing.T) {
	m := newMemory()
	for i := range 3000 {
		m.passwords[fmt.Sprintf("user%d@example.org", i)] = ""
	}
	tickets := new(Tickets)
	srv := newServer()
	srv.Tickets = tickets
	path, _ := listen(t, srv.ServeConn)
	userPath, _ := listen(t, (&UserServer{Users: m, Tickets: tickets, PID: 77}).ServeConn)
	client, users := newClient(t, path), &UserClient{Path: userPath, Limit: 5 * time.Second}
	t.Cleanup(func() { users.Close() })
	ctx := context.Background()

	if u, err := users.Lookup(ctx, &Query{User: "alice", Service: "lmtp"}); err != nil || fmt.Sprint(u) != "{alice [{uid 1000} {home /home/alice}]}" {
		t.Errorf("alice: %v, %v", u, err)
	}
	for name, want := range map[string]error{"nobody": ErrNotFound, "broken": ErrUnavailable, "": ErrNotFound, "a\nb": ErrNotFound, "a\x00": ErrNotFound,
		strings.Repeat("a", MaxUser+1): ErrNotFound, strings.Repeat("\x80", MaxUser): ErrNotFound} {
		if u, err := users.Lookup(ctx, &Query{User: name, Service: "lmtp"}); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v", name, u, err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := users.Lookup(short, &Query{User: "slow", Service: "lmtp"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("slow: %v", err)
	}

	// A look-up from within a list, and a list that is left.
	listed := 0
	err := users.List(ctx, &Query{Service: "lmtp"}, func(name string) error {
		listed++
		_, err := users.Lookup(ctx, &Query{User: name, Service: "lmtp"})
		return err
	})
	if err != nil || listed != len(m.passwords) {
		t.Errorf("%d listed, %v", listed, err)
	}
	if err := users.List(ctx, &Query{Service: "lmtp"}, func(string) error { return io.ErrClosedPipe }); err != io.ErrClosedPipe {
		t.Errorf("a list that is left: %v", err)
	}
	if err := users.List(ctx, &Query{Service: "lmtp", User: "broken"}, func(string) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a list that fails: %v", err)
	}

	r := ask(client, "PLAIN", "\x00bob\x00hidden")
	if r.Status != OK || r.Ticket == nil {
		t.Fatalf("%+v", r)
	}
	stale := *r.Ticket
	stale.ServerPID++
	if _, err := users.Collect(ctx, stale, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a ticket of a server that is gone: %v", err)
	}
	if u, err := users.Collect(ctx, *r.Ticket, Fields{{"session_pid", "1"}}); err != nil || u.Name != "bob" {
		t.Errorf("collect: %v, %v", u, err)
	}
	if u, err := users.Collect(ctx, *r.Ticket, nil); err == nil {
		t.Errorf("collect again: %v", u)
	}
}

// An authentication server behind an authentication server: Client is an Authenticator.
func TestChain(t *testing.T) {
	inner, _ := listen(t, newServer().ServeConn)
	outer, _ := listen(t, (&Server{Authenticator: newClient(t, inner), Mechanisms: testMechanisms}).ServeConn)
	client := newClient(t, outer)
	if r := ask(client, "LOGIN", "<none>", "alice", "secret"); r.Status != OK || r.User != "alice" {
		t.Errorf("%+v", r)
	}
	if r := ask(client, "BIND", "alice"); r.Status != OK {
		t.Errorf("channel binding through both: %+v", r)
	}
	if r := ask(client, "DOWN", "x"); !r.Temporary() {
		t.Errorf("%+v", r)
	}
	if r := ask(client, "PLAIN", "\x00alice\x00wrong"); r.Status != Failed || r.Temporary() {
		t.Errorf("%+v", r)
	}
}

// A connection stays as long as something is under way, and a minute; a client that is forgotten leaves none behind.
func TestAnIdleConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer()
		dialled, open := 0, 0
		c := &Client{Dial: func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			dialled++
			open++
			go func() {
				b := &buffered{Conn: far, lines: make(chan []byte, 100)}
				go b.pump()
				srv.ServeConn(context.Background(), b)
				close(b.lines)
				open--
			}()
			return near, nil
		}}
		want := func(wantOpen, wantDialled int) {
			t.Helper()
			synctest.Wait()
			if open != wantOpen || dialled != wantDialled {
				t.Errorf("%d open of %d, want %d of %d", open, dialled, wantOpen, wantDialled)
			}
		}
		x := c.Begin(context.Background(), &Request{Mechanism: "LOGIN", Service: "smtp"})
		x.Next(context.Background(), nil)
		time.Sleep(2 * idleLimit)
		want(1, 1)
		x.Next(context.Background(), []byte("bob"))
		if r := x.Next(context.Background(), []byte("hidden")); r.Status != OK {
			t.Errorf("after a long wait: %+v", r)
		}
		for range 3 { // each use begins the minute anew
			time.Sleep(idleLimit - time.Second)
			if r := ask(c, "PLAIN", "\x00alice\x00secret"); r.Status != OK {
				t.Errorf("%+v", r)
			}
		}
		want(1, 1)
		time.Sleep(idleLimit)
		want(0, 1)
		if r := ask(c, "PLAIN", "\x00alice\x00secret"); r.Status != OK {
			t.Errorf("after it was closed: %+v", r)
		}
		want(1, 2)
		time.Sleep(idleLimit)
		want(0, 2)
		if _, err := c.Mechanisms(context.Background()); err != nil { // a link without a call
			t.Error(err)
		}
		want(1, 3)
		time.Sleep(idleLimit)
		want(0, 3)
	})
}

// buffered is a pipe to which both ends may write at once, as to a socket.
type buffered struct {
	net.Conn
	lines chan []byte
}

func (b *buffered) Write(p []byte) (int, error) {
	b.lines <- append([]byte(nil), p...)
	return len(p), nil
}

func (b *buffered) pump() {
	for line := range b.lines {
		b.Conn.Write(line)
	}
}
