package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/internal/addr"
	"postamt/internal/remote/smtptest"
)

func box(s string) addr.Mailbox {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return addr.Mailbox{Local: s}
	}
	return addr.Mailbox{Local: s[:i], Domain: s[i+1:]}
}

// text makes a transaction of a message for some recipients.
func text(msg string, rcpts ...string) *Transaction {
	t := &Transaction{From: box("from@client.test"), Size: int64(len(msg)), Open: func() (io.Reader, error) { return strings.NewReader(msg), nil }}
	for _, r := range rcpts {
		t.Rcpts = append(t.Rcpts, Rcpt{Addr: box(r)})
	}
	return t
}

const hello = "Subject: hello\r\n\r\n.dot\r\nbye\r\n"

func endpoint(s *smtptest.Server, c smtptest.Config) Endpoint {
	return Endpoint{Name: "mx.test", Addr: s.Addr, Socket: c.Socket, LMTP: c.LMTP}
}

func options(more ...func(*Options)) *Options {
	o := &Options{Hostname: "client.test", Timeouts: Timeouts{Connect: 5 * time.Second, Total: 20 * time.Second}}
	for _, f := range more {
		f(o)
	}
	return o
}

// once connects to a server of its own, sends t and takes leave.
func once(tb testing.TB, c smtptest.Config, o *Options, t *Transaction) ([]Outcome, *smtptest.Server, error) {
	tb.Helper()
	s := smtptest.New(tb, c)
	conn, err := Dial(context.Background(), endpoint(s, c), o)
	if err != nil {
		return nil, s, err
	}
	out, err := conn.Send(context.Background(), t)
	check(tb, t, out)
	conn.Quit()
	return out, s, err
}

// check says what holds of all outcomes.
func check(tb testing.TB, t *Transaction, out []Outcome) {
	tb.Helper()
	if len(out) != len(t.Rcpts) {
		tb.Fatalf("%d outcomes for %d recipients", len(out), len(t.Rcpts))
	}
	for i, o := range out {
		switch {
		case o.Reply == nil:
			tb.Fatalf("recipient %d has no reply", i)
		case o.Kind == Done && (o.Local || o.Stage != StageData || o.Reply.Code/100 != 2 || o.MaybeDelivered || o.Again):
			tb.Errorf("done without the peer's word: %+v", o)
		case o.Kind == Perm && (!o.Reply.Permanent() || o.MaybeDelivered || o.Again):
			tb.Errorf("failed without 5yz: %+v %v", o, o.Reply)
		case o.Kind == Temp && o.Local && !o.Reply.Temporary():
			tb.Errorf("deferred with %v", o.Reply)
		}
	}
}

func show(out []Outcome) string {
	var s []string
	for _, o := range out {
		x := fmt.Sprint(o.Kind, "/", o.Stage, "/", o.Reply.Code)
		if o.Local {
			x += "/local"
		}
		if o.MaybeDelivered {
			x += "/maybe"
		}
		if o.Again {
			x += "/again"
		}
		s = append(s, x)
	}
	return strings.Join(s, " ")
}

var full = []string{"PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES"}

