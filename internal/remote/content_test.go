package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"postamt/internal/addr"
	"postamt/internal/remote/smtptest"
)

// R17: what comes out has only CRLF ends; at a strict and at a lax sink it is one message.
func TestR17_LineEnds(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"no end", "no end\r\n"},
		{"a\nb\n", "a\r\nb\r\n"},
		{"a\rb\r", "a\r\nb\r\n"},
		{"a\r\nb\r\n", "a\r\nb\r\n"},
		{"a\n.\nb\n", "a\r\n.\r\nb\r\n"},
		{"a\r\n.\nMAIL FROM:<evil@x.test>\n", "a\r\n.\r\nMAIL FROM:<evil@x.test>\r\n"},
		{"a\n.\r\nMAIL FROM:<evil@x.test>\r\n", "a\r\n.\r\nMAIL FROM:<evil@x.test>\r\n"},
		{"a\r.\rMAIL", "a\r\n.\r\nMAIL\r\n"},
		{"a\r\r\n.\r\r\nx", "a\r\n\r\n.\r\n\r\nx\r\n"},
		{".\r\n", ".\r\n"},
		{"..\r\n.", "..\r\n.\r\n"},
		{"nul\x00\r\n\xff\xfe\r\n", "nul\x00\r\n\xff\xfe\r\n"},
		{strings.Repeat("x", 5000) + "\r\n", strings.Repeat("x", 5000) + "\r\n"},
	} {
		for _, chunking := range []bool{false, true} {
			out, s, err := once(t, smtptest.Config{Offer: full}, options(func(o *Options) { o.PreferChunking = chunking }), text(c.in, "a@x.test"))
			if err != nil || show(out) != "done/data/250" {
				t.Fatalf("%q: %s %v", c.in, show(out), err)
			}
			m := s.Messages()
			if len(m) != 1 || string(m[0].Data) != c.want || m[0].BDAT != chunking {
				t.Errorf("%q chunking %v: arrived as %+v", c.in, chunking, m)
			}
		}
	}
}

func FuzzR17_OneMessage(f *testing.F) {
	for _, s := range []string{hello, "a\n.\nb", "a\r\n.\r\nQUIT\r\n", "\r.\r", ".", "\n.\r\n", "a\r\n.\rMAIL", "\x00.\r\n"} {
		f.Add([]byte(s))
	}
	s, err := smtptest.Start(smtptest.Config{Offer: full})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, chunking := range []bool{false, true} {
			conn, err := Dial(context.Background(), Endpoint{Addr: s.Addr}, options(func(o *Options) { o.PreferChunking = chunking }))
			if err != nil {
				t.Skip(err)
			}
			before := len(s.Messages())
			tr := text(string(msg), "a@x.test")
			out, err := conn.Send(context.Background(), tr)
			conn.Quit()
			check(t, tr, out)
			m := s.Messages()
			if err != nil || len(m) != before+1 || out[0].Kind != Done {
				t.Fatalf("%d messages of one: %s %v", len(m)-before, show(out), err)
			}
			got := m[before].Data
			if bytes.Count(got, []byte("\r\n")) != bytes.Count(got, []byte("\n")) || bytes.Count(got, []byte("\r\n")) != bytes.Count(got, []byte("\r")) {
				t.Fatalf("%q arrived as %q", msg, got)
			}
			strip := func(b []byte) []byte {
				return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r"), nil), []byte("\n"), nil)
			}
			if !bytes.Equal(strip(got), strip(msg)) {
				t.Fatalf("%q arrived as %q", msg, got)
			}
		}
	})
}

