package imap

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// A stranger is somebody else's program that reads and keeps mail by IMAP.
type stranger struct {
	name  string
	empty bool // its mailbox is, at the beginning
	needs []string
	visit func(*visit)
}

var strangers = []stranger{
	{"mbsync", true, []string{"mbsync", "socat"}, mbsync},
	{"offlineimap", true, []string{"offlineimap", "openssl"}, offlineimap}, // in clear and not with STARTTLS: that waits for itself in one run of four: no octet comes after the handshake
	{"dsync", true, nil, dsync},
	{"mutt", false, []string{"mutt", "script"}, mutt("mutt")},
	{"neomutt", false, []string{"neomutt", "script"}, mutt("neomutt")},
	{"getmail", false, []string{"getmail"}, getmail},
	{"fetchmail", false, []string{"fetchmail"}, fetchmail},
	{"curl", false, []string{"curl"}, curl},
	{"imaplib", false, []string{"python3"}, imaplib},
	{"s-nail", false, []string{"s-nail"}, snail},
}

// Other people's programs do what they do; what they have afterwards, and what the mailbox holds, is what both should. With STARTTLS at programs that are
// split for users of their own, and with TLS from the first octet at those of one ordinary user.
func TestStrangers(t *testing.T) {
	for _, x := range strangers {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			for _, program := range x.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Skipf("%s is not installed", program)
				}
			}
			for _, way := range []string{"starttls", "tls"} {
				t.Run(way, func(t *testing.T) {
					secure := way == "tls"
					v := &visit{imapSite: newSite(t, secure || os.Geteuid() != 0).All(), t: t, secure: secure, dir: t.TempDir()}
					_, v.port, _ = net.SplitHostPort(map[bool]string{false: v.Addr, true: v.TLS}[secure])
					cert, err := os.ReadFile(v.Dir + "/etc/cert.pem")
					v.Must(err)
					v.file("cert.pem", string(cert))
					if !x.empty {
						v.Put(messages...)
					}
					x.visit(v)
				})
			}
		})
	}
}
