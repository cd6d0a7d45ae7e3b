package login

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postamt/test/suite"
)

// A program is somebody's. It sends the file message, whose subject is its name, from alice to bob, and succeeds with the right password only.
type program struct {
	name    string
	command func(t *testing.T, s *suite.System, message, password string) *exec.Cmd
}

func swaks(addr func(*suite.System) string, args ...string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		cmd := exec.Command(tool(t, "swaks"), "--server", addr(s), "--helo", "client.test", "--from", "alice@example.test",
			"--to", "bob@example.test", "--data", "@"+message, "--auth-user", "alice", "--auth-password", password)
		cmd.Args = append(cmd.Args, args...)
		if strings.Contains(strings.Join(args, " "), "--tls") {
			cmd.Args = append(cmd.Args, "--tls-ca-path", s.Cert, "--tls-verify")
		}
		return cmd
	}
}

func submit(s *suite.System) string { return s.Submit }
func secure(s *suite.System) string { return s.Secure }

func msmtp(addr func(*suite.System) string, method string, args ...string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr(s))
		cmd := exec.Command(tool(t, "msmtp"), "--file=/dev/null", "--host="+host, "--port="+port, "--domain=client.test", "--tls=on",
			"--tls-trust-file="+s.Cert, "--auth="+method, "--user=alice", "--passwordeval=echo "+password, "--from=alice@example.test")
		cmd.Args = append(append(cmd.Args, args...), "bob@example.test")
		in, err := os.Open(message)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		cmd.Stdin = in
		return cmd
	}
}

func curl(scheme string, addr func(*suite.System) string, args ...string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		cmd := exec.Command(tool(t, "curl"), "-sS", scheme+"://"+addr(s)+"/client.test", "--user", "alice:"+password, "--cacert", s.Cert,
			"--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test", "--crlf", "--upload-file", message)
		cmd.Args = append(cmd.Args, args...)
		return cmd
	}
}

// smtplib runs a script that makes the connection c and has host, port and the trust of context.
func smtplib(addr func(*suite.System) string, connect string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr(s))
		return exec.Command(tool(t, "python3"), "-c", `
import smtplib, ssl, sys
host, port, message, cert, password = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)
`+connect+`
c.login("alice@example.test", password)
c.sendmail("alice@example.test", ["bob@example.test"], open(message).read())
c.quit()
`, host, port, message, s.Cert, password)
	}
}

func mutt(scheme string, addr func(*suite.System) string, method string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		cmd := exec.Command(tool(t, "mutt"), "-n", "-F", "/dev/null", "-s", filepath.Base(message), "-e", "set smtp_url="+scheme+"://alice@"+addr(s)+"/",
			"-e", "set smtp_pass="+password, "-e", "set smtp_authenticators="+method, "-e", "set ssl_force_tls=yes certificate_file="+s.Cert,
			"-e", "set from=alice@example.test use_envelope_from=yes hostname=client.test record=''", "bob@example.test")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		cmd.Stdin = strings.NewReader("text\n")
		return cmd
	}
}

func snail(scheme string, addr func(*suite.System) string, args ...string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		cmd := exec.Command(tool(t, "s-nail"), "-:/", "-S", "v15-compat=yes", "-S", "mta="+scheme+"://alice:"+password+"@"+addr(s),
			"-S", "tls-ca-file="+s.Cert, "-S", "tls-verify=ignore", "-S", "hostname=client.test", "-S", "DEAD=/dev/null",
			"-S", "from=alice@example.test", "-r", "alice@example.test", "-s", filepath.Base(message))
		cmd.Args = append(append(cmd.Args, args...), "bob@example.test")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "MAILRC=/dev/null")
		cmd.Stdin = strings.NewReader("text\n")
		return cmd
	}
}

func gitSendEmail(addr func(*suite.System) string, encryption string) func(*testing.T, *suite.System, string, string) *exec.Cmd {
	return func(t *testing.T, s *suite.System, message, password string) *exec.Cmd {
		if exec.Command("git", "send-email", "--dump-aliases").Run() != nil || exec.Command("perl", "-MAuthen::SASL", "-MMail::Address", "-e", "1").Run() != nil {
			t.Skip("git-email, libauthen-sasl-perl or libmailtools-perl is not installed")
		}
		host, port, _ := net.SplitHostPort(addr(s))
		cmd := exec.Command("git", "send-email", "--quiet", "--smtp-server="+host, "--smtp-server-port="+port, "--smtp-encryption="+encryption,
			"--smtp-ssl-cert-path="+s.Cert, "--smtp-user=alice", "--smtp-pass="+password, "--smtp-domain=client.test",
			"--from=alice@example.test", "--to=bob@example.test", "--confirm=never", "--no-validate", message)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_COMMITTER_NAME=alice", "GIT_COMMITTER_EMAIL=alice@example.test",
			"GIT_AUTHOR_NAME=alice", "GIT_AUTHOR_EMAIL=alice@example.test")
		return cmd
	}
}

