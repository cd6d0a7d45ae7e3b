package smtpd

import (
	"bufio"
	"encoding/base64"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postamt/internal/addr"
	"postamt/internal/login/logintest"
	"postamt/internal/smtp"
)

// owners: everybody owns the address of their own name.
type owners struct{}

func (o owners) Envelope(login string, from addr.Mailbox) error {
	return o.Header(login, []string{from.String()})
}

func (owners) Header(login string, from []string) error {
	for _, f := range from {
		if f != login+"@mx.example" {
			return smtp.NewReply(553, "5.7.1", "not your address")
		}
	}
	return nil
}

// meter lets so many messages through.
type meter struct{ left int }

func (m *meter) Count(login string, rcpts int, _ time.Time) (string, error) {
	if m.left--; m.left < 0 {
		return "1 message a minute", nil
	}
	return "", nil
}

func authConfig() *Config {
	c := testConfig()
	c.Auth = &logintest.Accounts{}
	c.AuthInClear = func(netip.Addr) bool { return true }
	return c
}

const authPlain = "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"

func TestOverTheLimitIsMarkedAndTaken(t *testing.T) {
	c := authConfig()
	c.Usage = &meter{1}
	message := "MAIL FROM:<alice@mx.example>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\nFrom: <x@y.example>\r\n\r\n.\r\n"
	out, m := talkTo(t, Submission, c, "EHLO client.example\r\n"+authPlain+message+message)
	wantCodes(t, out, "220 250 235 250 250 354 250 250 250 354 250")
	if m.count() != 2 || m.messages[0].env.Hold != "" || m.messages[1].env.Hold != "1 message a minute" {
		t.Errorf("%d messages, %+v", m.count(), m.messages)
	}
}

// A05, A01: what is no base64, too long, or cut off is an error and nothing else.
func TestAuthBadInput(t *testing.T) {
	long := base64.StdEncoding.EncodeToString(make([]byte, 9000))
	for _, c := range []struct{ say, want string }{
		{"AUTH PLAIN " + long + "\r\n", "501"},                    // as long as a line may be
		{"AUTH PLAIN " + long + long + "\r\nNOOP\r\n", "500 250"}, // longer
		{"AUTH PLAIN\r\n" + long + long + "\r\nNOOP\r\n", "334 500 250"},
		{"AUTH PLAIN\r\nAGFsaW\nNlAHNlY3JldA==\r\nNOOP\r\n", "334 501 250"},
		{"AUTH PLAIN\r\nA\x00B\r\nNOOP\r\n", "334 501 250"},
		{"AUTH LOGIN\r\nYWxpY2U=\r\n*\r\nNOOP\r\n", "334 334 501 250"},
		{"AUTH PLAIN\r\n\r\nNOOP\r\n", "334 501 250"},
		{"AUTH " + strings.Repeat("X", 21) + "\r\n", "501"},
		{"AUTH PLAIN YQ\r\n", "501"},
		{"AUTH PLAIN YR==\r\n", "501"}, // bits beyond the last octet
	} {
		out, _ := talkTo(t, Submission, authConfig(), "EHLO client.example\r\n"+c.say)
		wantCodes(t, out, "220 250 "+c.want)
	}
}

// AUTH is for people's mail programs: not on port 25, not for local programs, not where nobody can log in.
func TestAuthIsNotEverywhere(t *testing.T) {
	for _, kind := range []string{MX, Local} {
		out, _ := talkTo(t, kind, authConfig(), "EHLO client.example\r\n"+authPlain)
		wantCodes(t, out, "220 250 502")
		if strings.Contains(out, "AUTH") {
			t.Errorf("%s offers AUTH", kind)
		}
	}
	out, _ := talkTo(t, Submission, testConfig(), "EHLO client.example\r\n"+authPlain)
	wantCodes(t, out, "220 250 502")
	out, _ = talkTo(t, Submission, authConfig(), "HELO client.example\r\n"+authPlain)
	wantCodes(t, out, "220 250 503")
}

// F09: a client that is asked for its password is told that the server stops, whether or not it answers.
func TestF09_StopWithinAuth(t *testing.T) {
	for _, say := range []string{"AUTH PLAIN\r\n", "AUTH LOGIN\r\nYWxpY2U=\r\n"} {
		conf := authConfig()
		conf.TimeoutCommand = time.Hour
		h := newLoopback(t, Submission, conf)
		c, err := h.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		r := bufio.NewReader(c)
		readReply(t, r)
		for line := range strings.Lines("EHLO client.example\r\n" + say) {
			io.WriteString(c, line)
			readReply(t, r)
		}
		h.cancel()
		if b, _ := io.ReadAll(r); !strings.HasPrefix(string(b), "421 4.3.2") || strings.Count(string(b), "\n") != 1 {
			t.Errorf("%q: %q", say, b)
		}
		h.running.Wait()
	}
}
