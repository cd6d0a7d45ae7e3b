package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// eximUser is compiled into Debian's Exim, which refuses to start when the account does not exist.
const eximUser = "Debian-exim"

// StartExim starts an Exim in the foreground and returns when it greets. It runs as Debian-exim from the start and
// never has root ("running Exim without privilege", chapter 56 of its specification), so that no question of
// trusted configuration files or set-id programs comes up; delivered mail belongs to that account.
func StartExim(c Config) (*Server, error) {
	s, err := prepare(&c, "exim")
	if err != nil {
		return nil, err
	}
	s.Conf = filepath.Join(s.Dir, "exim.conf")
	s.Log = filepath.Join(s.Dir, "log", "main")
	cmd, err := eximCommand(s, &c)
	if err != nil {
		s.clean()
		return nil, err
	}
	return s.start(cmd)
}

func eximCommand(s *Server, c *Config) (*exec.Cmd, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	if c.Heavy {
		dir = filepath.Join(dir, "heavy")
	}
	cmd, err := command(dir, "exim4", "-C", s.Conf, "-bdf", "-q5s")
	if err != nil {
		return nil, err
	}
	uid, gid, err := account(eximUser)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"log", "spool", "mail"} {
		if err := mkdir(filepath.Join(s.Dir, dir), 0o750, uid, gid); err != nil {
			return nil, err
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	tls := "tls_advertise_hosts ="
	if c.TLS {
		cert, key, err := WriteCert(s.Dir, c.Hostname)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(key, uid, gid); err != nil {
			return nil, err
		}
		if err := os.Chmod(cert, 0o644); err != nil {
			return nil, err
		}
		s.Cert = cert
		tls = "tls_advertise_hosts = *\ntls_certificate = " + cert + "\ntls_privatekey = " + key
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	main := []string{
		"primary_hostname = " + c.Hostname,
		"keep_environment = LD_LIBRARY_PATH",
		"exim_path = " + cmd.Path, // it runs itself again to write a report
		"spool_directory = " + s.Dir + "/spool",
		"log_file_path = " + s.Dir + "/log/%s",
		"pid_file_path = " + s.Dir + "/spool/exim.pid",
		"deliver_drop_privilege = true",
		"local_interfaces = " + host,
		"daemon_smtp_ports = " + port,
		"domainlist local_domains = " + strings.Join(c.Domains, " : "),
		"hostlist relay_from = 127.0.0.0/8 : " + host,
		"acl_smtp_rcpt = check_rcpt",
		"message_size_limit = 50M",
		"smtp_accept_queue_per_connection = 0",
		"smtp_accept_max_per_connection = 0",
		"recipients_max = 0",
		"never_users =",
		fmt.Sprintf("smtp_accept_max = %d", c.Process+10),
		fmt.Sprintf("smtp_connect_backlog = %d", c.Process+10),
		tls,
	}
	if c.Accept {
		main = append(main, "queue_only = true")
	}
	main = append(main, c.Extra...)

	text := strings.Join(main, "\n") + `
begin acl
check_rcpt:
  accept hosts = +relay_from
         verify = recipient
  require message = relay not permitted
          domains = +local_domains
          verify = recipient
  accept

begin routers
` + eximRouters(s, c) + `
begin transports
local:
  ` + strings.Join(eximLocal(s, c), "\n  ") + `
  user = ` + eximUser + `

begin retry
* * F,1h,2s
`
	// Each fixed host has a transport of its own, because the port belongs to the transport.
	var transports strings.Builder
	for _, r := range eximRoutes(c) {
		fmt.Fprintf(&transports, "%s:\n  driver = smtp\n  port = %s\n  hosts_try_dane =\n  allow_localhost\n", r.name, r.port)
		if !c.TLS {
			fmt.Fprintf(&transports, "  hosts_avoid_tls = *\n")
		}
	}
	if c.MX {
		transports.WriteString("mx:\n  driver = smtp\n  hosts_try_dane =\n")
		if !c.TLS {
			transports.WriteString("  hosts_avoid_tls = *\n")
		}
	}
	text = strings.Replace(text, "begin transports\n", "begin transports\n"+transports.String(), 1)
	for _, line := range c.Section {
		text += line + "\n"
	}
	return cmd, os.WriteFile(s.Conf, []byte(text), 0o644)
}

type eximRoute struct{ name, domains, host, port string }

// eximRoutes lists the fixed routes, the general one last.
func eximRoutes(c *Config) []eximRoute {
	var routes []eximRoute
	add := func(domains, to string) {
		host, port, err := net.SplitHostPort(to)
		if err != nil {
			host, port = to, "25"
		}
		routes = append(routes, eximRoute{fmt.Sprintf("route%d", len(routes)), domains, host, port})
	}
	for domain, to := range c.Routes {
		add(domain, to)
	}
	if c.RelayTo != "" {
		add("! +local_domains", c.RelayTo)
	}
	return routes
}

func eximLocal(s *Server, c *Config) []string {
	if c.Local != nil {
		return c.Local
	}
	return []string{"driver = appendfile", "maildir_format", "directory = " + s.Maildirs + "/$local_part_data/Maildir", "create_directory",
		"delivery_date_add", "envelope_to_add", "return_path_add"}
}

func eximRouters(s *Server, c *Config) string {
	var b strings.Builder
	for _, r := range eximRoutes(c) {
		fmt.Fprintf(&b, "%s:\n  driver = manualroute\n  domains = %s\n  transport = %s\n  route_data = %s\n  host_find_failed = defer\n  self = send\n  no_more\n\n",
			r.name, r.domains, r.name, r.host)
	}
	if c.MX {
		b.WriteString("mx:\n  driver = dnslookup\n  domains = ! +local_domains\n  transport = mx\n  no_more\n\n")
	}
	fmt.Fprintf(&b, "mailbox:\n  driver = accept\n  domains = +local_domains\n  local_parts = %s\n  local_part_suffix = +*\n  local_part_suffix_optional\n  transport = local\n",
		strings.Join(c.Users, " : "))
	return b.String()
}
