// Package imap tests imapd with the programs around it as they run, and with other people's clients. Nothing imports it.
package imap

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/proc"
	"postamt/test/site"
)

type imapSite struct{ *site.Site }

func newSite(t testing.TB, whole bool, more ...string) *imapSite {
	t.Helper()
	return &imapSite{site.New(t, site.IMAP, whole, more...)}
}

func (s *imapSite) All() *imapSite {
	s.T.Helper()
	s.Site.All()
	return s
}

// login is a session of a user's.
func (s *imapSite) login(user string, secure bool) *site.Client {
	s.T.Helper()
	c := s.Dial(secure)
	c.Do("l LOGIN "+user+" secret", "l OK [CAPABILITY IMAP4rev1 ")
	return c
}

// A user logs in by each way that there is, and goes on with a process of his own.
func TestLogin(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		for _, secure := range []bool{false, true} {
			c := s.Dial(secure)
			c.Do("a1 LOGIN alice wrong", "a1 NO [AUTHENTICATIONFAILED] ")
			c.Do("a2 LOGIN {5}", "+ ")
			c.Do("alice {6}", "+ ")
			c.Do("secret", "a2 OK [CAPABILITY ")
			c.Do("a3 NOOP", "a3 OK ")
			if who := s.Part("worker"); !whole {
				st, err := os.Stat(fmt.Sprintf("/proc/%d", who))
				s.Must(err)
				if uid := st.Sys().(*syscall.Stat_t).Uid; uid != site.AliceID {
					t.Errorf("served as %d", uid)
				}
			}
			c.Do("a4 LOGOUT", "* BYE ")
			c.Want("a4 OK ")
			c.Ended()
			c = s.Dial(secure)
			c.Do("b1 AUTHENTICATE PLAIN", "+ ")
			c.Do(base64.StdEncoding.EncodeToString([]byte("\x00alice\x00secret")), "b1 OK ")
			c.Do("b2 NOOP", "b2 OK ")
			// All at once: what comes behind the login is carried by the front.
			c = s.Dial(secure)
			c.Say("c1 NOOP\r\nc2 LOGIN alice secret\r\nc3 NOOP\r\nc4 LOGOUT")
			for _, want := range []string{"c1 OK ", "c2 OK ", "c3 OK ", "* BYE ", "c4 OK "} {
				c.Want(want)
			}
			c.Ended()
		}
		s.Logged(": login ", "proto=IMAPS", "login=alice")
		s.Logged(": mailbox why=logout", "client=127.0.0.1", "login=alice")
		s.Logged(": auth-fail", "user=<alice>", "service=imap", "client=127.0.0.1")
		if strings.Contains(s.Log(), "secret") {
			t.Error("a password is in the log")
		}
	})
}