// R19: what a message needs and a peer does not offer.
func TestR19_Extensions(t *testing.T) {
	none := []string{"PIPELINING"}
	for _, c := range []struct {
		name  string
		offer []string
		set   func(*Transaction)
		msg   string
		want  string
		code  string // enhanced code
		sent  string // part of MAIL or RCPT
	}{
		{name: "too large", offer: []string{"SIZE 10"}, want: "failed/mail/552/local", code: "5.3.4"},
		{name: "size unlimited", offer: []string{"SIZE 0"}, want: "done/data/250", sent: "SIZE="},
		{name: "size without number", offer: []string{"SIZE"}, want: "done/data/250", sent: "SIZE="},
		{name: "8-bit", offer: none, set: func(t *Transaction) { t.Body = "8BITMIME" }, msg: "\r\n\xfc\r\n", want: "failed/mail/554/local", code: "5.6.3"},
		{name: "8-bit undeclared", offer: none, msg: "\r\n\xfc\r\n", want: "failed/mail/554/local", code: "5.6.3"},
		{name: "8-bit undeclared, offered", offer: full, msg: "\r\n\xfc\r\n", want: "done/data/250", sent: "BODY=8BITMIME"},
		{name: "8-bit in name only", offer: none, set: func(t *Transaction) { t.Body = "8BITMIME" }, want: "done/data/250", sent: "MAIL FROM:<from@client.test>|"},
		{name: "8-bit, offered", offer: full, set: func(t *Transaction) { t.Body = "8BITMIME" }, want: "done/data/250", sent: "BODY=8BITMIME"},
		{name: "7-bit", offer: full, set: func(t *Transaction) { t.Body = "7BIT" }, want: "done/data/250", sent: "BODY=7BIT"},
		{name: "binary", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: "\r\n\x00\n", want: "failed/mail/554/local", code: "5.6.3"},
		{name: "binary, no chunking", offer: []string{"8BITMIME", "BINARYMIME"}, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: "\r\nx\n", want: "failed/mail/554/local", code: "5.6.3"},
		{name: "binary, offered", offer: full, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: "\r\n\x00\n", want: "done/data/250", sent: "BODY=BINARYMIME"},
		{name: "binary in name only", offer: none, set: func(t *Transaction) { t.Body = "BINARYMIME" }, want: "done/data/250", sent: "MAIL FROM:<from@client.test>|"},
		{name: "binary in name only, 8-bit", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: "\r\n\xfc\r\n", want: "done/data/250", sent: "BODY=8BITMIME"},
		{name: "long line in binary", offer: none, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: strings.Repeat("x", 999) + "\r\n", want: "failed/mail/554/local", code: "5.6.3"},
		{name: "line of 998 in binary", offer: none, set: func(t *Transaction) { t.Body = "BINARYMIME" }, msg: strings.Repeat("x", 998) + "\r\n", want: "done/data/250"},
		{name: "utf8 header", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.UTF8 = true }, msg: "Subject: ü\r\n\r\n", want: "failed/mail/550/local", code: "5.6.7"},
		{name: "utf8 body only", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.UTF8 = true }, msg: "Subject: u\r\n\r\nü\r\n", want: "done/data/250", sent: "BODY=8BITMIME|"},
		{name: "utf8 sender", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.From = box("ü@x.test") }, want: "failed/mail/550/local", code: "5.6.7"},
		{name: "utf8 recipient", offer: []string{"8BITMIME"}, set: func(t *Transaction) { t.Rcpts[0].Addr = box("ü@x.test") }, want: "failed/rcpt/550/local", code: "5.6.7"},
		{name: "utf8 recipient, offered", offer: full, set: func(t *Transaction) { t.Rcpts[0].Addr = box("ü@x.test") }, want: "done/data/250", sent: "SMTPUTF8|RCPT TO:<ü@x.test>"},
		{name: "utf8 header, offered", offer: full, set: func(t *Transaction) { t.UTF8 = true }, msg: "Subject: ü\r\n\r\n", want: "done/data/250", sent: "BODY=8BITMIME SMTPUTF8"},
		{name: "utf8 in name only", offer: none, set: func(t *Transaction) { t.UTF8 = true }, want: "done/data/250", sent: "MAIL FROM:<from@client.test>|"},
		{name: "U-labels", offer: none, set: func(t *Transaction) {
			t.UTF8, t.From, t.Rcpts[0].Addr = true, box("a@bücher.test"), box("b@bücher.test")
		}, want: "done/data/250", sent: "MAIL FROM:<a@xn--bcher-kva.test>|RCPT TO:<b@xn--bcher-kva.test>"},
		{name: "DSN", offer: full, set: dsn, want: "done/data/250", sent: "RET=HDRS ENVID=a+20b|RCPT TO:<a@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o+2Bp@x.test|"},
		{name: "no DSN", offer: none, set: dsn, want: "done/data/250", sent: "MAIL FROM:<from@client.test>|RCPT TO:<a@x.test>|"},
		{name: "no XQID for strangers", offer: full, set: func(t *Transaction) { t.QID, t.Arrived, t.Suspect = "x", 1, true }, want: "done/data/250", sent: "<from@client.test> SIZE=29|"},
		{name: "null sender", offer: none, set: func(t *Transaction) { t.From = addr.Mailbox{} }, want: "done/data/250", sent: "MAIL FROM:<>|"},
		{name: "quoted", offer: none, set: func(t *Transaction) { t.From = box(`a b"c@x.test`) }, want: "done/data/250", sent: `MAIL FROM:<"a b\"c"@x.test>|`},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := c.msg
			if msg == "" {
				msg = hello
			}
			tr := text(msg, "a@x.test")
			if c.set != nil {
				c.set(tr)
			}
			out, s, err := once(t, smtptest.Config{Offer: c.offer}, options(), tr)
			cmds := strings.Join(s.Commands(), "|")
			cmds = strings.ReplaceAll(cmds, "|1 ", "|")
			if show(out) != c.want || err != nil || c.code != "" && out[0].Reply.Enhanced.String() != c.code {
				t.Fatal(show(out), out[0].Reply, err, cmds)
			}
			if !strings.Contains(cmds, c.sent) {
				t.Errorf("%s: does not contain %s", cmds, c.sent)
			}
			if out[0].Local && strings.Contains(cmds, "MAIL") {
				t.Errorf("asked although the answer was known: %s", cmds)
			}
			if m := s.Messages(); out[0].Kind == Done && (len(m) != 1 || string(m[0].Data) != msg) {
				t.Errorf("arrived as %+v", m)
			}
			if out[0].DSN != strings.Contains(strings.Join(c.offer, " "), "DSN") {
				t.Error("DSN", out[0].DSN)
			}
		})
	}
}

