package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"postamt/internal/remote/smtptest"
	"postamt/test/suite"
)

// lax is the server that smuggling needs: CR, LF and CR LF all end a line for it, in a message as in commands.
type lax struct {
	addr string
	wg   sync.WaitGroup

	mu  sync.Mutex
	got []received
}

func newLax(t *testing.T) *lax {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &lax{addr: l.Addr().String()}
	conns := make(chan net.Conn, 100)
	x.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- conn
			x.wg.Go(func() { x.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for conn := range conns {
			conn.Close()
		}
		x.wg.Wait()
	})
	return x
}

func (x *lax) messages() []received {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]received(nil), x.got...)
}

func (x *lax) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	cr := false // the last byte was one: an LF now belongs to it
	line := func() (string, error) {
		var b []byte
		for {
			c, err := r.ReadByte()
			if err != nil {
				return "", err
			}
			after := cr
			cr = c == '\r'
			switch {
			case c == '\n' && after:
			case c == '\n' || c == '\r':
				return string(b), nil
			default:
				b = append(b, c)
			}
		}
	}
	io.WriteString(conn, "220 lax.test\r\n")
	var m received
	for {
		l, err := line()
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(l, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			io.WriteString(conn, "250-lax.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case "MAIL":
			m = received{from: arg}
			io.WriteString(conn, "250 ok\r\n")
		case "RCPT":
			m.to = append(m.to, arg)
			io.WriteString(conn, "250 ok\r\n")
		case "DATA":
			io.WriteString(conn, "354 go on\r\n")
			for {
				if l, err = line(); err != nil {
					return
				}
				if l == "." {
					break
				}
				m.data = append(append(m.data, strings.TrimPrefix(l, ".")...), "\r\n"...)
			}
			x.mu.Lock()
			x.got = append(x.got, m)
			x.mu.Unlock()
			io.WriteString(conn, "250 taken\r\n")
		case "QUIT":
			io.WriteString(conn, "221 bye\r\n")
			return
		default:
			io.WriteString(conn, "250 whatever\r\n")
		}
	}
}

// ends are what some server has taken for the end of a message: rows S01 and S02.
var ends = []string{"\n.\r\n", "\n.\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\n.\r", "\r.\r\n", "\r.\n"}

// smuggled is a message with another one behind a false end.
func smuggled(end string) string {
	return "From: <a@client.test>\r\nSubject: outer\r\n\r\nouter" + end +
		"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@lax.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
}

// TestLaxServerIsVulnerable: else the next test would show nothing.
func TestLaxServerIsVulnerable(t *testing.T) {
	for _, end := range ends {
		x := newLax(t)
		c := dial(t, x.addr)
		c.say("250", "MAIL FROM:<a@client.test>")
		c.say("250", "RCPT TO:<b@lax.test>")
		c.say("354", "DATA")
		c.raw(smuggled(end))
		c.expect("250 taken")
		await(t, "two messages out of one", func() bool { return len(x.messages()) == 2 })
		if got := x.messages()[1]; got.from != "FROM:<evil@client.test>" {
			t.Errorf("%q: the second is from %s", end, got.from)
		}
	}
}

