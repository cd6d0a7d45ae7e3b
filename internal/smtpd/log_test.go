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
