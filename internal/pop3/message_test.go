package pop3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// sink is a connection that keeps what is written to it.
type sink struct {
	net.Conn
	out    bytes.Buffer
	writes int
	full   error
}

func (s *sink) Write(p []byte) (int, error) {
	s.writes++
	if s.full != nil {
		return 0, s.full
	}
	return s.out.Write(p)
}
func (s *sink) Close() error                     { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// wire is the wire form, written as plainly as possible.
func wire(msg []byte) []byte {
	var b []byte
	for i, c := range msg {
		switch {
		case c == '\n' && (i == 0 || msg[i-1] != '\r'):
			b = append(b, '\r', '\n')
		case c == '\r' && (i+1 == len(msg) || msg[i+1] != '\n'):
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return b
}

// top is what TOP of so many lines is of a wire form.
func top(wire []byte, lines int) []byte {
	header, body, ok := bytes.Cut(wire, []byte("\r\n\r\n"))
	switch {
	case bytes.HasPrefix(wire, []byte("\r\n")):
		header, body = []byte("\r\n"), wire[2:]
	case !ok:
		return wire
	default:
		header = append(bytes.Clone(header), "\r\n\r\n"...)
	}
	for range lines {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		header = append(header, line...)
		if !ok {
			break
		}
		header = append(header, "\r\n"...)
		body = rest
	}
	return header
}

// receive reads a multi-line response as RFC 1939 section 3 has it. It accepts nothing that any reader could understand in another way.
func receive(b []byte) (text, rest []byte, err error) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 1 || b[i-1] != '\r' {
			return nil, nil, fmt.Errorf("no CRLF ends %.60q", b)
		}
		line := b[:i-1]
		b = b[i+1:]
		if bytes.IndexByte(line, '\r') >= 0 {
			return nil, nil, fmt.Errorf("CR in the line %.60q", line)
		}
		if len(line) > 0 && line[0] == '.' {
			if line = line[1:]; len(line) == 0 {
				return text, b, nil
			}
			if line[0] != '.' {
				return nil, nil, errors.New("a dot that stands for nothing")
			}
		}
		text = append(append(text, line...), "\r\n"...)
	}
}

// pieces gives a message in blocks of given sizes.
type pieces struct {
	msg  []byte
	cuts []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.msg) == 0 {
		return 0, io.EOF
	}
	n := len(p.msg)
	if len(p.cuts) > 0 {
		n = min(n, int(p.cuts[0])+1)
		p.cuts = p.cuts[1:]
	}
	n = copy(b, p.msg[:n])
	p.msg = p.msg[n:]
	return n, nil
}

// checkMessage sends a message whole if lines < 0, and reads it as a strict client does.
func checkMessage(t *testing.T, msg, cuts []byte, lines int) {
	t.Helper()
	s := &sink{}
	c := NewConn(s)
	m := c.Message()
	want := wire(msg)
	if lines >= 0 {
		m = c.Top(lines)
		want = top(want, lines)
	}
	if _, err := m.ReadFrom(&pieces{bytes.Clone(msg), cuts}); err != nil {
		t.Fatal(err)
	}
	n, unfinished := m.Octets(), m.Unfinished()
	if err := m.End(); err != nil {
		t.Fatal(err)
	}
	c.WriteResponse(OK(""))
	c.Flush()
	if n != int64(len(want)) {
		t.Errorf("%d octets, the wire form has %d\n%q", n, len(want), msg)
	}
	if e := len(want) > 0 && !bytes.HasSuffix(want, crlf); e != unfinished {
		t.Errorf("unfinished: %v\n%q", unfinished, msg)
	} else if e {
		want = append(want, "\r\n"...)
	}
	text, rest, err := receive(s.out.Bytes())
	if err != nil || !bytes.Equal(text, want) || string(rest) != "+OK\r\n" {
		t.Fatalf("%v\nmessage %q\nsent    %q\nread    %q\nwant    %q\nthen    %q", err, msg, s.out.Bytes(), text, want, rest)
	}
}

