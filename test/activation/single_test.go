package activation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postamt/test/peers"
	"postamt/test/suite"
)

// lay lays out a system whose smtpd somebody else starts: queued and deliver run, and smtpd in PATH finds its configuration.
func lay(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	c.Settings += "smtpd_client_limit 0\nsmtpd_client_rate 0\nlog auto\n"
	var err error
	if c.Bin, err = build(); err != nil {
		t.Fatal(err)
	}
	s, err := suite.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.End(), s.Check()); err != nil {
			t.Error(err)
		}
		s.Remove()
	})
	programs := []string{"queued", "deliver"}
	if c.Auth {
		programs = append(programs, "authd")
	}
	for _, name := range programs {
		if err := s.Launch(name); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// supervise runs a program that starts smtpd until the test ends. Log is what it and its children write.
func supervise(t *testing.T, s *suite.System, c *exec.Cmd) (log func() string) {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.Dir, "log", filepath.Base(c.Path))
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env, "POSTAMT_CONF="+s.Conf, "PATH="+bin+":"+os.Getenv("PATH"))
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it started ends with it
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	log = func() string { b, _ := os.ReadFile(name); return string(b) }
	t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
		if t.Failed() {
			text := log()
			t.Logf("%s:\n%s", c.Path, text[max(0, len(text)-4<<10):])
		}
	})
	return log
}

// serves: a message is taken and delivered, and many connections at once are served.
func serves(t *testing.T, s *suite.System, addr string, backlog int) {
	t.Helper()
	reach(t, addr)
	swaks(t, addr, "alice@example.test")
	if _, err := s.AwaitDelivered("alice", 1, limit); err != nil {
		t.Error(err)
	}
	crowd(t, addr, backlog)
}

// A super-server has the line of its configuration that etc/ shows, with other places in it.
func TestInetd(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name, pkg string
		backlog   int // what it listens with
		args      func(conf string) []string
	}{
		{"inetd", "openbsd-inetd", 128, func(conf string) []string { return []string{"-d", conf} }},
		{"inetutils-inetd", "inetutils-inetd", 10, func(conf string) []string { return []string{"-d", "-p", conf + ".pid", conf} }},
		{"xinetd", "xinetd", 10, func(conf string) []string {
			return []string{"-dontfork", "-stayalive", "-f", conf, "-pidfile", conf + ".pid"}
		}},
	} {
		t.Run(x.pkg, func(t *testing.T) {
			pop3, err := peers.FreeAddr()
			must(t, err)
			imap, err := peers.FreeAddr()
			must(t, err)
			s := lay(t, suite.Config{Auth: true, Settings: "pop3d_listen " + pop3 + "=pop3\nimapd_listen " + imap + "=imap\n"})
			ports := map[string]string{"smtp": port(t, s.Addr), "pop3": port(t, pop3), "imap2": port(t, imap)}
			conf := filepath.Join(s.Dir, x.name+".conf")
			c, err := peers.Command(x.name, x.args(conf)...)
			if errors.Is(err, peers.ErrMissing) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			text := lines(t, "inetd.conf.example", "tcp4", ports, me.Username, bin)
			if x.name == "xinetd" {
				text = lines(t, "xinetd.example", "", ports, me.Username, bin)
			}
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			supervise(t, s, c)
			serves(t, s, s.Addr, x.backlog)
			if text := fetch(t, pop3, "alice", "alice"); !strings.Contains(text, "\r\nhello\r\n") {
				t.Errorf("by POP3 came %q", text)
			}
			logIn(t, imap, "alice", "alice")
		})
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	must(t, err)
	return p
}

// lines are what an example says for these services over IPv4, for other ports, another user and place of the programs.
func lines(t *testing.T, example, protocol string, ports map[string]string, who, bin string) string {
	t.Helper()
	root, err := peers.ModuleRoot()
	must(t, err)
	b, err := os.ReadFile(filepath.Join(root, "etc", example))
	must(t, err)
	text := strings.NewReplacer("pa-smtpd", who, "\troot\t", "\t"+who+"\t", "= root\n", "= "+who+"\n", "/usr/sbin/", bin+"/", "nowait.40", "nowait.400").Replace(string(b))
	if example == "xinetd.example" {
		more := []string{"instances       = 100", "instances = 300", "per_source      = 10", "per_source = UNLIMITED", "per_source      = 20", "per_source = UNLIMITED", "cps             = 40 10", "cps = 1000 1"}
		for service, port := range ports {
			old := "service " + service + "\n{"
			more = append(more, old, old+"\ntype = UNLISTED\nbind = 127.0.0.1\nport = "+port)
		}
		return strings.NewReplacer(more...).Replace(text)
	}
	var found []string
	for l := range strings.Lines(text) {
		if f := strings.Fields(l); len(f) > 2 && ports[f[0]] != "" && f[2] == protocol {
			found = append(found, "127.0.0.1:"+ports[f[0]]+strings.TrimPrefix(l, f[0]))
		}
	}
	if len(found) != len(ports) {
		t.Fatalf("%s says over %s: %q", example, protocol, found)
	}
	return strings.Join(found, "")
}

// UCSPI servers, and systemd's of one connection each.
func TestServerOfConnections(t *testing.T) {
	limit := fmt.Sprint(many + 50)
	for _, x := range []struct {
		name, pkg string
		args      func(host, port string) []string
	}{
		{"tcpserver", "ucspi-tcp", func(host, port string) []string {
			return []string{"-c", limit, "-b", limit, "-HR", "-l0", host, port, "smtpd"}
		}},
		{"tcpsvd", "ipsvd", func(host, port string) []string {
			return []string{"-c", limit, "-b", limit, "-l0", host, port, "smtpd"}
		}},
		{"s6-tcpserver", "s6-networking, which Debian 12 has not", func(host, port string) []string {
			return []string{"-c", limit, "-C", limit, "-b", limit, host, port, "smtpd"}
		}},
		{"systemd-socket-activate", "systemd", func(host, port string) []string {
			return []string{"-a", "-l", host + ":" + port, "-E", "POSTAMT_CONF", "-E", "PATH", "smtpd"}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := tool(t, x.name, x.pkg)
			s := lay(t, suite.Config{})
			host, port, err := net.SplitHostPort(s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			log := supervise(t, s, exec.Command(path, x.args(host, port)...))
			serves(t, s, s.Addr, 128)
			if x.name != "systemd-socket-activate" && !strings.Contains(log(), "client=127.0.0.1") {
				t.Error("the log does not know the client: " + log())
			}
		})
	}
}
