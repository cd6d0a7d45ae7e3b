package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// names is what the machine says about itself; each may be "".
type names struct {
	host     string // as gethostname(2)
	hosts    string // the text of /etc/hosts
	mailname string // the text of /etc/mailname
}

func machineNames() names {
	host, _ := os.Hostname()
	return names{host: host, hosts: small("/etc/hosts"), mailname: small("/etc/mailname")}
}

// small is the text of a small system file, "" when there is none.
func small(path string) string {
	text, err := read(path)
	if err != nil {
		return ""
	}
	return text
}

// derive fills in what depends on other keys or on the machine.
func (c *Config) derive(m names) {
	if c.Hostname == "" {
		c.Hostname = m.fqdn()
	}
	if c.Origin == "" {
		// Debian policy 11.6: the name in /etc/mailname is used without asking.
		line, _, _ := strings.Cut(m.mailname, "\n")
		if d, err := domain(strings.TrimSpace(line)); err == nil {
			c.Origin = d
		} else {
			c.Origin = c.Hostname
		}
	}
	if len(c.LocalDomains.Names) == 0 && len(c.LocalDomains.Files) == 0 {
		// With origin: what cron sends to "root" is for root@origin, and stays here.
		c.LocalDomains.Names = append(c.LocalDomains.Names, c.Hostname)
		if c.Origin != c.Hostname && !c.VirtualDomains.names(c.Origin) && !c.RelayDomains.names(c.Origin) {
			c.LocalDomains.Names = append(c.LocalDomains.Names, c.Origin)
		}
		if c.Hostname != "localhost" && c.Origin != "localhost" {
			c.LocalDomains.Names = append(c.LocalDomains.Names, "localhost")
		}
	}
	// Who lowers the limit need not know of the start.
	c.DestinationConcurrencyStart = min(c.DestinationConcurrencyStart, c.DestinationConcurrency)
	for _, l := range [][]Listener{c.SmtpdListen, c.DeliverListen, c.Pop3dListen, c.ImapdListen, c.AuthListen} {
		for i := range l {
			if l[i].Network == "unix" {
				l[i].Address = below(c.RunDir, l[i].Address)
			}
		}
	}
	if c.ImapdMessageLimit == 0 {
		c.ImapdMessageLimit = c.MessageSizeLimit
	}
	if c.SRSDomain == "" {
		c.SRSDomain = c.Origin
	}
	if c.AuthServer != "" {
		c.AuthServer = below(c.RunDir, c.AuthServer)
	}
	if c.AuthUsers != "" {
		c.AuthUsers = below(c.RunDir, c.AuthUsers)
	}
	if c.LocalTransport.Network == "unix" {
		c.LocalTransport.Address = below(c.RunDir, c.LocalTransport.Address)
	}
}

// fqdn is the machine's full name: its host name, else the name with a dot that /etc/hosts gives it (as hostname -f
// does without asking DNS), else below localdomain, which no one can mistake for a name of his own.
func (m names) fqdn() string {
	host, err := domain(strings.TrimSuffix(m.host, "."))
	if err != nil {
		host = "localhost"
	}
	if strings.Contains(host, ".") {
		return host
	}
	for line := range strings.SplitSeq(m.hosts, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			if !strings.EqualFold(f[i], host) {
				continue
			}
			for _, name := range f[1:] {
				if d, err := domain(name); err == nil && strings.HasPrefix(d, host+".") {
					return d
				}
			}
		}
	}
	return host + ".localdomain"
}

func (d Domains) names(name string) bool {
	for _, n := range d.Names {
		if n == name {
			return true
		}
	}
	return false
}

type contradiction struct {
	key string
	err error
}