// P03: whatever a message is made of, however it is cut, a strict client reads one message with its octets, and then the next response.
func TestP03_Message(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	parts := []string{"\r", "\n", "\r\n", ".", "..", "a", "\r\n.\r\n", "\n.\n", "\r.\r", "\x00", "\xff", "A: b", "\r\n\r\n", "\n\n", "\r\r\n"}
	for range 20_000 {
		var msg, cuts []byte
		for range r.IntN(12) {
			msg = append(msg, parts[r.IntN(len(parts))]...)
		}
		for range r.IntN(6) {
			cuts = append(cuts, byte(r.IntN(4)))
		}
		checkMessage(t, msg, cuts, r.IntN(5)-1)
	}
	long := bytes.Repeat([]byte("0123456789"), 1<<20)
	checkMessage(t, long, nil, -1)
	checkMessage(t, append([]byte("A: b\n\n"), long...), nil, 1)
	checkMessage(t, bytes.Repeat([]byte(".\n"), 100_000), nil, -1)
	checkMessage(t, bytes.Repeat([]byte("\r"), 100_000), nil, -1)
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("A: b\r\n\r\n.\r\n..\n.\r"), []byte{3, 1}, -1)
	f.Add([]byte("A: b\n\n.\nc\r\r\n"), []byte{0, 0, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, msg, cuts []byte, lines int) { checkMessage(t, msg, cuts, max(lines, -1)%100) })
}

// P02: the top of a message is its header, the empty line, and lines of the body.
func TestP02_Top(t *testing.T) {
	const msg = "Subject: x\nTo: y\n\n1\n.2\n3\n"
	for _, x := range []struct {
		msg   string
		lines int
		want  string
	}{
		{msg, 0, "Subject: x\r\nTo: y\r\n\r\n.\r\n"},
		{msg, 2, "Subject: x\r\nTo: y\r\n\r\n1\r\n..2\r\n.\r\n"},
		{msg, 100, "Subject: x\r\nTo: y\r\n\r\n1\r\n..2\r\n3\r\n.\r\n"},
		{"Subject: x\nno end", 0, "Subject: x\r\nno end\r\n.\r\n"},
		{"\nbody\n", 0, "\r\n.\r\n"},
		{"", 5, ".\r\n"},
	} {
		s := &sink{}
		c := NewConn(s)
		m := c.Top(x.lines)
		// An error behind the part that is wanted is none.
		m.ReadFrom(io.MultiReader(strings.NewReader(x.msg), iotest.ErrReader(errors.New("disk"))))
		if err := m.End(); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		if got := s.out.String(); got != x.want {
			t.Errorf("TOP %d of %q is %q", x.lines, x.msg, got)
		}
	}
}

// What cannot be read is told from what cannot be sent, and nothing more is sent.
func TestMessageErrors(t *testing.T) {
	disk, lost := errors.New("disk"), errors.New("lost")
	c := NewConn(&sink{})
	if _, err := c.Message().ReadFrom(io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(disk))); err != disk {
		t.Errorf("%v", err)
	}
	if c.Flush() != nil {
		t.Error("the connection is not to blame")
	}
	c = NewConn(&sink{full: lost})
	if _, err := c.Message().ReadFrom(bytes.NewReader(bytes.Repeat([]byte("a\n"), 100_000))); err != lost {
		t.Errorf("%v", err)
	}
	if c.Flush() != lost {
		t.Error("the connection is to blame")
	}
}

type discard struct{ sink }

func (*discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkMessage(b *testing.B) {
	for _, eol := range []string{"\r\n", "\n"} {
		msg := bytes.Repeat([]byte(strings.Repeat("x", 72)+eol), 1<<20/74)
		b.Run(fmt.Sprintf("%q", eol), func(b *testing.B) {
			c := NewConn(&discard{})
			r := bytes.NewReader(msg)
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(msg)
				m := c.Message()
				m.ReadFrom(r)
				m.End()
			}
		})
	}
}