var clients = []program{
	{"swaks PLAIN in clear on loopback", swaks(submit, "--auth", "PLAIN")},
	{"swaks PLAIN STARTTLS", swaks(submit, "--auth", "PLAIN", "--tls")},
	{"swaks LOGIN STARTTLS", swaks(submit, "--auth", "LOGIN", "--tls")},
	{"swaks CRAM-MD5 STARTTLS", swaks(submit, "--auth", "CRAM-MD5", "--tls")},
	{"swaks PLAIN implicit TLS", swaks(secure, "--auth", "PLAIN", "--tls-on-connect")},
	{"swaks LOGIN implicit TLS", swaks(secure, "--auth", "LOGIN", "--tls-on-connect")},
	{"msmtp SCRAM-SHA-256", msmtp(submit, "scram-sha-256")},
	{"msmtp SCRAM-SHA-1", msmtp(submit, "scram-sha-1")},
	{"msmtp LOGIN", msmtp(submit, "login")},
	{"msmtp PLAIN implicit TLS", msmtp(secure, "plain", "--tls-starttls=off")},
	{"curl STARTTLS", curl("smtp", submit, "--ssl-reqd")},
	{"curl PLAIN STARTTLS", curl("smtp", submit, "--ssl-reqd", "--login-options", "AUTH=PLAIN")},
	{"curl LOGIN STARTTLS", curl("smtp", submit, "--ssl-reqd", "--login-options", "AUTH=LOGIN")},
	{"curl implicit TLS", curl("smtps", secure)},
	{"curl LOGIN implicit TLS", curl("smtps", secure, "--login-options", "AUTH=LOGIN")},
	{"smtplib STARTTLS", smtplib(submit, `c = smtplib.SMTP(host, int(port), local_hostname="client.test"); c.starttls(context=context)`)},
	{"smtplib implicit TLS", smtplib(secure, `c = smtplib.SMTP_SSL(host, int(port), local_hostname="client.test", context=context)`)},
	{"mutt PLAIN STARTTLS", mutt("smtp", submit, "plain")},
	{"mutt LOGIN implicit TLS", mutt("smtps", secure, "login")},
	{"s-nail STARTTLS", snail("smtp", submit, "-S", "smtp-auth=plain", "-S", "smtp-use-starttls")},
	{"s-nail implicit TLS", snail("smtps", secure, "-S", "smtp-auth=login")},
	{"git send-email STARTTLS", gitSendEmail(submit, "tls")},
	{"git send-email implicit TLS", gitSendEmail(secure, "ssl")},
}

// Everybody's program logs in and sends on the ports for it; with a wrong password it says so, and nothing is taken.
func TestProgramsLogIn(t *testing.T) {
	t.Parallel() // most of it waits
	s := start(t, suite.Config{TLS: true, Auth: true})
	accepted := func() int { return strings.Count(s.Log("smtpd"), ": accepted ") }
	sent := 0
	for i, p := range clients {
		t.Run(p.name, func(t *testing.T) {
			message := filepath.Join(t.TempDir(), fmt.Sprint("login-", i))
			text := "From: alice@example.test\nTo: bob@example.test\nSubject: " + filepath.Base(message) + "\n\ntext\n"
			if err := os.WriteFile(message, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			forgive(t, s)
			failures := strings.Count(s.Log("authd"), ": auth-failed ")
			if out, err := p.command(t, s, message, "wrong").CombinedOutput(); err == nil {
				t.Errorf("a wrong password sends:\n%s", out)
			}
			logged(t, s, "authd", failures+1, ": auth-failed ")
			if n := accepted(); n != sent {
				t.Errorf("%d messages accepted, want %d", n, sent)
			}
			if out, err := p.command(t, s, message, "alice").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			sent++
			protocol := "with ESMTPSA id" // RFC 3848
			if strings.Contains(p.name, "clear") {
				protocol = "with ESMTPA id"
			}
			found, err := s.AwaitDelivered("bob", sent, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				b, _ := os.ReadFile(path)
				if strings.Contains(string(b), "\nSubject: "+filepath.Base(message)+"\n") {
					if !strings.Contains(string(b), protocol) {
						t.Errorf("no %q in\n%s", protocol, b)
					}
					return
				}
			}
			t.Errorf("%s is not delivered", filepath.Base(message))
		})
	}
	if err := s.AwaitEmpty(limit); err != nil {
		t.Error(err)
	}
	if got := len(s.Delivered("bob")); got != sent {
		t.Errorf("%d messages, want %d", got, sent)
	}
}

// forgive has authd forget who guessed, or each program would wait longer than the one before.
func forgive(t *testing.T, s *suite.System) {
	t.Helper()
	reloads := strings.Count(s.Log("authd"), ": reload ")
	if err := s.Signal("authd", syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	logged(t, s, "authd", reloads+1, ": reload ")
}