// contradictions lists keys that are right by themselves but not together.
func (c *Config) contradictions() []contradiction {
	var l []contradiction
	add := func(key string, err error) { l = append(l, contradiction{key, err}) }
	if len(c.TLSCert) != len(c.TLSKey) {
		add("tls_key", fmt.Errorf("%d files, but tls_cert has %d: each certificate needs its key", len(c.TLSKey), len(c.TLSCert)))
	}
	if c.Passwords != "" && c.Passwords == c.Users {
		add("passwords", errors.New("is the file that users is: leave it empty, and users may have hashes"))
	}
	// RFC 8446 section 4.2.3 and RFC 5246 section 7.4.1.4.1: older versions sign SHA-1, or MD5 with it.
	if c.TLSKeys == "keyd" && c.TLSMinVersion < 0x0303 {
		add("tls_min_version", errors.New("keyd signs for TLS 1.2 and later only: with tls_keys keyd, at least 1.2"))
	}
	if c.RetryMin > c.RetryMax {
		add("retry_min", errors.New("is more than retry_max"))
	}
	if c.ExpireAfter < c.RetryMin {
		add("expire_after", errors.New("is less than retry_min: no message would have a second attempt"))
	}
	if c.SmtpdStressPercent > 100 {
		add("smtpd_stress_percent", errors.New("is more than 100"))
	}
	for _, s := range c.SmtpdListen {
		if s.Kind == "submissions" && len(c.TLSCert) == 0 {
			add("smtpd_listen", fmt.Errorf("%s=submissions needs tls_cert and tls_key", s.Address))
		}
		if s.Kind == "local" && s.Network != "unix" {
			add("smtpd_listen", fmt.Errorf("%s=local: only a unix socket tells who is at the other end", s.Address))
		}
	}
	for _, s := range c.Pop3dListen {
		if s.Kind == "pop3s" && len(c.TLSCert) == 0 {
			add("pop3d_listen", fmt.Errorf("%s=pop3s needs tls_cert and tls_key", s.Address))
		}
	}
	for _, s := range c.ImapdListen {
		if s.Kind == "imaps" && len(c.TLSCert) == 0 {
			add("imapd_listen", fmt.Errorf("%s=imaps needs tls_cert and tls_key", s.Address))
		}
	}
	for _, m := range c.AuthMechanisms {
		if (m == "OAUTHBEARER" || m == "XOAUTH2") && c.OAuthIntrospection == "" && c.OAuthJWTKeys == "" {
			add("auth_mechanisms", fmt.Errorf("%s needs oauth_introspection or oauth_jwt_keys", m))
		}
	}
	if c.OAuthJWTKeys != "" && (c.OAuthIssuer == "" || c.OAuthAudience == "") {
		add("oauth_jwt_keys", errors.New("needs oauth_issuer and oauth_audience: the same keys sign tokens for other services"))
	}
	// A domain of two classes would be delivered by whichever is looked at first.
	for _, n := range c.VirtualDomains.Names {
		if c.LocalDomains.names(n) {
			add("virtual_domains", fmt.Errorf("%s is in local_domains too", n))
		}
	}
	for _, n := range c.RelayDomains.Names {
		if c.LocalDomains.names(n) || c.VirtualDomains.names(n) {
			add("relay_domains", fmt.Errorf("%s is in local_domains or virtual_domains too", n))
		}
	}
	// The kernel's limit on the path of a socket: 108 bytes with the final NUL on Linux, 104 on the BSDs.
	const sunPath = 103
	for _, p := range []struct{ key, path string }{
		{"run_dir", filepath.Join(c.RunDir, "queued")}, // the longest of our own; "keyd" is shorter
		{"smtpd_listen", longest(c.SmtpdListen)},
		{"deliver_listen", longest(c.DeliverListen)},
		{"local_transport", c.LocalTransport.Address},
	} {
		if len(p.path) > sunPath {
			add(p.key, fmt.Errorf("%s is too long for a socket (%d bytes; at most %d)", p.path, len(p.path), sunPath))
		}
	}
	return l
}

func longest(ls []Listener) string {
	s := ""
	for _, l := range ls {
		if l.Network == "unix" && len(l.Address) > len(s) {
			s = l.Address
		}
	}
	return s
}
