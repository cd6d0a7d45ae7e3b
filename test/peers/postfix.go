package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Accounts of Debian's base system, lent to Postfix: it wants one that owns the queue, a group that nobody else is in
// by default, and one without rights for deliveries. They need not be the usual names.
const (
	postfixOwner    = "mail"
	postfixDelivery = "nobody"
	postfixGroup    = "uucp"
)

// StartPostfix starts a Postfix in the foreground and returns when it greets. Its settings are Debian's defaults
// but for those that postfixMain names.
func StartPostfix(c Config) (*Server, error) {
	s, err := prepare(&c, "postfix")
	if err != nil {
		return nil, err
	}
	s.Conf = filepath.Join(s.Dir, "etc")
	s.Log = filepath.Join(s.Dir, "log", "maillog")
	master, err := Command("master", "-c", s.Conf, "-d")
	if err == nil {
		err = postfixFiles(s, &c)
	}
	if err != nil {
		s.clean()
		return nil, err
	}
	return s.start(master)
}

// Postqueue returns a command that acts on the queue of a Postfix, with arguments such as "-p" or "-f".
func (s *Server) Postqueue(args ...string) (*exec.Cmd, error) {
	return Command("postqueue", append([]string{"-c", s.Conf}, args...)...)
}

// postfixFiles lays out configuration and queue directory, as "postfix check" does for an installed one.
func postfixFiles(s *Server, c *Config) error {
	uid, gid, err := account(postfixOwner)
	if err != nil {
		return err
	}
	_, setgid, err := account(postfixGroup)
	if err != nil {
		return err
	}
	nobody, nogroup, err := account(postfixDelivery)
	if err != nil {
		return err
	}
	type entry struct {
		path     string
		mode     os.FileMode
		uid, gid int
	}
	queue := filepath.Join(s.Dir, "queue")
	dirs := []entry{
		{s.Conf, 0o755, 0, 0},
		{filepath.Join(s.Dir, "log"), 0o755, 0, 0},
		{filepath.Join(s.Dir, "data"), 0o700, uid, gid},
		{s.Maildirs, 0o755, nobody, nogroup},
		{queue, 0o755, 0, 0},
		{queue + "/pid", 0o755, 0, 0},
		{queue + "/maildrop", 0o730, uid, setgid},
		{queue + "/public", 0o710, uid, setgid},
	}
	for _, name := range strings.Fields("active bounce corrupt defer deferred flush hold incoming private saved trace") {
		dirs = append(dirs, entry{filepath.Join(queue, name), 0o700, uid, gid})
	}
	for _, d := range dirs {
		if err := mkdir(d.path, d.mode, d.uid, d.gid); err != nil {
			return err
		}
	}
	main, err := postfixMain(s, c, nobody, nogroup)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"main.cf":   main,
		"master.cf": postfixMaster(s, c),
		"mailboxes": postfixMailboxes(c),
		"transport": postfixTransport(c),
	} {
		if err := os.WriteFile(filepath.Join(s.Conf, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// postfixMain composes main.cf. What differs from a default installation, and why:
// the client limits are off and the process limit is raised so that a benchmark with 100 sessions measures work, not
// waiting; the log goes to a file, as it does on a host with syslog; DNS is off, unless asked for, because nothing outside may be asked.
func postfixMain(s *Server, c *Config, uid, gid int) (string, error) {
	dir, err := Dir()
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return "", err
	}
	lookups := "disabled"
	if c.MX {
		lookups = "enabled"
	}
	unpacked := filepath.Join(dir, "usr")
	lines := []string{
		"compatibility_level = 3.6",
		"queue_directory = " + filepath.Join(s.Dir, "queue"),
		"data_directory = " + filepath.Join(s.Dir, "data"),
		"daemon_directory = " + unpacked + "/lib/postfix/sbin",
		"command_directory = " + unpacked + "/sbin",
		"shlib_directory = " + unpacked + "/lib/postfix",
		"meta_directory = " + s.Conf,
		"import_environment = MAIL_CONFIG TZ LANG=C LD_LIBRARY_PATH=" + libraryPath(dir),
		"mail_owner = " + postfixOwner,
		"setgid_group = " + postfixGroup,
		"default_privs = " + postfixDelivery,
		"maillog_file = " + s.Log,
		"maillog_file_prefixes = " + s.Dir,

		"myhostname = " + c.Hostname,
		"mydestination =",
		"local_recipient_maps =",
		"alias_maps =",
		"inet_interfaces = " + host,
		"inet_protocols = ipv4",
		"mynetworks = 127.0.0.0/8 " + host,
		"smtp_dns_support_level = " + lookups,
		"biff = no",

		"virtual_mailbox_domains = " + strings.Join(c.Domains, " "),
		"virtual_mailbox_base = " + s.Maildirs,
		"virtual_mailbox_maps = texthash:" + s.Conf + "/mailboxes",
		"virtual_mailbox_limit = 0",
		fmt.Sprintf("virtual_uid_maps = static:%d", uid),
		fmt.Sprintf("virtual_gid_maps = static:%d", gid),
		"virtual_minimum_uid = 1",
		"recipient_delimiter = +",
		"transport_maps = texthash:" + s.Conf + "/transport",

		fmt.Sprintf("default_process_limit = %d", c.Process),
		"smtpd_client_connection_count_limit = 0",
		"smtpd_client_connection_rate_limit = 0",
		"in_flow_delay = 0",
		"message_size_limit = 52428800",
	}
	if c.RelayTo != "" {
		lines = append(lines, "relayhost = "+bracket(c.RelayTo))
	}
	if c.TLS {
		cert, key, err := WriteCert(s.Conf, c.Hostname)
		if err != nil {
			return "", err
		}
		s.Cert = cert
		lines = append(lines,
			"smtpd_tls_security_level = may",
			"smtpd_tls_cert_file = "+cert,
			"smtpd_tls_key_file = "+key,
			"smtp_tls_security_level = may",
			"smtp_tls_loglevel = 1",
			"smtpd_tls_loglevel = 1",
		)
	}
	lines = append(lines, c.Extra...)
	return strings.Join(lines, "\n") + "\n", nil
}

// postfixMaster composes master.cf: Debian's, without chroot.
func postfixMaster(s *Server, c *Config) string {
	services := s.Addr + ` inet n - n - - smtpd
pickup     unix n - n 60   1 pickup
cleanup    unix n - n -    0 cleanup
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n -    - trivial-rewrite
bounce     unix - - n -    0 bounce
defer      unix - - n -    0 bounce
trace      unix - - n -    0 bounce
verify     unix - - n -    1 verify
flush      unix n - n 1000? 0 flush
proxymap   unix - - n -    - proxymap
proxywrite unix - - n -    1 proxymap
smtp       unix - - n -    - smtp
relay      unix - - n -    - smtp
showq      unix n - n -    - showq
error      unix - - n -    - error
retry      unix - - n -    - error
discard    unix - - n -    - discard
local      unix - n n -    - local
virtual    unix - n n -    - virtual
lmtp       unix - - n -    - lmtp
anvil      unix - - n -    1 anvil
scache     unix - - n -    1 scache
postlog    unix-dgram n - n - 1 postlogd
`
	if !c.Accept {
		services += "qmgr unix n - n 300 1 qmgr\n"
	}
	return services
}

func postfixMailboxes(c *Config) string {
	var b strings.Builder
	for _, domain := range c.Domains {
		for _, user := range c.Users {
			fmt.Fprintf(&b, "%s@%s %s/Maildir/\n", user, domain, user)
		}
	}
	return b.String()
}

func postfixTransport(c *Config) string {
	var b strings.Builder
	for domain, to := range c.Routes {
		fmt.Fprintf(&b, "%s smtp:%s\n", domain, bracket(to))
	}
	return b.String()
}

// bracket writes host:port the way Postfix takes it without a look-up of MX records.
func bracket(hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return "[" + hostport + "]"
	}
	return "[" + host + "]:" + port
}
