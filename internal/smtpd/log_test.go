package smtpd

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"postamt/internal/maillog"
)

// A refusal is logged with the sender of its transaction, though that is over when the message is refused; one outside
// of a transaction has no sender, which is not the null sender.
func TestRejectNamesItsSender(t *testing.T) {
	const bare = "Subject: x\r\n\r\na\nb\r\n"
	for _, c := range []struct{ say, from string }{
		{opening + "DATA\r\n" + bare + ".\r\n", "from=<a@client.example> "},
		{opening + "BDAT 19 LAST\r\n" + bare, "from=<a@client.example> "},
		{opening + "BDAT 19\r\n" + bare + "BDAT 0 LAST\r\n", "from=<a@client.example> "},
		{"EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\n" + bare + ".\r\n", "from=<> "},
		{"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<nobody@mx.example>\r\n", "from=<a@client.example> "},
		{"EHLO client.example\r\nDATA\r\n", ""},
		{opening + "DATA\r\n.\r\nFROB\r\n", ""},
	} {
		var log bytes.Buffer
		l := maillog.New(&log, "smtpd")
		s := NewServer(&memory{}, testConfig(), 4)
		s.Log = l
		s.Serve(context.Background(), &input{pieces: [][]byte{[]byte(c.say)}, quiet: false}, MX, testPeer)
		l.Close()
		n := 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, ": reject ") {
				n++
				if c.from == "" && strings.Contains(line, " from=") || !strings.Contains(line, c.from) {
					t.Errorf("%q: %s", c.say, line)
				}
			}
		}
		if n != 1 {
			t.Errorf("%q: %d refusals\n%s", c.say, n, log.String())
		}
	}
}

// The Message-ID is in the line of acceptance, and no octet of it passes for anything else there.
func TestAcceptedNamesItsMessageID(t *testing.T) {
	for _, c := range []struct{ kind, field, want string }{
		{MX, "Message-ID: <a.b@c.example>\r\n", " message-id=<a.b@c.example> took="},
		{MX, "message-id:\r\n <a@c.example>  \r\nMessage-ID: <second@c.example>\r\n", " message-id=<a@c.example> took="},
		{MX, "Message-ID: <a\x1b[2J\r\n\t rcpts=9@c.example>\r\n", ` message-id="<a\x1b[2J\x0d\x0a\x09 rcpts\x3d9@c.example>" took=`},
		{MX, "", " session="},
		{Local, "", "@mx.example> took="},
	} {
		var log bytes.Buffer
		l := maillog.New(&log, "smtpd")
		peer := testPeer
		if c.kind == Local {
			peer.Login = "alice"
		}
		s := NewServer(&memory{}, testConfig(), 4)
		s.Log = l
		s.Serve(context.Background(), &input{pieces: [][]byte{[]byte(opening + "DATA\r\n" + c.field + "Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")}}, c.kind, peer)
		l.Close()
		_, line, _ := strings.Cut(log.String(), ": accepted ")
		line, _, _ = strings.Cut(line, "\n")
		// How long it took may be no time at all.
		if want := strings.TrimSuffix(c.want, " took="); !strings.Contains(line, want) || strings.Contains(line, "message-id") != (c.kind == Local || c.field != "") {
			t.Errorf("%q: no %q in %q\n%s", c.field, want, line, log.String())
		}
	}
}
