package smtpd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postamt/internal/maillog"
)

// underTLS says lines on a connection, STARTTLS among them, and then others under TLS; each has a reply of one line, but EHLO.
func underTLS(t *testing.T, h *loopback, clear, secure string) (below net.Conn, c *tls.Conn, r *bufio.Reader) {
	t.Helper()
	below, err := h.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { below.Close() })
	below.SetDeadline(time.Now().Add(time.Minute))
	r = bufio.NewReader(below)
	say := func(w io.Writer, lines string) {
		t.Helper()
		for line := range strings.Lines(lines) {
			io.WriteString(w, line)
			if got := readReply(t, r); got[0] > '3' {
				t.Fatalf("%q: %s", line, got)
			}
		}
	}
	readReply(t, r)
	say(below, clear)
	c = tls.Client(below, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	r = bufio.NewReader(c)
	say(c, secure)
	return below, c, r
}

// readReply is one reply, all its lines.
func readReply(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	for all := ""; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", all+line, err)
		}
		if all += line; len(line) < 4 || line[3] != '-' {
			return all
		}
	}
}

// What breaks TLS after the handshake is the client's doing: it ends the session and is no problem of ours.
func TestBrokenTLSIsWhyASessionEnds(t *testing.T) {
	for _, c := range []struct{ name, secure string }{
		{"idle", "EHLO client.example\r\n"},
		{"in AUTH", "EHLO client.example\r\nAUTH PLAIN\r\n"},
		{"in DATA", "EHLO client.example\r\n" + authPlain + "MAIL FROM:<alice@mx.example>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			l := maillog.New(&log, "smtpd")
			conf := authConfig()
			conf.TLS = certificate()
			h := newLoopback(t, Submission, conf, func(h *loopback) { h.server.Log = l })
			below, _, _ := underTLS(t, h, "EHLO client.example\r\nSTARTTLS\r\n", c.secure)
			io.WriteString(below, "QUIT\r\nthis is no record of TLS\r\n")
			io.Copy(io.Discard, below)
			h.cancel()
			h.running.Wait()
			l.Close()
			if text := log.String(); strings.Contains(text, ": problem ") || strings.Count(text, "disconnect why=tls ") != 1 || !strings.Contains(text, " error=\"") {
				t.Errorf("the log says\n%s", text)
			}
			if h.queue.count() != 0 {
				t.Errorf("%d messages", h.queue.count())
			}
		})
	}
}

// T02: a login in clear is over when TLS begins: anybody between may have put it there.
func TestT02_ALoginInClearEndsWithSTARTTLS(t *testing.T) {
	conf := authConfig()
	conf.TLS = certificate()
	h := newLoopback(t, Submission, conf)
	_, c, r := underTLS(t, h, "EHLO client.example\r\n"+authPlain+"MAIL FROM:<alice@mx.example>\r\nRSET\r\nSTARTTLS\r\n", "EHLO client.example\r\n")
	for _, x := range []struct{ say, want string }{
		{"MAIL FROM:<alice@mx.example>\r\n", "530 "},
		{authPlain, "235 "},
		{"MAIL FROM:<alice@mx.example>\r\n", "250 "},
	} {
		io.WriteString(c, x.say)
		if got := readReply(t, r); !strings.HasPrefix(got, x.want) {
			t.Errorf("%q: %s", x.say, got)
		}
	}
}