// The same message by every way there is; the stub reads strictly and keeps what it gets.
func TestSend(t *testing.T) {
	sock := func(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }
	no8 := []string{"PIPELINING"}
	for _, c := range []struct {
		name  string
		c     smtptest.Config
		o     func(*Options)
		lines string // of the conversation
	}{
		{name: "pipelined", lines: "EHLO client.test|MAIL FROM:<from@client.test> SIZE=35|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|DATA|QUIT"},
		{name: "step by step", c: smtptest.Config{Offer: []string{"SIZE"}}, lines: "EHLO client.test|MAIL FROM:<from@client.test> SIZE=35|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|DATA|QUIT"},
		{name: "HELO", c: smtptest.Config{Reply: func(_ int, verb, _ string) string {
			if verb == "EHLO" {
				return "502 what"
			}
			return ""
		}}, lines: "EHLO client.test|HELO client.test|MAIL FROM:<from@client.test>|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|DATA|QUIT"},
		{name: "foreign server with everything", c: smtptest.Config{Offer: full}, lines: "EHLO client.test|MAIL FROM:<from@client.test> SIZE=35|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|DATA|QUIT"},
		{name: "BDAT", c: smtptest.Config{Offer: full}, o: func(o *Options) { o.PreferChunking = true },
			lines: "EHLO client.test|MAIL FROM:<from@client.test> SIZE=35|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|BDAT 35 LAST|QUIT"},
		{name: "BDAT step by step", c: smtptest.Config{Offer: []string{"CHUNKING"}}, o: func(o *Options) { o.PreferChunking = true },
			lines: "EHLO client.test|MAIL FROM:<from@client.test>|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|BDAT 35 LAST|QUIT"},
		{name: "LMTP", c: smtptest.Config{LMTP: true, Offer: no8}, lines: "LHLO client.test|MAIL FROM:<from@client.test>|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|DATA|QUIT"},
		{name: "deliver", c: smtptest.Config{LMTP: true, Socket: "yes", Offer: append([]string{"XQID"}, full...)},
			lines: "LHLO client.test|MAIL FROM:<from@client.test> SIZE=35 XQID=01234567890123456789 XARRIVED=1764000000123456 XSUSPECT|RCPT TO:<a@x.test>|RCPT TO:<b@x.test>|BDAT 35 LAST|QUIT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.c.Socket != "" {
				c.c.Socket = sock(t)
			}
			o := options()
			if c.o != nil {
				c.o(o)
			}
			tr := text("Subject: hello\r\n\r\n.dot\r\n\r\n..\r\nbye\r\n", "a@x.test", "b@x.test")
			tr.QID, tr.Arrived, tr.Suspect = "01234567890123456789", 1764000000123456, true
			out, s, err := once(t, c.c, o, tr)
			if err != nil || show(out) != "done/data/250 done/data/250" {
				t.Fatal(show(out), err)
			}
			m := s.Messages()
			if len(m) != 1 || string(m[0].Data) != "Subject: hello\r\n\r\n.dot\r\n\r\n..\r\nbye\r\n" || len(m[0].Rcpts) != 2 {
				t.Errorf("%+v", m)
			}
			var lines []string
			for _, l := range s.Commands() {
				lines = append(lines, strings.TrimPrefix(l, "1 "))
			}
			if got := strings.Join(lines, "|"); got != c.lines {
				t.Errorf("\n got %s\nwant %s", got, c.lines)
			}
		})
	}
}

// R07: the first reply.
func TestR07_Greeting(t *testing.T) {
	for _, c := range []struct {
		greeting string
		peer     int // the peer's code is passed on
		text     string
	}{
		{"554 go away", 554, "554 go away"},
		{"521 no mail here", 521, "521"},
		{"421 4.3.2 busy", 421, "421 4.3.2 busy"},
		{"450 4.7.1 grey", 450, "450"},
		{smtptest.Close, 0, "451 4.4.1 greeting of mx.test[127.0.0.1]:"},
		{"354 go on", 0, "451 4.5.0"},
		{"220 " + strings.Repeat("x", 1<<20), 0, "451 4.5.0"},
		{strings.Repeat("220-x\r\n", 10000) + "220 x\r\n", 0, "451 4.5.0"},
		{"220 bare lf\n220 x\r\n", 0, "451 4.5.0"},
		{"220 nul\x00\r\n", 0, "451 4.5.0"},
		{"HTTP/1.1 400 Bad Request", 0, "451 4.5.0"},
		{"999 x", 0, "451 4.5.0"},
		{"22", 0, "451 4.5.0"},
		{smtptest.Silence, 0, "timed out"},
		{"220-never ends\r\n", 0, "timed out"},
		{"220 no end\x00\n"[:10] + "\r", 0, ""}, // "220 no end\r" and CRLF: a bare CR
	} {
		t.Run(fmt.Sprintf("%.20q", c.greeting), func(t *testing.T) {
			s := smtptest.New(t, smtptest.Config{Reply: func(_ int, verb, _ string) string {
				if verb == "" {
					return c.greeting
				}
				return ""
			}})
			conn, err := Dial(context.Background(), Endpoint{Name: "mx.test", Addr: s.Addr}, options(func(o *Options) { o.Timeouts.Greeting = 200 * time.Millisecond }))
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Peer != (c.peer > 0) || !strings.Contains(err.Error(), c.text) || !e.Peer && !e.Reply.Temporary() || e.Peer && e.Reply.Code != c.peer {
				t.Fatalf("%+v: %v", e, err)
			}
		})
	}
}

