package e2e

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postamt/test/suite"
)

const senderBody = "first line\n.a dot begins the second\n..two the third\n\nlast line\n"

// A sender is somebody's program that sends senderBody to alice, over TLS if cert, the file to trust, is not empty.
type sender struct {
	name    string
	command func(t *testing.T, s *suite.System, message, cert string) *exec.Cmd
}

var senders = []sender{
	{"swaks", func(t *testing.T, s *suite.System, _, cert string) *exec.Cmd {
		cmd := exec.Command(tool(t, "swaks"), "--server", s.Addr, "--helo", "client.test",
			"--from", "sender@client.test", "--to", "alice@example.test", "--body", senderBody)
		if cert != "" {
			cmd.Args = append(cmd.Args, "--tls", "--tls-ca-path", cert, "--tls-verify")
		}
		return cmd
	}},
	{"curl", func(t *testing.T, s *suite.System, message, cert string) *exec.Cmd {
		cmd := exec.Command(tool(t, "curl"), "-sS", "smtp://"+s.Addr+"/client.test",
			"--mail-from", "sender@client.test", "--mail-rcpt", "alice@example.test", "--crlf", "--upload-file", message)
		if cert != "" {
			cmd.Args = append(cmd.Args, "--ssl-reqd", "--cacert", cert)
		}
		return cmd
	}},
	{"s-nail", func(t *testing.T, s *suite.System, _, cert string) *exec.Cmd {
		cmd := exec.Command(tool(t, "s-nail"), "-:/", "-S", "v15-compat=yes", "-S", "mta=smtp://"+s.Addr,
			"-S", "smtp-auth=none", "-S", "hostname=client.test",
			"-S", "DEAD=/dev/null", "-S", "from=sender@client.test", "-r", "sender@client.test")
		if cert != "" {
			// It compares the certificate's name with host:port, which cannot be.
			cmd.Args = append(cmd.Args, "-S", "smtp-use-starttls", "-S", "tls-verify=ignore")
		}
		cmd.Args = append(cmd.Args, "-s", "from s-nail", "alice@example.test")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "MAILRC=/dev/null")
		cmd.Stdin = strings.NewReader(senderBody)
		return cmd
	}},
	{"msmtp", func(t *testing.T, s *suite.System, message, cert string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(s.Addr)
		cmd := exec.Command(tool(t, "msmtp"), "--file=/dev/null", "--host="+host, "--port="+port, "--domain=client.test",
			"--auth=off", "--from=sender@client.test")
		if cert != "" {
			cmd.Args = append(cmd.Args, "--tls=on", "--tls-starttls=on", "--tls-trust-file="+cert)
		}
		cmd.Args = append(cmd.Args, "alice@example.test")
		cmd.Stdin = open(t, message)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		return cmd
	}},
	{"python3", func(t *testing.T, s *suite.System, message, cert string) *exec.Cmd {
		const script = `
import smtplib, ssl, sys
addr, message, cert = sys.argv[1:]
host, port = addr.split(":")
with smtplib.SMTP(host, int(port), local_hostname="client.test") as c:
    if cert:
        c.starttls(context=ssl.create_default_context(cafile=cert))
    c.sendmail("sender@client.test", ["alice@example.test"], open(message).read())
`
		return exec.Command(tool(t, "python3"), "-c", script, s.Addr, message, cert)
	}},
}

func TestSenders(t *testing.T) {
	for _, sender := range senders {
		for _, tls := range []bool{false, true} {
			name := sender.name
			if tls {
				name += "/STARTTLS"
			}
			t.Run(name, func(t *testing.T) {
				tool(t, sender.name)
				s := start(t, suite.Config{TLS: tls})
				message := filepath.Join(t.TempDir(), "message")
				if err := os.WriteFile(message, []byte("From: sender@client.test\nSubject: a test\n\n"+senderBody), 0o600); err != nil {
					t.Fatal(err)
				}
				output(t, sender.command(t, s, message, s.Cert))
				text := inbox(t, s, "alice", 1)[0]
				_, body, _ := strings.Cut(text, "\n\n")
				// swaks ends every body with an empty line.
				if strings.TrimRight(body, "\n") != strings.TrimRight(senderBody, "\n") {
					t.Errorf("stored %q", body)
				}
				if !strings.HasPrefix(text, "Return-Path: <sender@client.test>\nDelivered-To: ") {
					t.Errorf("begins with %.80q", text)
				}
				protocol := " with ESMTP id "
				if tls {
					protocol = " with ESMTPS id "
				} else if sender.name == "s-nail" {
					protocol = " with SMTP id " // it says HELO when it wants nothing special
				}
				if !strings.Contains(text, protocol) {
					t.Errorf("no %q in\n%s", protocol, text)
				}
				empty(t, s)
			})
		}
	}
}

// TestTLSEndsInOrder: after QUIT the client hears from TLS itself that nothing was cut off (RFC 8446 section 6.1).
func TestTLSEndsInOrder(t *testing.T) {
	s := start(t, suite.Config{TLS: true})
	c := dial(t, s.Addr)
	c.say("220", "STARTTLS")
	secure := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn, c.r = secure, bufio.NewReader(secure)
	c.say("250", "EHLO client.test")
	c.say("221", "QUIT")
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("the end of TLS: %v, want close_notify", err)
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
