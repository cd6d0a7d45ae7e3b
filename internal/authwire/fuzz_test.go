package authwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a\tb", "\x00\x01\t\r\n", "\x010", "ü\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendEscaped(nil, s)
		if bytes.ContainsAny(b, "\x00\t\r\n") {
			t.Errorf("%q is written %q", s, b)
		}
		if got := unescape(b); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		unescape([]byte(s)) // whatever it is, no panic
	})
}

// Lines come out the same however the bytes arrive, and not longer than the limit.
func FuzzLines(f *testing.F) {
	f.Add([]byte("VERSION\t1\t2\r\nCPID\t1\n\nAUTH"), uint8(3), uint8(20))
	f.Add(bytes.Repeat([]byte("AUTH\t1\tPLAIN\n"), 300), uint8(200), uint8(255))
	f.Add([]byte("a\x00b\n\r\n"), uint8(1), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, step, limit uint8) {
		max := int(limit)*16 + 1
		l := newLineReader(&stutter{b, int(step)%17 + 1}, max)
		rest := b
		for {
			line, err := l.next()
			i := bytes.IndexByte(rest, '\n')
			if err != nil {
				switch {
				case errors.Is(err, errTooLong):
					if i >= 0 && i < max || i < 0 && len(rest) < max {
						t.Fatalf("a line of %d is too long for %d", i, max)
					}
				case errors.Is(err, errProtocol):
					if i < 0 || bytes.IndexByte(rest[:i], 0) < 0 {
						t.Fatalf("no NUL in %q", rest)
					}
				case err == io.EOF:
					if len(rest) > 0 {
						t.Fatalf("end before %q", rest)
					}
				case err != io.ErrUnexpectedEOF || i >= 0:
					t.Fatal(err)
				}
				return
			}
			if i < 0 || !bytes.Equal(line, bytes.TrimSuffix(rest[:i], []byte{'\r'})) {
				t.Fatalf("got %q of %q", line, rest)
			}
			rest = rest[i+1:]
		}
	})
}

type stutter struct {
	b []byte
	n int
}

func (s *stutter) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.b)
	s.b = s.b[n:]
	return n, nil
}