// R08: replies that have no place in SMTP.
func TestR08_ProtocolErrors(t *testing.T) {
	for _, c := range []struct{ verb, reply, want string }{
		{"MAIL", "354 go on", "deferred/mail/451/local"},
		{"MAIL", "999 x", "deferred/mail/451/local"},
		{"MAIL", "25", "deferred/mail/451/local"},
		{"MAIL", "250-x\r\n251 y\r\n", "deferred/mail/451/local"},
		{"MAIL", "250-", "deferred//451/local"}, // the next reply continues it
		{"MAIL", "hello", "deferred/mail/451/local"},
		{"MAIL", "150 x", "deferred/mail/451/local"},
		{"RCPT", "354 go on", "deferred/rcpt/451/local"},
		{"RCPT", "xyz", "deferred/rcpt/451/local"},
		{"DATA", "250 fine", "deferred/data/451/local"},
		{"DATA", "334 x", "deferred/data/451/local"},
		{"DATA", "\r\n", "deferred/data/451/local"},
		{".", "354 more", "deferred/data/451/local/maybe"},
		{".", "xyz", "deferred/data/451/local/maybe"},
		{".", "250-x\r\n250", "deferred/data/451/local/maybe"},
		{".", "250", "done/data/250"}, // RFC 5321 section 4.2: text may be missing
		{"RSET", "550 x", ""},
	} {
		for _, offer := range [][]string{{"PIPELINING"}, {}} {
			t.Run(fmt.Sprintf("%s %.10q %v", c.verb, c.reply, offer), func(t *testing.T) {
				reply := func(_ int, verb, _ string) string {
					if verb == c.verb {
						return c.reply
					}
					if c.verb == "RSET" && verb == "DATA" {
						return "451 4.3.0 not now"
					}
					return ""
				}
				s := smtptest.New(t, smtptest.Config{Offer: offer, Reply: reply})
				o := options(func(o *Options) { o.Timeouts.Command, o.Timeouts.Done = 200*time.Millisecond, 200*time.Millisecond })
				conn, err := Dial(context.Background(), endpoint(s, smtptest.Config{}), o)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				tr := text(hello, "a@x.test")
				out, err := conn.Send(context.Background(), tr)
				check(t, tr, out)
				if c.verb == "RSET" {
					if out, err = conn.Send(context.Background(), tr); show(out) != "deferred/mail/451/local" || err == nil {
						t.Fatal(show(out), err)
					}
					return
				}
				want := c.want
				if c.reply == "250-" {
					want = fmt.Sprintf("deferred/%s/451/local", out[0].Stage)
				}
				if show(out) != want || (err == nil) != (out[0].Kind == Done) {
					t.Fatal(show(out), err)
				}
				if err != nil && conn.Usable() {
					t.Error("usable after", err)
				}
			})
		}
	}
}

