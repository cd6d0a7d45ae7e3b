package peers

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Accounts lent to Dovecot, which wants one for its own files, one for those who are not logged in yet, and, as Courier does, an owner of mailboxes.
const (
	dovecotInternal = "mail"
	dovecotLogin    = "uucp"
	mailboxOwner    = "nobody"
)

// A DovecotServer is a running Dovecot. Its Addr speaks LMTP, Stop and Maildir are those of every Server.
type DovecotServer struct {
	*Server
	IMAP, POP3   string // host:port, plain and with STARTTLS or STLS when Config.TLS; empty when not asked for
	IMAPS, POP3S string // the same with TLS from the start
	Auth         string // Unix socket, open to all: authentication for services such as smtpd
	Login        string // Unix socket, open to all: authentication whose logins are collected on Master
	Userdb       string // Unix socket, open to all: look-ups
	Master       string // Unix socket of root: look-ups, and collecting of logins
}

// Dovecot starts a Dovecot and stops it when the test ends, on the same terms as Postfix. It is skipped, too, where the kernel has no overlayfs.
func Dovecot(t testing.TB, c Config) *DovecotServer {
	t.Helper()
	s, err := StartDovecot(c)
	if s == nil {
		started(t, nil, err)
		return nil
	}
	started(t, s.Server, err)
	return s
}

// StartDovecot starts a Dovecot in the foreground and returns when it authenticates. Config's Users exist, with Config's Password, and each has
// a mailbox in USER/Maildir. Domains, RelayTo, Routes and Accept say nothing to it.
//
// Its programs find each other, and their plugins, by names below /usr that are compiled in. So they run in a mount namespace of their own, where an
// overlay shows the unpacked packages in their places; nobody else sees it, and it ends with them.
func StartDovecot(c Config) (*DovecotServer, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/sbin/dovecot")); err != nil {
		return nil, fmt.Errorf("peers: dovecot: %w", ErrMissing)
	}
	if err := overlays(); err != nil {
		return nil, err
	}
	server, err := prepare(&c, "dovecot")
	if err != nil {
		return nil, err
	}
	s := &DovecotServer{Server: server}
	s.Conf = filepath.Join(s.Dir, "dovecot.conf")
	s.Log = filepath.Join(s.Dir, "log")
	if err := dovecotFiles(s, &c); err != nil {
		s.clean()
		return nil, err
	}
	cmd := inOverlay(dir, "/usr/sbin/dovecot", "-F", "-c", s.Conf)
	if err := s.startUntil(cmd, s.ready); err != nil {
		return nil, err
	}
	return s, nil
}

// errNoOverlay is why Dovecot and Courier are not there.
var errNoOverlay = errors.New("peers: the kernel has no overlayfs, to show a program to itself below /usr")

func overlays() error {
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(known), "\toverlay\n") {
		return errNoOverlay
	}
	return nil
}

// ready asks the authentication process, which is the last to start, and all listeners.
func (s *DovecotServer) ready(deadline time.Time) error {
	for _, addr := range []string{s.IMAP, s.POP3} {
		if err := firstLine("tcp", addr, deadline); err != nil {
			return err
		}
	}
	return firstLine("unix", s.Auth, deadline)
}

