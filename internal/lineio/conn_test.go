package lineio

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// segments is a transport that delivers the given segments, one a Read, and keeps what is written.
type segments struct {
	in     [][]byte
	out    bytes.Buffer
	writes int
}

func (s *segments) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[0])
	if s.in[0] = s.in[0][n:]; len(s.in[0]) == 0 {
		s.in = s.in[1:]
	}
	return n, nil
}
func (s *segments) Write(p []byte) (int, error)      { s.writes++; return s.out.Write(p) }
func (s *segments) Close() error                     { return nil }
func (s *segments) LocalAddr() net.Addr              { return pairAddr("test") }
func (s *segments) RemoteAddr() net.Addr             { return pairAddr("test") }
func (s *segments) SetDeadline(time.Time) error      { return nil }
func (s *segments) SetReadDeadline(time.Time) error  { return nil }
func (s *segments) SetWriteDeadline(time.Time) error { return nil }

// cut makes segments of b; the bytes of cuts are their lengths, again and again.
func cut(b, cuts []byte) *segments {
	s := &segments{}
	b = bytes.Clone(b)
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])+1)
		}
		s.in = append(s.in, b[:n:n])
		b = b[n:]
	}
	return s
}

// tcp is a pair of connected TCP connections on loopback.
func tcp(tb testing.TB) (server, client net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// transports are connections of every kind that New tells apart.
var transports = []struct {
	name string
	make func(testing.TB) (server, client net.Conn)
}{
	{"tcp", tcp},
	{"pipe", func(tb testing.TB) (net.Conn, net.Conn) {
		a, b := net.Pipe()
		tb.Cleanup(func() { a.Close(); b.Close() })
		return a, b
	}},
	{"pair", func(tb testing.TB) (net.Conn, net.Conn) {
		r1, w1, err1 := os.Pipe()
		r2, w2, err2 := os.Pipe()
		if err1 != nil || err2 != nil {
			tb.Fatal(err1, err2)
		}
		a, b := Pair(r1, w2), Pair(r2, w1)
		tb.Cleanup(func() { a.Close(); b.Close() })
		return a, b
	}},
}

func eachTransport(t *testing.T, f func(t *testing.T, server, client net.Conn)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			s, c := tr.make(t)
			f(t, s, c)
		})
	}
}

// A wait that timed out lost nothing, and holds no buffer on a plain connection.
func TestTimeout(t *testing.T) {
	eachTransport(t, func(t *testing.T, server, client net.Conn) {
		c := New(server)
		c.SetReadTimeout(10 * time.Millisecond)
		for range 2 {
			_, err := c.ReadLine(100)
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Fatalf("nothing sent: %v", err)
			}
		}
		if c.in != nil {
			t.Error("a buffer is held while nothing is received")
		}
		go client.Write([]byte("NO"))
		for {
			c.SetReadTimeout(5 * time.Second)
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			if c.Buffered() == 2 {
				break
			}
			if err := c.fill(); err != nil {
				t.Fatal(err)
			}
		}
		c.SetReadTimeout(10 * time.Millisecond)
		if _, err := c.ReadLine(100); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("half a line: %v", err)
		}
		go client.Write([]byte("OP\r\n"))
		c.SetReadTimeout(5 * time.Second)
		if line, err := c.ReadLine(100); string(line) != "NOOP" {
			t.Fatalf("the line after timeouts: %q, %v", line, err)
		}
		// The deadline caps the timeout, and a wait after it fails at once.
		c.SetDeadline(time.Now().Add(-time.Second))
		if _, err := c.ReadLine(100); !os.IsTimeout(err) {
			t.Fatalf("past the deadline: %v", err)
		}
		c.SetDeadline(time.Time{})
		c.SetReadTimeout(0)
		go client.Write([]byte("X\r\n"))
		if line, err := c.ReadLine(100); string(line) != "X" {
			t.Fatalf("the line after the deadline: %q, %v", line, err)
		}
		client.Close()
		if _, err := c.ReadLine(100); err != io.EOF {
			t.Fatalf("closed: %v", err)
		}
	})
}

