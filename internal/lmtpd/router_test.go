package lmtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postamt/internal/durable"
	"postamt/internal/maildir"
	"postamt/internal/smtp"
	"postamt/internal/transcript"
	"postamt/internal/userdb"
)

// socketpair is what a monitor makes.
func socketpair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

// byUser gives each user an id, and the front nothing else.
type byUser struct{ *Accounts }

func (b byUser) Mailbox(to Rcpt) (Mailbox, error) {
	box, err := b.Accounts.Mailbox(to)
	if err != nil {
		return Mailbox{}, err
	}
	uid := userdb.ID(60000)
	for _, c := range box.User {
		uid += userdb.ID(c)
	}
	return Mailbox{UID: uid}, nil
}

// behindFront makes the host a front, before workers that have what its server had. Serve, if not nil, takes the place of a worker.
func behindFront(serve func(to Rcpt, c net.Conn) bool) func(*host) {
	return func(h *host) {
		worker := *h.server
		worker.Config = Config{Hostname: "worker.example.org", Delimiters: worker.Config.Delimiters, CommandTime: worker.Config.CommandTime}
		h.server.Mailboxes = byUser{h.server.Mailboxes.(*Accounts)}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		h.server.Router = &Router{Hostname: "front.example.org", Patience: 500 * time.Millisecond, Commands: 20 * time.Second, Connect: func(_ context.Context, to Rcpt) (net.Conn, error) {
			ours, theirs := socketpair(h.t)
			wg.Go(func() {
				defer theirs.Close()
				if serve == nil || !serve(to, theirs) {
					worker.Serve(ctx, theirs, true)
				}
			})
			return ours, nil
		}}
		h.behind = func() {
			h.server.Router.CloseIdle()
			cancel()
			wg.Wait()
		}
	}
}

