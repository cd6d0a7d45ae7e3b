package smtp

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"postamt/internal/addr"
)

var everything = Extensions{Size: true, Pipelining: true, EightBit: true, BinaryMIME: true, Chunking: true, UTF8: true, DSN: true, StartTLS: true, Enhanced: true, XQID: true}

// peer is a Conn and the other end of its connection, on loopback.
func peer(tb testing.TB) (*Conn, net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { client.Close(); server.Close() })
	return NewConn(server), client
}

// send is what a Conn reads when the peer sends s and closes.
func send(tb testing.TB, s string) *Conn {
	c, other := peer(tb)
	go func() {
		io.WriteString(other, s)
		other.Close()
	}()
	return c
}

func TestReadCommand(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Command
		err  error
	}{
		{"NOOP", Command{"NOOP", ""}, nil},
		{"noop ", Command{"NOOP", ""}, nil},
		{"Mail FROM:<A@b>  SIZE=1 \t ", Command{"MAIL", "FROM:<A@b>  SIZE=1"}, nil},
		{"RCPT   TO:<a@b>", Command{"RCPT", "TO:<a@b>"}, nil},
		{"", Command{}, nil},
		{" NOOP", Command{"", "NOOP"}, nil},
		{"MAIL\tFROM:<a@b>", Command{"MAIL\tFROM:<A@B>", ""}, nil},
		{"h\xe9lo x", Command{"H\xe9LO", "x"}, nil},
		{"MAIL FROM:<a@b>\nRCPT TO:<c@d>", Command{}, ErrBareNewline}, // S06
		{"NO\x00OP", Command{}, ErrNUL},
		{strings.Repeat("x", 511), Command{}, ErrLineTooLong},
	} {
		c := send(t, tt.in+"\r\nRSET\r\n")
		got, err := c.ReadCommand(512)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%.30q: %q, %v, want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
		if got, err := c.ReadCommand(512); got.Verb != "RSET" || err != nil {
			t.Errorf("%.30q: then %q, %v", tt.in, got, err)
		}
		if _, err := c.ReadCommand(512); err != io.EOF {
			t.Errorf("%.30q: at the end %v", tt.in, err)
		}
	}
	c := send(t, strings.Repeat("x", 1<<20)+"\r\nRSET\r\n")
	for range 2 {
		if _, err := c.ReadCommand(512); !errors.Is(err, ErrEndlessLine) || !errors.Is(err, ErrLineTooLong) {
			t.Error("S08:", err)
		}
	}
}

// S01, S02 at the level of a session: the body's false ends run no command.
func TestS01S02_NothingIsSmuggled(t *testing.T) {
	for _, end := range []string{"\n.\r\n", "\n.\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\n.\r", "\r.\r\n"} {
		c := send(t, "DATA\r\nSubject: x\r\n\r\nbody"+end+"MAIL FROM:<evil@x>\r\nRCPT TO:<you@y>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n")
		if cmd, err := c.ReadCommand(512); cmd.Verb != "DATA" {
			t.Fatal(cmd, err)
		}
		d := c.Data()
		if _, err := io.Copy(io.Discard, d); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(d.Err(), ErrBareNewline) {
			t.Errorf("%q: %v", end, d.Err())
		}
		if cmd, err := c.ReadCommand(512); cmd.Verb != "QUIT" {
			t.Errorf("%q: next command %q, %v", end, cmd, err)
		}
	}
}

func TestS39_ParseHelo(t *testing.T) {
	for in, want := range map[string]string{
		"mx.example.org":           "mx.example.org",
		"MX.Example.ORG":           "MX.Example.ORG",
		"mx.example.org.":          "mx.example.org",
		"localhost":                "localhost",
		"my_pc":                    "my_pc",
		"192.0.2.1":                "192.0.2.1",
		"[127.0.0.1]":              "[127.0.0.1]",
		"[IPv6:2001:db8::1]":       "[IPv6:2001:db8::1]",
		"":                         "",
		".":                        "",
		"a b":                      "",
		"a..b":                     "",
		"-a":                       "",
		"[127.0.0.1":               "",
		"[127.0.0.1] x":            "",
		"[2001:db8::1]":            "",
		"2001:db8::1":              "",
		"a\x1b[31m":                "",
		"a\nb":                     "",
		"a\"b":                     "",
		"b\u00fccher.example":      "",
		strings.Repeat("a.", 200):  "",
		strings.Repeat("a", 1<<20): "",
	} {
		got, err := ParseHelo(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%.40q: %q, %v, want %q", in, got, err, want)
		}
		if r := (*Reply)(nil); err != nil && (!errors.As(err, &r) || r.Code != 501) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func TestS37_ParseBDAT(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int64
		last bool
		ok   bool
	}{
		{"1000", 1000, false, true},
		{"1000 LAST", 1000, true, true},
		{"0 last", 0, true, true},
		{"0", 0, false, true},
		{"007", 7, false, true},
		{"9223372036854775807", 1<<63 - 1, false, true},
		{"9223372036854775808", 0, false, false},
		{"18446744073709551616", 0, false, false},
		{"000000000000000000001", 0, false, false},
		{"", 0, false, false},
		{"LAST", 0, false, false},
		{"-1", 0, false, false},
		{"+1", 0, false, false},
		{"0x10", 0, false, false},
		{"1_000", 0, false, false},
		{"10 LAST LAST", 0, false, false},
		{"10 LASTX", 0, false, false},
		{"10  LAST", 10, true, true},
		{"10 ", 0, false, false}, // a command line has no space at its end
	} {
		n, last, err := ParseBDAT(tt.in)
		if n != tt.n || last != tt.last || (err == nil) != tt.ok {
			t.Errorf("%q: %d, %v, %v", tt.in, n, last, err)
		}
		if r := (*Reply)(nil); err != nil && (!errors.As(err, &r) || r.Code != 501) {
			t.Errorf("%q: %v", tt.in, err)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@b> SIZE=1", "noop ", " x", "EHLO [127.0.0.1]", "BDAT 10 LAST", "HELO a_b."} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		cmd := parseCommand(append([]byte(nil), line...))
		if strings.Contains(cmd.Verb, " ") || strings.HasPrefix(cmd.Args, " ") || strings.HasSuffix(cmd.Args, " ") {
			t.Fatalf("%q: %q", line, cmd)
		}
		if again := parseCommand([]byte(cmd.Verb + " " + cmd.Args)); cmd.Args != "" && again != cmd {
			t.Fatalf("%q: %q, again %q", line, cmd, again)
		}
		if name, err := ParseHelo(cmd.Args); err == nil {
			if again, err := ParseHelo(name); err != nil || again != name || len(name) > addr.MaxDomain {
				t.Fatalf("HELO %q: %q, again %q, %v", cmd.Args, name, again, err)
			}
			for i := range len(name) {
				if name[i] <= ' ' || name[i] > '~' {
					t.Fatalf("HELO %q: %q", cmd.Args, name)
				}
			}
		}
		if n, _, err := ParseBDAT(cmd.Args); err == nil && n < 0 {
			t.Fatalf("BDAT %q: %d", cmd.Args, n)
		}
	})
}

func TestWriteLine(t *testing.T) {
	c, other := peer(t)
	for _, bad := range []string{"a\rb", "a\n", "\x00"} {
		if err := c.WriteLine("MAIL FROM:<", bad, ">"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := c.WriteLine("MAIL FROM:<", "a@b", ">"); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	c.Close()
	if b, _ := io.ReadAll(other); string(b) != "MAIL FROM:<a@b>\r\n" {
		t.Errorf("%q", b)
	}
}