func dsn(t *Transaction) {
	t.Ret, t.EnvID = "HDRS", "a b"
	t.Rcpts[0].Notify, t.Rcpts[0].ORcpt = "SUCCESS,FAILURE", "rfc822;o+p@x.test"
}

// Only the recipients that need SMTPUTF8 fail for want of it.
func TestR19_UTF8OneRecipient(t *testing.T) {
	out, s, err := once(t, smtptest.Config{}, options(), text(hello, "a@x.test", "ü@x.test", "b@x.test"))
	if err != nil || show(out) != "done/data/250 failed/rcpt/550/local done/data/250" || len(s.Messages()[0].Rcpts) != 2 {
		t.Fatal(show(out), err)
	}
}

// Many recipients: the window of pipelining, RCPTMAX (RFC 9422), and what is left over.
func TestBatches(t *testing.T) {
	var rcpts []string
	for i := range 250 {
		rcpts = append(rcpts, fmt.Sprintf("u%d@x.test", i))
	}
	for _, c := range []struct {
		offer []string
		max   int
		want  int
	}{
		{[]string{"PIPELINING"}, 0, 100}, {[]string{"PIPELINING"}, 1000, 250}, {[]string{"PIPELINING", "LIMITS RCPTMAX=7"}, 0, 7}, {[]string{}, 1000, 250},
	} {
		out, s, err := once(t, smtptest.Config{Offer: c.offer}, options(func(o *Options) { o.MaxRcpts = c.max }), text(hello, rcpts...))
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			if (o.Kind == Done) != (i < c.want) || o.Again != (i >= c.want) {
				t.Fatalf("%v: recipient %d: %s", c, i, show(out[i:i+1]))
			}
		}
		if n := len(s.Messages()[0].Rcpts); n != c.want {
			t.Errorf("%d recipients", n)
		}
	}
}

// A message that cannot be read, or is not as long as said, is never sent in part.
func TestUnreadable(t *testing.T) {
	broken := errors.New("/queue/x: input/output error")
	for _, c := range []struct {
		name string
		size int64
		open func() (io.Reader, error)
	}{
		{"open", 10, func() (io.Reader, error) { return nil, broken }},
		{"read", 10, func() (io.Reader, error) {
			return io.MultiReader(strings.NewReader("abc"), iotestErr{broken}), nil
		}},
		{"short", 10, func() (io.Reader, error) { return strings.NewReader("abc\r\n"), nil }},
		{"long", 10, func() (io.Reader, error) { return strings.NewReader("abc\r\nabc\r\nabc\r\n"), nil }},
		{"large short", 200_000, func() (io.Reader, error) { return strings.NewReader(strings.Repeat("x", 190_000)), nil }},
		{"none", 0, nil},
	} {
		for _, cfg := range []smtptest.Config{{}, {Offer: full}} {
			tr := &Transaction{Body: "8BITMIME", Rcpts: []Rcpt{{Addr: box("a@x.test")}}, Size: c.size, Open: c.open}
			out, s, _ := once(t, cfg, options(func(o *Options) { o.PreferChunking = true }), tr)
			if out[0].Kind != Temp || !out[0].Local || out[0].MaybeDelivered || out[0].Err == nil || len(s.Messages()) != 0 {
				t.Errorf("%s: %s %v", c.name, show(out), out[0].Err)
			}
			if strings.Contains(out[0].Reply.Error(), "/queue") {
				t.Errorf("%s: reply tells of files: %v", c.name, out[0].Reply)
			}
		}
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// A large message, by DATA and by one chunk, arrives whole; a peer that refuses it half-way is understood.
func TestLarge(t *testing.T) {
	line := strings.Repeat("x", 70) + "\r\n"
	big := strings.Repeat(line, 100_000)
	for _, cfg := range []smtptest.Config{{}, {LMTP: true, Socket: filepath.Join(t.TempDir(), "s"), Offer: full}} {
		out, s, err := once(t, cfg, options(), text(big, "a@x.test", "b@x.test"))
		if err != nil || show(out) != "done/data/250 done/data/250" {
			t.Fatal(show(out), err)
		}
		if m := s.Messages(); len(m) != 1 || string(m[0].Data) != big {
			t.Error("changed on the way")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(nc, "220 x\r\n250 x\r\n250 mail\r\n250 rcpt\r\n354 go\r\n")
		io.CopyN(io.Discard, nc, 100_000)
		io.WriteString(nc, "552 5.3.4 too much\r\n")
		nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, nc)
		nc.Close()
	}()
	conn, err := Dial(context.Background(), Endpoint{Addr: l.Addr().(*net.TCPAddr).AddrPort()}, options())
	if err != nil {
		t.Fatal(err)
	}
	tr := text(big, "a@x.test")
	out, _ := conn.Send(context.Background(), tr)
	check(t, tr, out)
	if show(out) != "failed/data/552" {
		t.Error(show(out), out[0].Reply)
	}
}