// What a client sees of a front and its workers is what it sees of one process.
func TestTranscriptsThroughRouter(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.lmtp")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".lmtp"), func(t *testing.T) {
			s, err := transcript.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			h := newHost(t, maildir.Options{}, settings(t, s, "front"), behindFront(nil))
			if err := s.Run(h, transcript.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// S29: the client goes away at every byte: no worker stores anything.
func TestS29_DisconnectAtEveryByteOfTheFront(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted, behindFront(nil))
	end := strings.Index(oneMessage, "QUIT")
	for n := range end {
		if out := h.dialogue(oneMessage[:n]); strings.Contains(out, "Stored") {
			t.Fatalf("after %d bytes: %s", n, out)
		}
	}
	if n := len(h.messages("bob")); n != 0 {
		t.Fatalf("%d messages", n)
	}
	if out := h.dialogue(oneMessage[:end]); strings.Count(out, "Stored") != 2 {
		t.Fatal(out)
	}
	// And within a message that is larger than what is held.
	large := strings.Replace(oneMessage[:end], "x\r\n.\r\n", strings.Repeat("0123456789012345678901234567890\r\n", 80000), 1)
	for _, n := range []int{len(large) / 4, len(large) / 2, len(large)} {
		if out := h.dialogue(large[:n]); strings.Contains(out, "Stored") {
			t.Fatal(out)
		}
	}
	h.server.Router.CloseIdle()
	if n := len(h.messages("bob")); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// D19, D20: what a worker may do instead of its work, and what that means for its recipients. The others have their mail.
func TestD20_WorkersThatFail(t *testing.T) {
	read := func(c net.Conn, upTo string) {
		b := bufio.NewReader(c)
		for {
			line, err := b.ReadString('\n')
			if err != nil || strings.HasPrefix(line, upTo) {
				return
			}
		}
	}
	hello := "220 w\r\n250 w\r\n"
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"closes at once", func(net.Conn) {}, "451 4.3.0 "},
		{"is silent", func(c net.Conn) { io.Copy(io.Discard, c) }, "451 4.3.0 "},
		{"reads nothing", func(c net.Conn) { time.Sleep(time.Second) }, "451 4.3.0 "}, // twice the patience
		{"greets with 421", func(c net.Conn) { io.WriteString(c, "421 4.3.2 no\r\n") }, "451 4.3.0 "},
		{"greets with nonsense", func(c net.Conn) { io.WriteString(c, strings.Repeat("x", 10000)+"\r\n") }, "451 4.3.0 "},
		{"dies before the message", func(c net.Conn) { io.WriteString(c, hello); read(c, "MAIL") }, "451 4."},
		{"dies after the message", func(c net.Conn) { io.WriteString(c, hello); read(c, "x") }, "451 4.4.2 "},
		{"is silent after the message", func(c net.Conn) { io.WriteString(c, hello+"250 m\r\n250 r\r\n"); io.Copy(io.Discard, c) }, "451 4.4.2 "},
		{"refuses MAIL", func(c net.Conn) { io.WriteString(c, hello+"452 4.3.1 full\r\n"); io.Copy(io.Discard, c) }, "452 4.3.1 full"},
		{"refuses RCPT", func(c net.Conn) {
			io.WriteString(c, hello+"250 m\r\n452 4.2.2 quota\r\n503 5.5.1 no\r\n")
			io.Copy(io.Discard, c)
		}, "452 4.2.2 quota"},
		{"refuses the message", func(c net.Conn) {
			io.WriteString(c, hello+"250 m\r\n250 r\r\n451 4.2.0 no\r\n")
			io.Copy(io.Discard, c)
		}, "451 4.2.0 no"},
		{"ends instead", func(c net.Conn) {
			io.WriteString(c, hello+"250 m\r\n250 r\r\n421 4.3.2 bye\r\n")
			io.Copy(io.Discard, c)
		}, "451 4.4.2 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, maildir.Options{}, trusted, behindFront(func(to Rcpt, nc net.Conn) bool {
				if to.Addr.Local != "alice" {
					return false
				}
				c.serve(nc)
				return true
			}))
			out := h.dialogue(oneMessage)
			lines := strings.Split(out, "\r\n")
			i := 0
			for i < len(lines) && !strings.HasPrefix(lines[i], "354") {
				i++
			}
			if i+2 >= len(lines) || !strings.HasPrefix(lines[i+1], c.want) || !strings.HasPrefix(lines[i+2], "250 2.0.0 Stored") {
				t.Errorf("want %q and 250:\n%s", c.want, out)
			}
			if len(h.messages("bob")) != 1 {
				t.Error("bob does not have it")
			}
		})
	}
}

// A large message goes to a worker that takes it and one that stops in the middle of it.
func TestD20_StopsWithinALargeMessage(t *testing.T) {
	answered := make(chan struct{})
	h := newHost(t, maildir.Options{}, trusted, behindFront(func(to Rcpt, nc net.Conn) bool {
		if to.Addr.Local != "alice" {
			return false
		}
		io.WriteString(nc, "220 w\r\n250 w\r\n250 m\r\n250 r\r\n250 chunk\r\n")
		io.CopyN(io.Discard, nc, 300<<10)
		<-answered // it neither reads nor goes away
		return true
	}))
	body := strings.Repeat("0123456789012345678901234567890\r\n", 200000)
	out := h.dialogue(strings.Replace(oneMessage, "x\r\n.\r\n", body+".\r\n", 1))
	close(answered)
	if !strings.Contains(out, "451 4.3.0 ") || strings.Count(out, "250 2.0.0 Stored") != 1 {
		t.Error(out)
	}
	m := h.messages("bob")
	if len(m) != 1 || !bytes.HasSuffix(m[0], []byte(strings.ReplaceAll(body, "\r\n", "\n"))) {
		t.Errorf("%d messages", len(m))
	}
}

