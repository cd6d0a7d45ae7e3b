package confine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"postamt/internal/config"
	"postamt/internal/keyd"
	"postamt/internal/privilege"
)

const (
	// descriptors are as many as the service units give.
	descriptors = 16384
	// room is for what is in a file of the queue besides the message: recipients, and a report's own text.
	room = 256 << 20
)

// system is where a program without cgo finds the names and addresses of hosts and users, and the time. What is secret in there is so
// by its mode: no rule can take out of a directory what another has granted.
var system = [...]string{"/etc/", "/usr/share/zoneinfo/"}

// Smtpd reads tables and certificates, makes files in the queue and counts; it speaks with authd, keyd and queued. It connects to nobody.
func Smtpd(c *config.Config) *Program {
	p := begin(c, "smtpd_user", c.SmtpdUser)
	p.limits.Files = max(descriptors, 4*uint64(c.SmtpdSessionLimit))
	p.tables()
	p.read(c.Senders, c.SRSKeys)
	p.read(c.TLSCert...)
	p.read(c.TLSClientCA...)
	active := filepath.Join(c.QueueDir, "active")
	p.uses = append(p.uses,
		privilege.Use{Path: c.QueueDir, Type: fs.ModeDir, Owners: owners(c.QueueUser), Mode: 0o755},
		privilege.Use{Path: active, Type: fs.ModeDir, Owners: owners(c.QueueUser), Mode: 0o775})
	p.member(active)
	p.sandbox.Write = []string{active}
	if c.LoginMessagesHour|c.LoginMessagesDay|c.LoginRecipientsHour|c.LoginRecipientsDay != 0 {
		p.remembers("usage")
	}
	p.asks(filepath.Join(c.RunDir, "queued"), c.QueueUser)
	if c.AuthServer != "" {
		owner := c.AuthUser
		if !slices.ContainsFunc(c.AuthListen, func(l config.Listener) bool { return l.Address == c.AuthServer }) {
			owner = "" // Dovecot's: anybody's
		}
		p.asks(c.AuthServer, owner)
	}
	if len(c.TLSCert) > 0 {
		p.asks(keyd.Socket(c), c.KeydUser)
	}
	return p
}

// Keys lets the program read the private keys itself, and nobody read them in its memory, if they are not with keyd: known only once it
// is its account.
func (p *Program) Keys() error {
	if len(p.conf.TLSKey) == 0 || keyd.Elsewhere(p.conf) {
		return nil
	}
	p.read(p.conf.TLSKey...)
	return privilege.Undumpable()
}

// Queued owns the queue, reads tables and speaks with other hosts and deliver.
func Queued(c *config.Config) *Program {
	p := begin(c, "queue_user", c.QueueUser)
	p.tables()
	p.read(c.SRSKeys)
	p.own = []place{{path: c.QueueDir, hint: 0o750}}
	p.uses = append(p.uses, privilege.Use{Path: c.QueueDir, Type: fs.ModeDir, Mode: 0o755})
	for _, d := range []string{"active", "hold", "corrupt", "log", "bounce", "pause"} {
		p.uses = append(p.uses, privilege.Use{Path: filepath.Join(c.QueueDir, d), Type: fs.ModeDir, Owners: owners(c.QueueUser), Mode: 0o775})
	}
	p.sandbox.Write, p.sandbox.Any = []string{c.QueueDir}, true // what is no message goes to corrupt, whatever it is
	p.connects()
	p.sandbox.Bind = len(c.SourceAddress) > 0 // to connect from an address is to bind to it
	p.sockets, p.clients = []string{filepath.Join(c.RunDir, "queued")}, c.QueueUser
	if c.LocalTransport.Network == "unix" {
		owner := c.QueueUser
		if !slices.ContainsFunc(c.DeliverListen, func(l config.Listener) bool { return l.Address == c.LocalTransport.Address }) {
			owner = "" // another program's
		}
		p.asks(c.LocalTransport.Address, owner)
	}
	return p
}

// Authd reads passwords. It connects to others only where a key of the configuration says so.
func Authd(c *config.Config) *Program {
	p := begin(c, "auth_user", c.AuthUser)
	p.secret = true
	p.limits.FileSize = 1 << 20
	for _, d := range []config.Domains{c.LocalDomains, c.VirtualDomains, c.RelayDomains} {
		p.read(d.Files...)
	}
	p.remembers("auth")
	if c.OAuthIntrospection != "" {
		p.connects()
	}
	p.read(c.OAuthCredentials, c.OAuthJWTKeys)
	for _, s := range c.AuthSources {
		switch kind, where, _ := strings.Cut(s, ":"); kind {
		case "users":
			for _, f := range []string{c.Users, c.Passwords} {
				p.read(f)
				if f != "" {
					p.uses = append(p.uses, privilege.Use{Path: f, Mode: 0o775})
				}
			}
		case "system":
			p.member("/etc/shadow")
		case "checkpassword":
			p.free = true
		case "server":
			p.sandbox.Sockets = append(p.sandbox.Sockets, strings.Split(where, ",")...)
		}
	}
	for _, l := range c.AuthListen {
		if l.Network == "unix" {
			p.sockets = append(p.sockets, l.Address)
		}
	}
	p.clients = c.SmtpdUser
	return p
}