// S23: the timers. A deadline is set anew only when the old one is too early or too late.
func TestS23_Limits(t *testing.T) {
	c := &Conn{}
	e, l := c.limits(0)
	if !e.IsZero() || !l.IsZero() || !within(time.Time{}, e, l) || within(unknown, e, l) {
		t.Error("no limits")
	}
	now := time.Now()
	e, l = c.limits(16 * time.Minute)
	if e.Before(now.Add(16*time.Minute)) || l.Sub(e) != time.Minute {
		t.Error("timeout", e.Sub(now), l.Sub(e))
	}
	for at, want := range map[time.Duration]bool{-time.Second: false, 0: true, time.Minute: true, time.Minute + 1: false} {
		if within(e.Add(at), e, l) != want {
			t.Error("within", at)
		}
	}
	c.deadline = now.Add(time.Minute)
	if e, l = c.limits(16 * time.Minute); e != c.deadline || l != c.deadline {
		t.Error("deadline before the timeout")
	}
	if e, l = c.limits(0); e != c.deadline || l != c.deadline {
		t.Error("deadline alone")
	}
	c.deadline = now.Add(16*time.Minute + 30*time.Second)
	if e, l = c.limits(16 * time.Minute); e.After(c.deadline) || l != c.deadline {
		t.Error("deadline within the span")
	}
}

// Replies gather until the next read would wait: one write for a pipelined group.
func TestGathering(t *testing.T) {
	eachTransport(t, func(t *testing.T, server, client net.Conn) {
		go client.Write([]byte("A\r\nB\r\nC\r\n"))
		c := New(server)
		for range 3 {
			if _, err := c.ReadLine(100); err != nil {
				t.Fatal(err)
			}
			c.WriteString("250 ok\r\n")
		}
		got := make(chan string)
		go func() {
			b := make([]byte, 24)
			n, _ := io.ReadFull(client, b)
			client.Close()
			got <- string(b[:n])
		}()
		if _, err := c.ReadLine(100); err != io.EOF {
			t.Fatal(err)
		}
		if s := <-got; s != strings.Repeat("250 ok\r\n", 3) {
			t.Fatalf("got %q", s)
		}
		if c.out != nil {
			t.Error("a write buffer is held after its bytes were sent")
		}
	})
}

func TestGathering_OneWriteForAGroup(t *testing.T) {
	s := &segments{in: [][]byte{[]byte("A\r\nB\r\nC\r\n"), []byte("D\r\n")}}
	c := New(s)
	for i := range 4 {
		if _, err := c.ReadLine(100); err != nil {
			t.Fatal(err)
		}
		if want := i / 3; s.writes != want {
			t.Errorf("line %d: %d writes, want %d", i, s.writes, want)
		}
		c.WriteString("250 ok\r\n")
	}
	if c.Flush(); s.writes != 2 || s.out.Len() != 4*8 {
		t.Errorf("%d writes of %d bytes", s.writes, s.out.Len())
	}
	if c.Flush(); s.writes != 2 {
		t.Error("a flush of nothing writes")
	}
}

// Any mixture of sizes arrives in order.
func TestWriteSizes(t *testing.T) {
	eachTransport(t, func(t *testing.T, server, client net.Conn) {
		var want bytes.Buffer
		sizes := []int{1, 100, 8 << 10, 16<<10 - 1, 16 << 10, 3, 16<<10 + 1, 100 << 10, 5, 9 << 10, 9 << 10, 0, 7000, 7000, 7000, 7000}
		for i, n := range sizes {
			want.Write(bytes.Repeat([]byte{'a' + byte(i)}, n))
		}
		text := want.Bytes()
		done := make(chan error, 1)
		go func() {
			c := New(server)
			rest := text
			for i, n := range sizes {
				var k int
				var err error
				if i%2 == 0 {
					k, err = c.Write(rest[:n])
				} else {
					k, err = c.WriteString(string(rest[:n]))
				}
				if k != n || err != nil {
					done <- errors.Join(err, errors.New("short write"))
					return
				}
				rest = rest[n:]
			}
			err := c.Flush()
			server.Close()
			done <- err
		}()
		got, err := io.ReadAll(client)
		if e := <-done; err != nil || e != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d bytes of %d, %v, %v", len(got), len(text), err, e)
		}
	})
}