// People's programs log in, with STARTTLS and with TLS from the first octet, and are told when the password is wrong.
func TestClients(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "auth_clear").All() // nobody in clear
		cert := s.Dir + "/etc/cert.pem"
		const python = `
import imaplib, ssl, sys
host, port = sys.argv[2].rsplit(":", 1)
tls = ssl.create_default_context(cafile=sys.argv[3])
tls.check_hostname = False
if sys.argv[1] == "imaps":
    m = imaplib.IMAP4_SSL(host, int(port), ssl_context=tls)
else:
    m = imaplib.IMAP4(host, int(port))
    assert "LOGINDISABLED" in m.capabilities, m.capabilities
    m.starttls(tls)
assert "LOGINDISABLED" not in m.capabilities, m.capabilities
assert "AUTH=SCRAM-SHA-256" in m.capabilities, m.capabilities
try:
    m.login("alice", "wrong")
    raise SystemExit("wrong password")
except imaplib.IMAP4.error as e:
    assert "AUTHENTICATIONFAILED" in str(e), e
if sys.argv[4] == "LOGIN":
    m.login("alice", sys.argv[5])
else:
    m.authenticate("PLAIN", lambda _: b"\0alice\0" + sys.argv[5].encode())
m.noop()
m.logout()
`
		curl := func(url string, more ...string) []string {
			return append([]string{"curl", "-sS", "-m", "60", "--cacert", cert, "--connect-to", "mx.example.test::127.0.0.1:", "-X", "NOOP", url}, more...)
		}
		_, clear, _ := strings.Cut(s.Addr, ":")
		_, secure, _ := strings.Cut(s.TLS, ":")
		for _, x := range []struct {
			name string
			args []string
			fail string // what is said; "" for success
		}{
			{"imaplib STARTTLS", []string{"python3", "-c", python, "imap", s.Addr, cert, "LOGIN", "secret"}, ""},
			{"imaplib imaps", []string{"python3", "-c", python, "imaps", s.TLS, cert, "AUTHENTICATE", "secret"}, ""},
			{"curl STARTTLS", curl("imap://mx.example.test:"+clear, "--ssl-reqd", "-u", "alice:secret"), ""},
			{"curl imaps", curl("imaps://mx.example.test:"+secure, "-u", "alice:secret"), ""},
			{"curl PLAIN at once", curl("imaps://mx.example.test:"+secure, "-u", "alice:secret", "--login-options", "AUTH=PLAIN", "--sasl-ir"), ""},
			{"curl LOGIN", curl("imaps://mx.example.test:"+secure, "-u", "alice:secret", "--login-options", "AUTH=LOGIN"), ""},
			{"curl wrong", curl("imaps://mx.example.test:"+secure, "-u", "alice:wrong"), "Login denied"},
			{"curl in clear", curl("imap://mx.example.test:"+clear, "-u", "alice:secret"), "Login denied"},
		} {
			t.Run(x.name, func(t *testing.T) {
				if _, err := exec.LookPath(x.args[0]); err != nil {
					t.Skip(x.args[0] + " is missing")
				}
				out, err := exec.Command(x.args[0], x.args[1:]...).CombinedOutput()
				if (err == nil) != (x.fail == "") || !strings.Contains(string(out), x.fail) {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	})
}

// -session serves who has logged in already, with PREAUTH, and needs nothing that others must not read.
func TestPreauth(t *testing.T) {
	s := newSite(t, true)
	c := exec.Command(s.Bin+"/imapd", "-C", s.Configuration(), "-session", s.Alice)
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: site.PlainID, Gid: site.PlainID}}
	}
	c.Env = []string{"USER=alice"}
	c.Stdin = strings.NewReader("a NOOP\r\nb LOGIN alice secret\r\nc LOGOUT\r\n")
	var log strings.Builder
	c.Stderr = &log
	out, err := c.Output()
	if got := string(out); err != nil || !strings.HasPrefix(got, "* PREAUTH [CAPABILITY IMAP4rev1 ") || !strings.Contains(got, "\r\na OK ") ||
		!strings.Contains(got, "\r\nb BAD ") || !strings.HasSuffix(got, "\r\nc OK LOGOUT completed\r\n") {
		t.Errorf("%v: %q\n%s", err, got, &log)
	}
	if !strings.Contains(log.String(), ": mailbox why=logout ") || !strings.Contains(log.String(), "login=alice") {
		t.Error(log.String())
	}
}

// A worker that is killed takes its sessions along and no others; the next login gets a new one.
func TestWorkerKilled(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).All()
			alice, bob, greeted := s.login("alice", secure), s.login("bob", secure), s.Dial(secure)
			s.Must(syscall.Kill(s.Part("worker"), syscall.SIGKILL))
			alice.Ended()
			bob.Do("a NOOP", "a OK ")
			greeted.Do("a LOGIN bob secret", "a OK ")
			s.Await("a new worker", func() bool { // the monitor waits a second
				c := s.Dial(secure)
				c.Say("b LOGIN alice secret")
				line := c.Want("b ")
				if strings.HasPrefix(line, "b OK ") {
					c.Do("c NOOP", "c OK ")
					return true
				}
				if !strings.HasPrefix(line, "b NO [UNAVAILABLE] ") {
					t.Fatal(line)
				}
				if rest := c.Ended(); !strings.HasPrefix(rest, "* BYE ") {
					t.Fatalf("%q", rest)
				}
				return false
			})
		})
	}
}

// More clients of one user than the socket of his worker has room for wait until it reads: after a restart all come at once.
func TestManyAtOnce(t *testing.T) {
	s := newSite(t, false, "imapd_user_limit 0").All()
	s.login("alice", false)
	worker := s.Part("worker")
	s.Must(syscall.Kill(worker, syscall.SIGSTOP))
	var clients []*site.Client
	for range 64 {
		c := s.Dial(false)
		c.Say("a LOGIN alice secret")
		clients = append(clients, c)
	}
	// Ten fill the socket (net.unix.max_dgram_qlen). Who waits does so for a second, in which a busy machine does not come to all.
	s.Await("more logins than there is room for", func() bool { return strings.Count(s.Log(), ": login ") > 20 })
	s.Must(syscall.Kill(worker, syscall.SIGCONT))
	for _, c := range clients {
		c.Want("a OK ")
	}
}