// What AUTH says comes back when it is written again.
func FuzzAuth(f *testing.F) {
	f.Add("1\tPLAIN\tservice=smtp\tnologin\tlip=::1\trip=192.0.2.7\tsecured=tls\tresp=AGEAYg==")
	f.Add("4294967295\tlogin\tprotocol=a\x01tb\tcolour\tresp=")
	f.Add("1\tX\tservice=x\t=\t\x01=a\trip=::ffff:1.2.3.4\trip=fe80::1%eth0")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\x00\n") {
			return
		}
		id, r, _, err := parseAuth(words([]byte("AUTH\t" + line)))
		if err != nil {
			return
		}
		again := r.append(command("AUTH", id))
		id2, r2, resp, err := parseAuth(words(again))
		kept := Fields(nil) // a field that cannot be written is left out
		for _, x := range r.Extra {
			if x.Name != "" && !strings.Contains(x.Name, "=") {
				kept = append(kept, x)
			}
		}
		r.Extra = kept
		if err != nil || id2 != id || resp != nil || !reflect.DeepEqual(r, r2) {
			t.Errorf("%q\n%+v\n%q\n%+v, %v", line, r, again, r2, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(true, "user=alice\tuid=1\tresp=YQ==")
	f.Add(false, "user=a\ttemp\tcode=temp_fail\treason=x y")
	f.Add(false, "authz\tresp=")
	f.Fuzz(func(t *testing.T, ok bool, fields string) {
		if strings.ContainsAny(fields, "\x00\n") {
			return
		}
		r := parseReply(ok, words([]byte(fields)))
		if r.Status == OK && (!ok || r.User == "") {
			t.Fatalf("%q is %+v", fields, r)
		}
		line := bytes.TrimSuffix(r.append(7, true), []byte("\n"))
		if bytes.ContainsAny(line, "\x00\n\r") {
			t.Fatalf("%q is written %q", fields, line)
		}
		again := parseReply(r.Status == OK, words(line)[2:])
		if again.Status != r.Status || again.User != r.User || again.Code != r.Code || again.Reason != r.Reason || !bytes.Equal(again.Data, r.Data) {
			t.Errorf("%q\n%+v\n%q\n%+v", fields, r, line, again)
		}
	})
}

// Whatever a client sends, the server neither panics nor hangs, and allows only who knows a password.
func FuzzServer(f *testing.F) {
	f.Add([]byte("VERSION\t1\t2\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp=AGFsaWNlAHdyb25n\nAUTH\t2\tLOGIN\tservice=x\nCONT\t2\tYQ==\nCANCEL\t2\n"))
	f.Add([]byte("VERSION\t1\t4\nCPID\t1\nAUTH\t1\tBIND\tservice=smtp\tresp=YQ==\nCONT\t1\t#\tchannel_binding=YQ==\n"))
	f.Add([]byte("VERSION\t1\t0\nCPID\t1\nAUTH\t1\tSLOW\tservice=smtp\nAUTH\t2\tDOWN\tservice=smtp\nAUTH\t3\tNOBODY\tservice=smtp\tresp=YQ==\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMemory()
		m.passwords = nil // nobody knows one
		srv := &Server{Authenticator: m, Tickets: new(Tickets), Mechanisms: testMechanisms[:3]}
		out := talk(t, srv.ServeConn, b)
		for line := range strings.Lines(out) {
			// BIND needs no password but proof of a channel, which the fuzzer may find.
			if strings.HasPrefix(line, "OK\t") && !bytes.Contains(b, []byte("channel_binding")) {
				t.Errorf("%q is answered %q", b, line)
			}
		}
		if len(srv.Tickets.sessions) != 0 {
			t.Error("tickets are left of a connection that is gone")
		}
		m.live.Wait()
	})
}

func FuzzUserServer(f *testing.F) {
	f.Add([]byte("VERSION\t1\t2\nUSER\t1\talice\tservice=lmtp\nPASS\t2\tbob\tservice=imap\nLIST\t3\t\tuser=*\nREQUEST\t4\t1\t1\t00\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := talk(t, (&UserServer{Users: newMemory(), Tickets: new(Tickets)}).ServeConn, b)
		if strings.ContainsAny(out, "\x00\r") {
			t.Errorf("%q is answered %q", b, out)
		}
	})
}

// talk sends b to a server, and returns all it said.
func talk(t *testing.T, serve func(context.Context, net.Conn) error, b []byte) string {
	client, server := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	client.SetDeadline(deadline)
	done := make(chan struct{})
	go func() { defer close(done); serve(context.Background(), server) }()
	said := make(chan string)
	go func() {
		out, _ := io.ReadAll(client)
		said <- string(out)
	}()
	client.Write(b)
	client.Close()
	out := <-said
	select {
	case <-done:
	case <-time.After(time.Until(deadline)):
		t.Fatalf("%q: the server hangs", b)
	}
	return out
}

// Whatever a server sends, the client neither panics nor hangs nor takes anything for OK but OK with the right id and a user.
func FuzzClient(f *testing.F) {
	const hello = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tcc\nDONE\n"
	f.Add([]byte(hello + "OK\t1\tuser=alice\n"))
	f.Add([]byte(hello + "CONT\t1\t\nFAIL\t1\treason=x\n"))
	f.Add([]byte(hello + "CONT\t1\t#\tchannel_binding=x\nOK\t1\tuser=\n"))
	f.Add([]byte(hello + "OK\t1\tuser=a\tresp=YQ==\n"))
	f.Add([]byte("VERSION\t1\t2\nSPID\t1\nUSER\t1\talice\tuid=1\nNOTFOUND\t1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dial := func(context.Context) (net.Conn, error) {
			client, server := net.Pipe()
			go io.Copy(io.Discard, server)
			go func() { server.Write(b); server.Close() }()
			return client, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		client := &Client{Dial: dial}
		defer client.Close()
		x := client.Begin(ctx, &Request{Mechanism: "PLAIN", Service: "smtp"})
		defer x.End()
		r := Reply{Status: Continue}
		for range 10 {
			if r = x.Next(ctx, nil); r.Status != Continue {
				break
			}
		}
		if r.Status == OK && (r.User == "" || !bytes.Contains(b, []byte("OK\t"))) {
			t.Errorf("%q is taken for %+v", b, r)
		}
		users := &UserClient{Dial: dial}
		defer users.Close()
		u, err := users.Lookup(ctx, &Query{User: "alice", Service: "lmtp"})
		if err == nil && (u.Name == "" || !bytes.Contains(b, []byte("USER\t"))) {
			t.Errorf("%q is taken for %+v", b, u)
		}
		if ctx.Err() != nil {
			t.Fatal(fmt.Sprintf("%q: the client hangs", b))
		}
	})
}