// Front is the part of a server of mailboxes that strangers talk to before they log in. The monitor has executed it as its account, and
// connects for it to where logins are judged; it reads certificates, and has keyd sign. A session under TLS is two descriptors.
func Front(c *config.Config, sessions int) *Program {
	p := begin(c, "login_user", "")
	p.limits.Files = max(descriptors, 4*uint64(sessions))
	p.secret = true
	p.read(c.TLSCert...)
	p.read(c.TLSClientCA...)
	if len(c.TLSCert) > 0 {
		p.asks(keyd.Socket(c), c.KeydUser)
	}
	return p
}

// Keyd reads private keys and answers on a socket.
func Keyd(c *config.Config) *Program {
	p := begin(c, "keyd_user", c.KeydUser)
	p.secret = true
	p.limits.FileSize = 1 << 20
	p.read(c.TLSKey...)
	return p
}

func begin(c *config.Config, key, account string) *Program {
	p := &Program{conf: c, key: key, account: account, limits: privilege.Limits{Files: descriptors}}
	if c.MessageSizeLimit > 0 {
		p.limits.FileSize = uint64(c.MessageSizeLimit) + room
	}
	p.uses = Trusted(c)
	p.read(system[:]...)
	p.read(c.File)
	if c.Log != "stderr" {
		p.sandbox.Sockets = []string{"/dev/log", "/run/systemd/journal/dev-log"}
	}
	return p
}

// Trusted is what every program trusts before it becomes anybody.
func Trusted(c *config.Config) []privilege.Use {
	return []privilege.Use{
		{Path: c.File, Owners: []uint32{0}, Mode: 0o755},
		{Path: filepath.Dir(c.File), Type: fs.ModeDir, Owners: []uint32{0}, Mode: 0o775},
		{Path: c.RunDir, Type: fs.ModeDir, Owners: owners(c.QueueUser), Mode: 0o775},
	}
}

func (p *Program) read(files ...string) { p.sandbox.Read = append(p.sandbox.Read, files...) }

// connects lets the program connect to hosts and look up their names. What says how is below /etc, or a symbolic link out of it:
// systemd-resolved, NetworkManager and resolvconf have resolv.conf below /run.
func (p *Program) connects() {
	p.sandbox.Connect = true
	p.read("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
}

// tables are the files that decide where mail goes.
func (p *Program) tables() {
	c := p.conf
	files := slices.Concat(c.Aliases, c.VirtualAliases, []string{c.Users, c.Routes}, c.LocalDomains.Files, c.VirtualDomains.Files, c.RelayDomains.Files)
	p.read(files...)
	for _, f := range files {
		if f != "" {
			p.uses = append(p.uses, privilege.Use{Path: f, Mode: 0o775})
		}
	}
}

// remembers lets the program write in a directory of its own below state_dir.
func (p *Program) remembers(name string) {
	path := filepath.Join(p.conf.StateDir, name)
	p.uses = append(p.uses,
		privilege.Use{Path: p.conf.StateDir, Type: fs.ModeDir, Mode: 0o775},
		privilege.Use{Path: path, Type: fs.ModeDir, Mode: 0o755})
	p.own = append(p.own, place{path: path, mode: 0o700})
	p.sandbox.Write = append(p.sandbox.Write, path)
}

// asks lets the program connect to a socket that the account must have made, or root. It may be missing: who makes it may start later, and make it
// anew, so that the rule is for its directory.
func (p *Program) asks(socket, owner string) {
	p.uses = append(p.uses, privilege.Use{Path: socket, Type: fs.ModeSocket, Owners: owners(owner), Mode: 0o777})
	p.sandbox.Sockets = append(p.sandbox.Sockets, socket)
}

// Dials lets the program connect to sockets that a table names. Before Enter.
func (p *Program) Dials(sockets ...string) { p.sandbox.Sockets = append(p.sandbox.Sockets, sockets...) }

// owners is the uid of an account besides root and ourselves. Of a name that is not in /etc/passwd nothing is known: anybody's.
func owners(account string) []uint32 {
	if account == "" {
		return nil
	}
	a, err := privilege.Find(account)
	if err != nil {
		return nil
	}
	return []uint32{a.UID}
}

// member says when the account is not in the group for which a file or directory is open.
func (p *Program) member(path string) {
	a, err := p.find(p.key, p.account)
	st, serr := os.Stat(path)
	if err != nil || a == nil || serr != nil {
		return // is said elsewhere
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != a.UID && !slices.Contains(a.Groups, sys.Gid) {
		p.problems = append(p.problems, fmt.Errorf("%s: is for the group %d, of which %s is no member; usermod -aG %[2]d %[3]s mends it", path, sys.Gid, a.Name))
	}
}