// While authd is dead nobody is told that his password is wrong, nor that he can never log in; who has logged in goes on; with the next authd logins work.
func TestAuthdDead(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		waiting, in := s.Dial(true), s.login("bob", false)
		s.Kill("authd", syscall.SIGKILL)
		s.Exit("authd")
		for _, c := range []*site.Client{waiting, s.Dial(false)} {
			if line := c.Do("a CAPABILITY", "* CAPABILITY "); strings.Contains(line, "LOGINDISABLED") {
				t.Error(line)
			}
			c.Want("a OK ")
			c.Do("b LOGIN alice secret", "b NO [UNAVAILABLE] ")
			c.Do("c AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==", "c NO [UNAVAILABLE] ")
		}
		in.Do("a NOOP", "a OK ")
		s.Kill("imapd", syscall.SIGHUP) // from here on it has never heard of authd
		s.Await("a reload", func() bool { return strings.Contains(s.Log(), "imapd: -: reload ") })
		if line := s.Dial(true).Do("a CAPABILITY", "* CAPABILITY "); !strings.Contains(line, " AUTH=PLAIN") {
			t.Error(line)
		}
		s.Start("authd")
		waiting.Do("d LOGIN alice secret", "d OK ")
	})
}

// What root trusts at the start must be so, in pop3d too: who can replace the users file, or the socket of authd, says whose mail is whose.
func TestCheckAtStart(t *testing.T) {
	for _, kind := range []site.Kind{site.IMAP, site.POP3} {
		s := site.New(t, kind, false)
		for path, mends := range map[string]string{"etc/postamt.conf": "chmod g-w,o-w", "etc": "chmod o-w", "etc/users": "chmod o-w", "run": "chmod o-w", "home": "chmod o-w"} {
			path = s.Dir + "/" + path
			st, err := os.Stat(path)
			s.Must(err)
			s.Must(os.Chmod(path, 0o777))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			c := exec.CommandContext(ctx, s.Bin+"/"+s.Program, "-C", s.Configuration())
			c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
			out, err := c.CombinedOutput()
			cancel()
			if c.ProcessState.ExitCode() != 78 || !strings.Contains(string(out), mends+" "+path+" mends it") {
				t.Errorf("%s, %s: %v\n%s", s.Program, path, err, out)
			}
			s.Must(os.Chmod(path, st.Mode()))
		}
	}
}

// The parts end together.
func TestPartsEnd(t *testing.T) {
	for _, role := range []string{"front", "monitor"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false).All()
			c, d := s.login("alice", false), s.login("bob", true)
			monitor := s.Cmds["imapd"].Process.Pid
			pids := proc.Tree(monitor)
			if len(pids) != 4 { // two workers
				t.Fatal(pids)
			}
			kill := monitor
			if role == "front" {
				kill = s.Part("front")
			}
			s.Must(syscall.Kill(kill, syscall.SIGKILL))
			if code := s.Exit("imapd"); code == 0 {
				t.Error("exit 0")
			}
			s.Await("the end of all", func() bool { return len(proc.Tree(pids...)) == 0 })
			c.Ended()
			d.Ended()
			s.Start("imapd")
			s.login("alice", true)
		})
	}
}