// R10: the connection is cut at each byte, in each direction. Done exactly if the whole positive reply came; MaybeDelivered at least whenever the peer had the
// whole message and its reply did not come through; before DATA was answered never.
func TestR10_CutAtEachByte(t *testing.T) {
	for _, c := range []struct {
		name string
		c    smtptest.Config
	}{
		{"SMTP", smtptest.Config{}},
		{"SMTP step by step", smtptest.Config{Offer: []string{"SIZE"}}},
		{"LMTP by BDAT", smtptest.Config{LMTP: true, Socket: "yes", Offer: full}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.c.Socket != "" {
				c.c.Socket = filepath.Join(t.TempDir(), "whole")
			}
			tr := text(hello, "a@x.test", "b@x.test")
			out, s, err := once(t, c.c, options(), tr)
			if err != nil || show(out) != "done/data/250 done/data/250" {
				t.Fatal(show(out), err)
			}
			in, sent := s.Bytes()
			in -= len("QUIT\r\n")
			sent -= len("221 2.0.0 bye\r\n")
			run := func(t *testing.T, k int, cfg smtptest.Config) ([]Outcome, *smtptest.Server) {
				if cfg.Socket != "" {
					cfg.Socket = filepath.Join(t.TempDir(), "s")
				}
				s, err := smtptest.Start(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				conn, err := Dial(context.Background(), endpoint(s, cfg), options())
				if err != nil {
					return nil, s
				}
				defer conn.Close()
				out, _ := conn.Send(context.Background(), tr)
				check(t, tr, out)
				return out, s
			}
			for k := 1; k <= in; k++ {
				cfg := c.c
				cfg.CutRead = k
				out, s := run(t, k, cfg)
				for i, o := range out {
					// A cut after the last byte lets the replies through.
					if o.Kind == Perm || (o.Kind == Done) != (k == in) {
						t.Fatalf("read cut at %d of %d: recipient %d: %s", k, in, i, show(out))
					}
					if len(s.Messages()) > 0 && o.Kind != Done && !o.MaybeDelivered {
						t.Fatalf("read cut at %d of %d: %s, and the peer has the message", k, in, show(out))
					}
				}
			}
			for k := 1; k <= sent; k++ {
				cfg := c.c
				cfg.CutWrite = k
				out, s := run(t, k, cfg)
				have := len(s.Messages()) > 0
				for i, o := range out {
					if o.Kind == Perm || o.Kind == Done && !have {
						t.Fatalf("write cut at %d of %d: recipient %d: %s", k, sent, i, show(out))
					}
					if have && o.Kind == Temp && !o.MaybeDelivered {
						t.Fatalf("write cut at %d of %d: %s, and the peer has the message", k, sent, show(out))
					}
				}
				if k == sent && (len(out) != 2 || out[1].Kind != Done) {
					t.Fatalf("all replies came: %s", show(out))
				}
				// RFC 2033 section 4.2: with LMTP who has a reply is done, whatever comes of the others.
				if c.c.LMTP && k == sent-1 && (out[0].Kind != Done || !out[1].MaybeDelivered) {
					t.Fatalf("cut in the last reply: %s", show(out))
				}
			}
		})
	}
}

// R10: after DATA was asked for and before the end of the message, a lost connection is only that.
func TestR10_LostBeforeDot(t *testing.T) {
	for _, verb := range []string{"MAIL", "RCPT", "DATA"} {
		out, _, err := once(t, smtptest.Config{Reply: func(_ int, v, _ string) string {
			if v == verb {
				return smtptest.Close
			}
			return ""
		}}, options(), text(hello, "a@x.test"))
		if err == nil || out[0].MaybeDelivered || out[0].Kind != Temp || out[0].Reply.Enhanced.String() != "4.4.2" {
			t.Error(verb, show(out), out[0].Reply, err)
		}
	}
}

// rcptReplies makes the stub answer RCPT by local part: "450@x" gets 450.
func rcptReplies(_ int, verb, args string) string {
	if verb != "RCPT" {
		return ""
	}
	_, a, _ := strings.Cut(args, "<")
	if code, _, _ := strings.Cut(a, "@"); len(code) == 3 && code[0] >= '2' && code[0] <= '5' {
		return code + " as you wish"
	}
	return ""
}