// firstLine waits for a line from a server that speaks first.
func firstLine(network, addr string, deadline time.Time) error {
	if addr == "" {
		return nil
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(deadline)
	_, err = bufio.NewReader(c).ReadString('\n')
	return err
}

// dovecotFiles writes configuration and users, and makes homes.
func dovecotFiles(s *DovecotServer, c *Config) error {
	uid, gid, err := homes(s.Server, c)
	if err != nil {
		return err
	}
	var users strings.Builder
	for _, user := range c.Users {
		fmt.Fprintf(&users, "%s:{PLAIN}%s:%d:%d::%s::\n", user, c.Password, uid, gid, filepath.Join(s.Maildirs, user))
	}
	file := filepath.Join(s.Dir, "users")
	if err := os.WriteFile(file, []byte(users.String()), 0o644); err != nil {
		return err
	}
	conf, err := dovecotConf(s, c, file)
	if err != nil {
		return err
	}
	return os.WriteFile(s.Conf, []byte(conf), 0o644)
}

// homes makes the homes of c's users, all of one owner, and says who that is. c gets its default password.
func homes(s *Server, c *Config) (uid, gid int, err error) {
	if c.Password == "" {
		c.Password = "secret"
	}
	owner := c.Owner
	if owner == "" {
		owner = mailboxOwner
	}
	if uid, gid, err = account(owner); err != nil {
		return 0, 0, err
	}
	if c.Maildirs != "" {
		s.Maildirs = c.Maildirs
	}
	err = mkdir(s.Maildirs, 0o755, uid, gid)
	for _, user := range c.Users {
		if err == nil {
			err = mkdir(filepath.Join(s.Maildirs, user), 0o700, uid, gid)
		}
	}
	return uid, gid, err
}

// dovecotConf composes dovecot.conf. What differs from a default installation, and why: failures are not delayed and addresses not
// penalised, so that tests of wrong passwords take no time; and the limits on processes and connections are raised for the sake of benchmarks.
func dovecotConf(s *DovecotServer, c *Config, users string) (string, error) {
	run := filepath.Join(s.Dir, "run")
	s.Auth, s.Login = run+"/auth-client", run+"/pa-login"
	s.Userdb, s.Master = run+"/pa-userdb", run+"/pa-master"
	lines := []string{
		"base_dir = " + run,
		"state_dir = " + s.Dir + "/state",
		"log_path = " + s.Log,
		"auth_verbose = yes",
		"default_internal_user = " + dovecotInternal,
		"default_internal_group = " + dovecotInternal,
		"default_login_user = " + dovecotLogin,
		fmt.Sprintf("default_process_limit = %d", c.Process),
		fmt.Sprintf("default_client_limit = %d", 20*c.Process),
		fmt.Sprintf("mail_max_userip_connections = %d", c.Process),
		"first_valid_uid = 1",
		"first_valid_gid = 1",
		"hostname = " + c.Hostname,
		"listen = 127.0.0.1",
		"protocols = " + strings.Join(c.Protocols, " "),
		"mail_location = maildir:~/Maildir",
		"disable_plaintext_auth = no",
		"auth_mechanisms = plain login apop cram-md5 scram-sha-1 scram-sha-256",
		"auth_failure_delay = 0",
		"service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}",
		"passdb {\n  driver = passwd-file\n  args = " + users + "\n}",
		"userdb {\n  driver = passwd-file\n  args = " + users + "\n}",
		// What follows the last hyphen of a name says which protocol the socket speaks.
		"service auth {\n" + socket(s.Auth, "0666") +
			socket(s.Login, "0666") + socket(s.Userdb, "0777") + socket(s.Master, "0600") + "}",
		// Owners of mailboxes are strangers to it, and its log would fill with their failures to report figures.
		"service stats {\n  unix_listener stats-writer {\n    mode = 0666\n  }\n}",
	}
	if c.TLS {
		cert, key, err := WriteCert(s.Dir, c.Hostname)
		if err != nil {
			return "", err
		}
		s.Cert = cert
		lines = append(lines, "ssl = yes", "ssl_cert = <"+cert, "ssl_key = <"+key)
	} else {
		lines = append(lines, "ssl = no")
	}
	for _, p := range []struct {
		name       string
		plain, tls *string
	}{{"imap", &s.IMAP, &s.IMAPS}, {"pop3", &s.POP3, &s.POP3S}} {
		if !slices.Contains(c.Protocols, p.name) {
			continue
		}
		plain, port, err := freePort()
		if err != nil {
			return "", err
		}
		*p.plain = plain
		tlsPort := "0"
		if c.TLS {
			if *p.tls, tlsPort, err = freePort(); err != nil {
				return "", err
			}
		}
		lines = append(lines, fmt.Sprintf("service %[1]s-login {\n  inet_listener %[1]s {\n    port = %[2]s\n  }\n  inet_listener %[1]ss {\n    port = %[3]s\n  }\n}", p.name, port, tlsPort))
	}
	if slices.Contains(c.Protocols, "lmtp") {
		_, port, err := net.SplitHostPort(s.Addr)
		if err != nil {
			return "", err
		}
		lines = append(lines, "service lmtp {\n  inet_listener lmtp {\n    port = "+port+"\n  }\n}")
	} else {
		s.Addr = ""
	}
	return strings.Join(append(lines, c.Extra...), "\n") + "\n", nil
}

func socket(path, mode string) string {
	return "  unix_listener " + filepath.Base(path) + " {\n    mode = " + mode + "\n  }\n"
}

// freePort is FreeAddr, and its port once more.
func freePort() (addr, port string, err error) {
	if addr, err = FreeAddr(); err != nil {
		return "", "", err
	}
	_, port, err = net.SplitHostPort(addr)
	return addr, port, err
}

// Doveadm runs Dovecot's own tool with the configuration of a Dovecot, and returns what it printed, on both outputs, and how it ended.
func (s *DovecotServer) Doveadm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	cmd := inOverlay(dir, append([]string{"/usr/bin/doveadm", "-c", s.Conf}, args...)...)
	cmd.Dir = s.Dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// inOverlay returns a command that sees the unpacked packages below /usr.
func inOverlay(dir string, args ...string) *exec.Cmd { return inMounts(dir, `exec "$@"`, args...) }

// inMounts runs a script, with arguments, that sees the unpacked packages below /usr and may mount more. Nobody else sees that.
func inMounts(dir, script string, args ...string) *exec.Cmd {
	lower := filepath.Join(dir, "usr") + ":/usr"
	cmd := exec.Command("/bin/sh", append([]string{"-c", `mount -t overlay -o lowerdir="$0" overlay /usr || exit; ` + script, lower}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return cmd
}