// Every size around the borders of chunks arrives as it was, BINARYMIME too.
func TestRouterSizes(t *testing.T) {
	h := newHost(t, maildir.Options{}, trusted, behindFront(nil))
	conn, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := smtp.NewConn(conn)
	expect := func(code int) {
		t.Helper()
		c.Flush()
		if r, err := c.ReadReply(); err != nil || r.Code != code {
			t.Fatalf("%v, %v, want %d", r, err, code)
		}
	}
	expect(220)
	c.WriteLine("LHLO client.example")
	expect(250)
	pattern := bytes.Repeat([]byte("\x00\r\n\n\r.\r\n.abcdefghijk"), 100000)
	for i, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 5*chunkSize + 7} {
		id := fmt.Sprint("size", i)
		c.WriteLine("MAIL FROM:<a@client.example> BODY=BINARYMIME XQID=", id)
		expect(250)
		for _, u := range []string{"bob", "alice"} {
			c.WriteLine("RCPT TO:<", u, "@example.org>")
			expect(250)
		}
		c.WriteLine("BDAT ", fmt.Sprint(n/3))
		c.Write(pattern[:n/3])
		expect(250)
		c.WriteLine("BDAT ", fmt.Sprint(n-n/3), " LAST")
		c.Write(pattern[n/3 : n])
		expect(250)
		expect(250)
		for _, u := range []string{"bob", "alice"} {
			f, _ := filepath.Glob(h.maildir(u) + "/new/*Q" + id + "X*")
			if len(f) != 1 {
				t.Fatal(u, n, f)
			}
			if b, _ := os.ReadFile(f[0]); !bytes.HasSuffix(b, append([]byte("@example.org\r\n"), pattern[:n]...)) {
				t.Errorf("%s: %d bytes stored of %d", u, len(b), n)
			}
		}
	}
}

// When it is not known whether a worker has stored a message, the next attempt is told to look.
func TestD16_UnknownEndBehindTheFront(t *testing.T) {
	var mu sync.Mutex
	fail := false
	h := newHost(t, maildir.Options{Now: func() time.Time { return time.Now().Add(24 * time.Hour) }, Ops: &durable.Ops{Fault: func(op durable.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if fail && op == durable.OpSyncDir && strings.Contains(name, "/bob/") && strings.HasSuffix(name, "new") {
			return syscall.EIO
		}
		return nil
	}}}, trusted, behindFront(nil))
	h.dialogue(strings.ReplaceAll(oneMessage, "abc123", "first"))
	mu.Lock()
	fail = true
	mu.Unlock()
	if out := h.dialogue(oneMessage); strings.Count(out, "250 2.0.0 Stored") != 1 || strings.Count(out, "451 4.4.2 ") != 1 {
		t.Error(out)
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	if out := h.dialogue(strings.Replace(oneMessage, "XQID=abc123", "XQID=abc123 XSUSPECT", 1)); strings.Count(out, "250 2.0.0 Stored") != 2 {
		t.Error(out)
	}
	for _, user := range []string{"bob", "alice"} {
		if n := len(h.messages(user)); n != 2 {
			t.Errorf("%s has %d messages", user, n)
		}
	}
}

// Connections are kept, and one that a worker has closed is not used.
func TestRouterKeepsConnections(t *testing.T) {
	var mu sync.Mutex
	var made []net.Conn
	h := newHost(t, maildir.Options{}, trusted, behindFront(func(_ Rcpt, c net.Conn) bool {
		mu.Lock()
		made = append(made, c)
		mu.Unlock()
		return false
	}))
	send := func(id string) {
		t.Helper()
		if out := h.dialogue(strings.Replace(oneMessage, "abc123", id, 1)); strings.Count(out, "250 2.0.0 Stored") != 2 {
			t.Error(out)
		}
	}
	for i := range 5 {
		send(fmt.Sprint("m", i))
	}
	mu.Lock()
	if len(made) != 2 {
		t.Errorf("%d connections to two workers", len(made))
	}
	for _, c := range made { // both workers die
		c.(*net.UnixConn).Close()
	}
	mu.Unlock()
	send("after")
	h.server.Router.Connect = func(context.Context, Rcpt) (net.Conn, error) { return nil, errors.New("none to be had") }
	h.server.Router.CloseIdle()
	if out := h.dialogue(oneMessage); strings.Count(out, "451 4.3.0 ") != 2 {
		t.Error(out)
	}
}