// HUP gives both halves a new configuration, and one that is none changes nothing; sessions under way go on.
func TestReload(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "imapd_error_limit 3").All()
		c := s.login("alice", true)
		text, err := os.ReadFile(s.Configuration())
		s.Must(err)
		s.Must(os.WriteFile(s.Configuration(), []byte(strings.Replace(string(text), "imapd_error_limit 3", "imapd_error_limit 1", 1)), 0o644))
		s.Kill("imapd", syscall.SIGHUP)
		ends := func(c *site.Client) bool { // after one error
			c.Do("x FROB", "x BAD ")
			c.Say("y NOOP")
			return strings.HasPrefix(c.Want(""), "* BYE ")
		}
		s.Await("the new configuration", func() bool { return ends(s.Dial(true)) && ends(s.login("alice", false)) })
		if ends(c) {
			t.Error("it has changed for a session under way")
		}
		s.Must(os.WriteFile(s.Configuration(), append(text, "frob\n"...), 0o644))
		s.Kill("imapd", syscall.SIGHUP)
		s.Logged("reload", "frob")
		if !ends(s.Dial(true)) || !ends(s.login("alice", true)) {
			t.Error("a configuration with an error is in use")
		}
		// What only who opens it finds out is in the log too, with its line.
		s.Must(os.WriteFile(s.Configuration(), append(text, "tls_client_ca /nowhere.pem\n"...), 0o644))
		s.Kill("imapd", syscall.SIGHUP)
		s.Logged("tls_client_ca", "nowhere.pem")
		s.Await("the end of the reload", func() bool { return strings.Count(s.Log(), "imapd: -: reload ") == 3 })
		if !ends(s.Dial(true)) || !ends(s.login("alice", true)) {
			t.Error("a configuration that cannot be followed is in use")
		}
	})
}

// TERM says BYE to those who wait, before the login and after it, and ends with 0.
func TestDrain(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole).All()
		var clients []*site.Client
		for _, secure := range []bool{false, true} {
			asked := s.Dial(secure)
			asked.Do("a AUTHENTICATE PLAIN", "+ ")
			clients = append(clients, s.login("alice", secure), s.Dial(secure), asked)
		}
		s.Kill("imapd", syscall.SIGTERM)
		for i, c := range clients {
			if text := c.Ended(); text != "* BYE [UNAVAILABLE] the server stops, come back later\r\n" {
				t.Errorf("client %d: %q", i, text)
			}
		}
		if code := s.Exit("imapd"); code != 0 {
			t.Error("exit", code)
		}
	})
}

// Too many connections, of one client and in all, and too many sessions of one user: each is told, and those that are there are served.
func TestI22_TooMany(t *testing.T) {
	site.Both(t, func(t *testing.T, whole bool) {
		s := newSite(t, whole, "imapd_user_limit 2", "imapd_session_limit 6").All()
		// A client in clear is the worker's alone, where there is one; those under TLS are the front's too.
		first, second := s.login("alice", true), s.login("alice", false)
		c := s.Dial(true)
		c.Do("a LOGIN alice secret", "a NO [LIMIT] ")
		c.Want("* BYE ")
		c.Ended()
		s.login("bob", true)
		second.Do("a LOGOUT", "* BYE ")
		second.Ended()
		s.Await("room", func() bool {
			c := s.Dial(true)
			c.Say("a LOGIN alice secret")
			return strings.HasPrefix(c.Want("a "), "a OK ")
		})
		first.Do("b NOOP", "b OK ")
		refused := false
		for range 6 {
			c, err := s.Knock(false)
			s.Must(err)
			line, _ := c.R.ReadString('\n')
			if refused = line == "* BYE [LIMIT] too many connections, try again later\r\n"; refused {
				break
			}
		}
		if !refused {
			t.Error("nobody was refused")
		}
		first.Do("c NOOP", "c OK ")
		s.Logged(": limit limit=user", "login=alice")
		s.Logged(": limit limit=sessions")
	})
}

// P08, I01, I03: what strangers send without end costs no memory, and others are served.
func TestP08_Strangers(t *testing.T) {
	s := newSite(t, true, "imapd_error_limit 0").All()
	before := s.Memory("worker")
	for what, in := range map[string]string{
		"a line without end":    "a LOGIN " + strings.Repeat("x", 20<<20),
		"parentheses":           "a ID " + strings.Repeat("(", 20<<20),
		"literals":              strings.Repeat("a LOGIN {4096+}\r\n"+strings.Repeat("x", 4096)+"\r\n", 5000),
		"literals in a command": "a LOGIN" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 5000),
		"announced":             strings.Repeat("a LOGIN {4294967295}\r\n", 100_000) + "z LOGOUT\r\n",
		"responses":             "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 20<<20),
		"commands":              strings.Repeat("a CAPABILITY\r\n", 100_000) + "z LOGOUT\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			c := s.Dial(false)
			go func() {
				io.WriteString(c, in)
				c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			c.Ended()
			s.login("alice", true).Do("b NOOP", "b OK ")
		})
	}
	if grown := s.Memory("worker") - before; grown > 32<<20 {
		t.Errorf("%d KiB more", grown>>10)
	}
}