// TestS01_S02_Smuggling: a message with a false end is refused as a whole, none of it is a command, and nothing of it
// reaches a server behind us, whether strict or lax, or a mailbox.
func TestS01_S02_Smuggling(t *testing.T) {
	x, k := newLax(t), sinkAt(t, "127.0.0.1")
	s := start(t, suite.Config{
		Routes:   fmt.Sprintf("lax.test [127.0.0.1]:%s\nsink.test [127.0.0.1]:%s\n", x.addr[strings.LastIndexByte(x.addr, ':')+1:], k.port()),
		Settings: "relay_clients 127.0.0.1\n",
	})
	to := []string{"<b@lax.test>", "<b@sink.test>", "<alice@example.test>"}
	for _, end := range ends {
		c := dial(t, s.Addr)
		c.say("250", "MAIL FROM:<a@client.test>")
		for _, rcpt := range to {
			c.say("250", "RCPT TO:"+rcpt)
		}
		c.say("354", "DATA")
		c.raw(smuggled(end))
		c.expect("550 5.5.2")
		// The next reply is that to the next command: no other has been read out of the message.
		c.say("252", "VRFY alice")
		// The transaction is over.
		c.say("503", "RCPT TO:<b@lax.test>")
	}
	if strings.Contains(s.Log("smtpd"), ": accepted ") {
		t.Error("something was accepted")
	}

	// What looks a little like an end, and is none, goes through as it is.
	body := "..\r\n.\r\n. \r\n .\r\n...\r\n\r\n.MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@lax.test>\r\nDATA\r\n"
	sent := []byte("From: <a@client.test>\r\nSubject: honest\r\n\r\n" + body)
	dial(t, s.Addr).send("<a@client.test>", to, sent)
	empty(t, s)
	if got := x.messages(); len(got) != 1 || !bytes.HasSuffix(got[0].data, sent) {
		t.Errorf("the lax server has %d messages: %q", len(got), got)
	}
	if got := k.messages(); len(got) != 1 || !bytes.HasSuffix(got[0].data, sent) {
		t.Errorf("the strict server has %d messages: %q", len(got), got)
	}
	if got := inbox(t, s, "alice", 1)[0]; !strings.HasSuffix(got, string(unix(sent))) {
		t.Errorf("stored %q", got)
	}
}

// TestR17_OddTextInTheQueue: BDAT can bring what DATA cannot, a binary message and one without a last line end. At the
// next server it is one message, or none and a report.
func TestR17_OddTextInTheQueue(t *testing.T) {
	x := newLax(t)
	binary := smtptest.New(t, smtptest.Config{Offer: []string{"PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME"}})
	s := start(t, suite.Config{Routes: fmt.Sprintf("lax.test [127.0.0.1]:%s\nbinary.test [127.0.0.1]:%d\n",
		x.addr[strings.LastIndexByte(x.addr, ':')+1:], binary.Addr.Port())})
	c := dial(t, s.Socket)
	header := "From: <alice@example.test>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.test>\r\nSubject: odd\r\n\r\n"
	bdat := func(from, to, text string) {
		t.Helper()
		c.say("250", "MAIL FROM:"+from)
		c.say("250", "RCPT TO:"+to)
		c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
		c.expect("250 2.0.0")
	}

	// Text, as long as it likes, 8 bits, without an end: all is there, and the end is added.
	text := header + ".\r\n.a\r\n" + strings.Repeat("x", 5000) + "\r\n\xff\xfe\r\nno end, but a dot\r\n."
	bdat("<alice@example.test> BODY=8BITMIME", "<b@lax.test>", text)
	empty(t, s)
	if got := x.messages(); len(got) != 1 || !bytes.HasSuffix(got[0].data, []byte(text+"\r\n")) {
		t.Errorf("the lax server has %d messages: %q", len(got), got)
	}

	// A binary message goes as it is to who takes such, and comes back from who does not.
	var odd strings.Builder
	odd.WriteString(header)
	for _, end := range ends {
		odd.WriteString(smuggled(end))
	}
	odd.WriteString("\x00\r\n\x00.\r\n\x00lone \r and \n and no end")
	bdat("<alice@example.test> BODY=BINARYMIME", "<b@binary.test>", odd.String())
	bdat("<alice@example.test> BODY=BINARYMIME", "<b@lax.test>", odd.String())
	report := parse(t, inbox(t, s, "alice", 1)[0])
	empty(t, s)
	if got := report.about("b@lax.test"); len(report.Recipients) != 1 || got["Action"] != "failed" || got["Status"] != "5.6.3" {
		t.Errorf("reported %v", report.Recipients)
	}
	if n := len(x.messages()); n != 1 {
		t.Errorf("the lax server has %d messages, want the first", n)
	}
	if got := binary.Messages(); len(got) != 1 || !got[0].BDAT || !bytes.HasSuffix(got[0].Data, []byte(odd.String())) {
		t.Errorf("the server that takes binary has %d messages: %+v", len(got), got)
	}
}