// R11: each recipient has its own reply.
func TestR11_PerRecipient(t *testing.T) {
	for _, c := range []struct {
		name  string
		rcpts []string
		want  string
		data  int
	}{
		{"mixed", []string{"a@x.test", "450@x.test", "550@x.test", "251@x.test"}, "done/data/250 deferred/rcpt/450 failed/rcpt/550 done/data/250", 1},
		{"none", []string{"450@x.test", "550@x.test"}, "deferred/rcpt/450 failed/rcpt/550", 0},
		{"421 after 250", []string{"a@x.test", "421@x.test", "b@x.test"}, "deferred/rcpt/421 deferred/rcpt/421 deferred/rcpt/421", 0},
		{"552 is 452", []string{"552@x.test", "a@x.test", "552@x.test", "452@x.test"}, "deferred/rcpt/552 done/data/250 deferred/rcpt/552/again deferred/rcpt/452/again", 1},
	} {
		for _, cfg := range []smtptest.Config{{}, {Offer: []string{}}, {LMTP: true, Offer: full}, {LMTP: true, Socket: "yes", Offer: full}, {LMTP: true, Socket: "yes", Offer: []string{"CHUNKING"}}} {
			t.Run(fmt.Sprint(c.name, cfg.LMTP, cfg.Socket, cfg.Offer), func(t *testing.T) {
				if cfg.Socket != "" {
					cfg.Socket = filepath.Join(t.TempDir(), "s")
				}
				cfg.Reply = rcptReplies
				want := c.want
				if c.name == "421 after 250" && cfg.Socket != "" && len(cfg.Offer) > 1 {
					// The message was in the same flight, and this stub talks on after 421.
					want, c.data = "deferred/rcpt/421/maybe deferred/rcpt/421 deferred/rcpt/421/maybe", 1
				}
				s := smtptest.New(t, cfg)
				conn, err := Dial(context.Background(), endpoint(s, cfg), options())
				if err != nil {
					t.Fatal(err)
				}
				tr := text(hello, c.rcpts...)
				out, err := conn.Send(context.Background(), tr)
				check(t, tr, out)
				if show(out) != want || len(s.Messages()) != c.data && err == nil {
					t.Fatalf("%s, %d messages, want %s (%v)", show(out), len(s.Messages()), want, err)
				}
				if err != nil {
					return
				}
				// The connection goes on, with RSET where a transaction was left open.
				out, err = conn.Send(context.Background(), text(hello, "z@x.test"))
				if err != nil || show(out) != "done/data/250" {
					t.Fatal(show(out), err)
				}
				cmds := strings.Join(s.Commands(), "|")
				if reset := strings.Contains(cmds, "RSET"); reset != (c.data == 0) {
					t.Errorf("RSET: %v in %s", reset, cmds)
				}
				conn.Quit()
			})
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ verb, reply, want string }{
		{"MAIL", "550 5.7.1 not you", "failed/mail/550 failed/mail/550"},
		{"MAIL", "451 4.7.1 not now", "deferred/mail/451 deferred/mail/451"},
		{"MAIL", "421 4.3.2 bye", "deferred/mail/421 deferred/mail/421"},
		{"DATA", "554 5.5.1 no", "failed/data/554 failed/data/554"},
		{"DATA", "451 4.5.1 later", "deferred/data/451 deferred/data/451"},
		{"DATA", "421 4.5.1 bye", "deferred/data/421 deferred/data/421"},
		{".", "554 5.7.1 spam", "failed/data/554 failed/data/554"},
		{".", "421 4.3.0 bye", "deferred/data/421 deferred/data/421"}, // R12, and no maybe: it said what it did
		{".", "451 4.3.0 disk", "deferred/data/451 deferred/data/451"},
	} {
		for _, cfg := range []smtptest.Config{{}, {Offer: []string{}}, {Offer: full}} {
			if cfg.Offer != nil && len(cfg.Offer) == len(full) && c.verb == "DATA" {
				continue
			}
			cfg.Reply = func(_ int, verb, _ string) string {
				if verb == c.verb {
					return c.reply
				}
				return ""
			}
			out, _, err := once(t, cfg, options(func(o *Options) { o.PreferChunking = true }), text(hello, "a@x.test", "b@x.test"))
			if show(out) != c.want {
				t.Errorf("%s %s %v: %s", c.verb, c.reply, cfg.Offer, show(out))
			}
			if bye := strings.HasPrefix(c.reply, "421"); bye != (err != nil) {
				t.Errorf("%s %s %v: %v", c.verb, c.reply, cfg.Offer, err)
			}
			if out[0].Reply.Error() != c.reply {
				t.Errorf("reply %q for %q", out[0].Reply, c.reply)
			}
		}
	}
}

// RFC 2920 section 3.1: 354 although no recipient was accepted.
func TestDataWithoutRecipients(t *testing.T) {
	cfg := smtptest.Config{Reply: func(conn int, verb, args string) string {
		if verb == "DATA" {
			return "354 go on"
		}
		return rcptReplies(conn, verb, args)
	}}
	s := smtptest.New(t, cfg)
	conn, err := Dial(context.Background(), endpoint(s, cfg), options())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		out, err := conn.Send(context.Background(), text(hello, "550@x.test"))
		if err != nil || show(out) != "failed/rcpt/550" {
			t.Fatal(show(out), err)
		}
	}
	if m := s.Messages(); len(m) != 2 || len(m[0].Data) != 0 || len(m[1].Data) != 0 {
		t.Errorf("%+v", m)
	}
}

