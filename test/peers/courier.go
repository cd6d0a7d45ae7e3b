package peers

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A CourierServer is a running Courier, for mail that is in maildirs already: it speaks no SMTP. Stop and Maildir are those of every Server.
type CourierServer struct {
	*Server
	IMAP, POP3 string // host:port
}

// Courier starts a Courier and stops it when the test ends, on the same terms as Dovecot.
func Courier(t testing.TB, c Config) *CourierServer {
	t.Helper()
	s, err := StartCourier(c)
	if s == nil {
		started(t, nil, err)
		return nil
	}
	started(t, s.Server, err)
	return s
}

// StartCourier starts Courier's IMAP and POP3 servers: couriertcpd, which runs imaplogin or courierpop3login for a connection; these ask authdaemond,
// become the user, and run imapd or courierpop3d in USER/Maildir, which has to exist. The configuration is Debian's, but for ports, users and limits. Of
// Config it heeds Dir, Users, Password, Process, Maildirs and Owner.
//
// The names of its programs and of the directories for configuration and sockets are compiled in. So it runs in a mount namespace of its own, as
// Dovecot does, where the packages show below /usr and /etc, and /run is below Dir.
func StartCourier(c Config) (*CourierServer, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/sbin/couriertcpd")); err != nil {
		return nil, fmt.Errorf("peers: courier: %w", ErrMissing)
	}
	if err := overlays(); err != nil {
		return nil, err
	}
	server, err := prepare(&c, "courier")
	if err != nil {
		return nil, err
	}
	s := &CourierServer{Server: server}
	s.Addr = ""
	s.Log = filepath.Join(s.Dir, "log")
	imap, imapPort, err1 := freePort()
	pop3, pop3Port, err2 := freePort()
	s.IMAP, s.POP3 = imap, pop3
	if err := errors.Join(err1, err2, courierFiles(s, &c)); err != nil {
		s.clean()
		return nil, err
	}
	cmd := inMounts(dir, courierScript, filepath.Join(s.Dir, "etc")+":"+filepath.Join(dir, "etc")+":/etc", s.Dir, fmt.Sprint(c.Process), imapPort, pop3Port)
	// couriertcpd leaves our process group. With the first process of a namespace all others end.
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	if err := s.startUntil(cmd, s.ready); err != nil {
		return nil, err
	}
	return s, nil
}

// courierScript is what Debian's authdaemond, imapd and pop3d of /usr/sbin do, but for courierlogger, which would write to syslog. Its arguments are the
// layers of /etc, the server's directory, the limit of connections and the ports.
const courierScript = `
trap exit TERM
mount -t overlay -o lowerdir="$1" overlay /etc && mount --bind "$2/run" /run || exit
exec 2>>"$2/log"
# makeuserdb writes below the directory itself: what is above it is an overlay without a place to write.
makeuserdb -f "$2/etc/courier/userdb" || exit
umask 022
ulimit -n 1024 # as under init: couriertcpd closes one by one what a connection could have inherited
set -a
(. /etc/courier/authdaemonrc; exec /usr/lib/courier/courier-authlib/authdaemond) &
serve() {
	. /etc/courier/$1
	exec couriertcpd -address=127.0.0.1 -maxprocs=$max -maxperip=$max $TCPDOPTS $2 /usr/lib/courier/courier/$3 $4 Maildir
}
max=$3
(serve imapd "$4" imaplogin /usr/bin/imapd) &
(serve pop3d "$5" courierpop3login /usr/lib/courier/courier/courierpop3d) &
wait
`

// ready asks the listeners, and for authentication, which comes up by itself.
func (s *CourierServer) ready(deadline time.Time) error {
	if _, err := os.Stat(filepath.Join(s.Dir, "run/courier/authdaemon/socket")); err != nil {
		return err
	}
	return errors.Join(firstLine("tcp", s.IMAP, deadline), firstLine("tcp", s.POP3, deadline))
}

// courierFiles writes configuration and users, and makes homes.
func courierFiles(s *CourierServer, c *Config) error {
	uid, gid, err := homes(s.Server, c)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(c.Password))
	password := "{SHA256}" + base64.StdEncoding.EncodeToString(sum[:])
	var users strings.Builder
	for _, user := range c.Users {
		fmt.Fprintf(&users, "%s\tuid=%d|gid=%d|home=%s|systempw=%s\n", user, uid, gid, filepath.Join(s.Maildirs, user), password)
	}
	etc := filepath.Join(s.Dir, "etc/courier")
	return errors.Join(os.MkdirAll(etc, 0o755), os.MkdirAll(filepath.Join(s.Dir, "run/courier/authdaemon"), 0o755),
		os.WriteFile(filepath.Join(etc, "authdaemonrc"), []byte("authmodulelist=authuserdb\nauthmodulelistorig=authuserdb\ndaemons=2\nauthdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=\n"), 0o644),
		os.WriteFile(filepath.Join(etc, "userdb"), []byte(users.String()), 0o600))
}