// A failed write is final: nothing may follow half a reply.
func TestWriteError(t *testing.T) {
	server, client := tcp(t)
	c := New(server)
	c.SetWriteTimeout(20 * time.Millisecond)
	var err error
	for range 10000 {
		if _, err = c.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if !os.IsTimeout(err) {
		t.Fatalf("a peer that takes nothing: %v", err)
	}
	if _, again := c.WriteString("x"); again != err || c.Flush() != err {
		t.Errorf("after the error: %v", again)
	}
	_ = client
}

// T01: what arrived before TLS is not taken over.
func TestT01_Replace(t *testing.T) {
	c := New(cut([]byte("STARTTLS\r\nRSET\r\n"), nil))
	if _, err := c.ReadLine(100); err != nil {
		t.Fatal(err)
	}
	if err := c.Replace(&segments{}); err != ErrPlaintext {
		t.Fatalf("with input buffered: %v", err)
	}
	c = New(cut([]byte("STARTTLS\r\n"), nil))
	c.ReadLine(100)
	if err := c.Replace(cut([]byte("EHLO a\r\n"), nil)); err != nil {
		t.Fatal(err)
	}
	if line, err := c.ReadLine(100); string(line) != "EHLO a" {
		t.Fatalf("%q, %v", line, err)
	}
}

// The end of a body is the beginning of the next command, and not before.
// timed keeps the deadlines that are set.
type timed struct {
	*segments
	read, write time.Time
}

func (c *timed) SetDeadline(t time.Time) error      { c.read, c.write = t, t; return nil }
func (c *timed) SetReadDeadline(t time.Time) error  { c.read = t; return nil }
func (c *timed) SetWriteDeadline(t time.Time) error { c.write = t; return nil }

// Who goes on with a transport finds no deadline of ours on it; and if it is us, ours are set again.
func TestTake_Deadlines(t *testing.T) {
	nc := &timed{segments: cut([]byte("PASS x\r\nSTAT\r\n"), []byte{7})}
	c := New(nc)
	c.SetWriteTimeout(time.Minute)
	c.SetDeadline(time.Now().Add(time.Hour))
	use := func() {
		t.Helper()
		c.WriteString("+OK\r\n")
		if _, err := c.ReadLine(100); err != nil || nc.read.IsZero() || nc.write.IsZero() {
			t.Errorf("%v, deadlines %v and %v", err, nc.read, nc.write)
		}
	}
	use()
	if c.Take(); !nc.read.IsZero() || !nc.write.IsZero() {
		t.Errorf("deadlines %v and %v are left", nc.read, nc.write)
	}
	use()
}

func TestTake(t *testing.T) {
	c := New(cut([]byte("PASS x\r\nSTAT\r\nRE"), nil))
	if _, err := c.ReadLine(100); err != nil {
		t.Fatal(err)
	}
	if b := c.Take(); string(b) != "STAT\r\nRE" || c.Buffered() != 0 || len(c.Take()) != 0 {
		t.Errorf("%q, %d left", b, c.Buffered())
	}
	if _, err := c.ReadLine(100); err != io.EOF {
		t.Errorf("after it: %v", err)
	}
}

func TestBodyBlocksReadLine(t *testing.T) {
	for _, begin := range []func(c *Conn) io.Reader{
		func(c *Conn) io.Reader { return c.DotReader() },
		func(c *Conn) io.Reader { return c.Chunk(9) },
	} {
		c := New(cut([]byte("RSET\r\n.\r\nNOOP\r\n"), []byte{1}))
		body := begin(c)
		body.Read(make([]byte, 2))
		if line, err := c.ReadLine(100); err == nil {
			t.Fatalf("read %q as a line", line)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Fatal(err)
		}
		if line, err := c.ReadLine(100); string(line) != "NOOP" {
			t.Fatalf("after the body: %q, %v", line, err)
		}
	}
	c := New(cut([]byte("NOOP\r\n"), nil))
	if _, err := c.Chunk(0).Next(); err != io.EOF {
		t.Fatal("empty chunk:", err)
	}
	if _, err := c.ReadLine(100); err != nil {
		t.Fatal("after an empty chunk:", err)
	}
}

// S37: exactly n bytes, an early end is an error, and line ends are as they are.
func TestS37_Chunk(t *testing.T) {
	for _, cuts := range [][]byte{nil, {0}, {2, 5}} {
		c := New(cut([]byte("ab\n\r.\r\nc\x00NOOP\r\n"), cuts))
		got, err := io.ReadAll(c.Chunk(9))
		if string(got) != "ab\n\r.\r\nc\x00" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		c = New(cut([]byte("abc"), cuts))
		var b bytes.Buffer
		if n, err := c.Chunk(1 << 62).WriteTo(&b); n != 3 || err != io.ErrUnexpectedEOF {
			t.Fatalf("cut short: %d, %v", n, err)
		}
		if _, err := c.ReadLine(10); err == nil {
			t.Fatal("a line after a broken chunk")
		}
	}
}