// D15: LMTP replies after the message.
func TestD15_LMTPReplies(t *testing.T) {
	for _, c := range []struct{ name, second, want string }{
		{"all", "", "done/data/250 done/data/250 done/data/250"},
		{"one of each", "450 4.2.2 full", "done/data/250 deferred/data/450 done/data/250"},
		{"failed", "550 5.2.1 no", "done/data/250 failed/data/550 done/data/250"},
		{"close", smtptest.Close, "done/data/250 deferred/data/451/local/maybe deferred/data/451/local/maybe"},
		{"missing", smtptest.Silence, "done/data/250 done/data/250 deferred/data/451/local/maybe"},
		{"421", "421 4.3.0 bye", "done/data/250 deferred/data/421 deferred/data/421/maybe"},
		{"extra", "250 a\r\n250 b\r\n", "done/data/250 done/data/250 done/data/250"},
		{"junk", "what", "done/data/250 deferred/data/451/local/maybe deferred/data/451/local/maybe"},
	} {
		for _, offer := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING", "8BITMIME"}, {}} {
			t.Run(fmt.Sprint(c.name, offer), func(t *testing.T) {
				cfg := smtptest.Config{LMTP: true, Offer: offer, Reply: func(_ int, verb, args string) string {
					if verb == "." && args == "<b@x.test>" {
						if c.second == "421 4.3.0 bye" {
							return "421 4.3.0 bye\r\n"
						}
						return c.second
					}
					if verb == "." && args == "<c@x.test>" && c.second == "421 4.3.0 bye" {
						return smtptest.Close
					}
					return ""
				}}
				if len(offer) == 3 {
					cfg.Socket = filepath.Join(t.TempDir(), "s")
				}
				s := smtptest.New(t, cfg)
				conn, err := Dial(context.Background(), endpoint(s, cfg), options(func(o *Options) { o.Timeouts.Done = 300 * time.Millisecond }))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				tr := text(hello, "a@x.test", "b@x.test", "c@x.test")
				out, err := conn.Send(context.Background(), tr)
				check(t, tr, out)
				if show(out) != c.want {
					t.Fatal(show(out), err)
				}
				if c.name == "extra" {
					// One reply too many: now, or found before the next message.
					for deadline := time.Now().Add(5 * time.Second); err == nil && conn.Alive(); {
						if time.Now().After(deadline) {
							t.Fatal("alive with a reply that nobody asked for")
						}
						time.Sleep(time.Millisecond) // the reply is on its way through the kernel
					}
				} else if (err == nil) != (conn.Usable()) {
					t.Error(err, conn.Usable())
				}
			})
		}
	}
}

// D19: deliver says that a worker died with the whole message: the next attempt must look first. Of a stranger's 4.4.2 we know no such thing.
func TestD19_LostBehindDeliver(t *testing.T) {
	for _, c := range []struct{ keyword, want string }{
		{"XQID", "done/data/250 deferred/data/451/maybe done/data/250"},
		{"X", "done/data/250 deferred/data/451 done/data/250"},
	} {
		cfg := smtptest.Config{LMTP: true, Socket: filepath.Join(t.TempDir(), "s"), Offer: []string{"PIPELINING", "CHUNKING", "8BITMIME", c.keyword},
			Reply: func(_ int, verb, args string) string {
				if verb == "." && args == "<b@x.test>" {
					return "451 4.4.2 lost"
				}
				return ""
			}}
		s := smtptest.New(t, cfg)
		conn, err := Dial(context.Background(), endpoint(s, cfg), options())
		if err != nil {
			t.Fatal(err)
		}
		tr := text(hello, "a@x.test", "b@x.test", "c@x.test")
		out, err := conn.Send(context.Background(), tr)
		if show(out) != c.want || err != nil || !conn.Usable() {
			t.Errorf("%s: %s, %v", c.keyword, show(out), err)
		}
		conn.Close()
	}
}
